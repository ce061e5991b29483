//! A running edge: everything started in order, and ended in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderName;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::counters;
use super::error::ServeError;
use super::handover::Predecessor;
use super::operations::{self, OpenError};
use super::stack::Parts;
use super::{sink, store};
use crate::admin::keyring::KeyringUnavailable;
use crate::admin::{Health, HealthConfig, keyring, serve_health};
use crate::assertion::Signer;
use crate::clock::Clock;
use crate::config::{Config, Problems};
use crate::crypto::PostQuantumEncryption;
use crate::crypto::keyring::Passwords;
use crate::decision::{self, Listeners};
use crate::directory::{Directory, Loaded, SealedRecords};
use crate::id_token::IdTokens;
use crate::inherited::{self, Inherited};
use crate::key::token_keys;
use crate::limiter::Limiter;
use crate::middleware::{ApiKeyAuthLayer, auth};
use crate::proxy::{self, ClientAddressRule, Upstreams, Vouching};
use crate::repository::ApiKeyReader;
use crate::route::{RouteConfig, RouteTable};
use crate::server::tls::Tls;
use crate::server::{self, Connection, Running, Server, Stop};
use crate::telemetry::{Metrics, metric};
use crate::token::TokenKeys;
use crate::usage::journal::{DataDir, Journal};
use crate::usage::refusals::Refusals;
use crate::usage::shipper::Shipper;
use crate::usage::totals::UsageSync;

/// To read and open the keyring again; opening it takes a second of work.
const KEYRING_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two attempts to reach the key store at the start: short at first, for
/// one that is starting too.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An edge that serves. The thread whose runtime started it is the background
/// thread, and has to keep driving it.
pub(super) struct Edge {
    running: Running,
    stop: Stop,
    /// Threads that decide for other proxies, where any ask.
    decisions: Option<decision::Running>,
    health: Arc<Health>,
    routing: Routing,
    clock: Clock,
    tls: Option<Tls>,
    shipper: Ending<bool>,
    /// Until another process answers in our place.
    probes: Option<Ending<()>>,
    // Given back last: until then the directory is ours.
    _data: DataDir,
}

/// The ports, taken before anything that takes long: whoever wants them learns
/// at once that they are not to be had.
pub(super) struct Sockets {
    server: Server,
    probes: TcpListener,
    decisions: Listeners,
}

impl Sockets {
    /// On the sockets that another process gave, where it did.
    pub(super) fn of(config: &Config, mut inherited: Inherited) -> Result<Self, ServeError> {
        let mut sockets = Self::without_decisions(&config.server, &config.health, &mut inherited)?;
        let secret = config.decision_secret.as_ref();
        sockets.decisions = Listeners::bind(&config.decisions, secret, &mut inherited)?;
        // Clients would wait in them for ever.
        let names: Vec<_> = inherited.names().collect();
        if !names.is_empty() {
            return Err(ServeError::Unserved(names.join("`, `")));
        }
        Ok(sockets)
    }

    pub(super) fn bind(server: &server::Config, health: &HealthConfig) -> Result<Self, ServeError> {
        Self::without_decisions(server, health, &mut Inherited::default())
    }

    fn without_decisions(
        server: &server::Config,
        health: &HealthConfig,
        inherited: &mut Inherited,
    ) -> Result<Self, ServeError> {
        let address = health.listen;
        let probes = inherited
            .one_internet(inherited::HEALTH)
            .and_then(|given| given.map_or_else(|| std::net::TcpListener::bind(address), Ok))
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            })
            .map_err(|source| ServeError::Health { address, source })?;
        Ok(Self {
            server: Server::inherit(server, inherited)?,
            probes,
            decisions: Listeners::default(),
        })
    }

    /// Where the traffic comes in.
    pub(super) const fn traffic(&self) -> SocketAddr {
        self.server.address()
    }

    pub(super) fn health(&self) -> io::Result<SocketAddr> {
        self.probes.local_addr()
    }

    /// Copies of all of them, by what they are for.
    pub(super) fn copies(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let probes = self.probes.as_fd().try_clone_to_owned()?;
        let mut copies = self.server.copies()?;
        copies.push((inherited::HEALTH.to_owned(), probes));
        copies.extend(self.decisions.copies()?);
        Ok(copies)
    }
}

/// What a reload replaces.
struct Routing {
    routes: Arc<ArcSwap<RouteTable>>,
    decision_routes: Arc<ArcSwap<RouteTable>>,
    upstreams: Arc<ArcSwap<Upstreams>>,
    id_tokens: IdTokens,
    limiter: Arc<Limiter>,
}

/// A task that goes on until it is told to end.
struct Ending<T> {
    task: JoinHandle<T>,
    end: oneshot::Sender<()>,
}

impl<T: Send + 'static> Ending<T> {
    fn spawn<F>(make: impl FnOnce(oneshot::Receiver<()>) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (end, ended) = oneshot::channel();
        Self {
            task: tokio::spawn(make(ended)),
            end,
        }
    }

    async fn end(self) -> Option<T> {
        // A task that has ended by itself needs no telling.
        let _ = self.end.send(());
        self.task.await.ok()
    }
}

impl Edge {
    pub(super) async fn start(
        config: &Config,
        clock: Clock,
        metrics: Metrics,
        data: DataDir,
        sockets: Sockets,
        predecessor: Option<Predecessor>,
    ) -> Result<Self, ServeError> {
        let routes = RouteTable::from_config(&config.routes).map_err(Problems)?;
        let decision_routes = decision_routes(config)?;
        let upstreams = Upstreams::from_config(&config.upstreams).map_err(Problems)?;
        upstreams.look_after(&clock);
        let id_tokens = IdTokens::new(config.metadata_server.clone(), clock.clone());
        id_tokens.keep(upstreams.audiences());
        let routing = Routing {
            id_tokens: id_tokens.clone(),
            routes: Arc::new(ArcSwap::from_pointee(routes)),
            decision_routes: Arc::new(ArcSwap::from_pointee(decision_routes)),
            upstreams: Arc::new(ArcSwap::from_pointee(upstreams)),
            limiter: Arc::new(Limiter::new(config.limiter.clone())),
        };

        let Sockets {
            server,
            probes,
            decisions,
        } = sockets;

        // From here on it can be seen what is waited for.
        let health = Arc::new(Health::new());
        let (answer_probes, may_answer) = oneshot::channel();
        let told = Arc::clone(&health);
        let probes = Ending::spawn(|end| async move {
            ended(may_answer).await;
            serve_health(probes, told, metrics, ended(end)).await;
        });
        // Until we are ready, the process before us answers, where there is one.
        let answer_probes = predecessor.is_some().then_some(answer_probes);

        let keys = Keys::wait(config, &clock, &health).await?;
        health.publish_keys(keys.signer.clone());
        let directory = Directory::new(
            config.directory.clone(),
            clock.clone(),
            Arc::clone(&keys.repository),
            Arc::new(keys.opener(config, &clock)),
            tokio::runtime::Handle::current(),
        );
        let auth = ApiKeyAuthLayer::new(
            &config.auth,
            Arc::clone(&keys.tokens),
            directory.clone(),
            clock.clone(),
        )?;

        let workers = server.workers();
        let deciders = if decisions.is_empty() { 0 } else { workers };
        let (journal, writers) = Journal::open(
            &config.usage.journal,
            config.usage.client_ip,
            data.path(),
            &clock,
            workers + deciders,
        )?;
        tracing::info!(
            instance = %journal.instance(),
            durability = %journal.durability(),
            max_bytes = journal.max_bytes(),
            "the usage journal is open"
        );
        let ledger = sink::served(config, &clock).await?;
        if config.counters.write {
            // The one thing of an edge that can write to the key store.
            let sync = UsageSync {
                totals: ledger.totals,
                repository: store::opened(config, &clock)?,
                writes_per_second: config.counters.writes_per_second,
            };
            tokio::spawn(counters::keep_telling(sync, config.counters.interval));
        }
        let refusals = Refusals::new(workers + deciders);
        let shipper = Shipper::new(
            journal,
            refusals.clone(),
            ledger.sink,
            clock.clone(),
            &config.usage,
        );

        let (store, feed, sink_state) =
            (directory.clone(), directory.clone(), shipper.sink_state());
        health.add_part("key_store", move || !store.is_store_failing());
        health.add_part("key_store_feed", move || feed.is_connected());
        health.add_part("id_tokens", move || id_tokens.are_there());
        health.add_part("usage_sink", move || !sink_state.is_failing());
        let edge_clock = clock.clone();
        let parts = Parts {
            clock,
            routes: Arc::clone(&routing.routes),
            decision_routes: Arc::clone(&routing.decision_routes),
            upstreams: Arc::clone(&routing.upstreams),
            vouching: Vouching {
                signer: keys.signer.clone(),
                id_tokens: routing.id_tokens.clone(),
            },
            client_address: ClientAddressRule::new(
                config.server.trusted_proxies.clone(),
                config.server.trusted_hops,
            ),
            credentials: credentials(&config.auth),
            auth,
            limiter: Arc::clone(&routing.limiter),
            writers,
            refusals,
        };
        let parts = Arc::new(parts);
        let decisions = match deciders {
            0 => None,
            deciders => Some(decide(config, decisions, deciders, workers, &parts)?),
        };
        let (address, tls_address) = (server.address(), server.tls_address());
        let tls = server.tls().cloned();
        if let Some(tls) = tls.clone() {
            tokio::spawn(tls.follow(parts.clock.clone()));
        }
        let keys = directory.clone();
        tokio::spawn(async move { directory.follow().await });
        if predecessor.is_some() {
            // It knows its keys; clients are not to notice that we do not.
            keys.warmed_up().await;
        }
        let running = server.start(move |worker| {
            let stack = parts.stack(worker);
            move |connection: Connection| {
                let service = stack.for_peer(connection.peer.ip());
                match connection.tls {
                    None => service,
                    Some(secured) => service.over_tls(secured.client),
                }
            }
        })?;
        tracing::info!(
            %address,
            tls = tls_address.map(tracing::field::display),
            workers,
            health = %config.health.listen,
            routes = config.routes.len(),
            "serving"
        );
        let ready = Arc::clone(&health);
        tokio::spawn(async move {
            keys.warmed_up().await;
            ready.keyring_opened();
            drop(answer_probes);
            if let Some(predecessor) = predecessor {
                predecessor.release();
            }
        });
        Ok(Self {
            stop: running.stop(),
            running,
            decisions,
            shipper: Ending::spawn(|end| shipper.run(ended(end))),
            probes: Some(probes),
            health,
            routing,
            clock: edge_clock,
            tls,
            _data: data,
        })
    }

    /// Takes routes, upstreams, limits and certificates of another configuration
    /// into use, all of them or, when any is unsound, none.
    pub(super) fn reload(&self, config: &Config) -> Result<(), Problems> {
        let routes = RouteTable::from_config(&config.routes).map_err(Problems)?;
        let decision_routes = decision_routes(config)?;
        let known = self.routing.upstreams.load();
        let upstreams = known.followed_by(&config.upstreams).map_err(Problems)?;
        // The rest cannot fail after it.
        if let Some(tls) = &self.tls
            && config.server.tls.is_on()
        {
            tls.reload(&config.server.tls).map_err(Problems)?;
        }
        upstreams.look_after(&self.clock);
        self.routing.id_tokens.keep(upstreams.audiences());
        // Upstreams first: no route leads to one that is not there yet.
        self.routing.upstreams.store(Arc::new(upstreams));
        self.routing.routes.store(Arc::new(routes));
        let decision_routes = Arc::new(decision_routes);
        self.routing.decision_routes.store(decision_routes);
        self.routing.limiter.reconfigure(config.limiter.clone());
        Ok(())
    }

    /// Leaves to another process what only one can do.
    pub(super) async fn hand_over(&mut self) {
        if let Some(probes) = self.probes.take() {
            probes.end().await;
        }
        if let Some(decisions) = &mut self.decisions {
            decisions.leave_files();
        }
    }

    /// Begins the draining.
    pub(super) fn drain(&self) {
        self.health.draining();
        self.stop.stop();
        if let Some(decisions) = &self.decisions {
            decisions.stop();
        }
    }

    /// Waits for the end of the workers, then stores what they recorded.
    pub(super) async fn ended(self) -> Result<(), ServeError> {
        let drained = self.running.ended().await;
        let decided = match self.decisions {
            Some(decisions) => {
                // In case the workers ended by themselves.
                decisions.stop();
                decisions.ended().await
            }
            None => Ok(()),
        };
        self.shipper.end().await;
        if let Some(probes) = self.probes {
            probes.end().await;
        }
        decided?;
        let unfinished = drained?.unfinished;
        if unfinished > 0 {
            tracing::warn!(unfinished, "connections were cut at the end of the drain");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Starts the threads that decide: they are counted behind the workers.
fn decide(
    config: &Config,
    listeners: Listeners,
    threads: usize,
    workers: usize,
    parts: &Arc<Parts>,
) -> io::Result<decision::Running> {
    let limits = decision::Limits {
        idle_timeout: config.server.idle_timeout,
        drain_delay: config.server.drain_delay,
        drain_timeout: config.server.drain_timeout,
    };
    let told = [&proxy::SAID_BY_US[..], &parts.credentials].concat();
    let parts = Arc::clone(parts);
    listeners.start(threads, limits, &told, move |thread| {
        let stack = parts.verdicts(workers + thread);
        move |client| stack.for_peer(client)
    })
}

/// Who is asked cannot answer a page's preflight, nor take a token out of
/// another proxy's target: there is no `cors` and no `query_parameter`.
fn decision_routes(config: &Config) -> Result<RouteTable, Problems> {
    let routes: Vec<_> = config
        .routes
        .iter()
        .map(|route| RouteConfig {
            cors: None,
            query_parameter: None,
            ..route.clone()
        })
        .collect();
    RouteTable::from_config(&routes).map_err(Problems)
}

fn credentials(config: &auth::Config) -> Vec<HeaderName> {
    let mut names: Vec<_> = config
        .places
        .iter()
        .map(|place| place.header().clone())
        .collect();
    names.dedup();
    names
}

async fn ended(end: oneshot::Receiver<()>) {
    // A sender that is gone says the same.
    let _ = end.await;
}

/// The keys of a deployment: where records are, and what opens them.
struct Keys {
    repository: Arc<dyn ApiKeyReader>,
    encryption: PostQuantumEncryption,
    tokens: Arc<ArcSwap<TokenKeys>>,
    signer: Signer,
    passwords: Passwords,
    /// The stored keyring that was looked at last.
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Keys {
    /// Waits for a store that does not answer yet: what could be served without
    /// its keyring? Whatever else is wrong with it ends the waiting.
    async fn wait(config: &Config, clock: &Clock, health: &Health) -> Result<Self, ServeError> {
        let reached = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&reached);
        health.add_part("keyring", move || asked.load(Ordering::Relaxed));
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match Self::open(config, clock).await {
                Err(error) if store::is_outage(config, &error) => error,
                opened => {
                    reached.store(true, Ordering::Relaxed);
                    return Ok(opened?);
                }
            };
            tracing::warn!(%error, retry_in = ?pause, "waiting for the key store");
            reached.store(false, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn open(config: &Config, clock: &Clock) -> Result<Self, OpenError> {
        let passwords = operations::passwords(config)?;
        let repository = store::existing(config, clock).await?;
        let keyring = operations::open_keyring(config, &*repository).await?;
        let unlocked = operations::unlocked(config, &keyring)?;
        tell_version(&unlocked.encryption);
        Ok(Self {
            repository,
            signer: Signer::of(&unlocked.encryption)?,
            encryption: unlocked.encryption,
            tokens: Arc::new(ArcSwap::from_pointee(unlocked.tokens)),
            passwords,
            // There is one spelling of each.
            seen: Arc::new(Mutex::new(keyring.document())),
        })
    }

    fn opener(&self, config: &Config, clock: &Clock) -> SealedRecords {
        let collection = store::collection(config);
        let (encryption, tokens) = (self.encryption.clone(), Arc::clone(&self.tokens));
        let (repository, passwords) = (Arc::clone(&self.repository), self.passwords.clone());
        let (seen, signer) = (Arc::clone(&self.seen), self.signer.clone());
        let load = move || -> futures_util::future::BoxFuture<'static, Loaded> {
            let (encryption, tokens) = (encryption.clone(), Arc::clone(&tokens));
            let (repository, passwords) = (Arc::clone(&repository), passwords.clone());
            let (seen, signer) = (Arc::clone(&seen), signer.clone());
            let collection = collection.clone();
            Box::pin(async move {
                let load = keyring::load_changed(&*repository, &collection, passwords, &seen);
                match tokio::time::timeout(KEYRING_TIMEOUT, load).await {
                    Ok(Ok(Some(keyring))) => {
                        take(&encryption, &tokens, &signer, &keyring);
                        Loaded::Opened
                    }
                    Ok(Ok(None)) => Loaded::Unchanged,
                    Ok(Err(error)) => {
                        tracing::error!(%error, "going on with the keyring that is held");
                        match error {
                            KeyringUnavailable::Repository(_) => Loaded::Unread,
                            _ => Loaded::Opened,
                        }
                    }
                    Err(_) => {
                        tracing::error!(
                            "the keyring cannot be read in time: going on with the one that is held"
                        );
                        Loaded::Unread
                    }
                }
            })
        };
        SealedRecords::new(
            self.encryption.clone(),
            store::scope(config),
            clock.clone(),
            load,
        )
    }
}

fn take(
    encryption: &PostQuantumEncryption,
    tokens: &ArcSwap<TokenKeys>,
    signer: &Signer,
    keyring: &crate::crypto::Keyring,
) {
    if let Err(error) = encryption.replace(keyring) {
        tracing::error!(%error, "going on with the keyring that is held");
        return;
    }
    if let Some(keys) = token_keys(encryption) {
        tokens.store(Arc::new(keys));
    }
    if let Err(error) = signer.follow(encryption) {
        tracing::error!(%error, "going on with the key that signed assertions before");
    }
    tell_version(encryption);
    tracing::info!(version = encryption.version(), "the keyring was reloaded");
}

/// How operators know when every edge has a change.
fn tell_version(encryption: &PostQuantumEncryption) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "it counts changes made by people"
    )]
    metrics::gauge!(metric::KEYRING_VERSION).set(encryption.version() as f64);
}

//! A running edge: everything started in order, and ended in order.

mod decisions;
mod ending;
mod keys;
mod recording;
mod routing;
mod sockets;

pub(super) use sockets::Sockets;

use std::sync::Arc;

use http::HeaderName;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use self::ending::{Ending, ended};
use self::keys::Keys;
use self::recording::Recording;
use self::routing::Routing;
use super::error::ServeError;
use super::handover::Predecessor;
use super::stack::Parts;
use crate::admin::{Health, serve_health};
use crate::clock::Clock;
use crate::config::{Config, Problems};
use crate::decision;
use crate::directory::Directory;
use crate::middleware::{ApiKeyAuthLayer, auth};
use crate::proxy::{ClientAddressRule, Vouching};
use crate::server::{Connection, Running, Stop};
use crate::telemetry::Metrics;
use crate::tls::Tls;
use crate::usage::journal::DataDir;

/// An edge that serves. The thread whose runtime started it is the background
/// thread, and has to keep driving it.
pub(super) struct Edge {
    running: Running,
    stop: Stop,
    /// Threads that decide for other proxies, where any ask.
    decisions: Option<decision::Running>,
    health: Arc<Health>,
    routing: Routing,
    tls: Option<Tls>,
    shipper: Ending<bool>,
    /// Until another process answers in our place.
    probes: Option<Ending<()>>,
    // Given back last: until then the directory is ours.
    _data: DataDir,
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
        let routing = Routing::begin(config, &clock)?;
        let Sockets {
            server,
            probes,
            decisions,
        } = sockets;

        // From here on it can be seen what is waited for.
        let health = Arc::new(Health::new());
        let (probes, answer_probes) = answer_when_told(probes, Arc::clone(&health), metrics);
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
        let Recording {
            writers,
            refusals,
            shipper,
        } = Recording::open(config, &clock, &data, workers + deciders).await?;

        let (store, feed, sink_state) =
            (directory.clone(), directory.clone(), shipper.sink_state());
        health.add_part("key_store", move || !store.is_store_failing());
        health.add_part("key_store_feed", move || feed.is_connected());
        let id_tokens = routing.id_tokens.clone();
        health.add_part("id_tokens", move || id_tokens.are_there());
        health.add_part("usage_sink", move || !sink_state.is_failing());
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
        for tls in decisions.tls() {
            tokio::spawn(tls.clone().follow(parts.clock.clone()));
        }
        let decisions = match deciders {
            0 => None,
            deciders => Some(decisions::decide(
                config, decisions, deciders, workers, &parts,
            )?),
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
            tls,
            _data: data,
        })
    }

    /// Takes routes, upstreams, limits and certificates of another configuration
    /// into use, all of them or, when any is unsound, none.
    pub(super) fn reload(&self, config: &Config) -> Result<(), Problems> {
        let next = self.routing.next(config)?;
        // The rest cannot fail after it.
        if let Some(tls) = &self.tls
            && config.server.tls.is_on()
        {
            tls.reload(&config.server.tls).map_err(Problems)?;
        }
        self.routing.take(next);
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

fn credentials(config: &auth::Config) -> Vec<HeaderName> {
    let mut names: Vec<_> = config
        .places
        .iter()
        .map(|place| place.header().clone())
        .collect();
    names.dedup();
    names
}

/// Answers probes once what is returned beside is dropped.
fn answer_when_told(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Metrics,
) -> (Ending<()>, oneshot::Sender<()>) {
    let (tell, told) = oneshot::channel();
    let probes = Ending::spawn(|end| async move {
        ended(told).await;
        serve_health(listener, health, metrics, ended(end)).await;
    });
    (probes, tell)
}

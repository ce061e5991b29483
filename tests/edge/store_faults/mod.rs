//! The key store in trouble: what clients see of it, and for how long they
//! wait.

mod grpc;
mod relay;
mod table;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cypheron_edge::key::Scope;
use cypheron_edge::repository::FirestoreConfig;

use self::grpc::Status;
use self::relay::{Mode, Relay};
use self::table::Row;
use crate::client::Connection;
use crate::firestore_emulator::{self, open};
use crate::issue::{issue, name};
use crate::process::{Deployment, Edge, eventually};
use crate::upstream::Upstream;

/// How long a fault lasts.
const FAULT: Duration = Duration::from_millis(2500);

/// How long a client may wait for the store: `directory.lookup_timeout`, and
/// what a busy machine takes to notice.
const LONGEST: Duration = Duration::from_millis(500 + 400);

/// Whatever was read before a fault has to be read again while it lasts.
const AGEING: &str = "[directory]\nttl = \"500ms\"";

/// Keys that the edge has not served, to be had one after the other.
const UNKNOWN: usize = 60;

/// An edge that has served `known`, and has heard of the revocation of `revoked`.
struct Scene {
    relay: Relay,
    traffic: SocketAddr,
    known: String,
    revoked: String,
    unknown: Vec<String>,
    // In the order in which they end.
    _edge: Edge,
    deployment: Deployment,
    _upstream: Upstream,
}

impl Scene {
    /// `None` where the emulator is not installed.
    fn set(settings: &str) -> Option<Self> {
        let store = firestore_emulator::project()?;
        let relay = Relay::to(store.emulator.as_deref().unwrap());
        let upstream = Upstream::start();
        let environment = [
            ("CYPHERON_EDGE__KEYS__STORE", "firestore".to_owned()),
            ("GOOGLE_CLOUD_PROJECT_ID", store.project.clone()),
            ("FIRESTORE_EMULATOR_HOST", relay.address.to_string()),
            // The revoked key is asked for more often than a client would.
            ("CYPHERON_EDGE__AUTH__FAILURES_PER_MINUTE", "0".to_owned()),
        ];
        let deployment = Deployment::in_environment(upstream.address, settings, environment);
        let mut tokens = issued(&store, UNKNOWN + 2);
        let (known, revoked) = (tokens.pop().unwrap(), tokens.pop().unwrap());
        let scene = Self {
            _edge: deployment.serve(),
            relay,
            traffic: deployment.traffic,
            known,
            revoked,
            unknown: tokens,
            deployment,
            _upstream: upstream,
        };
        eventually("the keys are served", || {
            scene.ask(&scene.known) == 200 && scene.ask(&scene.revoked) == 200
        });
        scene.deployment.ok(&["keys", "revoke", &name(UNKNOWN)]);
        // With it the known key is read again, however long the command took.
        eventually("the revocation is heard of", || {
            scene.ask(&scene.known) == 200 && scene.ask(&scene.revoked) == 401
        });
        Some(scene)
    }

    fn ask(&self, token: &str) -> u16 {
        let response = Connection::open(self.traffic)
            .and_then(|mut connection| connection.get("/", &[("X-API-Key", token)]));
        response.unwrap().status
    }

    /// What clients see from when the fault begins until `fault` returns, which
    /// is told whether a key not served before has been admitted, and how soon
    /// it is over after it.
    #[expect(clippy::print_stdout, reason = "what was seen is to be seen")]
    fn during(self, name: &'static str, begins: Mode, fault: impl FnOnce(&Relay, &AtomicBool)) {
        self.relay.set(begins);
        let clients = [
            Client::start(self.traffic, vec![self.known.clone()]),
            Client::start(self.traffic, self.unknown.clone()),
            Client::start(self.traffic, vec![self.revoked.clone()]),
        ];
        fault(&self.relay, &clients[1].admitted);
        let [known, unknown, revoked] = clients.map(Client::end);
        self.relay.set(Mode::Pass);
        let ended = Instant::now();
        let fresh = self.unknown.last().unwrap();
        eventually("keys not served before are served again", || {
            self.ask(fresh) == 200
        });
        let row = Row {
            fault: name,
            longest: known.longest.max(unknown.longest).max(revoked.longest),
            known: known.outcome(),
            unknown: unknown.outcome(),
            revoked: revoked.outcome(),
            recovered: ended.elapsed(),
        };
        println!("{row:?}");
        let log = self.deployment.log_text();
        assert!(row.longest <= LONGEST, "{row:?}\n{log}");
        assert!(!row.revoked.contains("200"), "{row:?}\n{log}");
        eventually("the store is well", || {
            let health = Connection::open(self.deployment.health)
                .and_then(|mut health| health.get("/readyz", &[]));
            health.is_ok_and(|response| !response.text().contains(r#""key_store""#))
        });
        assert_eq!(self.ask(&self.revoked), 401, "it stays revoked");
        table::compare(&row);
    }
}

fn lasting(_: &Relay, admitted: &AtomicBool) {
    thread::sleep(FAULT);
    let admitted = admitted.load(Ordering::SeqCst);
    assert!(!admitted, "nobody vouched for a key that was admitted");
}

/// Asks as long as it is let, one request after the other, with one token after
/// the other: with the next one only when one was admitted.
struct Client {
    stop: Arc<AtomicBool>,
    admitted: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

struct Seen {
    outcomes: BTreeSet<String>,
    longest: Duration,
}

impl Client {
    fn start(traffic: SocketAddr, tokens: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let admitted = Arc::new(AtomicBool::new(false));
        let (stopped, admits) = (Arc::clone(&stop), Arc::clone(&admitted));
        let thread = thread::spawn(move || ask_on(traffic, &tokens, &stopped, &admits));
        Self {
            stop,
            admitted,
            thread,
        }
    }

    fn end(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

fn ask_on(
    traffic: SocketAddr,
    tokens: &[String],
    stop: &AtomicBool,
    admitted: &AtomicBool,
) -> Seen {
    let mut connection = Connection::open(traffic).unwrap();
    let mut seen = Seen {
        outcomes: BTreeSet::new(),
        longest: Duration::ZERO,
    };
    // The last one is for later.
    let mut left = &tokens[..tokens.len().max(2) - 1];
    while let Some(token) = left.first() {
        let began = Instant::now();
        let response = connection.get("/", &[("X-API-Key", token)]).unwrap();
        seen.longest = seen.longest.max(began.elapsed());
        let outcome = match (response.status, response.header("retry-after")) {
            (status, None) => status.to_string(),
            (status, Some(_)) => format!("{status} with `Retry-After`"),
        };
        seen.outcomes.insert(outcome);
        if response.status == 200 {
            admitted.store(true, Ordering::SeqCst);
            if left.len() > 1 {
                left = &left[1..];
            }
        }
        if stop.load(Ordering::SeqCst) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    seen
}

impl Seen {
    fn outcome(&self) -> String {
        self.outcomes
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// So many keys, issued beside the relay.
fn issued(store: &FirestoreConfig, keys: usize) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let scope = Scope {
            project: store.project.clone(),
            database: store.database.clone(),
            collection: store.collection.clone(),
        };
        let collection = format!("{}/{}/{}", store.project, store.database, store.collection);
        issue(Arc::new(open(store)), &collection, scope, keys).await
    })
}

#[test]
fn a_store_that_refuses_connections() {
    let Some(scene) = Scene::set(AGEING) else {
        return;
    };
    scene.during("refuses connections", Mode::Refuse, lasting);
}

#[test]
fn a_store_that_refuses_connections_for_longer_than_keys_may_go_on() {
    let settings = "[directory]\nttl = \"200ms\"\nmax_stale = \"1s\"";
    let Some(scene) = Scene::set(settings) else {
        return;
    };
    let fault = "refuses connections, for longer than `max_stale`";
    scene.during(fault, Mode::Refuse, lasting);
}

#[test]
fn a_store_that_accepts_and_never_answers() {
    let Some(scene) = Scene::set(AGEING) else {
        return;
    };
    scene.during("accepts, and never answers", Mode::Silent, lasting);
}

#[test]
fn a_store_that_is_unavailable() {
    let Some(scene) = Scene::set(AGEING) else {
        return;
    };
    let mode = Mode::Answer(Status::Unavailable);
    scene.during("answers UNAVAILABLE", mode, lasting);
}

#[test]
fn a_store_whose_quota_is_exhausted() {
    let Some(scene) = Scene::set(AGEING) else {
        return;
    };
    let mode = Mode::Answer(Status::ResourceExhausted);
    scene.during("answers RESOURCE_EXHAUSTED", mode, lasting);
}

#[test]
fn a_store_that_denies_permission() {
    let Some(scene) = Scene::set(AGEING) else {
        return;
    };
    let mode = Mode::Answer(Status::PermissionDenied);
    scene.during("answers PERMISSION_DENIED", mode, lasting);
}

#[test]
fn a_store_that_comes_and_goes() {
    let Some(scene) = Scene::set(AGEING) else {
        return;
    };
    scene.during(
        "comes and goes every 300 ms",
        Mode::Refuse,
        |relay, admitted| {
            // Until a probe happens to meet it while it is there.
            for (time, mode) in [Mode::Refuse, Mode::Pass].into_iter().cycle().enumerate() {
                relay.set(mode);
                thread::sleep(Duration::from_millis(300));
                if time >= 8 && admitted.load(Ordering::SeqCst) {
                    break;
                }
                assert!(time < 60, "nobody was admitted");
            }
        },
    );
}

//! The keyring and its password change while edges serve, and no client notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::client::Connection;
use crate::process::{Deployment, Edge, PASSWORD, Place, eventually};
use crate::upstream::Upstream;

const NEW: &str = "another password, and it is just as long";

const KEYS: usize = 8;

/// Records are read again all the time, and more keys are in use than cached.
const RESTLESS: &str = "[directory]\nmax_age = \"500ms\"\nmax_keys = 4\n";

/// Requests to one edge with every key in turn, until told to end.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    admitted: u64,
    others: Vec<String>,
}

impl Load {
    fn on(traffic: SocketAddr, tokens: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ended, tokens) = (Arc::clone(&stop), tokens.to_vec());
        let thread = thread::spawn(move || {
            let mut connection = Connection::open(traffic).unwrap();
            let mut answers = Answers::default();
            for token in tokens.iter().cycle() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let answer = connection.get("/", &[("X-API-Key", token)]).unwrap();
                if answer.status == 200 {
                    answers.admitted += 1;
                } else {
                    answers.others.push(answer.text());
                }
            }
            answers
        });
        Self { stop, thread }
    }

    fn end(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[expect(clippy::print_stdout, reason = "how many it were is worth knowing")]
fn ended(loads: Vec<Load>) {
    let all: Vec<_> = loads.into_iter().map(Load::end).collect();
    let wrong: Vec<_> = all.iter().flat_map(|answers| &answers.others).collect();
    let admitted: Vec<_> = all.iter().map(|answers| answers.admitted).collect();
    println!(
        "admitted by edge: {admitted:?}, wrong refusals: {}",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(
        admitted.iter().all(|admitted| *admitted > 0),
        "{admitted:?}"
    );
}

fn keys(deployment: &Deployment) -> Vec<String> {
    (0..KEYS)
        .map(|number| {
            let name = format!("key {number}");
            deployment.key(&name, &["--rate-limit", "1000000000"])
        })
        .collect()
}

fn with_password(deployment: &Deployment, password: &str, arguments: &[&str]) {
    let mut command = deployment.command(arguments);
    command.env("PQ_ENCRYPTION_PASSWORD", password);
    command.env("PQ_ENCRYPTION_NEW_PASSWORD", NEW);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

fn hold_version(places: &[Place], version: u64) {
    for place in places {
        eventually("the edge holds the keyring's version", || {
            place.count("cypheron_edge_keyring_version", "") == version
        });
    }
}

fn start(deployment: &Deployment, place: &Place, password: &str) -> Edge {
    deployment.serve_at(place, &[("PQ_ENCRYPTION_PASSWORD", password)])
}

#[test]
fn rotating_promoting_rewrapping_and_changing_the_password_refuses_nobody() {
    let upstream = Upstream::start();
    change_key_and_password(&upstream, &Deployment::new(upstream.address, RESTLESS));
}

#[test]
fn making_everything_new_refuses_nobody_whose_edge_has_both_passwords() {
    let upstream = Upstream::start();
    make_everything_new(&Deployment::new(upstream.address, RESTLESS));
}

/// The same in Firestore.
#[cfg(feature = "firestore")]
mod firestore {
    use super::*;
    use crate::firestore_emulator as emulator;

    fn deployment(upstream: &Upstream) -> Option<Deployment> {
        let emulator = emulator::shared()?;
        let variables = vec![
            ("GOOGLE_CLOUD_PROJECT_ID", emulator.project().project),
            ("FIRESTORE_EMULATOR_HOST", emulator.address().to_owned()),
        ];
        let settings = format!("[keys]\nstore = \"firestore\"\n{RESTLESS}");
        Some(Deployment::in_environment(
            upstream.address,
            &settings,
            variables,
        ))
    }

    #[test]
    fn rotating_promoting_rewrapping_and_changing_the_password_refuses_nobody() {
        let upstream = Upstream::start();
        if let Some(deployment) = deployment(&upstream) {
            change_key_and_password(&upstream, &deployment);
        }
    }

    #[test]
    fn making_everything_new_refuses_nobody_whose_edge_has_both_passwords() {
        let upstream = Upstream::start();
        if let Some(deployment) = deployment(&upstream) {
            make_everything_new(&deployment);
        }
    }
}

fn change_key_and_password(upstream: &Upstream, deployment: &Deployment) {
    let tokens = keys(deployment);
    let places = [Place::free(), Place::free(), Place::free()];
    let [first, second, third] = &places;
    let _edges = [first, second].map(|place| start(deployment, place, PASSWORD));
    let mut loads: Vec<_> = [first, second]
        .map(|place| Load::on(place.traffic, &tokens))
        .into();

    with_password(deployment, PASSWORD, &["keyring", "rotate"]);
    hold_version(&places[..2], 2);
    with_password(deployment, PASSWORD, &["keyring", "rotate", "--promote"]);
    with_password(deployment, PASSWORD, &["keyring", "rewrap"]);
    with_password(deployment, PASSWORD, &["keyring", "password"]);
    hold_version(&places[..2], 4);

    let _third = start(deployment, third, NEW);
    loads.push(Load::on(third.traffic, &tokens));
    with_password(deployment, NEW, &["keyring", "password", "--retire"]);
    // The first two cannot open it any more, and go on with what they hold.
    hold_version(&places[2..], 5);
    let name = ["keys", "update", "key 0", "--name", "renamed"];
    with_password(deployment, NEW, &name);
    let admitted = upstream.requests();
    eventually("every key was used again", || {
        upstream.requests() > admitted + 100 * KEYS as u64
    });
    ended(loads);
    hold_version(&places[..2], 4);
}

fn make_everything_new(deployment: &Deployment) {
    let tokens = keys(deployment);
    let places = [Place::free(), Place::free(), Place::free()];
    let [first, second, third] = &places;
    let both = [
        ("PQ_ENCRYPTION_PASSWORD", PASSWORD),
        ("PQ_ENCRYPTION_NEW_PASSWORD", NEW),
    ];
    let _edges = [first, second].map(|place| deployment.serve_at(place, &both));
    let mut loads: Vec<_> = [first, second]
        .map(|place| Load::on(place.traffic, &tokens))
        .into();

    with_password(deployment, PASSWORD, &["keyring", "rotate", "--all"]);
    hold_version(&places[..2], 2);
    // As each of them is to be started from here on.
    let _third = start(deployment, third, NEW);
    loads.push(Load::on(third.traffic, &tokens));
    with_password(deployment, NEW, &["keyring", "rewrap"]);
    let rotate = ["keys", "rotate", "key 0", "--overlap", "1h", "--token-to"];
    let file = deployment.data().join("successor");
    with_password(
        deployment,
        NEW,
        &[&rotate[..], &[file.to_str().unwrap()]].concat(),
    );
    let successor = std::fs::read_to_string(file).unwrap().trim().to_owned();
    assert!(successor.starts_with("cyk_live_1"), "{successor}");
    for place in &places {
        let mut connection = Connection::open(place.traffic).unwrap();
        let answer = connection.get("/", &[("X-API-Key", &successor)]).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    ended(loads);

    with_password(deployment, NEW, &["keyring", "drop", "--generation", "0"]);
    hold_version(&places, 3);
    for (token, status) in [(&tokens[1], 401), (&successor, 200)] {
        let mut connection = Connection::open(places[0].traffic).unwrap();
        let answer = connection.get("/", &[("X-API-Key", token)]).unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

//! Keys in Firestore: the binary over the real emulator.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;

use crate::client::{self, Connection, get};
use crate::firestore_emulator::{self as emulator, Emulator};
use crate::process::{Deployment, Edge, eventually, free_address};
use crate::upstream::Upstream;

/// What is cached is read again soon, should the feed be slow.
const SETTINGS: &str = "[keys]\nstore = \"firestore\"\n[directory]\nttl = \"1s\"";

/// Variables that choose a store of a test's own, asked at `address`.
fn variables(emulator: &Emulator, address: &str) -> Vec<(&'static str, String)> {
    vec![
        ("GOOGLE_CLOUD_PROJECT_ID", emulator.project().project),
        ("FIRESTORE_EMULATOR_HOST", address.to_owned()),
    ]
}

#[test]
fn a_key_in_firestore_is_admitted_until_another_process_revokes_it() {
    let Some(emulator) = emulator::shared() else {
        return;
    };
    let upstream = Upstream::start();
    let variables = variables(emulator, emulator.address());
    let edge = Deployment::in_environment(upstream.address, SETTINGS, variables);
    let token = edge.key("doomed", &["--rate-limit", "1000000"]);
    assert!(edge.ok(&["keys", "list"]).contains("doomed"));
    let _running = edge.serve();
    let mut connection = Connection::open(edge.traffic).unwrap();
    let headers = [("X-API-Key", token.as_str())];
    assert_eq!(connection.get("/", &headers).unwrap().status, 200);

    edge.ok(&["keys", "revoke", "doomed"]);
    eventually("the revoked key is refused", || {
        connection.get("/", &headers).unwrap().status == 401
    });

    let late = edge.key("late", &[]);
    assert_eq!(get(edge.traffic, "/", &[("X-API-Key", &late)]).status, 200);
}

#[test]
fn without_a_keyring_nothing_is_served() {
    let Some(emulator) = emulator::shared() else {
        return;
    };
    let upstream = Upstream::start();
    let variables = variables(emulator, emulator.address());
    let edge = Deployment::without_keyring(upstream.address, SETTINGS, variables);
    let output = edge.run(&["serve"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("Firestore: the key store holds no keyring"),
        "{text}"
    );
    assert!(text.contains("keyring init"), "{text}");

    edge.ok(&["keyring", "init"]);
    let output = edge.run(&["keyring", "init"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("never replaced"), "{text}");
}

#[test]
fn an_edge_waits_for_a_store_that_is_not_there_yet() {
    let Some(emulator) = emulator::shared() else {
        return;
    };
    let upstream = Upstream::start();
    let relay = free_address();
    let mut variables = variables(emulator, emulator.address());
    let edge = Deployment::in_environment(upstream.address, SETTINGS, variables.clone());
    let token = edge.key("early", &[]);

    variables[1].1 = relay.to_string();
    let mut starting = edge.command(&["serve"]);
    let starting = starting
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let _running = Edge::of(starting.stderr(edge.log_file()).spawn().unwrap());
    eventually("it says that it waits", || {
        readiness(&edge).1.contains("keyring")
    });
    assert_eq!(readiness(&edge).0, 503);
    let error = TcpStream::connect(edge.traffic).unwrap_err();
    assert_eq!(
        error.kind(),
        io::ErrorKind::ConnectionRefused,
        "nobody hangs"
    );
    eventually("it says why", || {
        let log = edge.log_text();
        log.contains("waiting for the key store") && log.contains(&relay.to_string())
    });

    forward(relay, emulator.address().parse().unwrap()).unwrap();
    eventually("it is ready", || readiness(&edge).0 == 200);
    assert_eq!(get(edge.traffic, "/", &[("X-API-Key", &token)]).status, 200);
}

#[test]
fn an_edge_that_waits_for_its_store_ends_when_it_is_told_to() {
    let upstream = Upstream::start();
    let nobody = free_address();
    let variables = vec![
        ("GOOGLE_CLOUD_PROJECT_ID", "nobody".to_owned()),
        ("FIRESTORE_EMULATOR_HOST", nobody.to_string()),
    ];
    let edge = Deployment::without_keyring(upstream.address, SETTINGS, variables);
    let mut starting = edge.command(&["serve"]);
    let starting = starting.stdin(Stdio::null()).stdout(Stdio::null());
    let running = Edge::of(starting.stderr(edge.log_file()).spawn().unwrap());
    eventually("it waits", || readiness(&edge).0 == 503);
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());

    // A command does not wait.
    let output = edge.run(&["keys", "list"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let said = format!("no connection to the Firestore emulator at {nobody}");
    assert!(text.contains(&said) && text.contains("refused"), "{text}");
}

#[test]
fn credentials_that_cannot_be_used_are_a_wrong_configuration() {
    let upstream = Upstream::start();
    let variables = vec![
        ("GOOGLE_CLOUD_PROJECT_ID", "nobody".to_owned()),
        (
            "GOOGLE_APPLICATION_CREDENTIALS",
            "/nowhere/key.json".to_owned(),
        ),
    ];
    let edge = Deployment::without_keyring(upstream.address, SETTINGS, variables);
    for command in [&["serve"][..], &["check"], &["keys", "list"]] {
        let output = edge.run(command);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("/nowhere/key.json: No such file"), "{text}");
    }
}

fn readiness(edge: &Deployment) -> (u16, String) {
    let answer = Connection::open(edge.health)
        .and_then(|mut health: client::Connection| health.get("/readyz", &[]));
    answer.map_or((0, String::new()), |answer| (answer.status, answer.text()))
}

/// Forwards connections from now on, for as long as the process lives.
fn forward(from: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(from)?;
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(to).unwrap());
            for (mut read, mut write) in [
                (near.try_clone().unwrap(), far.try_clone().unwrap()),
                (far, near),
            ] {
                std::thread::spawn(move || io::copy(&mut read, &mut write));
            }
        }
    });
    Ok(())
}

//! What an upstream can verify of a request, by a library of its own.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::client::get;
use crate::process::{Deployment, Place, eventually};
use crate::upstream::Upstream;

const PUBLIC: &str =
    "[[routes]]\nname = \"open\"\npath = \"/open\"\nupstream = \"app\"\npublic = true\n";

fn asserting(upstream: &Upstream) -> Deployment {
    let audience = (
        "CYPHERON_EDGE__UPSTREAMS__APP__ASSERTION",
        "orders".to_owned(),
    );
    Deployment::in_environment(upstream.address, PUBLIC, [audience])
}

/// The assertions in what the upstream saw.
fn assertions(traffic: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Vec<String> {
    let answer = get(traffic, path, headers);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = answer.text();
    let fields = seen.lines().filter_map(|line| line.split_once(": "));
    fields
        .filter(|(name, _)| name.to_lowercase().replace('_', "-") == "x-edge-assertion")
        .map(|(_, value)| value.to_owned())
        .collect()
}

fn published(health: SocketAddr) -> String {
    let answer = get(health, "/.well-known/jwks.json", &[]);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/jwk-set+json")
    );
    answer.text()
}

/// The `kid`s of a set.
fn names(published: &str) -> Vec<String> {
    let set: Value = serde_json::from_str(published).unwrap();
    let keys = set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

/// Says what an upstream learns of each assertion.
struct Verifier(String);

impl Verifier {
    fn read(&self, published: &str, audience: &str, assertions: &[String]) -> Vec<Value> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/assertion.py");
        let mut python = Command::new(&self.0)
            .args([script, published, audience, "cypheron-edge"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = python.stdin.take().unwrap();
        input.write_all(assertions.join("\n").as_bytes()).unwrap();
        drop(input);
        let output = python.wait_with_output().unwrap();
        assert!(output.status.success());
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[test]
fn an_upstream_can_verify_whom_a_request_is_by() {
    let Some(verifier) = verifier() else { return };
    let upstream = Upstream::start();
    let edge = asserting(&upstream);
    let token = edge.key(
        "reader",
        &["--permission", "orders:read", "--permission", "a:*"],
    );
    let _running = edge.serve();
    let id = r#"r-"1"\"#;
    let mut said = assertions(
        edge.traffic,
        "/orders",
        &[("X-API-Key", &token), ("X-Request-Id", id)],
    );
    said.extend(assertions(edge.traffic, "/open", &[]));
    let [by_key, by_nobody] = &said[..] else {
        panic!("one for each request: {said:?}")
    };
    let set = published(edge.health);
    let read = verifier.read(&set, "orders", &said);
    assert_eq!(
        read[0]["permissions"],
        serde_json::json!(["orders:read", "a:*"])
    );
    assert_eq!(
        (&read[0]["route"], &read[0]["jti"]),
        (&"all".into(), &id.into())
    );
    let key: uuid::Uuid = read[0]["sub"].as_str().unwrap().parse().unwrap();
    assert_eq!(key.get_version_num(), 7);
    let lasts = read[0]["exp"].as_i64().unwrap() - read[0]["iat"].as_i64().unwrap();
    assert_eq!(lasts, 60);
    assert_eq!(read[1]["route"], "open");
    assert!(read[1].get("sub").is_none());

    let refused = verifier.read(&set, "invoices", &said);
    assert_eq!(refused[0]["refused"], "InvalidAudienceError");
    // The head and claims of one under the signature of the other.
    let (_, signature) = by_nobody.rsplit_once('.').unwrap();
    let (claims, _) = by_key.rsplit_once('.').unwrap();
    let forged = [format!("{claims}.{signature}")];
    let refused = verifier.read(&set, "orders", &forged);
    assert_eq!(refused[0]["refused"], "InvalidSignatureError");
}

#[test]
fn a_client_cannot_vouch_for_itself() {
    let forged = [
        ("X-Edge-Assertion", "e30.e30.AA"),
        ("X_Edge_Assertion", "e30.e30.AA"),
        ("x-edge_assertion", "e30.e30.AA"),
    ];
    let upstream = Upstream::start();
    let edge = asserting(&upstream);
    let running = edge.serve();
    let said = assertions(edge.traffic, "/open", &forged);
    assert_eq!(said.len(), 1);
    assert!(!said[0].contains("e30.e30"), "{said:?}");
    drop(running);
    let silent = Deployment::new(upstream.address, PUBLIC);
    let _running = silent.serve();
    assert_eq!(assertions(silent.traffic, "/open", &forged), [""; 0]);
}

#[test]
fn all_edges_publish_the_same_keys_and_a_rotation_leaves_none_behind() {
    let upstream = Upstream::start();
    let edge = asserting(&upstream);
    let place = Place::free();
    let _running = edge.serve();
    let _other = edge.serve_at(&place, &[]);
    let signer = |traffic| {
        let said = assertions(traffic, "/open", &[]).remove(0);
        // Of the header, which begins each of them.
        said.split('.').next().unwrap().to_owned()
    };
    let before = (published(edge.health), signer(edge.traffic));
    assert_eq!(names(&before.0).len(), 1);
    assert_eq!((published(place.health), signer(place.traffic)), before);

    edge.ok(&["keyring", "rotate"]);
    eventually("both publish the new key", || {
        let (one, other) = (published(edge.health), published(place.health));
        one == other && names(&one).len() == 2
    });
    assert_eq!(signer(edge.traffic), before.1, "it does not sign yet");
    let both = published(edge.health);
    edge.ok(&["keyring", "rotate", "--promote"]);
    eventually("both sign with it", || {
        let (one, other) = (signer(edge.traffic), signer(place.traffic));
        one == other && one != before.1
    });
    assert_eq!(
        published(edge.health),
        both,
        "both verify until one is dropped"
    );
    let old = &names(&before.0)[0];
    edge.ok(&["keyring", "rewrap"]);
    edge.ok(&["keyring", "drop", "--key", old]);
    eventually("the old one is gone", || {
        let left = names(&published(place.health));
        left.len() == 1 && left[0] != *old
    });
}

/// `None`, having said so, where the test may be skipped.
fn verifier() -> Option<Verifier> {
    let of_target = concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv");
    let venv = std::env::var("CYPHERON_TEST_VENV").unwrap_or(of_target.to_owned());
    let python = format!("{venv}/bin/python");
    let import = Command::new(&python).args(["-c", "import jwt"]).output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(Verifier(python));
    }
    let line = format!(
        "python3 -m venv {venv} && {python} -m pip install -r tests/python/requirements.txt"
    );
    let all = std::env::var("CYPHERON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!all, "no Python package pyjwt in {venv}: {line}");
    // Past what the test harness keeps to itself.
    let skipped = format!("SKIPPED: no Python package pyjwt in {venv}; {line}\n");
    std::io::stdout().write_all(skipped.as_bytes()).unwrap();
    None
}

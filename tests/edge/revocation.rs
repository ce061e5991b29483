//! A revocation in one process reaches a running edge in another.

use std::time::{Duration, Instant};

use crate::client::{Connection, get};
use crate::process::{Deployment, eventually};
use crate::upstream::Upstream;

#[test]
fn a_key_revoked_by_another_process_is_refused_within_100_ms() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let tokens: Vec<_> = (0..5)
        .map(|number| edge.key(&format!("doomed {number}"), &["--rate-limit", "1000000"]))
        .collect();
    let _running = edge.serve();
    let mut refused_after: Vec<_> = tokens
        .iter()
        .enumerate()
        .map(|(number, token)| {
            let mut connection = Connection::open(edge.traffic).unwrap();
            let headers = [("X-API-Key", token.as_str())];
            assert_eq!(connection.get("/", &headers).unwrap().status, 200);
            edge.ok(&["keys", "revoke", &format!("doomed {number}")]);
            let revoked = Instant::now();
            eventually("the revoked key is refused", || {
                if let Ok(response) = connection.get("/", &headers) {
                    return response.status == 401;
                }
                // An answer that was half way for too long was broken off.
                connection = Connection::open(edge.traffic).unwrap();
                false
            });
            revoked.elapsed()
        })
        .collect();
    refused_after.sort_unstable();
    // The median: one slow moment of a busy machine is not the edge's.
    assert!(
        refused_after[2] < Duration::from_millis(100),
        "{refused_after:?}"
    );
}

#[test]
fn a_key_made_while_the_edge_runs_is_admitted_at_once() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let _running = edge.serve();
    let token = edge.key("late", &[]);
    assert_eq!(get(edge.traffic, "/", &[("X-API-Key", &token)]).status, 200);
}

#[test]
fn revoked_and_deleted_and_unknown_keys_get_one_identical_answer() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let revoked = edge.key("revoked", &[]);
    let deleted = edge.key("deleted", &[]);
    edge.ok(&["keys", "revoke", "revoked"]);
    edge.ok(&["keys", "delete", "deleted"]);
    let forged = {
        let mut forged = revoked.clone().into_bytes();
        let at = forged.len() - 20;
        forged[at] = if forged[at] == b'a' { b'b' } else { b'a' };
        let body = forged.len() - 6;
        let crc = crc32fast::hash(&forged[..body]);
        let mut digits = Vec::new();
        let mut rest = crc;
        for _ in 0..6 {
            let digits62 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
            digits.insert(0, digits62[(rest % 62) as usize]);
            rest /= 62;
        }
        forged.truncate(body);
        forged.extend(digits);
        String::from_utf8(forged).unwrap()
    };
    let _running = edge.serve();
    let answers: Vec<_> = [&revoked, &deleted, &forged]
        .into_iter()
        .map(|token| {
            let answer = get(
                edge.traffic,
                "/",
                &[("X-API-Key", token), ("X-Request-Id", "same")],
            );
            let headers: Vec<_> = answer
                .headers
                .iter()
                .filter(|(name, _)| !name.eq_ignore_ascii_case("date"))
                .cloned()
                .collect();
            (answer.status, headers, answer.body)
        })
        .collect();
    assert_eq!(answers[0].0, 401);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

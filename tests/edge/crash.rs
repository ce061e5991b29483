//! SIGKILL under load: what a client saw complete has one row, and only one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::client::Connection;
use crate::process::{Deployment, eventually};
use crate::serving::rows;
use crate::upstream::Upstream;

const CLIENTS: usize = 4;
const KILLS: usize = 3;

#[test]
fn after_sigkill_every_response_seen_complete_has_one_row_and_none_has_two() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let tokens: Vec<_> = (0..CLIENTS)
        .map(|client| edge.key(&format!("client-{client}"), &["--rate-limit", "100000000"]))
        .collect();
    let seen: Vec<_> = tokens.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
    for kill in 0..KILLS {
        let mut running = edge.serve();
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = tokens
            .iter()
            .zip(&seen)
            .map(|(token, seen)| {
                let (token, seen, stop) = (token.clone(), Arc::clone(seen), Arc::clone(&stop));
                let address = edge.traffic;
                thread::spawn(move || {
                    let mut connection = Connection::open(address).unwrap();
                    while !stop.load(Ordering::SeqCst) {
                        match connection.get("/", &[("X-API-Key", &token)]) {
                            Ok(response) => {
                                assert_eq!(response.status, 200);
                                seen.fetch_add(1, Ordering::SeqCst);
                            }
                            // The edge was killed: what was in flight is nobody's.
                            Err(_) => return,
                        }
                    }
                })
            })
            .collect();
        let before: u64 = seen.iter().map(|seen| seen.load(Ordering::SeqCst)).sum();
        eventually("there is load", || {
            let now: u64 = seen.iter().map(|seen| seen.load(Ordering::SeqCst)).sum();
            now > before + 2000 + 500 * kill as u64
        });
        running.signal(Signal::KILL);
        running.wait();
        stop.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().unwrap();
        }
    }

    // A last start recovers what the killed ones left, and ships it.
    let running = edge.serve();
    let seen_by_client: Vec<_> = seen
        .iter()
        .map(|seen| seen.load(Ordering::SeqCst))
        .collect();
    let total: u64 = seen_by_client.iter().sum();
    eventually("everything is stored", || {
        rows(&edge) >= i64::try_from(total).unwrap()
    });
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
    let verified = edge.run(&["usage", "verify"]);
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );

    let stored = complete_rows_by_key_name(&edge);
    for (client, seen) in seen_by_client.iter().enumerate() {
        let stored = stored[&format!("client-{client}")];
        // At most one response a kill can have been recorded but not read.
        assert!(
            (*seen..=seen + KILLS as u64).contains(&stored),
            "client-{client} saw {seen}, {stored} are stored"
        );
    }
    println!("responses seen complete: {seen_by_client:?}; rows: {stored:?}");
}

pub fn complete_rows_by_key_name(edge: &Deployment) -> HashMap<String, u64> {
    let keys: serde_json::Value =
        serde_json::from_str(&edge.ok(&["keys", "list", "--json"])).unwrap();
    let usage = rusqlite::Connection::open(edge.data().join("usage.db")).unwrap();
    keys.as_array()
        .unwrap()
        .iter()
        .map(|key| {
            let id: uuid::Uuid = key["id"].as_str().unwrap().parse().unwrap();
            let count: i64 = usage
                .query_row(
                    "SELECT count(*) FROM usage_events WHERE ended = 'complete' \
                     AND (key_id = ?1 OR key_id = ?2)",
                    rusqlite::params![id.to_string(), id.as_bytes()],
                    |row| row.get(0),
                )
                .unwrap();
            (
                key["name"].as_str().unwrap().to_owned(),
                count.try_into().unwrap(),
            )
        })
        .collect()
}

//! Forged tokens cost the store and the journal nothing.

use std::time::Duration;

use crate::client::Connection;
use crate::process::{Deployment, eventually};
use crate::serving::rows;
use crate::upstream::Upstream;

const FORGED: usize = 5000;

/// All of them get the whole answer.
const BARELY_BRAKED: &str = "[auth]\nfailures_per_minute = 1000000";

#[test]
fn a_flood_of_forged_tokens_reads_nothing_and_records_nothing() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, BARELY_BRAKED);
    let stranger = Deployment::new(upstream.address, "");
    let forged = stranger.key("forged", &[]);
    let genuine = edge.key("genuine", &[]);
    let running = edge.serve();
    // Segments are prepared ahead, off the workers: until they are, files grow.
    let mut journal = 0;
    eventually("the journal's files are all there", || {
        std::thread::sleep(Duration::from_millis(200));
        let before = std::mem::replace(&mut journal, journal_bytes(&edge));
        before > 0 && before == journal
    });
    let mut connection = Connection::open(edge.traffic).unwrap();
    for _ in 0..FORGED {
        let answer = connection.get("/", &[("X-API-Key", &forged)]).unwrap();
        assert_eq!(answer.status, 401);
    }
    assert_eq!(reads(&edge), 0, "reads of the repository");
    assert_eq!(journal_bytes(&edge), journal, "the journal grew");
    assert_eq!(upstream.requests(), 0);
    // A genuine one is read, recorded and forwarded: the numbers do move.
    let answer = connection.get("/", &[("X-API-Key", &genuine)]).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!((reads(&edge), upstream.requests()), (1, 1));
    assert_eq!(running.stop(), Some(0));
    assert_eq!(rows(&edge), 1);
}

#[test]
fn whoever_floods_is_told_to_wait_and_a_good_key_from_there_is_not() {
    let upstream = Upstream::start();
    let settings = "[auth]\nfailures_per_minute = 5";
    let (edge, stranger) = (
        Deployment::new(upstream.address, settings),
        Deployment::new(upstream.address, ""),
    );
    let (forged, genuine) = (stranger.key("forged", &[]), edge.key("genuine", &[]));
    let _running = edge.serve();
    let mut connection = Connection::open(edge.traffic).unwrap();
    let mut ask = |token: &str| connection.get("/", &[("X-API-Key", token)]).unwrap();
    let answers: Vec<_> = (0..8).map(|_| ask(&forged)).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    let braked = answers.last().unwrap();
    let kind = braked.json()["type"].clone();
    assert_eq!(kind, "urn:cypheron-edge:problem:too-many-failures");
    let wait: u64 = braked.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(ask(&genuine).status, 200);
    let counted = edge.count("cypheron_edge_requests_total", "too-many-failures");
    assert_eq!(counted, 3);
}

fn reads(edge: &Deployment) -> u64 {
    edge.count("cypheron_edge_directory_reads_total", "")
}

fn journal_bytes(edge: &Deployment) -> u64 {
    fn below(directory: &std::path::Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return 0;
        };
        entries
            .flatten()
            .map(|entry| match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => below(&entry.path()),
                Ok(metadata) => metadata.len(),
                Err(_) => 0,
            })
            .sum()
    }
    below(&edge.data().join("journal"))
}

//! Records are told what their keys were used for, by the command and by an edge.

use std::num::NonZeroU32;
use std::process::Stdio;

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::key::ApiKey;
use cypheron_edge::repository::ApiKeyRepository;
use cypheron_edge::repository::embedded::EmbeddedApiKeyRepository;
use cypheron_edge::token::KeyHash;
use uuid::Uuid;

use crate::client::Connection;
use crate::process::{Deployment, eventually};
use crate::upstream::Upstream;

fn shown(edge: &Deployment, key: &str) -> serde_json::Value {
    serde_json::from_str(&edge.ok(&["keys", "show", key, "--json"])).unwrap()
}

#[test]
fn an_edge_that_may_tells_the_records_and_reads_none_of_them_again() {
    let upstream = Upstream::start();
    let edge = Deployment::new(
        upstream.address,
        // Nor is a store refused that a starved machine makes slow.
        "[counters]\nwrite = true\ninterval = \"1s\"\n\
         [directory]\nlookup_timeout = \"5s\"\nread_timeout = \"5s\"\n",
    );
    let token = edge.key("counted", &["--rate-limit", "5"]);
    edge.key("unused", &[]);
    let before = shown(&edge, "counted");
    let _running = edge.serve();
    let mut connection = Connection::open(edge.traffic).unwrap();
    let mut request = || {
        connection
            .get("/", &[("X-API-Key", &token)])
            .unwrap()
            .status
    };
    let statuses: Vec<_> = (0..7).map(|_| request()).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    let reads = edge.count("cypheron_edge_directory_reads_total", "");

    eventually("the record was told", || {
        shown(&edge, "counted")["usage_count"] == 7
    });
    let after = shown(&edge, "counted");
    assert!(after["last_used"].is_string(), "{after}");
    for same in ["revision", "updated_at", "envelope"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert!(shown(&edge, "unused")["last_used"].is_null());
    request();
    eventually("the record was told again", || {
        shown(&edge, "counted")["usage_count"] == 8
    });
    eventually("both are counted", || {
        edge.count("cypheron_edge_counters_written_total", "") == 2
    });
    assert_eq!(edge.count("cypheron_edge_directory_reads_total", ""), reads);
}

/// Keys that were used, put into the files as commands and edges do.
fn used(edge: &Deployment, keys: u16) -> EmbeddedApiKeyRepository {
    let file = edge.data().join("keys.db");
    let repository = EmbeddedApiKeyRepository::open(&file, Clock::system()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let usage = rusqlite::Connection::open(edge.data().join("usage.db")).unwrap();
    usage.execute_batch("BEGIN").unwrap();
    for number in 1..=keys {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&number.to_be_bytes());
        let key = ApiKey {
            id: Uuid::from_u128(number.into()),
            name: format!("key {number}").parse().unwrap(),
            key_hash: KeyHash::from_bytes(hash),
            permissions: Vec::new(),
            rate_limit: NonZeroU32::MIN,
            created_at: Timestamp::EPOCH,
            expires_at: None,
            is_active: true,
            allowed_ips: Vec::new(),
            revision: 1,
            last_used: None,
            usage_count: 0,
        };
        runtime.block_on(repository.create(&key, b"")).unwrap();
        let row = (key.id.to_string(), number);
        usage
            .execute(
                "INSERT INTO usage_hourly VALUES (0, ?1, 'all', ?2, 0, 0, 0, 0, 9)",
                row,
            )
            .unwrap();
    }
    usage.execute_batch("COMMIT").unwrap();
    repository
}

fn told(edge: &Deployment) -> (i64, i64) {
    let file = rusqlite::Connection::open(edge.data().join("keys.db")).unwrap();
    file.query_row(
        "SELECT count(*), coalesce(sum(usage_count), 0) FROM api_keys WHERE last_used = 9",
        [],
        |row| row.try_into(),
    )
    .unwrap()
}

#[test]
fn killed_in_the_middle_and_run_again_the_command_leaves_exact_counts() {
    const KEYS: u16 = 200;
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "[counters]\nwrites_per_second = 20\n");
    // Its audit entry makes the usage database.
    edge.key("first", &[]);
    let _repository = used(&edge, KEYS);
    let mut syncing = edge
        .command(&["keys", "sync-usage"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("some are told", || told(&edge).0 >= 40);
    let output = edge.run(&["keys", "sync-usage"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("another process"),
        "{said}"
    );
    syncing.kill().unwrap();
    syncing.wait().unwrap();
    let (keys, _) = told(&edge);
    assert!(keys < i64::from(KEYS), "it was not killed in the middle");

    let mut command = edge.command(&["keys", "sync-usage"]);
    command.env("CYPHERON_EDGE__COUNTERS__WRITES_PER_SECOND", "100000");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let sum = i64::from(KEYS) * (i64::from(KEYS) + 1) / 2;
    assert_eq!(told(&edge), (i64::from(KEYS), sum));
    let before = edge.ok(&["keys", "list", "--json"]);
    let again = edge.run(&["keys", "sync-usage"]);
    assert_eq!(String::from_utf8(again.stderr).unwrap(), "");
    assert_eq!(edge.ok(&["keys", "list", "--json"]), before);
}

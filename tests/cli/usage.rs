//! `usage`

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use cypheron_edge::clock::Clock;
use rusqlite::params;

use crate::Deployment;

/// Puts one event into the store, as if it had been shipped.
fn record(deployment: &Deployment, key: &str, outcome: &str, duration_us: i64) {
    let database = rusqlite::Connection::open(deployment.path("data/usage.db")).unwrap();
    let now = Clock::system().wall().as_micros();
    let event = uuid::Uuid::from_u128(now.cast_unsigned().into()).to_string();
    database
        .execute(
            "INSERT INTO usage_events (event_id, occurred_at, key_id, route, method, status, \
             outcome, ended, request_bytes, response_bytes, duration_us, upstream_us, client_ip, \
             instance) \
             VALUES (?1, ?2, ?3, 'orders', 'GET', 200, ?4, 'complete', 10, 20, ?5, 0, NULL, ?1)",
            params![event, now, key, outcome, duration_us],
        )
        .unwrap();
}

fn create(deployment: &Deployment, name: &str) -> String {
    let created = deployment.json(&["keys", "create", "--name", name, "--json"]);
    created["key"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn usage_is_reported_by_key_route_and_outcome() {
    let deployment = Deployment::new();
    let (billing, search) = (
        create(&deployment, "billing"),
        create(&deployment, "search"),
    );
    record(&deployment, &billing, "admitted", 100);
    record(&deployment, &billing, "admitted", 300);
    record(&deployment, &billing, "rate-limited", 5);
    record(&deployment, &search, "admitted", 100);

    let report = deployment.json(&[
        "usage", "report", "--by", "day", "--key", "billing", "--json",
    ]);
    let rows = report["usage"].as_array().unwrap();
    let requests = |outcome: &str| -> u64 {
        let of_outcome = rows.iter().filter(|row| row["outcome"] == outcome);
        of_outcome
            .map(|row| row["requests"].as_u64().unwrap())
            .sum()
    };
    assert_eq!(
        (requests("admitted"), requests("rate-limited")),
        (2, 1),
        "{report}"
    );
    assert!(
        rows.iter().all(|row| row["key_id"] == billing.as_str()),
        "{report}"
    );

    let table = deployment.ok(&["usage", "report"]);
    for cell in ["billing", "search", "orders", "rate-limited"] {
        assert!(table.contains(cell), "{cell} is not in\n{table}");
    }
}

#[test]
fn usage_outside_of_the_asked_time_or_route_is_not_reported() {
    let deployment = Deployment::new();
    let key = create(&deployment, "a");
    record(&deployment, &key, "admitted", 1);
    for arguments in [
        &[
            "--from",
            "2099-01-01T00:00:00Z",
            "--until",
            "2099-01-02T00:00:00Z",
        ][..],
        &["--route", "files"],
    ] {
        let report = deployment.json(&[&["usage", "report", "--json"], arguments].concat());
        assert_eq!(report["usage"], serde_json::json!([]), "{arguments:?}");
    }
}

#[test]
fn a_report_of_comma_separated_values_is_one_table() {
    let deployment = Deployment::new();
    let key = create(&deployment, "billing, EU");
    record(&deployment, &key, "admitted", 100);
    let csv = deployment.ok(&["usage", "report", "--csv"]);
    let (heading, row) = csv.split_once('\n').unwrap();
    assert_eq!(
        heading,
        "from,key_id,key,route,outcome,requests,request_bytes,response_bytes,p50_us,p95_us,p99_us"
    );
    let end = format!(",{key},\"billing, EU\",orders,admitted,1,10,20,100,100,100");
    assert!(row.ends_with(&end), "{csv}");
    let csv = deployment.ok(&["usage", "report", "--csv", "--refusals"]);
    assert_eq!(csv, "from,route,reason,requests");
}

#[test]
fn what_was_refused_without_a_known_key_has_a_report_of_its_own() {
    let deployment = Deployment::new();
    let key = create(&deployment, "billing");
    record(&deployment, &key, "admitted", 100);
    let minute = Clock::system().wall().as_micros();
    let database = rusqlite::Connection::open(deployment.path("data/usage.db")).unwrap();
    database
        .execute(
            "INSERT INTO refusals (minute, route, reason, client, instance, count) \
             VALUES (?1, 'orders', 'key-missing', '', '', 7)",
            [minute],
        )
        .unwrap();
    let report = deployment.json(&["usage", "report", "--refusals", "--json"]);
    assert_eq!(report["refusals"][0]["count"], 7, "{report}");
    assert!(report.get("usage").is_none(), "{report}");
    let table = deployment.ok(&["usage", "report", "--refusals"]);
    assert!(table.contains("key-missing"), "{table}");
    assert!(!table.contains("billing"), "{table}");
}

#[test]
fn tail_shows_requests_as_they_are_stored() {
    let deployment = Deployment::new();
    let (billing, search) = (
        create(&deployment, "billing"),
        create(&deployment, "search"),
    );
    record(&deployment, &billing, "admitted", 100);
    let mut command = deployment.command(&["usage", "tail", "--key", "billing"]);
    let mut tail = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    record(&deployment, &search, "admitted", 1);
    record(&deployment, &billing, "rate-limited", 5);
    let second = lines.next().unwrap().unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(
        first.ends_with("  billing  -  orders  GET  200  admitted  complete  100 µs"),
        "{first}"
    );
    assert!(
        second.contains("  billing  -  orders  GET  200  rate-limited"),
        "{second}"
    );
}

#[test]
fn a_deployment_without_traffic_adds_up() {
    let deployment = Deployment::new();
    deployment.ok(&["usage", "verify"]);
    assert_eq!(
        deployment.json(&["usage", "verify", "--json"]),
        serde_json::json!([])
    );
}

#[test]
fn decisions_that_are_nowhere_are_a_failure() {
    let deployment = Deployment::new();
    let database = rusqlite::Connection::open(deployment.path("data/usage.db")).unwrap();
    let instance = uuid::Uuid::from_u128(7).to_string();
    let statements = format!(
        "INSERT INTO usage_instances (instance, stored, interrupted, updated_at) \
         VALUES ('{instance}', 3, 1, 0); \
         INSERT INTO usage_writers (instance, writer, decided, dropped) \
         VALUES ('{instance}', 0, 10, 2);"
    );
    database.execute_batch(&statements).unwrap();
    let ran = deployment.run(&["usage", "verify", "--json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    let checks: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(checks[0]["missing"], 4, "{checks}");
    assert!(
        ran.err.contains("1 of 1 instances do not add up"),
        "{}",
        ran.err
    );
}

#[test]
fn where_nothing_was_recorded_the_file_is_named_and_not_made() {
    let deployment = Deployment::without_keyring();
    let error = deployment.fails(1, &["usage", "report"]);
    assert!(error.contains("usage.db"), "{error}");
    assert!(!deployment.path("data").exists());
}

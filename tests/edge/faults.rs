//! PostgreSQL in trouble: clients notice nothing, and afterwards it holds
//! exactly the set of events.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::client;
use crate::process::eventually;
use crate::scene::{Scene, key};

/// How long the server is down where that lasts.
const OUTAGE: Duration = Duration::from_secs(10);

#[test]
fn a_database_that_is_down_at_the_start_gets_everything_later() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    scene.server.stop();
    let edge = scene.deployment.serve();
    let load = scene.load();
    scene.in_trouble(&load);
    scene.server.restart();
    scene.everything_is_there_once("down at the start", edge, load);
}

#[test]
fn a_database_that_goes_down_under_load_gets_everything_once() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    scene.server.stop();
    scene.in_trouble(&load);
    scene.server.restart();
    scene.everything_is_there_once("down under load", edge, load);
}

#[test]
fn a_long_outage_under_load_ends_with_everything_there_once() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    scene.server.stop();
    let end = Instant::now() + OUTAGE;
    while Instant::now() < end {
        scene.in_trouble(&load);
    }
    scene.server.restart();
    scene.everything_is_there_once("long outage", edge, load);
}

#[test]
fn a_disk_that_is_full_gets_everything_once() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    // The days that there may be during this test.
    scene.execute(
        "usage",
        "SET ROLE edge; SELECT usage_make_day((now() AT TIME ZONE 'UTC')::date + n) \
         FROM generate_series(0, 1) n; RESET ROLE; CHECKPOINT",
    );
    let days = "SELECT pg_relation_filepath(inhrelid) FROM pg_inherits \
        WHERE inhparent = 'usage_events'::regclass";
    let days = scene.query(&scene.server, days);
    let data = scene.server.directory().join("data");
    let files = days.iter().map(|row| data.join(row.get::<_, &str>(0)));
    let files: Vec<_> = files.collect();
    scene.server.stop();
    // To write to it fails as it does where a disk is full.
    for file in &files {
        fs::rename(file, file.with_extension("kept")).unwrap();
        symlink("/dev/full", file).unwrap();
    }
    scene.server.restart();
    let edge = scene.deployment.serve();
    let load = scene.load();
    scene.in_trouble(&load);
    let log = scene.deployment.log_text();
    assert!(log.contains("No space left on device"), "{log}");
    scene.server.stop();
    for file in &files {
        fs::rename(file.with_extension("kept"), file).unwrap();
    }
    scene.server.restart();
    scene.everything_is_there_once("disk full", edge, load);
}

#[test]
fn a_row_that_the_database_refuses_is_put_aside_and_keeps_none_waiting() {
    let Some(scene) = Scene::set() else { return };
    let poison = key(&scene.deployment, "poison");
    let keys = scene.deployment.ok(&["keys", "list", "--json"]);
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
    let mut keys = keys.as_array().unwrap().iter();
    let key = keys.find(|key| key["name"] == "poison").unwrap();
    let id = key["id"].as_str().unwrap();
    let check = format!("ALTER TABLE usage_events ADD CHECK (key_id <> '{id}')");
    scene.execute("usage", &check);
    let edge = scene.deployment.serve();
    let load = scene.load();
    for round in 1..=5 {
        let response = client::get(scene.deployment.traffic, "/", &[("X-API-Key", &poison)]);
        assert_eq!(response.status, 200);
        eventually("it is put aside", || {
            scene.count("SELECT count(*) FROM usage_quarantine") == round
        });
        assert!(scene.state().contains(r#""degraded":[]"#));
    }
    assert_eq!(
        scene
            .deployment
            .count("cypheron_edge_usage_quarantined_total", ""),
        5
    );
    scene.everything_is_there_once("5 poisoned rows beside", edge, load);
}

#[test]
fn an_edge_does_not_start_on_a_database_of_a_newer_build() {
    let Some(scene) = Scene::set() else { return };
    scene.execute(
        "usage",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', true, '', 0)",
    );
    let served = scene.deployment.run(&["serve"]);
    let said = String::from_utf8_lossy(&served.stderr);
    assert_eq!(served.status.code(), Some(2), "{said}");
    assert!(said.contains("use a newer build"), "{said}");
}

#[test]
fn a_database_that_turns_read_only_gets_everything_once() {
    let Some(scene) = Scene::set() else { return };
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    scene.execute(
        "postgres",
        "ALTER DATABASE usage SET default_transaction_read_only = on",
    );
    scene.disconnect();
    scene.in_trouble(&load);
    scene.execute(
        "postgres",
        "ALTER DATABASE usage RESET default_transaction_read_only",
    );
    scene.disconnect();
    scene.everything_is_there_once("read-only", edge, load);
}

#[test]
fn a_database_without_a_free_connection_gets_everything_once() {
    let Some(scene) = Scene::set() else { return };
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    scene.execute("postgres", "ALTER ROLE edge CONNECTION LIMIT 0");
    scene.disconnect();
    scene.in_trouble(&load);
    scene.execute("postgres", "ALTER ROLE edge CONNECTION LIMIT -1");
    scene.everything_is_there_once("no free connection", edge, load);
}

#[test]
fn a_database_that_is_slow_gets_everything_once() {
    let Some(scene) = Scene::set() else { return };
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    // No row gets in for as long as this lasts.
    scene.execute(
        "usage",
        "BEGIN; LOCK TABLE usage_events IN EXCLUSIVE MODE; SELECT pg_sleep(2); COMMIT",
    );
    scene.everything_is_there_once("slow", edge, load);
}

#[test]
fn usage_in_postgresql_is_reported_and_followed() {
    let Some(scene) = Scene::set() else { return };
    let edge = scene.deployment.serve();
    let mut command = scene.deployment.command(&["usage", "tail"]);
    let mut tail = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    client::get(
        scene.deployment.traffic,
        "/",
        &[("X-API-Key", &scene.token)],
    );
    let line = lines.next().unwrap().unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(
        line.contains("  client  127.0.0.1  all  GET  200  admitted"),
        "{line}"
    );
    let csv = scene.deployment.ok(&["usage", "report", "--csv"]);
    assert!(csv.contains(",client,all,admitted,1,"), "{csv}");
    assert_eq!(edge.stop(), Some(0));
}

//! Another server in the place of the one that usage went to.

use std::collections::HashSet;

use crate::postgres_server::TestServer;
use crate::process::eventually;
use crate::scene::Scene;

#[test]
fn a_standby_that_takes_over_has_everything_once() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    let standby = scene.server.standby();
    // As managed ones are: what is committed is on both.
    let synchronous = "ALTER SYSTEM SET synchronous_standby_names = '*'";
    scene.execute("postgres", synchronous);
    scene.execute("postgres", "SELECT pg_reload_conf()");
    eventually("the standby keeps up", || {
        scene.count("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
    });
    let more = scene.stored() + 500;
    eventually("more is stored", || scene.stored() > more);

    scene.server.stop();
    scene.server = standby;
    scene.relay.lead_to(scene.server.port());
    // It only reads yet.
    scene.in_trouble(&load);
    scene.execute("postgres", "SELECT pg_promote()");
    scene.everything_is_there_once("failover to a standby", edge, load);
}

#[test]
fn an_empty_server_that_takes_over_is_migrated_where_that_is_configured() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    let old = an_empty_server_takes_over(&mut scene);
    scene.in_trouble(&load);
    scene.create_database();
    everything_is_on_one_of_both(&scene, old, "failover to an empty server", edge, load);
}

#[test]
fn an_empty_server_that_takes_over_is_used_once_somebody_migrated_it() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let migrate_at_start = "CYPHERON_EDGE__DATABASE__MIGRATE_AT_START";
    scene.deployment.set(migrate_at_start, "false");
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    let old = an_empty_server_takes_over(&mut scene);
    scene.create_database();
    scene.in_trouble(&load);
    eventually("the edge says why", || {
        let log = scene.deployment.log_text();
        log.contains("the database lacks") && log.contains("cypheron-edge migrate")
    });
    scene.deployment.ok(&["migrate"]);
    let what = "failover to an empty server, migrated by hand";
    everything_is_on_one_of_both(&scene, old, what, edge, load);
}

/// Gives the one before, which is gone.
fn an_empty_server_takes_over(scene: &mut Scene) -> TestServer {
    let empty = TestServer::start(&[]).unwrap();
    let mut old = std::mem::replace(&mut scene.server, empty);
    old.stop();
    scene.relay.lead_to(scene.server.port());
    old
}

/// All but what the old one committed and could not say any more: that is on
/// both, once each.
#[expect(clippy::print_stdout, reason = "the counts are to be seen")]
fn everything_is_on_one_of_both(
    scene: &Scene,
    mut old: TestServer,
    what: &str,
    edge: crate::process::Edge,
    load: crate::scene::Load,
) {
    old.restart();
    let ids = |server: &TestServer| -> HashSet<String> {
        let rows = scene.query(server, "SELECT event_id::text FROM usage_events");
        rows.iter().map(|row| row.get(0)).collect()
    };
    let there = ids(&old);
    let all = || ids(&scene.server).union(&there).count() as u64;
    let seen = scene.recovers(load, all);
    assert_eq!(edge.stop(), Some(0), "{}", scene.deployment.log_text());
    let here = ids(&scene.server);
    let both = here.intersection(&there).count();
    println!(
        "{what}: responses {seen}, different events {}, on the old server {}, on both {both}",
        all(),
        there.len(),
    );
    assert_eq!(all(), seen);
    let summed = scene.count("SELECT sum(requests)::bigint FROM usage_hourly");
    assert_eq!(summed, here.len() as u64);
    assert!(both <= 1000, "more than one batch: {both}");
}

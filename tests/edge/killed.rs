//! SIGKILL while a batch is on its way to PostgreSQL: the next start sends what
//! is not known to be stored, and the tables hold each event once.

use rustix::process::Signal;

use crate::client;
use crate::process::eventually;
use crate::relay::{Fate, Message};
use crate::scene::Scene;

fn begins(message: &Message) -> bool {
    message.from_client && message.says("START TRANSACTION")
}

fn has_the_rows(message: &Message) -> bool {
    message.from_client && message.says("admitted")
}

fn commits(message: &Message) -> bool {
    message.from_client && message.says("COMMIT")
}

fn says_that_it_committed(message: &Message) -> bool {
    !message.from_client && message.says("COMMIT")
}

#[test]
fn an_edge_that_is_killed_at_any_step_of_a_batch_loses_and_repeats_nothing() {
    let Some(scene) = Scene::set() else { return };
    let mut seen = 0;
    for (step, which) in [
        (
            "after an acknowledgement, before the next transaction",
            begins as fn(&Message) -> bool,
        ),
        ("when the rows are sent", has_the_rows),
        ("before the commit", commits),
        ("between commit and acknowledgement", says_that_it_committed),
    ] {
        let mut edge = scene.deployment.serve();
        seen += ask(&scene);
        eventually("all so far is stored", || scene.stored() == seen);
        scene.relay.arm(1, which, Fate::Held);
        eventually("it comes so far", || {
            seen += ask(&scene);
            scene.relay.reached()
        });
        edge.signal(Signal::KILL);
        edge.wait();
        scene.relay.release();
        let stored = scene.stored();
        println!("killed {step}: responses {seen}, rows by then {stored}");
    }
    let edge = scene.deployment.serve();
    eventually("everything is stored", || scene.stored() >= seen);
    assert_eq!(edge.stop(), Some(0), "{}", scene.deployment.log_text());
    let different = scene.count("SELECT count(DISTINCT event_id) FROM usage_events");
    let summed = scene.count("SELECT sum(requests)::bigint FROM usage_hourly");
    println!(
        "killed 4 times: responses {seen}, rows {}, different events {different}, \
         in the sums {summed}",
        scene.stored()
    );
    assert_eq!((scene.stored(), different, summed), (seen, seen, seen));
    scene
        .deployment
        .ok(&["usage", "verify", "--dead-after", "0s"]);
}

/// How many responses were seen.
fn ask(scene: &Scene) -> u64 {
    let response = client::get(
        scene.deployment.traffic,
        "/",
        &[("X-API-Key", &scene.token)],
    );
    assert_eq!(response.status, 200);
    1
}

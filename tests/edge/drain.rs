//! SIGTERM lets requests in flight finish.

use std::thread;

use rustix::process::Signal;

use crate::client::{Connection, get};
use crate::process::{Deployment, eventually};
use crate::serving::rows;
use crate::upstream::Upstream;

#[test]
fn a_request_in_flight_at_sigterm_is_answered_and_recorded() {
    let upstream = Upstream::start();
    // Stored before it ends, on a busy machine too.
    let patience = [("CYPHERON_EDGE__USAGE__FLUSH_TIMEOUT", "1m".to_owned())];
    let edge = Deployment::in_environment(upstream.address, "", patience);
    let token = edge.key("patient", &[]);
    let mut running = edge.serve();
    let (traffic, header) = (edge.traffic, token.clone());
    let in_flight = thread::spawn(move || get(traffic, "/slow", &[("X-API-Key", &header)]));
    eventually("the request is at the upstream", || {
        upstream.requests() == 1
    });

    running.signal(Signal::TERM);
    eventually("no new connection is accepted", || {
        Connection::open(edge.traffic)
            .and_then(|mut connection| connection.get("/", &[]))
            .is_err()
    });
    upstream.release();
    assert_eq!(in_flight.join().unwrap().status, 200);
    assert_eq!(running.wait(), Some(0), "{}", edge.log_text());
    assert_eq!(rows(&edge), 1);
}

#[test]
fn readiness_ends_while_accepting_goes_on_for_the_drain_delay() {
    let upstream = Upstream::start();
    let settings = "";
    let edge = Deployment::new(upstream.address, settings);
    let text = std::fs::read_to_string(edge.config()).unwrap();
    std::fs::write(
        edge.config(),
        text.replace("workers = 2", "workers = 2\ndrain_delay = \"5s\""),
    )
    .unwrap();
    let running = edge.serve();
    running.signal(Signal::TERM);
    eventually("readiness is over", || {
        get(edge.health, "/readyz", &[]).status == 503
    });
    assert_eq!(get(edge.traffic, "/", &[]).status, 401, "still accepting");
}

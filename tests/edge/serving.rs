//! What clients, upstreams and operators see of a serving edge.

use crate::client::{Connection, get};
use crate::process::{Deployment, eventually};
use crate::upstream::Upstream;

#[test]
fn a_client_with_a_key_gets_through_and_one_without_is_refused() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let token = edge.key("first", &[]);
    let _running = edge.serve();

    let admitted = get(edge.traffic, "/hello?a=b", &[("X-API-Key", &token)]);
    assert_eq!(admitted.status, 200, "{}", admitted.text());
    let seen = admitted.text();
    assert!(seen.starts_with("GET /hello?a=b HTTP/1.1"), "{seen}");
    assert!(
        seen.to_lowercase().contains("x-edge-key-name: first"),
        "{seen}"
    );
    assert!(!seen.contains(&token), "the upstream saw the token");
    assert!(admitted.header("ratelimit").is_some());

    let refused = get(edge.traffic, "/hello", &[]);
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(
        refused.json()["type"],
        "urn:cypheron-edge:problem:token-missing"
    );
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn every_decided_request_of_a_known_key_becomes_one_row() {
    let upstream = Upstream::start();
    let edge = Deployment::in_environment(
        upstream.address,
        "",
        [("CYPHERON_EDGE__USAGE__FLUSH_TIMEOUT", "1m".to_owned())],
    );
    let token = edge.key("counted", &["--rate-limit", "5"]);
    let running = edge.serve();
    let mut connection = Connection::open(edge.traffic).unwrap();
    // More than any machine is slow enough to admit at five a second.
    let statuses: Vec<_> = (0..50)
        .map(|_| {
            connection
                .get("/", &[("Authorization", &format!("Bearer {token}"))])
                .unwrap()
                .status
        })
        .collect();
    assert_eq!(statuses[..5], [200; 5]);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(
        statuses.iter().all(|status| [200, 429].contains(status)),
        "{statuses:?}"
    );
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());

    let report: serde_json::Value =
        serde_json::from_str(&edge.ok(&["usage", "report", "--json"])).unwrap();
    assert!(report.to_string().contains("rate-limited"), "{report}");
    let verified = edge.run(&["usage", "verify"]);
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    assert_eq!(rows(&edge), 50);
}

#[test]
fn the_health_port_tells_health_readiness_and_metrics() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let token = edge.key("metered", &[]);
    let _running = edge.serve();
    assert_eq!(get(edge.health, "/healthz", &[]).status, 200);
    assert_eq!(get(edge.health, "/readyz", &[]).status, 200);
    assert_eq!(get(edge.traffic, "/", &[("X-API-Key", &token)]).status, 200);
    eventually("the request is in the metrics", || {
        get(edge.health, "/metrics", &[])
            .text()
            .contains("cypheron_edge_requests")
    });
    assert_eq!(
        get(edge.traffic, "/healthz", &[]).status,
        401,
        "not on the traffic port"
    );
}

#[test]
fn two_edges_never_share_a_data_directory() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let _running = edge.serve();
    let second = edge.run(&["serve"]);
    assert_eq!(second.status.code(), Some(2));
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(
        error.contains("data.dir") && error.contains("--take-over"),
        "{error}"
    );
}

/// The rows of the usage table.
pub fn rows(edge: &Deployment) -> i64 {
    let usage = rusqlite::Connection::open(edge.data().join("usage.db")).unwrap();
    usage
        .query_row("SELECT count(*) FROM usage_events", [], |row| row.get(0))
        .unwrap()
}

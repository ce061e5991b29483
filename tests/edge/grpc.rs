//! gRPC as an independent implementation speaks it, through the edge.

use crate::process::{Deployment, eventually};
use crate::script::Script;

#[test]
fn another_library_makes_every_kind_of_call_and_is_refused_in_its_own_terms() {
    let Some(mut peers) = Script::start("grpc_calls.py", "grpc") else {
        return;
    };
    let http2 = [("CYPHERON_EDGE__UPSTREAMS__APP__HTTP2", "true".to_owned())];
    let edge = Deployment::in_environment(peers.address, "", http2);
    let token = edge.key("caller", &[]);
    let limited = edge.key("limited", &["--rate-limit", "1"]);
    let running = edge.serve();
    peers.go_through(edge.traffic, &[&token, &limited]);
    for said in [
        "unary",
        "client streaming",
        "server streaming",
        "both streaming",
        "statuses",
        "deadline",
        "cancelled",
        "refusals",
    ] {
        peers.says(said);
    }
    // The server, or the edge itself, ends a call whose time is over.
    let ended = || -> (i64, i64) {
        let usage = rusqlite::Connection::open(edge.data().join("usage.db")).unwrap();
        let query = "SELECT count(*) FILTER (WHERE ended IN ('complete', 'timeout')), \
                     count(*) FILTER (WHERE ended = 'client_gone') \
                     FROM usage_events WHERE outcome = 'admitted'";
        let columns = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        usage.query_row(query, [], columns).unwrap()
    };
    eventually("each call is recorded", || {
        let (to_their_end, left) = ended();
        assert!(to_their_end + left <= 10 && left <= 2);
        to_their_end + left == 10 && left >= 1
    });
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
}

//! `health` asks the edge of the same configuration.

use crate::process::Deployment;
use crate::upstream::Upstream;

#[test]
fn the_probe_of_a_container_tells_an_edge_that_runs_from_one_that_does_not() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let asked = |arguments: &[&str]| {
        let output = edge.run(arguments);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = asked(&["health"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not answer"), "{said}");

    let running = edge.serve();
    assert_eq!(asked(&["health"]), (Some(0), "ok\n".to_owned()));
    let (code, said) = asked(&["health", "--ready"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\"ready\""), "{said}");
    assert_eq!(edge.count("cypheron_edge_store_feed_connected", ""), 1);
    drop(running);
}

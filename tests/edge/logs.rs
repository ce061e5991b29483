//! What operators read of a request that failed.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::client::get;
use crate::process::{Deployment, eventually};

/// The only line of the log about this request, once it is there.
fn line(edge: &Deployment, request_id: &str) -> serde_json::Value {
    let mut found = Vec::new();
    eventually("the request is in the log", || {
        let log = edge.log_text();
        let lines = log.lines().filter(|line| line.contains(request_id));
        found = lines.map(str::to_owned).collect();
        !found.is_empty()
    });
    let [line] = &found[..] else {
        panic!("a failure is logged once: {found:?}");
    };
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_failure_is_logged_once_with_the_request_that_failed_and_without_its_token() {
    // Answers one request in full, the next one in part.
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    let breaks_off = thread::spawn(move || {
        let (mut stream, _) = upstream.accept().unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
        let part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345";
        stream.write_all(part).unwrap();
    });
    let edge = Deployment::new(address, "[log]\nformat = \"json\"\n");
    let token = edge.key("unlucky", &[]);
    let _running = edge.serve();
    let ask = |request_id: &str| {
        let fields = [("X-API-Key", token.as_str()), ("X-Request-Id", request_id)];
        let mut connection = crate::client::Connection::open(edge.traffic).unwrap();
        connection.get("/", &fields)
    };

    assert!(ask("broken-off-1").is_err(), "the answer breaks off");
    breaks_off.join().unwrap();
    let logged = line(&edge, "broken-off-1");
    assert_eq!(logged["request_id"], "broken-off-1", "{logged}");
    assert_eq!(logged["level"], "WARN", "{logged}");
    assert_eq!(logged["route"], "all", "{logged}");

    // Nobody listens any more.
    let answer = ask("refused-2").unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["request_id"], "refused-2");
    let logged = line(&edge, "refused-2");
    assert_eq!(logged["request_id"], "refused-2", "{logged}");
    assert_eq!(logged["upstream"], "app", "{logged}");

    get(edge.traffic, "/", &[("X-API-Key", "cyk_live_nonsense")]);
    let log = edge.log_text();
    assert!(!log.contains(&token) && !log.contains("nonsense"), "{log}");
    let each_is_json = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
    assert!(log.lines().all(each_is_json), "{log}");
}

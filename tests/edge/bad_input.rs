//! What is wrong is refused: on the wire by status, at the start by exit code.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::process::Deployment;
use crate::upstream::Upstream;

/// The status of the answer to exactly these bytes.
fn status(edge: &Deployment, request: &str) -> String {
    let mut stream = TcpStream::connect(edge.traffic).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut line = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut line).unwrap();
    String::from_utf8_lossy(&line["HTTP/1.1 ".len()..]).into_owned()
}

#[test]
fn a_bad_request_is_refused_by_status_and_reads_no_store() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let text = fs::read_to_string(edge.config()).unwrap();
    let route = "path = \"/api\"\nbody_limit = \"5B\"";
    fs::write(edge.config(), text.replace("path = \"/\"", route)).unwrap();
    let _running = edge.serve();
    let get = |path: &str, fields: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let large = format!("X-Large: {}\r\n", "v".repeat(40_000));
    for (what, request, expected) in [
        ("no token", get("/api", ""), "401"),
        (
            "a malformed token",
            get("/api", "X-API-Key: cyk_live_nonsense\r\n"),
            "401",
        ),
        (
            "a token of another environment",
            get("/api", "X-API-Key: cyk_test_nonsense\r\n"),
            "401",
        ),
        ("a dot segment", get("/api/../x", ""), "400"),
        ("an encoded dot segment", get("/api/%2e%2e/x", ""), "400"),
        ("an encoded slash", get("/api%2fx", ""), "400"),
        ("an empty segment", get("/api//x", ""), "400"),
        ("a backslash, encoded", get("/api/%5Cx", ""), "400"),
        ("a NUL, encoded", get("/api/%00", ""), "400"),
        ("no request line", "GET\r\n\r\n".to_owned(), "400"),
        ("no host", "GET /api HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("a large field", get("/api", &large), "431"),
        ("many fields", get("/api", &"X: v\r\n".repeat(101)), "431"),
        ("no route", get("/apiary", ""), "404"),
        (
            "a large body",
            "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n123456".to_owned(),
            "413",
        ),
    ] {
        assert_eq!(status(&edge, &request), expected, "{what}");
    }
    assert_eq!(edge.count("cypheron_edge_directory_reads_total", ""), 0);
    assert_eq!(upstream.requests(), 0);
}

/// What `serve` says that does not start.
#[track_caller]
fn refused(edge: &Deployment, password: &str) -> String {
    let mut command = edge.command(&["serve"]);
    let output = command.env("PQ_ENCRYPTION_PASSWORD", password).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

#[test]
fn a_server_does_not_start_on_what_is_wrong_and_says_what_would_do() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let password = crate::process::PASSWORD;
    let keyring = edge.data().join("keys.db");

    let said = refused(&edge, "another password, that is long enough");
    assert!(said.contains("password"), "{said}");
    assert!(said.contains(&*keyring.to_string_lossy()), "{said}");

    let good = fs::read_to_string(edge.config()).unwrap();
    fs::write(edge.config(), good.replace("workers = 2", "worker = 2")).unwrap();
    let said = refused(&edge, password);
    assert!(said.contains("server.worker"), "{said}");
    assert!(said.contains("`workers`"), "{said}");
    fs::write(edge.config(), good).unwrap();

    for store in ["keys.db", "usage.db"] {
        let file = edge.data().join(store);
        let of_now = version(&file, None);
        version(&file, Some(999));
        let before = fs::read(&file).unwrap();
        let said = refused(&edge, password);
        assert!(said.contains("999") && said.contains(store), "{said}");
        assert_eq!(fs::read(&file).unwrap(), before, "{store} was touched");
        version(&file, Some(of_now));
    }

    fs::remove_dir_all(edge.data()).unwrap();
    let said = refused(&edge, password);
    assert!(said.contains("cypheron-edge keyring init"), "{said}");
    assert!(!keyring.exists(), "a keyring was made");
}

/// The version that a database says it has, after it was made to say so.
fn version(file: &std::path::Path, set: Option<i64>) -> i64 {
    let database = rusqlite::Connection::open(file).unwrap();
    if let Some(version) = set {
        database
            .pragma_update(None, "user_version", version)
            .unwrap();
        database
            .pragma_update(None, "wal_checkpoint", "TRUNCATE")
            .unwrap();
    }
    database
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap()
}

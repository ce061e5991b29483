//! What is answered without an upstream, and what every answer carries.

use super::edge::{Edge, to};
use super::wire::{Upstream, field};

#[tokio::test]
async fn a_request_that_goes_nowhere_is_told_why() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::with(&format!(
        "{}[[routes]]\nname = 'a'\npath = '/a'\nupstream = 'u'\nbody_limit = '10B'",
        to(upstream.address, "")
    ));
    for (request, status, slug) in [
        ("GET /b HTTP/1.1\r\nhost: h", 404, "no-route"),
        ("GET /a/../b HTTP/1.1\r\nhost: h", 400, "ambiguous-path"),
        ("GET /a/%2E%2e/b HTTP/1.1\r\nhost: h", 400, "ambiguous-path"),
        ("GET /a//b HTTP/1.1\r\nhost: h", 400, "ambiguous-path"),
        ("GET /a HTTP/1.1", 400, "bad-host"),
        ("GET /a HTTP/1.1\r\nhost:", 400, "bad-host"),
        ("GET /a HTTP/1.1\r\nhost: h\r\nhost: h", 400, "bad-host"),
        ("GET /a HTTP/1.1\r\nhost: a b", 400, "bad-host"),
        ("GET /a HTTP/1.1\r\nhost: u@h", 400, "bad-host"),
        ("GET http://other/a HTTP/1.1\r\nhost: h", 400, "bad-host"),
        ("GET http://u@h/a HTTP/1.1\r\nhost: h", 400, "bad-host"),
        (
            "GET ftp://h/a HTTP/1.1\r\nhost: h",
            400,
            "unsupported-target",
        ),
        ("OPTIONS * HTTP/1.1\r\nhost: h", 400, "unsupported-target"),
        (
            "CONNECT h:80 HTTP/1.1\r\nhost: h:80",
            400,
            "unsupported-target",
        ),
        (
            "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 11",
            413,
            "body-too-large",
        ),
    ] {
        let answer = edge
            .ask(&format!("{request}\r\nx-request-id: r-1\r\n\r\n"))
            .await;
        let start = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&start), "{request}: {answer}");
        assert!(
            answer.contains(&format!("urn:cypheron-edge:problem:{slug}\"")),
            "{answer}"
        );
        assert!(answer.contains("\"request_id\":\"r-1\""), "{answer}");
        assert_eq!(field(&answer, "x-request-id"), Some("r-1"));
        assert_eq!(
            field(&answer, "content-type"),
            Some("application/problem+json")
        );
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_body_in_another_coding_than_chunks_is_refused() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::before(upstream.address);
    let ask = async |fields: &str| {
        let head = format!("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{fields}");
        edge.ask(&format!("{head}\r\n\r\n0\r\n\r\n")).await
    };
    for fields in [
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked",
        "transfer-encoding: ,chunked",
    ] {
        let answer = ask(fields).await;
        assert!(answer.starts_with("HTTP/1.1 501 "), "{fields}: {answer}");
        assert!(
            answer.contains(":unsupported-transfer-coding\""),
            "{answer}"
        );
    }
    assert_eq!(upstream.connections(), 0);
    for fields in ["transfer-encoding: chunked", "Transfer-Encoding:  CHUNKED "] {
        let answer = ask(fields).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{fields}: {answer}");
    }
}

#[tokio::test]
async fn a_target_in_absolute_form_is_forwarded_as_a_path() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::before(upstream.address);
    for (request, target, host) in [
        (
            "GET http://H.example:80/a?b HTTP/1.1\r\nhost: h.example",
            "/a?b",
            "H.example:80",
        ),
        (
            "GET http://h.example HTTP/1.1\r\nhost: h.example",
            "/",
            "h.example",
        ),
        ("GET http://h.example?q HTTP/1.0", "/?q", "h.example"),
    ] {
        let answer = edge.ask(&format!("{request}\r\n\r\n")).await;
        assert!(
            answer.contains(&format!("GET {target} HTTP/1.1\r\n")),
            "{answer}"
        );
        assert!(answer.contains(&format!("host: {host}\r\n")), "{answer}");
    }
}

#[tokio::test]
async fn the_path_arrives_as_it_was_sent() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::before(upstream.address);
    for target in [
        "/",
        "/a/",
        "/a%20b/%E2%82%AC?x=%2e%2E/../&y",
        "/a;b=c/d",
        "/a:b@c!$&'()*+,=",
    ] {
        let answer = edge
            .ask(&format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n"))
            .await;
        assert!(
            answer.contains(&format!("\r\n\r\nGET {target} HTTP/1.1\r\n")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_request_without_a_name_gets_one_that_both_sides_see() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::before(upstream.address);
    let long = "x".repeat(129);
    for given in [
        "",
        "x-request-id: two words\r\n",
        &format!("x-request-id: {long}\r\n"),
    ] {
        let answer = edge
            .ask(&format!("GET / HTTP/1.1\r\nhost: h\r\n{given}\r\n"))
            .await;
        let (head, sent) = answer.split_once("\r\n\r\n").unwrap();
        let id = field(head, "x-request-id").unwrap();
        assert_eq!(id.len(), 36, "{id}");
        assert_eq!(field(sent, "x-request-id"), Some(id));
    }
}

#[tokio::test]
async fn cors_is_answered_by_the_route_on_refusals_too() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::with(&format!(
        "{}[[routes]]\nname = 'a'\nupstream = 'u'\nbody_limit = '1B'\ncors = {{ origins = ['https://app.example'] }}",
        to(upstream.address, "")
    ));
    let preflight = "OPTIONS /x HTTP/1.1\r\nhost: h\r\norigin: https://app.example\r\naccess-control-request-method: PUT\r\n\r\n";
    let answer = edge.ask(preflight).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!(
        field(&answer, "access-control-allow-methods")
            .unwrap()
            .contains("PUT")
    );
    assert_eq!(upstream.connections(), 0);
    for (request, status) in [
        ("GET /x HTTP/1.1\r\nhost: h", 200),
        ("POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 2", 413),
    ] {
        let answer = edge
            .ask(&format!("{request}\r\norigin: https://app.example\r\n\r\n"))
            .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert_eq!(
            field(&answer, "access-control-allow-origin"),
            Some("https://app.example")
        );
    }
}

#[tokio::test]
async fn routes_and_upstreams_are_swapped_while_requests_are_served() {
    let (one, two) = (Upstream::echoing().await, Upstream::echoing().await);
    let edge = Edge::before(one.address);
    let mut wire = edge.connect().await;
    wire.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    wire.message().await;
    let after = format!(
        "{}[[routes]]\nname = 'new'\npath = '/new'\nupstream = 'u'",
        to(two.address, "")
    );
    let (routes, upstreams) = super::edge::compiled(&after);
    edge.upstreams.store(upstreams.into());
    edge.routes.store(routes.into());
    wire.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(wire.message().await.starts_with("HTTP/1.1 404 "));
    wire.send("GET /new HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(wire.message().await.starts_with("HTTP/1.1 200 "));
    assert_eq!((one.connections(), two.connections()), (1, 1));
}

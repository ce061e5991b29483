//! What an upstream is told, and what it is not.

use super::edge::{Edge, to};
use super::wire::{Upstream, Wire, field};

/// The head that the upstream got.
async fn forwarded(edge: &Edge, fields: &str) -> String {
    let request = format!("GET /a HTTP/1.1\r\nhost: app.example:81\r\n{fields}\r\n");
    let answer = edge.ask(&request).await;
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn the_upstream_is_told_who_asks_and_where_from() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::before(upstream.address);
    let sent = forwarded(&edge, "test-key: 1\r\nuser-agent: t\r\n").await;
    for (name, value) in [
        ("host", "app.example:81"),
        ("user-agent", "t"),
        ("x-edge-key-id", "00000000-0000-0000-0000-000000000007"),
        ("x-edge-key-name", "Zo%C3%AB%27s%20key%2C%201"),
        ("x-edge-permissions", "orders:*,users:read"),
        ("x-edge-route", "all"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "app.example:81"),
    ] {
        assert_eq!(field(&sent, name), Some(value), "{sent}");
    }
}

#[tokio::test]
async fn a_client_cannot_say_what_only_the_proxy_says() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::before(upstream.address);
    let spoofs = [
        "X-Edge-Key-Id",
        "x_edge_key_id",
        "X-Edge_Permissions",
        "X-EDGE-ANYTHING",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "X-Forwarded-Port",
        "Forwarded",
        "X-Real-IP",
        "X-HTTP-Method-Override",
        "X-Http-Method",
        "X_Method_Override",
        "Proxy-Authorization",
        "Transfer_Encoding",
    ]
    .map(|name| format!("{name}: spoof\r\n"))
    .concat();
    let sent = forwarded(&edge, &spoofs).await;
    assert!(!sent.contains("spoof"), "{sent}");
    assert_eq!(field(&sent, "x-edge-key-id"), None);
    assert_eq!(field(&sent, "x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn connection_cannot_take_away_what_the_proxy_says() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::before(upstream.address);
    let fields = "test-key: 1\r\nx-mine: 1\r\nconnection: x-mine, host, x-edge-key-id, x-forwarded-for, x-request-id\r\nkeep-alive: 5\r\nte: gzip\r\nupgrade: websocket\r\nhttp2-settings: x\r\n";
    let sent = forwarded(&edge, fields).await;
    for kept in ["host", "x-edge-key-id", "x-forwarded-for", "x-request-id"] {
        assert!(field(&sent, kept).is_some(), "{kept}: {sent}");
    }
    for gone in [
        "x-mine",
        "connection",
        "keep-alive",
        "te",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(field(&sent, gone), None, "{sent}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_added_to_the_chain() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::with(&format!(
        "[server]\ntrusted_proxies = ['127.0.0.0/8']\n{}[[routes]]\nname = 'all'\nupstream = 'u'",
        to(upstream.address, "")
    ));
    let told = "x-forwarded-for: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\nx-forwarded-proto: https\r\nx-forwarded-host: outside.example\r\nforwarded: for=1.1.1.1\r\nx-real-ip: 2.2.2.2\r\n";
    let sent = forwarded(
        &edge,
        &format!("{told}x_real_ip: spoof\r\nx-edge-route: spoof\r\n"),
    )
    .await;
    for (name, value) in [
        ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "outside.example"),
        ("forwarded", "for=1.1.1.1"),
        ("x-real-ip", "2.2.2.2"),
    ] {
        assert_eq!(field(&sent, name), Some(value), "{sent}");
    }
    assert!(!sent.contains("spoof"), "{sent}");
}

#[tokio::test]
async fn what_the_edge_says_is_said_once_whoever_said_it_before() {
    let upstream = Upstream::echoing().await;
    let told = [
        "x-edge-key-id",
        "x-edge-key-name",
        "x-edge-permissions",
        "x-edge-route",
        "x-request-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
    ];
    let said = told.map(|name| format!("{name}: r-1\r\n")).concat();
    for server in ["", "[server]\ntrusted_proxies = ['127.0.0.0/8']\n"] {
        let edge = Edge::with(&format!(
            "{server}{}[[routes]]\nname = 'all'\nupstream = 'u'",
            to(upstream.address, "")
        ));
        for said in ["", &said] {
            let fields = format!("test-key: 1\r\n{said}X_Request_Id: r-2\r\n");
            let sent = forwarded(&edge, &fields).await;
            let sent = sent.to_lowercase().replace('_', "-");
            for name in told {
                let line = format!("\n{name}: ");
                assert_eq!(sent.matches(&line).count(), 1, "{name}: {sent}");
            }
        }
    }
}

#[tokio::test]
async fn the_host_is_the_clients_the_targets_or_a_name() {
    let upstream = Upstream::echoing().await;
    let target = upstream.address.to_string();
    for (rule, host) in [
        ("preserve", "app.example:81"),
        ("target", &target),
        ("in.example", "in.example"),
    ] {
        let edge = Edge::with(&format!(
            "{}[[routes]]\nname = 'all'\nupstream = 'u'",
            to(upstream.address, &format!("host = '{rule}'"))
        ));
        let sent = forwarded(&edge, "").await;
        assert_eq!(field(&sent, "host"), Some(host), "{rule}");
    }
    let edge = Edge::before(upstream.address);
    let answer = edge.ask("GET / HTTP/1.0\r\n\r\n").await;
    let sent = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(field(sent, "host"), Some(&*target));
}

#[tokio::test]
async fn an_answer_loses_what_was_for_one_hop_only() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=1\r\nproxy-authenticate: Basic\r\nratelimit: \"app\";r=1\r\nset-cookie: a\r\nset-cookie: b\r\n\r\nok").await;
    })
    .await;
    let edge = Edge::before(upstream.address);
    let answer = edge.ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    for gone in ["x-hop", "keep-alive", "proxy-authenticate", "connection"] {
        assert_eq!(field(&answer, gone), None, "{answer}");
    }
    assert_eq!(field(&answer, "ratelimit"), Some("\"app\";r=1"));
    assert_eq!(answer.matches("set-cookie").count(), 2);
}

#[tokio::test]
async fn two_lengths_of_a_body_are_made_one() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::before(upstream.address);
    let request = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = edge.ask(request).await;
    let sent = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(field(sent, "content-length"), None, "{sent}");
    assert_eq!(field(sent, "transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn an_upstream_may_be_told_in_the_field_that_has_a_standard() {
    let upstream = Upstream::echoing().await;
    let route = "[[routes]]\nname = 'all'\nupstream = 'u'\n";
    let ours = "for=127.0.0.1;host=\"app.example:81\";proto=http";
    let theirs =
        "X-Forwarded-For: 2001:db8::7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\n";
    for (server, settings, fields, expected, x_fields) in [
        ("", "forwarded = 'both'", "", ours, true),
        ("", "forwarded = 'forwarded'", "", ours, false),
        // Of a client, nothing is believed.
        (
            "",
            "forwarded = 'both'",
            "Forwarded: for=192.0.2.1\r\nX-Forwarded-Host: a\r\n",
            ours,
            true,
        ),
        (
            "",
            "forwarded = 'forwarded'\nforwarded_for = 'hidden'",
            "",
            "for=_hidden;host=\"app.example:81\";proto=http",
            false,
        ),
        (
            "[server]\ntrusted_proxies = ['127.0.0.1/32']\n",
            "forwarded = 'both'",
            theirs,
            "for=\"[2001:db8::7]\";host=a;proto=https",
            true,
        ),
        (
            "[server]\ntrusted_proxies = ['127.0.0.1/32']\n",
            "forwarded = 'forwarded'",
            "Forwarded: for=192.0.2.1;proto=https\r\n",
            "for=192.0.2.1;proto=https, for=127.0.0.1",
            false,
        ),
    ] {
        let edge = Edge::with(&format!(
            "{server}{}\n{route}",
            to(upstream.address, settings)
        ));
        let sent = forwarded(&edge, fields).await;
        assert_eq!(field(&sent, "forwarded"), Some(expected), "{sent}");
        for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
            assert_eq!(field(&sent, name).is_some(), x_fields, "{name} in {sent}");
        }
    }
}

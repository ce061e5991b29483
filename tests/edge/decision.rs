//! The edge as others ask it: Traefik and Envoy, in their own words.

use std::io;
use std::net::SocketAddr;

use rustix::process::Signal;

use crate::certificate::Certificate;
use crate::client::{Connection, Response, get};
use crate::process::{Deployment, eventually, free_address};
use crate::serving::rows;
use crate::upstream::Upstream;

const SECRET: &str = "what only the proxies know, and nobody else does";

/// An edge that is asked over a port, in one dialect.
struct Asked {
    deployment: Deployment,
    place: SocketAddr,
    upstream: Upstream,
}

impl Asked {
    fn in_dialect(dialect: &str) -> Self {
        Self::in_environment(dialect, [])
    }

    fn in_environment<const MORE: usize>(
        dialect: &str,
        more: [(&'static str, String); MORE],
    ) -> Self {
        let (place, upstream) = (free_address(), Upstream::start());
        let settings = format!(
            r#"
[decisions.proxy]
dialect = "{dialect}"
listen = "{place}"

[[routes]]
name = "secret"
path = "/secret"
upstream = "app"
permission = "secret:read"

[[routes]]
name = "open"
path = "/open"
upstream = "app"
public = true
query_parameter = "key"
cors = {{ origins = ["*"] }}

[[routes]]
name = "asked in the query"
path = "/query"
upstream = "app"
query_parameter = "key"
"#
        )
        .replace("asked in the query", "query");
        let secret = SECRET.replace(' ', "-");
        let mut environment = vec![("DECISION_SECRET", secret)];
        environment.extend(more);
        let deployment = Deployment::in_environment(upstream.address, &settings, environment);
        Self {
            deployment,
            place,
            upstream,
        }
    }

    /// What Traefik asks about a request of `client`.
    fn traefik(&self, method: &str, target: &str, client: &str, more: &[(&str, &str)]) -> Response {
        let secret = SECRET.replace(' ', "-");
        let mut headers = vec![
            ("X-Edge-Decision-Secret", &*secret),
            ("X-Forwarded-Method", method),
            ("X-Forwarded-Uri", target),
            ("X-Forwarded-Host", "api.example.com"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-For", client),
        ];
        headers.extend(more);
        get(self.place, "/", &headers)
    }

    /// What Envoy asks.
    fn envoy(&self, target: &str, more: &[(&str, &str)]) -> Response {
        let mut connection = Connection::open(self.place).unwrap();
        ask_as_envoy(&mut connection, target, more).unwrap()
    }
}

/// What Envoy asks.
fn ask_as_envoy(
    connection: &mut Connection,
    target: &str,
    more: &[(&str, &str)],
) -> io::Result<Response> {
    let secret = SECRET.replace(' ', "-");
    let mut headers = vec![
        ("X-Edge-Decision-Secret", &*secret),
        ("X-Original-Address", "192.0.2.7"),
    ];
    headers.extend(more);
    connection.get(target, &headers)
}

#[test]
fn what_is_asked_is_decided_as_if_it_had_come_to_the_edge() {
    let asked = Asked::in_dialect("traefik");
    let edge = &asked.deployment;
    let token = edge.key(
        "reader",
        &["--permission", "orders:read", "--allow-ip", "192.0.2.0/24"],
    );
    let running = edge.serve();
    let bearer = format!("Bearer {token}");
    let with_key = [("Authorization", &*bearer)];
    // Whoever forwards would leave them on the request.
    let disguised = [("Authorization", &*bearer), ("X_Edge_Key_Id", "forged")];
    for (method, target, client, headers, status, kind) in [
        ("GET", "/orders?a=b", "192.0.2.7", &with_key[..], 200, ""),
        ("GET", "/orders", "192.0.2.7", &[], 401, "token-missing"),
        (
            "GET",
            "/orders",
            "198.51.100.7",
            &with_key,
            403,
            "address-denied",
        ),
        (
            "GET",
            "/secret",
            "192.0.2.7",
            &with_key,
            403,
            "permission-denied",
        ),
        (
            "GET",
            "/a/../secret",
            "192.0.2.7",
            &with_key,
            400,
            "ambiguous-path",
        ),
        ("GET", "/open/page", "198.51.100.7", &[], 200, ""),
        (
            "GET",
            "/orders",
            "192.0.2.7",
            &disguised,
            400,
            "field-disguised",
        ),
        (
            "POST",
            "/open/page",
            "198.51.100.7",
            &[("X.HTTP.Method.Override", "DELETE")],
            400,
            "field-disguised",
        ),
        // A preflight is answered by whoever forwards, and is no admission here.
        ("OPTIONS", "/orders", "192.0.2.7", &[], 401, "token-missing"),
        // A token that would reach the upstream in its target is none.
        (
            "GET",
            &format!("/query?key={token}"),
            "192.0.2.7",
            &[],
            401,
            "token-missing",
        ),
        (
            "GET",
            "orders",
            "192.0.2.7",
            &with_key,
            400,
            "question-unclear",
        ),
        (
            "GET",
            "/orders",
            "192.0.2.7, 192.0.2.8",
            &with_key,
            400,
            "question-unclear",
        ),
    ] {
        let answer = asked.traefik(method, target, client, headers);
        assert_eq!(
            answer.status,
            status,
            "{method} {target}: {}",
            answer.text()
        );
        if status == 200 {
            assert_eq!(answer.body, b"", "{target}");
        } else {
            let problem = format!("urn:cypheron-edge:problem:{kind}");
            assert_eq!(answer.json()["type"], problem, "{target}");
        }
    }
    let unheard = edge.count("cypheron_edge_decisions_unheard_total", "question-unclear");
    assert_eq!(unheard, 2);
    assert_eq!(asked.upstream.requests(), 0, "something was forwarded");
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
    // Those of the key: admitted (one of them in vain), or refused by name.
    assert_eq!(rows(edge), 4);
    let report = edge.ok(&["usage", "report", "--json"]);
    for expected in ["all", "secret", "address-denied", "permission-denied"] {
        assert!(report.contains(&format!("\"{expected}\"")), "{report}");
    }
    edge.ok(&["usage", "verify"]);
}

#[test]
fn an_admission_says_who_it_is_and_gives_back_what_was_no_token() {
    let asked = Asked::in_dialect("traefik");
    let edge = &asked.deployment;
    let token = edge.key("reader", &["--permission", "orders:read"]);
    let _running = edge.serve();
    let answer = asked.traefik(
        "GET",
        "/orders",
        "192.0.2.7",
        &[
            ("X-API-Key", &token),
            ("Authorization", "Bearer somebody.elses.token"),
            ("X-Edge-Key-Name", "forged"),
            ("X-Request-Id", "r-1"),
        ],
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (name, value) in [
        ("x-edge-key-name", Some("reader")),
        ("x-edge-permissions", Some("orders:read")),
        ("x-edge-route", Some("all")),
        ("x-request-id", Some("r-1")),
        ("authorization", Some("Bearer somebody.elses.token")),
        ("x-api-key", None),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert!(answer.header("x-edge-key-id").is_some());
    assert!(answer.header("ratelimit").is_some());
    let said = format!("{:?}", answer.headers);
    assert!(!said.contains(&token), "the token came back: {said}");
}

#[test]
fn a_question_of_a_stranger_is_not_heard() {
    let asked = Asked::in_dialect("traefik");
    let edge = &asked.deployment;
    let _running = edge.serve();
    for secret in [&[][..], &["wrong"], &["wrong", &SECRET.replace(' ', "-")]] {
        let mut headers = vec![
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Uri", "/open"),
            ("X-Forwarded-Host", "api.example.com"),
            ("X-Forwarded-For", "192.0.2.7"),
        ];
        headers.extend(
            secret
                .iter()
                .map(|secret| ("X-Edge-Decision-Secret", *secret)),
        );
        let answer = get(asked.place, "/", &headers);
        assert_eq!(answer.status, 403);
        let kind = "urn:cypheron-edge:problem:caller-unknown";
        assert_eq!(answer.json()["type"], kind);
    }
    let strangers = edge.count("cypheron_edge_decisions_unheard_total", "caller-unknown");
    assert_eq!(strangers, 3);
    assert!(!edge.log_text().contains("what-only-the-proxies"));
}

#[test]
fn envoy_asks_under_its_clients_own_method_and_target() {
    let asked = Asked::in_dialect("envoy");
    let edge = &asked.deployment;
    let token = edge.key("reader", &["--rate-limit", "2"]);
    let _running = edge.serve();
    let admitted = asked.envoy("/orders", &[("X-API-Key", &token)]);
    assert_eq!(admitted.status, 200, "{}", admitted.text());
    // Whatever the client said under these names goes.
    assert_eq!(
        admitted.header("x-envoy-auth-headers-to-remove"),
        Some("authorization,x-api-key")
    );
    let public = asked.envoy("/open", &[("X-Edge-Key-Id", "forged")]);
    let removed = public.header("x-envoy-auth-headers-to-remove").unwrap();
    assert!(
        removed.starts_with("x-edge-key-id,x-edge-key-name,"),
        "{removed}"
    );
    assert_eq!(asked.envoy("/orders", &[]).status, 401);
    asked.envoy("/orders", &[("X-API-Key", &token)]);
    let limited = asked.envoy("/orders", &[("X-API-Key", &token)]);
    assert_eq!(limited.status, 429);
    assert!(limited.header("retry-after").is_some());
    let spoofed = [("X-Original-Address", "192.0.2.9"), ("X-API-Key", &*token)];
    assert_eq!(asked.envoy("/orders", &spoofed).status, 400, "there twice");
}

#[test]
fn routes_are_reloaded_here_too_and_a_port_without_a_secret_is_refused() {
    let asked = Asked::in_dialect("traefik");
    let edge = &asked.deployment;
    let running = edge.serve();
    assert_eq!(asked.traefik("GET", "/new", "192.0.2.7", &[]).status, 401);
    let text = std::fs::read_to_string(edge.config()).unwrap();
    let reloaded = text.replace("path = \"/open\"", "path = \"/new\"");
    std::fs::write(edge.config(), reloaded).unwrap();
    running.signal(Signal::HUP);
    eventually("the route is public", || {
        asked.traefik("GET", "/new", "192.0.2.7", &[]).status == 200
    });
    let mut check = edge.command(&["check"]);
    let refused = check.env_remove("DECISION_SECRET").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let problems = String::from_utf8_lossy(&refused.stderr);
    assert!(problems.contains("DECISION_SECRET: not set"), "{problems}");
}

fn draining(idle: &str, in_all: &str) -> [(&'static str, String); 2] {
    [
        ("CYPHERON_EDGE__SERVER__DRAIN_IDLE", idle.to_owned()),
        ("CYPHERON_EDGE__SERVER__DRAIN_TIMEOUT", in_all.to_owned()),
    ]
}

#[test]
fn a_proxy_that_keeps_its_connection_is_told_by_an_answer_that_it_ends() {
    // Longer than the test takes on any machine.
    let asked = Asked::in_environment("envoy", draining("2m", "5m"));
    let edge = &asked.deployment;
    let mut running = edge.serve();
    let mut kept = Connection::open(asked.place).unwrap();
    let mut asks = || ask_as_envoy(&mut kept, "/open", &[]);
    assert_eq!(asks().unwrap().header("connection"), None);
    running.signal(Signal::TERM);
    let mut last = false;
    eventually("an answer is the last", || {
        let answer = asks().unwrap();
        assert_eq!(answer.status, 200);
        last = answer.header("connection") == Some("close");
        last
    });
    assert!(asks().is_err(), "there was another one");
    assert_eq!(running.wait(), Some(0), "{}", edge.log_text());
}

#[test]
fn a_connection_on_which_no_proxy_asks_holds_up_no_end() {
    let asked = Asked::in_environment("envoy", draining("50ms", "5m"));
    let edge = &asked.deployment;
    let mut running = edge.serve();
    let mut idle = Connection::open(asked.place).unwrap();
    let answer = ask_as_envoy(&mut idle, "/open", &[]).unwrap();
    assert_eq!(answer.status, 200);
    running.signal(Signal::TERM);
    eventually("it has ended", || running.ended().is_some());
    assert_eq!(running.wait(), Some(0), "{}", edge.log_text());
}

/// The settings of an edge that is asked over TLS.
fn over_tls(place: SocketAddr, certificate: &Certificate, more: &str) -> String {
    let certificates = certificate.files();
    format!(
        "[decisions.proxy]\ndialect = \"envoy\"\nlisten = \"{place}\"\n\
         certificates = [{certificates}]\n{more}\n\
         [[routes]]\nname = \"open\"\npath = \"/open\"\nupstream = \"app\"\npublic = true\n"
    )
}

/// What is answered over TLS to `proxy`, if anything is.
fn heard(
    place: SocketAddr,
    ours: &Certificate,
    proxy: Option<&Certificate>,
    secret: Option<&str>,
) -> io::Result<u16> {
    let mut connection = Connection::over(ours.connect_as(proxy, place)?);
    let mut headers = vec![("X-Original-Address", "192.0.2.7")];
    headers.extend(secret.map(|secret| ("X-Edge-Decision-Secret", secret)));
    let answer = connection.get("/open", &headers)?;
    Ok(answer.status)
}

#[test]
fn a_proxy_with_a_certificate_is_heard_without_a_secret_and_no_other_is() {
    let directory = tempfile::tempdir().unwrap();
    let [ours, proxy, stranger] =
        ["edge", "proxy", "stranger"].map(|file| Certificate::make(directory.path(), file));
    let (place, upstream) = (free_address(), Upstream::start());
    let more = format!("client_ca = '{}'", proxy.chain.display());
    let edge = Deployment::new(upstream.address, &over_tls(place, &ours, &more));
    let running = edge.serve();
    assert_eq!(heard(place, &ours, Some(&proxy), None).unwrap(), 200);
    for other in [None, Some(&stranger)] {
        assert!(heard(place, &ours, other, None).is_err());
    }
    let mut plain = Connection::open(place).unwrap();
    assert!(ask_as_envoy(&mut plain, "/open", &[]).is_err());
    let failed = edge.count("cypheron_edge_tls_handshakes_failed_total", "");
    assert_eq!(failed, 3);
    // The traffic port has certificates of its own, here none.
    assert_eq!(get(edge.traffic, "/open", &[]).status, 200);

    let renewed = Certificate::make(directory.path(), "edge");
    eventually("a certificate that was renewed is shown", || {
        heard(place, &renewed, Some(&proxy), None).is_ok_and(|status| status == 200)
    });
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
}

#[test]
fn over_tls_without_an_authority_the_secret_is_the_proof() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Certificate::make(directory.path(), "edge");
    let (place, upstream) = (free_address(), Upstream::start());
    let secret = SECRET.replace(' ', "-");
    let environment = [("DECISION_SECRET", secret.clone())];
    let settings = over_tls(place, &ours, "");
    let edge = Deployment::in_environment(upstream.address, &settings, environment);
    let _running = edge.serve();
    for (given, status) in [(Some(&*secret), 200), (Some("wrong"), 403), (None, 403)] {
        assert_eq!(heard(place, &ours, None, given).unwrap(), status);
    }
    let mut check = edge.command(&["check"]);
    let refused = check.env_remove("DECISION_SECRET").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

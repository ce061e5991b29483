//! What is tried on a proxy that asks the edge, whichever proxy it is.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{self, get, raw};
use crate::process::{Deployment, Edge, eventually, free_address};
use crate::serving::rows;
use crate::upstream::Upstream;

/// An application and an edge, and a proxy that asks the edge.
pub struct Scene {
    pub deployment: Deployment,
    pub address: SocketAddr,
    edge: Option<Edge>,
    proxy: Child,
    _upstream: Upstream,
    _directory: TempDir,
}

/// What a proxy is set up with.
pub struct Place<'p> {
    pub directory: &'p std::path::Path,
    /// Where it is to listen, and where the application does.
    pub address: SocketAddr,
    pub application: SocketAddr,
}

impl Drop for Scene {
    fn drop(&mut self) {
        // What has a master takes its workers along.
        let id = i32::try_from(self.proxy.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).ok();
        self.proxy.wait().ok();
    }
}

impl Scene {
    /// With the settings and the environment of an edge that is asked, and the
    /// proxy's command.
    pub fn set(
        listener: impl FnOnce(&Place<'_>) -> (String, Vec<(&'static str, String)>),
        proxy: impl FnOnce(&Place<'_>) -> Command,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let upstream = Upstream::start();
        let place = Place {
            directory: directory.path(),
            address: free_address(),
            application: upstream.address,
        };
        let (listener, environment) = listener(&place);
        let settings = [&listener, SETTINGS].concat();
        let deployment = Deployment::in_environment(upstream.address, &settings, environment);
        let edge = deployment.serve();
        let log = place.directory.join("log");
        let proxy = proxy(&place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut scene = Self {
            deployment,
            address: place.address,
            edge: Some(edge),
            proxy,
            _upstream: upstream,
            _directory: directory,
        };
        eventually("the proxy listens", || {
            if let Some(status) = scene.proxy.try_wait().unwrap() {
                panic!("{status}: {}", fs::read_to_string(&log).unwrap());
            }
            TcpStream::connect(scene.address).is_ok()
        });
        scene
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> client::Response {
        get(self.address, path, headers)
    }

    pub fn stop_the_edge(&mut self) {
        assert_eq!(self.edge.take().unwrap().stop(), Some(0));
    }

    pub fn start_the_edge(&mut self) {
        self.edge = Some(self.deployment.serve());
        eventually("the new edge is asked", || {
            self.get("/open", &[]).status == 200
        });
    }
}

const SETTINGS: &str = r#"
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

[[routes]]
name = "hosted"
host = "secret.example.com"
path = "/"
upstream = "app"
permission = "secret:read"
"#;

/// What only the proxy or the edge says, and what is another method, target or
/// client to some.
const FORGED: &[(&str, &str)] = &[
    ("X-Original-URI", "/open"),
    ("X-Original-Url", "/open"),
    ("X-Original-Method", "OPTIONS"),
    ("X-Original-Host", "open.example.com"),
    ("X-Original-Address", "192.0.2.1"),
    ("X_Original_URI", "/open"),
    ("X-Original_URI", "/open"),
    ("X-Forwarded-Uri", "/open"),
    ("X-Forwarded-Method", "OPTIONS"),
    ("X-Forwarded-Host", "open.example.com"),
    ("X-Forwarded-For", "192.0.2.1"),
    ("Forwarded", "for=192.0.2.1"),
    ("X-Real-IP", "192.0.2.1"),
    ("X-Rewrite-URL", "/open"),
    ("X-HTTP-Method-Override", "OPTIONS"),
    ("X-Edge-Key-Id", "0192aaaa-0000-7000-8000-000000000000"),
    ("X_Edge_Key_Id", "0192aaaa-0000-7000-8000-000000000000"),
    ("X-Edge-Key-Name", "admin"),
    ("X-Edge-Permissions", "secret:read"),
    ("X-Edge-Route", "open"),
    ("X-Edge-Status", "forged-status"),
    ("X-Edge-Decision-Secret", "guessed"),
    ("X-Edge-Problem", "forged-problem"),
    ("X-Edge-Assertion", "forged-assertion"),
    ("X-Edge-Client-Subject", "CN=forged"),
    ("X-Edge-Client-Fingerprint", "f0f1f2f3"),
    ("X-Forwarded-Port", "4443"),
    ("X-Forwarded-Prefix", "/open"),
    ("X-Forwarded-Proto", "https"),
    ("X-HTTP-Method", "OPTIONS"),
    ("X-Method-Override", "OPTIONS"),
    ("Content-Length", "0"),
    (
        "Connection",
        "X-Original-URI, X-Original-Address, X-Edge-Key-Id, X-Edge-Decision-Secret",
    ),
];

const TARGETS: &[&str] = &[
    "/orders",
    "/orders/",
    "/orders?a=/../secret",
    "/orders;x=y",
    "/orders%20x",
    "/secret",
    "/secret/",
    "/secret?x",
    "/Secret",
    "/open/../secret",
    "/open/..;/secret",
    "/open/%2e%2e/secret",
    "/open/.%2E/secret",
    "/open/..%2fsecret",
    "/open%2f..%2fsecret",
    "/open/..%5csecret",
    "/open/..\\secret",
    "/./secret",
    "//secret",
    "/open//../secret",
    "///secret",
    "/%73ecret",
    "/s%65cret/x",
    "/secret;a=b",
    "/secret%3ba",
    "/open%00/secret",
    "/open/%zz",
    "/open#/../secret",
    "/secret#/open",
    "/open?x#y",
    "http://edge.test/secret",
    "http://secret.example.com/orders",
    "http://edge.test",
    "http://edge.test?x=/open",
    "http://user@edge.test/orders",
    "https://edge.test/orders",
    "//edge.test/secret",
    "*",
    "edge.test:443",
    "secret",
    "",
    "?x",
    "/or ders",
    "/\u{f6}ffentlich",
    "/orders\tx",
];

/// What the edge admits comes to the application with the edge's word for it.
#[track_caller]
pub fn what_is_admitted_is_vouched_for(scene: &Scene) {
    let reader = &["--permission", "orders:read"];
    let token = scene.deployment.key("reader", reader);
    let bearer = format!("Bearer {token}");
    let own = ("Authorization", "Bearer its.own.token");
    for headers in [
        &[("Authorization", &*bearer)][..],
        &[("X-API-Key", &*token), own],
    ] {
        let admitted = scene.get("/orders?a=b", headers);
        assert_eq!(admitted.status, 200, "{}", admitted.text());
        assert!(admitted.header("ratelimit").is_some());
        let seen = admitted.text().to_lowercase();
        assert!(seen.starts_with("get /orders?a=b http/1.1\r\n"), "{seen}");
        for field in [
            "x-edge-key-name: reader\r\n",
            "x-edge-permissions: orders:read\r\n",
            "x-edge-route: all\r\n",
            "x-forwarded-for: 127.0.0.1\r\n",
            "host: edge.test\r\n",
        ] {
            assert!(seen.contains(field), "no {field} in {seen}");
        }
        let theirs = seen.contains("authorization: bearer its.own.token\r\n");
        assert_eq!(theirs, headers.contains(&own), "{seen}");
        let token = token.to_lowercase();
        assert!(!seen.contains(&token), "the application saw the token");
    }
    let open = scene.get("/open", &[]);
    assert_eq!(open.status, 200);
    let seen = open.text().to_lowercase();
    assert!(seen.contains("x-edge-route: open\r\n"), "{seen}");
}

/// What the edge refuses is refused in its words; with `unasked` where there is
/// no edge, until there is one again.
#[track_caller]
pub fn what_is_refused_is_refused_in_the_edges_words(mut scene: Scene, unasked: u16) {
    let token = scene.deployment.key("twice", &["--rate-limit", "2"]);
    refusals_are_in_the_edges_words(scene.address, &token);
    scene.stop_the_edge();
    assert_eq!(rows(&scene.deployment), 4, "of the key's requests");
    let nobody = scene.get("/open", &[]);
    assert_eq!(nobody.status, unasked, "nobody gets in");
    scene.start_the_edge();
}

/// With the token of a key that has two requests, and of which four are recorded.
#[track_caller]
fn refusals_are_in_the_edges_words(proxy: SocketAddr, token: &str) {
    let with_key = [("X-API-Key", token)];
    for (path, headers, status, kind) in [
        ("/orders", &[][..], 401, "token-missing"),
        (
            "/orders",
            &[("X-API-Key", "cyk_live_0nonsense")],
            401,
            "token-malformed",
        ),
        ("/secret", &with_key, 403, "permission-denied"),
        ("/a//b", &with_key, 400, "ambiguous-path"),
        ("/orders", &with_key, 200, ""),
        ("/orders", &with_key, 200, ""),
        ("/orders", &with_key, 429, "rate-limited"),
    ] {
        let answer = get(proxy, path, headers);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        if status == 200 {
            continue;
        }
        let document = Some("application/problem+json");
        assert_eq!(answer.header("content-type"), document);
        let problem = format!("urn:cypheron-edge:problem:{kind}");
        assert_eq!(answer.json()["type"], problem);
        let is_challenge = |name: &str| name.eq_ignore_ascii_case("www-authenticate");
        let challenges = answer.headers.iter().filter(|(name, _)| is_challenge(name));
        assert_eq!(challenges.count(), usize::from(status == 401), "{answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), status == 429);
        assert!(answer.header("x-request-id").is_some());
    }
}

/// Of a client, nothing is believed, and nothing comes through.
#[track_caller]
pub fn forged_fields_are_not_believed(scene: &Scene) {
    let (deployment, proxy) = (&scene.deployment, scene.address);
    let here = deployment.key("reader", &["--allow-ip", "127.0.0.1"]);
    let elsewhere = deployment.key("elsewhere", &["--allow-ip", "192.0.2.1"]);
    for &(name, value) in FORGED {
        // Once, and twice: before and behind what the proxy sets.
        for times in [1, 2] {
            let with = |token: &str, path: &str| {
                let key = [("X-API-Key", token)];
                get(
                    proxy,
                    path,
                    &[&key[..], &vec![(name, value); times]].concat(),
                )
            };
            for (token, path) in [(&here, "/secret"), (&elsewhere, "/orders")] {
                let refused = with(token, path);
                let text = refused.text();
                assert!(matches!(refused.status, 400 | 403), "{name}: {text}");
            }
            for path in ["/orders", "/open"] {
                let admitted = with(&here, path);
                if admitted.status == 400 {
                    continue;
                }
                assert_eq!(admitted.status, 200, "{name}: {}", admitted.text());
                let seen = admitted.text().to_lowercase();
                // What is said of the hop, and what is true.
                if matches!(name, "Content-Length" | "Connection")
                    || (path, name) == ("/open", "X-Edge-Route")
                {
                    continue;
                }
                let (_, fields) = seen.split_once("\r\n").unwrap();
                let (name, value) = (name.to_lowercase(), value.to_lowercase());
                let line = format!("{name}: {value}\r\n");
                assert!(!fields.contains(&line), "{name} came through: {seen}");
                assert!(
                    path == "/open" || !fields.contains(&value),
                    "{name} came through: {seen}"
                );
            }
        }
    }
    let two = [("X-API-Key", &*here), ("X-API-Key", &*here)];
    assert_eq!(get(proxy, "/orders", &two).status, 401, "two tokens");
}

/// A target is refused, or the upstream gets the one that was decided on.
#[track_caller]
pub fn odd_targets_are_what_was_decided_on(scene: &Scene) {
    let token = scene.deployment.key("reader", &[]);
    let proxy = scene.address;
    let mut admitted = 0;
    for target in TARGETS {
        for (method, host) in [
            ("GET", "edge.test"),
            ("POST", "edge.test"),
            ("GET", "secret.example.com"),
            ("GET", "SECRET.example.com:8000"),
            ("GET", "secret.example.com."),
            ("OPTIONS", "edge.test"),
        ] {
            let request = format!(
                "{method} {target} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {token}\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let answer = raw(proxy, &request);
            let case = format!("{method} {target} for {host}: {answer:?}");
            if answer.status != 200 {
                assert!((400..500).contains(&answer.status), "{case}");
                continue;
            }
            let seen = answer.text();
            admitted += 1;
            let line = seen.lines().next().unwrap();
            let path = match target.split_once("://") {
                // A target in absolute form is forwarded as its path.
                Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
                None => target,
            };
            assert_eq!(line, format!("{method} {path} HTTP/1.1"), "{case}");
            // Other names: an encoded `;` is one of its characters.
            let others = ["/Secret", "/secret%3ba", "/orders?a=/../secret"];
            assert!(
                !path.to_lowercase().contains("secret") || others.contains(&path),
                "{case}"
            );
            let seen = seen.to_lowercase();
            assert!(!seen.contains("\r\nhost: secret."), "{case}");
            let open = path.starts_with("/open");
            let route = if open { "open" } else { "all" };
            let field = format!("\r\nx-edge-route: {route}\r\n");
            assert!(seen.contains(&field), "{case}");
        }
    }
    assert!(
        admitted >= 12,
        "{admitted} were admitted: too little was tried"
    );
    // A host that is there twice, or said otherwise in the target.
    for hosts in [
        "Host: edge.test\r\nHost: secret.example.com",
        "Host: edge.test, secret.example.com",
    ] {
        let request = format!(
            "GET /orders HTTP/1.1\r\n{hosts}\r\nX-API-Key: {token}\r\nConnection: close\r\n\r\n"
        );
        let answer = raw(proxy, &request);
        assert_eq!(answer.status, 400, "{hosts}: {answer:?}");
    }
}

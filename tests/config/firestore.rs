//! Where Firestore is, as platforms say it.

use std::collections::BTreeMap;

use cypheron_edge::config::{self, Config, Purpose};
use cypheron_edge::repository::{FirestoreConfig, StoreKind};

const PROJECT: (&str, &str) = ("GOOGLE_CLOUD_PROJECT_ID", "a-project");

/// Read with nothing written of `[keys]`.
fn read(text: &str, variables: &[(&str, &str)]) -> config::Reading {
    let mut all = crate::variables(variables);
    all.remove("CYPHERON_EDGE__KEYS__STORE");
    config::parse(text, &all as &BTreeMap<_, _>, Purpose::Operate)
}

#[track_caller]
fn accepted(text: &str, variables: &[(&str, &str)]) -> Config {
    let reading = read(text, variables);
    reading
        .config
        .unwrap_or_else(|problems| panic!("{problems}"))
}

#[track_caller]
fn refused(text: &str, variables: &[(&str, &str)]) -> String {
    read(text, variables).config.unwrap_err().to_string()
}

#[test]
fn the_project_alone_chooses_firestore() {
    let config = accepted("", &[PROJECT]);
    assert_eq!(config.keys.store, Some(StoreKind::Firestore));
    assert_eq!(config.firestore, Some(FirestoreConfig::new("a-project")));
}

#[test]
fn every_part_can_be_set() {
    let config = accepted(
        "[keys]\nstore = \"firestore\"",
        &[
            PROJECT,
            ("FIRESTORE_DATABASE", "edge"),
            ("FIRESTORE_COLLECTION", "keys"),
            ("FIRESTORE_EMULATOR_HOST", "localhost:8080"),
            // An emulator is asked without.
            ("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json"),
        ],
    );
    let expected = FirestoreConfig {
        project: "a-project".into(),
        database: "edge".into(),
        collection: "keys".into(),
        emulator: Some("localhost:8080".into()),
        credentials: Some("/nowhere/key.json".into()),
    };
    assert_eq!(config.firestore, Some(expected));
}

#[test]
fn what_is_written_wins() {
    let text = "[keys]\nstore = \"embedded\"";
    let config = accepted(text, &[PROJECT]);
    assert_eq!(config.keys.store, Some(StoreKind::Embedded));
    let effective = read(text, &[PROJECT]).effective.to_string();
    assert!(
        effective.contains("# GOOGLE_CLOUD_PROJECT_ID is set, and not used"),
        "{effective}"
    );
}

#[test]
fn what_is_in_effect_is_told() {
    let emulator = ("FIRESTORE_EMULATOR_HOST", "127.0.0.1:8080");
    let effective = read("", &[PROJECT, emulator]).effective.to_string();
    let told = "# Firestore is a-project/(default)/api_keys in the emulator at 127.0.0.1:8080";
    assert!(effective.contains(told), "{effective}");
}

#[test]
fn what_cannot_be_is_refused_by_name_and_all_at_once() {
    let problems = refused(
        "",
        &[
            ("GOOGLE_CLOUD_PROJECT_ID", "A project"),
            ("FIRESTORE_DATABASE", "a/b"),
            ("FIRESTORE_COLLECTION", "a/b"),
            ("FIRESTORE_EMULATOR_HOST", "http://localhost:8080"),
        ],
    );
    for name in [
        "GOOGLE_CLOUD_PROJECT_ID: `A project`",
        "FIRESTORE_DATABASE: `a/b`",
        "FIRESTORE_COLLECTION: `a/b`",
        "FIRESTORE_EMULATOR_HOST: `http://localhost:8080`",
    ] {
        assert!(problems.contains(name), "{problems}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (text, variables, problem) in [
        (
            "",
            &[][..],
            "keys.store: is not set: set GOOGLE_CLOUD_PROJECT_ID",
        ),
        (
            "[keys]\nstore = \"firestore\"",
            &[],
            "keys.store: chooses Firestore",
        ),
        (
            "",
            &[("FIRESTORE_EMULATOR_HOST", "localhost:8080")],
            "FIRESTORE_EMULATOR_HOST: set without GOOGLE_CLOUD_PROJECT_ID",
        ),
        (
            "",
            &[
                PROJECT,
                ("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json"),
            ],
            "GOOGLE_APPLICATION_CREDENTIALS: /nowhere/key.json: No such file",
        ),
    ] {
        let problems = refused(text, variables);
        assert!(problems.contains(problem), "{problems}");
    }
}

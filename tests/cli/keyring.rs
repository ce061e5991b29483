//! `keyring`, and what happens without the right one.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::{Deployment, Ran};

#[test]
fn a_keyring_is_made_once() {
    let deployment = Deployment::new();
    let before = deployment.json(&["keyring", "show", "--json"]);
    let error = deployment.fails(1, &["keyring", "init"]);
    assert!(error.contains("already"), "{error}");
    assert_eq!(deployment.json(&["keyring", "show", "--json"]), before);
}

#[test]
fn a_keyring_is_shown_without_the_password_and_without_secrets() {
    let deployment = Deployment::new();
    let shown = deployment.run_without_password(&["keyring", "show"]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(shown.out.contains("x25519-mlkem768"), "{}", shown.out);
    let json = deployment.json(&["keyring", "show", "--json"]);
    assert_eq!(json["keys"].as_array().unwrap().len(), 1);
    assert_eq!(json["generations"][0], "0");
}

#[test]
fn a_new_data_directory_is_its_owners_only() {
    let deployment = Deployment::new();
    for (file, mode) in [("data", 0o700), ("data/keys.db", 0o600)] {
        let permissions = fs::metadata(deployment.path(file)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{file}");
    }
}

#[test]
fn without_a_keyring_the_command_that_makes_one_is_named_and_nothing_is_made() {
    let deployment = Deployment::without_keyring();
    for arguments in [
        &["keys", "list"][..],
        &["keys", "create", "--name", "a"],
        &["keyring", "show"],
        &["keyring", "rewrap"],
    ] {
        let error = deployment.fails(2, arguments);
        assert!(error.contains("cypheron-edge keyring init"), "{error}");
    }
    assert!(!deployment.path("data").exists());
}

#[test]
fn a_wrong_password_is_refused_with_the_keyring_it_is_wrong_for() {
    let deployment = Deployment::new();
    for arguments in [
        &["keys", "create", "--name", "a"][..],
        &["keyring", "rewrap"],
    ] {
        let mut command = deployment.command(arguments);
        command.env("PQ_ENCRYPTION_PASSWORD", "another password, but a long one");
        let ran = Ran::of(&command.output().unwrap());
        assert_eq!(ran.code, Some(2), "{}", ran.err);
        assert!(
            ran.err.contains("`api_keys`") && ran.err.contains("keys.db"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_short_or_missing_password_makes_no_keyring() {
    let deployment = Deployment::without_keyring();
    let missing = deployment.run_without_password(&["keyring", "init"]);
    assert_eq!(missing.code, Some(2));
    assert!(
        missing.err.contains("PQ_ENCRYPTION_PASSWORD: not set"),
        "{}",
        missing.err
    );
    let mut command = deployment.command(&["keyring", "init"]);
    command.env("PQ_ENCRYPTION_PASSWORD", "hunter2");
    let short = Ran::of(&command.output().unwrap());
    assert_eq!(short.code, Some(2));
    assert!(short.err.contains("32 characters"), "{}", short.err);
    assert!(!short.err.contains("hunter2"), "{}", short.err);
}

#[test]
fn nothing_is_left_to_rewrap_under_the_only_key() {
    let deployment = Deployment::new();
    let token = deployment.ok(&["keys", "create", "--name", "a", "--recoverable"]);
    let ran = deployment.run(&["keyring", "rewrap"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (Some(0), "0 of 1 records sealed again\n")
    );
    assert_eq!(deployment.ok(&["keys", "reveal", "a"]), token);
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_as_it_is() {
    let deployment = Deployment::new();
    let file = deployment.path("data/keys.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 999).unwrap();
    connection
        .pragma_update(None, "wal_checkpoint", "TRUNCATE")
        .unwrap();
    drop(connection);
    let before = fs::read(&file).unwrap();
    for arguments in [&["keys", "list"][..], &["keyring", "init"]] {
        let error = deployment.fails(2, arguments);
        assert!(error.contains("version 999"), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), before);
}

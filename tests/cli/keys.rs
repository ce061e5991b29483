//! `keys`

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use cypheron_edge::clock::Timestamp;

use crate::Deployment;

#[test]
fn the_token_alone_is_on_the_standard_output() {
    let ran = Deployment::new().run(&["keys", "create", "--name", "billing"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let (token, rest) = ran.out.split_once('\n').unwrap();
    assert!(token.starts_with("cyk_live_"), "{token}");
    assert_eq!((token.len(), rest), ("cyk_live_".len() + 59, ""));
    assert!(!ran.err.contains(token), "{}", ran.err);
}

#[test]
fn a_key_has_what_it_was_created_with() {
    let deployment = Deployment::new();
    deployment.ok(&[
        "keys",
        "create",
        "--name",
        "billing",
        "--permission",
        "orders:*",
        "--permission",
        "a",
        "--rate-limit",
        "7",
        "--expires-at",
        "2099-01-01T00:00:00Z",
        "--allow-ip",
        "192.0.2.7",
        "--allow-ip",
        "2001:db8::/32",
    ]);
    let key = deployment.json(&["keys", "show", "billing", "--json"]);
    assert_eq!(key["name"], "billing");
    assert_eq!(key["permissions"], serde_json::json!(["orders:*", "a"]));
    assert_eq!(key["rate_limit"], 7);
    assert_eq!(key["expires_at"], "2099-01-01T00:00:00Z");
    assert_eq!(
        key["allowed_ips"],
        serde_json::json!(["192.0.2.7/32", "2001:db8::/32"])
    );
    assert_eq!(key["is_active"], true);
    assert_eq!(key["envelope"], "opens");
    assert_eq!(key["recoverable"], false);
}

#[test]
fn a_lifetime_is_counted_from_now() {
    let deployment = Deployment::new();
    let created = deployment.json(&[
        "keys",
        "create",
        "--name",
        "a",
        "--expires-in",
        "90d",
        "--json",
    ]);
    let moment = |field: &str| {
        let text = created["key"][field].as_str().unwrap();
        Timestamp::parse(text).unwrap().as_micros()
    };
    let lifetime = moment("expires_at") - moment("created_at");
    let days = 90 * 24 * 3600 * 1_000_000;
    assert!((days - 1_000_000..=days).contains(&lifetime), "{lifetime}");
}

#[test]
fn a_token_can_go_to_a_file_that_only_its_owner_can_read() {
    let deployment = Deployment::new();
    let file = deployment.path("token");
    let path = file.to_str().unwrap();
    let out = deployment.ok(&["keys", "create", "--name", "a", "--token-to", path]);
    assert_eq!(out, "");
    let token = fs::read_to_string(&file).unwrap();
    assert!(token.starts_with("cyk_live_"), "{token}");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let error = deployment.fails(2, &["keys", "create", "--name", "b", "--token-to", path]);
    assert!(error.contains("--token-to"), "{error}");
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        token,
        "the first one is kept"
    );
    let keys = deployment.json(&["keys", "list", "--json"]);
    assert_eq!(
        keys.as_array().unwrap().len(),
        1,
        "no key without a place for its token"
    );
}

#[test]
fn a_failed_command_leaves_no_token_file() {
    let deployment = Deployment::new();
    let file = deployment.path("token");
    let path = file.to_str().unwrap();
    deployment.fails(1, &["keys", "rotate", "nobody", "--token-to", path]);
    assert!(!file.exists());
}

#[test]
fn keys_are_listed_for_people_and_for_programs() {
    let deployment = Deployment::new();
    for name in ["billing", "search"] {
        deployment.ok(&[
            "keys",
            "create",
            "--name",
            name,
            "--permission",
            "orders:read",
        ]);
    }
    deployment.ok(&["keys", "revoke", "search"]);

    let names = |arguments: &[&str]| -> Vec<String> {
        let keys = deployment.json(&[&["keys", "list", "--json"], arguments].concat());
        let keys = keys.as_array().unwrap();
        keys.iter()
            .map(|key| key["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&[]), ["billing", "search"]);
    assert_eq!(names(&["--active"]), ["billing"]);
    assert_eq!(names(&["--inactive"]), ["search"]);
    assert_eq!(names(&["--name", "ill"]), ["billing"]);

    let table = deployment.ok(&["keys", "list"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("ID "), "{table}");
    let column = lines[0].find("NAME").unwrap();
    assert_eq!(&lines[1][column..column + 7], "billing", "{table}");
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let deployment = Deployment::new();
    deployment.ok(&[
        "keys",
        "create",
        "--name",
        "a",
        "--permission",
        "x",
        "--allow-ip",
        "192.0.2.7",
        "--expires-in",
        "1h",
    ]);
    let updated = deployment.json(&["keys", "update", "a", "--rate-limit", "5", "--json"]);
    assert_eq!(updated["rate_limit"], 5);
    assert_eq!(updated["permissions"], serde_json::json!(["x"]));
    assert_eq!(updated["revision"], 2);
    let updated = deployment.json(&[
        "keys",
        "update",
        "a",
        "--no-permissions",
        "--any-ip",
        "--never-expires",
        "--name",
        "b",
        "--json",
    ]);
    assert_eq!(updated["permissions"], serde_json::json!([]));
    assert_eq!(updated["allowed_ips"], serde_json::json!([]));
    assert_eq!(updated["expires_at"], serde_json::Value::Null);
    assert_eq!(updated["name"], "b");
    let error = deployment.fails(2, &["keys", "update", "b"]);
    assert!(error.contains("nothing to change"), "{error}");
}

#[test]
fn a_revocation_needs_no_password_and_with_it_can_be_taken_back() {
    let deployment = Deployment::new();
    for name in ["sealed", "unsealed"] {
        deployment.ok(&["keys", "create", "--name", name]);
    }
    deployment.ok(&["keys", "revoke", "sealed"]);
    deployment.ok(&["keys", "update", "sealed", "--activate"]);
    let key = deployment.json(&["keys", "show", "sealed", "--json"]);
    assert_eq!(key["is_active"], true);

    let ran = deployment.run_without_password(&["keys", "revoke", "unsealed"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let key = deployment.json(&["keys", "show", "unsealed", "--json"]);
    assert_eq!(
        (&key["is_active"], &key["envelope"]),
        (&false.into(), &"tampered".into())
    );
    deployment.fails(1, &["keys", "update", "unsealed", "--activate"]);
}

#[test]
fn a_revocation_goes_on_with_a_wrong_password_and_says_so() {
    let deployment = Deployment::new();
    deployment.ok(&["keys", "create", "--name", "a"]);
    let mut command = deployment.command(&["keys", "revoke", "a"]);
    command.env("PQ_ENCRYPTION_PASSWORD", "another password, but a long one");
    let ran = crate::Ran::of(&command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(
        ran.err.contains("going on without the keyring"),
        "{}",
        ran.err
    );
}

#[test]
fn a_deleted_key_is_gone() {
    let deployment = Deployment::new();
    deployment.ok(&["keys", "create", "--name", "a"]);
    deployment.ok(&["keys", "delete", "a"]);
    assert_eq!(
        deployment.json(&["keys", "list", "--json"]),
        serde_json::json!([])
    );
    let error = deployment.fails(1, &["keys", "show", "a"]);
    assert!(error.contains("no key `a`"), "{error}");
}

#[test]
fn a_rotation_issues_a_successor_and_ends_the_old_key() {
    let deployment = Deployment::new();
    let old = deployment.json(&[
        "keys",
        "create",
        "--name",
        "a",
        "--permission",
        "x",
        "--json",
    ]);
    let old_id = old["key"]["id"].as_str().unwrap();
    let token = deployment.ok(&["keys", "rotate", "a", "--overlap", "1h"]);
    assert_ne!(old["token"], token);
    let ended = deployment.json(&["keys", "show", old_id, "--json"]);
    assert!(ended["expires_at"].is_string(), "{ended}");

    let error = deployment.fails(1, &["keys", "show", "a"]);
    assert!(
        error.contains(old_id),
        "a name of two keys is refused with their ids: {error}"
    );
}

#[test]
fn only_a_recoverable_token_can_be_shown_again() {
    let deployment = Deployment::new();
    let token = deployment.ok(&["keys", "create", "--name", "kept", "--recoverable"]);
    deployment.ok(&["keys", "create", "--name", "lost"]);
    assert_eq!(deployment.ok(&["keys", "reveal", "kept"]), token);
    let error = deployment.fails(1, &["keys", "reveal", "lost"]);
    assert!(error.contains("not created recoverable"), "{error}");
}

#[test]
fn what_cannot_be_a_setting_of_a_key_is_a_usage_error() {
    let deployment = Deployment::without_keyring();
    for (option, value) in [
        ("--permission", "Orders Read"),
        ("--rate-limit", "0"),
        ("--expires-in", "soon"),
        ("--expires-at", "tomorrow"),
        ("--allow-ip", "192.0.2"),
        ("--name", ""),
    ] {
        let arguments = ["keys", "create", "--name", "a", option, value];
        let arguments = if option == "--name" {
            &arguments[..4]
        } else {
            &arguments[..]
        };
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| {
                if option == "--name" && *argument == "a" {
                    value
                } else {
                    argument
                }
            })
            .collect();
        let error = deployment.fails(2, &arguments);
        assert!(error.contains(option), "{error}");
    }
}

#[test]
fn a_key_that_has_ended_already_is_not_issued() {
    let deployment = Deployment::new();
    let past = [
        "keys",
        "create",
        "--name",
        "a",
        "--expires-at",
        "2020-01-01T00:00:00Z",
    ];
    let error = deployment.fails(2, &past);
    assert!(error.contains("2020-01-01T00:00:00Z"), "{error}");
    assert_eq!(
        deployment.json(&["keys", "list", "--json"]),
        serde_json::json!([])
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let deployment = Deployment::new();
    let mut child = deployment
        .command(&["keys", "list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn what_was_done_is_in_the_audit_log() {
    let deployment = Deployment::new();
    deployment.ok(&["keys", "create", "--name", "a"]);
    deployment.ok(&["keys", "update", "a", "--rate-limit", "5"]);
    deployment.ok(&["keys", "revoke", "a"]);
    let log = rusqlite::Connection::open(deployment.path("data/usage.db")).unwrap();
    let mut rows = log
        .prepare("SELECT action, revision, actor FROM audit_log ORDER BY at, rowid")
        .unwrap();
    let rows: Vec<(String, Option<i64>, String)> = rows
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let done: Vec<_> = rows.iter().map(|row| (row.0.as_str(), row.1)).collect();
    assert_eq!(
        done,
        [
            ("keyring_init", None),
            ("create", Some(1)),
            ("update", Some(2)),
            ("revoke", Some(3))
        ]
    );
    assert!(rows.iter().all(|row| row.2.starts_with("uid ")), "{rows:?}");
}

#[test]
fn without_an_audit_log_access_can_be_taken_away_and_nothing_else() {
    let deployment = Deployment::new();
    deployment.ok(&["keys", "create", "--name", "a"]);
    fs::write(deployment.path("data/usage.db"), "no database").unwrap();
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(deployment.path(&format!("data/usage.db{suffix}"))).ok();
    }
    let error = deployment.fails(1, &["keys", "create", "--name", "b"]);
    assert!(error.contains("audit log"), "{error}");
    deployment.ok(&["keys", "revoke", "a"]);
    deployment.ok(&["keys", "delete", "a"]);
}

#[test]
fn a_revocation_goes_on_when_the_password_file_is_gone() {
    let deployment = Deployment::new();
    deployment.ok(&["keys", "create", "--name", "a"]);
    let mut command = deployment.command(&["keys", "revoke", "a"]);
    command
        .env_remove("PQ_ENCRYPTION_PASSWORD")
        .env("PQ_ENCRYPTION_PASSWORD_FILE", "/nowhere");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("/nowhere"), "{said}");
}

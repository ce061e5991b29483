//! `keyring rotate` and `keyring password`.

use std::process::{Command, Stdio};

use crate::{Deployment, Ran};

const NEW: &str = "another password, and it is just as long";

impl Deployment {
    fn with_new(&self, arguments: &[&str], new: &str) -> Command {
        let mut command = self.command(arguments);
        command.env("PQ_ENCRYPTION_NEW_PASSWORD", new);
        command
    }

    /// Runs with the new password as the one that opens the keyring.
    fn after(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        command.env("PQ_ENCRYPTION_PASSWORD", NEW);
        run(command)
    }

    fn versions(&self) -> u64 {
        self.json(&["keyring", "show", "--json"])["version"]
            .as_u64()
            .unwrap()
    }

    fn audited(&self) -> Vec<String> {
        let database = rusqlite::Connection::open(self.path("data/usage.db")).unwrap();
        let mut statement = database
            .prepare("SELECT action FROM audit_log ORDER BY id")
            .unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

fn run(mut command: Command) -> Ran {
    Ran::of(&command.output().unwrap())
}

#[track_caller]
fn succeeds(ran: Ran) -> Ran {
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    ran
}

#[track_caller]
fn refuses(ran: &Ran, code: i32, why: &str) {
    assert_eq!(ran.code, Some(code), "{}", ran.err);
    assert!(ran.err.contains(why), "{}", ran.err);
    assert_eq!(ran.out, "");
}

#[test]
fn a_key_is_added_then_promoted_then_seals_every_record() {
    let deployment = Deployment::new();
    let token = deployment.ok(&["keys", "create", "--name", "a", "--recoverable"]);
    let first = deployment.json(&["keyring", "show", "--json"])["keys"][0]["id"].clone();

    let added = succeeds(deployment.run(&["keyring", "rotate"]));
    assert!(
        added.err.contains("cypheron_edge_keyring_version is 2"),
        "{}",
        added.err
    );
    let id = added.out.trim_end();
    let shown = deployment.json(&["keyring", "show", "--json"]);
    assert_eq!(shown["keys"][0]["id"], first);
    assert_eq!(shown["keys"][0]["primary"], true);
    assert_eq!(shown["keys"][1]["id"], id);
    assert_eq!(shown["keys"][1]["primary"], false);

    assert_eq!(deployment.ok(&["keyring", "rotate", "--promote"]), id);
    let again = succeeds(deployment.run(&["keyring", "rotate", "--promote"]));
    assert!(again.err.contains("already"), "{}", again.err);
    assert_eq!(deployment.versions(), 3);
    let rewrapped = deployment.run(&["keyring", "rewrap"]);
    assert!(rewrapped.err.contains("1 of 1"), "{}", rewrapped.err);
    assert_eq!(deployment.ok(&["keys", "reveal", "a"]), token);

    let back = first.as_str().unwrap();
    assert_eq!(
        deployment.ok(&["keyring", "rotate", "--promote", back]),
        back
    );
    assert_eq!(
        deployment.audited(),
        [
            "keyring_init",
            "create",
            "keyring_rotate",
            "keyring_promote",
            "rewrap",
            "reveal",
            "keyring_promote"
        ]
    );
}

#[test]
fn a_key_that_is_not_there_is_not_promoted() {
    let deployment = Deployment::new();
    let unknown = "00".repeat(16);
    let error = deployment.fails(1, &["keyring", "rotate", "--promote", &unknown]);
    assert!(error.contains(&unknown), "{error}");
    deployment.fails(2, &["keyring", "rotate", "--promote", "newest"]);
    assert_eq!(deployment.versions(), 1);
}

#[test]
fn of_operators_that_rotate_at_once_each_adds_a_key() {
    let deployment = Deployment::new();
    let rotating: Vec<_> = (0..3)
        .map(|_| {
            let mut command = deployment.command(&["keyring", "rotate"]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    for mut child in rotating {
        assert!(child.wait().unwrap().success());
    }
    let keys = deployment.json(&["keyring", "show", "--json"])["keys"].clone();
    assert_eq!(keys.as_array().unwrap().len(), 4);
    assert_eq!(deployment.versions(), 4);
}

#[test]
fn a_password_is_added_and_the_old_one_is_removed_with_the_new_one() {
    let deployment = Deployment::new();
    deployment.ok(&["keys", "create", "--name", "a", "--recoverable"]);
    let old = deployment.json(&["keyring", "show", "--json"])["passwords"][0]["id"].clone();
    let old = old.as_str().unwrap();

    let added = succeeds(run(deployment.with_new(&["keyring", "password"], NEW)));
    let new = added.out.trim_end();
    assert!(!added.err.contains(NEW) && !added.out.contains(NEW));
    let again = succeeds(run(deployment.with_new(&["keyring", "password"], NEW)));
    assert_eq!(again.out.trim_end(), new);
    assert!(again.err.contains("already"), "{}", again.err);
    for ran in [
        deployment.run(&["keys", "reveal", "a"]),
        deployment.after(&["keys", "reveal", "a"]),
    ] {
        succeeds(ran);
    }

    let with_the_old = deployment.run(&["keyring", "password", "--retire"]);
    refuses(&with_the_old, 2, "no password is older");
    let in_use = deployment.after(&["keyring", "password", "--retire", new]);
    refuses(&in_use, 1, "is the one the keyring was opened with");
    let retired = succeeds(deployment.after(&["keyring", "password", "--retire"]));
    assert_eq!(retired.out.trim_end(), old);

    refuses(&deployment.run(&["keys", "reveal", "a"]), 2, "opens none");
    succeeds(deployment.after(&["keys", "reveal", "a"]));
}

#[test]
fn which_of_several_older_passwords_goes_has_to_be_said() {
    let deployment = Deployment::new();
    let between = "a password that lies between these two";
    succeeds(run(deployment.with_new(&["keyring", "password"], between)));
    succeeds(run(deployment.with_new(&["keyring", "password"], NEW)));
    let ran = deployment.after(&["keyring", "password", "--retire"]);
    refuses(&ran, 2, "say which");
    let slots = deployment.json(&["keyring", "show", "--json"])["passwords"].clone();
    for slot in &slots.as_array().unwrap()[..2] {
        let slot = slot["id"].as_str().unwrap();
        succeeds(deployment.after(&["keyring", "password", "--retire", slot]));
    }
}

#[test]
fn a_new_password_is_given_in_a_variable_or_a_file_and_is_a_good_and_another_one() {
    let deployment = Deployment::new();
    for arguments in [
        &["keyring", "password"][..],
        &["keyring", "rotate", "--all"],
    ] {
        let missing = deployment.run(arguments);
        refuses(&missing, 2, "PQ_ENCRYPTION_NEW_PASSWORD: not set");
        let short = run(deployment.with_new(arguments, "hunter2"));
        refuses(&short, 2, "32 characters");
        assert!(!short.err.contains("hunter2"), "{}", short.err);
        let same = run(deployment.with_new(arguments, crate::PASSWORD));
        refuses(&same, 2, "is the one in use");
    }
    assert_eq!(deployment.versions(), 1);

    std::fs::write(deployment.path("new"), format!("{NEW}\n")).unwrap();
    let mut command = deployment.command(&["keyring", "password"]);
    command.env("PQ_ENCRYPTION_NEW_PASSWORD_FILE", deployment.path("new"));
    succeeds(run(command));
    succeeds(deployment.after(&["keys", "create", "--name", "a"]));
}

#[test]
fn everything_is_made_new_under_a_password_that_was_never_in_the_keyring() {
    let deployment = Deployment::new();
    let token = deployment.ok(&["keys", "create", "--name", "a", "--recoverable"]);
    assert!(token.starts_with("cyk_live_0"), "{token}");
    let all = ["keyring", "rotate", "--all"];
    let added = "a password that the thief's keyring has";
    succeeds(run(deployment.with_new(&["keyring", "password"], added)));
    let refused = run(deployment.with_new(&all, added));
    refuses(&refused, 2, "was never in a keyring");
    assert_eq!(deployment.versions(), 2);

    let done = succeeds(run(deployment.with_new(&all, NEW)));
    let shown = deployment.json(&["keyring", "show", "--json"]);
    assert_eq!(shown["passwords"].as_array().unwrap().len(), 1);
    assert_eq!(shown["generations"], serde_json::json!(["0", "1"]));
    assert_eq!(shown["keys"][1]["id"], done.out.trim_end());
    assert_eq!(shown["keys"][1]["primary"], true);
    let old = shown["keys"][0]["id"].as_str().unwrap();
    for step in [
        &*format!("keyring drop --key {old}\n"),
        "keyring drop --generation 0\n",
    ] {
        assert!(done.err.contains(step), "{}", done.err);
    }

    let reveal = ["keys", "reveal", "a"];
    refuses(&deployment.run(&reveal), 2, "opens none");
    succeeds(run(deployment.with_new(&reveal, NEW)));
    let rewrapped = succeeds(deployment.after(&["keyring", "rewrap"]));
    assert!(rewrapped.err.contains("1 of 1"), "{}", rewrapped.err);
    let revealed = succeeds(deployment.after(&reveal));
    assert_eq!(revealed.out.trim_end(), token);
    let rotated = succeeds(deployment.after(&["keys", "rotate", "a"]));
    assert!(rotated.out.starts_with("cyk_live_1"), "{}", rotated.out);
}

#[test]
fn what_was_stolen_is_removed_once_nothing_needs_it() {
    let deployment = Deployment::new();
    let old = deployment.json(&["keyring", "show", "--json"])["keys"][0]["id"].clone();
    let old = old.as_str().unwrap();
    deployment.ok(&["keys", "create", "--name", "a", "--recoverable"]);
    deployment.ok(&["keys", "create", "--name", "b"]);
    // Revoked without the keyring: it does not open, and needs no key.
    let revoked = deployment.run_without_password(&["keys", "revoke", "b"]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.err);
    let key = ["keyring", "drop", "--key", old];
    refuses(&deployment.run(&key), 1, "is the primary one");

    succeeds(run(
        deployment.with_new(&["keyring", "rotate", "--all"], NEW)
    ));
    refuses(&deployment.after(&key), 2, "1 records are sealed under");
    deployment.after(&["keyring", "rewrap"]);
    succeeds(deployment.after(&key));
    succeeds(deployment.after(&["keys", "reveal", "a"]));
    let generation = |name| deployment.after(&["keyring", "drop", "--generation", name]);
    refuses(&generation("1"), 1, "tokens are issued of");
    refuses(&generation("x"), 1, "no generation `x`");
    succeeds(generation("0"));
    let shown = deployment.json(&["keyring", "show", "--json"]);
    assert_eq!(shown["keys"].as_array().unwrap().len(), 1);
    assert_eq!(shown["generations"], serde_json::json!(["1"]));
    deployment.fails(2, &["keyring", "drop"]);
}

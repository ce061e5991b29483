//! `keys verify`

use std::fs;
use std::path::PathBuf;

use crate::Deployment;

/// The key store alone, as a backup has it, in the place of what was there.
fn copy(deployment: &Deployment, from: &str, to: &str) {
    fs::create_dir_all(deployment.path(to)).unwrap();
    for file in store(deployment, to) {
        fs::remove_file(file).unwrap();
    }
    for file in store(deployment, from) {
        let copied = deployment.path(to).join(file.file_name().unwrap());
        fs::copy(file, copied).unwrap();
    }
}

/// Its files: what was not moved into the first is in another one.
fn store(deployment: &Deployment, directory: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(deployment.path(directory)).unwrap();
    files
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("keys.db")
        })
        .collect()
}

#[test]
fn a_backup_that_was_put_back_is_told_with_what_to_do() {
    let deployment = Deployment::new();
    deployment.ok(&["keys", "create", "--name", "billing"]);
    deployment.ok(&["keys", "create", "--name", "orders"]);
    assert_eq!(deployment.ok(&["keys", "verify"]), "");
    copy(&deployment, "data", "backup");
    deployment.ok(&["keys", "revoke", "billing"]);
    copy(&deployment, "backup", "data");

    let ran = deployment.run(&["keys", "verify"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    let [line] = ran.out.lines().collect::<Vec<_>>()[..] else {
        panic!("{}", ran.out)
    };
    let expected = "(billing): unrevoked: found revision 1, expected 2 (revoke at ";
    assert!(line.contains(expected), "{line}");
    let (_, fix) = line.rsplit_once(": ").unwrap();
    let command = fix.trim_matches('`');
    let compared = "compared 2 records with the 2 keys of the audit log\nerror: 1 finding\n";
    assert_eq!(ran.err, compared);

    // Without the password as well, and for programs.
    let ran = deployment.run_without_password(&["keys", "verify", "--revisions-only", "--json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    let told: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["fault"], "unrevoked");
    assert_eq!((&told["found"], &told["expected"]), (&1.into(), &2.into()));
    assert_eq!(told["write"]["action"], "revoke");
    assert!(told["fix"].as_str().unwrap().ends_with(fix), "{told}");

    deployment.ok(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(deployment.ok(&["keys", "verify"]), "");
}

#[test]
fn records_are_opened_unless_it_is_said() {
    let deployment = Deployment::new();
    let ran = deployment.run_without_password(&["keys", "verify"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
}

#[test]
fn a_key_that_is_gone_can_be_accepted_as_gone() {
    let deployment = Deployment::new();
    copy(&deployment, "data", "backup");
    let created = deployment.json(&["keys", "create", "--name", "billing", "--json"]);
    let id = created["key"]["id"].as_str().unwrap();
    copy(&deployment, "backup", "data");
    let ran = deployment.run(&["keys", "verify"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(
        ran.out.starts_with(&format!("{id}: missing: ")),
        "{}",
        ran.out
    );
    deployment.ok(&["keys", "delete", id]);
    assert_eq!(deployment.ok(&["keys", "verify"]), "");
    assert!(
        deployment
            .fails(1, &["keys", "delete", id])
            .contains("there is no key")
    );
}

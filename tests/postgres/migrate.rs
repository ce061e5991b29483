//! `cypheron-edge migrate`, as it is typed.

use std::process::{Command, Output};

use crate::server::{TestDatabase, database, shared};

fn migrate(database: &TestDatabase) -> (Option<i32>, String) {
    run(database, &[])
}

fn run(database: &TestDatabase, more: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_cypheron-edge"))
        .arg("migrate")
        .args(more)
        .env_clear()
        .env("HOME", directory.path())
        .env("CYPHERON_EDGE__KEYS__STORE", "embedded")
        .env("CYPHERON_EDGE__USAGE__SINK", "sqlite")
        .env("DATABASE_URL", &database.url)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn an_empty_database_is_brought_up_to_date_and_stays_so() {
    let Some(server) = shared() else { return };
    let database = server.empty_database().await;
    let (code, said) = migrate(&database);
    assert_eq!((code, &*said), (Some(0), "applied 6 migrations\n"));
    let (code, said) = migrate(&database);
    assert_eq!((code, &*said), (Some(0), "applied 0 migrations\n"));
}

#[tokio::test]
async fn a_database_ahead_of_the_build_is_a_wrong_configuration() {
    let Some(database) = database().await else {
        return;
    };
    database.claim_to_be_newer().await;
    let (code, said) = migrate(&database);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("use a newer build"), "{said}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure_with_its_cause() {
    let url = "postgres://edge@127.0.0.1:1/usage".to_owned();
    let (code, said) = migrate(&TestDatabase { url });
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Connection refused"), "{said}");
}

#[tokio::test]
async fn a_role_that_is_not_there_is_granted_nothing() {
    let Some(database) = database().await else {
        return;
    };
    let (code, said) = run(&database, &["--grant", "no one\" here"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("no one\"\" here") || said.contains("no one\" here"),
        "{said}"
    );
}

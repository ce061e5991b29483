//! The migrations, and what they make.

use cypheron_edge::database::{DatabaseManager, NotReady, SchemaState};

use crate::server::{database, shared};

#[tokio::test]
async fn a_database_is_migrated_once_by_whoever_comes_first() {
    let Some(server) = shared() else { return };
    let database = server.empty_database().await;
    let managers: Vec<_> = (0..4).map(|_| database.manager()).collect();
    let all = managers.iter().map(DatabaseManager::migrate);
    for done in futures_util::future::join_all(all).await {
        done.unwrap();
    }
    assert_eq!(managers[0].schema_state().await, Ok(SchemaState::Current));
}

#[tokio::test]
async fn a_database_ahead_of_the_build_is_refused_and_left_as_it_is() {
    let Some(database) = database().await else {
        return;
    };
    database.claim_to_be_newer().await;
    let manager = database.manager();
    let ahead = NotReady::Ahead {
        found: 9999,
        known: 6,
    };
    assert_eq!(manager.ready().await, Err(ahead.clone()));
    assert_eq!(manager.migrate().await, Err(ahead));
}

#[tokio::test]
async fn a_database_behind_the_build_is_only_migrated_when_asked() {
    let Some(server) = shared() else { return };
    let database = server.empty_database().await;
    let manager = database.manager();
    assert_eq!(manager.ready().await, Err(NotReady::Behind(6)));
    manager.migrate().await.unwrap();
    assert_eq!(manager.ready().await, Ok(()));
}

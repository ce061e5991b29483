//! The connection: lost, found again, and made anew.

use std::time::Duration;

use cypheron_edge::repository::{ApiKeyReader, ApiKeyRepository, Found, RepositoryError};

use crate::emulator::{self, Emulator};
use crate::repository_contract::{hash, key};

#[tokio::test]
async fn a_store_that_is_down_says_so_at_once_and_comes_back() {
    let Some(mut emulator) = Emulator::start() else {
        return;
    };
    let config = emulator.project();
    let repository = emulator::open(&config);
    repository.create(&key(1), b"").await.unwrap();
    emulator.stop();
    let late = emulator::open(&config);
    for repository in [&repository, &late] {
        let hash = hash(1);
        let asked = repository.find(&hash);
        let answer = tokio::time::timeout(Duration::from_secs(5), asked).await;
        let error = answer.expect("it says nothing").unwrap_err();
        let RepositoryError::Unavailable(why) = &error else {
            panic!("{error}");
        };
        assert!(why.len() < 400, "{why}");
    }
    let Err(RepositoryError::Unavailable(why)) = late.find(&hash(1)).await else {
        panic!("it is down");
    };
    let place = format!(
        "no connection to the Firestore emulator at {}",
        emulator.address()
    );
    assert!(why.starts_with(&place) && why.contains("refused"), "{why}");

    emulator.restart();
    for repository in [&repository, &late] {
        let back = async {
            while repository.find(&hash(1)).await != Ok(Found::Absent) {
                tokio::task::yield_now().await;
            }
        };
        let back = tokio::time::timeout(Duration::from_secs(30), back).await;
        back.expect("it does not come back");
    }
}

#[tokio::test]
async fn a_connection_made_anew_is_the_one_that_all_use() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.create(&key(1), b"").await.unwrap();
    let connection = repository.connection().clone();
    let (first, second) = tokio::join!(connection.rebuild(), connection.rebuild());
    assert!(first.is_ok() && second.is_ok());
    assert!(matches!(repository.find(&hash(1)).await, Ok(Found::Key(_))));
}

//! Several operators at once, and what is left of deletions.

use std::sync::Arc;
use std::time::Duration;

use cypheron_edge::admin::{Fault, KeyRef, Operations, SinkAuditLog};
use cypheron_edge::clock::Clock;
use cypheron_edge::database::Database;
use cypheron_edge::key::ApiKey;
use cypheron_edge::repository::firestore::FirestoreApiKeyRepository;
use cypheron_edge::repository::{ApiKeyReader, ApiKeyRepository, Filter, Found, RepositoryError};
use cypheron_edge::usage::report::SqliteReports;
use cypheron_edge::usage::sink::SqliteSink;
use firestore::gcloud_sdk::google::firestore::v1::value::ValueType;

use crate::desk::{Desk, new_key};
use crate::documents::by_hand;
use crate::emulator;
use crate::repository_contract::{hash, id, key, next};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_make_a_keyring_at_once_one_does_and_all_find_that_one() {
    let Some(config) = emulator::project() else {
        return;
    };
    let makers: Vec<_> = (0..8_u8)
        .map(|number| {
            let repository = emulator::open(&config);
            tokio::spawn(async move {
                let made = repository.put_keyring(&[number], None).await;
                (number, made)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for maker in makers {
        match maker.await.unwrap() {
            (number, Ok(())) => winners.push(vec![number]),
            (_, lost) => assert_eq!(lost, Err(RepositoryError::Exists)),
        }
    }
    let keyring = emulator::open(&config).keyring().await.unwrap();
    assert_eq!(winners, [keyring.unwrap()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_create_with_one_id_one_does() {
    let Some(config) = emulator::project() else {
        return;
    };
    let makers: Vec<_> = (1..=6)
        .map(|number| {
            let repository = emulator::open(&config);
            let key = ApiKey {
                id: id(9),
                ..key(number)
            };
            tokio::spawn(async move { repository.create(&key, b"").await })
        })
        .collect();
    let mut made = 0;
    for maker in makers {
        match maker.await.unwrap() {
            Ok(()) => made += 1,
            lost => assert_eq!(lost, Err(RepositoryError::Exists)),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_change_one_key_none_is_overwritten_silently() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = Arc::new(emulator::open(&config));
    repository.create(&key(1), b"").await.unwrap();
    let writers: Vec<_> = (0..5)
        .map(|_| {
            let repository = emulator::open(&config);
            tokio::spawn(async move {
                let mut written = 0;
                while written < 4 {
                    let Ok(Found::Key(found)) = repository.find(&hash(1)).await else {
                        panic!()
                    };
                    let changed = next(&found.key);
                    match repository.update(&changed, b"", &found.key).await {
                        Ok(()) => written += 1,
                        Err(RepositoryError::Conflict { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let Ok(Found::Key(found)) = repository.find(&hash(1)).await else {
        panic!()
    };
    assert_eq!(found.key.revision, 21);
}

#[tokio::test]
async fn bookkeeping_written_meanwhile_is_no_conflict() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.create(&key(1), b"").await.unwrap();
    let name = hash(1).to_string();
    let counting = async {
        for count in 1..=30 {
            let count = Some(ValueType::IntegerValue(count));
            by_hand(&config, &name, &[("usage_count", count)]).await;
        }
    };
    let changing = async {
        for revision in 1..=10 {
            let key = ApiKey { revision, ..key(1) };
            repository.update(&next(&key), b"", &key).await.unwrap();
        }
    };
    tokio::join!(counting, changing);
    let Ok(Found::Key(found)) = repository.find(&hash(1)).await else {
        panic!()
    };
    assert_eq!((found.key.revision, found.key.usage_count), (11, 30));
}

#[tokio::test]
async fn a_listing_with_a_rare_name_goes_through_all_pages_and_past_the_deleted() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    for number in 1..=200 {
        let name = if number == 199 { "the needle" } else { "hay" };
        let key = ApiKey {
            name: name.parse().unwrap(),
            ..key(number)
        };
        repository.create(&key, b"").await.unwrap();
        if number % 3 == 0 {
            repository.delete(&hash(number), 1).await.unwrap();
        }
    }
    let filter = Filter {
        name: Some("NEEDLE".to_owned()),
        active: Some(true),
    };
    let page = repository.list(&filter, None, 1).await.unwrap();
    let ids: Vec<_> = page.keys.iter().map(|stored| stored.key.id).collect();
    assert_eq!((ids, page.next), (vec![id(199)], None));

    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = repository.list(&Filter::default(), after, 7).await.unwrap();
        assert!(page.keys.len() <= 7);
        seen.extend(page.keys.iter().map(|stored| stored.key.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let left: Vec<_> = (1..=200).filter(|number| number % 3 != 0).map(id).collect();
    assert_eq!(seen, left);
}

#[tokio::test]
async fn a_deletion_is_forgotten_after_thirty_days_and_not_before() {
    let Some(config) = emulator::project() else {
        return;
    };
    let clock = Clock::manual(Clock::system().wall());
    let repository = FirestoreApiKeyRepository::new(config, clock.clone()).unwrap();
    for number in 1..=3 {
        repository.create(&key(number), b"").await.unwrap();
    }
    repository.delete(&hash(1), 1).await.unwrap();
    clock.advance(Duration::from_hours(30 * 24 - 1));
    assert_eq!(repository.purge_tombstones().await, Ok(0));
    assert_eq!(
        repository.find(&hash(1)).await,
        Ok(Found::Tombstone { revision: 2 })
    );
    clock.advance(Duration::from_hours(2));
    assert_eq!(repository.purge_tombstones().await, Ok(1));
    assert_eq!(repository.find(&hash(1)).await, Ok(Found::Absent));
    assert_eq!(
        repository
            .list(&Filter::default(), None, 9)
            .await
            .unwrap()
            .keys
            .len(),
        2
    );
}

#[tokio::test]
async fn a_record_that_was_put_back_is_behind_the_audit_log() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = Arc::new(emulator::open(&config));
    let desk = Desk::new();
    let usage = tempfile::tempdir().unwrap();
    let database = Database::open_in(usage.path()).unwrap();
    let reports = SqliteReports::new(&database);
    let sink = SqliteSink::new(&database, desk.clock.clone());
    let operations = Operations {
        repository: repository.clone(),
        audit: Arc::new(SinkAuditLog::new(Arc::new(sink), Arc::new(reports.clone()))),
        ..desk.operations()
    };
    operations.create(new_key("left alone")).await.unwrap();
    let key = operations.create(new_key("revoked")).await.unwrap().key;
    let stored = operations.show(&KeyRef::Id(key.id)).await.unwrap().stored;
    operations.revoke(&KeyRef::Id(key.id)).await.unwrap();
    let revoked = repository.find_by_id(key.id).await.unwrap().unwrap().key;
    let put_back = repository.update(&key, &stored.sealed, &revoked);
    put_back.await.unwrap();

    let mut verification = operations.verify(&reports);
    let found = verification.next().await.unwrap().unwrap();
    let told = (found.fault, found.key_id, found.found, found.expected);
    assert_eq!(told, (Fault::Unrevoked, Some(key.id), Some(1), Some(2)));
    assert_eq!(verification.next().await, Ok(None));

    operations.revoke(&KeyRef::Id(key.id)).await.unwrap();
    let mut verification = operations.verify(&reports);
    assert_eq!(verification.next().await, Ok(None));
    assert_eq!((verification.seen, verification.known), (2, 2));
}

//! The change feed, over the real emulator: edits by hand, cuts, silence.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cypheron_edge::clock::Clock;
use cypheron_edge::key::ApiKey;
use cypheron_edge::repository::firestore::FirestoreApiKeyRepository;
use cypheron_edge::repository::{ApiKeyRepository, Change, FirestoreConfig};
use firestore::gcloud_sdk::google::firestore::v1::value::ValueType;
use firestore::gcloud_sdk::google::firestore::v1::{
    CommitRequest, Document, DocumentMask, Value, Write, write::Operation,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::emulator::{self, Emulator};
use crate::relay::Relay;
use crate::repository_contract::{NOW, change, connected, hash, key, next};

fn record(number: u8, revision: u64, live: bool) -> Change {
    Change::Record {
        hash: hash(number),
        revision,
        live,
    }
}

/// A store whose handles can be told apart: one behind a relay.
fn behind(relay: &Relay, config: &FirestoreConfig) -> FirestoreApiKeyRepository {
    emulator::open(&FirestoreConfig {
        emulator: Some(relay.address()),
        ..config.clone()
    })
}

/// What a person with Google's console does.
async fn by_hand(repository: &FirestoreApiKeyRepository, operation: ByHand) {
    let client = repository.connection().current().await.unwrap();
    let database = client.get_database_path().clone();
    let collection = repository.connection().collection();
    let name = format!("{database}/documents/{collection}/{}", hash(1));
    let write = match operation {
        ByHand::Delete => Write {
            operation: Some(Operation::Delete(name)),
            ..Write::default()
        },
        ByHand::Set(field, value) => Write {
            update_mask: Some(DocumentMask {
                field_paths: vec![field.to_owned()],
            }),
            operation: Some(Operation::Update(Document {
                name,
                fields: HashMap::from([(
                    field.to_owned(),
                    Value {
                        value_type: Some(value),
                    },
                )]),
                ..Document::default()
            })),
            ..Write::default()
        },
    };
    let request = CommitRequest {
        database,
        writes: vec![write],
        ..CommitRequest::default()
    };
    client.client().get().commit(request).await.unwrap();
}

enum ByHand {
    Set(&'static str, ValueType),
    Delete,
}

/// The next change, which may take as long as noticing a silent break does.
async fn late_change(feed: &mut BoxStream<'static, Change>) -> Change {
    tokio::time::timeout(Duration::from_secs(15), feed.next())
        .await
        .expect("the feed says nothing")
        .expect("the feed never ends")
}

#[tokio::test]
async fn an_edit_by_hand_reaches_the_feed() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.create(&key(1), b"").await.unwrap();
    let mut feed = connected(&repository).await;
    for (edit, expected) in [
        (
            ByHand::Set("rate_limit", ValueType::IntegerValue(9)),
            record(1, 1, true),
        ),
        (
            ByHand::Set("is_active", ValueType::BooleanValue(false)),
            record(1, 1, false),
        ),
        (
            ByHand::Set("is_active", ValueType::BooleanValue(true)),
            record(1, 1, true),
        ),
        (
            ByHand::Set("sealed", ValueType::BytesValue(vec![0])),
            record(1, 1, true),
        ),
        // The emulator does not say that it is gone; it is only not there.
        (ByHand::Delete, record(1, 1, true)),
    ] {
        by_hand(&repository, edit).await;
        assert_eq!(change(&mut feed).await, expected);
    }
}

#[tokio::test]
async fn bookkeeping_is_no_change() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.create(&key(1), b"").await.unwrap();
    let mut feed = connected(&repository).await;
    by_hand(
        &repository,
        ByHand::Set("usage_count", ValueType::IntegerValue(5)),
    )
    .await;
    repository.create(&key(2), b"").await.unwrap();
    assert_eq!(change(&mut feed).await, record(2, 1, true));
}

#[tokio::test]
async fn what_was_missed_in_a_cut_is_told_before_the_feed_is_connected_again() {
    let Some(config) = emulator::project() else {
        return;
    };
    let relay = Relay::to(config.emulator.as_deref().unwrap()).await;
    let writer = emulator::open(&config);
    for number in 1..=3 {
        writer.create(&key(number), b"").await.unwrap();
    }
    let mut feed = connected(&behind(&relay, &config)).await;
    relay.close();
    assert_eq!(change(&mut feed).await, Change::Cut);
    writer.update(&next(&key(1)), b"", &key(1)).await.unwrap();
    writer.delete(&hash(2), 1).await.unwrap();
    relay.mend();
    for expected in [record(1, 2, true), record(2, 2, false), Change::Connected] {
        assert_eq!(change(&mut feed).await, expected);
    }
}

#[tokio::test]
async fn a_silent_break_is_noticed_within_seconds_and_healed() {
    let Some(config) = emulator::project() else {
        return;
    };
    let relay = Relay::to(config.emulator.as_deref().unwrap()).await;
    let writer = emulator::open(&config);
    writer.create(&key(1), b"").await.unwrap();
    let mut feed = connected(&behind(&relay, &config)).await;
    relay.silence();
    let silenced = now();
    writer.delete(&hash(1), 1).await.unwrap();
    assert_eq!(late_change(&mut feed).await, Change::Cut);
    let noticed = silenced.elapsed();
    println!("noticed after {noticed:?}");
    assert!(noticed < Duration::from_secs(8), "{noticed:?}");
    relay.mend();
    assert_eq!(late_change(&mut feed).await, record(1, 2, false));
    assert_eq!(late_change(&mut feed).await, Change::Connected);
}

#[tokio::test]
async fn a_feed_over_which_nothing_happens_stays_connected() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    let mut feed = connected(&repository).await;
    let quiet = tokio::time::timeout(Duration::from_secs(8), feed.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    repository.create(&key(1), b"").await.unwrap();
    assert_eq!(change(&mut feed).await, record(1, 1, true));
}

#[tokio::test]
async fn a_machine_that_stood_still_hears_first_what_it_missed() {
    let Some(config) = emulator::project() else {
        return;
    };
    let clock = Clock::manual(NOW);
    let reader = FirestoreApiKeyRepository::new(config.clone(), clock.clone()).unwrap();
    let mut feed = connected(&reader).await;
    clock.advance(Duration::from_hours(1));
    assert_eq!(change(&mut feed).await, Change::Cut);
    assert_eq!(change(&mut feed).await, Change::Connected);
}

#[tokio::test]
async fn a_feed_survives_the_emulator_and_an_emptied_one_revokes_nobody() {
    let Some(mut emulator) = Emulator::start() else {
        return;
    };
    let config = emulator.project();
    let repository = emulator::open(&config);
    repository.create(&key(1), b"").await.unwrap();
    let mut feed = connected(&repository).await;
    emulator.stop();
    assert_eq!(change(&mut feed).await, Change::Cut);
    emulator.restart();
    // To be read again, which is what finds that it is gone.
    assert_eq!(late_change(&mut feed).await, record(1, 1, true));
    assert_eq!(late_change(&mut feed).await, Change::Connected);
    repository.create(&key(2), b"").await.unwrap();
    assert_eq!(change(&mut feed).await, record(2, 1, true));
}

#[tokio::test]
async fn a_feed_begins_when_the_store_does() {
    let Some(config) = emulator::project() else {
        return;
    };
    let relay = Relay::to(config.emulator.as_deref().unwrap()).await;
    relay.close();
    let repository = behind(&relay, &config);
    let mut feed = cypheron_edge::repository::ApiKeyReader::changes(&repository);
    let nothing = tokio::time::timeout(Duration::from_millis(500), feed.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    relay.mend();
    assert_eq!(late_change(&mut feed).await, Change::Connected);
}

#[tokio::test]
async fn what_was_revoked_before_the_feed_began_is_told_at_its_beginning() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    for number in [1, 2] {
        repository.create(&key(number), b"").await.unwrap();
    }
    repository.delete(&hash(1), 1).await.unwrap();
    let mut feed = connected(&repository).await;
    assert_eq!(change(&mut feed).await, record(1, 2, false));
    repository
        .update(&next(&key(2)), b"", &key(2))
        .await
        .unwrap();
    assert_eq!(change(&mut feed).await, record(2, 2, true));
}

#[tokio::test]
async fn a_revocation_reaches_a_feed_far_below_100_ms() {
    let Some(config) = emulator::project() else {
        return;
    };
    let mut feed = connected(&emulator::open(&config)).await;
    let writer = emulator::open(&config);
    writer.create(&key(1), b"").await.unwrap();
    assert_eq!(change(&mut feed).await, record(1, 1, true));
    let mut delays = Vec::new();
    let mut before = key(1);
    for revision in 2..=21 {
        let revoked = ApiKey {
            is_active: false,
            ..next(&before)
        };
        writer.update(&revoked, b"", &before).await.unwrap();
        before = revoked;
        let acknowledged = now();
        assert_eq!(change(&mut feed).await, record(1, revision, false));
        delays.push(acknowledged.elapsed());
    }
    delays.sort_unstable();
    println!("p50 {:?}, max {:?}", delays[10], delays[19]);
    // The median: one slow moment of a busy machine is not the feed's.
    assert!(delays[10] < Duration::from_millis(50), "{delays:?}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is measured takes real time"
)]
fn now() -> Instant {
    Instant::now()
}

//! What somebody who can write the store's file gains: nothing. Each edit is
//! judged as an edge judges it, by a directory over the same file.

#![cfg(all(feature = "edge", feature = "embedded"))]
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but does not know a test's own helpers for such"
)]

mod desk;

use std::sync::Arc;
use std::time::Duration;

use cypheron_edge::admin::keyring::{KeyringUnavailable, load};
use cypheron_edge::admin::{Changes, KeyRef, NewKey};
use cypheron_edge::clock::Clock;
use cypheron_edge::crypto::keyring::{Cost, Keyring};
use cypheron_edge::crypto::{PostQuantumEncryption, Suite};
use cypheron_edge::directory::{self, Directory, Loaded, Lookup, SealedRecords};
use cypheron_edge::key::{KnownKey, Verdict, evaluate};
use cypheron_edge::refusal::Refusal;
use cypheron_edge::token::{KeyHash, TokenDigest};
use desk::{COLLECTION, Desk, KEYRING, NOW, new_key, password};
use futures_util::FutureExt;

/// An edge that has just started, or one that goes on.
struct Edge {
    directory: Directory,
    clock: Clock,
}

impl Edge {
    fn over(desk: &Desk) -> Self {
        let encryption = PostQuantumEncryption::new(&KEYRING);
        let clock = desk.clock.clone();
        let opener = SealedRecords::new(encryption, desk.scope.clone(), clock.clone(), || {
            std::future::ready(Loaded::Unchanged).boxed()
        });
        let directory = Directory::new(
            directory::Config::default(),
            clock.clone(),
            desk.repository.clone(),
            Arc::new(opener),
            tokio::runtime::Handle::current(),
        );
        Self { directory, clock }
    }

    /// What it says to the token, from an address and to a route that the key
    /// is good for.
    async fn judge(&self, hash: KeyHash, token: &str) -> Result<KnownKey, Refusal> {
        let entry = match self.directory.lookup(&hash, self.clock.now()) {
            Lookup::Hit(entry) => entry,
            Lookup::Refused(refusal) => return Err(refusal),
            Lookup::Miss => {
                let digest = TokenDigest::of(token);
                self.directory.fetch(hash, digest, None).await?
            }
        };
        let required = "orders:read".parse().unwrap();
        let address = "192.0.2.7".parse().unwrap();
        let now = self.clock.wall();
        match evaluate(&entry.key, Some(&required), Some(address), now) {
            Verdict::Admit => Ok(entry.key.clone()),
            Verdict::Refuse(refusal) => Err(refusal),
        }
    }
}

/// What an edge that has just started says.
async fn judge(desk: &Desk, hash: KeyHash, token: &str) -> Result<KnownKey, Refusal> {
    Edge::over(desk).judge(hash, token).await
}

#[tokio::test]
async fn every_edited_policy_field_is_refused_and_flipped_back_does_no_harm() {
    let desk = Desk::new();
    let expiring = NewKey {
        expires_at: Some(NOW.saturating_add(Duration::from_hours(1))),
        ..new_key("checkout")
    };
    let created = desk.operations().create(expiring).await.unwrap();
    let token = created.token.expose();
    let hash = created.key.key_hash;
    desk.by_hand("CREATE TABLE kept AS SELECT * FROM api_keys");
    for (field, value) in [
        ("id", "'00000000-0000-7000-8000-000000000001'"),
        ("name", "'admin'"),
        ("permissions", r#"'["orders:read","*"]'"#),
        ("permissions", r#"'["*"]'"#),
        ("rate_limit", "1000000"),
        ("created_at", "created_at + 1"),
        ("expires_at", "NULL"),
        ("expires_at", "expires_at + 1"),
        ("allowed_ips", "'[]'"),
        ("allowed_ips", r#"'["0.0.0.0/0"]'"#),
        ("revision", "revision + 1"),
        ("sealed", "x''"),
        ("sealed", "substr(sealed, 1, length(sealed) - 1)"),
        (
            "sealed",
            "CAST(substr(sealed, 1, length(sealed) - 1) || x'00' AS BLOB)",
        ),
        // Not policy any more: a record that cannot be read.
        ("rate_limit", "0"),
        ("permissions", "'*'"),
    ] {
        desk.by_hand(&format!("UPDATE api_keys SET {field} = {value}"));
        let refused = judge(&desk, hash, token).await;
        assert_eq!(refused, Err(Refusal::KeyTampered), "{field} = {value}");

        desk.by_hand(&format!(
            "UPDATE api_keys SET {field} = (SELECT {field} FROM kept)"
        ));
        let admitted = judge(&desk, hash, token).await;
        assert_eq!(
            admitted,
            Ok(created.key.clone().into()),
            "{field} flipped back"
        );
    }
}

#[tokio::test]
async fn bookkeeping_is_not_sealed() {
    let desk = Desk::new();
    let created = desk.created("checkout").await;
    desk.by_hand("UPDATE api_keys SET usage_count = 9, last_used = 5, updated_at = 7");
    let admitted = judge(&desk, created.key.key_hash, created.token.expose()).await;
    assert_eq!(admitted, Ok(created.key.into()));
}

#[tokio::test]
async fn a_key_made_inactive_by_hand_is_refused_as_inactive() {
    let desk = Desk::new();
    let created = desk.created("checkout").await;
    desk.by_hand("UPDATE api_keys SET is_active = 0");
    let refused = judge(&desk, created.key.key_hash, created.token.expose()).await;
    assert_eq!(refused, Err(Refusal::KeyInactive));
}

#[tokio::test]
async fn a_revoked_key_does_not_open_when_it_is_flipped_back() {
    for unlocked in [true, false] {
        let desk = Desk::new();
        let created = desk.created("checkout").await;
        let (hash, token) = (created.key.key_hash, created.token.expose());
        let operations = if unlocked {
            desk.operations()
        } else {
            desk.locked()
        };
        operations.revoke(&"checkout".into()).await.unwrap();
        let refused = judge(&desk, hash, token).await;
        assert_eq!(refused, Err(Refusal::KeyInactive));
        desk.by_hand("UPDATE api_keys SET is_active = 1");
        let refused = judge(&desk, hash, token).await;
        assert_eq!(refused, Err(Refusal::KeyTampered), "unlocked: {unlocked}");
    }
}

#[tokio::test]
async fn a_record_moved_to_another_hash_is_refused() {
    let desk = Desk::new();
    let rich = desk.created("rich").await;
    let poor = desk.created("poor").await;
    // The poor key's token, led to the rich key's record.
    desk.by_hand(&format!(
        "DELETE FROM api_keys WHERE name = 'poor'; DELETE FROM tombstones; \
         UPDATE api_keys SET key_hash = '{}' WHERE name = 'rich'",
        poor.key.key_hash
    ));
    let refused = judge(&desk, poor.key.key_hash, poor.token.expose()).await;
    assert_eq!(refused, Err(Refusal::KeyTampered));
    let gone = judge(&desk, rich.key.key_hash, rich.token.expose()).await;
    assert_eq!(gone, Err(Refusal::KeyUnknown));
}

#[tokio::test]
async fn an_envelope_of_another_record_is_refused() {
    let desk = Desk::new();
    desk.created("rich").await;
    let poor = desk.created("poor").await;
    desk.by_hand(
        "UPDATE api_keys SET sealed = (SELECT sealed FROM api_keys WHERE name = 'rich') \
         WHERE name = 'poor'",
    );
    let refused = judge(&desk, poor.key.key_hash, poor.token.expose()).await;
    assert_eq!(refused, Err(Refusal::KeyTampered));
}

#[tokio::test]
async fn a_record_copied_from_another_collection_is_refused() {
    // Worse than in life: both collections have one keyring.
    let staging = Desk::in_collection("staging");
    let created = staging.created("checkout").await;
    let desk = Desk::new();
    desk.by_hand(&format!(
        "ATTACH '{}' AS staging; INSERT INTO main.api_keys SELECT * FROM staging.api_keys",
        staging.path().display()
    ));
    let (hash, token) = (created.key.key_hash, created.token.expose());
    assert!(judge(&staging, hash, token).await.is_ok());
    assert_eq!(judge(&desk, hash, token).await, Err(Refusal::KeyTampered));
}

#[tokio::test]
async fn an_older_revision_put_back_is_not_taken_by_an_edge_that_knows_better() {
    let desk = Desk::new();
    let created = desk.created("checkout").await;
    let (hash, token) = (created.key.key_hash, created.token.expose());
    desk.by_hand("CREATE TABLE kept AS SELECT * FROM api_keys");
    desk.operations().revoke(&"checkout".into()).await.unwrap();
    let edge = Edge::over(&desk);
    let refused = edge.judge(hash, token).await;
    assert_eq!(refused, Err(Refusal::KeyInactive));

    put_back(&desk);
    desk.clock.advance(Duration::from_hours(1));
    let refused = edge.judge(hash, token).await;
    assert_eq!(refused, Err(Refusal::StoreUnavailable));
}

#[tokio::test]
async fn a_running_edge_is_told_of_what_was_put_back_and_keeps_refusing() {
    let desk = Desk::new();
    let created = desk.created("checkout").await;
    let (hash, token) = (created.key.key_hash, created.token.expose());
    let edge = Edge::over(&desk);
    let directory = edge.directory.clone();
    let feed = tokio::spawn(async move { directory.follow().await });
    // What was read before goes by its age.
    until(|| async { edge.directory.is_connected() }).await;
    assert!(edge.judge(hash, token).await.is_ok());
    desk.by_hand("CREATE TABLE kept AS SELECT * FROM api_keys");
    desk.operations().revoke(&"checkout".into()).await.unwrap();
    until(|| async { edge.judge(hash, token).await == Err(Refusal::KeyInactive) }).await;

    put_back(&desk);
    for _ in 0..10 {
        assert_eq!(edge.judge(hash, token).await, Err(Refusal::KeyInactive));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    feed.abort();
}

#[tokio::test]
async fn a_revision_that_was_raised_and_is_put_right_again_does_no_harm() {
    let desk = Desk::new();
    let created = desk.created("checkout").await;
    let (hash, token) = (created.key.key_hash, created.token.expose());
    let edge = Edge::over(&desk);
    let directory = edge.directory.clone();
    let feed = tokio::spawn(async move { directory.follow().await });
    until(|| async { edge.directory.is_connected() }).await;
    assert!(edge.judge(hash, token).await.is_ok());
    desk.by_hand("UPDATE api_keys SET revision = revision + 1000000");
    until(|| async { edge.judge(hash, token).await == Err(Refusal::KeyTampered) }).await;
    desk.by_hand("UPDATE api_keys SET revision = revision - 1000000");
    until(|| async { edge.judge(hash, token).await.is_ok() }).await;
    feed.abort();
}

/// Puts the whole record back as it was, revision and envelope and all.
fn put_back(desk: &Desk) {
    desk.by_hand(
        "UPDATE api_keys SET (is_active, revision, sealed) = \
         (SELECT is_active, revision, sealed FROM kept)",
    );
}

async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    for _ in 0..3000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to hold within half a minute");
}

#[tokio::test]
async fn an_update_of_an_edited_record_is_refused_for_every_edit() {
    let desk = Desk::new();
    let created = desk.created("checkout").await;
    desk.by_hand("UPDATE api_keys SET permissions = '[\"*\"]'");
    let harmless = Changes {
        name: Some("renamed".parse().unwrap()),
        ..Changes::default()
    };
    let update = desk.operations();
    let update = update.update(&KeyRef::Id(created.key.id), &harmless).await;
    assert!(update.is_err(), "it would have sealed the edit");
}

#[tokio::test]
async fn a_keyring_with_swapped_parts_does_not_open() {
    let desk = Desk::new();
    let (own, _) = KEYRING.add_key(Suite::default(), NOW).unwrap();
    let other = Keyring::create(COLLECTION, &password(), Cost::MIN, Suite::default(), NOW).unwrap();
    let own = String::from_utf8(own.document()).unwrap();
    let other = String::from_utf8(other.document()).unwrap();
    put_keyring(&desk, &own);
    load(&*desk.repository, COLLECTION, password())
        .await
        .unwrap();

    let parsed: serde_json::Value = serde_json::from_str(&own).unwrap();
    let text = |pointer: &str| parsed.pointer(pointer).unwrap().as_str().unwrap();
    let mut edits = Vec::new();
    for part in ["id", "public_key", "secret", "authentication"] {
        let [first, second] = [0, 1].map(|key| text(&format!("/keys/{key}/{part}")));
        edits.push((format!("{part} of two keys"), swapped(&own, first, second)));
    }
    let [index, tag] = ["index", "tag"].map(|part| text(&format!("/generations/0/{part}")));
    edits.push(("index and tag".to_owned(), swapped(&own, index, tag)));
    let (old, new) = (member(&own, "primary"), text("/keys/1/id"));
    let primary = old.replace(text("/primary"), new);
    edits.push(("another primary".to_owned(), own.replace(old, &primary)));
    let older = own.replace("\"version\": 2", "\"version\": 1");
    edits.push(("an older version".to_owned(), older));
    for part in ["id", "passwords", "keys", "primary", "generations", "mac"] {
        let edited = own.replace(member(&own, part), member(&other, part));
        edits.push((format!("{part} of another keyring"), edited));
    }

    for (what, edited) in edits {
        assert_ne!(edited, own, "{what}");
        put_keyring(&desk, &edited);
        let loaded = load(&*desk.repository, COLLECTION, password()).await;
        let error = loaded.unwrap_err();
        let is_unusable = matches!(error, KeyringUnavailable::Unusable { .. });
        assert!(is_unusable, "{what}: {error}");
    }
}

fn swapped(text: &str, first: &str, second: &str) -> String {
    text.replace(first, "<first>")
        .replace(second, first)
        .replace("<first>", second)
}

/// The lines of one member of a keyring document.
fn member<'a>(document: &'a str, name: &str) -> &'a str {
    let begin = document.find(&format!("\n  \"{name}\"")).unwrap() + 1;
    let after = &document[begin..];
    let end = after.find("\n  \"").or_else(|| after.find("\n}")).unwrap();
    &after[..end]
}

fn put_keyring(desk: &Desk, document: &str) {
    desk.by_hand(&format!(
        "INSERT OR REPLACE INTO keyring (only, document) VALUES (1, CAST('{document}' AS BLOB))"
    ));
}

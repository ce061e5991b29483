//! Records as they are really sealed, and the keyring that may come too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::crypto::keyring::Cost;
use cypheron_edge::crypto::{Keyring, Password, PostQuantumEncryption, Suite};
use cypheron_edge::directory::{Loaded, OpenFailure, RecordOpener, Reload, SealedRecords};
use cypheron_edge::key::{Scope, Sealed};
use cypheron_edge::repository::StoredKey;
use cypheron_edge::secret::Secret;
use cypheron_edge::token::TokenDigest;
use futures_util::FutureExt;

use crate::support::{key, mint};

fn encryption() -> PostQuantumEncryption {
    let password = Password::new(Secret::new("p".repeat(32))).unwrap();
    let (cost, suite) = (Cost::MIN, Suite::default());
    let keyring = Keyring::create("keys", &password, cost, suite, Timestamp::EPOCH);
    PostQuantumEncryption::new(&keyring.unwrap())
}

fn scope() -> Scope {
    Scope {
        project: "p".to_owned(),
        database: "d".to_owned(),
        collection: "keys".to_owned(),
    }
}

/// A record of `token`, sealed by `encryption`.
fn record(token: &str, encryption: &PostQuantumEncryption) -> StoredKey {
    let key = key(crate::support::hash_of(token));
    let digest = Sealed::Digest(TokenDigest::of(token));
    StoredKey {
        sealed: digest.seal(encryption, &key, &scope()).unwrap(),
        updated_at: Timestamp::EPOCH,
        key,
    }
}

/// Opens with `encryption`, and counts how often its keyring is loaded.
fn opener(encryption: &PostQuantumEncryption) -> (SealedRecords, Clock, Arc<AtomicU64>) {
    let clock = Clock::manual(Timestamp::EPOCH);
    let loads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&loads);
    let load = move || {
        let loads = counted.fetch_add(1, Ordering::SeqCst);
        // The second one fails.
        let loaded = match loads {
            0 => Loaded::Unchanged,
            1 => Loaded::Unread,
            _ => Loaded::Opened,
        };
        std::future::ready(loaded).boxed()
    };
    let opener = SealedRecords::new(encryption.clone(), scope(), clock.clone(), load);
    (opener, clock, loads)
}

#[test]
fn a_record_opens_to_the_digest_of_its_token_and_not_once_it_was_edited() {
    let encryption = encryption();
    let (opener, _, _) = opener(&encryption);
    let (token, _) = mint();
    let mut record = record(&token, &encryption);
    assert_eq!(opener.open(&record), Ok(TokenDigest::of(&token)));
    record.key.permissions.clear();
    assert_eq!(opener.open(&record), Err(OpenFailure::Tampered));
}

#[test]
fn a_record_of_another_keyring_is_not_called_tampered() {
    let (opener, _, _) = opener(&encryption());
    let foreign = record(&mint().0, &encryption());
    assert_eq!(opener.open(&foreign), Err(OpenFailure::NotHeld));
}

#[tokio::test(start_paused = true)]
async fn a_keyring_that_lacks_a_key_is_loaded_once_in_a_while_and_a_changed_one_until_it_is_read() {
    let (opener, clock, loads) = opener(&encryption());
    let lacking = || opener.reload(Reload::Lacking);
    futures_util::future::join_all((0..10).map(|_| lacking())).await;
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    opener.reload(Reload::Changed).await;
    assert_eq!(loads.load(Ordering::SeqCst), 3, "once in vain");
    clock.advance(Duration::from_secs(5));
    lacking().await;
    lacking().await;
    assert_eq!(loads.load(Ordering::SeqCst), 4);
}

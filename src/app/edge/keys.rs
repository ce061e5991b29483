//! The keys of a deployment, opened at the start and followed from then on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;

use crate::admin::keyring::KeyringUnavailable;
use crate::admin::{Health, keyring};
use crate::app::error::ServeError;
use crate::app::operations::{self, OpenError};
use crate::app::store;
use crate::assertion::Signer;
use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::keyring::Passwords;
use crate::crypto::{Keyring, PostQuantumEncryption};
use crate::directory::{Loaded, SealedRecords};
use crate::key::token_keys;
use crate::repository::ApiKeyReader;
use crate::telemetry::metric;
use crate::token::TokenKeys;

/// To read and open the keyring again; opening it takes a second of work.
const KEYRING_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two attempts to reach the key store at the start: short at first, for
/// one that is starting too.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The keys of a deployment: where records are, and what opens them.
pub(super) struct Keys {
    pub(super) repository: Arc<dyn ApiKeyReader>,
    encryption: PostQuantumEncryption,
    pub(super) tokens: Arc<ArcSwap<TokenKeys>>,
    pub(super) signer: Signer,
    passwords: Passwords,
    /// The stored keyring that was looked at last.
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Keys {
    /// Waits for a store that does not answer yet: what could be served without
    /// its keyring? Whatever else is wrong with it ends the waiting.
    pub(super) async fn wait(
        config: &Config,
        clock: &Clock,
        health: &Health,
    ) -> Result<Self, ServeError> {
        let reached = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&reached);
        health.add_part("keyring", move || asked.load(Ordering::Relaxed));
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match Self::open(config, clock).await {
                Err(error) if store::is_outage(config, &error) => error,
                opened => {
                    reached.store(true, Ordering::Relaxed);
                    return Ok(opened?);
                }
            };
            tracing::warn!(%error, retry_in = ?pause, "waiting for the key store");
            reached.store(false, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn open(config: &Config, clock: &Clock) -> Result<Self, OpenError> {
        let passwords = operations::passwords(config)?;
        let repository = store::existing(config, clock).await?;
        let keyring = operations::open_keyring(config, &*repository).await?;
        let unlocked = operations::unlocked(config, &keyring)?;
        tell_version(&unlocked.encryption);
        Ok(Self {
            repository,
            signer: Signer::of(&unlocked.encryption)?,
            encryption: unlocked.encryption,
            tokens: Arc::new(ArcSwap::from_pointee(unlocked.tokens)),
            passwords,
            // There is one spelling of each.
            seen: Arc::new(Mutex::new(keyring.document())),
        })
    }

    pub(super) fn opener(&self, config: &Config, clock: &Clock) -> SealedRecords {
        let collection = store::collection(config);
        let (encryption, tokens) = (self.encryption.clone(), Arc::clone(&self.tokens));
        let (repository, passwords) = (Arc::clone(&self.repository), self.passwords.clone());
        let (seen, signer) = (Arc::clone(&self.seen), self.signer.clone());
        let load = move || -> BoxFuture<'static, Loaded> {
            let (encryption, tokens) = (encryption.clone(), Arc::clone(&tokens));
            let (repository, passwords) = (Arc::clone(&repository), passwords.clone());
            let (seen, signer) = (Arc::clone(&seen), signer.clone());
            let collection = collection.clone();
            Box::pin(async move {
                let load = keyring::load_changed(&*repository, &collection, passwords, &seen);
                match tokio::time::timeout(KEYRING_TIMEOUT, load).await {
                    Ok(Ok(Some(keyring))) => {
                        take(&encryption, &tokens, &signer, &keyring);
                        Loaded::Opened
                    }
                    Ok(Ok(None)) => Loaded::Unchanged,
                    Ok(Err(error)) => {
                        tracing::error!(%error, "going on with the keyring that is held");
                        match error {
                            KeyringUnavailable::Repository(_) => Loaded::Unread,
                            _ => Loaded::Opened,
                        }
                    }
                    Err(_) => {
                        tracing::error!(
                            "the keyring cannot be read in time: going on with the one that is held"
                        );
                        Loaded::Unread
                    }
                }
            })
        };
        SealedRecords::new(
            self.encryption.clone(),
            store::scope(config),
            clock.clone(),
            load,
        )
    }
}

fn take(
    encryption: &PostQuantumEncryption,
    tokens: &ArcSwap<TokenKeys>,
    signer: &Signer,
    keyring: &Keyring,
) {
    if let Err(error) = encryption.replace(keyring) {
        tracing::error!(%error, "going on with the keyring that is held");
        return;
    }
    if let Some(keys) = token_keys(encryption) {
        tokens.store(Arc::new(keys));
    }
    if let Err(error) = signer.follow(encryption) {
        tracing::error!(%error, "going on with the key that signed assertions before");
    }
    tell_version(encryption);
    tracing::info!(version = encryption.version(), "the keyring was reloaded");
}

/// How operators know when every edge has a change.
fn tell_version(encryption: &PostQuantumEncryption) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "it counts changes made by people"
    )]
    metrics::gauge!(metric::KEYRING_VERSION).set(encryption.version() as f64);
}

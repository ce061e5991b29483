//! Keys by the hundred, issued in this process: a command for each would take
//! a password's worth of work for each.

use std::num::NonZeroU32;
use std::sync::Arc;

use cypheron_edge::admin::{
    AuditEntry, AuditLog, AuditUnavailable, NewKey, Operations, Unlocked, keyring,
};
use cypheron_edge::clock::Clock;
use cypheron_edge::crypto::Password;
use cypheron_edge::key::Scope;
use cypheron_edge::repository::ApiKeyRepository;
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{Environment, TokenFormat};
use cypheron_edge::usage::report::AuditedKey;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::process::PASSWORD;

/// The tokens of so many new keys, called `key 0` and so on. `collection` is what
/// the keyring is for.
pub async fn issue(
    repository: Arc<dyn ApiKeyRepository>,
    collection: &str,
    scope: Scope,
    keys: usize,
) -> Vec<String> {
    let password = Password::new(Secret::new(PASSWORD.to_owned())).unwrap();
    let keyring = keyring::load(&*repository, collection, password).await;
    let operations = Operations {
        unlocked: Unlocked::new(&keyring.unwrap()),
        repository,
        audit: Arc::new(Unread),
        scope,
        format: TokenFormat::new("cyk", Environment::Live).unwrap(),
        actor: "a test".to_owned(),
        clock: Clock::system(),
    };
    let mut tokens = Vec::new();
    for number in 0..keys {
        let new = NewKey {
            name: name(number).parse().unwrap(),
            permissions: Vec::new(),
            rate_limit: NonZeroU32::MAX,
            expires_at: None,
            allowed_ips: Vec::new(),
            recoverable: false,
        };
        let created = operations.create(new).await.unwrap();
        tokens.push(created.token.expose().to_owned());
    }
    tokens
}

pub fn name(number: usize) -> String {
    format!("key {number}")
}

/// An audit log that nobody reads.
#[derive(Debug)]
struct Unread;

impl AuditLog for Unread {
    fn record(&self, _: AuditEntry) -> BoxFuture<'_, Result<(), AuditUnavailable>> {
        std::future::ready(Ok(())).boxed()
    }

    fn known(&self, _: Uuid) -> BoxFuture<'_, Result<Option<AuditedKey>, AuditUnavailable>> {
        std::future::ready(Ok(None)).boxed()
    }
}

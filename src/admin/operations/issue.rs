//! Issuing tokens.

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use super::{Action, Changes, KeyRef, OperationError, Operations, Result, persist};
use crate::clock::Timestamp;
use crate::key::{ApiKey, KeyName, Sealed};
use crate::permission::Permission;
use crate::secret::Secret;
use crate::token::{KeyHash, Token, TokenDigest, Value};

/// The policy of a key to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    pub name: KeyName,
    pub permissions: Vec<Permission>,
    /// Requests per minute.
    pub rate_limit: NonZeroU32,
    pub expires_at: Option<Timestamp>,
    /// Empty means any.
    pub allowed_ips: Vec<IpNet>,
    /// The token itself is sealed, so that it can be revealed again.
    pub recoverable: bool,
}

/// A new key, and its token: the only time it is seen.
#[derive(Debug)]
pub struct Created {
    pub key: ApiKey,
    pub token: Token,
}

/// A successor, and what was done to its predecessor.
#[derive(Debug)]
pub struct Rotation {
    pub successor: Created,
    /// It expires at the end of the overlap.
    pub predecessor: ApiKey,
}

impl Operations {
    pub async fn create(&self, new: NewKey) -> Result<Created> {
        self.issue(new, Action::Create, String::new()).await
    }

    async fn issue(&self, new: NewKey, action: Action, detail: String) -> Result<Created> {
        let now = self.clock.wall();
        let token = self.format.mint(&self.unlocked()?.tokens)?;
        let key = ApiKey {
            id: now.new_uuid()?,
            name: new.name,
            key_hash: self.hash(&token)?,
            permissions: new.permissions,
            rate_limit: new.rate_limit,
            created_at: now,
            expires_at: new.expires_at,
            is_active: true,
            allowed_ips: new.allowed_ips,
            revision: 1,
            last_used: None,
            usage_count: 0,
        };
        let sealed = if new.recoverable {
            Sealed::Token(Secret::new(token.expose().to_owned()))
        } else {
            Sealed::Digest(TokenDigest::of(token.expose()))
        };
        let envelope = self.seal(&sealed, &key)?;
        self.audit(action, &key, detail).await?;
        let written = self.repository.create(&key, &envelope).await;
        self.concluded(&key, written).await?;
        Ok(Created { key, token })
    }

    fn hash(&self, token: &Token) -> Result<KeyHash> {
        match self.format.parse(token.expose()) {
            Value::Token(token) => self.unlocked()?.tokens.hash(token),
            Value::Foreign | Value::Malformed(_) => None,
        }
        .ok_or(OperationError::Mint)
    }

    /// Issues a successor with the same name and policy, and lets the old key
    /// live for `overlap` more. A successor of a key that expires lives as long
    /// as that one was made to live.
    pub async fn rotate(&self, key: &KeyRef, overlap: Duration) -> Result<Rotation> {
        let now = self.clock.wall();
        let stored = self.find(key).await?;
        let old = stored.key.clone();
        let sealed = self.open(&stored)?;
        if !old.is_active || old.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(OperationError::Inactive(old.id));
        }
        let lifetime = old
            .expires_at
            .map(|expires_at| expires_at.as_micros().abs_diff(old.created_at.as_micros()));
        let successor = NewKey {
            name: old.name,
            permissions: old.permissions,
            rate_limit: old.rate_limit,
            expires_at: lifetime.map(|micros| now.saturating_add(Duration::from_micros(micros))),
            allowed_ips: old.allowed_ips,
            recoverable: matches!(sealed, Sealed::Token(_)),
        };
        let successor = self
            .issue(successor, Action::Rotate, format!("succeeds {}", old.id))
            .await?;

        let end = now.saturating_add(overlap);
        let changes = Changes {
            expires_at: Some(Some(old.expires_at.map_or(end, |expires| expires.min(end)))),
            ..Changes::default()
        };
        let old = KeyRef::Id(old.id);
        match persist(|| self.update_once(&old, &changes, Action::Rotate)).await {
            Ok(predecessor) => Ok(Rotation {
                successor,
                predecessor,
            }),
            Err(error) => {
                // Nobody has seen its token.
                self.delete(&KeyRef::Hash(successor.key.key_hash)).await?;
                Err(error)
            }
        }
    }
}

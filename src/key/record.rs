//! [`ApiKey`], and the bytes that bind a record to its place and policy.

use std::fmt;
use std::num::NonZeroU32;

use ipnet::IpNet;
use uuid::Uuid;

use super::KeyName;
use crate::clock::Timestamp;
use crate::permission::Permission;
use crate::token::KeyHash;

/// The record of a key: policy and bookkeeping, never the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// UUIDv7.
    pub id: Uuid,
    pub name: KeyName,
    pub key_hash: KeyHash,
    pub permissions: Vec<Permission>,
    /// Requests per minute.
    pub rate_limit: NonZeroU32,
    pub created_at: Timestamp,
    /// The first moment at which the key is no longer valid.
    pub expires_at: Option<Timestamp>,
    pub is_active: bool,
    /// The client addresses the key may be used from; empty means any.
    pub allowed_ips: Vec<IpNet>,
    /// Counts the policy writes; an edge never goes back to a lower one.
    pub revision: u64,
    /// Bookkeeping, from the usage ledger; not sealed.
    pub last_used: Option<Timestamp>,
    /// Bookkeeping, from the usage ledger; not sealed.
    pub usage_count: u64,
}

/// Where a deployment keeps its records; sealed into each of them, so that a
/// record copied from another environment does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub project: String,
    pub database: String,
    pub collection: String,
}

/// `project/database/collection`: what a keyring calls the collection it is for.
/// Only the last part may hold a slash, so that no two scopes share it.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.project, self.database, self.collection)
    }
}

impl ApiKey {
    /// Whether the two differ in bookkeeping at most.
    pub fn has_policy_of(&self, other: &Self) -> bool {
        let other = Self {
            last_used: self.last_used,
            usage_count: self.usage_count,
            ..other.clone()
        };
        *self == other
    }

    /// The associated data of the record's envelope: the scope, then every
    /// policy field, each text length-prefixed and
    /// each list count-prefixed (big-endian 32-bit), so that no two different
    /// records share it.
    pub fn associated_data(&self, scope: &Scope) -> Vec<u8> {
        // Taken apart in full, so that a new field is either sealed or named
        // here as not.
        let Self {
            id,
            name,
            key_hash,
            permissions,
            rate_limit,
            created_at,
            expires_at,
            is_active,
            allowed_ips,
            revision,
            last_used: _,
            usage_count: _,
        } = self;
        let mut data = AssociatedData(Vec::with_capacity(256));
        data.bytes(b"cypheron-edge record 1");
        data.bytes(scope.project.as_bytes());
        data.bytes(scope.database.as_bytes());
        data.bytes(scope.collection.as_bytes());
        data.bytes(id.as_bytes());
        data.bytes(key_hash.as_bytes());
        data.bytes(name.as_str().as_bytes());
        data.list(permissions, |permission| permission.as_str().to_owned());
        data.bytes(&rate_limit.get().to_be_bytes());
        data.bytes(&created_at.as_micros().to_be_bytes());
        data.list(expires_at.as_slice(), |time| time.as_micros().to_string());
        data.bytes(&[u8::from(*is_active)]);
        data.list(allowed_ips, IpNet::to_string);
        data.bytes(&revision.to_be_bytes());
        data.0
    }
}

struct AssociatedData(Vec<u8>);

impl AssociatedData {
    fn count(&mut self, count: usize) {
        // Lengths and counts of a record stay far below 2^32; saturating keeps
        // an impossible one from colliding with a small one.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&count.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn list<T>(&mut self, items: &[T], text: impl Fn(&T) -> String) {
        self.count(items.len());
        for item in items {
            self.bytes(text(item).as_bytes());
        }
    }
}

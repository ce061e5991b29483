//! [`KnownKey`].

use std::num::NonZeroU32;

use ipnet::IpNet;
use uuid::Uuid;

use super::{ApiKey, KeyName};
use crate::clock::Timestamp;
use crate::permission::Permissions;
use crate::token::KeyHash;

/// Later than any time that a record can have.
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// The policy of a key as an edge holds it, a million of them: what every
/// request asks for lies together, what keys have in common is held once, and
/// what few have takes one word where they have none. The bookkeeping of its
/// record is not held: it would be as old as the last read.
#[derive(Clone, Debug, PartialEq, Eq)]
// In this order: behind what `directory::Entry` begins with, a cache line ends
// with `allowed_ips`, and the next within `name`.
#[repr(C)]
pub struct KnownKey {
    /// Requests per minute.
    pub rate_limit: NonZeroU32,
    pub is_active: bool,
    /// The first moment at which the key is no longer valid, or [`NEVER`].
    expires_at: Timestamp,
    pub permissions: Permissions,
    /// `None` where any will do.
    allowed_ips: Option<Box<Networks>>,
    pub key_hash: KeyHash,
    /// UUIDv7.
    pub id: Uuid,
    pub name: KeyName,
    pub created_at: Timestamp,
    /// Counts the policy writes; an edge never goes back to a lower one.
    pub revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Networks(Box<[IpNet]>);

impl KnownKey {
    /// The first moment at which the key is no longer valid.
    pub fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at).filter(|at| *at != NEVER)
    }

    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// The client addresses the key may be used from; empty means any.
    pub fn allowed_ips(&self) -> &[IpNet] {
        self.allowed_ips
            .as_deref()
            .map_or(&[], |networks| &networks.0)
    }

    /// Whether it is what `record` says, but for bookkeeping.
    pub fn has_policy_of(&self, record: &ApiKey) -> bool {
        // Taken apart in full, so that a new field is either compared or named
        // here as not.
        let ApiKey {
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
        } = record;
        self.id == *id
            && self.name == *name
            && self.key_hash == *key_hash
            && *self.permissions == **permissions
            && self.rate_limit == *rate_limit
            && self.created_at == *created_at
            && self.expires_at == expires_at.unwrap_or(NEVER)
            && self.is_active == *is_active
            && self.allowed_ips() == *allowed_ips
            && self.revision == *revision
    }

    /// The same, taken away by a write of `revision`.
    pub fn revoked(&self, revision: u64) -> Self {
        Self {
            is_active: false,
            revision,
            ..self.clone()
        }
    }
}

impl From<ApiKey> for KnownKey {
    /// Not for the path of a request: see [`Permissions`].
    fn from(record: ApiKey) -> Self {
        let networks = Some(record.allowed_ips).filter(|networks| !networks.is_empty());
        Self {
            rate_limit: record.rate_limit,
            is_active: record.is_active,
            expires_at: record.expires_at.unwrap_or(NEVER),
            permissions: record.permissions.into(),
            allowed_ips: networks.map(|networks| Box::new(Networks(networks.into()))),
            key_hash: record.key_hash,
            id: record.id,
            name: record.name,
            created_at: record.created_at,
            revision: record.revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Edits one thing of a record.
    type Edit = (&'static str, bool, fn(&mut ApiKey));

    fn record() -> ApiKey {
        ApiKey {
            id: Uuid::from_u128(1),
            name: "ab".parse().unwrap(),
            key_hash: KeyHash::from_bytes([1; 32]),
            permissions: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            rate_limit: NonZeroU32::MIN,
            created_at: Timestamp::from_micros(1),
            expires_at: Some(Timestamp::from_micros(2)),
            is_active: true,
            allowed_ips: vec!["192.0.2.0/24".parse().unwrap()],
            revision: 1,
            last_used: None,
            usage_count: 0,
        }
    }

    #[test]
    #[rustfmt::skip]
    fn it_has_the_policy_of_its_record_and_of_no_other() {
        let edits: [Edit; 14] = [
            ("nothing", true, |_| {}),
            ("last_used", true, |key| key.last_used = Some(Timestamp::EPOCH)),
            ("usage_count", true, |key| key.usage_count = 9),
            ("id", false, |key| key.id = Uuid::from_u128(2)),
            ("name", false, |key| key.name = "abc".parse().unwrap()),
            ("key_hash", false, |key| key.key_hash = KeyHash::from_bytes([2; 32])),
            ("permissions", false, |key| key.permissions.reverse()),
            ("rate_limit", false, |key| key.rate_limit = NonZeroU32::MAX),
            ("created_at", false, |key| key.created_at = Timestamp::EPOCH),
            ("expires_at", false, |key| key.expires_at = None),
            ("is_active", false, |key| key.is_active = false),
            ("allowed_ips", false, |key| key.allowed_ips.clear()),
            ("another network", false, |key| key.allowed_ips[0] = "::/0".parse().unwrap()),
            ("revision", false, |key| key.revision = 2),
        ];
        let known = KnownKey::from(record());
        for (what, same, edit) in edits {
            let mut edited = record();
            edit(&mut edited);
            assert_eq!(known.has_policy_of(&edited), same, "{what}");
            let other = KnownKey::from(edited.clone());
            assert_eq!(known == other, same, "{what}");
            assert!(other.has_policy_of(&edited), "{what}");
            assert_eq!(other.expires_at(), edited.expires_at, "{what}");
            assert_eq!(other.allowed_ips(), edited.allowed_ips, "{what}");
        }
    }
}

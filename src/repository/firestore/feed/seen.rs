//! What the feed remembers of a document.

use std::hash::{BuildHasher, Hash, Hasher};

use firestore::gcloud_sdk::google::firestore::v1::Document;
use firestore::gcloud_sdk::google::firestore::v1::value::ValueType;
use firestore::gcloud_sdk::prost::Message;
use foldhash::quality::RandomState;

use super::super::document::{
    IS_ACTIVE, LAST_USED, UPDATED_AT, USAGE_COUNT, is_tombstone, revision, timestamp,
};
use crate::clock::Timestamp;
use crate::repository::Change;

/// Fields that an edge does not go by: a document in which only these moved has
/// not changed.
const BOOKKEEPING: [&str; 2] = [LAST_USED, USAGE_COUNT];

/// A document, as far as it has to be told from its next state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    fingerprint: u64,
    revision: u64,
    pub(super) live: bool,
    pub(super) updated_at: Timestamp,
}

/// Takes fingerprints. Seeded at random, so that nobody can look for two
/// documents with the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Fingerprints(RandomState);

impl Fingerprints {
    pub(super) fn of(&self, document: &Document) -> u64 {
        let mut fields: Vec<_> = document
            .fields
            .iter()
            .filter(|(name, _)| !BOOKKEEPING.contains(&name.as_str()))
            .collect();
        fields.sort_unstable_by_key(|(name, _)| *name);
        let mut hasher = self.0.build_hasher();
        for (name, value) in fields {
            name.hash(&mut hasher);
            value.encode_to_vec().hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(super) fn see(&self, document: &Document) -> Seen {
        Seen {
            fingerprint: self.of(document),
            // Zero where there is none that could be one: whoever reads it finds out.
            revision: revision(document).unwrap_or(0),
            live: is_live(document),
            updated_at: updated_at(document).unwrap_or(Timestamp::EPOCH),
        }
    }
}

impl Seen {
    pub(super) const fn differs_from(&self, other: &Self) -> bool {
        self.fingerprint != other.fingerprint
    }

    /// That the document is in this state; nothing for a name that no token can
    /// lead to.
    pub(super) fn change(&self, name: &str) -> Option<Change> {
        Some(Change::Record {
            hash: name.parse().ok()?,
            revision: self.revision,
            live: self.live,
        })
    }

    /// That the document is to be read again, whatever it was.
    pub(super) fn outdated(&self, name: &str) -> Option<Change> {
        Some(Change::Record {
            hash: name.parse().ok()?,
            revision: self.revision,
            live: true,
        })
    }
}

/// That the store has deleted the document, tombstone and all.
pub(super) fn gone(name: &str) -> Option<Change> {
    Some(Change::Record {
        hash: name.parse().ok()?,
        revision: 0,
        live: false,
    })
}

/// Only what plainly says so is a revocation; a damaged record is for its
/// reader to judge.
fn is_live(document: &Document) -> bool {
    !is_tombstone(document) && value(document, IS_ACTIVE) != Some(&ValueType::BooleanValue(false))
}

fn updated_at(document: &Document) -> Option<Timestamp> {
    match value(document, UPDATED_AT) {
        Some(ValueType::TimestampValue(time)) => Some(timestamp(time)),
        _ => None,
    }
}

fn value<'a>(document: &'a Document, field: &str) -> Option<&'a ValueType> {
    document.fields.get(field)?.value_type.as_ref()
}

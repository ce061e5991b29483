//! Which key is meant.

use std::fmt;

use uuid::Uuid;

use super::{OperationError, Operations, Result};
use crate::repository::{At, Filter, Found, Located, StoredKey};
use crate::token::KeyHash;

/// A key, by its id, by a name that only it has, or by the hash that its record
/// is stored under: what is left where an id or a name is not one record's only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRef {
    Id(Uuid),
    Hash(KeyHash),
    Name(String),
}

impl From<&str> for KeyRef {
    fn from(text: &str) -> Self {
        match (Uuid::try_parse(text), text.parse()) {
            (Ok(id), _) => Self::Id(id),
            (_, Ok(hash)) => Self::Hash(hash),
            _ => Self::Name(text.to_owned()),
        }
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Hash(hash) => hash.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Operations {
    pub(super) async fn find(&self, key: &KeyRef) -> Result<StoredKey> {
        let found = match key {
            KeyRef::Id(id) => self.repository.find_by_id(*id).await?,
            KeyRef::Hash(hash) => match self.repository.find(hash).await? {
                Found::Key(stored) => Some(*stored),
                Found::Tombstone { .. } | Found::Absent => None,
            },
            KeyRef::Name(name) => match self.id_of(name).await? {
                Some(id) => self.repository.find_by_id(id).await?,
                None => None,
            },
        };
        found.ok_or_else(|| OperationError::Unknown(key.to_string()))
    }

    /// All that is there of a key: never nothing.
    pub(super) async fn locate(&self, key: &KeyRef) -> Result<Vec<Located>> {
        let at = match key {
            KeyRef::Id(id) => Some(At::Id(*id)),
            KeyRef::Hash(hash) => Some(At::Hash(*hash)),
            KeyRef::Name(name) => self.id_of(name).await?.map(At::Id),
        };
        let located = match at {
            Some(at) => self.repository.locate(at).await?,
            None => Vec::new(),
        };
        if located.is_empty() {
            return Err(OperationError::Unknown(key.to_string()));
        }
        Ok(located)
    }

    async fn id_of(&self, name: &str) -> Result<Option<Uuid>> {
        let filter = Filter {
            name: Some(name.to_owned()),
            active: None,
        };
        let found = self.all(&filter).await?.keys;
        let named = found
            .iter()
            .filter(|stored| stored.key.name.as_str() == name);
        let mut ids: Vec<_> = named.map(|stored| stored.key.id).collect();
        // A copy has the id as well.
        ids.dedup();
        if ids.len() > 1 {
            return Err(OperationError::Ambiguous {
                name: name.to_owned(),
                ids,
            });
        }
        Ok(ids.pop())
    }
}

//! Which key is meant.

use std::fmt;

use uuid::Uuid;

use super::{OperationError, Operations, Result};
use crate::repository::{Filter, StoredKey};

/// A key, by its id or by a name that only it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRef {
    Id(Uuid),
    Name(String),
}

impl From<&str> for KeyRef {
    fn from(text: &str) -> Self {
        match Uuid::try_parse(text) {
            Ok(id) => Self::Id(id),
            Err(_) => Self::Name(text.to_owned()),
        }
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Operations {
    pub(super) async fn find(&self, key: &KeyRef) -> Result<StoredKey> {
        let found = match key {
            KeyRef::Id(id) => self.repository.find_by_id(*id).await?,
            KeyRef::Name(name) => self.find_by_name(name).await?,
        };
        found.ok_or_else(|| OperationError::Unknown(key.to_string()))
    }

    async fn find_by_name(&self, name: &str) -> Result<Option<StoredKey>> {
        let filter = Filter {
            name: Some(name.to_owned()),
            active: None,
        };
        let mut found = self.all(&filter).await?.keys;
        found.retain(|stored| stored.key.name.as_str() == name);
        if found.len() > 1 {
            return Err(OperationError::Ambiguous {
                name: name.to_owned(),
                ids: found.iter().map(|stored| stored.key.id).collect(),
            });
        }
        Ok(found.pop())
    }
}

//! What the directory knows of one key.

use crate::key::ApiKey;

/// A verified record, as a request sees it.
#[derive(Debug)]
pub struct Entry {
    pub key: ApiKey,
}

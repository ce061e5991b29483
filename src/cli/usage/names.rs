//! What people call keys.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::admin::Operations;
use crate::cli::failure::Failure;

/// Names of keys, each asked for once; a key that is gone keeps its id.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<Uuid, String>);

impl Names {
    pub(super) async fn of(
        &mut self,
        key_id: Uuid,
        operations: &Operations,
    ) -> Result<String, Failure> {
        if let Some(name) = self.0.get(&key_id) {
            return Ok(name.clone());
        }
        let found = operations.repository.find_by_id(key_id).await;
        let name = match found.map_err(Failure::failed)? {
            Some(stored) => stored.key.name.to_string(),
            None => key_id.to_string(),
        };
        self.0.insert(key_id, name.clone());
        Ok(name)
    }
}

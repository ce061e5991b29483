//! The changes to the keyring of the store that a configuration names.

use std::sync::Arc;

use super::operations::{self, OpenError};
use super::store;
use crate::admin::keyring::KeyringOperations;
use crate::clock::Clock;
use crate::config::{Config, missing_new_password};
use crate::crypto::Password;

/// The changes to a keyring that is there.
pub async fn keyring_operations(
    config: &Config,
    clock: &Clock,
) -> Result<KeyringOperations, OpenError> {
    let password = operations::password(config)?;
    Ok(KeyringOperations {
        repository: store::existing(config, clock).await?,
        audit: Arc::new(operations::audit_log(config, clock)),
        collection: store::collection(config),
        scope: store::scope(config),
        password,
        actor: operations::actor(),
        clock: clock.clone(),
    })
}

/// The password that the keyring is to be opened with from now on.
pub fn new_password(config: &Config) -> Result<Password, OpenError> {
    let given = config.new_password.clone().map_err(OpenError::Password)?;
    given.ok_or_else(|| OpenError::Password(missing_new_password()))
}

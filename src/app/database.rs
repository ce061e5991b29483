//! PostgreSQL, where the environment chooses it.

use super::operations::OpenError;
use crate::config::Config;
use crate::database::DatabaseManager;

/// Both pools, with nothing in them yet; `None` where PostgreSQL is not chosen.
/// Has to be called in a runtime.
pub fn databases(config: &Config) -> Result<Option<DatabaseManager>, OpenError> {
    let connect = |server| DatabaseManager::postgres(server, &config.database);
    Ok(config.postgres.as_ref().map(connect).transpose()?)
}

/// Brings the schema up to date, and says how many migrations that took.
pub async fn migrate(config: &Config) -> Result<usize, OpenError> {
    let databases = databases(config)?.ok_or(OpenError::NoPostgres)?;
    let applied = databases.migrate().await;
    databases.close().await;
    Ok(applied?)
}

//! PostgreSQL, where the environment chooses it.

use super::operations::OpenError;
use crate::config::Config;
use crate::database::{DatabaseManager, NotReady};

/// Both pools, with nothing in them yet; `None` where PostgreSQL is not chosen.
/// Has to be called in a runtime.
pub fn databases(config: &Config) -> Result<Option<DatabaseManager>, OpenError> {
    let connect = |server| DatabaseManager::postgres(server, &config.database);
    Ok(config.postgres.as_ref().map(connect).transpose()?)
}

/// Brings the schema up to date, lets `roles` run edges on it, and says how many
/// migrations that took.
pub async fn migrate(config: &Config, roles: &[String]) -> Result<usize, OpenError> {
    let databases = databases(config)?.ok_or(OpenError::NoPostgres)?;
    let applied = migrate_and_grant(&databases, roles).await;
    databases.close().await;
    Ok(applied?)
}

async fn migrate_and_grant(
    databases: &DatabaseManager,
    roles: &[String],
) -> Result<usize, NotReady> {
    let applied = databases.migrate().await?;
    for role in roles {
        databases.grant(role).await?;
    }
    Ok(applied)
}

//! Reports over the usage that a configuration names.

use super::operations::{OpenError, reachable};
use crate::config::Config;
use crate::database::DatabaseManager;
use crate::usage::report::SqliteReports;

/// What usage was recorded. Blocks.
pub fn reports(config: &Config) -> Result<SqliteReports, OpenError> {
    let file = config.data.dir.join("usage.db");
    reachable(&file)?.ok_or(OpenError::NoUsage(file))?;
    let databases = DatabaseManager::open_embedded(&config.data.dir)?;
    Ok(SqliteReports::new(&databases))
}

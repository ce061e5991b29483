//! Reports over the usage that a configuration names.

use super::operations::OpenError;
use crate::config::Config;
use crate::database::Database;
use crate::usage::report::SqliteReports;

/// What usage was recorded. Blocks.
pub fn reports(config: &Config) -> Result<SqliteReports, OpenError> {
    let file = config.data.dir.join("usage.db");
    if !file.exists() {
        return Err(OpenError::NoUsage(file));
    }
    let database = Database::open_in(&config.data.dir)?;
    Ok(SqliteReports::new(&database))
}

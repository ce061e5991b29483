//! Reports over the usage that a configuration names.

use super::operations::{OpenError, reachable};
use crate::config::Config;
use crate::database::Database;
use crate::usage::report::{SqliteReports, UsageReports};

/// What usage was recorded. Blocks where it is in a file.
pub async fn reports(config: &Config) -> Result<Box<dyn UsageReports>, OpenError> {
    #[cfg(feature = "postgres")]
    if config.usage.sink != Some(crate::usage::config::Sink::Sqlite) {
        return of_postgres(config).await;
    }
    of_file(config)
}

#[cfg(feature = "postgres")]
async fn of_postgres(config: &Config) -> Result<Box<dyn UsageReports>, OpenError> {
    let databases = super::databases(config)?.ok_or(OpenError::NoPostgres)?;
    databases.ready().await?;
    let reports = crate::usage::report::PostgresReports::new(&databases);
    Ok(Box::new(reports))
}

fn of_file(config: &Config) -> Result<Box<dyn UsageReports>, OpenError> {
    let file = config.data.dir.join("usage.db");
    reachable(&file)?.ok_or(OpenError::NoUsage(file))?;
    let database = Database::open_in(&config.data.dir)?;
    Ok(Box::new(SqliteReports::new(&database)))
}

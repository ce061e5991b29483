//! Where usage ends, as the configuration has it.

use std::sync::Arc;

use super::operations::OpenError;
use crate::clock::Clock;
use crate::config::Config;
use crate::database::Database;
use crate::usage::sink::{SqliteSink, UsageSink};
use crate::usage::totals::{KeyTotals, SqliteTotals};

/// The usage of a configuration.
pub(super) struct Ledger {
    pub(super) sink: Arc<dyn UsageSink>,
    pub(super) totals: Arc<dyn KeyTotals>,
}

/// The usage of a configuration; a build without PostgreSQL refuses one that
/// chooses it.
pub(super) async fn ledger(config: &Config, clock: &Clock) -> Result<Ledger, OpenError> {
    #[cfg(feature = "postgres")]
    if let Some(database) = postgres::chosen(config)? {
        return Ok(postgres::ledger(&database, config));
    }
    sqlite(config, clock).await
}

/// The usage of an edge, for as long as its runtime runs. A PostgreSQL that is
/// not there keeps no edge from serving: its usage waits in the journal. One
/// whose schema is another build's does.
pub(super) async fn served(config: &Config, clock: &Clock) -> Result<Ledger, OpenError> {
    #[cfg(feature = "postgres")]
    if let Some(database) = postgres::chosen(config)? {
        postgres::check(&database).await?;
        let kept = database.clone();
        tokio::spawn(async move { kept.keep().await });
        return Ok(postgres::ledger(&database, config));
    }
    sqlite(config, clock).await
}

async fn sqlite(config: &Config, clock: &Clock) -> Result<Ledger, OpenError> {
    let directory = config.data.dir.clone();
    let opened = tokio::task::spawn_blocking(move || Database::open_in(&directory)).await;
    let database = opened.map_err(OpenError::Ended)??;
    Ok(Ledger {
        sink: Arc::new(SqliteSink::new(&database, clock.clone())),
        totals: Arc::new(SqliteTotals::new(&database)),
    })
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::sync::Arc;

    use super::Ledger;
    use crate::app::database::databases;
    use crate::app::operations::OpenError;
    use crate::config::Config;
    use crate::database::{DatabaseManager, NotReady};
    use crate::usage::config::Sink;
    use crate::usage::sink::PostgresSink;
    use crate::usage::totals::PostgresTotals;

    pub(super) fn chosen(config: &Config) -> Result<Option<DatabaseManager>, OpenError> {
        match config.usage.sink {
            Some(Sink::Postgres) => databases(config)?.ok_or(OpenError::NoPostgres).map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn ledger(database: &DatabaseManager, config: &Config) -> Ledger {
        Ledger {
            sink: Arc::new(PostgresSink::new(database, config.usage.retention)),
            totals: Arc::new(PostgresTotals::new(database)),
        }
    }

    pub(super) async fn check(database: &DatabaseManager) -> Result<(), NotReady> {
        match database.ready().await {
            Err(error) if error.is_final() => Err(error),
            Err(error) => {
                tracing::error!(%error, "serving without the database of the usage for now");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

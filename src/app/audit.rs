//! The audit log of operators' commands.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::admin::{AuditEntry, AuditLog, AuditUnavailable, SinkAuditLog};
use crate::clock::Clock;
use crate::database::Database;
use crate::usage::sink::SqliteSink;

/// The audit log in the usage database, which is opened when there is something
/// to record: taking access away goes on without it.
#[derive(Debug)]
pub(super) struct LazyAuditLog {
    data_dir: PathBuf,
    clock: Clock,
    log: OnceCell<SinkAuditLog>,
}

impl LazyAuditLog {
    pub(super) fn new(data_dir: PathBuf, clock: Clock) -> Self {
        Self {
            data_dir,
            clock,
            log: OnceCell::new(),
        }
    }

    async fn open(&self) -> Result<SinkAuditLog, AuditUnavailable> {
        let data_dir = self.data_dir.clone();
        let database = tokio::task::spawn_blocking(move || Database::open_in(&data_dir))
            .await
            .map_err(|error| AuditUnavailable(error.to_string()))?
            .map_err(|error| AuditUnavailable(error.to_string()))?;
        let sink = SqliteSink::new(&database, self.clock.clone());
        Ok(SinkAuditLog::new(Arc::new(sink)))
    }
}

impl AuditLog for LazyAuditLog {
    fn record(&self, entry: AuditEntry) -> BoxFuture<'_, Result<(), AuditUnavailable>> {
        async {
            let log = self.log.get_or_try_init(|| self.open()).await?;
            log.record(entry).await
        }
        .boxed()
    }
}

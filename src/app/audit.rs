//! The audit log, kept in the usage database.

use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::admin::{AuditEntry, AuditLog, AuditUnavailable};
use crate::clock::Clock;
use crate::database::DatabaseManager;
use crate::usage::sink::{AuditRow, SqliteSink, UsageSink};

/// Opens the database when there is something to record: taking access away
/// goes on without it.
#[derive(Debug)]
pub(super) struct UsageAudit {
    data_dir: PathBuf,
    clock: Clock,
    sink: OnceCell<SqliteSink>,
}

impl UsageAudit {
    pub(super) fn new(data_dir: PathBuf, clock: Clock) -> Self {
        Self {
            data_dir,
            clock,
            sink: OnceCell::new(),
        }
    }

    async fn open(&self) -> Result<&SqliteSink, AuditUnavailable> {
        self.sink
            .get_or_try_init(async || {
                let data_dir = self.data_dir.clone();
                let open = move || DatabaseManager::open_embedded(&data_dir);
                let databases = tokio::task::spawn_blocking(open)
                    .await
                    .map_err(|error| AuditUnavailable(error.to_string()))?
                    .map_err(|error| AuditUnavailable(error.to_string()))?;
                Ok(SqliteSink::new(&databases, self.clock.clone()))
            })
            .await
    }

    async fn append(&self, entry: AuditEntry) -> Result<(), AuditUnavailable> {
        let row = AuditRow {
            at: entry.at,
            actor: entry.actor,
            action: entry.action.as_str().to_owned(),
            key_id: entry.key_id,
            revision: entry.revision,
            detail: entry.detail,
        };
        let sink = self.open().await?;
        sink.audit(row)
            .await
            .map_err(|error| AuditUnavailable(error.to_string()))
    }
}

impl AuditLog for UsageAudit {
    fn record(&self, entry: AuditEntry) -> BoxFuture<'_, Result<(), AuditUnavailable>> {
        self.append(entry).boxed()
    }
}

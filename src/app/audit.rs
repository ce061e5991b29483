//! The audit log of operators' commands.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::reports::reports;
use super::sink::ledger;
use crate::admin::{AuditEntry, AuditLog, AuditUnavailable, SinkAuditLog};
use crate::clock::Clock;
use crate::config::Config;
use crate::usage::report::AuditedKey;

/// The audit log in the usage database, which is opened when there is something
/// to record or look up: taking access away goes on without it.
#[derive(Debug)]
pub(super) struct LazyAuditLog {
    config: Config,
    clock: Clock,
    log: OnceCell<SinkAuditLog>,
}

impl LazyAuditLog {
    pub(super) fn new(config: Config, clock: Clock) -> Self {
        Self {
            config,
            clock,
            log: OnceCell::new(),
        }
    }

    async fn open(&self) -> Result<SinkAuditLog, AuditUnavailable> {
        let ledger = ledger(&self.config, &self.clock).await;
        let ledger = ledger.map_err(|error| AuditUnavailable(error.to_string()))?;
        // After the sink, which makes the file where it is one.
        let reports = reports(&self.config).await;
        let reports = reports.map_err(|error| AuditUnavailable(error.to_string()))?;
        Ok(SinkAuditLog::new(ledger.sink, Arc::from(reports)))
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

    fn known(&self, key: Uuid) -> BoxFuture<'_, Result<Option<AuditedKey>, AuditUnavailable>> {
        async move {
            let log = self.log.get_or_try_init(|| self.open()).await?;
            log.known(key).await
        }
        .boxed()
    }
}

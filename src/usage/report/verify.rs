//! Whether every decision is accounted for.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use super::{InstanceRow, ReportError, UsageReports};
use crate::usage::journal::{Inspected, inspect};

/// How often a process that goes on recording is looked at until it holds
/// still for the time of a look.
const LOOKS: usize = 5;

/// The account of one start of a process:
/// decided = stored + in journal + dropped + interrupted + missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceCheck {
    pub instance: Uuid,
    pub decided: u64,
    pub stored: u64,
    /// Recorded, and not stored yet.
    pub in_journal: u64,
    pub dropped: u64,
    pub interrupted: u64,
    /// Decisions of which nothing is known: records that were damaged, or not
    /// synced when the power failed. Negative when there are too many events.
    pub missing: i64,
    /// Whether nothing changed meanwhile. If it did, `missing` says nothing.
    pub settled: bool,
}

impl InstanceCheck {
    pub const fn is_whole(&self) -> bool {
        self.missing == 0
    }
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error("the usage journals cannot be read: {0}")]
    Journal(#[from] io::Error),
}

/// Accounts for every decision of every start of a process, from the sink and
/// the journals in the data directory; changes nothing. Blocks on files.
pub async fn verify(
    reports: &dyn UsageReports,
    data_dir: &Path,
) -> Result<Vec<InstanceCheck>, VerifyError> {
    let mut checks = Vec::new();
    for _ in 0..LOOKS {
        let before = reports.instances().await?;
        let journals = inspect(data_dir)?;
        checks = account(reports, &before, &journals).await?;
        let unchanged_sink = reports.instances().await? == before;
        if unchanged_sink && inspect(data_dir)? == journals {
            return Ok(checks);
        }
        for check in &mut checks {
            check.settled = false;
        }
    }
    Ok(checks)
}

async fn account(
    reports: &dyn UsageReports,
    rows: &[InstanceRow],
    journals: &[Inspected],
) -> Result<Vec<InstanceCheck>, ReportError> {
    let mut checks: BTreeMap<Uuid, InstanceCheck> = BTreeMap::new();
    for row in rows {
        let check = checks.entry(row.instance).or_insert(nothing(row.instance));
        check.decided = row.decided;
        check.dropped = row.dropped;
        check.stored = row.stored;
        check.interrupted = row.interrupted;
    }
    for journal in journals {
        let check = checks
            .entry(journal.instance)
            .or_insert(nothing(journal.instance));
        // The sink may know of decisions whose records are gone.
        check.decided = check.decided.max(journal.decided);
        check.dropped = check.dropped.max(journal.dropped);
        let events: Vec<Uuid> = journal.events.iter().copied().collect();
        let recorded = events.len() as u64;
        check.in_journal = recorded.saturating_sub(reports.count_stored(events).await?);
    }
    let mut checks: Vec<_> = checks.into_values().collect();
    for check in &mut checks {
        let known = check.stored + check.in_journal + check.dropped + check.interrupted;
        check.missing = check.decided.cast_signed() - known.cast_signed();
    }
    Ok(checks)
}

const fn nothing(instance: Uuid) -> InstanceCheck {
    InstanceCheck {
        instance,
        decided: 0,
        stored: 0,
        in_journal: 0,
        dropped: 0,
        interrupted: 0,
        missing: 0,
        settled: true,
    }
}

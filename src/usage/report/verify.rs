//! Whether every decision is accounted for.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use super::{InstanceRow, ReportError, UsageReports};
use crate::clock::Timestamp;
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
    pub standing: Standing,
    /// When the sink was last told of it.
    pub updated_at: Option<Timestamp>,
}

/// What is to be thought of `missing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Nothing is missing.
    Whole,
    /// It changed meanwhile: `missing` says nothing.
    Recording,
    /// What is missing may be in a journal that is not here.
    Elsewhere,
    Lost,
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
///
/// Of an instance in a sink that others share, whose journal is not here, what
/// is missing is lost only if the sink was not told of it after `dead`.
pub async fn verify(
    reports: &dyn UsageReports,
    data_dir: &Path,
    dead: Timestamp,
) -> Result<Vec<InstanceCheck>, VerifyError> {
    let mut checks = Vec::new();
    for _ in 0..LOOKS {
        let before = reports.instances().await?;
        let journals = inspect(data_dir)?;
        checks = account(reports, &before, &journals, dead).await?;
        let unchanged_sink = reports.instances().await? == before;
        if unchanged_sink && inspect(data_dir)? == journals {
            return Ok(checks);
        }
        for check in &mut checks {
            check.standing = Standing::Recording;
        }
    }
    Ok(checks)
}

async fn account(
    reports: &dyn UsageReports,
    rows: &[InstanceRow],
    journals: &[Inspected],
    dead: Timestamp,
) -> Result<Vec<InstanceCheck>, ReportError> {
    let mut checks: BTreeMap<Uuid, InstanceCheck> = BTreeMap::new();
    for row in rows {
        let check = checks.entry(row.instance).or_insert(nothing(row.instance));
        check.decided = row.decided;
        check.dropped = row.dropped;
        check.stored = row.stored;
        check.interrupted = row.interrupted;
        check.updated_at = Some(row.updated_at);
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
        let is_here = |journal: &Inspected| journal.instance == check.instance;
        let may_live =
            reports.is_shared() && check.updated_at > Some(dead) && !journals.iter().any(is_here);
        check.standing = match check.missing {
            0 => Standing::Whole,
            1.. if may_live => Standing::Elsewhere,
            _ => Standing::Lost,
        };
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
        standing: Standing::Whole,
        updated_at: None,
    }
}

//! `usage verify`

use std::path::Path;

use crate::cli::arguments::Account;
use crate::cli::failure::Failure;
use crate::cli::{Streams, table, write_json};
use crate::clock::Timestamp;
use crate::usage::report::{InstanceCheck, Standing, UsageReports, verify};

/// Prints the account of every instance, and names the gap of each that does
/// not add up; one that is not explained is a failure.
pub(super) async fn run(
    reports: &dyn UsageReports,
    data_dir: &Path,
    account: &Account,
    now: Timestamp,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let dead = now.saturating_sub(account.dead_after);
    let checks = verify(reports, data_dir, dead).await?;
    if account.output.json {
        write_json(&checks, streams.out)?;
    } else {
        let heading = [
            "INSTANCE",
            "DECIDED",
            "STORED",
            "IN JOURNAL",
            "DROPPED",
            "INTERRUPTED",
            "MISSING",
            "STORED LAST",
        ];
        let rows: Vec<_> = checks.iter().map(cells).collect();
        table::write(streams.out, heading, &rows)?;
    }
    for check in &checks {
        if let Some(gap) = gap(check) {
            writeln!(streams.err, "{}: {gap}", check.instance)?;
        }
    }
    let lost = checks
        .iter()
        .filter(|check| check.standing == Standing::Lost);
    match lost.count() {
        0 => Ok(()),
        count => Err(Failure::failed(format_args!(
            "{count} of {} instances do not add up",
            checks.len()
        ))),
    }
}

fn gap(check: &InstanceCheck) -> Option<String> {
    let missing = check.missing;
    match check.standing {
        Standing::Whole => None,
        Standing::Recording => Some(
            "it went on recording meanwhile: what is missing says nothing until it rests"
                .to_owned(),
        ),
        Standing::Elsewhere => Some(format!(
            "{missing} decisions are not stored yet: its journal is not in this data directory"
        )),
        Standing::Lost if missing < 0 => Some(format!(
            "{} more events than decisions",
            missing.unsigned_abs()
        )),
        Standing::Lost => Some(format!(
            "{missing} decisions are nowhere, the last was stored at {}",
            stored_last(check)
        )),
    }
}

fn stored_last(check: &InstanceCheck) -> String {
    check
        .updated_at
        .map_or_else(|| "-".to_owned(), |at| at.to_string())
}

fn cells(check: &InstanceCheck) -> [String; 8] {
    let missing = if check.standing == Standing::Recording {
        "?".to_owned()
    } else {
        check.missing.to_string()
    };
    [
        check.instance.to_string(),
        check.decided.to_string(),
        check.stored.to_string(),
        check.in_journal.to_string(),
        check.dropped.to_string(),
        check.interrupted.to_string(),
        missing,
        stored_last(check),
    ]
}

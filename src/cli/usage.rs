//! `usage`

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;
use uuid::Uuid;

use super::arguments::{Output, Report, Usage};
use super::failure::Failure;
use super::{Streams, table, write_json};
use crate::admin::{KeyRef, Operations};
use crate::app::{self, Need};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::usage::report::{
    InstanceCheck, Query, RefusalRow, ReportError, UsageReports, UsageRow, VerifyError, verify,
};

/// Runs one of the commands.
pub(super) async fn run(
    command: &Usage,
    config: &Config,
    clock: &Clock,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let reports = app::reports(config)?;
    match command {
        Usage::Report(report) => {
            let operations = app::operations(config, clock, Need::Nothing).await?;
            let query = query(report, &operations, clock.wall()).await?;
            show(&reports, query, &operations, report.output, streams.out).await
        }
        Usage::Verify(output) => {
            let checks = verify(&reports, &config.data.dir).await?;
            account(&checks, *output, streams)
        }
    }
}

async fn query(report: &Report, operations: &Operations, now: Timestamp) -> Result<Query, Failure> {
    let until = report.until.unwrap_or(now);
    let key_id = match report.key.as_deref().map(KeyRef::from) {
        // Its record may be gone, its usage is not.
        Some(KeyRef::Id(id)) => Some(id),
        Some(name) => Some(operations.show(&name).await?.stored.key.id),
        None => None,
    };
    Ok(Query {
        from: report.from.unwrap_or(until.saturating_sub(report.last)),
        until,
        by: report.by.into(),
        key_id,
        route: report.route.clone(),
    })
}

async fn show(
    reports: &impl UsageReports,
    query: Query,
    operations: &Operations,
    output: Output,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct View {
        from: Timestamp,
        until: Timestamp,
        usage: Vec<UsageRow>,
        refusals: Vec<RefusalRow>,
    }

    let view = View {
        from: query.from,
        until: query.until,
        usage: reports.usage(query.clone()).await?,
        // These are nobody's.
        refusals: match query.key_id {
            Some(_) => Vec::new(),
            None => reports.refusals(query).await?,
        },
    };
    if output.json {
        return write_json(&view, out);
    }
    let View {
        from,
        until,
        usage,
        refusals,
    } = view;
    let names = names(&usage, operations).await?;
    writeln!(out, "Usage from {from} until {until}")?;
    writeln!(out)?;
    let heading = [
        "FROM",
        "KEY",
        "ROUTE",
        "OUTCOME",
        "REQUESTS",
        "BYTES IN",
        "BYTES OUT",
        "P50 µs",
        "P95 µs",
        "P99 µs",
    ];
    let rows: Vec<_> = usage.iter().map(|row| usage_cells(row, &names)).collect();
    table::write(out, heading, &rows)?;
    if !refusals.is_empty() {
        writeln!(out)?;
        writeln!(out, "Refused without a known key")?;
        writeln!(out)?;
        let rows: Vec<_> = refusals.iter().map(refusal_cells).collect();
        table::write(out, ["FROM", "ROUTE", "REASON", "REQUESTS"], &rows)?;
    }
    Ok(())
}

/// What people call the keys; one that is gone keeps its id.
async fn names(
    rows: &[UsageRow],
    operations: &Operations,
) -> Result<BTreeMap<Uuid, String>, Failure> {
    let mut names = BTreeMap::new();
    for row in rows {
        if names.contains_key(&row.key_id) {
            continue;
        }
        let found = operations.repository.find_by_id(row.key_id).await;
        let name = match found.map_err(Failure::failed)? {
            Some(stored) => stored.key.name.to_string(),
            None => row.key_id.to_string(),
        };
        names.insert(row.key_id, name);
    }
    Ok(names)
}

fn usage_cells(row: &UsageRow, names: &BTreeMap<Uuid, String>) -> [String; 10] {
    [
        row.at.to_string(),
        names.get(&row.key_id).cloned().unwrap_or_default(),
        row.route.clone(),
        row.outcome.clone(),
        row.requests.to_string(),
        row.request_bytes.to_string(),
        row.response_bytes.to_string(),
        row.p50_us.to_string(),
        row.p95_us.to_string(),
        row.p99_us.to_string(),
    ]
}

fn refusal_cells(row: &RefusalRow) -> [String; 4] {
    let route = if row.route.is_empty() {
        "-"
    } else {
        &row.route
    };
    [
        row.at.to_string(),
        route.to_owned(),
        row.reason.clone(),
        row.count.to_string(),
    ]
}

/// Prints the account of every instance; one that does not add up is a failure.
fn account(
    checks: &[InstanceCheck],
    output: Output,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    if output.json {
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
        ];
        let rows: Vec<_> = checks.iter().map(check_cells).collect();
        table::write(streams.out, heading, &rows)?;
    }
    let unsettled = checks.iter().filter(|check| !check.settled).count();
    if unsettled > 0 {
        writeln!(
            streams.err,
            "{unsettled} of these went on recording meanwhile: what is missing of them says \
             nothing until they rest"
        )?;
    }
    let broken = |check: &&InstanceCheck| check.settled && !check.is_whole();
    match checks.iter().filter(broken).count() {
        0 => Ok(()),
        count => Err(Failure::failed(format_args!(
            "{count} of {} instances do not add up",
            checks.len()
        ))),
    }
}

fn check_cells(check: &InstanceCheck) -> [String; 7] {
    let missing = if check.settled {
        check.missing.to_string()
    } else {
        "?".to_owned()
    };
    [
        check.instance.to_string(),
        check.decided.to_string(),
        check.stored.to_string(),
        check.in_journal.to_string(),
        check.dropped.to_string(),
        check.interrupted.to_string(),
        missing,
    ]
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        Self::failed(error)
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        Self::failed(error)
    }
}

//! `usage report`

use std::io::Write;

use serde::Serialize;

use super::key_id;
use super::names::Names;
use crate::admin::Operations;
use crate::cli::arguments::Report;
use crate::cli::failure::Failure;
use crate::cli::{csv, table, write_json};
use crate::clock::Timestamp;
use crate::usage::report::{Query, RefusalRow, UsageReports, UsageRow};

/// Everything that was asked for.
#[derive(Serialize)]
struct View {
    from: Timestamp,
    until: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Vec<UsageRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusals: Option<Vec<RefusalRow>>,
}

pub(super) async fn run(
    reports: &dyn UsageReports,
    report: &Report,
    operations: &Operations,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let view = View::read(reports, report, operations).await?;
    if report.output.json {
        write_json(&view, out)
    } else if report.csv {
        view.write_csv(operations, out).await
    } else {
        view.write_tables(operations, out).await
    }
}

impl View {
    async fn read(
        reports: &dyn UsageReports,
        report: &Report,
        operations: &Operations,
    ) -> Result<Self, Failure> {
        let until = report.until.unwrap_or(operations.clock.wall());
        let query = Query {
            from: report.from.unwrap_or(until.saturating_sub(report.last)),
            until,
            by: report.by.into(),
            key_id: key_id(report.key.as_deref(), operations).await?,
            route: report.route.clone(),
        };
        // A file of comma-separated values is one table.
        let refusals = report.refusals || !report.csv;
        Ok(Self {
            from: query.from,
            until: query.until,
            usage: if report.refusals {
                None
            } else {
                Some(reports.usage(query.clone()).await?)
            },
            refusals: match (refusals, query.key_id) {
                (false, _) => None,
                // These are nobody's.
                (true, Some(_)) => Some(Vec::new()),
                (true, None) => Some(reports.refusals(query).await?),
            },
        })
    }

    async fn write_csv(self, operations: &Operations, out: &mut dyn Write) -> Result<(), Failure> {
        if let Some(usage) = self.usage {
            let mut names = Names::default();
            let mut rows = Vec::with_capacity(usage.len());
            for row in usage {
                let [at, rest @ ..] = cells(&row);
                let key_id = row.key_id.to_string();
                let name = names.of(row.key_id, operations).await?;
                let [route, outcome, requests, bytes_in, bytes_out, p50, p95, p99] = rest;
                rows.push([
                    at, key_id, name, route, outcome, requests, bytes_in, bytes_out, p50, p95, p99,
                ]);
            }
            let heading = [
                "from",
                "key_id",
                "key",
                "route",
                "outcome",
                "requests",
                "request_bytes",
                "response_bytes",
                "p50_us",
                "p95_us",
                "p99_us",
            ];
            csv::write(out, heading, rows)?;
        }
        if let Some(refusals) = self.refusals {
            let rows = refusals.into_iter().map(|row| {
                let RefusalRow {
                    at,
                    route,
                    reason,
                    count,
                } = row;
                [at.to_string(), route, reason, count.to_string()]
            });
            csv::write(out, ["from", "route", "reason", "requests"], rows)?;
        }
        Ok(())
    }

    async fn write_tables(
        self,
        operations: &Operations,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let Self { from, until, .. } = self;
        writeln!(out, "Usage from {from} until {until}")?;
        if let Some(usage) = &self.usage {
            let mut names = Names::default();
            let mut rows = Vec::with_capacity(usage.len());
            for row in usage {
                let [
                    at,
                    route,
                    outcome,
                    requests,
                    bytes_in,
                    bytes_out,
                    p50,
                    p95,
                    p99,
                ] = cells(row);
                let name = names.of(row.key_id, operations).await?;
                rows.push([
                    at, name, route, outcome, requests, bytes_in, bytes_out, p50, p95, p99,
                ]);
            }
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
            writeln!(out)?;
            table::write(out, heading, &rows)?;
        }
        match self.refusals {
            Some(refusals) if !refusals.is_empty() || self.usage.is_none() => {
                writeln!(out)?;
                writeln!(out, "Refused without a known key")?;
                writeln!(out)?;
                let rows: Vec<_> = refusals.iter().map(refusal_cells).collect();
                table::write(out, ["FROM", "ROUTE", "REASON", "REQUESTS"], &rows)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// All but whose it is.
fn cells(row: &UsageRow) -> [String; 9] {
    [
        row.at.to_string(),
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

//! `usage tail`

use std::io::{self, Write};
use std::time::Duration;

use super::key_id;
use super::names::Names;
use crate::admin::Operations;
use crate::cli::arguments::Follow;
use crate::cli::failure::Failure;
use crate::usage::report::{EventRow, Tail, UsageReports};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Shows events until whoever reads them has seen enough.
pub(super) async fn run(
    reports: &dyn UsageReports,
    follow: &Follow,
    operations: &Operations,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let from = operations.clock.wall().saturating_sub(follow.last);
    let key_id = key_id(follow.key.as_deref(), operations).await?;
    let mut tail = Tail::new(from, key_id, follow.route.clone());
    let mut names = Names::default();
    loop {
        let page = tail.next(reports, operations.clock.wall()).await?;
        for event in &page.events {
            if follow.output.json {
                serde_json::to_writer(&mut *out, event).map_err(io::Error::from)?;
                writeln!(out)?;
            } else {
                let name = names.of(event.key_id, operations).await?;
                writeln!(out, "{}", line(event, &name))?;
            }
        }
        out.flush()?;
        if !page.more {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn line(event: &EventRow, name: &str) -> String {
    let client = event.client_ip.as_deref().unwrap_or("-");
    format!(
        "{at}  {name}  {client}  {route}  {method}  {status}  {outcome}  {ended}  {duration} µs",
        at = event.at,
        route = event.route,
        method = event.method,
        status = event.status,
        outcome = event.outcome,
        ended = event.ended,
        duration = event.duration_us,
    )
}

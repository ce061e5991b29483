//! `keys sync-usage`

use crate::cli::Streams;
use crate::cli::failure::Failure;
use crate::usage::totals::{UsageSync, Which};

pub(super) async fn run(
    sync: &UsageSync,
    all: bool,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let which = if all { Which::All } else { Which::New };
    let err = &mut *streams.err;
    let done = sync
        .run(which, |so_far| {
            // why: progress that nobody can see is no reason to stop.
            let _ = writeln!(err, "{} records written", so_far.written);
        })
        .await
        .map_err(Failure::failed)?;
    let Some(synced) = done else {
        writeln!(streams.err, "another process is at it: nothing was done")?;
        return Ok(());
    };
    if synced.gone > 0 {
        writeln!(
            streams.err,
            "{} keys that were used have no record any more",
            synced.gone
        )?;
    }
    for damaged in &synced.damaged {
        writeln!(streams.err, "warning: {damaged}")?;
    }
    match synced.damaged.len() {
        0 => Ok(()),
        left => Err(Failure::failed(format_args!(
            "{left} records are left as they were"
        ))),
    }
}

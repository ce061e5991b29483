//! Telling the records of keys what the keys were used for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::operations::OpenError;
use super::sink;
use crate::clock::Clock;
use crate::config::Config;
use crate::repository::ApiKeyRepository;
use crate::telemetry::metric;
use crate::usage::totals::{Synced, UsageSync, Which};

/// What tells the records of a store the usage that a configuration names.
pub async fn usage_sync(
    config: &Config,
    clock: &Clock,
    repository: Arc<dyn ApiKeyRepository>,
) -> Result<UsageSync, OpenError> {
    Ok(UsageSync {
        totals: sink::ledger(config, clock).await?.totals,
        repository,
        writes_per_second: config.counters.writes_per_second,
    })
}

/// Tells them again and again. A failure is for the next time: nothing is lost.
pub(super) async fn keep_telling(sync: UsageSync, interval: Duration) {
    let written = metrics::counter!(metric::COUNTERS_WRITTEN);
    let failures = metrics::counter!(metric::COUNTERS_FAILURES);
    loop {
        sleep(interval).await;
        let mut so_far = 0;
        let done = sync
            .run(Which::New, |synced| {
                written.increment(synced.written - so_far);
                so_far = synced.written;
            })
            .await;
        match done {
            Ok(Some(Synced { damaged, .. })) => {
                for damaged in damaged {
                    tracing::warn!(%damaged, "not told of its usage");
                }
                tracing::debug!(written = so_far, "records were told of their usage");
            }
            Ok(None) => {}
            Err(error) => {
                failures.increment(1);
                tracing::warn!(%error, "records are not told of their usage for now");
            }
        }
    }
}

//! `usage`

mod names;
mod report;
mod tail;
mod verify;

use uuid::Uuid;

use super::Streams;
use super::arguments::Usage;
use super::failure::Failure;
use crate::admin::{KeyRef, Operations};
use crate::app::{self, Need};
use crate::clock::Clock;
use crate::config::Config;
use crate::usage::report::{ReportError, VerifyError};

/// Runs one of the commands.
pub(super) async fn run(
    command: &Usage,
    config: &Config,
    clock: &Clock,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let reports = app::reports(config).await?;
    let operations = || app::operations(config, clock, Need::Nothing);
    match command {
        Usage::Report(asked) => {
            report::run(&*reports, asked, &operations().await?, streams.out).await
        }
        Usage::Tail(follow) => {
            tail::run(&*reports, follow, &operations().await?, streams.out).await
        }
        Usage::Verify(account) => {
            verify::run(&*reports, &config.data.dir, account, clock.wall(), streams).await
        }
    }
}

/// The key that is meant; the record of an id may be gone, its usage is not.
async fn key_id(key: Option<&str>, operations: &Operations) -> Result<Option<Uuid>, Failure> {
    Ok(match key.map(KeyRef::from) {
        Some(KeyRef::Id(id)) => Some(id),
        Some(name) => Some(operations.show(&name).await?.stored.key.id),
        None => None,
    })
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

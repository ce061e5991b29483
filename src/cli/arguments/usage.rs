//! `usage`

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Output, duration};
use crate::clock::Timestamp;
use crate::usage::report::Period;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Usage {
    /// Show what keys did, and what was refused
    Report(Report),
    /// Show requests as they are stored, until interrupted
    Tail(Follow),
    /// Account for every decided request: stored, in the journal, dropped or interrupted
    Verify(Account),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Report {
    /// How far back
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub(in crate::cli) last: Duration,
    /// The first moment: `2027-01-01T00:00:00Z`
    #[arg(long, value_name = "MOMENT", value_parser = Timestamp::parse, conflicts_with = "last")]
    pub(in crate::cli) from: Option<Timestamp>,
    /// The first moment after it; else now
    #[arg(long, value_name = "MOMENT", value_parser = Timestamp::parse)]
    pub(in crate::cli) until: Option<Timestamp>,
    /// How much time one row is about
    #[arg(long, value_enum, default_value_t = By::Hour)]
    pub(in crate::cli) by: By,
    /// Only this key: its id, or its name when no other key has it
    #[arg(long)]
    pub(in crate::cli) key: Option<String>,
    /// Only this route
    #[arg(long)]
    pub(in crate::cli) route: Option<String>,
    /// Only what was refused without a known key
    #[arg(long, conflicts_with = "key")]
    pub(in crate::cli) refusals: bool,
    /// Print comma-separated values: usage, or with `--refusals` these
    #[arg(long, conflicts_with = "json")]
    pub(in crate::cli) csv: bool,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Follow {
    /// How far back to begin
    #[arg(long, value_name = "TIME", default_value = "1min", value_parser = duration)]
    pub(in crate::cli) last: Duration,
    /// Only this key: its id, or its name when no other key has it
    #[arg(long)]
    pub(in crate::cli) key: Option<String>,
    /// Only this route
    #[arg(long)]
    pub(in crate::cli) route: Option<String>,
    /// With `--json`, one object on each line
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Account {
    /// Take an instance whose journal is not here for dead when it stored nothing for so long
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub(in crate::cli) dead_after: Duration,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum By {
    Hour,
    Day,
}

impl From<By> for Period {
    fn from(by: By) -> Self {
        match by {
            By::Hour => Self::Hour,
            By::Day => Self::Day,
        }
    }
}

//! The command line's shape.

mod keys;
mod usage;

pub(super) use keys::{Changes, Key, Keys, Listing, NewKey, TokenOutput, Verify};
pub(super) use usage::{Account, Follow, Report, Usage};

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::crypto::{KeyId, Suite};

/// An edge authentication proxy for API keys.
#[derive(Debug, Parser)]
#[command(name = "cypheron-edge", version = version(), max_term_width = 100)]
pub(super) struct Arguments {
    /// The configuration file; else the one that `CYPHERON_EDGE_CONFIG` names
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve on this machine alone, with all that it takes: nothing to configure
    Quickstart,
    /// Serve traffic until a signal to stop; SIGHUP reads the configuration anew
    Serve {
        /// Take the data directory over from a process that still uses it
        #[arg(long)]
        take_over: bool,
    },
    /// Check the configuration and print what is in effect, secrets redacted
    Check,
    /// Ask the edge on this machine whether it is alive; exit code 0 if it is
    Health {
        /// Whether it is ready for requests
        #[arg(long)]
        ready: bool,
    },
    /// Bring the schema of the PostgreSQL that usage goes to up to date
    #[cfg(feature = "postgres")]
    Migrate {
        /// A role of the database's that edges log in as: it is granted what they
        /// need, rows and no tables
        #[arg(long, value_name = "ROLE")]
        grant: Vec<String>,
    },
    /// Issue keys and change them
    #[command(subcommand)]
    Keys(Keys),
    /// The secret keys that records are sealed with
    #[command(subcommand)]
    Keyring(Keyring),
    /// What keys were used for
    #[command(subcommand)]
    Usage(Usage),
}

#[derive(Debug, Subcommand)]
#[expect(
    clippy::option_option,
    reason = "a flag may be given with a value, without one, or not at all"
)]
pub(super) enum Keyring {
    /// Make a keyring, opened by `PQ_ENCRYPTION_PASSWORD`, where there is none
    Init {
        /// What records are sealed with
        #[arg(long, default_value = Suite::default().name(), value_parser = suite)]
        suite: Suite,
    },
    /// Show what is in it: no secrets, no password needed
    Show(Output),
    /// Add a key; it is used once it is promoted
    Rotate {
        /// Seal with this key from now on, the newest when none is named: once
        /// every edge has it
        #[arg(long, value_name = "KEY", num_args = 0..=1, conflicts_with_all = ["suite", "all"])]
        promote: Option<Option<KeyId>>,
        /// Make everything new, opened by `PQ_ENCRYPTION_NEW_PASSWORD` alone: the
        /// answer to a stolen backup, once every edge was started with both
        #[arg(long, conflicts_with = "suite")]
        all: bool,
        /// What the new key seals with; the primary key's when not given
        #[arg(long, value_parser = suite)]
        suite: Option<Suite>,
    },
    /// Seal every record that is not sealed with the primary key again
    Rewrap,
    /// Remove a key that no record is sealed with any more, or a generation of
    /// tokens: what is left of a stolen keyring then opens and admits nothing
    #[command(group = ArgGroup::new("what").required(true))]
    Drop {
        /// The key
        #[arg(long, value_name = "KEY", group = "what")]
        key: Option<KeyId>,
        /// The generation, the first character of a token after its second `_`:
        /// every token of it is refused from then on
        #[arg(long, value_name = "CHARACTER", group = "what")]
        generation: Option<char>,
    },
    /// Add `PQ_ENCRYPTION_NEW_PASSWORD` to the passwords that open the keyring
    Password {
        /// Remove a password instead, by its slot; the one that is older than
        /// the one in use when none is named
        #[arg(long, value_name = "SLOT", num_args = 0..=1)]
        retire: Option<Option<KeyId>>,
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Output {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write `30s`, `10min` or `90d`".to_owned())
}

fn suite(name: &str) -> Result<Suite, String> {
    let mut suites = Suite::ALL.iter().copied();
    suites.find(|suite| suite.name() == name).ok_or_else(|| {
        let all: Vec<_> = Suite::ALL.iter().map(|suite| suite.name()).collect();
        format!("this build has {}", all.join(", "))
    })
}

fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let version = env!("CARGO_PKG_VERSION");
        match option_env!("CYPHERON_EDGE_COMMIT") {
            Some(commit) if !commit.is_empty() => format!("{version} ({commit})"),
            _ => version.to_owned(),
        }
    });
    &VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}

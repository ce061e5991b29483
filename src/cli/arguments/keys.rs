//! `keys`

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ipnet::IpNet;

use super::{Output, duration};
use crate::admin;
use crate::clock::Timestamp;
use crate::key::KeyName;
use crate::permission::Permission;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Keys {
    /// Issue a key and print its token, once
    Create(NewKey),
    /// List the keys
    List(Listing),
    /// Show one key
    Show(KeyArguments),
    /// Change what a key may do; its token stays
    Update(Changes),
    /// Issue a successor with the same policy; the old key ends after the overlap
    Rotate {
        #[command(flatten)]
        key: Key,
        /// How long the old key goes on
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
        overlap: Duration,
        #[command(flatten)]
        token: TokenOutput,
        #[command(flatten)]
        output: Output,
    },
    /// Refuse a key from now on; works without the password
    Revoke(KeyArguments),
    /// Remove a key's record
    Delete(KeyArguments),
    /// Print the token of a key that was created with --recoverable
    Reveal {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        token: TokenOutput,
    },
    /// Tell each record that was used since it was told last its `usage_count` and
    /// `last_used`
    SyncUsage {
        /// Every record that was ever used, one put back from a backup too
        #[arg(long)]
        all: bool,
    },
    /// Compare the records with the audit log: exit code 1 when one was put back
    /// from a backup, is missing, was written by somebody else, or does not open
    Verify(Verify),
}

#[derive(Clone, Copy, Debug, Args)]
pub(in crate::cli) struct Verify {
    /// Do not open the records, which takes the password
    #[arg(long)]
    pub(in crate::cli) revisions_only: bool,
    /// Print JSON, a line for each finding
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Key {
    /// The key's id, its name when no other key has it, or its record's `key_hash`
    #[arg(value_name = "KEY")]
    pub(in crate::cli) selector: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct KeyArguments {
    #[command(flatten)]
    pub(in crate::cli) key: Key,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NewKey {
    /// What people call it
    #[arg(long)]
    pub(in crate::cli) name: KeyName,
    /// What it may do: `orders:read`, `orders:*`, `*`; may be repeated
    #[arg(long = "permission", value_name = "PERMISSION")]
    pub(in crate::cli) permissions: Vec<Permission>,
    /// Requests per minute
    #[arg(long, value_name = "REQUESTS", default_value = "600")]
    pub(in crate::cli) rate_limit: NonZeroU32,
    #[command(flatten)]
    pub(in crate::cli) expiry: Expiry,
    /// Where it may be used from, an address or a network; may be repeated
    #[arg(long = "allow-ip", value_name = "NETWORK", value_parser = network)]
    pub(in crate::cli) allowed_ips: Vec<IpNet>,
    /// Seal the token itself, so that `keys reveal` can show it again
    #[arg(long)]
    pub(in crate::cli) recoverable: bool,
    #[command(flatten)]
    pub(in crate::cli) token: TokenOutput,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(in crate::cli) struct Changes {
    #[command(flatten)]
    pub(in crate::cli) key: Key,
    /// A new name
    #[arg(long)]
    pub(in crate::cli) name: Option<KeyName>,
    /// What it may do from now on, in place of what it might; may be repeated
    #[arg(long = "permission", value_name = "PERMISSION")]
    pub(in crate::cli) permissions: Option<Vec<Permission>>,
    /// Take every permission away
    #[arg(long, conflicts_with = "permissions")]
    pub(in crate::cli) no_permissions: bool,
    /// Requests per minute
    #[arg(long, value_name = "REQUESTS")]
    pub(in crate::cli) rate_limit: Option<NonZeroU32>,
    #[command(flatten)]
    pub(in crate::cli) expiry: Expiry,
    /// Let it live until it is revoked
    #[arg(long, conflicts_with_all = ["expires_in", "expires_at"])]
    pub(in crate::cli) never_expires: bool,
    /// Where it may be used from, in place of what was allowed; may be repeated
    #[arg(long = "allow-ip", value_name = "NETWORK", value_parser = network)]
    pub(in crate::cli) allowed_ips: Option<Vec<IpNet>>,
    /// Let it be used from anywhere
    #[arg(long, conflicts_with = "allowed_ips")]
    pub(in crate::cli) any_ip: bool,
    /// Take a revocation back, one that was made with the password at hand
    #[arg(long)]
    pub(in crate::cli) activate: bool,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Listing {
    /// Only keys whose name has this in it
    #[arg(long, value_name = "PART")]
    pub(in crate::cli) name: Option<String>,
    /// Only keys that are not revoked
    #[arg(long)]
    pub(in crate::cli) active: bool,
    /// Only keys that are revoked
    #[arg(long, conflicts_with = "active")]
    pub(in crate::cli) inactive: bool,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Expiry {
    /// How long it lives: `90d`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(in crate::cli) expires_in: Option<Duration>,
    /// When it ends: `2027-01-01T00:00:00Z`
    #[arg(long, value_name = "MOMENT", conflicts_with = "expires_in", value_parser = Timestamp::parse)]
    pub(in crate::cli) expires_at: Option<Timestamp>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TokenOutput {
    /// Write the token to a new file that only its owner can read, not to the output
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) token_to: Option<PathBuf>,
}

impl Expiry {
    pub(in crate::cli) fn moment(&self, now: Timestamp) -> Option<Timestamp> {
        self.expires_in
            .map(|lifetime| now.saturating_add(lifetime))
            .or(self.expires_at)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "write an address, `192.0.2.7`, or a network, `2001:db8::/32`".to_owned())
}

impl Changes {
    /// What is to be changed; an expiry is counted from `now`.
    pub(in crate::cli) fn changes(&self, now: Timestamp) -> admin::Changes {
        admin::Changes {
            name: self.name.clone(),
            permissions: if self.no_permissions {
                Some(Vec::new())
            } else {
                self.permissions.clone()
            },
            rate_limit: self.rate_limit,
            expires_at: match self.expiry.moment(now) {
                Some(moment) => Some(Some(moment)),
                None => self.never_expires.then_some(None),
            },
            allowed_ips: if self.any_ip {
                Some(Vec::new())
            } else {
                self.allowed_ips.clone()
            },
            is_active: self.activate.then_some(true),
        }
    }
}

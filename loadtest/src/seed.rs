//! Many keys in an embedded store, made by the operations that operators use.
//! Only the audit log is left out: nobody asks who made keys for a load test.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use cypheron_edge::admin::{AuditEntry, AuditLog, AuditUnavailable, NewKey, Operations};
use cypheron_edge::app::{self, Need};
use cypheron_edge::clock::Clock;
use cypheron_edge::config::{self, Purpose};
use cypheron_edge::crypto::Suite;
use cypheron_edge::usage::report::AuditedKey;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;
use uuid::Uuid;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The edge's configuration, with an embedded store that has no keyring yet.
    #[arg(long)]
    config: PathBuf,
    /// How many keys.
    #[arg(long)]
    keys: usize,
    /// Requests per minute of each.
    #[arg(long)]
    rate_limit: NonZeroU32,
    /// Gets a token a line.
    #[arg(long)]
    tokens: PathBuf,
}

/// Sealed at once; the store writes one at a time.
const AT_ONCE: usize = 8;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(seed(options))
}

async fn seed(options: &Options) -> anyhow::Result<()> {
    let reading = config::read(Some(&options.config), &config::Process, Purpose::Operate);
    let config = reading.config.map_err(|problems| anyhow!("{problems}"))?;
    let clock = Clock::system();
    app::init_keyring(&config, &clock, Suite::default()).await?;
    let operations = app::operations(&config, &clock, Need::Open).await?;
    let operations = Arc::new(Operations {
        audit: Arc::new(Unaudited),
        ..operations
    });

    let file = File::create(&options.tokens)
        .with_context(|| format!("{} cannot be made", options.tokens.display()))?;
    let mut tokens = BufWriter::new(file);
    let mut making = JoinSet::new();
    for number in 0..options.keys {
        if making.len() == AT_ONCE {
            write(&mut tokens, making.join_next().await)?;
        }
        let (operations, rate_limit) = (Arc::clone(&operations), options.rate_limit);
        making.spawn(async move {
            let created = operations.create(new_key(number, rate_limit)?).await?;
            anyhow::Ok(created.token.expose().to_owned())
        });
    }
    while !making.is_empty() {
        write(&mut tokens, making.join_next().await)?;
    }
    tokens.flush()?;
    Ok(())
}

type Made = Result<anyhow::Result<String>, tokio::task::JoinError>;

fn write(tokens: &mut impl Write, made: Option<Made>) -> anyhow::Result<()> {
    if let Some(made) = made {
        writeln!(tokens, "{}", made??)?;
    }
    Ok(())
}

fn new_key(number: usize, rate_limit: NonZeroU32) -> anyhow::Result<NewKey> {
    Ok(NewKey {
        name: format!("load test {number}").parse()?,
        permissions: vec!["load:test".parse()?],
        rate_limit,
        expires_at: None,
        allowed_ips: Vec::new(),
        recoverable: false,
    })
}

struct Unaudited;

impl AuditLog for Unaudited {
    fn record(&self, _: AuditEntry) -> BoxFuture<'_, Result<(), AuditUnavailable>> {
        async { Ok(()) }.boxed()
    }

    fn known(&self, _: Uuid) -> BoxFuture<'_, Result<Option<AuditedKey>, AuditUnavailable>> {
        async { Ok(None) }.boxed()
    }
}

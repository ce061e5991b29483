//! `keyring`

mod change;

use std::io::Write;

use super::arguments::{Keyring, Output};
use super::failure::Failure;
use super::{Streams, table, write_json};
use crate::app::{self, Need};
use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::Suite;
use crate::crypto::keyring::Description;

/// Runs one of the commands.
pub(super) async fn run(
    command: &Keyring,
    config: &Config,
    clock: &Clock,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    match command {
        Keyring::Init { suite } => init(config, clock, *suite, streams).await,
        Keyring::Show(output) => {
            let description = app::describe_keyring(config, clock).await?;
            show(&description, *output, streams.out)
        }
        Keyring::Rewrap => rewrap(config, clock, streams).await,
        Keyring::Rotate {
            promote,
            all,
            suite,
        } => {
            let handler = change::Handler::new(config, clock, streams);
            match (promote, all) {
                (Some(key), _) => handler.promote(*key).await,
                (None, true) => handler.rotate_all().await,
                (None, false) => handler.add_key(*suite).await,
            }
        }
        Keyring::Drop { key, generation } => {
            let handler = change::Handler::new(config, clock, streams);
            handler.drop(*key, *generation).await
        }
        Keyring::Password { retire } => {
            let handler = change::Handler::new(config, clock, streams);
            match retire {
                Some(slot) => handler.retire_password(*slot).await,
                None => handler.add_password().await,
            }
        }
    }
}

async fn init(
    config: &Config,
    clock: &Clock,
    suite: Suite,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let made = app::init_keyring(config, clock, suite).await?;
    writeln!(
        streams.err,
        "keyring {} is made for `{}`; without its password no key can be issued or used, so keep \
         it safe",
        made.id, made.collection
    )?;
    Ok(())
}

fn show(description: &Description, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    if output.json {
        return write_json(description, out);
    }
    let Description {
        id,
        collection,
        version,
        passwords,
        keys,
        generations,
    } = description;
    writeln!(out, "keyring {id} of `{collection}`, version {version}")?;
    let generations: Vec<_> = generations.iter().map(char::to_string).collect();
    writeln!(out, "token generations: {}", generations.join(" "))?;
    writeln!(out)?;
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            let primary = if key.primary { "primary" } else { "" };
            [
                key.id.to_string(),
                key.suite.clone(),
                key.created_at.to_string(),
                primary.to_owned(),
            ]
        })
        .collect();
    table::write(out, ["KEY", "SUITE", "CREATED", ""], &rows)?;
    writeln!(out)?;
    let rows: Vec<_> = passwords
        .iter()
        .map(|slot| {
            let cost = format!(
                "{} MiB, {} passes, {} lanes",
                slot.cost.memory_kib / 1024,
                slot.cost.passes,
                slot.cost.lanes
            );
            [slot.id.to_string(), slot.created_at.to_string(), cost]
        })
        .collect();
    table::write(out, ["PASSWORD SLOT", "CREATED", "ARGON2ID"], &rows)?;
    Ok(())
}

async fn rewrap(config: &Config, clock: &Clock, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let operations = app::operations(config, clock, Need::Open).await?;
    let err = &mut *streams.err;
    let done = operations
        .rewrap(|so_far| {
            // why: progress that nobody can see is no reason to stop.
            let _ = writeln!(
                err,
                "{} of {} records sealed again",
                so_far.rewrapped, so_far.seen
            );
        })
        .await?;
    for id in &done.unopened {
        writeln!(
            streams.err,
            "warning: key {id} does not open and is left as it is"
        )?;
    }
    for damaged in &done.damaged {
        writeln!(streams.err, "warning: {damaged}")?;
    }
    let left = done.unopened.len() + done.damaged.len();
    if left > 0 {
        return Err(Failure::failed(format_args!(
            "{left} records are left as they were"
        )));
    }
    Ok(())
}

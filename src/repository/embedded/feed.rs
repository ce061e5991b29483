//! The change feed: a thread that looks at the file every few milliseconds.
//!
//! `PRAGMA data_version` tells cheaply whether anybody committed; only then is
//! the change log read.

use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use rusqlite::{Connection, Row};
use tokio::sync::mpsc::{self, Sender};

use super::file::{File, Place};
use super::reducer::{Entry, Look, Reducer, Subject};
use crate::repository::{Change, Result};
use crate::telemetry::metric;
use crate::token::KeyHash;

/// A fifth of the time in which a revocation has to reach every edge.
const INTERVAL: Duration = Duration::from_millis(20);

/// Entries read at once, and changes on their way: bounds the memory that a
/// replaced store of many keys takes.
const BATCH: u16 = 512;

/// Follows the file for as long as the stream lives.
pub(super) fn follow(place: Place) -> BoxStream<'static, Change> {
    let (sender, receiver) = mpsc::channel(usize::from(BATCH));
    let thread = std::thread::Builder::new()
        .name("keys-feed".to_owned())
        .spawn(move || watch(File::at(place), &sender));
    if let Err(error) = thread {
        // Never connected, so the directory goes by its timeouts.
        tracing::error!(%error, "no thread can be started for the key store's change feed");
        return stream::pending().boxed();
    }
    stream::unfold(receiver, |mut receiver| async {
        let change = receiver.recv().await?;
        Some((change, receiver))
    })
    .chain(stream::pending())
    .boxed()
}

fn watch(mut file: File, changes: &Sender<Change>) {
    let mut reducer = Reducer::default();
    let mut version = None;
    while !changes.is_closed() {
        let (look, more) = look(&mut file, &mut version, &reducer).unwrap_or_else(|error| {
            version = None;
            tracing::debug!(%error, "the key store's change feed cannot read it");
            (Look::Failed, false)
        });
        for change in reducer.observe(look) {
            log(&change);
            if changes.blocking_send(change).is_err() {
                return;
            }
        }
        if !more {
            std::thread::sleep(INTERVAL);
        }
    }
}

fn log(change: &Change) {
    match change {
        Change::Cut => {
            metrics::counter!(metric::STORE_FEED_CUTS).increment(1);
            tracing::warn!("the key store's change feed is cut");
        }
        Change::Connected => tracing::info!("the key store's change feed is connected"),
        Change::Record { .. } | Change::Keyring => {}
    }
}

/// Looks once; also tells whether there is more to read at once. `version` is
/// the data version up to which everything was read.
fn look(file: &mut File, version: &mut Option<i64>, reducer: &Reducer) -> Result<(Look, bool)> {
    let connection = file.connect()?;
    // Before the log, so that a commit between the two is seen again, not missed.
    let now = connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))?;
    if *version == Some(now) {
        return Ok((Look::Unchanged, false));
    }
    let look = read_log(connection, reducer)?;
    let more = matches!(&look, Look::Log { entries, .. } if entries.len() == usize::from(BATCH));
    *version = (!more).then_some(now);
    Ok((look, more))
}

fn read_log(connection: &mut Connection, reducer: &Reducer) -> Result<Look> {
    let transaction = connection.transaction()?;
    // Not max(sequence): entries are forgotten with their tombstones.
    let newest = transaction.query_row(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'",
        [],
        |row| row.get(0),
    )?;
    let entries = transaction
        .prepare_cached(
            "SELECT c.sequence, c.subject, k.revision, k.is_active, t.revision \
             FROM changes c \
             LEFT JOIN api_keys k ON k.key_hash = c.subject \
             LEFT JOIN tombstones t ON t.key_hash = c.subject \
             WHERE c.sequence > ?1 ORDER BY c.sequence LIMIT ?2",
        )?
        .query_map((reducer.read_after(newest), BATCH), entry)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(Look::Log { newest, entries })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let subject: String = row.get(1)?;
    let record: Option<i64> = row.get(2)?;
    let is_active: Option<bool> = row.get(3)?;
    let tombstone: Option<i64> = row.get(4)?;
    let subject = match (subject.parse::<KeyHash>(), record, tombstone) {
        (Err(_), ..) if subject == "keyring" => Subject::Keyring,
        (Err(_), ..) => Subject::Unreadable,
        (Ok(hash), Some(revision), _) => Subject::Record {
            hash,
            revision: u64::try_from(revision).unwrap_or(0),
            live: is_active == Some(true),
        },
        (Ok(hash), None, Some(revision)) => Subject::Record {
            hash,
            revision: u64::try_from(revision).unwrap_or(0),
            live: false,
        },
        (Ok(hash), None, None) => Subject::Gone(hash),
    };
    Ok(Entry {
        sequence: row.get(0)?,
        subject,
    })
}

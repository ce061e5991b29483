//! The change feed: a thread that looks at the file every so often.
//!
//! `PRAGMA data_version` tells cheaply whether anybody committed; only then is
//! the change log read. The thread says with a beat that it goes on looking; one
//! that hangs, on a disk that does not answer say, is a cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use rusqlite::{Connection, Row};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::file::{File, Place};
use super::pulse::Pulse;
use super::reducer::{Entry, Look, Reducer, Subject};
use crate::repository::{Change, Result};
use crate::telemetry::metric;
use crate::token::KeyHash;

/// Two fifths of the time in which a revocation has to reach every edge. Each look
/// takes some 140 microseconds, nearly all of it to find everything cold.
const INTERVAL: Duration = Duration::from_millis(40);

/// Entries read at once, and changes on their way: bounds the memory that a
/// replaced store of many keys takes.
const BATCH: u16 = 512;

/// A thread that has not looked for so long hangs: fifty times what it
/// sleeps, so that a busy machine is not taken for a broken one.
const HANGS: Duration = Duration::from_secs(2);

/// Follows the file for as long as the stream lives.
pub(super) fn follow(place: Place) -> BoxStream<'static, Change> {
    follow_looks(move |sender, beats| watch(File::at(place), &sender, &beats))
}

fn follow_looks(
    watch: impl FnOnce(Sender<Change>, Arc<AtomicU64>) + Send + 'static,
) -> BoxStream<'static, Change> {
    let (sender, receiver) = mpsc::channel(usize::from(BATCH));
    let beats = Arc::new(AtomicU64::new(0));
    let watcher = Watcher {
        changes: receiver,
        beats: Arc::clone(&beats),
        pulse: Pulse::default(),
    };
    let thread = std::thread::Builder::new()
        .name("keys-feed".to_owned())
        .spawn(move || watch(sender, beats));
    if let Err(error) = thread {
        // Never connected, so the directory goes by its timeouts.
        tracing::error!(%error, "no thread can be started for the key store's change feed");
        return stream::pending().boxed();
    }
    stream::unfold(watcher, |mut watcher| async {
        let change = watcher.next().await?;
        log(&change);
        Some((change, watcher))
    })
    .chain(stream::pending())
    .boxed()
}

/// The thread's changes, and its silence.
struct Watcher {
    changes: Receiver<Change>,
    beats: Arc<AtomicU64>,
    pulse: Pulse,
}

impl Watcher {
    async fn next(&mut self) -> Option<Change> {
        loop {
            let patience = if self.pulse.hangs() { INTERVAL } else { HANGS };
            // What the thread said before its beat is told before it is believed again.
            let told = match tokio::time::timeout(patience, self.changes.recv()).await {
                Ok(Some(change)) => self.pulse.told(change),
                Ok(None) => return self.pulse.ended(),
                Err(_) => self.pulse.felt(self.beats.load(Ordering::Acquire)),
            };
            if told.is_some() {
                return told;
            }
        }
    }
}

fn watch(mut file: File, changes: &Sender<Change>, beats: &AtomicU64) {
    let mut reducer = Reducer::default();
    let mut version = None;
    while !changes.is_closed() {
        let (look, more) = look(&mut file, &mut version, &reducer).unwrap_or_else(|error| {
            version = None;
            tracing::debug!(%error, "the key store's change feed cannot read it");
            (Look::Failed, false)
        });
        for change in reducer.observe(look) {
            if changes.blocking_send(change).is_err() {
                return;
            }
        }
        beats.fetch_add(1, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_hangs_is_a_cut_until_it_has_caught_up() {
        let (hang, hangs) = mpsc::channel::<()>();
        let mut feed = follow_looks(move |changes, beats| {
            changes.blocking_send(Change::Connected).unwrap();
            beats.fetch_add(1, Ordering::Release);
            hangs.recv().unwrap();
            changes.blocking_send(Change::Keyring).unwrap();
            beats.fetch_add(1, Ordering::Release);
            hangs.recv().unwrap();
        });
        assert_eq!(feed.next().await, Some(Change::Connected));
        assert_eq!(feed.next().await, Some(Change::Cut));
        hang.send(()).unwrap();
        assert_eq!(feed.next().await, Some(Change::Keyring));
        assert_eq!(feed.next().await, Some(Change::Connected));
        drop(hang);
        // Its thread panics, which is the end of it.
        assert_eq!(feed.next().await, Some(Change::Cut));
    }
}

//! What dead processes left behind: found, locked, read, and deleted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::batch::{Batch, Filling};
use super::budget::Budget;
use super::lock::Lock;
use super::recovery::Recovery;
use super::storage::{self, Files};
use super::{LOCK, MAGIC};
use crate::clock::Timestamp;

/// The directory of one dead process, locked, and read once.
#[derive(Debug)]
pub struct Remains {
    directory: PathBuf,
    instance: Uuid,
    writers: Vec<Recovery<Files>>,
    /// Index of the writer that is read.
    at: usize,
    bytes: u64,
    budget: Arc<Budget>,
    _lock: Lock,
}

impl Remains {
    /// `None` when the process lives, or has only just begun to.
    pub(super) fn claim(
        directory: &Path,
        now: Timestamp,
        budget: &Arc<Budget>,
    ) -> io::Result<Option<Self>> {
        let name = directory.file_name().and_then(|name| name.to_str());
        let Some(instance) = name.and_then(|name| name.parse().ok()) else {
            return Ok(None);
        };
        if segments_in(directory)?.is_empty() && !is_old(instance, now) {
            return Ok(None);
        }
        let Some(lock) = Lock::try_exclusive(&directory.join(LOCK))? else {
            return Ok(None);
        };
        // Read again: now nobody else deletes any.
        let segments = segments_in(directory)?;
        if let Some(path) = first_foreign(&segments)? {
            let told = format!("{}: a newer format, left untouched", path.display());
            return Err(io::Error::other(told));
        }
        let mut writers = Vec::new();
        for (writer, path) in writers_in(directory)? {
            writers.push(Recovery::new(Files::open(path)?, instance, writer)?);
        }
        let mut bytes = 0;
        for path in &segments {
            bytes += fs::metadata(path)?.len();
        }
        budget.count(bytes);
        Ok(Some(Self {
            directory: directory.to_owned(),
            instance,
            writers,
            at: 0,
            bytes,
            budget: Arc::clone(budget),
            _lock: lock,
        }))
    }

    pub const fn instance(&self) -> Uuid {
        self.instance
    }

    /// At most `limit` events, fewer if they are large; `None` after the last batch. The last one of a
    /// writer has its final counts.
    pub fn next_batch(&mut self, limit: usize) -> io::Result<Option<Batch>> {
        let Some(writer) = self.writers.get_mut(self.at) else {
            return Ok(None);
        };
        let mut filling = Filling::new(limit);
        let more = writer.read(&mut filling)?;
        let decided = writer.decided();
        if !more {
            self.at += 1;
        }
        Ok(Some(Batch {
            instance: self.instance,
            events: filling.into_events(),
            writers: vec![decided],
        }))
    }

    /// The sink has every batch that was handed out.
    pub fn acknowledge(&mut self) -> io::Result<()> {
        let read = self.writers.len().min(self.at + 1);
        self.writers[..read]
            .iter_mut()
            .try_for_each(Recovery::acknowledge)
    }

    /// Stretches of damaged bytes met so far.
    pub fn damaged(&self) -> u64 {
        self.writers.iter().map(Recovery::damaged).sum()
    }

    /// Deletes it all: when the last batch was acknowledged.
    pub fn remove(self) -> io::Result<()> {
        for writer in &self.writers {
            writer.remove_segments()?;
        }
        fs::remove_dir_all(&self.directory)
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

/// Whether a process began so long ago that it has its lock and segments, or
/// never will: its id begins with the time.
fn is_old(instance: Uuid, now: Timestamp) -> bool {
    const LONG: u64 = 3600;
    let began = instance.get_timestamp().map_or(0, |time| time.to_unix().0);
    let now = u64::try_from(now.as_micros() / 1_000_000).unwrap_or(0);
    began.saturating_add(LONG) < now
}

/// The directories of a process's writers, by number.
pub(super) fn writers_in(directory: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut writers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            writers.push((number, entry.path()));
        }
    }
    writers.sort_unstable();
    Ok(writers)
}

fn segments_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut segments = Vec::new();
    for (_, path) in writers_in(directory)? {
        for sequence in storage::list(&path)? {
            segments.push(storage::segment(&path, sequence));
        }
    }
    Ok(segments)
}

/// A segment of another version: it begins with the name, but not with ours.
fn first_foreign(segments: &[PathBuf]) -> io::Result<Option<&PathBuf>> {
    use std::io::Read;
    const NAME: usize = 12;
    for path in segments {
        let mut begin = Vec::with_capacity(MAGIC.len());
        fs::File::open(path)?
            .take(MAGIC.len() as u64)
            .read_to_end(&mut begin)?;
        if begin.starts_with(&MAGIC[..NAME]) && begin != MAGIC {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

//! The journal of one process.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::LOCK;
use super::batch::{Batch, Filling};
use super::budget::Budget;
use super::config::Config;
use super::durability::{self, Durability};
use super::ids::EventIds;
use super::keeper::{self, Keeper};
use super::lock::Lock;
use super::owner_only;
use super::reader::Reader;
use super::remains::Remains;
use super::shared::{Settings, Shared};
use super::storage::Files;
use super::writer::Writer;
use crate::clock::Clock;
use crate::usage::client::ClientIp;

/// What the journal may hold by default, on a disk.
const DEFAULT_MAX_BYTES: u64 = 1 << 30;

/// The segments that each writer needs at least: one that is written, one that
/// is ready, one that waits for the sink.
const LEAST_SEGMENTS: u64 = 3;

/// The journal of one process: what its writers record, and what earlier
/// processes left behind.
#[derive(Debug)]
pub struct Journal {
    root: PathBuf,
    clock: Clock,
    instance: Uuid,
    durability: Durability,
    max_bytes: u64,
    readers: Vec<Reader<Files>>,
    /// The reader that the next batch begins with.
    turn: usize,
    more: bool,
    writers: Arc<[Arc<Shared<Files>>]>,
    budget: Arc<Budget>,
    /// Directories that could not be read; each is told of once.
    unreadable: Mutex<HashSet<PathBuf>>,
    // The threads end before the lock is given back.
    _keeper: Keeper,
    _lock: Lock,
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the usage journal in {}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the system has no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    #[error(
        "`usage.journal.max_bytes` is {max_bytes} bytes: {writers} workers need at least {needed}"
    )]
    TooSmall {
        max_bytes: u64,
        writers: usize,
        needed: u64,
    },
}

impl Journal {
    /// Begins a journal in `<data_dir>/journal`, with a [`Writer`] for each of
    /// `writers` workers, and its threads.
    pub fn open(
        config: &Config,
        client_ip: ClientIp,
        data_dir: &Path,
        clock: &Clock,
        writers: usize,
    ) -> Result<(Self, Vec<Writer>), OpenError> {
        let root = data_dir.join("journal");
        let at = |path: &Path| {
            let path = path.to_owned();
            |source| OpenError::Io { path, source }
        };
        owner_only::make_directory(&root).map_err(at(&root))?;
        let durability = Durability::of(&root).map_err(at(&root))?;
        let max_bytes = max_bytes(config, durability);
        let segment_bytes = config.segment_bytes.as_u64();
        let needed = segment_bytes.saturating_mul(LEAST_SEGMENTS * writers as u64);
        if max_bytes < needed {
            return Err(OpenError::TooSmall {
                max_bytes,
                writers,
                needed,
            });
        }

        let instance = clock.wall().new_uuid()?;
        let directory = root.join(instance.to_string());
        let lock = begin(&directory).map_err(at(&directory))?;
        let budget = Arc::new(Budget::new(max_bytes));
        let mut opened = Vec::with_capacity(writers);
        for number in 0..writers {
            let settings = Settings {
                boot: instance,
                writer: u32::try_from(number).unwrap_or(u32::MAX),
                segment_bytes: usize::try_from(segment_bytes).unwrap_or(usize::MAX),
                client_ip,
                when_full: config.when_full,
            };
            let ids = EventIds::new()?;
            let shared = Files::create(directory.join(number.to_string()))
                .and_then(|files| Shared::open(files, settings, ids, Arc::clone(&budget)))
                .map_err(at(&directory))?;
            opened.push(Arc::new(shared));
        }
        let opened: Arc<[_]> = opened.into();
        let keeper = Keeper::start(&opened, config.sync_interval).map_err(at(&directory))?;
        let handles = opened.iter().cloned().map(Writer).collect();
        let journal = Self {
            root,
            clock: clock.clone(),
            instance,
            durability,
            max_bytes,
            readers: opened.iter().cloned().map(Reader::new).collect(),
            turn: 0,
            more: false,
            writers: opened,
            budget,
            unreadable: Mutex::default(),
            _keeper: keeper,
            _lock: lock,
        };
        Ok((journal, handles))
    }

    /// The id of this start of the process.
    pub const fn instance(&self) -> Uuid {
        self.instance
    }

    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// What all segments may hold together.
    pub const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Up to `limit` events of this process that have ended, fewer if they are
    /// large, after those of the batch before; and its counts.
    pub fn next_batch(&mut self, limit: usize) -> Batch {
        let mut filling = Filling::new(limit);
        self.more = false;
        // Another one first each time, so that a busy one keeps nobody waiting.
        self.turn = (self.turn + 1) % self.readers.len().max(1);
        let (later, first) = self.readers.split_at_mut(self.turn);
        for reader in first.iter_mut().chain(later) {
            self.more |= !reader.read(&mut filling);
        }
        // Counted after reading: whatever was read has been decided.
        let writers = self.readers.iter().map(Reader::decided).collect();
        Batch {
            instance: self.instance,
            events: filling.into_events(),
            writers,
        }
    }

    /// Whether the last batch had to leave something for the next one.
    pub const fn has_more(&self) -> bool {
        self.more
    }

    /// The sink has every batch that was handed out.
    pub fn acknowledge(&mut self) -> io::Result<()> {
        self.readers.iter_mut().try_for_each(Reader::acknowledge)
    }

    /// Bytes of this process's records that the sink does not have yet.
    pub fn backlog(&self) -> u64 {
        let pending = |reader: &Reader<Files>| reader.shared().backlog();
        self.readers.iter().map(pending).sum()
    }

    /// Damaged stretches met since this was last asked.
    pub fn take_damaged(&mut self) -> u64 {
        self.readers.iter_mut().map(Reader::take_damaged).sum()
    }

    /// Waits until everything that was recorded before is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        keeper::sync_all(&self.writers)
    }

    /// What dead processes left behind, oldest first. One that cannot be read
    /// is left as it is, and told of in the log.
    pub fn remains(&self) -> io::Result<Vec<Remains>> {
        let now = self.clock.wall();
        let mut found = Vec::new();
        for directory in directories(&self.root)? {
            match Remains::claim(&directory, now, &self.budget) {
                Ok(remains) => found.extend(remains),
                Err(error) => self.tell_unreadable(&directory, &error),
            }
        }
        Ok(found)
    }

    fn tell_unreadable(&self, directory: &Path, error: &io::Error) {
        let mut told = self
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if told.insert(directory.to_owned()) {
            tracing::error!(
                directory = %directory.display(),
                %error,
                "usage that a process left behind cannot be read"
            );
        }
    }
}

/// The directories of processes, oldest first: their names begin with the time.
pub(super) fn directories(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|name| Uuid::try_parse(name).is_ok())
        {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn begin(directory: &Path) -> io::Result<Lock> {
    // Named at random: nobody else makes it.
    owner_only::make_directory(directory)?;
    Lock::try_exclusive(&directory.join(LOCK))?.ok_or_else(|| io::ErrorKind::ResourceBusy.into())
}

fn max_bytes(config: &Config, durability: Durability) -> u64 {
    if let Some(max_bytes) = config.max_bytes {
        return max_bytes.as_u64();
    }
    match durability {
        Durability::Durable => DEFAULT_MAX_BYTES,
        Durability::Ephemeral(_) => {
            durability::memory_limit().map_or(DEFAULT_MAX_BYTES, |memory| memory / 4)
        }
    }
}

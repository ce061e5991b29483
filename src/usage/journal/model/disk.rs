//! A disk that can lose power.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::usage::journal::storage::{Memory, Storage, View};
use crate::usage::journal::{MAGIC, Position};

/// Bytes that reach the disk together.
const PAGE: usize = 256;

/// One writer's directory. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    content: Arc<Mutex<Content>>,
    dropped: Arc<AtomicU64>,
    /// Whether syncing fails.
    pub(super) broken: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Content {
    files: BTreeMap<u64, File>,
    /// Deleted, but not yet for good.
    deleted: BTreeMap<u64, File>,
    acknowledged: Option<Position>,
    acknowledged_may_be_lost: bool,
}

/// What a process sees, and what the disk has.
#[derive(Clone, Debug, Hash)]
struct File {
    memory: Vec<u8>,
    durable: Vec<u8>,
    end: usize,
}

/// A segment that is open.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    disk: Disk,
    sequence: u64,
}

/// What may be lost with the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsynced {
    Page(u64, usize),
    Acknowledged,
    Deletions,
}

impl Disk {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    fn with_file<R>(&self, sequence: u64, read: impl FnOnce(&mut File) -> R) -> R {
        let mut content = self.content();
        let content = &mut *content;
        let file = content.files.get_mut(&sequence);
        // A file that was deleted goes on for whoever has it open.
        read(file.or_else(|| content.deleted.get_mut(&sequence)).unwrap())
    }

    fn unsynced(&self) -> Vec<Unsynced> {
        let content = self.content();
        let mut found = Vec::new();
        for (sequence, file) in &content.files {
            let pages = file.memory.chunks(PAGE).zip(file.durable.chunks(PAGE));
            for (number, (memory, durable)) in pages.enumerate() {
                if memory != durable {
                    found.push(Unsynced::Page(*sequence, number));
                }
            }
        }
        if content.acknowledged_may_be_lost {
            found.push(Unsynced::Acknowledged);
        }
        if !content.deleted.is_empty() {
            found.push(Unsynced::Deletions);
        }
        found
    }

    /// How many ways there are to lose power.
    pub(super) fn ways_to_crash(&self) -> u32 {
        1 << self.unsynced().len()
    }

    /// The machine loses power, and what `mask` says. Whether it lost records.
    pub(super) fn crash(&self, mask: u32) -> bool {
        let mut lost_records = false;
        for (bit, unsynced) in self.unsynced().into_iter().enumerate() {
            let lost = mask & (1 << bit) != 0;
            let mut content = self.content();
            match unsynced {
                Unsynced::Page(sequence, number) if lost => {
                    let file = content.files.get_mut(&sequence).unwrap();
                    let page = number * PAGE..file.memory.len().min((number + 1) * PAGE);
                    file.memory[page.clone()].copy_from_slice(&file.durable[page]);
                    lost_records = true;
                }
                Unsynced::Acknowledged if lost => content.acknowledged = None,
                Unsynced::Deletions if lost => {
                    let mut back = std::mem::take(&mut content.deleted);
                    for file in back.values_mut() {
                        file.memory.clone_from(&file.durable);
                    }
                    content.files.append(&mut back);
                }
                _ => {}
            }
        }
        let mut content = self.content();
        content.deleted.clear();
        content.acknowledged_may_be_lost = false;
        for file in content.files.values_mut() {
            file.durable.clone_from(&file.memory);
        }
        lost_records
    }

    pub(super) fn forget(&self) {
        *self.content() = Content::default();
    }

    pub(super) fn hash_into(&self, hasher: &mut impl Hasher) {
        let content = self.content();
        content.files.hash(hasher);
        content.deleted.hash(hasher);
        content.acknowledged.hash(hasher);
        content.acknowledged_may_be_lost.hash(hasher);
        self.dropped.load(Ordering::Relaxed).hash(hasher);
    }
}

impl Storage for Disk {
    type Memory = OpenFile;

    fn create(&self, sequence: u64, bytes: usize) -> io::Result<OpenFile> {
        let mut memory = vec![0; bytes];
        memory[..MAGIC.len()].copy_from_slice(&MAGIC);
        let file = File {
            durable: memory.clone(),
            memory,
            end: MAGIC.len(),
        };
        self.content().files.insert(sequence, file);
        Ok(OpenFile {
            disk: self.clone(),
            sequence,
        })
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.content().files.keys().copied().collect())
    }

    fn read(&self, sequence: u64) -> io::Result<Vec<u8>> {
        Ok(self.with_file(sequence, |file| file.memory.clone()))
    }

    fn remove(&self, sequence: u64) -> io::Result<()> {
        let mut content = self.content();
        let file = content.files.remove(&sequence);
        content.deleted.insert(sequence, file.unwrap());
        Ok(())
    }

    fn acknowledged(&self) -> io::Result<Option<Position>> {
        Ok(self.content().acknowledged)
    }

    fn acknowledge(&self, position: Position) -> io::Result<()> {
        let mut content = self.content();
        content.acknowledged = Some(position);
        content.acknowledged_may_be_lost = true;
        Ok(())
    }

    fn dropped(&self) -> &AtomicU64 {
        &self.dropped
    }
}

impl Memory for OpenFile {
    type View = Self;

    fn capacity(&self) -> usize {
        self.disk.with_file(self.sequence, |file| file.memory.len())
    }

    fn append(&mut self, frame: &[u8]) -> Option<usize> {
        self.disk.with_file(self.sequence, |file| {
            let start = file.end;
            file.memory
                .get_mut(start..start + frame.len())?
                .copy_from_slice(frame);
            file.end += frame.len();
            Some(start)
        })
    }

    fn view(&self) -> Self {
        self.clone()
    }
}

impl View for OpenFile {
    fn with<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        let published = self
            .disk
            .with_file(self.sequence, |file| file.memory[..file.end].to_vec());
        read(&published)
    }

    fn sync(&self, range: Range<usize>) -> io::Result<()> {
        if self.disk.broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("broken"));
        }
        self.disk.with_file(self.sequence, |file| {
            let start = range.start / PAGE * PAGE;
            let end = file.memory.len().min(range.end.next_multiple_of(PAGE));
            file.durable[start..end].copy_from_slice(&file.memory[start..end]);
        });
        Ok(())
    }
}

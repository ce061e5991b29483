//! Where one writer's segments are: a seam, so that the tests can put a disk
//! behind it that fails and forgets.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use super::mapping::{self, Appender, MappedCounter, Published};
use super::{MAGIC, Position, owner_only};

/// One writer's segments, by sequence number, and its bookkeeping.
pub trait Storage: Send + Sync + 'static {
    type Memory: Memory;

    /// A new segment of so many bytes, all its space allocated, that begins
    /// with [`MAGIC`] and is zero from there on.
    fn create(&self, sequence: u64, bytes: usize) -> io::Result<Self::Memory>;

    /// In ascending order.
    fn list(&self) -> io::Result<Vec<u64>>;

    fn read(&self, sequence: u64) -> io::Result<Vec<u8>>;

    fn remove(&self, sequence: u64) -> io::Result<()>;

    /// Up to where the sink has everything; `None` when nothing is known.
    fn acknowledged(&self) -> io::Result<Option<Position>>;

    fn acknowledge(&self, position: Position) -> io::Result<()>;

    /// How many decisions found no room.
    fn dropped(&self) -> &AtomicU64;
}

/// The memory of a segment, for its one writer.
pub trait Memory: Send + 'static {
    type View: View;

    fn capacity(&self) -> usize;

    /// Where the frame begins; `None` when it does not fit.
    fn append(&mut self, frame: &[u8]) -> Option<usize>;

    fn view(&self) -> Self::View;
}

/// The memory of a segment, for everybody else.
pub trait View: Clone + Send + Sync + 'static {
    /// Shows what has been appended so far.
    fn with<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R;

    /// Waits until the bytes are on the disk.
    fn sync(&self, range: Range<usize>) -> io::Result<()>;
}

/// A directory on a real disk.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    dropped: MappedCounter,
}

const SEGMENT: &str = "segment";
const ACKNOWLEDGED: &str = "acknowledged";
pub(super) const DROPPED: &str = "dropped";

impl Files {
    pub(super) fn create(directory: PathBuf) -> io::Result<Self> {
        owner_only::make_directory(&directory)?;
        Self::open(directory)
    }

    /// A directory that exists.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        let file = owner_only::options()
            .create(true)
            .truncate(false)
            .open(directory.join(DROPPED))?;
        // It counts when the disk is full: as for a segment, its block is taken now.
        allocate(&file, 8)?;
        let dropped = MappedCounter::map(&file)?;
        Ok(Self { directory, dropped })
    }

    fn allocate(path: &Path, bytes: usize) -> io::Result<Appender> {
        let mut file = owner_only::options().create_new(true).open(path)?;
        allocate(&file, bytes as u64)?;
        file.write_all(&MAGIC)?;
        file.sync_all()?;
        mapping::map(&file, bytes, MAGIC.len())
    }
}

impl Storage for Files {
    type Memory = Appender;

    fn create(&self, sequence: u64, bytes: usize) -> io::Result<Appender> {
        let path = segment(&self.directory, sequence);
        let created = Self::allocate(&path, bytes).and_then(|memory| {
            File::open(&self.directory)?.sync_all()?;
            Ok(memory)
        });
        if created.is_err() {
            // What was begun takes room on a disk that may have none.
            let _ = fs::remove_file(&path);
        }
        created
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        list(&self.directory)
    }

    fn read(&self, sequence: u64) -> io::Result<Vec<u8>> {
        fs::read(segment(&self.directory, sequence))
    }

    fn remove(&self, sequence: u64) -> io::Result<()> {
        fs::remove_file(segment(&self.directory, sequence))
    }

    fn acknowledged(&self) -> io::Result<Option<Position>> {
        match fs::read(self.directory.join(ACKNOWLEDGED)) {
            Ok(bytes) => Ok(Position::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn acknowledge(&self, position: Position) -> io::Result<()> {
        // Not synced: a position that a power failure sets back costs the
        // sink some duplicates, which it drops.
        let new = self.directory.join("acknowledged.new");
        owner_only::options()
            .create(true)
            .truncate(true)
            .open(&new)?
            .write_all(&position.encode())?;
        fs::rename(&new, self.directory.join(ACKNOWLEDGED))
    }

    fn dropped(&self) -> &AtomicU64 {
        self.dropped.get()
    }
}

/// Without its blocks allocated, a mapped file on a full disk is a SIGBUS.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
    Ok(())
}

pub(super) fn segment(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:016x}.{SEGMENT}"))
}

/// The sequence numbers of the segments in a directory, in ascending order.
pub(super) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = PathBuf::from(entry?.file_name());
        if path.extension().is_some_and(|is| is == SEGMENT)
            && let Some(number) = path.file_stem().and_then(|stem| stem.to_str())
            && let Ok(sequence) = u64::from_str_radix(number, 16)
        {
            found.push(sequence);
        }
    }
    found.sort_unstable();
    Ok(found)
}

impl Memory for Appender {
    type View = Published;

    fn capacity(&self) -> usize {
        Self::capacity(self)
    }

    fn append(&mut self, frame: &[u8]) -> Option<usize> {
        Self::append(self, frame)
    }

    fn view(&self) -> Published {
        self.published()
    }
}

impl View for Published {
    fn with<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        read(self.bytes())
    }

    fn sync(&self, range: Range<usize>) -> io::Result<()> {
        Self::sync(self, range)
    }
}

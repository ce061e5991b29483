//! Files mapped into memory: the only unsafe code of the crate.
//!
//! A store into a mapped file is the kernel's at once: it outlives the process
//! that made it, however that ends. What makes the mapping safe to use:
//!
//! * Only the one [`Appender`] of a mapping writes, only at its end, through
//!   `&mut self`, and never again to what it has published.
//! * A [`Published`] reads only what has been published, and `end` goes up
//!   with `Release` after the bytes are there and is read with `Acquire`. So no
//!   byte is read and written at the same time.
//! * Both keep the mapping alive by an `Arc`. It is never moved or resized.
//! * Nothing here makes a file shorter, and another process writes to a file
//!   only under the lock of its directory. One that cuts a file short
//!   regardless makes the next access a SIGBUS: the process ends, memory
//!   stays sound.

#![expect(
    unsafe_code,
    reason = "a memory map cannot be written to without; the proof is above"
)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::frame::ALIGNMENT;

#[derive(Debug)]
struct Mapping {
    map: MmapRaw,
    /// Where the published bytes end.
    end: AtomicUsize,
}

/// Writes to a mapping, at its end.
#[derive(Debug)]
pub struct Appender(Arc<Mapping>);

/// Reads what was written to a mapping.
#[derive(Clone, Debug)]
pub struct Published(Arc<Mapping>);

/// Maps the first `length` bytes of a file, all of which have to be there, and
/// touches each page, so that no append has to wait for one. The first `end`
/// bytes count as published.
pub(super) fn map(file: &File, length: usize, end: usize) -> io::Result<Appender> {
    if file.metadata()?.len() < length as u64 || end > length || !end.is_multiple_of(ALIGNMENT) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let map = MmapOptions::new().len(length).map_raw(file)?;
    touch(&map)?;
    Ok(Appender(Arc::new(Mapping {
        map,
        end: AtomicUsize::new(end),
    })))
}

/// Makes every page present and writable: `MAP_POPULATE` makes those of a
/// shared mapping readable only, and each first store would be a fault.
fn touch(map: &MmapRaw) -> io::Result<()> {
    match map.advise(Advice::PopulateWrite) {
        // Linux before 5.14 does not know it, and takes the faults.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

impl Appender {
    pub(super) fn capacity(&self) -> usize {
        self.0.map.len()
    }

    pub(super) fn published(&self) -> Published {
        Published(Arc::clone(&self.0))
    }

    /// Appends a frame; its first four bytes become visible after the rest,
    /// whatever happens in between. Returns where it begins, or `None` when
    /// it does not fit or is not aligned.
    pub(super) fn append(&mut self, frame: &[u8]) -> Option<usize> {
        let (length, rest) = frame.split_first_chunk::<4>()?;
        // Only this appender stores `end`.
        let start = self.0.end.load(Ordering::Relaxed);
        let end = start.checked_add(frame.len())?;
        if end > self.capacity() || !frame.len().is_multiple_of(ALIGNMENT) {
            return None;
        }
        // SAFETY: `start..end` is inside the mapping (checked above), whose
        // memory `Arc` keeps. It is not published yet, so no `Published` reads
        // it, and `&mut self` excludes another write. `frame` is a Rust slice
        // and cannot overlap: no slice is ever made of unpublished bytes.
        // `start` is a multiple of 8 in a page-aligned mapping, so the
        // `AtomicU32` is aligned.
        unsafe {
            let target = self.0.map.as_mut_ptr().add(start);
            std::ptr::copy_nonoverlapping(rest.as_ptr(), target.add(4), rest.len());
            // Release: neither compiler nor CPU may move the bytes after it.
            AtomicU32::from_ptr(target.cast())
                .store(u32::from_ne_bytes(*length), Ordering::Release);
        }
        self.0.end.store(end, Ordering::Release);
        fetch(self.0.map.as_mut_ptr().wrapping_add(end));
        Some(start)
    }
}

/// Asks for the memory that the next frame will be written to: since the segment
/// was made it has left every cache, and the first lock after a store would have to
/// wait until it is back.
#[cfg(target_arch = "x86_64")]
fn fetch(next: *const u8) {
    use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};

    const CACHE_LINE: usize = 64;
    // About as long as what is written of a request at once.
    const LINES: usize = 4;
    for line in 0..LINES {
        let line = next.wrapping_add(line * CACHE_LINE);
        // SAFETY: a prefetch is a hint; it neither accesses memory nor fails,
        // wherever it points, as behind the end of the mapping.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.cast()) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
const fn fetch(_next: *const u8) {}

impl Published {
    pub(super) fn bytes(&self) -> &[u8] {
        let end = self.0.end.load(Ordering::Acquire);
        // SAFETY: the first `end` bytes are inside the mapping, which lives as
        // long as `self`; they were written before `end` was stored, and are
        // never written again.
        unsafe { std::slice::from_raw_parts(self.0.map.as_ptr(), end) }
    }

    /// Waits until the bytes are on the disk.
    pub(super) fn sync(&self, range: Range<usize>) -> io::Result<()> {
        self.0.map.flush_range(range.start, range.len())
    }
}

/// One number in a file of its own.
#[derive(Debug)]
pub(super) struct MappedCounter(MmapRaw);

impl MappedCounter {
    /// The file has to be at least eight bytes long.
    pub(super) fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() < 8 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        MmapOptions::new().len(8).populate().map_raw(file).map(Self)
    }

    pub(super) fn get(&self) -> &AtomicU64 {
        // SAFETY: the mapping is eight bytes long, page-aligned, lives as long
        // as `self`, and is accessed only through this atomic.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        file
    }

    #[test]
    fn what_is_appended_is_in_the_file() {
        use std::os::unix::fs::FileExt;
        let file = file(4096);
        let mut appender = map(&file, 4096, 0).unwrap();
        let published = appender.published();
        assert_eq!(appender.append(b"\x01\0\0\0abcd"), Some(0));
        assert_eq!(appender.append(b"\x02\0\0\0efghijklmnop"), Some(8));
        assert_eq!(published.bytes(), b"\x01\0\0\0abcd\x02\0\0\0efghijklmnop");
        published.sync(0..24).unwrap();
        drop(appender);
        let mut read = [0; 24];
        file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, published.bytes());
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let file = file(16);
        let mut appender = map(&file, 16, 8).unwrap();
        assert_eq!(appender.append(&[1; 16]), None);
        assert_eq!(appender.append(&[1; 7]), None);
        assert_eq!(appender.append(&[1; 2]), None);
        assert_eq!(appender.append(&[1; 8]), Some(8));
        assert_eq!(appender.append(&[1; 8]), None);
        assert_eq!(appender.published().bytes()[8..], [1; 8]);
    }

    #[test]
    fn a_file_that_is_too_short_is_not_mapped() {
        assert!(map(&file(16), 32, 0).is_err());
        assert!(map(&file(16), 16, 32).is_err());
        assert!(map(&file(16), 16, 4).is_err());
        assert!(MappedCounter::map(&file(4)).is_err());
    }

    #[test]
    fn a_reader_in_another_thread_sees_only_whole_frames() {
        let mut appender = map(&file(1 << 16), 1 << 16, 0).unwrap();
        let published = appender.published();
        let reader = std::thread::spawn(move || {
            loop {
                let bytes = published.bytes();
                assert!(bytes.iter().all(|byte| *byte == 7));
                if bytes.len() == 1 << 16 {
                    break;
                }
            }
        });
        while appender.append(&[7; 64]).is_some() {}
        reader.join().unwrap();
    }

    #[test]
    fn a_counter_is_in_the_file() {
        let file = file(8);
        let counter = MappedCounter::map(&file).unwrap();
        counter.get().fetch_add(3, Ordering::Relaxed);
        let again = MappedCounter::map(&file).unwrap();
        assert_eq!(again.get().load(Ordering::Relaxed), 3);
    }
}

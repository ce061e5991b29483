//! Frames: how a record lies in a segment, and how to find it again.
//!
//! `length (4) ‖ checksum (4) ‖ payload ‖ zeros up to a multiple of 8`, little
//! endian. The length is never zero and is written last. The checksum is a
//! CRC-32 of the payload that starts from the segment's [`Salt`] and the
//! length, so that bytes of another segment, or a payload that looks like a
//! frame, are not taken for one.

use uuid::Uuid;

use super::VERSION;

pub(super) const HEAD: usize = 8;
pub(super) const ALIGNMENT: usize = 8;

/// What a frame has to be found in, to count: one segment of one writer of
/// one process, in this version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Salt(u32);

impl Salt {
    pub(super) fn of(boot: Uuid, writer: u32, sequence: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&VERSION.to_le_bytes());
        hasher.update(boot.as_bytes());
        hasher.update(&writer.to_le_bytes());
        hasher.update(&sequence.to_le_bytes());
        Self(hasher.finalize())
    }

    fn checksum(self, length: u32, payload: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0 ^ length);
        hasher.update(payload);
        hasher.finalize()
    }
}

/// A frame that is being put together, in a buffer that is used again.
#[derive(Debug, Default)]
pub(super) struct Draft(Vec<u8>);

impl Draft {
    /// Begins a frame: what is added to the buffer is its payload.
    pub(super) fn begin(&mut self) -> &mut Vec<u8> {
        self.0.clear();
        self.0.extend_from_slice(&[0; HEAD]);
        &mut self.0
    }

    /// All of it, the place for length and checksum too.
    pub(super) const fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    pub(super) const fn payload_len(&self) -> usize {
        self.0.len() - HEAD
    }

    /// Bytes that the frame will take.
    pub(super) fn size(&self) -> usize {
        size_of(self.0.len() - HEAD)
    }

    pub(super) fn seal(&mut self, salt: Salt) -> &[u8] {
        let payload = &self.0[HEAD..];
        // A record is a few hundred bytes: `record` bounds each of its texts.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let checksum = salt.checksum(length, payload);
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0[4..HEAD].copy_from_slice(&checksum.to_le_bytes());
        self.0.resize(size_of(length as usize), 0);
        &self.0
    }
}

/// Bytes that a frame with so long a payload takes.
pub(super) const fn size_of(payload: usize) -> usize {
    (HEAD + payload).next_multiple_of(ALIGNMENT)
}

/// One frame that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Where the next one may begin.
    pub(super) end: usize,
    pub(super) payload: &'a [u8],
}

/// Finds the frames of a segment from an offset on, in order, stepping over
/// whatever is none.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    bytes: &'a [u8],
    salt: Salt,
    offset: usize,
    damaged: u64,
}

impl<'a> Frames<'a> {
    pub(super) const fn new(bytes: &'a [u8], salt: Salt, offset: usize) -> Self {
        Self {
            bytes,
            salt,
            offset,
            damaged: 0,
        }
    }

    /// How often a stretch of damaged bytes was met so far.
    ///
    /// A stretch is damaged when a frame follows it, or when it begins with a
    /// length: an append that a crash cut short has none yet.
    pub(super) const fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Steps over what no frame begins in. Most of a segment that was not
    /// filled is zeros.
    fn skip(&mut self) {
        const ZEROS: [u8; 64] = [0; 64];
        self.offset += ALIGNMENT;
        while self.bytes[self.offset.min(self.bytes.len())..].starts_with(&ZEROS) {
            self.offset += ZEROS.len();
        }
    }

    fn word(&self, offset: usize) -> Option<u32> {
        let bytes = self.bytes.get(offset..offset + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn frame_at(&self, offset: usize) -> Option<Frame<'a>> {
        let length = self.word(offset).filter(|length| *length > 0)?;
        let start = offset + HEAD;
        let payload = self.bytes.get(start..start.checked_add(length as usize)?)?;
        let end = offset + size_of(payload.len());
        let sealed = self.word(offset + 4)?;
        (sealed == self.salt.checksum(length, payload)).then_some(Frame { end, payload })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let begin = self.offset;
        while self.offset + HEAD <= self.bytes.len() {
            if let Some(frame) = self.frame_at(self.offset) {
                self.damaged += u64::from(self.offset > begin);
                self.offset = frame.end;
                return Some(frame);
            }
            self.skip();
        }
        let torn = self.word(begin).is_some_and(|length| length > 0);
        self.damaged += u64::from(torn);
        self.offset = self.bytes.len();
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn salt(sequence: u64) -> Salt {
        Salt::of(Uuid::nil(), 0, sequence)
    }

    fn segment(payloads: &[&[u8]]) -> Vec<u8> {
        let mut draft = Draft::default();
        let mut bytes = Vec::new();
        for payload in payloads {
            draft.begin().extend_from_slice(payload);
            bytes.extend_from_slice(draft.seal(salt(1)));
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, u64) {
        let mut frames = Frames::new(bytes, salt(1), 0);
        let found = frames.by_ref().map(|frame| frame.payload.to_vec());
        (found.collect(), frames.damaged())
    }

    #[test]
    fn what_was_written_is_found() {
        let mut bytes = segment(&[b"one", b"twelve bytes", b"3"]);
        bytes.extend_from_slice(&[0; 64]);
        let (found, damaged) = read(&bytes);
        assert_eq!(found, [&b"one"[..], b"twelve bytes", b"3"]);
        assert_eq!(damaged, 0);
    }

    #[test]
    fn a_flipped_bit_costs_one_record_and_is_counted() {
        let whole = segment(&[b"one", b"two", b"three"]);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (found, damaged) = read(&bytes);
            let padding = found.len() == 3;
            assert!(padding || (found.len() == 2 && damaged == 1), "bit {bit}");
        }
    }

    #[test]
    fn a_lost_page_is_stepped_over() {
        let mut bytes = segment(&[b"one", b"two", b"three"]);
        bytes[..16].fill(0);
        let (found, damaged) = read(&bytes);
        assert_eq!(found, [&b"two"[..], b"three"]);
        assert_eq!(damaged, 1);
    }

    #[test]
    fn an_append_that_was_cut_short_is_no_damage() {
        let mut bytes = segment(&[b"one", b"two"]);
        bytes[16..20].fill(0);
        assert_eq!(read(&bytes), (vec![b"one".to_vec()], 0));
    }

    #[test]
    fn a_frame_of_another_segment_is_none() {
        let bytes = segment(&[b"one"]);
        let mut frames = Frames::new(&bytes, salt(2), 0);
        assert_eq!(frames.next(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes: Vec<u8>) {
            let (found, _) = read(&bytes);
            prop_assert!(found.len() <= bytes.len() / HEAD);
        }
    }
}

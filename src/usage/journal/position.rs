//! A place in a writer's segments.

/// A place in a writer's segments: everything before it is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub(super) sequence: u64,
    pub(super) offset: u64,
}

impl Position {
    pub(super) const fn new(sequence: u64, offset: u64) -> Self {
        Self { sequence, offset }
    }

    pub(super) fn encode(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` when the bytes are not what was written.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (place, checksum) = bytes.split_at_checked(16)?;
        if checksum != crc32fast::hash(place).to_le_bytes() {
            return None;
        }
        let (sequence, offset) = place.split_at(8);
        Some(Self {
            sequence: u64::from_le_bytes(sequence.try_into().ok()?),
            offset: u64::from_le_bytes(offset.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_being_written_and_read_and_no_other_does() {
        let position = Position::new(7, 4096);
        let mut bytes = position.encode();
        assert_eq!(Position::decode(&bytes), Some(position));
        bytes[3] ^= 1;
        assert_eq!(Position::decode(&bytes), None);
        assert_eq!(Position::decode(&bytes[..5]), None);
        assert_eq!(Position::decode(&[0; 20]), None);
    }
}

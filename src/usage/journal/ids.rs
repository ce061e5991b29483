//! Event ids: UUIDv7 without asking the system for each.

use uuid::Uuid;

use crate::clock::Timestamp;

/// A writer's event ids: the milliseconds of the decision, then 74 bits that
/// began at random and are counted up, so that no two of a writer are equal,
/// and two writers' never in practice.
#[derive(Debug)]
pub(super) struct EventIds {
    high: u16,
    low: u64,
}

impl EventIds {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 10];
        getrandom::fill(&mut seed)?;
        Ok(Self::from_seed(seed))
    }

    pub(super) const fn from_seed(seed: [u8; 10]) -> Self {
        let [a, b, rest @ ..] = seed;
        Self {
            high: u16::from_be_bytes([a, b]),
            low: u64::from_be_bytes(rest),
        }
    }

    pub(super) fn next(&mut self, at: Timestamp) -> Uuid {
        self.low = self.low.wrapping_add(1);
        let mut random = [0; 10];
        random[..2].copy_from_slice(&self.high.to_be_bytes());
        random[2..].copy_from_slice(&self.low.to_be_bytes());
        at.uuid(random)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_version_7_and_differ() {
        let mut ids = EventIds::from_seed([0xff; 10]);
        let at = Timestamp::from_micros(1_800_000_000_123_456);
        let made: HashSet<Uuid> = (0..1000).map(|_| ids.next(at)).collect();
        assert_eq!(made.len(), 1000);
        for id in made {
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_timestamp().unwrap().to_unix().0, 1_800_000_000);
        }
    }
}

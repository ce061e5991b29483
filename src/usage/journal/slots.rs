//! The requests that are open, each under a number that is used again.

/// Where the opening record of a request lies in the current segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// Where its frame begins.
    pub(super) start: usize,
    /// Bytes of its payload.
    pub(super) payload: usize,
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    entries: Vec<Option<Opening>>,
    free: Vec<usize>,
}

impl Slots {
    pub(super) fn insert(&mut self, opening: Opening) -> usize {
        if let Some(slot) = self.free.pop() {
            self.entries[slot] = Some(opening);
            return slot;
        }
        self.entries.push(Some(opening));
        self.entries.len() - 1
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<Opening> {
        let opening = self.entries.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(opening)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Opening> {
        self.entries.iter_mut().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_once_it_is_free() {
        let opening = |start| Opening { start, payload: 1 };
        let mut slots = Slots::default();
        let first = slots.insert(opening(1));
        let second = slots.insert(opening(2));
        assert_ne!(first, second);
        assert_eq!(slots.remove(first), Some(opening(1)));
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.insert(opening(3)), first);
        assert_eq!(slots.iter_mut().count(), 2);
        assert_eq!(slots.len(), 2);
    }
}

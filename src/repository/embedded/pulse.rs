//! Whether the feed's thread is alive: pure.

use crate::repository::Change;

/// What the thread last said of the feed, and whether it can be believed.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    beats: u64,
    connected: bool,
    hangs: bool,
}

impl Pulse {
    pub(super) const fn hangs(&self) -> bool {
        self.hangs
    }

    /// The thread said this; what there is to tell of it.
    pub(super) fn told(&mut self, change: Change) -> Option<Change> {
        match change {
            Change::Connected => self.connected = true,
            Change::Cut => self.connected = false,
            Change::Record { .. } | Change::Keyring => return Some(change),
        }
        // Told already when it began to hang; told again when it has stopped.
        (!self.hangs).then_some(change)
    }

    /// The thread has said nothing for a while, and has beaten so often by now.
    pub(super) fn felt(&mut self, beats: u64) -> Option<Change> {
        let alive = std::mem::replace(&mut self.beats, beats) != beats;
        let hung = std::mem::replace(&mut self.hangs, !alive);
        match (hung, alive) {
            (false, false) => self.connected.then_some(Change::Cut),
            (true, true) => self.connected.then_some(Change::Connected),
            _ => None,
        }
    }

    /// The thread is gone.
    pub(super) fn ended(&mut self) -> Option<Change> {
        let believed = std::mem::take(&mut self.connected) && !self.hangs;
        believed.then_some(Change::Cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Change::{Connected, Cut, Keyring};

    #[test]
    fn a_thread_that_hangs_is_a_cut_until_it_goes_on() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.told(Connected), Some(Connected));
        assert_eq!(pulse.felt(100), None, "alive");
        assert_eq!(pulse.felt(100), Some(Cut));
        assert_eq!(pulse.felt(100), None, "told once");
        assert_eq!(pulse.told(Keyring), Some(Keyring), "what it still says");
        assert_eq!(pulse.felt(101), Some(Connected));
        assert_eq!(pulse.felt(201), None);
        assert_eq!(pulse.ended(), Some(Cut));
        assert_eq!(pulse.ended(), None);
    }

    #[test]
    fn what_the_thread_says_of_the_feed_while_it_hangs_is_told_once() {
        let mut pulse = Pulse::default();
        pulse.told(Connected);
        pulse.felt(1);
        assert_eq!(pulse.felt(1), Some(Cut));
        assert_eq!(pulse.told(Cut), None, "told already");
        assert_eq!(pulse.felt(2), None, "alive, but cut");
        assert_eq!(pulse.told(Connected), Some(Connected));
    }

    #[test]
    fn a_thread_that_never_connected_is_not_cut() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.felt(0), None);
        assert_eq!(pulse.felt(0), None);
        assert_eq!(pulse.ended(), None);
    }
}

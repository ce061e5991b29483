//! What a look at the change log means: pure, so that every case has a row in
//! a table.

use crate::repository::Change;
use crate::token::KeyHash;

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) sequence: i64,
    pub(super) subject: Subject,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Record {
        hash: KeyHash,
        revision: u64,
        live: bool,
    },
    /// Neither record nor tombstone: it was moved to another hash by hand.
    Gone(KeyHash),
    Keyring,
    /// Not a hash: a record that no token can find.
    Unreadable,
}

/// What a look at the store showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The store could not be read.
    Failed,
    /// Nothing was written since the last look.
    Unchanged,
    /// The log's newest sequence, and its entries after
    /// [`Reducer::read_after`], oldest first; not necessarily all of them.
    Log { newest: i64, entries: Vec<Entry> },
}

#[derive(Debug, Default)]
pub(super) struct Reducer {
    /// The sequence up to which the log was read.
    position: Option<i64>,
    connected: bool,
}

impl Reducer {
    /// After which sequence the log is to be read.
    ///
    /// At first, from its end: what was written before is no news. Of a store
    /// that was put back to an older state, everything: what changed between
    /// the two cannot be known.
    pub(super) fn read_after(&self, newest: i64) -> i64 {
        match self.position {
            None => newest,
            Some(_) if self.was_put_back(newest) => 0,
            Some(position) => position,
        }
    }

    fn was_put_back(&self, newest: i64) -> bool {
        self.position.is_some_and(|position| newest < position)
    }

    /// The changes to tell of.
    pub(super) fn observe(&mut self, look: Look) -> Vec<Change> {
        match look {
            Look::Failed => self.cut().into_iter().collect(),
            Look::Unchanged => self.connect().into_iter().collect(),
            Look::Log { newest, entries } => self.read(newest, &entries),
        }
    }

    fn read(&mut self, newest: i64, entries: &[Entry]) -> Vec<Change> {
        let mut changes = Vec::with_capacity(entries.len() + 2);
        if self.was_put_back(newest) {
            changes.extend(self.cut());
        }
        changes.extend(self.connect());
        changes.extend(entries.iter().filter_map(Entry::change));
        let before = self.read_after(newest);
        self.position = Some(entries.last().map_or(before, |entry| entry.sequence));
        changes
    }

    fn cut(&mut self) -> Option<Change> {
        std::mem::take(&mut self.connected).then_some(Change::Cut)
    }

    fn connect(&mut self) -> Option<Change> {
        let was_cut = !std::mem::replace(&mut self.connected, true);
        was_cut.then_some(Change::Connected)
    }
}

impl Entry {
    fn change(&self) -> Option<Change> {
        match self.subject {
            Subject::Record {
                hash,
                revision,
                live,
            } => Some(Change::Record {
                hash,
                revision,
                live,
            }),
            // Not a deletion: moved back, it would be as it was.
            Subject::Gone(hash) => Some(Change::Record {
                hash,
                revision: 0,
                live: false,
            }),
            Subject::Keyring => Some(Change::Keyring),
            Subject::Unreadable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: KeyHash = KeyHash::from_bytes([7; 32]);

    fn entry(sequence: i64, revision: u64, live: bool) -> Entry {
        Entry {
            sequence,
            subject: Subject::Record {
                hash: HASH,
                revision,
                live,
            },
        }
    }

    fn log(newest: i64, entries: Vec<Entry>) -> Look {
        Look::Log { newest, entries }
    }

    fn subject(sequence: i64, subject: Subject) -> Entry {
        Entry { sequence, subject }
    }

    fn record(revision: u64, live: bool) -> Change {
        Change::Record {
            hash: HASH,
            revision,
            live,
        }
    }

    #[test]
    #[rustfmt::skip]
    fn what_each_look_means_to_a_feed_that_stands_at_five() {
        use Change::{Connected, Cut, Keyring};
        for (what, looks, expected) in [
            ("nothing new", vec![Look::Unchanged], vec![]),
            ("a commit that changed no record", vec![log(5, vec![])], vec![]),
            ("a policy write", vec![log(6, vec![entry(6, 2, true)])], vec![record(2, true)]),
            ("an edit by hand, its revision unchanged", vec![log(6, vec![entry(6, 1, true)])], vec![record(1, true)]),
            ("a revocation", vec![log(6, vec![entry(6, 2, false)])], vec![record(2, false)]),
            ("a record moved by hand", vec![log(6, vec![subject(6, Subject::Gone(HASH))])], vec![record(0, false)]),
            ("a new keyring", vec![log(6, vec![subject(6, Subject::Keyring)])], vec![Keyring]),
            ("a record under no hash", vec![log(6, vec![subject(6, Subject::Unreadable)])], vec![]),
            ("a failure", vec![Look::Failed], vec![Cut]),
            ("two failures", vec![Look::Failed, Look::Failed], vec![Cut]),
            ("a failure healed", vec![Look::Failed, Look::Unchanged], vec![Cut, Connected]),
            ("what was written during a failure", vec![Look::Failed, log(6, vec![entry(6, 2, false)])], vec![Cut, Connected, record(2, false)]),
            ("an older state put back", vec![log(4, vec![entry(2, 1, true)])], vec![Cut, Connected, record(1, true)]),
        ] {
            let mut reducer = Reducer::default();
            assert_eq!(reducer.observe(log(5, vec![])), [Connected]);
            let changes: Vec<_> = looks.into_iter().flat_map(|look| reducer.observe(look)).collect();
            assert_eq!(changes, expected, "{what}");
        }
    }

    #[test]
    fn a_feed_begins_at_the_end_of_the_log() {
        let mut reducer = Reducer::default();
        assert_eq!(reducer.read_after(5), 5);
        assert_eq!(reducer.observe(Look::Failed), []);
        assert_eq!(reducer.observe(log(5, vec![])), [Change::Connected]);
        assert_eq!(reducer.read_after(8), 5);
    }

    #[test]
    fn what_did_not_fit_into_one_look_is_read_by_the_next() {
        let mut reducer = Reducer::default();
        reducer.observe(log(5, vec![]));
        reducer.observe(log(9, vec![entry(6, 1, true), entry(7, 1, true)]));
        assert_eq!(reducer.read_after(9), 7);
    }

    #[test]
    fn a_store_put_back_to_an_older_state_is_read_from_its_beginning() {
        let mut reducer = Reducer::default();
        reducer.observe(log(5, vec![]));
        assert_eq!(reducer.read_after(4), 0);
        reducer.observe(log(4, vec![entry(2, 1, true)]));
        assert_eq!(reducer.read_after(4), 2);
        reducer.observe(log(0, vec![]));
        assert_eq!(reducer.read_after(1), 0, "it was empty");
    }
}

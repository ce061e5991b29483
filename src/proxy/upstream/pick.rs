//! Which target of an upstream a request goes to.

use std::cell::Cell;

use serde::Deserialize;

/// `upstreams.<name>.balance`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Of two that chance names, the one with fewer requests of this worker.
    LeastPending,
}

/// A set of targets, by their place in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Set(u64);

impl Set {
    pub(in crate::proxy) const EMPTY: Self = Self(0);

    pub(in crate::proxy) fn of(places: impl Iterator<Item = usize>) -> Self {
        Self(places.fold(0, |set, place| set | 1 << place))
    }

    pub(in crate::proxy) const fn with(self, place: usize) -> Self {
        Self(self.0 | 1 << place)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The first member at `place` or after it, beginning anew at the end.
    const fn next(self, place: usize) -> usize {
        // why: at most 64.
        #[expect(clippy::cast_possible_truncation, reason = "a place is below 64")]
        let turned = self.0.rotate_right(place as u32 & 63);
        (turned.trailing_zeros() as usize + place) & 63
    }

    /// The member that has `rank` others before it.
    const fn ranked(self, rank: u32) -> usize {
        let mut rest = self.0;
        let mut left = rank;
        while left > 0 {
            rest &= rest - 1;
            left -= 1;
        }
        rest.trailing_zeros() as usize
    }
}

/// Who is asked next: those that are `open`, or, when none of them is left,
/// all: that none is expected to answer is no proof. `None` when everybody
/// has been `tried`.
pub(in crate::proxy) fn candidates(all: Set, open: Set, tried: Set) -> Option<Set> {
    [open.without(tried), all.without(tried)]
        .into_iter()
        .find(|set| *set != Set::EMPTY)
}

/// Chooses, for one worker.
#[derive(Debug)]
pub(in crate::proxy) struct Picker {
    balance: Balance,
    turn: Cell<usize>,
    random: Cell<u64>,
}

impl Picker {
    /// Two with different seeds do not keep step.
    pub(in crate::proxy) fn new(balance: Balance, seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "only a place to begin at")]
        let turn = Cell::new(seed as usize & 63);
        Self {
            balance,
            turn,
            random: Cell::new(seed),
        }
    }

    /// One of `among`, which is not empty. The turn stays whose it is.
    pub(in crate::proxy) fn pick(&self, among: Set, pending: impl Fn(usize) -> usize) -> usize {
        let count = among.count();
        if self.balance == Balance::RoundRobin || count < 2 {
            return among.next(self.turn.get());
        }
        let first = self.below(count);
        let second = (first + 1 + self.below(count - 1)) % count;
        let (first, second) = (among.ranked(first), among.ranked(second));
        if pending(second) < pending(first) {
            second
        } else {
            first
        }
    }

    /// It is the turn of who follows `place`.
    pub(in crate::proxy) fn pass_on(&self, place: usize) {
        self.turn.set(place + 1);
    }

    /// Less than `bound`, by the generator `SplitMix64`.
    fn below(&self, bound: u32) -> u32 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = (mixed ^ mixed >> 31) >> 32;
        // The upper half of a product of two numbers of 32 bits is below either.
        u32::try_from((high * u64::from(bound)) >> 32).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(places: &[usize]) -> Set {
        Set::of(places.iter().copied())
    }

    #[test]
    fn those_that_are_out_are_asked_only_when_no_other_is_left() {
        let all = set(&[0, 1, 2]);
        for (open, tried, asked) in [
            (&[0, 1, 2][..], &[][..], Some(&[0, 1, 2][..])),
            (&[0, 2], &[], Some(&[0, 2])),
            (&[0, 2], &[0], Some(&[2])),
            (&[0, 2], &[0, 2], Some(&[1])),
            (&[], &[], Some(&[0, 1, 2])),
            (&[], &[1], Some(&[0, 2])),
            (&[0, 1, 2], &[0, 1, 2], None),
        ] {
            assert_eq!(
                candidates(all, set(open), set(tried)),
                asked.map(set),
                "{open:?} {tried:?}"
            );
        }
    }

    #[test]
    fn round_robin_gives_everyone_the_same_and_skips_who_is_out() {
        for seed in [0, 1, 63, u64::MAX] {
            let picker = Picker::new(Balance::RoundRobin, seed);
            let mut counts = [0; 64];
            let places: Vec<usize> = (0..64).collect();
            let next = |among: Set| {
                let place = picker.pick(among, |_| 0);
                picker.pass_on(place);
                place
            };
            for _ in 0..640 {
                counts[next(set(&places))] += 1;
            }
            assert_eq!(counts, [10; 64]);
            let among = set(&[1, 5, 63]);
            let mut places: Vec<usize> = (0..3).map(|_| next(among)).collect();
            places.sort_unstable();
            assert_eq!(places, [1, 5, 63]);
        }
    }

    #[test]
    fn of_two_that_chance_names_the_one_with_less_to_do_is_chosen() {
        let picker = Picker::new(Balance::LeastPending, 7);
        let pending = [9, 1, 5, 0];
        let mut counts = [0_u32; 4];
        for _ in 0..6000 {
            counts[picker.pick(set(&[0, 1, 2, 3]), |place| pending[place])] += 1;
        }
        // The busiest is never the better of two; the idlest always is.
        assert_eq!(counts[0], 0);
        assert!(counts[3] > counts[1] && counts[1] > counts[2], "{counts:?}");
        assert!((2700..3300).contains(&counts[3]), "{counts:?}");
    }

    #[test]
    fn equal_targets_share_evenly_and_one_alone_is_always_chosen() {
        let picker = Picker::new(Balance::LeastPending, 7);
        let mut counts = [0_u32; 3];
        for _ in 0..6000 {
            counts[picker.pick(set(&[0, 1, 2]), |_| 4)] += 1;
        }
        assert!(counts.iter().all(|count| (1800..2200).contains(count)));
        assert_eq!(picker.pick(set(&[41]), |_| 4), 41);
    }
}

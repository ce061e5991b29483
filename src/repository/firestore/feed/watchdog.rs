//! Tells a stream that is broken in silence from one that has nothing to say:
//! pure, asked at every beat.
//!
//! The client library notices packets that go nowhere only after two minutes,
//! and a stream that hangs behind a healthy connection never.

use std::time::Duration;

use crate::clock::{Now, Tick};

/// How often the watchdog is asked: a fraction of what it has to notice.
pub(super) const BEAT: Duration = Duration::from_millis(500);

/// After so long without a message the server is asked for one. With [`ANSWER`]
/// it bounds how long a silent break goes unnoticed, to 5.5 s. Each question
/// costs one read: at most 29,000 a day, in silence.
const QUIET: Duration = Duration::from_secs(3);

/// So long an answer may take. The server's is a lookup of one document away;
/// two round trips to the far side of the world are below a second.
const ANSWER: Duration = Duration::from_secs(2);

/// So long the stream may go without a document and without being consistent. A
/// set that is being sent makes progress; a server that has forgotten a target
/// does not, however well it answers.
const SETTLE: Duration = Duration::from_secs(10);

/// So long the feed may be believed while a set is sent anew, however steadily it
/// comes: until it is whole, a record that is missing from it goes unheard of.
const ANEW: Duration = Duration::from_mins(1);

/// A beat that comes so late, on either clock, was not late: the machine stood
/// still. The monotonic clock stops in a guest that was suspended, the other
/// does not. Whatever was sent meanwhile is gone or old.
const ASLEEP: Duration = Duration::from_secs(5);

/// How far the stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Settled,
    /// It was consistent, is believed, and is sent a set anew.
    Anew,
    /// It was not consistent yet.
    Beginning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Wait,
    /// Ask the server for a sign of life.
    Ask,
    Break(Silence),
}

/// Why a stream is not believed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Silence {
    #[error("the server does not answer")]
    Unanswered,
    #[error("the server does not come to the end of what was asked for")]
    Unsettled,
    #[error("this machine stood still")]
    Asleep,
}

#[derive(Debug)]
pub(super) struct Watchdog {
    beat: Now,
    heard: Tick,
    asked: Option<Tick>,
    /// Since when the stream is not consistent, or the last document before that.
    unsettled: Option<Tick>,
    /// Since when a set is sent anew.
    anew: Option<Tick>,
}

impl Watchdog {
    /// Over a stream that begins now.
    pub(super) const fn new(now: Now) -> Self {
        Self {
            beat: now,
            heard: now.tick,
            asked: None,
            unsettled: None,
            anew: None,
        }
    }

    /// A message came; `progress` when it was a document that had to come.
    pub(super) fn heard(&mut self, now: Tick, progress: bool) {
        self.heard = now;
        self.asked = None;
        if progress {
            self.unsettled = None;
        }
    }

    pub(super) fn beat(&mut self, now: Now, course: Course) -> Act {
        let before = std::mem::replace(&mut self.beat, now);
        let ticked = now.tick.since(before.tick);
        let passed = now.wall.as_micros().saturating_sub(before.wall.as_micros());
        let passed = Duration::from_micros(u64::try_from(passed).unwrap_or(0));
        if ticked.max(passed) > BEAT + ASLEEP {
            return Act::Break(Silence::Asleep);
        }
        if course != Course::Anew {
            self.anew = None;
        } else if now.tick.since(*self.anew.get_or_insert(now.tick)) >= ANEW {
            return Act::Break(Silence::Unsettled);
        }
        if course == Course::Settled {
            self.unsettled = None;
        } else if now.tick.since(*self.unsettled.get_or_insert(now.tick)) >= SETTLE {
            return Act::Break(Silence::Unsettled);
        }
        match self.asked {
            Some(asked) if now.tick.since(asked) >= ANSWER => Act::Break(Silence::Unanswered),
            None if now.tick.since(self.heard) >= QUIET => {
                self.asked = Some(now.tick);
                Act::Ask
            }
            _ => Act::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Course::{Anew, Beginning, Settled};
    use super::*;
    use crate::clock::Clock;
    use crate::clock::Timestamp;

    /// The acts of a watchdog over beats, each with what happened before it.
    struct Watched {
        clock: Clock,
        watchdog: Watchdog,
    }

    impl Watched {
        fn new() -> Self {
            let clock = Clock::manual(Timestamp::EPOCH);
            let watchdog = Watchdog::new(clock.now());
            Self { clock, watchdog }
        }

        /// Beats until something is to be done; how many milliseconds it took.
        fn until_it_acts(&mut self, course: Course) -> (u128, Act) {
            let from = self.clock.tick();
            loop {
                self.clock.advance(BEAT);
                let act = self.watchdog.beat(self.clock.now(), course);
                if act != Act::Wait {
                    return (self.clock.tick().since(from).as_millis(), act);
                }
            }
        }

        fn hear(&mut self, progress: bool) {
            self.watchdog.heard(self.clock.tick(), progress);
        }
    }

    #[test]
    fn a_silent_server_is_asked_and_then_given_up_within_seconds() {
        let mut watched = Watched::new();
        assert_eq!(watched.until_it_acts(Settled), (3000, Act::Ask));
        let given_up = Act::Break(Silence::Unanswered);
        assert_eq!(watched.until_it_acts(Settled), (2000, given_up));
    }

    #[test]
    fn a_server_that_answers_is_asked_again_after_another_silence() {
        let mut watched = Watched::new();
        for _ in 0..3 {
            assert_eq!(watched.until_it_acts(Settled), (3000, Act::Ask));
            watched.hear(false);
        }
    }

    #[test]
    fn answers_alone_do_not_make_up_for_what_does_not_come() {
        let mut watched = Watched::new();
        for _ in 0..3 {
            assert_eq!(watched.until_it_acts(Beginning), (3000, Act::Ask));
            watched.hear(false);
        }
        let given_up = Act::Break(Silence::Unsettled);
        assert_eq!(watched.until_it_acts(Beginning), (1500, given_up));
    }

    #[test]
    fn a_long_set_may_take_as_long_as_it_makes_progress() {
        let mut watched = Watched::new();
        for _ in 0..20 {
            assert_eq!(watched.until_it_acts(Beginning), (3000, Act::Ask));
            watched.hear(true);
        }
    }

    #[test]
    fn a_set_that_is_sent_anew_is_not_waited_for_longer_than_a_minute() {
        let mut watched = Watched::new();
        let mut waited = 0;
        loop {
            let (millis, act) = watched.until_it_acts(Anew);
            waited += millis;
            if act != Act::Ask {
                assert_eq!(act, Act::Break(Silence::Unsettled));
                break;
            }
            watched.hear(true);
        }
        assert_eq!(waited, 60_500, "from the first beat on");
    }

    #[test]
    fn a_machine_that_stood_still_does_not_believe_what_it_had() {
        let mut watched = Watched::new();
        watched.clock.advance(BEAT + ASLEEP);
        watched.hear(false);
        let late = watched.watchdog.beat(watched.clock.now(), Settled);
        assert_eq!(late, Act::Wait, "a busy machine");
        watched.clock.advance(BEAT + ASLEEP + BEAT);
        watched.hear(false);
        let asleep = watched.watchdog.beat(watched.clock.now(), Settled);
        assert_eq!(asleep, Act::Break(Silence::Asleep));
    }

    #[test]
    fn a_suspension_shows_on_the_wall_when_the_other_clock_stood_still_too() {
        let start = Now {
            wall: Timestamp::EPOCH,
            tick: Tick::default(),
        };
        for (seconds, expected) in [
            (3600, Act::Break(Silence::Asleep)),
            (1, Act::Wait),
            (-3600, Act::Wait),
        ] {
            let mut watchdog = Watchdog::new(start);
            let now = Now {
                wall: Timestamp::from_micros(seconds * 1_000_000),
                tick: Tick::default().saturating_add(BEAT),
            };
            assert_eq!(watchdog.beat(now, Settled), expected, "{seconds}");
        }
    }
}

//! Time, as an argument.
//!
//! The only module that reads the system's clocks; everything else is handed a
//! [`Clock`] when it is built, or a [`Now`], [`Tick`] or [`Timestamp`] when it
//! is called. A [`Clock`] made with [`Clock::manual`] stands still until a test
//! moves it.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the module that reads the system's time"
)]

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

/// A point on the wall clock: microseconds since the Unix epoch, UTC.
///
/// Microseconds are the finest unit that every store keeps, so that a time
/// survives being stored and sealed unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const EPOCH: Self = Self(0);

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Saturates at either end of the representable range.
    pub fn saturating_add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// Saturates at either end of the representable range.
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }

    /// Parses RFC 3339, cutting what is finer than a microsecond.
    pub fn parse(text: &str) -> Result<Self, chrono::ParseError> {
        DateTime::parse_from_rfc3339(text).map(|time| Self(time.timestamp_micros()))
    }

    /// A new UUIDv7 of this moment, which nobody can guess.
    pub fn new_uuid(self) -> Result<Uuid, getrandom::Error> {
        let mut random = [0; 10];
        getrandom::fill(&mut random)?;
        Ok(self.uuid(random))
    }

    /// The UUIDv7 (RFC 9562, section 5.7) of this moment's millisecond and 74
    /// bits of `random`. A time before the epoch counts as the epoch.
    pub fn uuid(self, random: [u8; 10]) -> Uuid {
        let millis = u64::try_from(self.0 / 1000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

/// RFC 3339 in UTC, down to the microsecond when there is a fraction.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{}us", self.0),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A point on the monotonic clock: nanoseconds since some moment before, the same for
/// all of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Zero when `earlier` is in fact later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub fn saturating_add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub wall: Timestamp,
    pub tick: Tick,
}

/// Where time comes from. Cheap to clone; clones agree.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { origin: Instant },
    Manual(Arc<ManualTime>),
}

#[derive(Debug)]
struct ManualTime {
    wall: AtomicI64,
    tick: AtomicU64,
}

impl Clock {
    /// The system's clocks, with ticks counted from the first call.
    pub fn system() -> Self {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        Self(Source::System {
            origin: *ORIGIN.get_or_init(Instant::now),
        })
    }

    /// A clock that stands at `wall`, tick zero, until it is [advanced](Self::advance).
    pub fn manual(wall: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(ManualTime {
            wall: AtomicI64::new(wall.0),
            tick: AtomicU64::new(0),
        })))
    }

    /// Moves a manual clock, both of its faces.
    ///
    /// # Panics
    /// On a system clock, which nobody moves.
    pub fn advance(&self, by: Duration) {
        let Source::Manual(time) = &self.0 else {
            panic!("only a manual clock can be advanced");
        };
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        time.wall.fetch_add(micros, Ordering::SeqCst);
        time.tick.fetch_add(nanos, Ordering::SeqCst);
    }

    pub fn now(&self) -> Now {
        Now {
            wall: self.wall(),
            tick: self.tick(),
        }
    }

    /// As [`tick`](Self::tick), but inside a [`Turn`] as of when it was last read
    /// there: for what happens at the same moment as something that was timed.
    pub fn last_tick(&self) -> Tick {
        match &self.0 {
            Source::System { origin } => Turn::last().unwrap_or_else(|| Turn::look(*origin)).tick,
            Source::Manual(_) => self.tick(),
        }
    }

    pub fn wall(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => {
                Timestamp(match SystemTime::now().duration_since(UNIX_EPOCH) {
                    Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
                    Err(before) => {
                        -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX)
                    }
                })
            }
            Source::Manual(time) => Timestamp(time.wall.load(Ordering::SeqCst)),
        }
    }

    pub fn tick(&self) -> Tick {
        match &self.0 {
            Source::System { origin } => Turn::look(*origin).tick,
            Source::Manual(time) => Tick(time.tick.load(Ordering::SeqCst)),
        }
    }
}

/// What a timer's deadline counts from: now, but inside a [`Turn`] as of when a clock was
/// last read there.
#[cfg(feature = "edge")]
pub(crate) fn instant() -> tokio::time::Instant {
    use tokio::time::Instant;
    Turn::last().map_or_else(Instant::now, |looked| looked.at.into())
}

/// One reading of the system's clock.
#[derive(Clone, Copy, Debug)]
struct Looked {
    #[cfg(feature = "edge")]
    at: Instant,
    tick: Tick,
}

/// One turn of a task of this thread: it is over too soon for the clock to have
/// moved by anything that matters, so that a moment that was looked at once in
/// it need not be looked at again. Ends when it is dropped.
#[derive(Debug)]
pub struct Turn(());

thread_local! {
    static IN_A_TURN: Cell<bool> = const { Cell::new(false) };
    static LAST: Cell<Option<Looked>> = const { Cell::new(None) };
}

impl Turn {
    /// What was looked at before is forgotten.
    pub fn begin() -> Self {
        LAST.set(None);
        IN_A_TURN.set(true);
        Self(())
    }

    fn look(origin: Instant) -> Looked {
        let at = Instant::now();
        let nanos = at.saturating_duration_since(origin).as_nanos();
        let tick = Tick(u64::try_from(nanos).unwrap_or(u64::MAX));
        let looked = Looked {
            #[cfg(feature = "edge")]
            at,
            tick,
        };
        if IN_A_TURN.get() {
            LAST.set(Some(looked));
        }
        looked
    }

    fn last() -> Option<Looked> {
        LAST.get()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        IN_A_TURN.set(false);
        LAST.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_moment_of_a_turn_is_the_one_that_was_looked_at_and_another_outside() {
        let clock = Clock::system();
        let turn = Turn::begin();
        let first = clock.last_tick();
        assert_eq!(clock.last_tick(), first);
        let later = clock.tick();
        assert!(later >= first);
        assert_eq!(clock.last_tick(), later);
        drop(turn);
        let after = clock.last_tick();
        let _other = Turn::begin();
        assert!(after >= later && clock.last_tick() >= after);
        assert_eq!(LAST.get().is_some(), IN_A_TURN.get());
    }

    #[test]
    fn a_manual_clock_has_no_turns() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let _turn = Turn::begin();
        assert_eq!(clock.last_tick(), Tick::default());
        clock.advance(Duration::from_nanos(7));
        assert_eq!(clock.last_tick(), Tick::from_nanos(7));
    }

    #[test]
    fn a_timestamp_survives_being_written_and_read() {
        for text in ["2026-11-24T17:04:03Z", "1969-12-31T23:59:59.999999Z"] {
            let time = Timestamp::parse(text).unwrap();
            assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn what_is_finer_than_a_microsecond_is_cut() {
        let fine = Timestamp::parse("2026-01-01T00:00:00.123456789Z").unwrap();
        let cut = Timestamp::parse("2026-01-01T00:00:00.123456Z").unwrap();
        assert_eq!(fine, cut);
    }

    #[test]
    fn a_new_uuid_is_of_its_time_and_unique() {
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        let id = at.new_uuid().unwrap();
        assert_eq!(id.get_version_num(), 7);
        let made = id.get_timestamp().unwrap().to_unix();
        assert_eq!(made, (1_700_000_000, 123_000_000));
        assert_ne!(at.new_uuid().unwrap(), id);
        let before_the_epoch = Timestamp::from_micros(-1_000_000).uuid([0; 10]);
        assert_eq!(before_the_epoch, Timestamp::EPOCH.uuid([0; 10]));
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Timestamp::from_micros(5));
        let other = clock.clone();
        assert_eq!(clock.now(), other.now());
        other.advance(Duration::from_micros(3));
        assert_eq!(clock.wall(), Timestamp::from_micros(8));
        assert_eq!(clock.tick(), Tick::from_nanos(3000));
    }

    #[test]
    fn an_elapsed_time_is_never_negative() {
        assert_eq!(
            Tick::from_nanos(1).since(Tick::from_nanos(2)),
            Duration::ZERO
        );
    }
}

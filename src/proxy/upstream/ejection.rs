//! Targets that fail one request after the other are left alone for a while:
//! longer each time, and never too many of them at once.

use std::time::Duration;

use serde::Deserialize;

use crate::clock::Tick;
use crate::setting::{self, Invalid};

/// `[upstreams.<name>.ejection]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EjectionConfig {
    /// How many failures in a row it takes; with 0 nobody is ejected.
    pub failures: u32,
    /// For how long at first; twice as long each time that it fails again.
    #[serde(deserialize_with = "setting::duration")]
    pub first: Duration,
    #[serde(deserialize_with = "setting::duration")]
    pub longest: Duration,
    /// How many of a hundred targets may be out at once.
    pub max_percent: usize,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            first: Duration::from_secs(10),
            longest: Duration::from_mins(5),
            max_percent: 50,
        }
    }
}

impl EjectionConfig {
    pub(super) fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        let mut invalid = |key: &str, problem: &str| {
            found.push(Invalid::new(format!("{section}.{key}"), problem));
        };
        if self.first.is_zero() {
            invalid(
                "first",
                "is zero: write `10s`, or `failures = 0` for no ejection",
            );
        }
        if self.longest < self.first {
            invalid("longest", "is shorter than `first`: write `5min`");
        }
        if self.max_percent > 100 {
            invalid("max_percent", "is above 100: write 50 for half of them");
        }
    }

    fn duration(&self, times: u32) -> Duration {
        let doubled = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(self.longest)
    }
}

/// Who was ejected when, of one upstream's targets.
#[derive(Debug)]
pub(super) struct Ejections(Box<[History]>);

#[derive(Clone, Debug, Default)]
struct History {
    /// How often in a row.
    times: u32,
    /// When the last time began and ended.
    last: Option<(Tick, Tick)>,
}

impl History {
    fn is_out(&self, now: Tick) -> bool {
        self.last.is_some_and(|(_, until)| now < until)
    }

    /// It was in again for as long as it had been out.
    fn is_forgotten(&self, now: Tick) -> bool {
        self.last
            .is_some_and(|(from, until)| now.since(until) >= until.since(from))
    }
}

impl Ejections {
    pub(super) fn new(targets: usize) -> Self {
        Self(vec![History::default(); targets].into())
    }

    /// A target has failed once more, `failures` times in a row by now. Until
    /// when it is to be left alone, when it is.
    pub(super) fn failed(
        &mut self,
        target: usize,
        failures: u32,
        now: Tick,
        config: &EjectionConfig,
    ) -> Option<Tick> {
        if config.failures == 0 || failures < config.failures {
            return None;
        }
        let out = self.0.iter().filter(|history| history.is_out(now)).count();
        let room = out < self.0.len() * config.max_percent / 100;
        let history = self.0.get_mut(target)?;
        if !room || history.is_out(now) {
            return None;
        }
        if history.is_forgotten(now) {
            history.times = 0;
        }
        let until = now.saturating_add(config.duration(history.times));
        history.times += 1;
        history.last = Some((now, until));
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    fn config(toml: &str) -> EjectionConfig {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn it_takes_so_many_failures_in_a_row() {
        let config = config("failures = 3");
        for (failures, until) in [(1, None), (2, None), (3, Some(at(11))), (4, Some(at(11)))] {
            let mut ejections = Ejections::new(2);
            assert_eq!(ejections.failed(0, failures, at(1), &config), until);
        }
    }

    #[test]
    fn each_time_is_twice_as_long_up_to_the_longest() {
        let config = config("failures = 1\nfirst = '10s'\nlongest = '1min'");
        let mut ejections = Ejections::new(2);
        let mut now = at(0);
        for seconds in [10, 20, 40, 60, 60] {
            let until = ejections.failed(0, 1, now, &config).unwrap();
            assert_eq!(until.since(now), Duration::from_secs(seconds));
            now = until;
        }
    }

    #[test]
    fn who_was_in_as_long_as_out_begins_anew() {
        let config = config("failures = 1\nfirst = '10s'");
        for (back, seconds) in [(19, 20), (20, 10)] {
            let mut ejections = Ejections::new(2);
            ejections.failed(0, 1, at(0), &config).unwrap();
            let until = ejections.failed(0, 1, at(back), &config).unwrap();
            assert_eq!(until.since(at(back)), Duration::from_secs(seconds));
        }
    }

    #[test]
    fn who_is_out_is_not_ejected_again() {
        let config = config("failures = 1");
        let mut ejections = Ejections::new(2);
        assert_eq!(ejections.failed(0, 1, at(0), &config), Some(at(10)));
        assert_eq!(ejections.failed(0, 2, at(5), &config), None);
    }

    #[test]
    fn no_more_than_the_share_is_out_at_once() {
        for (targets, percent, most) in [
            (1, 50, 0),
            (2, 50, 1),
            (3, 50, 1),
            (4, 50, 2),
            (4, 100, 4),
            (4, 0, 0),
        ] {
            let config = config(&format!("failures = 1\nmax_percent = {percent}"));
            let mut ejections = Ejections::new(targets);
            let out = (0..targets)
                .filter(|&target| ejections.failed(target, 1, at(0), &config).is_some())
                .count();
            assert_eq!(out, most, "{targets} targets, {percent} percent");
        }
        let config = config("failures = 1");
        let mut ejections = Ejections::new(2);
        assert!(ejections.failed(0, 1, at(0), &config).is_some());
        assert!(ejections.failed(1, 1, at(9), &config).is_none());
        // The first is in again.
        assert!(ejections.failed(1, 1, at(10), &config).is_some());
    }

    #[test]
    fn nobody_is_ejected_where_that_is_switched_off() {
        let config = config("failures = 0");
        let mut ejections = Ejections::new(2);
        assert_eq!(ejections.failed(0, u32::MAX, at(0), &config), None);
    }
}

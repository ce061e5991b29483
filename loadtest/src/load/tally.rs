//! What came of the requests.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use cypheron_edge::clock::Tick;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cpu::Spent;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failure {
    Connect,
    BrokeOff,
    TimedOut,
}

/// What was asked of the generator.
#[derive(Debug, Serialize)]
pub(super) struct Offered {
    pub(super) rate: Option<f64>,
    pub(super) connections: usize,
    pub(super) keys: usize,
}

pub(super) struct Tally {
    expected: u16,
    measuring: Cell<bool>,
    /// Answers that ended while it was measured: what the CPU was spent on.
    completed: Cell<u64>,
    bytes: Cell<u64>,
    /// In nanoseconds, of requests that were due while it was measured.
    latency: RefCell<Histogram<u64>>,
    /// From when a request was due until it was sent: the server's doing while
    /// all connections wait for answers, the generator's otherwise.
    lateness: RefCell<Histogram<u64>>,
    statuses: RefCell<BTreeMap<u16, u64>>,
    failures: RefCell<BTreeMap<Failure, u64>>,
}

/// What one run found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    offered: Offered,
    seconds: f64,
    pub(super) completed: u64,
    /// Good answers a second.
    rate: f64,
    pub(super) unexpected: u64,
    bytes: u64,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) failures: BTreeMap<Failure, u64>,
    pub(super) latency_us: Percentiles,
    pub(super) lateness_us: Percentiles,
    cpu: Spent,
}

#[derive(Debug, Serialize)]
pub(super) struct Percentiles {
    mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
    /// For a curve.
    steps: Vec<(f64, f64)>,
}

/// For a curve: dense where it is steep.
const STEPS: [f64; 15] = [
    1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.99, 100.0,
];

/// Ten minutes: what took longer counts as this.
const LONGEST: u64 = 600_000_000_000;

impl Tally {
    pub(super) fn new(expected: u16) -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LONGEST, 3).expect("three digits of a range are allowed")
        };
        Self {
            expected,
            measuring: Cell::new(false),
            completed: Cell::new(0),
            bytes: Cell::new(0),
            latency: RefCell::new(histogram()),
            lateness: RefCell::new(histogram()),
            statuses: RefCell::default(),
            failures: RefCell::default(),
        }
    }

    pub(super) fn begin(&self) {
        self.measuring.set(true);
    }

    pub(super) fn end(&self) {
        self.measuring.set(false);
    }

    /// A request has ended. One without an answer counts as having taken as long
    /// as it was waited for.
    pub(super) fn record(
        &self,
        measured: bool,
        due: Tick,
        sent: Tick,
        ended: Tick,
        outcome: &Result<(u16, usize), Failure>,
    ) {
        if self.measuring.get() && outcome.is_ok() {
            self.completed.set(self.completed.get() + 1);
        }
        if !measured {
            return;
        }
        self.latency
            .borrow_mut()
            .saturating_record(nanos(ended.since(due)));
        self.lateness
            .borrow_mut()
            .saturating_record(nanos(sent.since(due)));
        match *outcome {
            Ok((status, bytes)) => {
                *self.statuses.borrow_mut().entry(status).or_default() += 1;
                self.bytes.set(self.bytes.get() + bytes as u64);
            }
            Err(failure) => *self.failures.borrow_mut().entry(failure).or_default() += 1,
        }
    }

    pub(super) fn report(&self, offered: Offered, elapsed: Duration, cpu: Spent) -> Report {
        let statuses = self.statuses.take();
        let good = statuses.get(&self.expected).copied().unwrap_or_default();
        let answered: u64 = statuses.values().sum();
        Report {
            offered,
            seconds: elapsed.as_secs_f64(),
            completed: self.completed.get(),
            rate: good as f64 / elapsed.as_secs_f64(),
            unexpected: answered - good,
            bytes: self.bytes.get(),
            statuses,
            failures: self.failures.take(),
            latency_us: Percentiles::of(&self.latency.borrow()),
            lateness_us: Percentiles::of(&self.lateness.borrow()),
            cpu,
        }
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let at = |percent: f64| micros(histogram.value_at_percentile(percent));
        Self {
            mean: histogram.mean() / 1000.0,
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: micros(histogram.max()),
            steps: STEPS.map(|percent| (percent, at(percent))).to_vec(),
        }
    }

    fn print(&self, what: &str) {
        println!(
            "{what:<10} mean {:.0}  p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  max {:.0} us",
            self.mean, self.p50, self.p90, self.p99, self.p999, self.max
        );
    }
}

impl Report {
    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
        } else {
            self.print_text();
        }
        Ok(())
    }

    fn print_text(&self) {
        println!(
            "{} answers in {:.1} s, {:.0} good ones a second, {} unexpected, {:?}{}",
            self.completed,
            self.seconds,
            self.rate,
            self.unexpected,
            self.statuses,
            if self.failures.is_empty() {
                String::new()
            } else {
                format!(", failures {:?}", self.failures)
            },
        );
        self.latency_us.print("latency");
        self.lateness_us.print("lateness");
        self.cpu.print(self.completed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

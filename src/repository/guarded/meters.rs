//! What the guard tells of itself.

use metrics::{Counter, Gauge, counter, gauge};

use crate::telemetry::metric;

pub(super) struct Meters {
    state: Gauge,
    openings: Counter,
    pub(super) retries: Counter,
    pub(super) late: Counter,
}

impl Meters {
    pub(super) fn new() -> Self {
        let meters = Self {
            state: gauge!(metric::STORE_CIRCUIT),
            openings: counter!(metric::STORE_CIRCUIT_OPENINGS),
            retries: counter!(metric::STORE_RETRIES),
            late: counter!(metric::STORE_LATE_READS),
        };
        meters.closed();
        meters
    }

    pub(super) fn closed(&self) {
        self.state.set(0.0);
    }

    pub(super) fn probing(&self) {
        self.state.set(1.0);
    }

    pub(super) fn open(&self) {
        self.state.set(2.0);
    }

    pub(super) fn opened(&self) {
        self.openings.increment(1);
        self.open();
    }
}

//! How many connections there are, in the metrics.

use metrics::{Gauge, gauge};

use crate::telemetry::metric::DATABASE_CONNECTIONS;

pub(super) struct Gauges {
    pub(super) queries: PoolGauges,
    pub(super) ingest: PoolGauges,
}

pub(super) struct PoolGauges {
    idle: Gauge,
    in_use: Gauge,
}

impl Gauges {
    pub(super) fn new() -> Self {
        Self {
            queries: PoolGauges::new("queries"),
            ingest: PoolGauges::new("ingest"),
        }
    }
}

impl PoolGauges {
    fn new(pool: &'static str) -> Self {
        Self {
            idle: gauge!(DATABASE_CONNECTIONS, "pool" => pool, "state" => "idle"),
            in_use: gauge!(DATABASE_CONNECTIONS, "pool" => pool, "state" => "in_use"),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "there are not that many connections"
    )]
    pub(super) fn set(&self, size: usize, idle: usize) {
        self.idle.set(idle as f64);
        self.in_use.set(size.saturating_sub(idle) as f64);
    }
}

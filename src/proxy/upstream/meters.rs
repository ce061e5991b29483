//! What operators see of an upstream and its targets. Labels are names that an
//! operator chose.

use metrics::{Counter, Gauge, counter, gauge};

use super::target::Target;
use crate::clock::Tick;
use crate::telemetry::metric;

#[derive(Debug)]
pub(super) struct Meters {
    pub(super) failed_checks: Counter,
    pub(super) failed_look_ups: Counter,
    pub(super) ejections: Counter,
    pub(super) busy: Counter,
    pub(super) waited: Counter,
    targets: Box<[OfTarget]>,
}

#[derive(Debug)]
struct OfTarget {
    healthy: Gauge,
    ejected: Gauge,
}

impl Meters {
    pub(super) fn of(upstream: &str, targets: &[Target]) -> Self {
        let count = |name| counter!(name, "upstream" => upstream.to_owned());
        let standing = |target: &Target, name| {
            let target = target.name().to_owned();
            gauge!(name, "upstream" => upstream.to_owned(), "target" => target)
        };
        Self {
            failed_checks: count(metric::UPSTREAM_CHECKS_FAILED),
            failed_look_ups: count(metric::UPSTREAM_LOOK_UPS_FAILED),
            ejections: count(metric::UPSTREAM_EJECTIONS),
            busy: count(metric::UPSTREAM_BUSY),
            waited: count(metric::UPSTREAM_WAITED),
            targets: targets
                .iter()
                .map(|target| OfTarget {
                    healthy: standing(target, metric::UPSTREAM_TARGET_HEALTHY),
                    ejected: standing(target, metric::UPSTREAM_TARGET_EJECTED),
                })
                .collect(),
        }
    }

    /// Tells how each target stands.
    pub(super) fn tell(&self, targets: &[Target], now: Tick) {
        let number = |yes: bool| if yes { 1.0 } else { 0.0 };
        for (target, meters) in targets.iter().zip(&self.targets) {
            let standing = &target.standing;
            meters.ejected.set(number(standing.is_ejected(now)));
            meters.healthy.set(number(standing.is_healthy()));
        }
    }
}

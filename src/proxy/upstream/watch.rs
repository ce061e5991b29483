//! What goes on beside the requests: checks of health, and looking up names.
//! On the background runtime, for as long as the upstream is configured.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::health::Health;
use super::{Upstream, Upstreams};
use crate::clock::Clock;

/// How often it is told how the targets stand.
const TELLING: Duration = Duration::from_secs(1);

/// How often it is looked whether certificates changed.
const CERTIFICATES: Duration = Duration::from_secs(1);

impl Upstreams {
    /// Looks after those that nobody looks after yet, until they are dropped.
    /// To be called inside of the runtime that is to do it.
    pub fn look_after(&self, clock: &Clock) {
        for upstream in self.0.values() {
            if upstream.watched.set(()).is_ok() {
                upstream.watch(clock);
            }
        }
    }
}

impl Upstream {
    fn watch(self: &Arc<Self>, clock: &Clock) {
        let clock = clock.clone();
        tokio::spawn(each(TELLING, Arc::downgrade(self), move |upstream| {
            let now = clock.tick();
            async move { upstream.meters.tell(&upstream.targets, now) }
        }));
        if self.tls.is_some() {
            tokio::spawn(each(
                CERTIFICATES,
                Arc::downgrade(self),
                |upstream| async move { reload_certificates(upstream).await },
            ));
        }
        for place in 0..self.targets.len() {
            if self.targets[place].addresses.is_name() {
                let interval = self.config.resolve_interval;
                tokio::spawn(each(
                    interval,
                    Arc::downgrade(self),
                    move |upstream| async move { upstream.look_up(place).await },
                ));
            }
            if let Some(config) = self.config.health.clone() {
                tokio::spawn(keep_checking(Arc::downgrade(self), place, config));
            }
        }
    }

    async fn look_up(&self, place: usize) {
        let target = &self.targets[place];
        if let Err(error) = target.addresses.look_up().await {
            self.meters.failed_look_ups.increment(1);
            let (upstream, target) = (&*self.name, target.name());
            tracing::warn!(%error, upstream, target, "a target's name cannot be looked up: going on with what is known");
        }
    }
}

async fn reload_certificates(upstream: Arc<Upstream>) {
    let reload = move || {
        if let Some(tls) = &upstream.tls {
            tls.reload(&upstream.name);
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(reload).await {
        tracing::error!(%error, "certificates were not looked at");
    }
}

async fn keep_checking(upstream: Weak<Upstream>, place: usize, config: super::CheckConfig) {
    let mut health = Health::default();
    let mut ticks = ticks(config.interval);
    loop {
        ticks.tick().await;
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        let target = &upstream.targets[place];
        upstream.check(target, &mut health, &config).await;
    }
}

/// Does it at once, and then after each interval, while there is an upstream.
async fn each<F: Future<Output = ()>>(
    interval: Duration,
    upstream: Weak<Upstream>,
    work: impl Fn(Arc<Upstream>) -> F,
) {
    let mut ticks = ticks(interval);
    loop {
        ticks.tick().await;
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        work(upstream).await;
    }
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now(), interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

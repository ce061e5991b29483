//! When requests are due.

use std::rc::Rc;
use std::time::Duration;

use cypheron_edge::clock::{Clock, Tick};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::work::Work;

/// A Poisson process: the times between arrivals are exponential, so that
/// requests come in bunches as they do from clients that know nothing of each other.
#[derive(Debug)]
pub(super) struct Arrivals {
    random: fastrand::Rng,
    mean: Duration,
    next: Tick,
}

impl Arrivals {
    /// `rate` a second, from `begin` on.
    pub(super) fn new(rate: f64, seed: u64, begin: Tick) -> Self {
        let mut arrivals = Self {
            random: fastrand::Rng::with_seed(seed),
            mean: Duration::from_secs_f64(1.0 / rate),
            next: begin,
        };
        arrivals.advance();
        arrivals
    }

    fn advance(&mut self) -> Tick {
        let due = self.next;
        // Never the logarithm of zero: the random number is below one.
        let wait = self.mean.mul_f64(-(1.0 - self.random.f64()).ln());
        self.next = due.saturating_add(wait);
        due
    }
}

/// Hands requests over as they become due, until the window ends.
pub(super) async fn pace(mut arrivals: Arrivals, work: Rc<Work>) -> anyhow::Result<()> {
    let mut alarm = Alarm::new()?;
    loop {
        let now = work.clock.tick();
        while arrivals.next <= now {
            if arrivals.next >= work.window.ends() {
                return Ok(());
            }
            work.arrive(arrivals.advance());
        }
        alarm.sleep(arrivals.next.since(now)).await?;
    }
}

pub(super) async fn sleep_until(clock: &Clock, until: Tick) -> anyhow::Result<()> {
    let now = clock.tick();
    if now < until {
        Alarm::new()?.sleep(until.since(now)).await?;
    }
    Ok(())
}

/// Tokio's own timers fire to the millisecond, which is longer than most of
/// what is measured here. A timer of the kernel's is read as a pipe is: it is
/// readable when its time has come.
struct Alarm(Receiver);

impl Alarm {
    fn new() -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(timer)?))
    }

    async fn sleep(&mut self, time: Duration) -> anyhow::Result<()> {
        let spec = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::try_from(time.as_secs())?,
                // All zero would disarm it.
                tv_nsec: i64::from(time.subsec_nanos()).max(1),
            },
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &spec)?;
        let mut expirations = [0; 8];
        self.0.read_exact(&mut expirations).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(rate: f64, seed: u64, count: usize) -> Vec<f64> {
        let begin = Tick::from_nanos(0);
        let mut arrivals = Arrivals::new(rate, seed, begin);
        let mut last = begin;
        (0..count)
            .map(|_| {
                let due = arrivals.advance();
                let wait = due.since(last).as_secs_f64();
                last = due;
                wait
            })
            .collect()
    }

    #[test]
    fn waits_have_the_mean_and_the_spread_of_a_poisson_process() {
        let waits = waits(1000.0, 7, 100_000);
        let count = waits.len() as f64;
        let mean = waits.iter().sum::<f64>() / count;
        let variance = waits.iter().map(|wait| (wait - mean).powi(2)).sum::<f64>() / count;
        // Of an exponential distribution both are the mean.
        assert!((mean * 1000.0 - 1.0).abs() < 0.02, "{mean}");
        assert!((variance.sqrt() * 1000.0 - 1.0).abs() < 0.02, "{variance}");
        // And 1 in e is longer than the mean.
        let longer = waits.iter().filter(|wait| **wait > 0.001).count() as f64 / count;
        assert!((longer - (-1.0_f64).exp()).abs() < 0.01, "{longer}");
    }

    #[test]
    fn the_same_seed_is_the_same_sequence() {
        assert_eq!(waits(50.0, 3, 100), waits(50.0, 3, 100));
        assert_ne!(waits(50.0, 3, 100), waits(50.0, 4, 100));
    }
}

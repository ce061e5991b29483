//! What processes cost, from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::Serialize;

/// Of `/proc/stat` and `/proc/PID/stat`: every Linux that this runs on has it so.
const TICKS_PER_SECOND: u64 = 100;

/// The CPU that a process has had, all its threads together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// To the nanosecond.
    pub(crate) total: Duration,
    /// To a hundredth of a second: only good for their proportion.
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// By name, threads of one name together.
    pub(crate) threads: Vec<(String, Duration)>,
    /// Resident memory, in KiB.
    pub(crate) resident: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let gone = || format!("process {pid} is not there");
        let (user, system) = parse_stat(&read(&format!("/proc/{pid}/stat")).with_context(gone)?)?;
        let mut usage = Self {
            user,
            system,
            resident: parse_resident(&read(&format!("/proc/{pid}/status")).with_context(gone)?)?,
            ..Self::default()
        };
        for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(gone)? {
            let task = task?.path();
            // A thread may end between being listed and being read.
            let (Ok(name), Ok(ran)) = (
                fs::read_to_string(task.join("comm")),
                fs::read_to_string(task.join("schedstat")),
            ) else {
                continue;
            };
            usage.add(name.trim_end(), parse_schedstat(&ran)?);
        }
        Ok(usage)
    }

    fn add(&mut self, name: &str, ran: Duration) {
        self.total += ran;
        match self.threads.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += ran,
            None => self.threads.push((name.to_owned(), ran)),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.user += other.user;
        self.system += other.system;
        self.resident += other.resident;
        for (name, ran) in &other.threads {
            self.add(name, *ran);
        }
    }
}

/// A service under measurement: `name=pid` or `name=pid,pid`.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pids: Vec<u32>,
}

impl std::str::FromStr for Watched {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, pids) = text.split_once('=').context("write NAME=PID[,PID...]")?;
        Ok(Self {
            name: name.to_owned(),
            pids: pids
                .split(',')
                .map(|pid| {
                    pid.parse()
                        .with_context(|| format!("{pid} is no process id"))
                })
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

impl Watched {
    fn usage(&self) -> anyhow::Result<Usage> {
        let mut all = Usage::default();
        for pid in &self.pids {
            all.merge(&Usage::of(*pid)?);
        }
        Ok(all)
    }
}

/// The machine at one moment.
pub(crate) struct Sample {
    watched: Vec<(String, Usage)>,
    own: Usage,
    busy: Duration,
}

impl Sample {
    pub(crate) fn take(watched: &[Watched]) -> anyhow::Result<Self> {
        Ok(Self {
            watched: watched
                .iter()
                .map(|one| Ok((one.name.clone(), one.usage()?)))
                .collect::<anyhow::Result<_>>()?,
            own: Usage::of(std::process::id())?,
            busy: parse_busy(&read("/proc/stat")?)?,
        })
    }

    /// What passed between an earlier sample and this one, `elapsed` apart.
    pub(crate) fn since(&self, earlier: &Self, elapsed: Duration) -> Spent {
        let services: Vec<Service> = self
            .watched
            .iter()
            .zip(&earlier.watched)
            .map(|((name, now), (_, then))| Service::between(name, then, now))
            .collect();
        let own = self.own.total.saturating_sub(earlier.own.total);
        let known: f64 = services.iter().map(|service| service.cpu_seconds).sum();
        let busy = self.busy.saturating_sub(earlier.busy).as_secs_f64();
        let others = (busy - known - own.as_secs_f64()).max(0.0);
        Spent {
            generator_cpu_seconds: own.as_secs_f64(),
            others_share_of_a_core: others / elapsed.as_secs_f64(),
            services,
        }
    }
}

/// CPU between two samples.
#[derive(Debug, Serialize)]
pub(crate) struct Spent {
    services: Vec<Service>,
    generator_cpu_seconds: f64,
    /// What everything else on the machine used: above 0.05 the round is disturbed.
    others_share_of_a_core: f64,
}

impl Spent {
    pub(crate) fn print(&self, answers: u64) {
        for service in &self.services {
            println!(
                "{:<10} {:.2} us of CPU an answer, {} KiB resident",
                service.name,
                service.cpu_seconds * 1e6 / answers.max(1) as f64,
                service.resident_kib
            );
        }
        if self.others_share_of_a_core > 0.05 {
            println!(
                "disturbed: other processes used {:.0} % of a core",
                self.others_share_of_a_core * 100.0
            );
        }
    }
}

#[derive(Debug, Serialize)]
struct Service {
    name: String,
    cpu_seconds: f64,
    user_seconds: f64,
    system_seconds: f64,
    threads: Vec<(String, f64)>,
    resident_kib: u64,
}

impl Service {
    fn between(name: &str, then: &Usage, now: &Usage) -> Self {
        let before = |thread: &str| {
            let found = then.threads.iter().find(|(known, _)| known == thread);
            found.map_or(Duration::ZERO, |(_, ran)| *ran)
        };
        Self {
            name: name.to_owned(),
            cpu_seconds: now.total.saturating_sub(then.total).as_secs_f64(),
            user_seconds: now.user.saturating_sub(then.user).as_secs_f64(),
            system_seconds: now.system.saturating_sub(then.system).as_secs_f64(),
            threads: now
                .threads
                .iter()
                .map(|(name, ran)| (name.clone(), ran.saturating_sub(before(name)).as_secs_f64()))
                .collect(),
            resident_kib: now.resident,
        }
    }
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}

/// User and system time of `/proc/PID/stat`. The name of the command, which may
/// hold anything, ends with the last parenthesis.
fn parse_stat(text: &str) -> anyhow::Result<(Duration, Duration)> {
    let (_, fields) = text.rsplit_once(") ").context("no stat of a process")?;
    let ticks = |field: usize| -> anyhow::Result<Duration> {
        let text = fields.split(' ').nth(field).context("a short stat")?;
        Ok(of_ticks(text.parse()?))
    };
    // utime and stime are the fields 14 and 15 of all, and 11 and 12 after the state.
    Ok((ticks(11)?, ticks(12)?))
}

/// The time a thread ran, of its `schedstat`.
fn parse_schedstat(text: &str) -> anyhow::Result<Duration> {
    let nanos = text.split(' ').next().context("an empty schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

fn parse_resident(text: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse()?)
}

/// All CPUs together: user, nice, system, interrupts, not what idles.
fn parse_busy(text: &str) -> anyhow::Result<Duration> {
    let line = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "));
    let fields: Vec<u64> = line
        .ok_or_else(|| anyhow!("no line for all CPUs"))?
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [user, nice, system, _idle, _waiting, interrupts, soft, ..] = fields[..] else {
        return Err(anyhow!("a short line for all CPUs"));
    };
    Ok(of_ticks(user + nice + system + interrupts + soft))
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * (1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_be_called_anything() {
        let text = "7 (a) b) (c) R 1 7 7 0 -1 4194304 100 0 0 0 250 130 0 0 20 0 3 0 9 1 1";
        let times = parse_stat(text).unwrap();
        assert_eq!(
            times,
            (Duration::from_millis(2500), Duration::from_millis(1300))
        );
    }

    #[test]
    fn the_machine_is_busy_with_all_but_idling() {
        let text = "cpu  10 1 20 5000 70 2 3 9 0 0\ncpu0 1 2 3\n";
        assert_eq!(parse_busy(text).unwrap(), Duration::from_millis(360));
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        assert!(parse_stat("7 (a) R 1").is_err());
        assert!(parse_busy("cpu  10 1\n").is_err());
        assert!(parse_schedstat("").is_err());
        assert!(parse_resident("VmSize: 1 kB\n").is_err());
    }

    #[test]
    fn a_process_sees_its_own_work() {
        let before = Usage::of(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while Usage::of(std::process::id()).unwrap().total < before.total + Duration::from_millis(5)
        {
            sum = (0..10_000).fold(sum, |sum, next| sum.wrapping_mul(31) ^ next);
        }
        assert_ne!(sum, 1);
        assert!(Usage::of(std::process::id()).unwrap().resident > 0);
    }

    #[test]
    fn a_watched_service_is_a_name_and_its_processes() {
        let watched: Watched = "nginx=1,22".parse().unwrap();
        assert_eq!(
            (watched.name.as_str(), &watched.pids[..]),
            ("nginx", &[1, 22][..])
        );
        assert!("nginx".parse::<Watched>().is_err());
        assert!("nginx=x".parse::<Watched>().is_err());
    }
}

//! The generator.
//!
//! With `--rate` the loop is open: requests are due at random moments (Poisson
//! arrivals), whether or not earlier ones were answered, and each is timed from
//! the moment it was *due*. So a server that stalls shows its stall in every
//! request that was due meanwhile, and the generator's own lateness counts
//! against the figure rather than for it; how late it was is a figure of its own.
//! Without, each connection sends its next request when the last was answered.

mod arrivals;
mod connection;
mod http2;
mod keys;
mod tally;
mod target;
mod work;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use cypheron_edge::clock::Clock;
use tokio::task::{LocalSet, spawn_local};

use crate::cpu::{Sample, Watched};
use arrivals::Arrivals;
use connection::Connection;
use http2::Http2;
use keys::Keys;
use tally::{Offered, Report, Tally};
use target::{Target, Version};
use work::{Window, Work};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// `http://HOST:PORT/PATH` or `https://...`
    url: String,
    /// A file with a token a line, sent as `Authorization: Bearer`.
    #[arg(long)]
    keys: Option<PathBuf>,
    /// Uses only the first so many of them.
    #[arg(long, requires = "keys")]
    distinct: Option<usize>,
    /// Takes them at random, not in turn.
    #[arg(long, requires = "keys")]
    random: bool,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Speaks HTTP/2, with so many requests at once on each connection.
    #[arg(long)]
    streams: Option<NonZeroUsize>,
    /// A file of the authorities to trust, in PEM, in the place of the public ones.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Requests a second that are due; without it the loop is closed.
    #[arg(long)]
    rate: Option<f64>,
    /// How long to measure.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How long to load before measuring.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// How long an answer may take.
    #[arg(long, default_value_t = 5.0)]
    timeout: f64,
    /// The status of a good answer.
    #[arg(long, default_value_t = 200)]
    expect: u16,
    /// Sends a body of so many bytes, with POST.
    #[arg(long)]
    body: Option<usize>,
    /// Another seed, another sequence of arrivals and keys; the same, the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Counts the CPU of a service: `NAME=PID[,PID...]`; may be given again.
    #[arg(long)]
    watch: Vec<Watched>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.connections > 0,
        "--connections: at least one is needed"
    );
    ensure!(options.seconds > 0.0, "--seconds: has to be more than 0");
    ensure!(
        options.rate.is_none_or(|rate| rate > 0.0),
        "--rate: has to be more than 0"
    );
    measured(options)?.print(options.json)
}

fn measured(options: &Options) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, measure(options))
}

async fn measure(options: &Options) -> anyhow::Result<Report> {
    let clock = Clock::system();
    let seconds = Duration::from_secs_f64;
    let version = options.streams.map_or(Version::Http1, |_| Version::Http2);
    let ca = options.ca.as_deref();
    let target = Rc::new(Target::new(&options.url, options.body, ca, version).await?);
    let keys = match &options.keys {
        Some(file) => Keys::read(file, options.distinct)?,
        None => Keys::none(),
    };
    let window = Window::new(
        clock.tick(),
        seconds(options.warm_up),
        seconds(options.seconds),
    );
    let work = Rc::new(Work::new(
        clock.clone(),
        window,
        keys,
        options.random.then_some(options.seed),
        options.rate.is_some(),
    ));
    let tally = Rc::new(Tally::new(options.expect));

    let patience = seconds(options.timeout);
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        let Some(streams) = options.streams else {
            let connection = Connection::new(Rc::clone(&target), patience);
            connections.push(spawn_local(
                connection.serve(Rc::clone(&work), Rc::clone(&tally)),
            ));
            continue;
        };
        let connection = Http2::new(Rc::clone(&target), patience);
        for _ in 0..streams.get() {
            let stream = Rc::clone(&connection).serve(Rc::clone(&work), Rc::clone(&tally));
            connections.push(spawn_local(stream));
        }
    }
    let pacing = options.rate.map(|rate| {
        let arrivals = Arrivals::new(rate, options.seed, window.begins());
        spawn_local(arrivals::pace(arrivals, Rc::clone(&work)))
    });

    arrivals::sleep_until(&clock, window.measured_from()).await?;
    let before = Sample::take(&options.watch)?;
    let began = clock.tick();
    tally.begin();
    arrivals::sleep_until(&clock, window.ends()).await?;
    let spent = Sample::take(&options.watch)?.since(&before, clock.tick().since(began));
    tally.end();
    let elapsed = clock.tick().since(began);

    work.close();
    if let Some(pacing) = pacing {
        pacing.await.context("pacing")??;
    }
    for connection in connections {
        connection.await.context("a connection")?;
    }
    let offered = Offered {
        rate: options.rate,
        connections: options.connections,
        keys: work.distinct_keys(),
    };
    Ok(tally.report(offered, elapsed, spent))
}

#[cfg(test)]
mod tests;

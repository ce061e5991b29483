//! What the load tests are made of: a generator, the upstream behind everything,
//! the two floors that an edge is measured against, and many keys at once.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "a command that prints figures, to more digits than anybody reads"
)]

mod bare;
mod cpu;
mod floor;
mod listener;
mod load;
mod seed;
mod slow;
mod upstream;

use std::process::ExitCode;

use clap::Parser;

/// Measures HTTP proxies; `loadtest/run` does it all.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// Sends requests to one URL, and says how long each took from when it was due.
    Load(load::Options),
    /// Answers `/bytes/N` with N bytes.
    Upstream(upstream::Options),
    /// Forwards and does nothing else: tokio and httparse, bodies with a Content-Length.
    Floor(floor::Options),
    /// Forwards and does nothing else: hyper on both sides, a pool for each thread.
    Bare(bare::Options),
    /// Many clients that are slow on purpose, until it is killed.
    Slow(slow::Options),
    /// Makes many keys in an embedded store.
    Seed(seed::Options),
}

fn main() -> ExitCode {
    let ended = match Command::parse() {
        Command::Load(options) => load::run(&options),
        Command::Upstream(options) => upstream::run(&options),
        Command::Floor(options) => floor::run(&options),
        Command::Bare(options) => bare::run(&options),
        Command::Slow(options) => slow::run(&options),
        Command::Seed(options) => seed::run(&options),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cypheron-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

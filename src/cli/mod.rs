//! The command line: parse, call, exit code.
//!
//! What a program would want to read goes to the standard output alone; what
//! is for people goes to the standard error. Exit code 1: it was tried and
//! failed; 2: how it was called or configured cannot work.

mod arguments;
mod check;
mod csv;
mod failure;
mod health;
mod keyring;
mod keys;
mod quickstart;
mod table;
mod usage;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

use arguments::{Arguments, Command};
use failure::Failure;

use crate::app;
use crate::clock::Clock;
use crate::config::{self, Config, Process, Purpose};
use crate::telemetry;

/// Runs one command.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(answer) => {
            // why: nothing is left to say where its own output is closed.
            let _ = answer.print();
            return ExitCode::from(if answer.use_stderr() { 2 } else { 0 });
        }
    };
    let mut out = std::io::stdout();
    let mut err = std::io::stderr();
    let mut streams = Streams {
        out: &mut out,
        err: &mut err,
    };
    let done = dispatch(&arguments, &mut streams).and_then(|()| Ok(streams.out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.lines() {
                // why: as above.
                let _ = writeln!(streams.err, "error: {line}");
            }
            failure.exit_code()
        }
    }
}

/// Where a command writes: `out` is for programs, `err` for people.
struct Streams<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

fn dispatch(arguments: &Arguments, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let file = arguments.config.as_deref();
    match &arguments.command {
        Command::Quickstart if file.is_some() => Err(Failure::refused(
            "quickstart takes no --config and looks at no variable: `serve` does",
        )),
        Command::Quickstart => quickstart::run(streams),
        Command::Serve { take_over } => serve(file, *take_over),
        Command::Check => check::run(file, streams.out),
        Command::Health { ready } => health::run(file, *ready, streams.out),
        #[cfg(feature = "postgres")]
        Command::Migrate { grant } => on_stores(file, async |config, _| {
            let applied = app::migrate(config, grant).await?;
            Ok(writeln!(streams.err, "applied {applied} migrations")?)
        }),
        Command::Keys(command) => on_stores(file, async |config, clock| {
            keys::run(command, config, clock, streams).await
        }),
        Command::Keyring(command) => on_stores(file, async |config, clock| {
            keyring::run(command, config, clock, streams).await
        }),
        Command::Usage(command) => on_stores(file, async |config, clock| {
            usage::run(command, config, clock, streams).await
        }),
    }
}

fn serve(file: Option<&Path>, take_over: bool) -> Result<(), Failure> {
    let load = || Config::load(file, &Process, Purpose::Serve);
    Ok(app::serve(&load()?, take_over, config::inherited()?, load)?)
}

/// Runs a command on the stores, with its log on the standard error.
fn on_stores(
    file: Option<&Path>,
    command: impl AsyncFnOnce(&Config, &Clock) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let config = Config::load(file, &Process, Purpose::Operate)?;
    telemetry::install_logging(&config.log).map_err(Failure::failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("no runtime can be started: {error}")))?;
    runtime.block_on(command(&config, &Clock::system()))
}

fn write_json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

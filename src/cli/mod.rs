//! The command line: parse, call, exit code.
//!
//! What a program would want to read goes to the standard output alone; what
//! is for people goes to the standard error. Exit code 1: it was tried and
//! failed; 2: how it was called or configured cannot work.

mod arguments;
mod check;
mod failure;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use failure::Failure;

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
    let mut out = std::io::stdout().lock();
    let done = dispatch(&arguments, &mut out).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut err = std::io::stderr().lock();
            for line in failure.lines() {
                // why: as above.
                let _ = writeln!(err, "error: {line}");
            }
            failure.exit_code()
        }
    }
}

fn dispatch(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let file = arguments.config.as_deref();
    match &arguments.command {
        Command::Check => check::run(file, out),
    }
}

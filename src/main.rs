//! Parse, call, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    cypheron_edge::cli::run(std::env::args_os())
}

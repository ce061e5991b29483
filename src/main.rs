//! Parse, call, exit code.

use std::process::ExitCode;

/// A worker frees what it allocated, mostly within one request: it gets the same
/// memory again while that is still in its cache.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cypheron_edge::cli::run(std::env::args_os())
}

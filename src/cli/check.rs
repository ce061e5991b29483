//! `check`

use std::io::Write;
use std::path::Path;

use super::failure::Failure;
use crate::config::{self, Process, Purpose};

/// Prints what is in effect, and fails with everything that is wrong.
pub(super) fn run(file: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
    let reading = config::read(file, &Process, Purpose::Serve);
    write!(out, "{}", reading.effective)?;
    reading.config?;
    Ok(())
}

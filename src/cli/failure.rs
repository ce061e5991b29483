//! Why a command did not do what it was asked, and the exit code that says so.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::app::{OpenError, ServeError};
use crate::config::Problems;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// How it was called or configured cannot work: exit code 2. One line each.
    Refused(Vec<String>),
    /// It was tried and failed: exit code 1.
    Failed(String),
    /// Whoever read the output has seen enough.
    OutputClosed,
}

impl Failure {
    pub(super) fn refused(why: impl fmt::Display) -> Self {
        Self::Refused(vec![why.to_string()])
    }

    pub(super) fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }

    pub(super) fn lines(&self) -> &[String] {
        match self {
            Self::Refused(lines) => lines,
            Self::Failed(line) => std::slice::from_ref(line),
            Self::OutputClosed => &[],
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Refused(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Refused(problems.0.iter().map(ToString::to_string).collect())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        if error.is_configuration() {
            Self::refused(error)
        } else {
            Self::failed(error)
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Configuration(problems) => problems.into(),
            error if error.is_configuration() => Self::refused(error),
            error => Self::failed(error),
        }
    }
}

/// Of writing the output: everything else is mapped where it happens.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::failed(format_args!("the output cannot be written: {error}"))
    }
}

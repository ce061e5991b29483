//! Why a transaction was not committed, and what that asks for.

use std::fmt;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use crate::database::{NotReady, Unavailable};
use crate::usage::sink::SinkError;

/// A transaction came to nothing, or its end is not known.
#[derive(Debug)]
pub(super) struct Failed {
    kind: Kind,
    cause: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It would be the same again: a row is not to the database's liking.
    Rows,
    /// Somebody holds what was to be changed.
    Lock,
    Other,
}

impl Failed {
    pub(super) fn no_answer(patience: Duration) -> Self {
        Self {
            kind: Kind::Other,
            cause: format!(
                "PostgreSQL: no answer within {patience:?} (`database.statement_timeout`)"
            ),
        }
    }

    pub(super) fn other(cause: &str) -> Self {
        Self {
            kind: Kind::Other,
            cause: cause.to_owned(),
        }
    }

    pub(super) fn is_of_the_rows(&self) -> bool {
        self.kind == Kind::Rows
    }

    pub(super) fn is_of_a_lock(&self) -> bool {
        self.kind == Kind::Lock
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self {
            kind: error.as_db_error().map_or(Kind::Other, kind),
            cause: Unavailable::from(error).to_string(),
        }
    }
}

fn kind(error: &DbError) -> Kind {
    let code = error.code();
    // A day that was dropped meanwhile; the row itself may be sound.
    let lacks_partition = error.routine() == Some("ExecFindPartition");
    let refuses_rows = ["22", "23"]
        .iter()
        .any(|class| code.code().starts_with(class))
        || *code == SqlState::RAISE_EXCEPTION
        || *code == SqlState::PROGRAM_LIMIT_EXCEEDED;
    if *code == SqlState::LOCK_NOT_AVAILABLE {
        Kind::Lock
    } else if refuses_rows && !lacks_partition {
        Kind::Rows
    } else {
        Kind::Other
    }
}

impl From<NotReady> for Failed {
    fn from(error: NotReady) -> Self {
        Self::other(&error.to_string())
    }
}

impl From<Failed> for SinkError {
    fn from(failed: Failed) -> Self {
        Self(failed.cause)
    }
}

//! Why the server did not do what it was asked: the real cause, in one line.

use crate::cause::chain;

/// PostgreSQL did not answer, or not as it should; the text is for operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL: {0}")]
pub struct Unavailable(pub(super) String);

impl From<sqlx::Error> for Unavailable {
    fn from(error: sqlx::Error) -> Self {
        Self(chain(&error))
    }
}

impl From<tokio_postgres::Error> for Unavailable {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(chain(&error))
    }
}

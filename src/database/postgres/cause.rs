//! Why the server did not do what it was asked: the real cause, in one line.

use std::error::Error;

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

/// An error with what lies beneath it, unless it says that itself.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let beneath = error.to_string();
        if !text.contains(&beneath) {
            text.push_str(": ");
            text.push_str(&beneath);
        }
        next = error.source();
    }
    text
}

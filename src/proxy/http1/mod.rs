//! HTTP/1.1 with an upstream, spoken in the task of the request itself.
//!
//! A [`Connection`] is one thing on the heap, which goes from the pool to a
//! request, with its answer to the body, and back: what moves is a pointer. No
//! task stands behind it and nothing is handed from one task to another; while
//! it waits for a request, nobody runs for it at all. Only where an answer
//! begins before its request was all sent does a task of its own send the rest
//! ([`Early`]).
//!
//! An upstream is believed as little as its bytes can be read in one way only:
//! where an answer ends is never in doubt, and what comes behind that end is
//! nobody's answer: the connection is closed.

mod answer;
mod body;
mod chunked;
mod connection;
mod early;
pub mod fuzzing;
mod inbox;
mod outbox;
mod request;
#[cfg(test)]
mod tests;
mod upload;

pub(super) use connection::{Connection, Unanswered};
pub(super) use early::{Cut, Early};

/// The most that is read ahead of a client; also the largest head of an answer.
const READ_AHEAD: usize = 64 * 1024;

/// How many fields an answer has at most, and how many its trailers.
const MOST_FIELDS: usize = 100;

/// Why an answer cannot be believed, or why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broke {
    #[error("the connection was closed before the answer was complete")]
    Incomplete,
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    #[error("the answer has a length beside a transfer coding, or a coding that is not chunked")]
    Ambiguous,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

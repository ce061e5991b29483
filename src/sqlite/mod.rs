//! What every SQLite file of ours has in common: which versions are taken, how
//! it is made and opened, and a thread that talks to it.

mod schema;
mod thread;

pub use schema::{OpenError, Schema};
pub use thread::{Ended, Thread};

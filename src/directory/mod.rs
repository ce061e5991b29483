//! The in-memory cache in front of a repository: what a request asks.

mod entry;

pub use entry::Entry;

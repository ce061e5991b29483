//! The local files that every usage event goes through.

mod config;

pub use config::{Config, WhenFull};

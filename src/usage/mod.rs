//! Usage: what each key did, recorded before the client sees it done.
//!
//! The parts have ranks of their own: [`event`] says what is recorded,
//! `journal` keeps it safe, a `sink` is where it ends, the `shipper` takes it
//! there, `report` reads it back, `totals` tell
//! the keys' records.

pub mod client;
pub mod config;
pub mod event;
pub mod journal;
pub mod recorder;
pub mod refusals;
#[cfg(feature = "edge")]
pub mod report;
#[cfg(feature = "edge")]
pub mod shipper;
#[cfg(feature = "edge")]
pub mod sink;
#[cfg(feature = "edge")]
pub mod totals;

pub use config::Config;

//! The only wiring: which implementation stands behind each trait.

mod audit;
mod operations;

pub use operations::{Need, OpenError, describe_keyring, init_keyring, operations};

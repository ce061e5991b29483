//! The layers and what they rest on, against a store that misbehaves on demand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod directory;
mod guard;
mod herd;
#[path = "../python/interpreter.rs"]
#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by the environment what is there"
)]
mod python;
mod rate_limit;
mod readiness;
mod sealed;
mod streams;
mod support;
mod usage;
mod warm_up;

//! Everything over a real Firestore emulator, which the tests start themselves.

#![cfg(all(feature = "edge", feature = "embedded", feature = "firestore"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod connection;
mod contract;
mod copies;
mod credentials;
#[path = "../desk/mod.rs"]
#[expect(dead_code, reason = "the tests of operators' commands use the rest")]
mod desk;
mod documents;
mod emulator;
mod feed;
mod operators;
mod relay;
#[path = "../repository_contract/mod.rs"]
mod repository_contract;

//! Everything over a real PostgreSQL, which the tests start themselves.

#![cfg(all(feature = "postgres", feature = "embedded"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grant;
mod manager;
mod migrate;
mod passwords;
mod reports;
mod schema;
mod server;
mod sink;
mod tls;
#[path = "../usage_contract/mod.rs"]
mod usage_contract;

//! Everything over a real PostgreSQL, which the tests start themselves.

#![cfg(all(feature = "postgres", feature = "embedded"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod audit;
#[path = "../authority/mod.rs"]
mod authority;
mod clocks;
mod crash_points;
#[path = "../desk/mod.rs"]
#[expect(dead_code, reason = "the tests of operators' commands use the rest")]
mod desk;
mod dropping;
mod grant;
mod manager;
mod migrate;
mod passwords;
mod recording;
#[expect(dead_code, reason = "the tests of a whole edge use the rest")]
mod relay;
mod reports;
mod schema;
#[expect(dead_code, reason = "the tests of a whole edge use the rest")]
mod server;
mod sink;
mod tls;
#[path = "../usage_contract/mod.rs"]
mod usage_contract;

//! An edge authentication proxy for API keys, and the Tower middleware it is
//! made of.

pub mod clock;
pub mod problem;
pub mod secret;
pub mod setting;
#[cfg(feature = "embedded")]
pub mod sqlite;
pub mod telemetry;

pub mod crypto;
pub mod permission;
pub mod refusal;
pub mod token;

pub mod key;
pub mod route;

pub mod limiter;
pub mod repository;

#[cfg(feature = "edge")]
pub mod database;
pub mod directory;

pub mod context;

pub mod middleware;
#[cfg(feature = "edge")]
pub mod proxy;
#[cfg(feature = "edge")]
pub mod sample;
#[cfg(feature = "edge")]
pub mod server;

pub mod usage;

#[cfg(feature = "edge")]
pub mod admin;

// Until there is another store, an edge without the embedded one has none.
#[cfg(all(feature = "edge", feature = "embedded"))]
pub mod app;
#[cfg(all(feature = "edge", feature = "embedded"))]
pub mod cli;
#[cfg(feature = "edge")]
pub mod config;

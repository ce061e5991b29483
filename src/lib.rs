//! An edge authentication proxy for API keys, and the Tower middleware it is
//! made of.
//!
//! # One request
//! A worker of `server` accepts it. `proxy::Ingress` finds its [`route`] and
//! puts the one extension on it that all share, the
//! [`RequestContext`](context::RequestContext). The [`middleware`] takes the
//! token out, hashes it ([`token`]) and asks the [`directory`]; what that does
//! not know comes from a [`repository`], opened and verified ([`crypto`]) off
//! the worker. The policy is one pure function, [`key::evaluate`]. The
//! [`limiter`] counts it, [`usage`] reserves its record in the journal, and
//! `proxy::forward` sends it on. Every reason to refuse it is a
//! [`Refusal`](refusal::Refusal). The stack is a list in `app`.
//!
//! # Ranks
//! The modules stand below in the order of their ranks: each uses only modules
//! of the blocks above its own, and `tests/ranks.rs` holds it to that.
//!
//! # Features
//! Without any, the layers and what they rest on: no server, no SQL, no TLS.
//! `edge` is the proxy and its binary, `embedded` the SQLite stores, `kyber` a
//! second envelope suite.

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

// Its parts have ranks of their own, from `event` up to `shipper`.
pub mod usage;

pub mod context;

pub mod middleware;
#[cfg(feature = "edge")]
pub mod proxy;
#[cfg(feature = "edge")]
pub mod sample;
#[cfg(feature = "edge")]
pub mod server;

#[cfg(feature = "edge")]
pub mod admin;

#[cfg(feature = "edge")]
pub mod config;

// Until there is another store, an edge without the embedded one has none.
#[cfg(all(feature = "edge", feature = "embedded"))]
pub mod app;

#[cfg(all(feature = "edge", feature = "embedded"))]
pub mod cli;

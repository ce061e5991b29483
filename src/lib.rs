//! An edge authentication proxy for API keys, and the Tower middleware it is
//! made of.
//!
//! # In your own stack
//! The five layers of [`middleware`], outermost first, over any store:
//!
//! ```
//! use std::sync::Arc;
//!
//! use arc_swap::ArcSwap;
//! use cypheron_edge::clock::Clock;
//! use cypheron_edge::directory::{self, Directory, RecordOpener};
//! use cypheron_edge::limiter::{self, Limiter};
//! use cypheron_edge::middleware::{
//!     ApiKeyAuthLayer, RateLimitLayer, RateLimitRefusalsLayer, RefusalUsageLayer, UsageLayer, auth,
//! };
//! use cypheron_edge::repository::ApiKeyReader;
//! use cypheron_edge::token::{InvalidPrefix, TokenKeys};
//! use cypheron_edge::usage::recorder::Recorder;
//! use cypheron_edge::usage::refusals::RefusalCounter;
//! use tower_layer::Layer;
//!
//! /// To be called in a runtime, on which keys are then read.
//! fn layers<S, R: Recorder, C: RefusalCounter>(
//!     store: Arc<dyn ApiKeyReader>,
//!     opener: Arc<dyn RecordOpener>,
//!     token_keys: Arc<ArcSwap<TokenKeys>>,
//!     recorder: R,
//!     refusals: C,
//! ) -> Result<impl Layer<S>, InvalidPrefix> {
//!     let clock = Clock::system();
//!     let background = tokio::runtime::Handle::current();
//!     let directory = Directory::new(
//!         directory::Config::default(),
//!         clock.clone(),
//!         store,
//!         opener,
//!         background.clone(),
//!     );
//!     let auth = ApiKeyAuthLayer::new(
//!         &auth::Config::default(),
//!         token_keys,
//!         directory.clone(),
//!         clock.clone(),
//!     )?;
//!     // Without this a revocation is seen only when the key is read again.
//!     background.spawn(async move { directory.follow().await });
//!     let limiter = Arc::new(Limiter::new(limiter::Config::default()));
//!     Ok((
//!         RefusalUsageLayer::new(recorder.clone(), refusals, clock.clone()),
//!         RateLimitRefusalsLayer::new(Arc::clone(&limiter), clock.clone()),
//!         auth,
//!         RateLimitLayer::new(limiter),
//!         UsageLayer::new(recorder, clock),
//!     ))
//! }
//! ```
//!
//! `examples/axum.rs` has them route by route, over keys in memory;
//! `examples/embedded.rs` over the store that the commands of this crate write,
//! with its keyring and its sealed records. Beside this crate they take `tokio`
//! and `arc-swap`; a store of your own takes `futures-util` for its boxed futures
//! and `uuid` for the ids of keys. Where clients call from has to be told: see
//! [`ClientAddress`](middleware::ClientAddress).
//!
//! # One request of the proxy
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
//! `edge` is the proxy and its binary, `embedded` the SQLite stores, `firestore`
//! the Firestore store, `postgres` the PostgreSQL sink, `kyber` a second envelope
//! suite.

#[cfg(any(feature = "edge", feature = "postgres", feature = "firestore"))]
mod cause;
pub mod clock;
#[cfg(feature = "edge")]
pub mod inherited;
pub mod pace;
pub mod problem;
pub mod secret;
pub mod setting;
#[cfg(feature = "edge")]
pub mod socket_file;
#[cfg(feature = "embedded")]
pub mod sqlite;
pub mod subscriber;
#[cfg(feature = "edge")]
pub mod threads;

pub mod telemetry;

#[cfg(feature = "edge")]
pub mod accepting;

pub mod crypto;
pub mod permission;
pub mod refusal;
pub mod token;

pub mod key;
pub mod route;

#[cfg(feature = "edge")]
pub mod assertion;
#[cfg(feature = "edge")]
pub mod id_token;
pub mod limiter;
pub mod repository;

#[cfg(feature = "edge")]
pub mod database;
pub mod directory;

// Its parts have ranks of their own, from `event` up to `shipper`.
pub mod usage;

pub mod context;

#[cfg(feature = "edge")]
pub mod tls;

pub mod middleware;
#[cfg(feature = "edge")]
pub mod proxy;
#[cfg(feature = "edge")]
pub mod sample;
#[cfg(feature = "edge")]
pub mod server;

#[cfg(feature = "edge")]
pub mod decision;

#[cfg(feature = "edge")]
pub mod admin;

#[cfg(feature = "edge")]
pub mod config;

// Whatever stores an edge uses, its wiring is over the embedded ones too.
#[cfg(all(feature = "edge", feature = "embedded"))]
pub mod app;

#[cfg(all(feature = "edge", feature = "embedded"))]
pub mod cli;

//! The binary, end to end: real processes, real sockets, real files.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test that cannot set itself up fails here, and measures real time"
)]

mod assertion;
mod bad_input;
mod certificate;
mod client;
mod counters;
mod crash;
mod decision;
mod drain;
mod envoy;
#[cfg(feature = "postgres")]
mod failover;
#[cfg(feature = "postgres")]
mod faults;
#[cfg(feature = "firestore")]
mod firestore;
#[cfg(feature = "firestore")]
#[expect(dead_code, reason = "the tests of the store itself use the rest")]
#[path = "../firestore/emulator.rs"]
mod firestore_emulator;
#[cfg(feature = "firestore")]
mod firestore_reader;
mod flood;
mod framing;
mod grpc;
mod herd;
mod http2;
mod id_token;
mod issue;
#[cfg(feature = "postgres")]
mod killed;
mod load;
mod logs;
mod nginx;
mod peers;
#[cfg(feature = "postgres")]
#[expect(dead_code, reason = "the tests of the database itself use the rest")]
#[path = "../postgres/server.rs"]
mod postgres_server;
mod probe;
mod process;
mod proxies;
#[path = "../python/interpreter.rs"]
mod python;
mod quickstart;
#[cfg(feature = "postgres")]
#[expect(dead_code, reason = "the tests of the database itself use the rest")]
#[path = "../postgres/relay.rs"]
mod relay;
mod reload;
mod restart;
mod restart_encrypted;
mod revocation;
mod rotation;
#[cfg(feature = "postgres")]
mod scene;
mod script;
mod serving;
#[cfg(feature = "firestore")]
mod store_faults;
mod streams;
mod upstream;

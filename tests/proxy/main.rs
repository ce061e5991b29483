//! The proxy over real sockets: server, ingress and forwarding, with upstreams
//! that do what a test tells them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ages;
#[path = "../authority/mod.rs"]
mod authority;
mod bodies;
mod connections;
mod edge;
#[cfg(feature = "tls")]
mod encrypted;
mod failures;
mod fields;
mod http2;
mod ingress;
mod pools;
mod reuse;
mod tls;
mod tunnels;
mod turned_away;
mod websockets;
mod wire;

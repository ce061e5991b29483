//! The binary, end to end: real processes, real sockets, real files.

mod client;
mod crash;
mod drain;
mod flood;
mod process;
mod quickstart;
mod reload;
mod revocation;
mod serving;
mod upstream;

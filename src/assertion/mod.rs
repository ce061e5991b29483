//! What an upstream can verify by itself: a short-lived statement, signed by
//! the edge, of whom a request is by.
//!
//! A statement is a JWT (RFC 7519) under Ed25519 (RFC 8037):
//!
//! | claim | is |
//! | --- | --- |
//! | `iss` | `assertion_issuer` of the upstream |
//! | `aud` | `assertion`, whom it is meant for |
//! | `sub` | the id of the key; not there where a route asks for none |
//! | `permissions` | what the key holds |
//! | `route` | the route's name |
//! | `iat`, `exp` | [`LIFETIME`] apart |
//! | `jti` | the request's id, as `X-Request-Id` has it |
//!
//! Every edge of a deployment signs with the same key, which follows from the
//! keyring: one for each of its keys, under the same name. So all of them
//! publish the same set (RFC 7517), and a key that is added is known everywhere
//! before it is promoted and signs. A statement names one request, so none is
//! kept for the next.

mod claims;
mod signer;

pub use claims::{Claims, LIFETIME, Validity};
pub use signer::{Signer, SigningKey};

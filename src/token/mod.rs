//! Tokens: the secret strings that clients present.
//!
//! ```text
//! <prefix>_<live|test>_<g><secret><tag><crc>
//! ```
//!
//! | part | characters | what |
//! | --- | --- | --- |
//! | `prefix` | configured | tells our tokens from others' |
//! | `live`, `test` | 4 | the environment; a deployment accepts one |
//! | `g` | 1 | generation of the index and tag key, base62 |
//! | `secret` | 43 | 32 random bytes, base62 |
//! | `tag` | 9 | the first 6 bytes of HMAC-SHA-256(tag key, all before it), base62 |
//! | `crc` | 6 | CRC-32 of all before it, base62 |
//!
//! The checksum lets anybody tell a token from noise offline. The tag lets an
//! edge refuse a forged token without asking a store.

mod base62;
mod format;
mod keys;

pub use base62::is_digit as is_generation;
pub use format::{Environment, InvalidPrefix, Presented, Token, TokenDefect, TokenFormat, Value};
pub use keys::{GenerationKeys, InvalidKeyHash, KeyHash, TokenDigest, TokenKeys};

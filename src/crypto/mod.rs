//! Sealing with a post-quantum hybrid scheme, and the keyring it takes its keys
//! from.
//!
//! [`PostQuantumEncryption`] is what everybody else uses. It knows nothing of
//! records: what is sealed, and what it is bound to, are bytes to it.

mod aead;
mod encryption;
pub mod envelope;
mod hex;
pub mod kem;
mod key_id;
pub mod keyring;

pub use encryption::{AssertionSeed, OpenError, PostQuantumEncryption, ReplaceError};
pub use envelope::{EnvelopeDefect, SealError};
pub use kem::Suite;
pub use key_id::{InvalidKeyId, KeyId};
pub use keyring::{Generation, Keyring, Password};

//! What a keyring's parts are called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::hex;

/// Sixteen random bytes that name a key in the keyring and in every envelope
/// sealed under it, or a password slot, or a keyring; written as 32 hexadecimal
/// digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyId(#[serde(with = "hex")] [u8; KeyId::LENGTH]);

impl KeyId {
    pub(super) const LENGTH: usize = 16;

    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; Self::LENGTH];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The text is not 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id in a keyring is 32 lower-case hexadecimal digits")]
pub struct InvalidKeyId;

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let mut bytes = [0; Self::LENGTH];
        match base16ct::lower::decode(text, &mut bytes) {
            Ok(decoded) if decoded.len() == Self::LENGTH => Ok(Self(bytes)),
            _ => Err(InvalidKeyId),
        }
    }
}

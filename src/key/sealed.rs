//! What a record's envelope holds.

use zeroize::Zeroizing;

use super::{ApiKey, Scope};
use crate::crypto::{OpenError, PostQuantumEncryption, SealError};
use crate::secret::Secret;
use crate::token::{GenerationKeys, TokenDigest, TokenKeys};

const DIGEST: u8 = 1;
const TOKEN: u8 = 2;

/// The sealed part of a record: one kind byte, then the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Kind 1: the SHA-256 digest of the token.
    Digest(TokenDigest),
    /// Kind 2: the token itself, of a key that was created recoverable.
    Token(Secret<String>),
}

impl Sealed {
    /// The digest of the token, whichever is held.
    pub fn digest(&self) -> TokenDigest {
        match self {
            Self::Digest(digest) => digest.clone(),
            Self::Token(token) => TokenDigest::of(token.expose()),
        }
    }

    /// An envelope that opens only beside exactly this policy, in this scope.
    pub fn seal(
        &self,
        encryption: &PostQuantumEncryption,
        key: &ApiKey,
        scope: &Scope,
    ) -> Result<Vec<u8>, SealError> {
        encryption.seal(&self.encode(), &key.associated_data(scope))
    }

    /// Opens a record's envelope. [`OpenError::Refused`] when the record was
    /// edited, moved or copied.
    pub fn open(
        encryption: &PostQuantumEncryption,
        envelope: &[u8],
        key: &ApiKey,
        scope: &Scope,
    ) -> Result<Self, OpenError> {
        let content = encryption.open(envelope, &key.associated_data(scope))?;
        // why: whoever could seal something else holds the keyring.
        Self::decode(&content).ok_or(OpenError::Refused)
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (kind, content): (_, &[u8]) = match self {
            Self::Digest(digest) => (DIGEST, digest.expose()),
            Self::Token(token) => (TOKEN, token.expose().as_bytes()),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + content.len()));
        bytes.push(kind);
        bytes.extend_from_slice(content);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&DIGEST, digest) => {
                let digest = digest.try_into().ok()?;
                Some(Self::Digest(TokenDigest::from_bytes(digest)))
            }
            (&TOKEN, token) => {
                let token = str::from_utf8(token).ok()?;
                Some(Self::Token(Secret::new(token.to_owned())))
            }
            _ => None,
        }
    }
}

/// What hashes tokens, from the generations of the keyring in use.
pub fn token_keys(encryption: &PostQuantumEncryption) -> Option<TokenKeys> {
    let generations: Vec<_> = encryption
        .generations()
        .into_iter()
        .map(|generation| GenerationKeys {
            generation: generation.name,
            index: generation.index,
            tag: generation.tag,
        })
        .collect();
    TokenKeys::new(&generations)
}

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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::LazyLock;

    use uuid::Uuid;

    use super::*;
    use crate::clock::Timestamp;
    use crate::crypto::keyring::Cost;
    use crate::crypto::{Keyring, Password, Suite};
    use crate::token::{Environment, KeyHash, TokenFormat};

    static ENCRYPTION: LazyLock<PostQuantumEncryption> = LazyLock::new(|| {
        let password = Password::new(Secret::new("p".repeat(32))).unwrap();
        let suite = Suite::default();
        let keyring = Keyring::create("c", &password, Cost::MIN, suite, Timestamp::EPOCH);
        PostQuantumEncryption::new(&keyring.unwrap())
    });

    fn key() -> ApiKey {
        ApiKey {
            id: Uuid::from_u128(1),
            name: "ab".parse().unwrap(),
            key_hash: KeyHash::from_bytes([1; 32]),
            permissions: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            rate_limit: NonZeroU32::MIN,
            created_at: Timestamp::from_micros(1),
            expires_at: Some(Timestamp::from_micros(2)),
            is_active: true,
            allowed_ips: vec!["192.0.2.0/24".parse().unwrap()],
            revision: 1,
            last_used: None,
            usage_count: 0,
        }
    }

    fn scope() -> Scope {
        Scope {
            project: "project".into(),
            database: "database".into(),
            collection: "keys".into(),
        }
    }

    fn sealed() -> Sealed {
        Sealed::Digest(TokenDigest::of("a token"))
    }

    /// Edits one thing of a record or of where it lies.
    type Edit = (&'static str, fn(&mut ApiKey, &mut Scope));

    fn open_after(edit: fn(&mut ApiKey, &mut Scope)) -> Result<Sealed, OpenError> {
        let (mut key, mut scope) = (key(), scope());
        let envelope = sealed().seal(&ENCRYPTION, &key, &scope).unwrap();
        edit(&mut key, &mut scope);
        Sealed::open(&ENCRYPTION, &envelope, &key, &scope)
    }

    #[test]
    #[rustfmt::skip]
    fn a_record_with_any_policy_field_edited_is_refused() {
        let edits: [Edit; 19] = [
            ("id", |key, _| key.id = Uuid::from_u128(2)),
            ("key_hash", |key, _| key.key_hash = KeyHash::from_bytes([2; 32])),
            ("name", |key, _| key.name = "abc".parse().unwrap()),
            ("permission added", |key, _| key.permissions.push("*".parse().unwrap())),
            ("permission removed", |key, _| { key.permissions.pop(); }),
            ("permissions reordered", |key, _| key.permissions.reverse()),
            ("no permissions", |key, _| key.permissions.clear()),
            ("rate_limit", |key, _| key.rate_limit = NonZeroU32::MAX),
            ("created_at", |key, _| key.created_at = Timestamp::EPOCH),
            ("expires_at", |key, _| key.expires_at = Some(Timestamp::from_micros(3))),
            ("no expires_at", |key, _| key.expires_at = None),
            ("is_active", |key, _| key.is_active = false),
            ("network widened", |key, _| key.allowed_ips[0] = "192.0.2.0/23".parse().unwrap()),
            ("network added", |key, _| key.allowed_ips.push("::/0".parse().unwrap())),
            ("no networks", |key, _| key.allowed_ips.clear()),
            ("revision", |key, _| key.revision = 0),
            ("project", |_, scope| scope.project.push('x')),
            ("database", |_, scope| scope.database.push('x')),
            ("collection", |_, scope| scope.collection.push('x')),
        ];
        for (what, edit) in edits {
            assert_eq!(open_after(edit), Err(OpenError::Refused), "{what}");
        }
    }

    #[test]
    fn a_text_moved_across_a_boundary_is_refused() {
        let refused = open_after(|_, scope| {
            scope.project.push('d');
            scope.database.remove(0);
        });
        assert_eq!(refused, Err(OpenError::Refused));
    }

    #[test]
    fn bookkeeping_does_not_break_the_seal() {
        let opened = open_after(|key, _| {
            key.last_used = Some(Timestamp::from_micros(9));
            key.usage_count = 9;
        });
        assert_eq!(opened, Ok(sealed()));
    }

    #[test]
    fn both_kinds_survive_and_tell_the_digest() {
        let token = Sealed::Token(Secret::new("a token".into()));
        for sealed in [sealed(), token] {
            let envelope = sealed.seal(&ENCRYPTION, &key(), &scope()).unwrap();
            let opened = Sealed::open(&ENCRYPTION, &envelope, &key(), &scope()).unwrap();
            assert_eq!(opened, sealed);
            assert_eq!(opened.digest(), TokenDigest::of("a token"));
        }
    }

    #[test]
    fn content_of_no_known_kind_is_refused() {
        for content in [&[][..], &[0], &[1; 32], &[1; 34], &[2, 0xff], &[3; 33]] {
            let data = key().associated_data(&scope());
            let envelope = ENCRYPTION.seal(content, &data).unwrap();
            let opened = Sealed::open(&ENCRYPTION, &envelope, &key(), &scope());
            assert_eq!(opened, Err(OpenError::Refused), "{content:?}");
        }
    }

    #[test]
    fn tokens_are_hashed_under_the_keyring_s_generation() {
        let keys = token_keys(&ENCRYPTION).unwrap();
        let format = TokenFormat::new("cyk", Environment::Live).unwrap();
        let token = format.mint(&keys).unwrap();
        assert!(token.expose().starts_with("cyk_live_0"));
    }
}

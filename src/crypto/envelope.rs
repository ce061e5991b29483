//! The envelope: the bytes that something sealed is stored in.
//!
//! | part | bytes | what |
//! | --- | --- | --- |
//! | version | 1 | 1 |
//! | suite | 1 | the [`Suite`]'s id |
//! | key id | 16 | the key of the keyring that opens it |
//! | KEM ciphertext | the suite's | gives that key the shared secret |
//! | nonce | 12 | random |
//! | ciphertext | as the plaintext | AES-256-GCM |
//! | tag | 16 | |
//!
//! The AES key is HKDF-SHA-256 (RFC 5869) over the shared secret. Its salt is
//! the authentication secret of the key id, so that holding the public key is
//! not enough to forge an envelope; its info is every byte of the envelope up
//! to the nonce, so that none of them can be changed.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::KeyId;
use super::aead::{self, NONCE, TAG};
use super::kem::{SecretKey, SharedSecret, Suite};
use crate::secret::Secret;

/// The version that is written, and the only one that is read.
const VERSION: u8 = 1;

const ASSERTION_LABEL: &[u8] = b"cypheron-edge assertion 1";
/// Version, suite and key id.
const HEAD: usize = 2 + KeyId::LENGTH;

/// What seals and opens the envelopes of one key id.
pub struct EnvelopeKey {
    pub id: KeyId,
    pub secret: SecretKey,
    pub authentication: Secret<[u8; 32]>,
}

impl EnvelopeKey {
    /// What the key pair that signs assertions under this name is made of. It
    /// follows from the authentication secret, so that every holder of the
    /// keyring has the same, and tells nothing of it.
    pub(super) fn assertion_seed(&self) -> Secret<[u8; 32]> {
        let mut seed = Zeroizing::new([0; 32]);
        #[expect(clippy::expect_used, reason = "one hash is never too long")]
        Hkdf::<Sha256>::new(None, self.authentication.expose())
            .expand(ASSERTION_LABEL, &mut *seed)
            .expect("32 bytes are one hash");
        Secret::new(*seed)
    }
}

impl fmt::Debug for EnvelopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnvelopeKey({}, {})", self.id, self.secret.suite())
    }
}

/// Why bytes are no envelope that this build can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeDefect {
    #[error("the envelope has version {0}, which this build does not know")]
    UnsupportedVersion(u8),
    #[error("the envelope has suite {0}, which this build does not know")]
    UnsupportedSuite(u8),
    #[error("the envelope is cut short")]
    Truncated,
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the operating system gave no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    #[error("the plaintext is too long to be sealed")]
    TooLong,
}

/// An envelope, read but not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub suite: Suite,
    pub key_id: KeyId,
    /// Every byte up to the nonce; the KEM ciphertext is its end.
    bound: &'a [u8],
    nonce: [u8; NONCE],
    /// With the tag.
    ciphertext: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeDefect> {
        use EnvelopeDefect::{Truncated, UnsupportedSuite, UnsupportedVersion};
        let (version, rest) = bytes.split_first().ok_or(Truncated)?;
        if *version != VERSION {
            return Err(UnsupportedVersion(*version));
        }
        let (id, rest) = rest.split_first().ok_or(Truncated)?;
        let suite = Suite::from_id(*id).ok_or(UnsupportedSuite(*id))?;
        let (key_id, _) = rest.split_first_chunk().ok_or(Truncated)?;
        let (bound, rest) = bytes
            .split_at_checked(HEAD + suite.ciphertext_length())
            .ok_or(Truncated)?;
        let (nonce, ciphertext) = rest.split_first_chunk().ok_or(Truncated)?;
        if ciphertext.len() < TAG {
            return Err(Truncated);
        }
        Ok(Self {
            suite,
            key_id: KeyId::from_bytes(*key_id),
            bound,
            nonce: *nonce,
            ciphertext,
        })
    }

    /// The plaintext; `None` unless `key` sealed exactly this with exactly
    /// `associated_data`.
    pub fn open(&self, key: &EnvelopeKey, associated_data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if self.key_id != key.id || self.suite != key.secret.suite() {
            return None;
        }
        let shared = key.secret.decapsulate(&self.bound[HEAD..]).ok()?;
        let content_key = content_key(&shared, &key.authentication, self.bound);
        aead::decrypt(&content_key, self.nonce, associated_data, self.ciphertext).ok()
    }
}

/// Seals `plaintext` and binds it to `associated_data`.
pub fn seal(
    key: &EnvelopeKey,
    plaintext: &[u8],
    associated_data: &[u8],
) -> Result<Vec<u8>, SealError> {
    let suite = key.secret.suite();
    let (kem_ciphertext, shared) = key.secret.encapsulate()?;
    let nonce = aead::random_nonce()?;

    let length = HEAD + kem_ciphertext.len() + NONCE + plaintext.len() + TAG;
    let mut envelope = Vec::with_capacity(length);
    envelope.extend_from_slice(&[VERSION, suite.id()]);
    envelope.extend_from_slice(key.id.as_bytes());
    envelope.extend_from_slice(&kem_ciphertext);

    let content_key = content_key(&shared, &key.authentication, &envelope);
    let ciphertext = aead::encrypt(&content_key, nonce, associated_data, plaintext)
        .map_err(|_| SealError::TooLong)?;
    envelope.extend_from_slice(&nonce);
    envelope.extend_from_slice(&ciphertext);
    Ok(envelope)
}

fn content_key(
    shared: &SharedSecret,
    authentication: &Secret<[u8; 32]>,
    bound: &[u8],
) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    // why: only an output of more than 255 hashes is refused (RFC 5869, section 2.3).
    #[expect(clippy::expect_used, reason = "one hash is never too long")]
    Hkdf::<Sha256>::new(Some(authentication.expose()), &**shared)
        .expand(bound, &mut *key)
        .expect("32 bytes are one hash");
    key
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn key(suite: Suite) -> EnvelopeKey {
        EnvelopeKey {
            id: KeyId::from_bytes([7; 16]),
            secret: SecretKey::generate(suite).unwrap(),
            authentication: Secret::new([8; 32]),
        }
    }

    static KEY: LazyLock<EnvelopeKey> = LazyLock::new(|| key(Suite::default()));

    fn opens(envelope: &[u8], key: &EnvelopeKey, associated_data: &[u8]) -> bool {
        Envelope::parse(envelope)
            .ok()
            .and_then(|envelope| envelope.open(key, associated_data))
            .is_some()
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_key_and_data_only() {
        for suite in Suite::ALL.iter().copied() {
            let key = key(suite);
            let sealed = seal(&key, b"plaintext", b"bound").unwrap();
            let envelope = Envelope::parse(&sealed).unwrap();
            assert_eq!((envelope.suite, envelope.key_id), (suite, key.id));
            assert_eq!(*envelope.open(&key, b"bound").unwrap(), b"plaintext");
            assert!(!opens(&sealed, &key, b"another"));
            assert!(!opens(&sealed, &key, b""));

            let stranger = EnvelopeKey {
                secret: SecretKey::generate(suite).unwrap(),
                ..self::key(suite)
            };
            assert!(!opens(&sealed, &stranger, b"bound"));
        }
    }

    #[test]
    fn the_public_key_is_not_enough_to_forge() {
        let key = key(Suite::default());
        let forger = EnvelopeKey {
            id: key.id,
            secret: SecretKey::from_bytes(Suite::default(), &key.secret.to_bytes()).unwrap(),
            authentication: Secret::new([9; 32]),
        };
        let sealed = seal(&forger, b"plaintext", b"bound").unwrap();
        assert!(!opens(&sealed, &key, b"bound"));
    }

    #[test]
    fn an_envelope_with_any_byte_changed_does_not_open() {
        for suite in Suite::ALL.iter().copied() {
            let key = key(suite);
            let sealed = seal(&key, b"plaintext", b"bound").unwrap();
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 0x80;
                assert!(!opens(&changed, &key, b"bound"), "byte {at}");
            }
        }
    }

    #[test]
    fn an_envelope_that_is_cut_or_grown_does_not_open() {
        let sealed = seal(&KEY, b"", b"bound").unwrap();
        for length in 0..sealed.len() {
            let cut = Envelope::parse(&sealed[..length]);
            assert_eq!(cut.unwrap_err(), EnvelopeDefect::Truncated);
        }
        let grown = [sealed, vec![0]].concat();
        assert!(!opens(&grown, &KEY, b"bound"));
    }

    #[test]
    fn each_defect_has_its_error() {
        use EnvelopeDefect::{Truncated, UnsupportedSuite, UnsupportedVersion};
        for (bytes, defect) in [
            (&[][..], Truncated),
            (&[0], UnsupportedVersion(0)),
            (&[2, 1], UnsupportedVersion(2)),
            (&[1], Truncated),
            (&[1, 0], UnsupportedSuite(0)),
            (&[1, 255], UnsupportedSuite(255)),
            (&[1, 1], Truncated),
        ] {
            assert_eq!(Envelope::parse(bytes).unwrap_err(), defect, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = Envelope::parse(&bytes);
            let _ = Envelope::parse(&[&[1, 1], &bytes[..]].concat());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_plaintext_survives(plaintext: Vec<u8>, associated_data: Vec<u8>) {
            let sealed = seal(&KEY, &plaintext, &associated_data).unwrap();
            let envelope = Envelope::parse(&sealed).unwrap();
            prop_assert_eq!(&*envelope.open(&KEY, &associated_data).unwrap(), &plaintext);
        }
    }
}

//! The key encapsulation suites: hybrids of X25519 and a lattice KEM, so that
//! both have to fall before what was sealed can be read.
//!
//! | id | name | ciphertext | secret key, as kept in the keyring |
//! | --- | --- | --- | --- |
//! | 1 | `x25519-mlkem768` | 1120 bytes | 32 bytes |
//! | 2 | `x25519-kyber768` (feature `kyber`) | 1120 bytes | 2432 bytes |

#[cfg(feature = "kyber")]
mod kyber;
mod xwing;

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

/// What both sides of an encapsulation agree on.
pub type SharedSecret = Zeroizing<[u8; 32]>;

/// A key encapsulation suite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Suite {
    /// X-Wing (draft-connolly-cfrg-xwing-kem): X25519 and ML-KEM-768 (FIPS 203).
    #[default]
    X25519MlKem768,
    /// X25519 and Kyber-768 as submitted to round 3, for deployments bound to it.
    #[cfg(feature = "kyber")]
    X25519Kyber768,
}

impl Suite {
    /// Every suite of this build.
    pub const ALL: &[Self] = &[
        Self::X25519MlKem768,
        #[cfg(feature = "kyber")]
        Self::X25519Kyber768,
    ];

    /// Its byte in an envelope.
    pub const fn id(self) -> u8 {
        match self {
            Self::X25519MlKem768 => 1,
            #[cfg(feature = "kyber")]
            Self::X25519Kyber768 => 2,
        }
    }

    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|suite| suite.id() == id)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::X25519MlKem768 => "x25519-mlkem768",
            #[cfg(feature = "kyber")]
            Self::X25519Kyber768 => "x25519-kyber768",
        }
    }

    pub(super) const fn ciphertext_length(self) -> usize {
        match self {
            Self::X25519MlKem768 => xwing::CIPHERTEXT,
            #[cfg(feature = "kyber")]
            Self::X25519Kyber768 => kyber::CIPHERTEXT,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no suite of this build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no key encapsulation suite of this build: it has {known}", known = names())]
pub struct UnknownSuite(String);

fn names() -> String {
    let names: Vec<_> = Suite::ALL.iter().map(|suite| suite.name()).collect();
    names.join(", ")
}

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(text: &str) -> Result<Self, UnknownSuite> {
        Self::ALL
            .iter()
            .copied()
            .find(|suite| suite.name() == text)
            .ok_or_else(|| UnknownSuite(text.into()))
    }
}

/// The bytes are not a secret key of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a secret key of the suite")]
pub struct InvalidSecretKey;

/// The ciphertext has not the suite's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ciphertext of the suite")]
pub struct InvalidCiphertext;

/// A secret key with its public key, ready for use.
///
/// Encapsulating is to its own public key: whoever seals for a deployment also
/// opens for it, because both need the keyring's authentication secret.
pub struct SecretKey(Pair);

enum Pair {
    XWing(xwing::Pair),
    #[cfg(feature = "kyber")]
    Kyber(kyber::Pair),
}

impl SecretKey {
    /// A new key.
    pub fn generate(suite: Suite) -> Result<Self, getrandom::Error> {
        match suite {
            Suite::X25519MlKem768 => xwing::Pair::generate().map(Pair::XWing),
            #[cfg(feature = "kyber")]
            Suite::X25519Kyber768 => kyber::Pair::generate().map(Pair::Kyber),
        }
        .map(Self)
    }

    /// The key that [`to_bytes`](Self::to_bytes) wrote. Its public key is
    /// computed from it.
    pub fn from_bytes(suite: Suite, bytes: &[u8]) -> Result<Self, InvalidSecretKey> {
        match suite {
            Suite::X25519MlKem768 => bytes
                .try_into()
                .map(|seed| Pair::XWing(xwing::Pair::from_seed(seed)))
                .map_err(|_| InvalidSecretKey),
            #[cfg(feature = "kyber")]
            Suite::X25519Kyber768 => kyber::Pair::from_bytes(bytes).map(Pair::Kyber),
        }
        .map(Self)
    }

    /// The form that the keyring keeps.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        match &self.0 {
            Pair::XWing(pair) => pair.seed().to_vec().into(),
            #[cfg(feature = "kyber")]
            Pair::Kyber(pair) => pair.to_bytes(),
        }
    }

    pub const fn suite(&self) -> Suite {
        match &self.0 {
            Pair::XWing(_) => Suite::X25519MlKem768,
            #[cfg(feature = "kyber")]
            Pair::Kyber(_) => Suite::X25519Kyber768,
        }
    }

    pub fn public_key(&self) -> &[u8] {
        match &self.0 {
            Pair::XWing(pair) => pair.public_key(),
            #[cfg(feature = "kyber")]
            Pair::Kyber(pair) => pair.public_key(),
        }
    }

    /// A fresh secret, and the ciphertext from which this key gets it back.
    pub fn encapsulate(&self) -> Result<(Vec<u8>, SharedSecret), getrandom::Error> {
        match &self.0 {
            Pair::XWing(pair) => pair.encapsulate(),
            #[cfg(feature = "kyber")]
            Pair::Kyber(pair) => pair.encapsulate(),
        }
    }

    /// The secret that was encapsulated. A ciphertext that was made for another
    /// key, or changed, gives an unrelated secret: both parts reject implicitly.
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<SharedSecret, InvalidCiphertext> {
        match &self.0 {
            Pair::XWing(pair) => pair.decapsulate(ciphertext),
            #[cfg(feature = "kyber")]
            Pair::Kyber(pair) => pair.decapsulate(ciphertext),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, [redacted])", self.suite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encapsulated_is_found_again_from_the_stored_key() {
        for suite in Suite::ALL.iter().copied() {
            let key = SecretKey::generate(suite).unwrap();
            let stored = SecretKey::from_bytes(suite, &key.to_bytes()).unwrap();
            assert_eq!(stored.public_key(), key.public_key());
            let (ciphertext, secret) = key.encapsulate().unwrap();
            assert_eq!(ciphertext.len(), suite.ciphertext_length());
            assert_eq!(*stored.decapsulate(&ciphertext).unwrap(), *secret);
        }
    }

    #[test]
    fn a_changed_ciphertext_gives_another_secret() {
        for suite in Suite::ALL.iter().copied() {
            let key = SecretKey::generate(suite).unwrap();
            let (ciphertext, secret) = key.encapsulate().unwrap();
            for at in [0, 500, 1087, 1088, 1118] {
                let mut changed = ciphertext.clone();
                changed[at] ^= 1;
                assert_ne!(*key.decapsulate(&changed).unwrap(), *secret, "byte {at}");
            }
            let short = &ciphertext[1..];
            assert_eq!(key.decapsulate(short).unwrap_err(), InvalidCiphertext);
        }
    }

    #[test]
    fn bytes_of_another_length_are_no_secret_key() {
        for suite in Suite::ALL.iter().copied() {
            for length in [0, 31, 33, 2431, 2433] {
                let key = SecretKey::from_bytes(suite, &vec![1; length]);
                assert_eq!(key.unwrap_err(), InvalidSecretKey);
            }
        }
    }

    #[test]
    fn a_suite_is_found_by_its_id_and_its_name() {
        for suite in Suite::ALL.iter().copied() {
            assert_eq!(Suite::from_id(suite.id()), Some(suite));
            assert_eq!(suite.name().parse(), Ok(suite));
        }
        assert_eq!(Suite::from_id(0), None);
        let error = "rsa".parse::<Suite>().unwrap_err().to_string();
        assert!(error.contains("x25519-mlkem768"), "{error}");
    }
}

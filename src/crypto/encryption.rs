//! [`PostQuantumEncryption`]: seals and opens with the keys of a keyring.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use super::KeyId;
use super::envelope::{self, Envelope, EnvelopeDefect, EnvelopeKey, SealError};
use super::keyring::{Generation, Keyring, Keys};
use crate::secret::Secret;

/// Of a key of the keyring, under its name.
pub type AssertionSeed = (KeyId, Secret<[u8; 32]>);

/// Why an envelope did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the envelope has version {0}, which this build does not know")]
    UnsupportedVersion(u8),
    #[error("the envelope has suite {0}, which this build does not know")]
    UnsupportedSuite(u8),
    #[error("the keyring does not hold key {0}, which the envelope is sealed under")]
    UnknownKey(KeyId),
    /// It was changed, or bound to other data, or made by somebody else.
    #[error("the envelope does not open")]
    Refused,
}

impl OpenError {
    /// Whether the fault may be ours, an outdated keyring or build, so that
    /// nothing is known of the envelope.
    pub const fn is_store_failure(self) -> bool {
        !matches!(self, Self::Refused)
    }
}

impl From<EnvelopeDefect> for OpenError {
    fn from(defect: EnvelopeDefect) -> Self {
        match defect {
            EnvelopeDefect::UnsupportedVersion(version) => Self::UnsupportedVersion(version),
            EnvelopeDefect::UnsupportedSuite(suite) => Self::UnsupportedSuite(suite),
            EnvelopeDefect::Truncated => Self::Refused,
        }
    }
}

/// Why a keyring was not taken in the place of the one in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    #[error("it is another keyring, not a later version of the one in use")]
    Foreign,
    #[error(
        "it has another master key, to which only a new password leads that the edge was started \
         with beside the one in use: start it with the new password"
    )]
    AnotherMaster,
    #[error("it has version {offered}, older than version {held} in use")]
    Older { held: u64, offered: u64 },
}

/// Seals and opens envelopes. Cheap to clone; clones share one keyring.
#[derive(Clone)]
pub struct PostQuantumEncryption {
    keys: Arc<ArcSwap<Keys>>,
}

impl PostQuantumEncryption {
    pub fn new(keyring: &Keyring) -> Self {
        Self {
            keys: Arc::new(ArcSwap::new(keyring.keys())),
        }
    }

    /// Takes a later version of the keyring into use, in every clone.
    ///
    /// Another master key is taken once, and from no other keyring than one that
    /// was opened with the old one of [`Passwords`](super::keyring::Passwords),
    /// to one that the new password opens: whoever knows an earlier master key
    /// can make keyrings of any version under it.
    ///
    /// One caller at a time: of two that race, the one that ends last wins.
    pub fn replace(&self, keyring: &Keyring) -> Result<(), ReplaceError> {
        let (held, offered) = (self.keys.load(), keyring.keys());
        if held.keyring != offered.keyring {
            return Err(ReplaceError::Foreign);
        }
        if held.master != offered.master {
            // The versions under the one that is left are anybody's.
            if !held.outgoing || offered.outgoing {
                return Err(ReplaceError::AnotherMaster);
            }
        } else if held.version > offered.version {
            return Err(ReplaceError::Older {
                held: held.version,
                offered: offered.version,
            });
        }
        self.keys.store(offered);
        Ok(())
    }

    /// Seals `plaintext` under the primary key, bound to `associated_data`.
    pub fn seal(&self, plaintext: &[u8], associated_data: &[u8]) -> Result<Vec<u8>, SealError> {
        envelope::seal(self.keys.load().primary(), plaintext, associated_data)
    }

    /// Opens what [`seal`](Self::seal) made with the same `associated_data`.
    ///
    /// The envelope names its key; no other one is tried.
    pub fn open(
        &self,
        envelope: &[u8],
        associated_data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let envelope = Envelope::parse(envelope)?;
        let keys = self.keys.load();
        let key = keys
            .find(envelope.key_id)
            .ok_or(OpenError::UnknownKey(envelope.key_id))?;
        envelope
            .open(key, associated_data)
            .ok_or(OpenError::Refused)
    }

    /// Whether the envelope is of another key than the primary one, whose suite
    /// it then has too.
    pub fn needs_rewrap(&self, envelope: &[u8]) -> Result<bool, EnvelopeDefect> {
        let envelope = Envelope::parse(envelope)?;
        Ok(envelope.key_id != self.keys.load().primary().id)
    }

    /// The index and tag keys of every generation, oldest first, never none.
    pub fn generations(&self) -> Vec<Generation> {
        self.keys.load().generations.clone()
    }

    /// What the keys that sign assertions are made of: the primary key's, and
    /// all others'.
    pub fn assertion_seeds(&self) -> (AssertionSeed, Vec<AssertionSeed>) {
        let keys = self.keys.load();
        let seed = |key: &EnvelopeKey| (key.id, key.assertion_seed());
        (
            seed(keys.primary()),
            keys.others().iter().map(seed).collect(),
        )
    }

    /// The version of the keyring in use.
    pub fn version(&self) -> u64 {
        self.keys.load().version
    }
}

impl fmt::Debug for PostQuantumEncryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostQuantumEncryption")
            .field(&self.keys.load())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::clock::Timestamp;
    use crate::crypto::Suite;
    use crate::crypto::keyring::{Cost, Password};
    use crate::secret::Secret;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn new_keyring() -> Keyring {
        let password = Password::new(Secret::new("p".repeat(32))).unwrap();
        Keyring::create("keys", &password, Cost::MIN, Suite::default(), NOW).unwrap()
    }

    static KEYRING: LazyLock<Keyring> = LazyLock::new(new_keyring);

    #[test]
    fn clones_share_a_keyring_that_is_replaced() {
        let encryption = PostQuantumEncryption::new(&KEYRING);
        let clone = encryption.clone();
        let before = encryption.seal(b"old", b"").unwrap();

        let (added, id) = KEYRING.add_key(Suite::default(), NOW).unwrap();
        encryption.replace(&added).unwrap();
        assert!(!clone.needs_rewrap(&before).unwrap(), "added, not promoted");
        encryption.replace(&added.promote(id).unwrap()).unwrap();

        assert!(clone.needs_rewrap(&before).unwrap());
        assert_eq!(*clone.open(&before, b"").unwrap(), b"old");
        let after = clone.seal(b"new", b"").unwrap();
        assert!(!encryption.needs_rewrap(&after).unwrap());
        assert_eq!(*encryption.open(&after, b"").unwrap(), b"new");
    }

    #[test]
    fn an_older_or_another_keyring_is_not_taken() {
        let (added, _) = KEYRING.add_key(Suite::default(), NOW).unwrap();
        let encryption = PostQuantumEncryption::new(&added);
        assert_eq!(
            encryption.replace(&KEYRING),
            Err(ReplaceError::Older {
                held: 2,
                offered: 1
            })
        );
        assert_eq!(
            encryption.replace(&new_keyring()),
            Err(ReplaceError::Foreign)
        );
        assert_eq!(encryption.replace(&added), Ok(()));
        assert_eq!(encryption.version(), 2);
    }

    #[test]
    fn what_may_be_our_own_fault_is_told_from_a_refusal() {
        let encryption = PostQuantumEncryption::new(&KEYRING);
        let sealed = encryption.seal(b"plaintext", b"").unwrap();
        let changed = |at: usize| {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            encryption.open(&changed, b"").unwrap_err()
        };
        let last = sealed.len() - 1;
        assert_eq!(changed(0), OpenError::UnsupportedVersion(0));
        assert_eq!(changed(1), OpenError::UnsupportedSuite(0));
        assert!(matches!(changed(2), OpenError::UnknownKey(_)));
        assert!(
            [0, 1, 2, 17]
                .map(changed)
                .iter()
                .all(|e| e.is_store_failure())
        );
        for at in [18, 1137, 1138, 1149, 1150, last] {
            assert_eq!(changed(at), OpenError::Refused, "byte {at}");
        }
        let cut = encryption.open(&sealed[..last], b"").unwrap_err();
        assert!(!cut.is_store_failure());
        assert_eq!(encryption.open(b"", b""), Err(OpenError::Refused));
    }

    #[test]
    fn nothing_secret_prints() {
        let encryption = PostQuantumEncryption::new(&KEYRING);
        let generations = encryption.generations();
        let printed = format!("{encryption:?} {generations:?} {:?}", *KEYRING);
        for generation in generations {
            let (index, tag) = (generation.index.expose(), generation.tag.expose());
            assert!(!printed.contains(&format!("{index:?}")));
            assert!(!printed.contains(&format!("{tag:?}")));
        }
        assert!(printed.contains("[redacted]"));
    }
}

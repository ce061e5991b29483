//! Where the caches have what they know of a hash.

use std::hash::{BuildHasher, Hasher};

use crate::token::KeyHash;

/// Half of a hash: what moka keeps beside each entry, which has all of it.
///
/// That two keys share one is as likely as that somebody guesses a key of AES.
/// The later one would take the place of the earlier, and each would be read
/// again when it is asked for: whoever finds an entry compares the whole hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place(u128);

impl Place {
    pub(super) fn of(hash: &KeyHash) -> Self {
        let half = hash.as_bytes().first_chunk();
        Self(half.map_or(0, |half| u128::from_le_bytes(*half)))
    }
}

/// Hashes what is a hash already, by taking it as it is.
///
/// It is an HMAC under the index key. A client can neither choose nor foretell
/// nor see it, so nobody can make keys or forged tokens that meet in one place,
/// as they could if the token itself were hashed like this.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hashed;

impl BuildHasher for Hashed {
    type Hasher = Taken;

    fn build_hasher(&self) -> Taken {
        Taken(0)
    }
}

pub(super) struct Taken(u64);

impl Hasher for Taken {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 ^= word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

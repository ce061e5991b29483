//! The keyed hashes over a token, by generation.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::format::Presented;
use crate::secret::Secret;

type HmacSha256 = Hmac<Sha256>;

const TAG_BYTES: usize = 6;

/// Where a key's record is found: HMAC-SHA-256 of the token under an index key.
///
/// Not a secret (it names the record in the store), but never logged: it is
/// written as 64 hexadecimal digits and prints redacted in `Debug`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hex = [0; 64];
        f.write_str(base16ct::lower::encode_str(&self.0, &mut hex).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash([redacted])")
    }
}

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key hash is 64 lower-case hexadecimal digits")]
pub struct InvalidKeyHash;

impl FromStr for KeyHash {
    type Err = InvalidKeyHash;

    fn from_str(text: &str) -> Result<Self, InvalidKeyHash> {
        let mut bytes = [0; 32];
        match base16ct::lower::decode(text, &mut bytes) {
            Ok(decoded) if decoded.len() == 32 => Ok(Self(bytes)),
            _ => Err(InvalidKeyHash),
        }
    }
}

/// SHA-256 of a token: what a record's sealed part holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenDigest(Secret<[u8; 32]>);

impl TokenDigest {
    pub fn of(token: &str) -> Self {
        Self(Secret::new(Sha256::digest(token.as_bytes()).into()))
    }

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    pub const fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// The two secret keys of one generation.
#[derive(Clone, Debug)]
pub struct GenerationKeys {
    /// One base62 character.
    pub generation: u8,
    pub index: Secret<[u8; 32]>,
    pub tag: Secret<[u8; 32]>,
}

/// What hashes tokens: the keys of every generation in use.
#[derive(Clone)]
pub struct TokenKeys {
    /// Oldest first, never empty.
    generations: Vec<Generation>,
}

#[derive(Clone)]
struct Generation {
    name: u8,
    index: HmacSha256,
    tag: HmacSha256,
}

impl TokenKeys {
    /// From the generations of a keyring, oldest first; `None` when there is none.
    pub fn new(generations: &[GenerationKeys]) -> Option<Self> {
        let generations: Vec<_> = generations
            .iter()
            .map(|keys| Generation {
                name: keys.generation,
                index: keyed(&keys.index),
                tag: keyed(&keys.tag),
            })
            .collect();
        (!generations.is_empty()).then_some(Self { generations })
    }

    /// Where the token's record is found; `None` when its generation is not held.
    pub fn hash(&self, token: Presented<'_>) -> Option<KeyHash> {
        let generation = self.generation(token)?;
        Some(digest(&generation.index, token.as_str().as_bytes()))
    }

    /// Whether the token was minted under a tag key that is held.
    pub fn tag_matches(&self, token: Presented<'_>) -> bool {
        let Some(generation) = self.generation(token) else {
            return false;
        };
        let (tagged, presented) = token.tagged();
        let tag = tag(&generation.tag, tagged);
        let mut expected = [0; 8];
        expected[8 - TAG_BYTES..].copy_from_slice(&tag);
        presented.to_be_bytes().ct_eq(&expected).into()
    }

    /// Where the record of a token without our form is found, by generation, newest first.
    pub fn hash_imported(&self, token: &str) -> impl Iterator<Item = KeyHash> {
        self.generations
            .iter()
            .rev()
            .map(move |generation| digest(&generation.index, token.as_bytes()))
    }

    pub(super) fn newest(&self) -> u8 {
        self.newest_generation().name
    }

    pub(super) fn newest_tag(&self, tagged: &[u8]) -> [u8; TAG_BYTES] {
        tag(&self.newest_generation().tag, tagged)
    }

    fn newest_generation(&self) -> &Generation {
        &self.generations[self.generations.len() - 1]
    }

    fn generation(&self, token: Presented<'_>) -> Option<&Generation> {
        let name = token.generation();
        self.generations.iter().rev().find(|held| held.name == name)
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKeys([redacted])")
    }
}

fn keyed(key: &Secret<[u8; 32]>) -> HmacSha256 {
    // A key shorter than the block is padded with zeros (RFC 2104, section 2).
    let mut block = Zeroizing::new([0_u8; 64]);
    block[..32].copy_from_slice(key.expose());
    HmacSha256::new((&*block).into())
}

fn digest(keyed: &HmacSha256, message: &[u8]) -> KeyHash {
    let mut mac = keyed.clone();
    mac.update(message);
    KeyHash(mac.finalize().into_bytes().into())
}

fn tag(keyed: &HmacSha256, tagged: &[u8]) -> [u8; TAG_BYTES] {
    let mut first = [0; TAG_BYTES];
    first.copy_from_slice(&digest(keyed, tagged).0[..TAG_BYTES]);
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::{Environment, TokenDefect, TokenFormat, Value};

    fn keys(generations: &[u8]) -> TokenKeys {
        let held: Vec<_> = generations
            .iter()
            .map(|name| GenerationKeys {
                generation: *name,
                index: Secret::new([*name; 32]),
                tag: Secret::new([name.wrapping_add(1); 32]),
            })
            .collect();
        TokenKeys::new(&held).unwrap()
    }

    fn format() -> TokenFormat {
        TokenFormat::new("cyk", Environment::Live).unwrap()
    }

    fn parsed<'a>(format: &TokenFormat, text: &'a str) -> Presented<'a> {
        match format.parse(text) {
            Value::Token(token) => token,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn a_minted_token_parses_and_carries_its_tag() {
        let (format, keys) = (format(), keys(b"01"));
        let token = format.mint(&keys).unwrap();
        assert_eq!(token.expose().len(), "cyk_live_".len() + 59);
        let presented = parsed(&format, token.expose());
        assert!(keys.tag_matches(presented));
        assert!(keys.hash(presented).is_some());
    }

    #[test]
    fn a_token_of_another_generation_is_told_by_its_tag() {
        let format = format();
        let token = format.mint(&keys(b"01")).unwrap();
        let presented = parsed(&format, token.expose());
        assert!(keys(b"012").tag_matches(presented), "an older generation");
        assert!(!keys(b"0").tag_matches(presented), "a dropped generation");
        assert!(keys(b"0").hash(presented).is_none());
    }

    #[test]
    fn a_token_minted_under_another_key_does_not_match() {
        let format = format();
        let mut stranger = keys(b"0");
        stranger.generations[0].tag = keyed(&Secret::new([9; 32]));
        let token = format.mint(&stranger).unwrap();
        assert!(!keys(b"0").tag_matches(parsed(&format, token.expose())));
    }

    #[test]
    fn what_is_no_token_is_told_apart() {
        let (format, keys) = (format(), keys(b"0"));
        let token = format.mint(&keys).unwrap();
        let text = token.expose();
        let malformed = |text: &str| match format.parse(text) {
            Value::Malformed(defect) => Some(defect),
            _ => None,
        };
        assert_eq!(format.parse("eyJhbGciOi"), Value::Foreign);
        assert_eq!(format.parse("cyklive"), Value::Foreign);
        assert_eq!(
            malformed(&text.replace("live", "test")),
            Some(TokenDefect::Environment)
        );
        assert_eq!(
            malformed(&text[..text.len() - 1]),
            Some(TokenDefect::Length)
        );
        assert_eq!(malformed(&format!("{text}0")), Some(TokenDefect::Length));
        assert_eq!(
            malformed(&text.replacen("_live_0", "_live_-", 1)),
            Some(TokenDefect::Character)
        );
        assert_eq!(
            malformed(&text.replacen("_live_0", "_live_1", 1)),
            Some(TokenDefect::Checksum)
        );
    }

    #[test]
    fn a_prefix_must_be_short_and_plain() {
        for prefix in ["", "a", "Cyk", "cy_k", "abcdefghijklmnopq"] {
            assert!(
                TokenFormat::new(prefix, Environment::Live).is_err(),
                "{prefix}"
            );
        }
    }

    #[test]
    fn a_hash_survives_being_written_and_read() {
        let hash = KeyHash::from_bytes([0xab; 32]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!("AB".repeat(32).parse::<KeyHash>(), Err(InvalidKeyHash));
        assert_eq!("ab".parse::<KeyHash>(), Err(InvalidKeyHash));
    }

    proptest! {
        #[test]
        fn no_value_makes_the_parser_panic(text in ".*") {
            let _ = format().parse(&text);
            let _ = format().parse(&format!("cyk_live_{text}"));
        }

        #[test]
        fn a_changed_character_is_noticed(at in 9_usize..68, to in "[0-9A-Za-z]") {
            let (format, keys) = (format(), keys(b"0"));
            let token = format.mint(&keys).unwrap();
            let mut text = token.expose().to_owned();
            prop_assume!(text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert_eq!(format.parse(&text), Value::Malformed(TokenDefect::Checksum));
        }
    }
}

//! Parsing and minting.

use std::fmt;

use crc32fast::Hasher;
use zeroize::Zeroizing;

use super::base62;
use super::keys::TokenKeys;
use crate::secret::Secret;

const SECRET: usize = 43;
const TAG: usize = 9;
const CRC: usize = 6;
/// Generation, secret, tag and checksum.
const BODY: usize = 1 + SECRET + TAG + CRC;

/// Which of a deployment's two kinds of token this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    Live,
    Test,
}

impl Environment {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

/// Why a value with our prefix is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenDefect {
    #[error("the token is of the other environment")]
    Environment,
    #[error("the token has the wrong length")]
    Length,
    #[error("the token has a character outside base62")]
    Character,
    #[error("the token's checksum does not match")]
    Checksum,
}

/// A prefix that could not be told from the rest of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a token prefix: use 2 to 16 characters of a-z and 0-9")]
pub struct InvalidPrefix(String);

/// A freshly minted token, to be shown once.
pub struct Token(Secret<String>);

impl Token {
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// A token as a client presented it: its form and checksum are right, nothing
/// else is known of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Presented<'a>(&'a str);

impl<'a> Presented<'a> {
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    pub(super) fn generation(self) -> u8 {
        self.0.as_bytes()[self.0.len() - BODY]
    }

    /// What the tag was made over, and the tag's number.
    pub(super) fn tagged(self) -> (&'a [u8], u64) {
        let bytes = self.0.as_bytes();
        let (tagged, tag) = bytes[..bytes.len() - CRC].split_at(bytes.len() - CRC - TAG);
        (tagged, base62::decode_u64(tag).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented([redacted])")
    }
}

/// What a value found in a token's place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Not ours: it has another prefix, or none, and passes untouched.
    Foreign,
    Malformed(TokenDefect),
    Token(Presented<'a>),
}

/// The form of a deployment's tokens.
#[derive(Clone, Debug)]
pub struct TokenFormat {
    /// With the underscore.
    prefix: Box<str>,
    environment: Environment,
    /// The checksum, once it has seen what every token begins with.
    begun: Hasher,
}

impl PartialEq for TokenFormat {
    fn eq(&self, other: &Self) -> bool {
        // What else it holds follows from these.
        (&self.prefix, self.environment) == (&other.prefix, other.environment)
    }
}

impl Eq for TokenFormat {}

impl TokenFormat {
    pub fn new(prefix: &str, environment: Environment) -> Result<Self, InvalidPrefix> {
        let valid = (2..=16).contains(&prefix.len())
            && prefix
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'));
        if !valid {
            return Err(InvalidPrefix(prefix.into()));
        }
        let mut begun = Hasher::new();
        begun.update(format!("{prefix}_{}_", environment.as_str()).as_bytes());
        Ok(Self {
            prefix: format!("{prefix}_").into(),
            environment,
            begun,
        })
    }

    /// What `value` is. Allocates nothing.
    pub fn parse<'a>(&self, value: &'a str) -> Value<'a> {
        let Some(rest) = value.strip_prefix(&*self.prefix) else {
            return Value::Foreign;
        };
        match self.defect(rest) {
            Some(defect) => Value::Malformed(defect),
            None => Value::Token(Presented(value)),
        }
    }

    fn defect(&self, rest: &str) -> Option<TokenDefect> {
        let Some(body) = rest
            .strip_prefix(self.environment.as_str())
            .and_then(|rest| rest.strip_prefix('_'))
        else {
            return Some(TokenDefect::Environment);
        };
        let Ok(body) = <&[u8; BODY]>::try_from(body.as_bytes()) else {
            return Some(TokenDefect::Length);
        };
        // Of all, without a branch for each: a token is looked at in a few steps.
        if !body
            .iter()
            .fold(true, |all, &byte| all & base62::is_digit(byte))
        {
            return Some(TokenDefect::Character);
        }
        let (checked, crc) = body.split_at(BODY - CRC);
        let mut hasher = self.begun.clone();
        hasher.update(checked);
        let expected = u64::from(hasher.finalize());
        (base62::decode_u64(crc) != Some(expected)).then_some(TokenDefect::Checksum)
    }

    /// A new token of the newest generation that `keys` hold.
    pub fn mint(&self, keys: &TokenKeys) -> Result<Token, getrandom::Error> {
        let random = Secret::random()?;
        let mut text = String::with_capacity(self.prefix.len() + 5 + BODY);
        text.push_str(&self.prefix);
        text.push_str(self.environment.as_str());
        text.push('_');
        text.push(char::from(keys.newest()));
        base62::encode_into(&mut text, random.expose().to_vec(), SECRET);
        let tag = Zeroizing::new(keys.newest_tag(text.as_bytes()));
        base62::encode_into(&mut text, tag.to_vec(), TAG);
        let crc = crc32fast::hash(text.as_bytes());
        base62::encode_into(&mut text, crc.to_be_bytes().to_vec(), CRC);
        Ok(Token(Secret::new(text)))
    }
}

//! The settings of authentication.

use std::fmt;
use std::str::FromStr;

use http::{HeaderName, header};
use serde::Deserialize;

use crate::setting::Invalid;
use crate::token::{Environment, InvalidPrefix, TokenFormat};

/// The most places a token may be read from.
pub(super) const MAX_PLACES: usize = 8;

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What this deployment's tokens begin with.
    pub prefix: String,
    /// Which of its two kinds of token it accepts.
    pub environment: Environment,
    /// Where tokens are looked for.
    pub places: Vec<Place>,
    /// How many requests of one client address (IPv6: one /64) may fail for their
    /// token in a minute; any when it is zero.
    pub failures_per_minute: u32,
}

/// A header field that may hold a token: `X-API-Key`, or `Authorization: Bearer`
/// where the token follows the scheme.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Place {
    pub(super) header: HeaderName,
    /// After `Bearer` (RFC 6750, section 2.1).
    pub(super) bearer: bool,
}

/// The text names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place of a token: write `X-API-Key`, or `Authorization: Bearer`")]
pub struct InvalidPlace(String);

impl Place {
    pub const AUTHORIZATION: Self = Self {
        header: header::AUTHORIZATION,
        bearer: true,
    };
    pub const X_API_KEY: Self = Self {
        header: HeaderName::from_static("x-api-key"),
        bearer: false,
    };
}

impl Place {
    /// The field that may hold a token.
    pub const fn header(&self) -> &HeaderName {
        &self.header
    }
}

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let invalid = || InvalidPlace(text.to_owned());
        let (name, bearer) = match text.split_once(':') {
            None => (text, false),
            Some((name, scheme)) if scheme.trim().eq_ignore_ascii_case("bearer") => (name, true),
            Some(_) => return Err(invalid()),
        };
        let header = name.trim().parse().map_err(|_| invalid())?;
        // A scheme is what tells the credentials in there apart.
        if header == header::AUTHORIZATION && !bearer {
            return Err(invalid());
        }
        Ok(Self { header, bearer })
    }
}

impl TryFrom<String> for Place {
    type Error = InvalidPlace;

    fn try_from(text: String) -> Result<Self, InvalidPlace> {
        text.parse()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.header.as_str())?;
        f.write_str(if self.bearer { ": Bearer" } else { "" })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prefix: "cyk".to_owned(),
            environment: Environment::Live,
            places: vec![Place::AUTHORIZATION, Place::X_API_KEY],
            failures_per_minute: 100,
        }
    }
}

impl Config {
    /// The form of the tokens it accepts.
    pub fn format(&self) -> Result<TokenFormat, InvalidPrefix> {
        TokenFormat::new(&self.prefix, self.environment)
    }

    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        if let Err(error) = self.format() {
            found.push(Invalid::new(format!("{section}.prefix"), error.to_string()));
        }
        let key = format!("{section}.places");
        if self.places.is_empty() || self.places.len() > MAX_PLACES {
            let problem = format!("write 1 to {MAX_PLACES}, such as `X-API-Key`");
            found.push(Invalid::new(key.clone(), problem));
        }
        for (at, place) in self.places.iter().enumerate() {
            if self.places[..at]
                .iter()
                .any(|earlier| earlier.header == place.header)
            {
                found.push(Invalid::new(
                    key.clone(),
                    format!("`{place}` is there twice"),
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_header_field_or_a_scheme_in_one() {
        assert_eq!("Authorization: Bearer".parse(), Ok(Place::AUTHORIZATION));
        assert_eq!("authorization:bearer".parse(), Ok(Place::AUTHORIZATION));
        assert_eq!("X-API-Key".parse(), Ok(Place::X_API_KEY));
        for text in ["", "Authorization", "Authorization: Basic", "a b", "x:"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let config = Config {
            prefix: "Ü".to_owned(),
            places: vec![Place::X_API_KEY, Place::X_API_KEY],
            ..Config::default()
        };
        let mut found = Vec::new();
        config.problems("auth", &mut found);
        let keys: Vec<_> = found.iter().map(|invalid| &*invalid.key).collect();
        assert_eq!(keys, ["auth.prefix", "auth.places"]);
    }
}

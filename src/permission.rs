//! Permissions: what a key holds and what a route requires.
//!
//! A permission is words joined by colons, `orders:read`. A key may hold a
//! pattern instead: `orders:*` grants everything that begins with `orders:`,
//! and `*` grants everything. A route requires one exact permission.

mod shared;

pub use shared::Permissions;

use std::fmt;
use std::str::FromStr;

const MAX_LENGTH: usize = 128;

/// Why a text is no permission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a permission: use words of a-z, 0-9, `_`, `-` and `.` joined by `:`, at most {MAX_LENGTH} characters{pattern}", pattern = if *.pattern { "; the last may be `*`" } else { "; no `*` here" })]
pub struct InvalidPermission {
    text: String,
    pattern: bool,
}

/// What a key holds: an exact permission or a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission(Box<str>);

/// What a route requires: always exact.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Required(Box<str>);

impl Permission {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn grants(&self, required: &Required) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => required.0.starts_with(prefix),
            None => self.0 == required.0,
        }
    }
}

impl Required {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Permission {
    type Err = InvalidPermission;

    fn from_str(text: &str) -> Result<Self, InvalidPermission> {
        let exact = text == "*" || is_exact(text.strip_suffix(":*").unwrap_or(text));
        if exact && text.len() <= MAX_LENGTH {
            Ok(Self(text.into()))
        } else {
            Err(InvalidPermission {
                text: text.into(),
                pattern: true,
            })
        }
    }
}

impl FromStr for Required {
    type Err = InvalidPermission;

    fn from_str(text: &str) -> Result<Self, InvalidPermission> {
        if is_exact(text) && text.len() <= MAX_LENGTH {
            Ok(Self(text.into()))
        } else {
            Err(InvalidPermission {
                text: text.into(),
                pattern: false,
            })
        }
    }
}

fn is_exact(text: &str) -> bool {
    text.split(':').all(|word| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'))
    })
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Required {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Permission {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Permission {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> serde::Deserialize<'de> for Required {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_permission_grants_itself_and_what_its_pattern_covers() {
        for (held, required, granted) in [
            ("orders:read", "orders:read", true),
            ("orders:read", "orders:write", false),
            ("orders:read", "orders:read:all", false),
            ("orders:*", "orders:read", true),
            ("orders:*", "orders:read:all", true),
            ("orders:*", "orders", false),
            ("orders:*", "orders2:read", false),
            ("*", "anything:at:all", true),
        ] {
            let permission: Permission = held.parse().unwrap();
            let required: Required = required.parse().unwrap();
            assert_eq!(permission.grants(&required), granted, "{held} {required}");
        }
    }

    #[test]
    fn what_is_no_permission_is_refused_by_name() {
        for text in [
            "", ":", "orders:", "Orders", "or ders", "a*", "*:a", "a:*:b", "a,b",
        ] {
            let error = text.parse::<Permission>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")));
        }
        assert!("orders:*".parse::<Required>().is_err());
        assert!("a".repeat(129).parse::<Permission>().is_err());
    }
}

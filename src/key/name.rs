//! [`KeyName`].

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// So many bytes need no memory of their own: most names.
const SHORT: usize = 22;

/// A key's name: 1 to 128 characters, none of them control characters.
#[derive(Clone)]
pub struct KeyName(Name);

/// Three words either way. What a short one does not need is zero.
#[derive(Clone)]
enum Name {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Box<str>),
}

/// The text cannot be a key's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key's name has 1 to 128 characters, none of them control characters")]
pub struct InvalidName;

impl KeyName {
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // why: it was text when it was put there.
            Name::Short { length, bytes } => {
                str::from_utf8(&bytes[..usize::from(*length)]).unwrap_or_default()
            }
            Name::Long(text) => text,
        }
    }
}

impl FromStr for KeyName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let length = text.chars().count();
        if !(1..=128).contains(&length) || text.chars().any(char::is_control) {
            return Err(InvalidName);
        }
        let mut bytes = [0; SHORT];
        Ok(Self(
            match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
                (Ok(length), Some(place)) => {
                    place.copy_from_slice(text.as_bytes());
                    Name::Short { length, bytes }
                }
                _ => Name::Long(text.into()),
            },
        ))
    }
}

impl PartialEq for KeyName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for KeyName {}

impl PartialOrd for KeyName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for KeyName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyName").field(&self.as_str()).finish()
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for KeyName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_told_by_their_characters() {
        for (text, is_name) in [
            ("a", true),
            ("Zoë's key, 1", true),
            (&*"é".repeat(11), true),
            (&*"é".repeat(128), true),
            (&*"é".repeat(129), false),
            ("", false),
            ("a\nb", false),
        ] {
            let name = text.parse::<KeyName>();
            assert_eq!(name.is_ok(), is_name, "{text:?}");
            assert_eq!(name.map_or("", |_| text), if is_name { text } else { "" });
        }
    }

    proptest! {
        #[test]
        fn a_name_stays_what_was_given_however_long(text in "\\P{Cc}{1,60}", other in "\\P{Cc}{1,60}") {
            let name: KeyName = text.parse().unwrap();
            prop_assert_eq!(name.as_str(), &text);
            let other: KeyName = other.parse().unwrap();
            prop_assert_eq!(name.cmp(&other), text.as_str().cmp(other.as_str()));
        }
    }
}

//! What the configuration of every module shares: durations in words, and a
//! way to say what is wrong with a setting.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// A setting that cannot be used, why, and what would do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The key, dotted from the root of the configuration.
    pub key: String,
    pub problem: String,
}

impl Invalid {
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// For `#[serde(deserialize_with = "setting::duration")]`: `"500ms"`, `"10min"`.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(D::Error::custom)
}

/// As [`duration`], with `"none"` for no bound.
pub fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "none" {
        return Ok(None);
    }
    parse_duration(&text).map(Some).map_err(D::Error::custom)
}

/// For `#[serde(deserialize_with = "setting::address")]`: `"0.0.0.0:8080"`, `"[::]:8080"`.
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "`{text}` is not an address and port: write `0.0.0.0:8080`, or `[::]:8080` for IPv6"
        ))
    })
}

/// As [`address`], for a setting that need not be set.
pub fn some_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    address(deserializer).map(Some)
}

/// Longer than any bound that is meant, and still a moment from now: a clock
/// has an end.
const LONGEST: Duration = Duration::from_hours(36_525 * 24);

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is not a duration: write `500ms`, `30s` or `10min`"))?;
    if duration > LONGEST {
        return Err(format!("`{text}` is too long: write 100 years or less"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_ends_within_the_time_of_a_clock() {
        assert_eq!(parse_duration("10min"), Ok(Duration::from_mins(10)));
        assert!(parse_duration("100years").is_ok());
        assert!(parse_duration("101years").is_err());
        assert!(parse_duration("18446744073709551615s").is_err());
        assert!(parse_duration("soon").is_err());
    }
}

//! `[counters]`

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use crate::setting::{self, Invalid};

/// `[counters]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether an edge tells the records, too.
    pub write: bool,
    #[serde(deserialize_with = "setting::duration")]
    pub interval: Duration,
    /// Of an edge and of the command alike.
    pub writes_per_second: NonZeroU32,
}

/// Firestore takes 500 writes a second of records in which an indexed time goes
/// up, as `last_used` does; operators' writes have to fit in beside these.
const WRITES_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).unwrap();

impl Default for Config {
    fn default() -> Self {
        Self {
            write: false,
            interval: Duration::from_mins(15),
            writes_per_second: WRITES_PER_SECOND,
        }
    }
}

impl Config {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        if self.interval < Duration::from_secs(1) {
            found.push(Invalid::new(
                format!("{section}.interval"),
                "must be at least `1s`",
            ));
        }
    }
}

//! Ids of new records.

use uuid::{Builder, Uuid};

use crate::clock::Timestamp;

/// A UUIDv7 (RFC 9562, section 5.7) of this moment.
pub(super) fn new_id(now: Timestamp) -> Result<Uuid, getrandom::Error> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    let millis = u64::try_from(now.as_micros() / 1000).unwrap_or(0);
    Ok(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
}

//! What is said.

use std::time::Duration;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::permission::Permission;

/// Long enough for clocks that differ, too short to be of use to a thief.
pub const LIFETIME: Duration = Duration::from_mins(1);

/// Said of one request.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Claims<'a> {
    #[serde(rename = "iss")]
    pub issuer: &'a str,
    #[serde(rename = "aud")]
    pub audience: &'a str,
    #[serde(rename = "sub", skip_serializing_if = "Option::is_none")]
    pub key_id: Option<Uuid>,
    #[serde(serialize_with = "texts")]
    pub permissions: &'a [Permission],
    pub route: &'a str,
    #[serde(rename = "jti")]
    pub request_id: &'a str,
    #[serde(flatten)]
    pub validity: Validity,
}

/// From when to when.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Validity {
    #[serde(rename = "iat")]
    from: i64,
    #[serde(rename = "exp")]
    until: i64,
}

impl Validity {
    /// For [`LIFETIME`].
    pub fn from(now: Timestamp) -> Self {
        let seconds = |at: Timestamp| at.as_micros().div_euclid(1_000_000);
        Self {
            from: seconds(now),
            until: seconds(now.saturating_add(LIFETIME)),
        }
    }
}

fn texts<S: Serializer>(permissions: &[Permission], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(permissions.iter().map(Permission::as_str))
}

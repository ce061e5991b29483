//! One access token, and how long it is good for.

use std::time::Duration;

use firestore::gcloud_sdk::google_cloud_auth::credentials::EntityTag;
use gcp_auth::Token;
use http::header::HeaderValue;

use super::CredentialsError;
use crate::clock::Now;

/// How long before its end a token is renewed, as Google's own clients do; a
/// metadata server has no newer one much earlier.
const RENEW_BEFORE: Duration = Duration::from_secs(225);

/// No token of Google's is good for longer, whatever the clock says: a clock that
/// was wrong when it was asked for would keep it for as long as it was wrong by.
const LONGEST: Duration = Duration::from_hours(1);

/// An access token, as it is sent.
#[derive(Debug)]
pub struct Bearer {
    header: HeaderValue,
    pub(super) tag: EntityTag,
    pub(super) taken: Now,
    lifetime: Duration,
}

impl Bearer {
    /// The value of `Authorization`; marked as sensitive.
    pub const fn header(&self) -> &HeaderValue {
        &self.header
    }

    pub(super) fn new(token: &Token, now: Now) -> Result<Self, CredentialsError> {
        let header = HeaderValue::from_str(&format!("Bearer {}", token.as_str()));
        let mut header = header.map_err(|_| CredentialsError::NoToken {
            from: "the token service".to_owned(),
            why: "its token is not one that can be sent".to_owned(),
        })?;
        header.set_sensitive(true);
        let expires_at = token.expires_at().timestamp_micros();
        let lifetime = expires_at.saturating_sub(now.wall.as_micros());
        let lifetime = Duration::from_micros(u64::try_from(lifetime).unwrap_or(0));
        Ok(Self {
            header,
            tag: EntityTag::new(),
            taken: now,
            lifetime: lifetime.min(LONGEST),
        })
    }

    /// By the clock that says more: the wall's may be put right in between, and
    /// the other one stands still while a machine sleeps.
    fn age(&self, now: Now) -> Duration {
        let by_wall = now
            .wall
            .as_micros()
            .saturating_sub(self.taken.wall.as_micros());
        let by_wall = Duration::from_micros(u64::try_from(by_wall).unwrap_or(0));
        by_wall.max(now.tick.since(self.taken.tick))
    }

    pub(super) fn is_fresh(&self, now: Now) -> bool {
        let margin = RENEW_BEFORE.min(self.lifetime / 5);
        self.age(now) < self.lifetime.saturating_sub(margin)
    }

    pub(super) fn is_good(&self, now: Now) -> bool {
        self.age(now) < self.lifetime
    }
}

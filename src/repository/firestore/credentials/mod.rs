//! The access tokens that Firestore is asked with.
//!
//! A token is renewed before it expires, once for however many ask, and in the
//! background while the old one is still good: no read waits for that. A renewal
//! begins anew at the file or service that the first token came from, so that a
//! key file that was replaced is taken into use.

mod bearer;
mod source;

pub use bearer::Bearer;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use firestore::gcloud_sdk::google_cloud_auth::credentials::{
    CacheableResource, CredentialsProvider, EntityTag,
};
use firestore::gcloud_sdk::google_cloud_auth::{credentials, errors};
use http::Extensions;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio::sync::Mutex;

use self::source::{Source, service_account};
use crate::clock::{Clock, Tick};

/// How long after a failure it is not tried again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long after its first use a token that Firestore refuses is not given up: one
/// that was asked for later is not what was refused.
const GIVE_UP_AFTER: Duration = RETRY_AFTER;

/// Why there is no access token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    #[error(
        "{path}: {why}: set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account, \
         or unset it where the machine has an account"
    )]
    File { path: String, why: String },
    #[error(
        "no Google credentials: GOOGLE_APPLICATION_CREDENTIALS is not set, {tried}: set it to the \
         key file of a service account, run `gcloud auth application-default login`, or run where \
         a metadata server is"
    )]
    NoneFound { tried: String },
    #[error("no access token from {from}: {why}")]
    NoToken { from: String, why: String },
}

/// Where tokens come from.
#[derive(Clone)]
pub struct Credentials(Arc<Shared>);

struct Shared {
    source: Source,
    clock: Clock,
    held: ArcSwapOption<Bearer>,
    /// Held by whoever renews; the last failure, when the last time failed.
    renewing: Arc<Mutex<Option<Failure>>>,
}

struct Failure {
    at: Tick,
    error: CredentialsError,
}

impl Credentials {
    /// Of the service account whose key `file` is; without one, whatever is
    /// found when the first token is asked for. Reads the file.
    pub fn new(file: Option<PathBuf>, clock: Clock) -> Result<Self, CredentialsError> {
        let source = match file {
            Some(path) => {
                service_account(&path)?;
                Source::File(path)
            }
            None => Source::Found(OnceLock::new()),
        };
        Ok(Self(Arc::new(Shared {
            source,
            clock,
            held: ArcSwapOption::empty(),
            renewing: Arc::default(),
        })))
    }

    /// A token that is good now.
    pub async fn bearer(&self) -> Result<Arc<Bearer>, CredentialsError> {
        let now = self.0.clock.now();
        match self.0.held.load_full() {
            Some(held) if held.is_fresh(now) => Ok(held),
            Some(held) if held.is_good(now) => {
                self.renew_in_the_background();
                Ok(held)
            }
            _ => self.renewed().await,
        }
    }

    /// To be called when Firestore does not take a token: the next one who asks
    /// gets a new one. That of an account whose key was replaced is good for
    /// nothing, whatever it says of itself.
    pub fn refused(&self) {
        let now = self.0.clock.tick();
        if let Some(held) = self.0.held.load_full()
            && now.since(held.taken.tick) >= GIVE_UP_AFTER
        {
            self.0.held.compare_and_swap(&held, None);
        }
    }

    /// For the client's constructor.
    pub(super) fn for_client(&self) -> credentials::Credentials {
        credentials::Credentials::from(self.clone())
    }

    fn renew_in_the_background(&self) {
        // Whoever has it renews.
        if let Ok(mut renewing) = Arc::clone(&self.0.renewing).try_lock_owned() {
            let credentials = self.clone();
            tokio::spawn(async move {
                if let Err(error) = credentials.renew(&mut renewing).await {
                    tracing::warn!(%error, "going on with the access token that is held");
                }
            });
        }
    }

    /// Goes on where the caller runs out of patience.
    async fn renewed(&self) -> Result<Arc<Bearer>, CredentialsError> {
        let credentials = self.clone();
        let renewal = tokio::spawn(async move {
            let mut renewing = credentials.0.renewing.lock().await;
            credentials.renew(&mut renewing).await
        });
        renewal.await.unwrap_or_else(|ended| {
            Err(CredentialsError::NoToken {
                from: "the task that asks for it".to_owned(),
                why: ended.to_string(),
            })
        })
    }

    async fn renew(&self, last: &mut Option<Failure>) -> Result<Arc<Bearer>, CredentialsError> {
        let now = self.0.clock.now();
        if let Some(held) = self.0.held.load_full()
            && held.is_fresh(now)
        {
            return Ok(held);
        }
        if let Some(failure) = last
            && now.tick.since(failure.at) < RETRY_AFTER
        {
            return Err(failure.error.clone());
        }
        let token = self.0.source.token().await;
        match token.and_then(|token| Bearer::new(&token, now)) {
            Ok(bearer) => {
                let bearer = Arc::new(bearer);
                self.0.held.store(Some(Arc::clone(&bearer)));
                *last = None;
                Ok(bearer)
            }
            Err(error) => {
                *last = Some(Failure {
                    at: self.0.clock.tick(),
                    error: error.clone(),
                });
                Err(error)
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.0.source.to_string();
        f.debug_tuple("Credentials").field(&source).finish()
    }
}

impl CredentialsProvider for Credentials {
    async fn headers(
        &self,
        extensions: Extensions,
    ) -> Result<CacheableResource<HeaderMap>, errors::CredentialsError> {
        let bearer = self.bearer().await;
        let bearer = bearer.map_err(|error| errors::CredentialsError::from_source(true, error))?;
        Ok(resource(&extensions, &bearer.tag, bearer.header()))
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

fn resource(
    extensions: &Extensions,
    tag: &EntityTag,
    header: &HeaderValue,
) -> CacheableResource<HeaderMap> {
    if extensions.get::<EntityTag>() == Some(tag) {
        return CacheableResource::NotModified;
    }
    CacheableResource::New {
        entity_tag: tag.clone(),
        data: HeaderMap::from_iter([(AUTHORIZATION, header.clone())]),
    }
}

/// What an emulator takes from anybody.
#[derive(Debug)]
pub(super) struct Emulated(EntityTag);

impl Emulated {
    pub(super) fn credentials() -> credentials::Credentials {
        credentials::Credentials::from(Self(EntityTag::new()))
    }
}

impl CredentialsProvider for Emulated {
    async fn headers(
        &self,
        extensions: Extensions,
    ) -> Result<CacheableResource<HeaderMap>, errors::CredentialsError> {
        let owner = HeaderValue::from_static("Bearer owner");
        Ok(resource(&extensions, &self.0, &owner))
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

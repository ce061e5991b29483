//! The access tokens that Firestore is asked with.
//!
//! A token is renewed before it expires, once for however many ask, and in the
//! background while the old one is still good: no read waits for that. A renewal
//! begins anew at the file or service that the first token came from, so that a
//! key file that was replaced is taken into use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use firestore::gcloud_sdk::google_cloud_auth::credentials::{
    CacheableResource, CredentialsProvider, EntityTag,
};
use firestore::gcloud_sdk::google_cloud_auth::{credentials, errors};
use gcp_auth::{
    ConfigDefaultCredentials, CustomServiceAccount, GCloudAuthorizedUser, MetadataServiceAccount,
    Token, TokenProvider,
};
use http::Extensions;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio::sync::Mutex;

use crate::cause::chain;
use crate::clock::{Clock, Now, Tick};

/// What a token has to be good for.
const SCOPES: &[&str] = &["https://www.googleapis.com/auth/datastore"];

/// How long before its end a token is renewed, as Google's own clients do; a
/// metadata server has no newer one much earlier.
const RENEW_BEFORE: Duration = Duration::from_secs(225);

/// How long after a failure it is not tried again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long after its first use a token that Firestore refuses is not given up: one
/// that was asked for later is not what was refused.
const GIVE_UP_AFTER: Duration = RETRY_AFTER;

/// No token of Google's is good for longer, whatever the clock says: a clock that
/// was wrong when it was asked for would keep it for as long as it was wrong by.
const LONGEST: Duration = Duration::from_hours(1);

/// For a token to come; an hour of use is worth some patience.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The same while it is looked for who has one: one that hangs is not to hide
/// the next.
const LOOK_TIMEOUT: Duration = Duration::from_secs(4);

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

/// An access token, as it is sent.
#[derive(Debug)]
pub struct Bearer {
    header: HeaderValue,
    tag: EntityTag,
    taken: Now,
    lifetime: Duration,
}

impl Bearer {
    /// The value of `Authorization`; marked as sensitive.
    pub const fn header(&self) -> &HeaderValue {
        &self.header
    }

    fn new(token: &Token, now: Now) -> Result<Self, CredentialsError> {
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

    fn is_fresh(&self, now: Now) -> bool {
        let margin = RENEW_BEFORE.min(self.lifetime / 5);
        self.age(now) < self.lifetime.saturating_sub(margin)
    }

    fn is_good(&self, now: Now) -> bool {
        self.age(now) < self.lifetime
    }
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
        Ok(resource(&extensions, &bearer.tag, &bearer.header))
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

enum Source {
    File(PathBuf),
    /// The first that had a token.
    Found(OnceLock<Account>),
}

/// An account that is there without a file that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Account {
    ApplicationDefault,
    Machine,
    Gcloud,
}

impl Source {
    async fn token(&self) -> Result<Arc<Token>, CredentialsError> {
        match self {
            Self::File(path) => {
                let account = service_account(path)?;
                let token = in_time(TOKEN_TIMEOUT, account.token(SCOPES)).await;
                token.map_err(|why| CredentialsError::NoToken {
                    from: self.to_string(),
                    why,
                })
            }
            Self::Found(found) => match found.get() {
                Some(account) => {
                    let token = in_time(TOKEN_TIMEOUT, account.token()).await;
                    token.map_err(|why| CredentialsError::NoToken {
                        from: account.to_string(),
                        why,
                    })
                }
                None => find(found).await,
            },
        }
    }
}

/// The token, or why there is none.
async fn in_time(
    limit: Duration,
    token: impl Future<Output = Result<Arc<Token>, gcp_auth::Error>>,
) -> Result<Arc<Token>, String> {
    match tokio::time::timeout(limit, token).await {
        Ok(token) => token.map_err(|error| chain(&error)),
        Err(_) => Err(format!("no answer in {limit:?}")),
    }
}

async fn find(found: &OnceLock<Account>) -> Result<Arc<Token>, CredentialsError> {
    let mut tried = Vec::new();
    for account in [
        Account::ApplicationDefault,
        Account::Machine,
        Account::Gcloud,
    ] {
        match in_time(LOOK_TIMEOUT, account.token()).await {
            Ok(token) => {
                tracing::info!(%account, "the account that Firestore is asked with");
                return Ok((found.set(account), token).1);
            }
            Err(why) => tried.push(format!("{account} has none ({why})")),
        }
    }
    Err(CredentialsError::NoneFound {
        tried: tried.join(", "),
    })
}

impl Account {
    async fn token(self) -> Result<Arc<Token>, gcp_auth::Error> {
        match self {
            Self::ApplicationDefault => ConfigDefaultCredentials::new().await?.token(SCOPES).await,
            Self::Machine => MetadataServiceAccount::new().await?.token(SCOPES).await,
            Self::Gcloud => {
                // It runs a program, and blocks until that ends.
                let runtime = tokio::runtime::Handle::current();
                let run = tokio::task::spawn_blocking(move || {
                    runtime.block_on(async { GCloudAuthorizedUser::new().await?.token(&[]).await })
                });
                run.await
                    .map_err(|ended| gcp_auth::Error::Other("it ended", Box::new(ended)))?
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the service account of {}", path.display()),
            Self::Found(account) => match account.get() {
                Some(account) => account.fmt(f),
                None => f.write_str("any account"),
            },
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApplicationDefault => "`gcloud auth application-default login`",
            Self::Machine => "the metadata server",
            Self::Gcloud => "the `gcloud` program",
        })
    }
}

/// What every file of credentials says first.
#[derive(serde::Deserialize)]
struct Kind {
    r#type: String,
}

fn service_account(path: &Path) -> Result<CustomServiceAccount, CredentialsError> {
    let wrong = |why: String| CredentialsError::File {
        path: path.display().to_string(),
        why,
    };
    let text = std::fs::read_to_string(path);
    let text = zeroize::Zeroizing::new(text.map_err(|error| wrong(error.to_string()))?);
    match serde_json::from_str::<Kind>(&text) {
        Ok(Kind { r#type }) if r#type == "service_account" => {}
        Ok(Kind { r#type }) => return Err(wrong(format!("it is of type `{type}`"))),
        Err(error) => return Err(wrong(format!("it is no key file: {}", place(&error)))),
    }
    CustomServiceAccount::from_json(&text).map_err(|error| match error {
        gcp_auth::Error::Json(what, error) => wrong(format!("{what}: {}", place(&error))),
        error => wrong(chain(&error)),
    })
}

/// Where an error is: what it is might quote the key.
fn place(error: &serde_json::Error) -> String {
    format!("see line {}, column {}", error.line(), error.column())
}

//! The file, service or program that an access token comes from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gcp_auth::{
    ConfigDefaultCredentials, CustomServiceAccount, GCloudAuthorizedUser, MetadataServiceAccount,
    Token, TokenProvider,
};

use super::CredentialsError;
use crate::cause::chain;

/// What a token has to be good for.
const SCOPES: &[&str] = &["https://www.googleapis.com/auth/datastore"];

/// For a token to come; an hour of use is worth some patience.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The same while it is looked for who has one: one that hangs is not to hide
/// the next.
const LOOK_TIMEOUT: Duration = Duration::from_secs(4);

pub(super) enum Source {
    File(PathBuf),
    /// The first that had a token.
    Found(OnceLock<Account>),
}

/// An account that is there without a file that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    ApplicationDefault,
    Machine,
    Gcloud,
}

impl Source {
    pub(super) async fn token(&self) -> Result<Arc<Token>, CredentialsError> {
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

pub(super) fn service_account(path: &Path) -> Result<CustomServiceAccount, CredentialsError> {
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

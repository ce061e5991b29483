//! What is sent as the password, which may be another one for each connection.

use std::fmt;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use super::Unavailable;
use crate::cause::chain;
use crate::secret::Secret;

/// Where a new connection's password comes from.
pub trait Passwords: fmt::Debug + Send + Sync + 'static {
    /// The one of now. Called before every connection is used, so that it has
    /// to be cheap where it has not changed.
    fn password(&self) -> BoxFuture<'_, Result<Option<Secret<String>>, Unavailable>>;
}

/// Always the same one, or none.
#[derive(Clone, Debug)]
pub struct FixedPassword(pub Option<Secret<String>>);

impl Passwords for FixedPassword {
    fn password(&self) -> BoxFuture<'_, Result<Option<Secret<String>>, Unavailable>> {
        std::future::ready(Ok(self.0.clone())).boxed()
    }
}

/// What a token has to be good for: logging in to Cloud SQL, and nothing else.
const SCOPE: &str = "https://www.googleapis.com/auth/sqlservice.login";

/// An access token of the account that this process runs as (Cloud SQL IAM
/// database authentication). The provider renews it before it expires.
#[derive(Default)]
pub(super) struct AccessToken {
    provider: OnceCell<std::sync::Arc<dyn gcp_auth::TokenProvider>>,
}

impl Passwords for AccessToken {
    fn password(&self) -> BoxFuture<'_, Result<Option<Secret<String>>, Unavailable>> {
        async {
            let failed = |error: gcp_auth::Error| {
                Unavailable(format!("no access token to log in with: {}", chain(&error)))
            };
            let provider = self.provider.get_or_try_init(gcp_auth::provider).await;
            let token = provider.map_err(failed)?.token(&[SCOPE]).await;
            let token = token.map_err(failed)?;
            Ok(Some(Secret::new(token.as_str().to_owned())))
        }
        .boxed()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken")
    }
}

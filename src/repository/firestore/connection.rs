//! The client, which can be made anew.
//!
//! The firestore client connects when it is made, and its channel heals itself
//! after a connection that broke loudly. One that broke silently it notices only
//! after two minutes: whoever notices sooner calls [`Connection::rebuild`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use firestore::errors::FirestoreError;
use firestore::{FirestoreDb, FirestoreDbOptions};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::credentials::{Credentials, CredentialsError, Emulated};
use super::error;
use crate::clock::Clock;
use crate::repository::{FirestoreConfig, RepositoryError, Result};

/// Name resolution, TCP and TLS; more than ten times what they take from afar.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest that one request, or the next part of a streamed answer, is
/// waited for. Whoever serves requests has a shorter patience above this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

const PRODUCTION: &str = "https://firestore.googleapis.com";
const PRODUCTION_ADDRESS: &str = "firestore.googleapis.com:443";

/// A connection to one Firestore collection. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    config: FirestoreConfig,
    keyring_collection: String,
    /// None against an emulator.
    credentials: Option<Credentials>,
    client: ArcSwapOption<FirestoreDb>,
    /// Held by whoever connects; the outcome of the last time.
    connecting: Mutex<Result<()>>,
    /// How often it was tried to connect.
    attempts: AtomicU64,
}

impl Connection {
    /// Connects at the first use. Fails when there is a file of credentials
    /// that cannot be used.
    pub fn new(
        config: FirestoreConfig,
        clock: Clock,
    ) -> std::result::Result<Self, CredentialsError> {
        let credentials = match &config.emulator {
            Some(_) => None,
            None => Some(Credentials::new(config.credentials.clone(), clock)?),
        };
        Ok(Self(Arc::new(Shared {
            keyring_collection: format!("{}_keyring", config.collection),
            credentials,
            client: ArcSwapOption::empty(),
            connecting: Mutex::new(Ok(())),
            attempts: AtomicU64::new(0),
            config,
        })))
    }

    pub fn config(&self) -> &FirestoreConfig {
        &self.0.config
    }

    /// Where records are.
    pub fn collection(&self) -> &str {
        &self.0.config.collection
    }

    /// Where the keyring is.
    pub fn keyring_collection(&self) -> &str {
        &self.0.keyring_collection
    }

    /// The client. Waits only when there is none yet.
    pub async fn current(&self) -> Result<FirestoreDb> {
        match self.client() {
            Some(client) => Ok(client),
            None => self.connected().await,
        }
    }

    /// A new client, in the place of the one there is. Asked by several at once,
    /// it is made once. When it cannot be made, the old one stays.
    pub async fn rebuild(&self) -> Result<FirestoreDb> {
        self.connected().await
    }

    /// That Firestore did not take the access token.
    pub(super) fn token_refused(&self) {
        if let Some(credentials) = &self.0.credentials {
            credentials.refused();
        }
    }

    fn client(&self) -> Option<FirestoreDb> {
        self.0.client.load().as_deref().cloned()
    }

    /// Waits for an attempt to connect that ends after this call. It goes on
    /// where the caller runs out of patience, or no impatient one ever got in.
    async fn connected(&self) -> Result<FirestoreDb> {
        let before = self.0.attempts.load(Ordering::Acquire);
        let connection = self.clone();
        let attempt = tokio::spawn(async move { connection.attempt(before).await });
        attempt
            .await
            .unwrap_or_else(|ended| Err(RepositoryError::Unavailable(ended.to_string())))
    }

    async fn attempt(&self, before: u64) -> Result<FirestoreDb> {
        let mut outcome = self.0.connecting.lock().await;
        if self.0.attempts.load(Ordering::Acquire) == before {
            *outcome = self.connect().await;
            self.0.attempts.fetch_add(1, Ordering::AcqRel);
        }
        outcome.clone()?;
        self.client()
            .ok_or_else(|| RepositoryError::Unavailable("there is no connection".to_owned()))
    }

    async fn connect(&self) -> Result<()> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.new_client());
        let client = connecting.await.unwrap_or_else(|_| {
            let text = format!("no connection to {} in {CONNECT_TIMEOUT:?}", self.place());
            Err(RepositoryError::Unavailable(text))
        })?;
        self.0.client.store(Some(Arc::new(client)));
        Ok(())
    }

    async fn new_client(&self) -> Result<FirestoreDb> {
        let Shared {
            config,
            credentials,
            ..
        } = &*self.0;
        let mut options = FirestoreDbOptions::new(config.project.clone())
            .with_database_id(config.database.clone())
            // Retries belong to those who know how long there is time for them.
            .with_max_retries(0)
            .with_request_timeout(REQUEST_TIMEOUT);
        // Said whichever it is: otherwise the client would read the environment.
        options.firebase_api_url = Some(match &config.emulator {
            Some(address) => format!("http://{address}"),
            None => PRODUCTION.to_owned(),
        });
        let client = match credentials {
            None => FirestoreDb::with_options_auth(options, Emulated::credentials()).await,
            Some(credentials) => {
                // TLS takes the process's provider; one that is there already will do.
                let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
                // Asked first, for the error that says what is wrong.
                let bearer = credentials.bearer().await;
                bearer.map_err(|error| RepositoryError::Unavailable(error.to_string()))?;
                FirestoreDb::with_options_auth(options, credentials.for_client()).await
            }
        };
        match client {
            Ok(client) => Ok(client),
            Err(error) => {
                let why = self.why_not(&error).await;
                let text = format!("no connection to {}: {why}", self.place());
                Err(RepositoryError::Unavailable(text))
            }
        }
    }

    /// Why there is no connection. The client says `transport error`, whatever
    /// it is, so one more is tried.
    async fn why_not(&self, error: &FirestoreError) -> String {
        let address = match &self.0.config.emulator {
            Some(address) => address.as_str(),
            None => PRODUCTION_ADDRESS,
        };
        match TcpStream::connect(address).await {
            Ok(_) => error::cause(error),
            Err(error) => error.to_string(),
        }
    }

    fn place(&self) -> String {
        match &self.0.config.emulator {
            Some(address) => format!("the Firestore emulator at {address}"),
            None => "Firestore".to_owned(),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.0.config).finish()
    }
}

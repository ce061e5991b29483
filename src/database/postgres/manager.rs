//! The two pools, and what goes through them.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use rustls::ClientConfig;
use sqlx::Connection as _;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, Postgres};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::Client;

use super::Unavailable;
use super::connect::{self, Connector, CurrentPassword};
use super::gateway::Gateway;
use super::gauges::Gauges;
use super::grant;
use super::password::{AccessToken, FixedPassword, Passwords};
use super::schema::{self, NotReady, SchemaState};
use super::tls;
use crate::cause::chain;
use crate::database::config::{Config, Login};
use crate::database::server::{InvalidServer, Server};

/// A connection for statements that the compiler checks; `&mut *connection`
/// executes them.
pub type Queries = PoolConnection<Postgres>;

/// A connection for batches of usage.
pub type Ingest = deadpool_postgres::Object;

/// How long to wait for a connection before asking what keeps it.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long migrating may take, with waiting for others that do.
const MIGRATION: Duration = Duration::from_mins(10);

/// How often a login is tried again when the password was changed meanwhile.
const LOGINS: usize = 3;

/// Owns every connection to PostgreSQL. Clones share them.
#[derive(Clone)]
pub struct DatabaseManager(Arc<Inner>);

struct Inner {
    config: Config,
    queries: PgPool,
    ingest: Pool,
    passwords: Box<dyn Passwords>,
    password: CurrentPassword,
    _gateway: Option<Gateway>,
    /// Whether the schema was found to be right, and nothing failed since.
    ready: AtomicBool,
}

impl DatabaseManager {
    /// Both pools, with no connection in them yet. Has to be called in a
    /// runtime, which then closes what is idle. Reads the root certificate.
    pub fn postgres(server: &Server, config: &Config) -> Result<Self, InvalidServer> {
        match config.login {
            Login::Password => {
                let password = FixedPassword(server.password.clone());
                Self::with_passwords(server, config, password)
            }
            Login::Iam => Self::with_passwords(server, config, AccessToken::default()),
        }
    }

    /// As [`postgres`](Self::postgres), with passwords from elsewhere.
    pub fn with_passwords(
        server: &Server,
        config: &Config,
        passwords: impl Passwords,
    ) -> Result<Self, InvalidServer> {
        server.check(config.login)?;
        let password = CurrentPassword::default();
        let tls = tls::client_config(server).map_err(|error| {
            let path = server.ssl_root_cert.as_deref().unwrap_or("".as_ref());
            InvalidServer::new(format!("the root certificate {}: {error}", path.display()))
        })?;
        let verifies = server.trusted_root().is_some();
        let gateway = verifies.then(|| Gateway::open(server, tls.clone(), config.connect_timeout));
        let gateway = gateway.transpose().map_err(|error| {
            InvalidServer::new(format!(
                "no socket can be made for its connections: {error}"
            ))
        })?;
        let queries = server.max_connections / 2;
        let ingest = server.max_connections - queries;
        Ok(Self(Arc::new(Inner {
            config: config.clone(),
            queries: query_pool(server, config, queries, gateway.as_ref()),
            ingest: ingest_pool(server, config, ingest as usize, tls, &password)?,
            _gateway: gateway,
            passwords: Box::new(passwords),
            password,
            ready: AtomicBool::new(false),
        })))
    }

    /// A connection for reports, migrations, and whatever else is not ingest.
    /// Fails within `connect_timeout`, with the cause.
    pub async fn queries(&self) -> Result<Queries, Unavailable> {
        self.logged_in(|| self.open_query()).await
    }

    /// A connection for batches of usage; reports never take one. Fails within
    /// `connect_timeout`, with the cause.
    pub async fn ingest(&self) -> Result<Ingest, Unavailable> {
        self.logged_in(|| self.open_ingest()).await
    }

    /// Whether the server answers, and if not, why.
    pub async fn health(&self) -> Result<(), Unavailable> {
        let mut connection = self.queries().await?;
        if let Ok(answer) = timeout(self.0.config.connect_timeout, connection.ping()).await {
            return Ok(answer?);
        }
        drop(connection.detach());
        Err(no_answer())
    }

    /// What stands in the database. Changes nothing.
    pub async fn schema_state(&self) -> Result<SchemaState, Unavailable> {
        self.schema_seen_by(&*self.ingest().await?).await
    }

    async fn schema_seen_by(&self, client: &Client) -> Result<SchemaState, Unavailable> {
        let patience = self.0.config.statement_timeout;
        let seen = timeout(patience, schema::seen_by(client)).await;
        seen.unwrap_or_else(|_| Err(no_answer()))
    }

    /// Brings the schema up to date, and says how many migrations it lacked. Of
    /// several processes that do so at once, one does the work and the others
    /// wait for it. Roles that may run edges may run this build's then.
    pub async fn migrate(&self) -> Result<usize, NotReady> {
        // Used for this alone: what is not finished, and the lock on the others,
        // end with the connection.
        let mut connection = self.queries().await?.detach();
        let migrate = async {
            let seen = schema::state(&mut connection).await?;
            if seen != SchemaState::Current {
                schema::migrate(&mut connection).await?;
            }
            grant::again(&mut connection).await?;
            match seen {
                SchemaState::Behind(missing) => Ok(missing),
                _ => Ok(0),
            }
        };
        let migrated = timeout(MIGRATION, migrate).await;
        migrated.unwrap_or_else(|_| Err(no_answer().into()))
    }

    /// Lets `role` run edges, with no more than that takes, and after later
    /// migrations as well. To be called by the owner of the tables, after migrating.
    pub async fn grant(&self, role: &str) -> Result<(), Unavailable> {
        grant::to(role, &mut *self.queries().await?).await
    }

    /// Whether usage can be kept: the server answers and the schema is this
    /// build's, migrated first if `migrate_at_start` says so.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.ready_ingest().await.map(drop)
    }

    /// A connection for a batch, to a database that is [ready](Self::ready) for
    /// it. That is asked once, and again after every [doubt](Self::doubt).
    pub async fn ready_ingest(&self) -> Result<Ingest, NotReady> {
        let connection = self.ingest().await?;
        if !self.0.ready.load(Ordering::Relaxed) {
            self.prepare(&connection).await?;
            self.0.ready.store(true, Ordering::Relaxed);
        }
        Ok(connection)
    }

    /// After a failure: there may be another server now. It is asked again
    /// whether it is ready, over new connections.
    pub fn doubt(&self) {
        self.0.ready.store(false, Ordering::Relaxed);
        self.0.ingest.retain(|_, _| false);
    }

    async fn prepare(&self, client: &Client) -> Result<(), NotReady> {
        let mut seen = self.schema_seen_by(client).await?;
        if matches!(seen, SchemaState::Behind(_)) && self.0.config.migrate_at_start {
            self.migrate().await?;
            seen = self.schema_seen_by(client).await?;
        }
        match seen {
            SchemaState::Current => Ok(()),
            SchemaState::Behind(missing) => Err(NotReady::Behind(missing)),
            SchemaState::Ahead { found } => Err(NotReady::Ahead {
                found,
                known: schema::known(),
            }),
            SchemaState::Changed { version } => Err(NotReady::Changed { version }),
        }
    }

    /// How long a batch may take.
    pub fn statement_timeout(&self) -> Duration {
        self.0.config.statement_timeout
    }

    /// Closes idle connections and tells of the others in the metrics, for as
    /// long as it is polled.
    pub async fn keep(&self) {
        let gauges = Gauges::new();
        let mut beats = interval(self.0.config.idle_timeout / 2);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            self.close_idle();
            gauges
                .queries
                .set(self.0.queries.size() as usize, self.0.queries.num_idle());
            let ingest = self.0.ingest.status();
            gauges.ingest.set(ingest.size, ingest.available);
        }
    }

    /// The sqlx pool does so by itself.
    fn close_idle(&self) {
        let idle_timeout = self.0.config.idle_timeout;
        let fresh = |_: &_, metrics: deadpool_postgres::Metrics| metrics.last_used() < idle_timeout;
        self.0.ingest.retain(fresh);
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.0.ingest.close();
        self.0.queries.close().await;
    }

    /// Opens with the password of now. A password may be changed between being
    /// asked for and being used: then it is another one when asked for again.
    async fn logged_in<T, F>(&self, open: impl Fn() -> F) -> Result<T, Unavailable>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        self.renew_password().await?;
        let mut tried = 1;
        loop {
            match open().await {
                Ok(connection) => return Ok(connection),
                Err(failed) => {
                    let again = failed.is_of_the_password && tried < LOGINS;
                    if !(again && self.renew_password().await?) {
                        return Err(failed.cause);
                    }
                    tried += 1;
                }
            }
        }
    }

    async fn open_query(&self) -> Result<Queries, Failed> {
        let mut acquire = pin!(self.0.queries.acquire());
        // sqlx goes on trying where the server is not there, and does not tell
        // why it gave up; nor does a gateway that leads nowhere.
        let acquired = match timeout(PATIENCE, &mut acquire).await {
            Ok(Err(sqlx::Error::Io(error))) => match self.why_not().await {
                Some(failed) => return Err(failed),
                None => Err(sqlx::Error::Io(error)),
            },
            Ok(acquired) => acquired,
            Err(_) => match self.why_not().await {
                Some(failed) => return Err(failed),
                None => acquire.await,
            },
        };
        Ok(acquired?)
    }

    async fn open_ingest(&self) -> Result<Ingest, Failed> {
        Ok(self.0.ingest.get().await?)
    }

    /// Whether there is another one than before.
    async fn renew_password(&self) -> Result<bool, Unavailable> {
        let password = self.0.passwords.password().await?;
        if self.0.password.load().as_deref() == password.as_ref() {
            return Ok(false);
        }
        let pool = &self.0.queries;
        let options = PgConnectOptions::clone(&pool.connect_options());
        let plain = password.as_ref().map_or("", |password| password.expose());
        pool.set_connect_options(options.password(plain));
        self.0.password.store(password.map(Arc::new));
        Ok(true)
    }

    /// Why no connection can be opened: the other pool tells. `None` when one
    /// can, or when that pool has none to spare either.
    async fn why_not(&self) -> Option<Failed> {
        let opened = self.0.ingest.get().await;
        let failed = opened.err().map(Failed::from);
        failed.filter(|failed| !failed.is_of_the_pool)
    }
}

impl fmt::Debug for DatabaseManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseManager")
    }
}

fn query_pool(server: &Server, config: &Config, size: u32, gateway: Option<&Gateway>) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(config.connect_timeout)
        .idle_timeout(config.idle_timeout)
        .connect_lazy_with(connect::query_options(server, gateway))
}

fn ingest_pool(
    server: &Server,
    config: &Config,
    size: usize,
    tls: ClientConfig,
    password: &CurrentPassword,
) -> Result<Pool, InvalidServer> {
    let connector = Connector::new(tls, Arc::clone(password));
    let manager = Manager::from_connect(
        connect::ingest_config(server, config.connect_timeout),
        connector,
        ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        },
    );
    Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(config.connect_timeout))
        .create_timeout(Some(config.connect_timeout))
        .recycle_timeout(Some(config.connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| InvalidServer::new(error.to_string()))
}

fn no_answer() -> Unavailable {
    Unavailable("the server takes connections and does not answer".to_owned())
}

/// Why a connection was not opened.
struct Failed {
    cause: Unavailable,
    is_of_the_password: bool,
    /// Nothing is wrong with the server: all connections are in use.
    is_of_the_pool: bool,
}

impl Failed {
    fn other(cause: Unavailable) -> Self {
        Self {
            cause,
            is_of_the_password: false,
            is_of_the_pool: false,
        }
    }

    fn all_in_use(pool: &str) -> Self {
        Self {
            is_of_the_pool: true,
            ..Self::other(Unavailable(format!(
                "every connection for {pool} is in use"
            )))
        }
    }
}

/// SQLSTATE `invalid_password`, and what a server without passwords says.
fn is_of_the_password(code: &str) -> bool {
    matches!(code, "28P01" | "28000")
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::all_in_use("queries");
        }
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        Self {
            is_of_the_password: code.is_some_and(|code| is_of_the_password(&code)),
            ..Self::other(error.into())
        }
    }
}

impl From<PoolError> for Failed {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self {
                is_of_the_password: error
                    .code()
                    .is_some_and(|code| is_of_the_password(code.code())),
                ..Self::other(error.into())
            },
            PoolError::Timeout(TimeoutType::Wait) => Self::all_in_use("ingest"),
            PoolError::Timeout(_) => Self::other(no_answer()),
            other => Self::other(Unavailable(chain(&other))),
        }
    }
}

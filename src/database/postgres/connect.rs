//! How both pools open a connection: to the same server, in the same way.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use deadpool_postgres::{ConfigConnectImpl, Connect};
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::gateway::Gateway;
use crate::database::server::{Server, SslMode};
use crate::secret::Secret;

/// How we are told from others in `pg_stat_activity`.
const APPLICATION: &str = "cypheron-edge";

/// The password of the next connection of either pool.
pub(super) type CurrentPassword = Arc<ArcSwapOption<Secret<String>>>;

/// Opens the connections of the ingest pool.
pub(super) struct Connector {
    open: ConfigConnectImpl<MakeRustlsConnect>,
    password: CurrentPassword,
}

impl Connector {
    pub(super) fn new(tls: ClientConfig, password: CurrentPassword) -> Self {
        let tls = MakeRustlsConnect::new(tls);
        let open = ConfigConnectImpl { tls };
        Self { open, password }
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        config: &tokio_postgres::Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let mut config = config.clone();
        if let Some(password) = &*self.password.load() {
            config.password(password.expose());
        }
        self.open.connect(&config)
    }
}

/// For tokio-postgres, without the password.
pub(super) fn ingest_config(server: &Server, timeout: Duration) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    match server.socket() {
        Some(directory) => config.host_path(directory),
        None => config.host(&server.host),
    };
    config
        .port(server.port)
        .user(&server.user)
        .dbname(&server.database)
        .application_name(APPLICATION)
        .connect_timeout(timeout)
        .ssl_mode(match server.effective_ssl_mode() {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                tokio_postgres::config::SslMode::Require
            }
        });
    config
}

/// For sqlx, without the password; through a gateway where there is one.
/// Whatever libpq's variables say, which sqlx reads, is overwritten.
pub(super) fn query_options(server: &Server, gateway: Option<&Gateway>) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .port(server.port)
        .username(&server.user)
        .password("")
        .database(&server.database)
        .application_name(APPLICATION)
        .ssl_mode(match server.effective_ssl_mode() {
            _ if gateway.is_some() => PgSslMode::Disable,
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => PgSslMode::Require,
        });
    match gateway.map(Gateway::directory).or(server.socket()) {
        Some(directory) => options.socket(directory),
        None => options.host(&server.host),
    }
}

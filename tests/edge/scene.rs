//! An edge under load whose usage goes to a PostgreSQL of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::{self, Connection};
use crate::postgres_server::TestServer;
use crate::process::{Deployment, Edge, eventually};
use crate::relay::Relay;
use crate::upstream::Upstream;

const CLIENTS: usize = 2;

/// An edge, its upstream and its database, on a server of its own.
pub struct Scene {
    pub server: TestServer,
    /// The edge's way to the server.
    pub relay: Relay,
    runtime: tokio::runtime::Runtime,
    pub deployment: Deployment,
    pub token: String,
    _upstream: Upstream,
}

/// Clients that go on asking, and insist on being admitted.
pub struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Scene {
    /// `None` where PostgreSQL is not installed.
    pub fn set() -> Option<Self> {
        let server = TestServer::start(&[])?;
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let relay = Relay::to(server.port());
        runtime.block_on(create_database(&server));
        let port = relay.port();
        let url = format!("postgres://edge:edge@127.0.0.1:{port}/usage?sslmode=disable");
        let upstream = Upstream::start();
        let environment = [
            ("DATABASE_URL", url),
            (
                "CYPHERON_EDGE__DATABASE__MIGRATE_AT_START",
                "true".to_owned(),
            ),
        ];
        let deployment = Deployment::in_environment(
            upstream.address,
            "[usage]\nsink = \"postgres\"",
            environment,
        );
        let token = key(&deployment, "client");
        Some(Self {
            server,
            relay,
            runtime,
            deployment,
            token,
            _upstream: upstream,
        })
    }

    /// In what is on the server now. The database has nothing in it.
    pub fn create_database(&self) {
        self.runtime.block_on(create_database(&self.server));
    }

    pub fn execute(&self, database: &str, sql: &str) {
        self.runtime.block_on(self.server.execute(database, sql));
    }

    /// Ends every connection of the edge.
    pub fn disconnect(&self) {
        self.execute(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'edge'",
        );
    }

    pub fn count(&self, sql: &str) -> u64 {
        let row = self.query(&self.server, sql).remove(0);
        u64::try_from(row.get::<_, i64>(0)).unwrap()
    }

    pub fn query(&self, server: &TestServer, sql: &str) -> Vec<tokio_postgres::Row> {
        let url = server.url("usage");
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
                .await
                .unwrap();
            tokio::spawn(connection);
            client.query(sql, &[]).await.unwrap()
        })
    }

    pub fn stored(&self) -> u64 {
        self.count("SELECT count(*) FROM usage_events")
    }

    /// The state that `/readyz` tells: with 200 in any case.
    pub fn state(&self) -> String {
        let response = client::get(self.deployment.health, "/readyz", &[]);
        assert_eq!(response.status, 200);
        response.text()
    }

    pub fn load(&self) -> Load {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let clients = (0..CLIENTS).map(|_| {
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            let (address, token) = (self.deployment.traffic, self.token.clone());
            thread::spawn(move || ask(address, &token, &stop, &seen))
        });
        let clients = clients.collect();
        Load {
            stop,
            seen,
            clients,
        }
    }

    /// Waits until the edge says that its sink is in trouble, and until more
    /// was recorded meanwhile.
    pub fn in_trouble(&self, load: &Load) {
        eventually("the sink is degraded", || {
            self.state().contains(r#""degraded":["usage_sink"]"#)
        });
        let seen = load.seen();
        eventually("clients go on", || load.seen() > seen + 500);
        let before = self.backlog();
        eventually("the backlog is seen to grow", || self.backlog() > before);
    }

    /// In bytes, as the metrics tell it.
    pub fn backlog(&self) -> u64 {
        self.deployment
            .count("cypheron_edge_journal_backlog_bytes", "")
    }

    /// Waits until all is well, ends the load, and waits until everything is in
    /// the server's tables. How many responses there were.
    pub fn recovers(&self, load: Load, stored: impl Fn() -> u64) -> u64 {
        eventually("the sink is well", || {
            self.state().contains(r#""degraded":[]"#)
        });
        let seen = load.end();
        eventually("everything is stored", || stored() >= seen);
        seen
    }

    /// Waits until all is well and counts.
    #[expect(clippy::print_stdout, reason = "the counts are to be seen")]
    pub fn everything_is_there_once(&self, fault: &str, edge: Edge, load: Load) {
        let backlog = self.backlog();
        let seen = self.recovers(load, || self.stored());
        assert_eq!(edge.stop(), Some(0), "{}", self.deployment.log_text());
        let stored = self.stored();
        let different = self.count("SELECT count(DISTINCT event_id) FROM usage_events");
        let summed = self.count("SELECT sum(requests)::bigint FROM usage_hourly");
        println!(
            "{fault}: backlog {backlog} bytes, responses {seen}, rows {stored}, \
             different events {different}, in the sums {summed}"
        );
        assert_eq!((stored, different, summed), (seen, seen, seen), "{fault}");
        self.deployment
            .ok(&["usage", "verify", "--dead-after", "0s"]);
    }
}

/// The token of a key that is never too fast.
pub fn key(deployment: &Deployment, name: &str) -> String {
    deployment.key(name, &["--rate-limit", "100000000"])
}

async fn create_database(server: &TestServer) {
    // Not a superuser: limits and read-only databases are for the others.
    let role = "CREATE ROLE edge LOGIN PASSWORD 'edge'";
    let database = "CREATE DATABASE usage OWNER edge";
    for statement in [role, database] {
        server.execute("postgres", statement).await;
    }
}

fn ask(address: SocketAddr, token: &str, stop: &AtomicBool, seen: &AtomicU64) {
    let mut connection = Connection::open(address).unwrap();
    while !stop.load(Ordering::SeqCst) {
        let response = connection.get("/", &[("X-API-Key", token)]).unwrap();
        assert_eq!(response.status, 200);
        seen.fetch_add(1, Ordering::SeqCst);
        // Enough to see, and little for a machine that does other work.
        thread::sleep(Duration::from_millis(1));
    }
}

impl Load {
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// How many responses there were.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().unwrap();
        }
        self.seen.load(Ordering::SeqCst)
    }
}

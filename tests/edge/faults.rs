//! PostgreSQL in trouble: clients notice nothing, and afterwards it holds
//! exactly the set of events.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::{self, Connection};
use crate::postgres_server::TestServer;
use crate::process::{Deployment, Edge, eventually};
use crate::upstream::Upstream;

const CLIENTS: usize = 2;

/// An edge, its upstream and its database, on a server of its own.
struct Scene {
    server: TestServer,
    runtime: tokio::runtime::Runtime,
    deployment: Deployment,
    token: String,
    _upstream: Upstream,
}

/// Clients that go on asking, and insist on being admitted.
struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Scene {
    /// `None` where PostgreSQL is not installed.
    fn set() -> Option<Self> {
        let server = TestServer::start(&[])?;
        let runtime = tokio::runtime::Runtime::new().unwrap();
        // Not a superuser: limits and read-only databases are for the others.
        let statements = [
            "CREATE ROLE edge LOGIN PASSWORD 'edge'",
            "CREATE DATABASE usage OWNER edge",
        ];
        for statement in statements {
            runtime.block_on(server.execute("postgres", statement));
        }
        let port = server.port();
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
        let token = deployment.key("client", &["--rate-limit", "100000000"]);
        Some(Self {
            server,
            runtime,
            deployment,
            token,
            _upstream: upstream,
        })
    }

    fn execute(&self, database: &str, sql: &str) {
        self.runtime.block_on(self.server.execute(database, sql));
    }

    /// Ends every connection of the edge.
    fn disconnect(&self) {
        self.execute(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'edge'",
        );
    }

    fn count(&self, sql: &str) -> u64 {
        let url = self.server.url("usage");
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
                .await
                .unwrap();
            tokio::spawn(connection);
            let row = client.query_one(sql, &[]).await.unwrap();
            u64::try_from(row.get::<_, i64>(0)).unwrap()
        })
    }

    fn stored(&self) -> u64 {
        self.count("SELECT count(*) FROM usage_events")
    }

    /// The state that `/readyz` tells: with 200 in any case.
    fn state(&self) -> String {
        let response = client::get(self.deployment.health, "/readyz", &[]);
        assert_eq!(response.status, 200);
        response.text()
    }

    fn load(&self) -> Load {
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
    fn in_trouble(&self, load: &Load) {
        eventually("the sink is degraded", || {
            self.state().contains(r#""degraded":["usage_sink"]"#)
        });
        let seen = load.seen();
        eventually("clients go on", || load.seen() > seen + 500);
        let before = self.backlog();
        eventually("the backlog is seen to grow", || self.backlog() > before);
    }

    /// In bytes, as the metrics tell it.
    fn backlog(&self) -> u64 {
        self.deployment
            .count("cypheron_edge_journal_backlog_bytes", "")
    }

    /// Waits until all is well and counts.
    #[expect(clippy::print_stdout, reason = "the counts are to be seen")]
    fn everything_is_there_once(&self, fault: &str, edge: Edge, load: Load) {
        let backlog = self.backlog();
        eventually("the sink is well", || {
            self.state().contains(r#""degraded":[]"#)
        });
        let seen = load.end();
        eventually("everything is stored", || self.stored() >= seen);
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

fn ask(address: std::net::SocketAddr, token: &str, stop: &AtomicBool, seen: &AtomicU64) {
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
    fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// How many responses there were.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().unwrap();
        }
        self.seen.load(Ordering::SeqCst)
    }
}

#[test]
fn a_database_that_is_down_at_the_start_gets_everything_later() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    scene.server.stop();
    let edge = scene.deployment.serve();
    let load = scene.load();
    scene.in_trouble(&load);
    scene.server.restart();
    scene.everything_is_there_once("down at the start", edge, load);
}

#[test]
fn a_database_that_goes_down_under_load_gets_everything_once() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    scene.server.stop();
    scene.in_trouble(&load);
    scene.server.restart();
    scene.everything_is_there_once("down under load", edge, load);
}

#[test]
fn a_database_that_turns_read_only_gets_everything_once() {
    let Some(scene) = Scene::set() else { return };
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    scene.execute(
        "postgres",
        "ALTER DATABASE usage SET default_transaction_read_only = on",
    );
    scene.disconnect();
    scene.in_trouble(&load);
    scene.execute(
        "postgres",
        "ALTER DATABASE usage RESET default_transaction_read_only",
    );
    scene.disconnect();
    scene.everything_is_there_once("read-only", edge, load);
}

#[test]
fn a_database_without_a_free_connection_gets_everything_once() {
    let Some(scene) = Scene::set() else { return };
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    scene.execute("postgres", "ALTER ROLE edge CONNECTION LIMIT 0");
    scene.disconnect();
    scene.in_trouble(&load);
    scene.execute("postgres", "ALTER ROLE edge CONNECTION LIMIT -1");
    scene.everything_is_there_once("no free connection", edge, load);
}

#[test]
fn a_database_that_is_slow_gets_everything_once() {
    let Some(scene) = Scene::set() else { return };
    let edge = scene.deployment.serve();
    let load = scene.load();
    eventually("something is stored", || scene.stored() > 0);
    // No row gets in for as long as this lasts.
    scene.execute(
        "usage",
        "BEGIN; LOCK TABLE usage_events IN EXCLUSIVE MODE; SELECT pg_sleep(2); COMMIT",
    );
    scene.everything_is_there_once("slow", edge, load);
}

#[test]
fn usage_in_postgresql_is_reported_and_followed() {
    let Some(scene) = Scene::set() else { return };
    let edge = scene.deployment.serve();
    let mut command = scene.deployment.command(&["usage", "tail"]);
    let mut tail = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    client::get(
        scene.deployment.traffic,
        "/",
        &[("X-API-Key", &scene.token)],
    );
    let line = lines.next().unwrap().unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(
        line.contains("  client  127.0.0.1  all  GET  200  admitted"),
        "{line}"
    );
    let csv = scene.deployment.ok(&["usage", "report", "--csv"]);
    assert!(csv.contains(",client,all,admitted,1,"), "{csv}");
    assert_eq!(edge.stop(), Some(0));
}

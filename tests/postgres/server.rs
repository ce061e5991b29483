//! A real PostgreSQL, started by the tests, and a database for each of them.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cypheron_edge::database::{Config, DatabaseManager, Server};
use tempfile::TempDir;
use tokio_postgres::NoTls;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/throwaway-postgres");

/// A server of a test's own, to be stopped, killed and started again; or the
/// one that the others share. It ends with this process, however that ends.
pub(crate) struct TestServer {
    directory: TempDir,
    port: u16,
    settings: Vec<String>,
    running: Option<Child>,
    /// Where PostgreSQL's programs are.
    programs: PathBuf,
}

/// A database of one test: empty, or with the schema.
pub(crate) struct TestDatabase {
    pub(crate) url: String,
}

impl TestServer {
    /// Starts a server with settings such as `max_connections=5` over the
    /// usual ones; `None`, having said why, where none is installed.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        Self::start_at(free_port(), settings)
    }

    /// A server with nothing in it, in the place of another one.
    pub(crate) fn start_at(port: u16, settings: &[&str]) -> Option<Self> {
        let mut server = Self::prepare(port, settings);
        server.run().then_some(server)
    }

    /// A server that offers encryption, with this certificate and key (PEM).
    pub(crate) fn start_encrypted(certificate: &str, key: &str) -> Option<Self> {
        let mut server = Self::prepare(free_port(), &[]);
        let mut write = |name: &str, setting: &str, text: &str| {
            let file = server.directory.path().join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            server
                .settings
                .push(format!("{setting}={}", file.display()));
        };
        write("server.pem", "ssl_cert_file", certificate);
        write("server.key", "ssl_key_file", key);
        server.settings.push("ssl=on".to_owned());
        server.run().then_some(server)
    }

    fn prepare(port: u16, settings: &[&str]) -> Self {
        Self {
            directory: tempfile::Builder::new().prefix("pg").tempdir().unwrap(),
            port,
            settings: settings.iter().map(ToString::to_string).collect(),
            running: None,
            programs: PathBuf::new(),
        }
    }

    /// A server that follows this one, reading what it writes.
    pub(crate) fn standby(&self) -> Self {
        let mut standby = Self::prepare(free_port(), &[]);
        let copied = Command::new(self.programs.join("pg_basebackup"))
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
            .args(["--dbname", &self.url("postgres")])
            .arg("--pgdata")
            .arg(standby.directory().join("data"))
            .output()
            .unwrap();
        assert!(
            copied.status.success(),
            "{}",
            String::from_utf8_lossy(&copied.stderr)
        );
        assert!(standby.run(), "PostgreSQL was there and is gone");
        standby
    }

    /// Starts it again, with what it held.
    pub(crate) fn restart(&mut self) {
        self.stop();
        assert!(self.run(), "PostgreSQL was there and is gone");
    }

    /// Ends it at once. What was committed stays.
    pub(crate) fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let mut wishes = running.stdin.take().unwrap();
            wishes.write_all(b"keep\n").unwrap();
            drop(wishes);
            running.wait().unwrap();
        }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Where its socket and its data (`data`) are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let port = self.port;
        format!("postgres://postgres:postgres@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// Runs statements, as the superuser, outside of any transaction.
    pub(crate) async fn execute(&self, database: &str, sql: &str) {
        execute(&self.url(database), sql).await;
    }

    /// A database with nothing in it.
    pub(crate) async fn empty_database(&self) -> TestDatabase {
        self.database("template0").await
    }

    /// A database with the schema in it. Takes longer than [`database`].
    pub(crate) async fn migrated_database(&self) -> TestDatabase {
        let database = self.empty_database().await;
        database.manager().migrate().await.unwrap();
        database
    }

    async fn database(&self, template: &str) -> TestDatabase {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let sql = format!("CREATE DATABASE {name} TEMPLATE {template}");
        self.execute("postgres", &sql).await;
        TestDatabase {
            url: self.url(&name),
        }
    }

    /// Whether it runs now.
    fn run(&mut self) -> bool {
        let mut child = Command::new(SCRIPT)
            .arg(self.directory.path())
            .arg(self.port.to_string())
            .args(&self.settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        if let Some(programs) = line.strip_prefix("ready ") {
            self.programs = programs.trim_end().into();
            self.running = Some(child);
            return true;
        }
        // The script's own way to say that there is none.
        assert_eq!(child.wait().unwrap().code(), Some(3), "PostgreSQL failed");
        skip();
        false
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl TestDatabase {
    /// Both pools over it.
    pub(crate) fn manager(&self) -> DatabaseManager {
        DatabaseManager::postgres(&self.server(), &Config::default()).unwrap()
    }

    pub(crate) fn server(&self) -> Server {
        Server::from_url(&self.url).unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        execute(&self.url, sql).await;
    }

    /// Makes it look as if a later build had been here.
    pub(crate) async fn claim_to_be_newer(&self) {
        self.execute(
            "INSERT INTO _sqlx_migrations \
             (version, description, success, checksum, execution_time) \
             VALUES (9999, 'later', true, '', 0)",
        )
        .await;
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

/// A database with the schema in it, on the server that the tests share;
/// `None` where PostgreSQL is not installed.
pub(crate) async fn database() -> Option<TestDatabase> {
    Some(shared()?.database("with_schema").await)
}

/// The server that the tests share: for what leaves the other tests alone.
pub(crate) fn shared() -> Option<&'static TestServer> {
    static SHARED: OnceLock<Option<TestServer>> = OnceLock::new();
    SHARED.get_or_init(with_template).as_ref()
}

fn with_template() -> Option<TestServer> {
    let server = TestServer::start(&[])?;
    // A thread, because the test that comes first is in a runtime already.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                server
                    .execute("postgres", "CREATE DATABASE with_schema TEMPLATE template0")
                    .await;
                let url = server.url("with_schema");
                let database = TestDatabase { url };
                database.manager().migrate().await.unwrap();
            });
        });
    });
    Some(server)
}

async fn execute(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by the environment what is required"
)]
fn skip() {
    let all = std::env::var("CYPHERON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    let skipped =
        "SKIPPED: PostgreSQL is not installed; get it with: sudo apt-get install -y postgresql\n";
    assert!(!all, "{skipped}");
    // Written so that it is seen even where a test's output is captured.
    std::io::stdout().write_all(skipped.as_bytes()).unwrap();
}

//! A real Firestore emulator, started by the tests, and a project of each
//! test's own in it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use cypheron_edge::clock::Clock;
use cypheron_edge::repository::FirestoreConfig;
use cypheron_edge::repository::firestore::FirestoreApiKeyRepository;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/throwaway-firestore");

/// An emulator of a test's own, to be stopped and started again; or the one
/// that the others share. It ends with this process, however that ends, and
/// keeps nothing.
pub(crate) struct Emulator {
    address: String,
    running: Option<Child>,
}

impl Emulator {
    /// `None`, having said why, where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        Self::start_at(free_port())
    }

    /// One with nothing in it, in the place of another one.
    pub(crate) fn start_at(port: u16) -> Option<Self> {
        let mut emulator = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string(),
            running: None,
        };
        emulator.run().then_some(emulator)
    }

    /// Ends it at once. What it held is gone.
    pub(crate) fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.stdin.take());
            running.wait().unwrap();
        }
    }

    /// Starts it again, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.stop();
        assert!(self.run(), "the emulator was there and is gone");
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A store with nothing in it, apart from every other one.
    pub(crate) fn project(&self) -> FirestoreConfig {
        let project = format!("test-{}", uuid::Uuid::from_u128(random()).simple());
        FirestoreConfig {
            emulator: Some(self.address.clone()),
            ..FirestoreConfig::new(project)
        }
    }

    /// Whether it runs now.
    fn run(&mut self) -> bool {
        let port = self.address.rsplit(':').next().unwrap();
        let mut child = Command::new(SCRIPT)
            .arg(port)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        if line.starts_with("ready") {
            self.running = Some(child);
            return true;
        }
        // The script's own way to say that there is none.
        assert_eq!(child.wait().unwrap().code(), Some(3), "the emulator failed");
        skip();
        false
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop();
    }
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    u128::from_ne_bytes(bytes)
}

/// The emulator that the tests share: that of `FIRESTORE_EMULATOR_HOST`, or one
/// that is started. For what leaves the other tests alone.
pub(crate) fn shared() -> Option<&'static Emulator> {
    static SHARED: OnceLock<Option<Emulator>> = OnceLock::new();
    SHARED.get_or_init(given_or_started).as_ref()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by the environment where the emulator is"
)]
fn given_or_started() -> Option<Emulator> {
    match std::env::var("FIRESTORE_EMULATOR_HOST") {
        Ok(address) if !address.is_empty() => Some(Emulator {
            address,
            running: None,
        }),
        _ => Emulator::start(),
    }
}

/// A store with nothing in it, in the emulator that the tests share.
pub(crate) fn project() -> Option<FirestoreConfig> {
    Some(shared()?.project())
}

/// One handle on a store.
pub(crate) fn open(config: &FirestoreConfig) -> FirestoreApiKeyRepository {
    FirestoreApiKeyRepository::new(config.clone(), Clock::system()).unwrap()
}

pub(crate) fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by the environment what is required"
)]
fn skip() {
    let all = std::env::var("CYPHERON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    let skipped = "SKIPPED: the Firestore emulator is not installed; get it with: gcloud \
                   components install cloud-firestore-emulator, or with Google's packages: sudo \
                   apt-get install -y google-cloud-cli-firestore-emulator (and Java 11 or later)\n";
    assert!(!all, "{skipped}");
    // Written so that it is seen even where a test's output is captured.
    std::io::stdout().write_all(skipped.as_bytes()).unwrap();
}

//! Clients that go on asking, and bear neither a refused connection nor a cut
//! answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crate::process::{Deployment, eventually};

/// So many answers are enough to say that a client goes on.
const SOME: u64 = 30;

pub struct Load {
    stop: Arc<AtomicBool>,
    seen: Vec<Arc<AtomicU64>>,
    clients: Vec<JoinHandle<()>>,
}

/// What one client does: it panics where it is disappointed.
pub type Client = Box<dyn FnOnce(&Task) + Send>;

/// What one client is told.
pub struct Task {
    pub edge: SocketAddr,
    pub token: String,
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
}

impl Task {
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    /// An answer was read to its end.
    pub fn count(&self) {
        self.seen.fetch_add(1, Ordering::SeqCst);
    }
}

impl Load {
    /// Each client has a key of its own, of the name that [`name`] gives.
    pub fn begin(edge: &Deployment, clients: impl IntoIterator<Item = Client>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (clients, seen) = clients
            .into_iter()
            .enumerate()
            .map(|(number, client)| {
                let seen = Arc::default();
                let task = Task {
                    edge: edge.traffic,
                    token: edge.key(&name(number), &["--rate-limit", "100000000"]),
                    stop: Arc::clone(&stop),
                    seen: Arc::clone(&seen),
                };
                (thread::spawn(move || client(&task)), seen)
            })
            .unzip();
        Self {
            stop,
            seen,
            clients,
        }
    }

    fn seen(&self) -> Vec<u64> {
        let seen = self.seen.iter();
        seen.map(|seen| seen.load(Ordering::SeqCst)).collect()
    }

    /// Waits until every client had some more answers.
    pub fn goes_on(&self) {
        let before = self.seen();
        eventually("every client goes on", || {
            assert!(
                !self.clients.iter().any(JoinHandle::is_finished),
                "a client was disappointed"
            );
            let now = self.seen();
            now.iter()
                .zip(&before)
                .all(|(now, before)| *now > before + SOME)
        });
    }

    /// How many answers each client had.
    pub fn end(mut self) -> Vec<u64> {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
        self.seen()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Of a test that failed: nobody is to go on.
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Of the key of client `number`.
pub fn name(number: usize) -> String {
    format!("client-{number}")
}

//! An upstream application: one thread a connection, answers `200` with the
//! request line and the headers it saw; `/slow` answers when told to, and the
//! answer to `/stream` never ends. Who asks for a WebSocket hears what he says.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: AtomicU64,
    released: Mutex<bool>,
    release: Condvar,
    stopped: AtomicBool,
}

impl Upstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let serving = Arc::clone(&serving);
                // A peer that goes away ends its connection, nothing else.
                thread::spawn(move || serving.serve(&stream).ok());
            }
        });
        Self { address, shared }
    }

    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Lets every waiting and coming `/slow` go.
    pub fn release(&self) {
        *self
            .shared
            .released
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.release.notify_all();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.release();
        TcpStream::connect(self.address).ok();
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head)? == 0 {
                    return Ok(());
                }
            }
            self.requests.fetch_add(1, Ordering::SeqCst);
            if head.starts_with("GET /slow") {
                let released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
                drop(self.release.wait_while(released, |released| !*released));
            }
            let mut writer = stream;
            if head.to_lowercase().contains("\r\nupgrade: websocket\r\n") {
                let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                                Upgrade: websocket\r\n\r\n";
                writer.write_all(switched.as_bytes())?;
                std::io::copy(&mut reader, &mut writer)?;
                return Ok(());
            }
            if head.starts_with("GET /stream") {
                let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbegun\n\r\n";
                writer.write_all(begun.as_bytes())?;
                // Its client says no more, and leaves.
                std::io::copy(&mut reader, &mut std::io::sink())?;
                return Ok(());
            }
            write!(
                writer,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{head}",
                head.len()
            )?;
        }
    }
}

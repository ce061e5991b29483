//! The last server of a chain: records every request that it can read, strictly,
//! and every fault that it finds.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::strict::{self, Request};

/// What a connection brought.
pub(crate) type Seen = Result<Request, String>;

/// An answer, byte for byte, and whether the connection ends with it.
pub(crate) type Answer = (Vec<u8>, bool);

pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    /// By target; any other is answered with what was asked.
    answers: HashMap<String, Answer>,
    stopped: AtomicBool,
}

impl Origin {
    pub(crate) fn start(answers: HashMap<String, Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            answers,
            stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let serving = Arc::clone(&serving);
                thread::spawn(move || serving.serve(stream).ok());
            }
        });
        Self { address, shared }
    }

    /// What was seen since this was last asked.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.shared.seen())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok();
    }
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut bytes = Vec::new();
        let mut block = [0; 16 * 1024];
        loop {
            match strict::first(&bytes) {
                Ok(None) => {
                    let count = stream.read(&mut block)?;
                    if count == 0 {
                        return Ok(());
                    }
                    bytes.extend_from_slice(&block[..count]);
                }
                Ok(Some((request, length))) => {
                    bytes.drain(..length);
                    let last = request.all("connection").contains(&"close");
                    let (answer, closes) = self.answer(&request);
                    self.seen().push(Ok(request));
                    stream.write_all(&answer)?;
                    if closes || last {
                        return Ok(());
                    }
                }
                Err(fault) => {
                    self.seen().push(Err(fault));
                    return stream.write_all(b"HTTP/1.1 599 Fault\r\nContent-Length: 0\r\n\r\n");
                }
            }
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        if let Some(answer) = self.answers.get(&request.target) {
            return answer.clone();
        }
        let mut body = echo(request).into_bytes();
        let length = body.len();
        if request.method == "HEAD" {
            body.clear();
        }
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        answer.extend(body);
        (answer, false)
    }
}

/// What is answered, so that an answer to another request is found out.
pub(crate) fn echo(request: &Request) -> String {
    let length = request.body.len();
    format!("{} {} {length}", request.method, request.target)
}

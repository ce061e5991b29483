//! What lies between an edge and its store, and can be told to misbehave.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::grpc::{self, Status};

/// Between two looks at what it is told.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Nobody listens, and connections there were are closed.
    Refuse,
    /// Connections are accepted and kept, and nothing is passed on. Whatever
    /// was on its way goes on when that is over.
    Silent,
    /// Every call is answered with this status.
    Answer(Status),
}

pub struct Relay {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    store: String,
    state: Mutex<State>,
}

struct State {
    mode: Mode,
    open: Vec<TcpStream>,
    ended: bool,
}

impl Relay {
    /// To the store at `HOST:PORT`.
    pub fn to(store: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            address,
            store: store.to_owned(),
            state: Mutex::new(State {
                mode: Mode::Pass,
                open: Vec::new(),
                ended: false,
            }),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(Some(listener)));
        Self { address, shared }
    }

    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.state();
        let before = std::mem::replace(&mut state.mode, mode);
        let keeps = |mode| matches!(mode, Mode::Pass | Mode::Silent);
        if !(keeps(before) && keeps(mode)) {
            state.cut();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ended = true;
        state.cut();
    }
}

impl State {
    fn cut(&mut self) {
        for stream in self.open.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when it is over.
    fn mode(&self) -> Option<Mode> {
        let state = self.state();
        (!state.ended).then_some(state.mode)
    }

    fn accept(self: Arc<Self>, mut listener: Option<TcpListener>) {
        while let Some(mode) = self.mode() {
            if mode == Mode::Refuse {
                listener = None;
            } else if let Ok((stream, _)) = self.listening(&mut listener).accept() {
                let shared = Arc::clone(&self);
                // A connection that fails ends, nothing else.
                thread::spawn(move || shared.serve(stream).ok());
                continue;
            }
            thread::sleep(LOOK);
        }
    }

    fn listening<'a>(&self, listener: &'a mut Option<TcpListener>) -> &'a TcpListener {
        let listener = listener.get_or_insert_with(|| TcpListener::bind(self.address).unwrap());
        listener.set_nonblocking(true).unwrap();
        listener
    }

    fn serve(self: Arc<Self>, client: TcpStream) -> io::Result<()> {
        client.set_nonblocking(false)?;
        client.set_nodelay(true)?;
        self.keep(&client)?;
        match self.mode() {
            Some(Mode::Answer(status)) => return grpc::answer(&client, status),
            Some(Mode::Pass | Mode::Silent) => {}
            // It got in just before.
            Some(Mode::Refuse) | None => return Ok(()),
        }
        let store = TcpStream::connect(&self.store)?;
        store.set_nodelay(true)?;
        self.keep(&store)?;
        let (from_store, to_client) = (store.try_clone()?, client.try_clone()?);
        let back = Arc::clone(&self);
        thread::spawn(move || back.copy(from_store, to_client).ok());
        self.copy(client, store)
    }

    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        self.state().open.push(stream.try_clone()?);
        Ok(())
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
        from.set_read_timeout(Some(LOOK))?;
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => 0,
                Err(error) => return Err(error),
            };
            while self.mode() == Some(Mode::Silent) {
                thread::sleep(LOOK);
            }
            to.write_all(&buffer[..read])?;
        }
        to.shutdown(Shutdown::Write)
    }
}

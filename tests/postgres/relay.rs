//! A way to a server that a test can stop at any message of the protocol.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

/// Carries every connection to the server on another port.
pub(crate) struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

/// What becomes of the message that was waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does not arrive, and its connection ends.
    Lost,
    /// It waits for [`Relay::release`].
    Held,
}

/// A message as it is on the wire.
pub(crate) struct Message {
    pub(crate) from_client: bool,
    /// 0 for the first one, which has no type.
    kind: u8,
    bytes: Vec<u8>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    target: u16,
    plan: Option<Plan>,
    /// Messages that wait, wait until this changes.
    releases: u64,
    deaf: bool,
    reached: bool,
    open: Vec<TcpStream>,
}

struct Plan {
    after: usize,
    of: fn(&Message) -> bool,
    fate: Fate,
}

impl Message {
    /// The last of those that are sent at once: the other side is waited for.
    pub(crate) fn ends_a_turn(&self) -> bool {
        if self.from_client {
            matches!(self.kind, 0 | b'p' | b'Q' | b'S')
        } else {
            matches!(self.kind, b'R' | b'Z')
        }
    }

    pub(crate) fn says(&self, text: &str) -> bool {
        let mut windows = self.bytes.windows(text.len());
        windows.any(|window| window == text.as_bytes())
    }

    fn read(from: &mut impl Read, from_client: bool, first: bool) -> io::Result<Self> {
        let mut bytes = vec![0; if first { 4 } else { 5 }];
        from.read_exact(&mut bytes)?;
        let kind = if first { 0 } else { bytes[0] };
        let length: [u8; 4] = bytes[bytes.len() - 4..].try_into().unwrap();
        let begun = bytes.len();
        // The length has itself in it.
        bytes.resize(begun + u32::from_be_bytes(length) as usize - 4, 0);
        from.read_exact(&mut bytes[begun..])?;
        Ok(Self {
            from_client,
            kind,
            bytes,
        })
    }
}

impl Relay {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                target,
                plan: None,
                releases: 0,
                deaf: false,
                reached: false,
                open: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || shared.carry(&client.unwrap()));
            }
        });
        Self { port, shared }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// From here on another server is at this address.
    pub(crate) fn lead_to(&self, target: u16) {
        self.shared.lock().target = target;
        self.cut();
    }

    /// Ends every connection.
    pub(crate) fn cut(&self) {
        for stream in self.shared.lock().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The `nth` such message from now on, counted from 1, has this fate.
    pub(crate) fn arm(&self, nth: usize, of: fn(&Message) -> bool, fate: Fate) {
        let mut state = self.shared.lock();
        state.reached = false;
        state.plan = Some(Plan {
            after: nth,
            of,
            fate,
        });
    }

    pub(crate) fn disarm(&self) {
        self.shared.lock().plan = None;
    }

    /// Whether the message came.
    pub(crate) fn reached(&self) -> bool {
        self.shared.lock().reached
    }

    /// Lets what waits go on, if there still is somebody to receive it.
    pub(crate) fn release(&self) {
        self.shared.lock().releases += 1;
        self.shared.changed.notify_all();
    }

    /// Connections are taken and nothing is answered, until they are
    /// [released](Self::release): then all that was said arrives.
    pub(crate) fn be_deaf(&self, deaf: bool) {
        self.shared.lock().deaf = deaf;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn carry(&self, client: &TcpStream) {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, self.lock().target));
        let Ok(server) = TcpStream::connect(target) else {
            return;
        };
        for stream in [client, &server] {
            stream.set_nodelay(true).unwrap();
            let stream = stream.try_clone().unwrap();
            self.lock().open.push(stream);
        }
        thread::scope(|scope| {
            scope.spawn(|| self.carry_messages(client, &server, true));
            self.carry_messages(&server, client, false);
        });
    }

    /// Until one side is gone, or a message is lost: then both are.
    fn carry_messages(&self, mut from: &TcpStream, mut to: &TcpStream, from_client: bool) {
        let mut first = from_client;
        while let Ok(message) = Message::read(&mut from, from_client, first) {
            first = false;
            if self.is_lost(&message) || to.write_all(&message.bytes).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn is_lost(&self, message: &Message) -> bool {
        let mut state = self.lock();
        if state.deaf {
            self.wait(state);
            return false;
        }
        let Some(plan) = &mut state.plan else {
            return false;
        };
        if !(plan.of)(message) {
            return false;
        }
        plan.after -= 1;
        if plan.after > 0 {
            return false;
        }
        let fate = plan.fate;
        state.plan = None;
        state.reached = true;
        if fate == Fate::Held {
            self.wait(state);
        }
        fate == Fate::Lost
    }

    fn wait(&self, mut state: MutexGuard<'_, State>) {
        let releases = state.releases;
        while state.releases == releases {
            state = self.changed.wait(state).unwrap();
        }
    }
}

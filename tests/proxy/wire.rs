//! HTTP/1.1 as it is on the wire, for both ends: what is sent and what comes,
//! byte for byte.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);

/// One end of a connection.
pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let read = Vec::new();
        Self { stream, read }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// As [`send`](Self::send), to a peer that may be gone.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Everything up to and with `end`.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            let at = self
                .read
                .windows(end.len())
                .position(|window| window == end.as_bytes());
            if let Some(at) = at {
                let rest = self.read.split_off(at + end.len());
                return text(&std::mem::replace(&mut self.read, rest));
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
            let so_far = text(&self.read);
            let read = read.unwrap_or_else(|_| panic!("no {end:?} in {so_far:?}"));
            assert_ne!(read.unwrap(), 0, "closed after {so_far:?}");
        }
    }

    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
            assert_ne!(read.unwrap().unwrap(), 0, "closed too early");
        }
        let rest = self.read.split_off(count);
        std::mem::replace(&mut self.read, rest)
    }

    /// A head, and a body of its `content-length` or `chunked` coding.
    pub(crate) async fn message(&mut self) -> String {
        let head = self.head().await;
        let length = field(&head, "content-length").map(|length| length.parse().unwrap());
        let body = if let Some(length) = length {
            text(&self.bytes(length).await)
        } else if head.contains("transfer-encoding: chunked") {
            self.until("0\r\n\r\n").await
        } else {
            String::new()
        };
        head + &body
    }

    /// The next [`message`](Self::message), or `None` when the other end closed.
    async fn next(&mut self) -> Option<String> {
        if self.read.is_empty() && self.stream.read_buf(&mut self.read).await.ok()? == 0 {
            return None;
        }
        Some(self.message().await)
    }

    /// Everything until the other end closes; a reset is one way to.
    pub(crate) async fn rest(&mut self) -> String {
        let reading = async {
            while self
                .stream
                .read_buf(&mut self.read)
                .await
                .is_ok_and(|read| read > 0)
            {}
        };
        timeout(PATIENCE, reading).await.unwrap();
        text(&std::mem::take(&mut self.read))
    }

    /// What comes next, or `None` when the other end closed.
    pub(crate) async fn some(&mut self) -> Option<Vec<u8>> {
        if self.read.is_empty() && self.stream.read_buf(&mut self.read).await.ok()? == 0 {
            return None;
        }
        Some(std::mem::take(&mut self.read))
    }

    /// Sends all of it while as much is read.
    pub(crate) async fn send_and_hear(&mut self, said: Vec<u8>) -> Vec<u8> {
        let hear = said.len();
        self.send_while(&said, hear, || ()).await
    }

    /// Sends all of it while so much is read, which is told when it is.
    pub(crate) async fn send_while(
        &mut self,
        said: &[u8],
        hear: usize,
        heard_all: impl FnOnce(),
    ) -> Vec<u8> {
        let mut heard = vec![0; hear];
        let (mut reader, mut writer) = self.stream.split();
        let hearing = async {
            let read = timeout(PATIENCE * 4, reader.read_exact(&mut heard)).await;
            read.unwrap().unwrap();
            heard_all();
        };
        let (sent, ()) = tokio::join!(writer.write_all(said), hearing);
        sent.unwrap();
        heard
    }

    /// Says that nothing more is sent.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The other end sends nothing more.
    pub(crate) async fn is_ended(&mut self) {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        assert_eq!(read.unwrap().unwrap(), 0);
    }

    /// Closes so that the peer's next byte, or this one's unread, is a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The value of the first such field of a head.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find_map(|(field, value)| (field.eq_ignore_ascii_case(name)).then_some(value))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An upstream that follows a script.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// Plays `script` on each connection.
    pub(crate) async fn playing<F>(script: impl Fn(Wire) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(Wire::new(stream)));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Answers every request with its head as the body.
    pub(crate) async fn echoing() -> Self {
        Self::playing(|mut wire| async move {
            while let Some(request) = wire.next().await {
                let length = request.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                wire.send(&(head + &request)).await;
            }
        })
        .await
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "it never came to pass that {what}"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

//! Giving the listening sockets to the process that takes over.
//!
//! A running edge listens at a file of its data directory, named by where its
//! traffic comes in. A process that is to take over from it connects there, and
//! is sent every socket in one message: for each a line that says what it is for
//! and where that was configured, and the sockets themselves beside the lines
//! (`SCM_RIGHTS`). From then on both serve. Once the new one is ready it sends a
//! byte, and the old one drains; if it ends before, nothing has changed.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::accepting::AcceptFailures;
use crate::config::Config;
use crate::inherited::{self, Inherited};
use crate::socket_file::SocketFile;

/// The kernel passes no more at once.
const MOST: usize = 253;

/// More than so many lines need.
const LONGEST: usize = 64 * 1024;

/// The last line, empty.
const END: &str = "\n\n";

const READY: &[u8] = b"r";

/// For a process that is there, and sends what it holds already.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where each socket is configured to be, by what it is for.
type Places = BTreeMap<String, String>;

fn places(config: &Config) -> Places {
    let (server, health) = (&config.server, config.health.listen);
    let mut places = Places::from([
        (inherited::TRAFFIC.to_owned(), server.listen.to_string()),
        (inherited::HEALTH.to_owned(), health.to_string()),
    ]);
    if let Some(listen) = server.tls.listen {
        places.insert(inherited::TLS.to_owned(), listen.to_string());
    }
    for (name, decision) in &config.decisions {
        places.insert(inherited::decision(name), decision.listen.clone());
    }
    places
}

fn file(data: &Path, config: &Config) -> PathBuf {
    data.join(format!("{}.sock", config.server.listen))
}

/// The process that served before this one, and goes on until it is told.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: UnixStream,
    /// With their lines.
    sockets: Vec<(String, OwnedFd)>,
}

impl Predecessor {
    /// `None` where nobody serves at the same address.
    pub(super) fn find(data: &Path, config: &Config) -> io::Result<Option<Self>> {
        let Ok(stream) = UnixStream::connect(file(data, config)) else {
            return Ok(None);
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let sockets = receive(&stream)?;
        Ok(Some(Self { stream, sockets }))
    }

    /// Gives what is served at the same place as before, unless somebody else
    /// gave it already.
    pub(super) fn give(&mut self, config: &Config, to: &mut Inherited) {
        let given: Vec<_> = to.names().map(str::to_owned).collect();
        let places = places(config);
        for (line, socket) in self.sockets.drain(..) {
            if let Some((name, place)) = line.split_once(' ')
                && places.get(name).is_some_and(|ours| ours == place)
                && !given.iter().any(|given| given == name)
            {
                to.add_ours(name, socket);
            }
        }
    }

    /// Tells it to drain.
    pub(super) fn release(mut self) {
        match self.stream.write_all(READY) {
            Ok(()) => tracing::info!("took over from the process before"),
            Err(error) => tracing::info!(%error, "the process before has ended by itself"),
        }
    }
}

/// Sockets that whoever takes over is given. Until it is dropped.
#[derive(Debug)]
pub(super) struct Offer {
    taken: mpsc::Receiver<()>,
    task: JoinHandle<()>,
    _file: SocketFile,
}

impl Offer {
    /// Of `copies` of the sockets, by what they are for.
    pub(super) fn make(
        data: &Path,
        config: &Config,
        copies: Vec<(String, OwnedFd)>,
    ) -> io::Result<Self> {
        let places = places(config);
        let lines = copies.into_iter().filter_map(|(name, copy)| {
            let place = places.get(&name)?;
            Some((format!("{name} {place}"), copy))
        });
        let lines: Vec<_> = lines.collect();
        if lines.len() > MOST {
            return Err(io::Error::other("there are too many sockets"));
        }
        // Whoever had it before has been taken over from, or has ended.
        let (listener, file) = SocketFile::replace(&file(data, config), 0o600)?;
        let listener = UnixListener::from_std(listener)?;
        let (take, taken) = mpsc::channel(1);
        Ok(Self {
            taken,
            task: tokio::spawn(answer(listener, lines, take)),
            _file: file,
        })
    }

    /// Returns when another process serves.
    pub(super) async fn taken(&mut self) {
        if self.taken.recv().await.is_none() {
            // Nobody can take over any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(listener: UnixListener, sockets: Vec<(String, OwnedFd)>, take: mpsc::Sender<()>) {
    // Ends with the task.
    let mut successors = JoinSet::new();
    let mut failures = AcceptFailures::of("handover");
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Whoever wants to take over waits, or asks again.
            Err(error) => {
                failures.survive(&error).await;
                continue;
            }
        };
        if let Err(error) = send(&stream, &sockets) {
            tracing::warn!(%error, "the sockets cannot be handed over");
            continue;
        }
        let take = take.clone();
        successors.spawn(async move {
            let mut stream = stream;
            let mut byte = [0];
            // One that ends before it is ready leaves all as it was.
            if stream.read_exact(&mut byte).await.is_ok() && byte == READY {
                let _ = take.send(()).await;
            }
        });
        while successors.try_join_next().is_some() {}
    }
}

fn send(stream: impl AsFd, sockets: &[(String, OwnedFd)]) -> io::Result<()> {
    let lines: Vec<&str> = sockets.iter().map(|(line, _)| line.as_str()).collect();
    let text = lines.join("\n") + END;
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(sockets.len()))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !beside.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let text = [IoSlice::new(text.as_bytes())];
    let sent = sendmsg(stream, &text, &mut beside, SendFlags::NOSIGNAL)?;
    if sent < text[0].len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

fn receive(stream: impl AsFd) -> io::Result<Vec<(String, OwnedFd)>> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut text = vec![0; LONGEST];
    let read = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut text)],
        &mut beside,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut sockets = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            sockets.extend(passed);
        }
    }
    let text = std::str::from_utf8(&text[..read.bytes]).ok();
    let lines = text.and_then(|text| text.strip_suffix(END));
    let lines: Vec<_> = lines.unwrap_or_default().lines().collect();
    if lines.is_empty() || lines.len() != sockets.len() || read.flags.contains(ReturnFlags::CTRUNC)
    {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let lines = lines.into_iter().map(str::to_owned);
    Ok(lines.zip(sockets).collect())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn listener() -> (OwnedFd, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener.into(), address)
    }

    #[test]
    fn every_socket_arrives_with_its_line() {
        for count in [1, 2, MOST] {
            let (sent, addresses): (Vec<_>, Vec<_>) = (0..count)
                .map(|number| {
                    let (socket, address) = listener();
                    ((format!("traffic {number}"), socket), address)
                })
                .unzip();
            let (old, new) = UnixStream::pair().unwrap();
            send(&old, &sent).unwrap();
            let received = receive(&new).unwrap();
            assert_eq!(received.len(), count);
            for (number, ((line, socket), address)) in
                received.into_iter().zip(addresses).enumerate()
            {
                assert_eq!(line, format!("traffic {number}"));
                assert_eq!(TcpListener::from(socket).local_addr().unwrap(), address);
            }
        }
    }

    #[test]
    fn what_is_no_such_message_is_refused() {
        for text in ["", "r", "traffic a", "traffic a\n\n", "\n\n"] {
            let (mut old, new) = UnixStream::pair().unwrap();
            old.write_all(text.as_bytes()).unwrap();
            drop(old);
            assert!(receive(&new).is_err(), "{text:?}");
        }
        let (old, new) = UnixStream::pair().unwrap();
        send(&old, &[("traffic a\nhealth b".to_owned(), listener().0)]).unwrap();
        assert!(receive(&new).is_err(), "two lines for one socket");
    }
}

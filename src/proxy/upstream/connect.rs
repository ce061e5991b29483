//! A new connection to a target.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Upstream;
use super::stream::Stream;
use super::target::Target;
use crate::proxy::Failure;

/// How long one address is tried alone (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

impl Upstream {
    /// Opens a connection to `target`, within the connect timeout.
    pub(in crate::proxy) async fn connect(&self, target: &Target) -> Result<Stream, Failure> {
        let connecting = async {
            let addresses = target.addresses.in_turn().await?;
            let stream = first_to(&addresses, HEAD_START, TcpStream::connect).await?;
            stream.set_nodelay(true)?;
            let Some(tls) = &self.tls else {
                return Ok(Ok(Stream::Plain(stream)));
            };
            let secured = tls.secure(stream, target.addresses.host()).await;
            Ok(secured.map(|stream| Stream::Encrypted(Box::new(stream))))
        };
        timeout(self.config.connect_timeout, connecting)
            .await
            .map_err(|_| Failure::ConnectTimeout)?
            .map_err(Failure::Connect)?
            .map_err(Failure::Handshake)
    }
}

/// The first of `addresses` that answers. One that fails or lets the head start
/// pass has the next one tried beside it.
async fn first_to<T, F>(
    addresses: &[SocketAddr],
    head_start: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = addresses.iter();
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut trying = FuturesUnordered::new();
    loop {
        trying.extend(waiting.next().map(|address| connect(*address)));
        let last = waiting.len() == 0;
        tokio::select! {
            tried = trying.next() => match tried {
                Some(Ok(connected)) => return Ok(connected),
                Some(Err(failed)) => error = failed,
                None => return Err(error),
            },
            () = sleep(head_start), if !last => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::future::pending;
    use tokio::time::Instant;

    const ADDRESSES: [&str; 3] = ["[::1]:1", "1.1.1.1:1", "[::2]:1"];

    /// Who answered, after how many milliseconds, and who was tried. Each of
    /// `answers` is when, and whether it is a good one; or there is none.
    async fn raced(
        answers: [Option<(u64, bool)>; 3],
    ) -> (Result<usize, io::ErrorKind>, u128, Vec<usize>) {
        let addresses = ADDRESSES.map(|address| address.parse::<SocketAddr>().unwrap());
        let tried = RefCell::new(Vec::new());
        let started = Instant::now();
        let connected = first_to(&addresses, HEAD_START, |address| {
            let place = addresses
                .iter()
                .position(|known| *known == address)
                .unwrap();
            tried.borrow_mut().push(place);
            async move {
                match answers[place] {
                    None => pending().await,
                    Some((after, good)) => {
                        sleep(Duration::from_millis(after)).await;
                        let refused = || io::ErrorKind::ConnectionRefused.into();
                        good.then_some(place).ok_or_else(refused)
                    }
                }
            }
        })
        .await;
        let after = started.elapsed().as_millis();
        (connected.map_err(|error| error.kind()), after, tried.take())
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_address_is_tried_when_one_fails_or_takes_long() {
        let refused = Err(io::ErrorKind::ConnectionRefused);
        for (answers, connected, after, tried) in [
            ([Some((10, true)), None, None], Ok(0), 10, vec![0]),
            (
                [Some((10, false)), Some((5, true)), None],
                Ok(1),
                15,
                vec![0, 1],
            ),
            ([None, Some((5, true)), None], Ok(1), 255, vec![0, 1]),
            ([Some((260, true)), None, None], Ok(0), 260, vec![0, 1]),
            ([None, None, Some((5, true))], Ok(2), 505, vec![0, 1, 2]),
            (
                [Some((1, false)), Some((1, false)), Some((1, false))],
                refused,
                3,
                vec![0, 1, 2],
            ),
        ] {
            assert_eq!(raced(answers).await, (connected, after, tried));
        }
    }
}

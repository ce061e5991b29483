//! One kept connection: a request, then its answer, then the next.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::tally::{Failure, Tally};
use super::target::{Stream, Target};
use super::work::Work;

/// What is read at once: a body of a MiB takes sixteen reads.
const READ: usize = 64 << 10;

/// A server that is not there is not asked more often than this.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Connection {
    target: Rc<Target>,
    patience: Duration,
    stream: Option<Stream>,
    request: Vec<u8>,
    read: Box<[u8]>,
    /// How much of `read` belongs to the answer that is being read.
    filled: usize,
}

/// An answer that was read to its end.
struct Answer {
    status: u16,
    bytes: usize,
    /// The server closes the connection after it.
    last: bool,
}

/// How an answer's body ends.
enum Ends {
    After(usize),
    Chunked,
    WithConnection,
}

impl Connection {
    pub(super) fn new(target: Rc<Target>, patience: Duration) -> Self {
        Self {
            target,
            patience,
            stream: None,
            request: Vec::with_capacity(512),
            read: vec![0; READ].into(),
            filled: 0,
        }
    }

    /// Works until there is no more to do.
    pub(super) async fn serve(mut self, work: Rc<Work>, tally: Rc<Tally>) {
        while let Some(job) = work.next().await {
            self.target.write(work.token(job), &mut self.request);
            let sent = work.clock.tick();
            let patience = self.patience;
            let outcome = match timeout(patience, self.exchange()).await {
                Ok(Ok(answer)) => {
                    if answer.last {
                        self.stream = None;
                    }
                    Ok((answer.status, answer.bytes))
                }
                Ok(Err(failure)) => Err(failure),
                Err(_) => Err(Failure::TimedOut),
            };
            let ended = work.clock.tick();
            let measured = work.window.measures(job.due);
            tally.record(measured, job.due, sent, ended, &outcome);
            if let Err(failure) = outcome {
                self.stream = None;
                if failure == Failure::Connect {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn exchange(&mut self) -> Result<Answer, Failure> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.target.connect().await.map_err(|_| Failure::Connect)?,
        };
        self.filled = 0;
        let answer = async {
            stream.write_all(&self.request).await?;
            stream.flush().await?;
            self.answer(&mut stream).await
        }
        .await
        .map_err(|_: io::Error| Failure::BrokeOff)?;
        self.stream = Some(stream);
        Ok(answer)
    }

    async fn answer(&mut self, stream: &mut Stream) -> io::Result<Answer> {
        let (status, ends, last, head) = loop {
            self.fill(stream).await?;
            if let Some(parsed) = self.head()? {
                break parsed;
            }
        };
        let bytes = match ends {
            Ends::After(length) => {
                let mut left = length
                    .checked_sub(self.filled - head)
                    .ok_or_else(|| broken("more than was announced"))?;
                while left > 0 {
                    let most = left.min(READ);
                    let read = stream.read(&mut self.read[..most]).await?;
                    if read == 0 {
                        return Err(broken("a body was cut off"));
                    }
                    left -= read;
                }
                length
            }
            Ends::Chunked => self.chunks(stream, head).await?,
            Ends::WithConnection => {
                let mut bytes = self.filled - head;
                loop {
                    match stream.read(&mut self.read).await? {
                        0 => break bytes,
                        read => bytes += read,
                    }
                }
            }
        };
        let last = last || matches!(ends, Ends::WithConnection);
        Ok(Answer {
            status,
            bytes,
            last,
        })
    }

    async fn fill(&mut self, stream: &mut Stream) -> io::Result<()> {
        if self.filled == READ {
            return Err(broken("a head that is too large"));
        }
        match stream.read(&mut self.read[self.filled..]).await? {
            0 => Err(broken("closed before an answer")),
            read => {
                self.filled += read;
                Ok(())
            }
        }
    }

    /// Status, end, whether it is the last, and the length of the head; `None`
    /// while that is not whole. What is only interim is passed over.
    fn head(&mut self) -> io::Result<Option<(u16, Ends, bool, usize)>> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            let mut answer = httparse::Response::new(&mut fields);
            let parsed = answer.parse(&self.read[..self.filled]).map_err(broken)?;
            let httparse::Status::Complete(length) = parsed else {
                return Ok(None);
            };
            let status = answer.code.unwrap_or_default();
            if (100..200).contains(&status) && status != 101 {
                self.read.copy_within(length..self.filled, 0);
                self.filled -= length;
                continue;
            }
            let mut ends = Ends::WithConnection;
            let mut last = answer.version == Some(0);
            for field in answer.headers {
                if field.name.eq_ignore_ascii_case("content-length") {
                    let text = str::from_utf8(field.value).map_err(broken)?;
                    ends = Ends::After(text.trim().parse().map_err(broken)?);
                } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                    ends = Ends::Chunked;
                } else if field.name.eq_ignore_ascii_case("connection") {
                    last = field.value.eq_ignore_ascii_case(b"close");
                }
            }
            if status == 204 || status == 304 {
                ends = Ends::After(0);
            }
            return Ok(Some((status, ends, last, length)));
        }
    }

    /// Reads chunks to the last, and the trailers; how many bytes they held.
    async fn chunks(&mut self, stream: &mut Stream, head: usize) -> io::Result<usize> {
        self.read.copy_within(head..self.filled, 0);
        self.filled -= head;
        let mut bytes = 0;
        loop {
            let (length, size) = loop {
                let parsed = httparse::parse_chunk_size(&self.read[..self.filled]);
                match parsed.map_err(|_| broken("a chunk without a size"))? {
                    httparse::Status::Complete((length, size)) => break (length, size),
                    httparse::Status::Partial => self.fill(stream).await?,
                }
            };
            if size == 0 {
                return self.trailers(stream, length).await.map(|()| bytes);
            }
            let size = usize::try_from(size).map_err(broken)?;
            bytes += size;
            self.skip(stream, length + size + 2).await?;
        }
    }

    async fn skip(&mut self, stream: &mut Stream, mut count: usize) -> io::Result<()> {
        while count > self.filled {
            count -= self.filled;
            self.filled = 0;
            self.fill(stream).await?;
        }
        self.read.copy_within(count..self.filled, 0);
        self.filled -= count;
        Ok(())
    }

    /// To the empty line after the last chunk.
    async fn trailers(&mut self, stream: &mut Stream, mut from: usize) -> io::Result<()> {
        loop {
            let rest = &self.read[from..self.filled];
            match rest.windows(2).position(|pair| pair == b"\r\n") {
                Some(0) => return Ok(()),
                Some(end) => from += end + 2,
                None => self.fill(stream).await?,
            }
        }
    }
}

fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}

//! The service behind every proxy: answers `/bytes/N` with N bytes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::listener;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    listen: SocketAddr,
}

/// The largest answer: nothing measured here is larger.
const LARGEST: usize = 64 << 20;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let answers = Rc::new(Answers::default());
    listener::run(options.listen, move |stream| {
        Connection::new(stream, Rc::clone(&answers)).serve()
    })
}

/// One of each length, for all connections.
#[derive(Default)]
struct Answers(RefCell<HashMap<usize, Rc<[u8]>>>);

impl Answers {
    fn of(&self, bytes: usize) -> Rc<[u8]> {
        let answers = &mut *self.0.borrow_mut();
        let answer = answers.entry(bytes).or_insert_with(|| {
            let mut answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {bytes}\r\n\r\n"
            )
            .into_bytes();
            answer.resize(answer.len() + bytes, b'x');
            answer.into()
        });
        Rc::clone(answer)
    }
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    answers: Rc<Answers>,
}

/// What a request's head says.
struct Head {
    /// Its own length.
    length: usize,
    /// Of the body that follows.
    body: usize,
    wants: usize,
}

impl Connection {
    fn new(stream: TcpStream, answers: Rc<Answers>) -> Self {
        Self {
            stream,
            read: Vec::with_capacity(16 << 10),
            answers,
        }
    }

    async fn serve(mut self) -> anyhow::Result<()> {
        loop {
            let head = loop {
                if let Some(head) = parse(&self.read)? {
                    break head;
                }
                if self.stream.read_buf(&mut self.read).await? == 0 {
                    return Ok(());
                }
            };
            self.skip(head.length + head.body).await?;
            let answer = self.answers.of(head.wants);
            self.stream.write_all(&answer).await?;
        }
    }

    /// Takes so many bytes off, which may not have come yet.
    async fn skip(&mut self, mut bytes: usize) -> anyhow::Result<()> {
        while bytes > self.read.len() {
            bytes -= self.read.len();
            self.read.clear();
            ensure!(
                self.stream.read_buf(&mut self.read).await? > 0,
                "a body was cut off"
            );
        }
        self.read.drain(..bytes);
        Ok(())
    }
}

/// `None` while the head is not whole.
fn parse(read: &[u8]) -> anyhow::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = request.parse(read)? else {
        return Ok(None);
    };
    let path = request.path.unwrap_or_default();
    let wants: usize = path
        .strip_prefix("/bytes/")
        .and_then(|bytes| bytes.parse().ok())
        .with_context(|| format!("{path} is not /bytes/N"))?;
    ensure!(wants <= LARGEST, "{wants} bytes are too many");
    let mut body = 0;
    for field in request.headers {
        if field.name.eq_ignore_ascii_case("content-length") {
            body = str::from_utf8(field.value)?.trim().parse()?;
        }
        if field.name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("a body of unknown length");
        }
    }
    Ok(Some(Head {
        length,
        body,
        wants,
    }))
}

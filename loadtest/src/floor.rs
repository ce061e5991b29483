//! The least that forwarding costs: two reads and two writes a request, each
//! head looked at once. No key, no limit, no log, no field is touched.

use std::net::SocketAddr;

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::listener;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
}

const BUFFER: usize = 64 << 10;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let upstream = options.upstream;
    listener::run(options.listen, move |client| serve(client, upstream))
}

async fn serve(mut client: TcpStream, upstream: SocketAddr) -> anyhow::Result<()> {
    let mut upstream = TcpStream::connect(upstream).await?;
    upstream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        if !forward(&mut client, &mut upstream, &mut buffer, request_length).await? {
            return Ok(());
        }
        ensure!(
            forward(&mut upstream, &mut client, &mut buffer, answer_length).await?,
            "the upstream closed"
        );
    }
}

/// One message, of which the head has to fit into the buffer. False at the end.
async fn forward(
    from: &mut TcpStream,
    to: &mut TcpStream,
    buffer: &mut [u8],
    length: fn(&[u8]) -> anyhow::Result<Option<usize>>,
) -> anyhow::Result<bool> {
    let mut filled = 0;
    let mut left = loop {
        let read = from.read(&mut buffer[filled..]).await?;
        if read == 0 {
            ensure!(filled == 0, "a head was cut off");
            return Ok(false);
        }
        filled += read;
        if let Some(length) = length(&buffer[..filled])? {
            break length;
        }
    };
    loop {
        to.write_all(&buffer[..filled]).await?;
        left -= filled;
        if left == 0 {
            return Ok(true);
        }
        filled = from.read(buffer).await?;
        ensure!(filled > 0 && filled <= left, "a body was cut off");
    }
}

fn request_length(read: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    Ok(match request.parse(read)? {
        httparse::Status::Complete(head) => Some(head + body(request.headers)?),
        httparse::Status::Partial => None,
    })
}

fn answer_length(read: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut fields);
    Ok(match answer.parse(read)? {
        httparse::Status::Complete(head) => Some(head + body(answer.headers)?),
        httparse::Status::Partial => None,
    })
}

fn body(fields: &[httparse::Header<'_>]) -> anyhow::Result<usize> {
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            return Ok(str::from_utf8(field.value)?.trim().parse()?);
        }
    }
    Ok(0)
}

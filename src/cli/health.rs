//! `health`: for a container's health check, which has no other program.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::failure::Failure;
use crate::config::{self, Process};

/// For each step; an edge at its limit answers this port in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// More than the answer to either question.
const LARGEST_ANSWER: u64 = 16 * 1024;

/// Prints what the edge says, and fails when it says no, or nothing.
pub(super) fn run(file: Option<&Path>, ready: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let address = config::health_address(file, &Process).map_err(Failure::refused)?;
    let path = if ready { "/readyz" } else { "/healthz" };
    let answer = ask(address, path)
        .map_err(|error| Failure::failed(format_args!("{address} does not answer: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let body = body.trim_end();
    if head.split(' ').nth(1) != Some("200") {
        let said = if body.is_empty() { head } else { body };
        return Err(Failure::failed(format_args!("{address} says: {said}")));
    }
    Ok(writeln!(out, "{body}")?)
}

fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // 1.0: the connection ends with the answer.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LARGEST_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

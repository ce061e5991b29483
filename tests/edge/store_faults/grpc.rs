//! A gRPC server that refuses every call: HTTP/2 (RFC 9113), as much as that
//! takes, and answers of trailers only.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// A status of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unavailable = 14,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Until the client goes away.
pub fn answer(mut stream: &TcpStream, status: Status) -> io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    write(stream, SETTINGS, 0, 0, &[])?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let id = u32::from_be_bytes(id) & 0x7fff_ffff;
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK == 0 => write(stream, SETTINGS, ACK, 0, &[])?,
            PING if flags & ACK == 0 => write(stream, PING, ACK, 0, &payload)?,
            DATA if length > 0 => write(stream, WINDOW_UPDATE, 0, 0, &length.to_be_bytes())?,
            HEADERS | CONTINUATION if flags & END_HEADERS != 0 => {
                write(
                    stream,
                    HEADERS,
                    END_STREAM | END_HEADERS,
                    id,
                    &trailers(status),
                )?;
            }
            _ => {}
        }
    }
}

fn write(mut stream: &TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    stream.write_all(&frame)
}

/// HPACK (RFC 7541): `:status: 200` from the static table, the rest literally.
fn trailers(status: Status) -> Vec<u8> {
    let code = (status as u8).to_string();
    let mut block = vec![0x88];
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("grpc-status", &code),
        ("grpc-message", "by the test"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

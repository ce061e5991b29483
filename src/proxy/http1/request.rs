//! The head of a request, on the wire.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Request};
use http_body::Body;

use super::MOST_FIELDS;
use super::upload::Coding;
use crate::proxy::BoxError;
use crate::proxy::request_body::RequestBody;

/// How the body of a request is told from what follows it; `None` without one.
/// The body says it, whatever the fields say.
pub(super) fn coding<B>(request: &Request<RequestBody<B>>) -> Option<Coding>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let body = request.body();
    if body.is_end_stream() {
        return None;
    }
    Some(match body.size_hint().exact() {
        Some(length) => Coding::Length(length),
        None => Coding::Chunked(announced(request.headers())),
    })
}

/// The trailers that the head tells of, as many as there may be. Others are nobody's
/// to expect.
fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(TRAILER).iter();
    lists
        .flat_map(|list| list.as_bytes().split(|&byte| byte == b','))
        .take(MOST_FIELDS)
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

/// Writes the head, with `lines` as they are behind its fields. What tells of the
/// body's end is written anew, and once.
pub(super) fn write<B>(
    request: &Request<B>,
    lines: &[u8],
    coding: Option<&Coding>,
    out: &mut Vec<u8>,
) {
    let uri = request.uri();
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(uri.path().as_bytes());
    if let Some(query) = uri.query() {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut has_length = false;
    for (name, value) in request.headers() {
        if *name == CONTENT_LENGTH {
            has_length = true;
        } else if *name != TRANSFER_ENCODING {
            write_field(name, value.as_bytes(), out);
        }
    }
    out.extend_from_slice(lines);
    match coding {
        Some(Coding::Length(length)) => write_length(*length, out),
        Some(Coding::Chunked(_)) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // Its client has said that there is none.
        None if has_length => write_length(0, out),
        None => {}
    }
    out.extend_from_slice(b"\r\n");
}

pub(super) fn write_field(name: &HeaderName, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

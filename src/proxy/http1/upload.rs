//! The body of a request, on the wire.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HOST, MAX_FORWARDS, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName};
use http_body::Body;

use super::outbox::Outbox;
use super::request::write_field;
use crate::proxy::BoxError;
use crate::proxy::request_body::{Broken, RequestBody};

/// Fields that say what becomes of a message: no trailers, whoever announces them
/// (RFC 9110, section 6.5.1).
const NO_TRAILERS: &[HeaderName] = &[
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HOST,
    MAX_FORWARDS,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
];

/// How the end of a body is told.
#[derive(Debug)]
pub(super) enum Coding {
    /// So many bytes are to come.
    Length(u64),
    /// With the trailers that were announced.
    Chunked(Vec<HeaderName>),
}

/// A body of which not all is in the outbox.
#[derive(Debug)]
pub(super) struct Upload<B> {
    pub(super) body: RequestBody<B>,
    pub(super) coding: Coding,
}

/// What became of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    Ended,
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Takes one frame into the outbox.
    pub(super) fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
    ) -> Poll<Result<Step, Broken>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()? else {
            return Poll::Ready(self.end(None, outbox));
        };
        Poll::Ready(match frame.into_data() {
            Ok(data) => self.push(data, outbox),
            Err(frame) => self.end(frame.into_trailers().ok().as_ref(), outbox),
        })
    }

    fn push(&mut self, data: Bytes, outbox: &mut Outbox) -> Result<Step, Broken> {
        if !data.is_empty() {
            match &mut self.coding {
                Coding::Length(left) => {
                    let rest = left.checked_sub(data.len() as u64);
                    // More than was said would be the next request.
                    *left = rest.ok_or(Broken::Client)?;
                    outbox.push(data, b"");
                }
                Coding::Chunked(_) => {
                    write_size(data.len(), outbox.bytes());
                    outbox.push(data, b"\r\n");
                }
            }
        }
        if self.body.is_end_stream() && outbox.has_room() {
            return self.end(None, outbox);
        }
        Ok(Step::More)
    }

    fn end(&mut self, trailers: Option<&HeaderMap>, outbox: &mut Outbox) -> Result<Step, Broken> {
        match &self.coding {
            Coding::Length(0) => {}
            // The upstream would take the next request for the rest.
            Coding::Length(_) => return Err(Broken::Client),
            Coding::Chunked(announced) => {
                let out = outbox.bytes();
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if announced.contains(name) && !NO_TRAILERS.contains(name) {
                        write_field(name, value.as_bytes(), out);
                    }
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(Step::Ended)
    }
}

/// The line before a chunk.
fn write_size(size: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = size >> (4 * place) & 0xf;
        out.push(b"0123456789abcdef"[digit]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_written_in_the_digits_it_has() {
        for size in [0, 1, 9, 0xa, 0xf, 0x10, 0xff, 0x100, 0x1234, usize::MAX] {
            let mut written = Vec::new();
            write_size(size, &mut written);
            assert_eq!(String::from_utf8(written).unwrap(), format!("{size:x}\r\n"));
        }
    }
}

//! What the fuzz targets call: the reader of what an upstream answers.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};

use super::Broke;
use super::answer::Reader;

/// What an answer was read as.
#[derive(Debug)]
pub struct Read {
    /// Its head.
    pub head: Response<()>,
    /// What there is of its body.
    pub body: Vec<u8>,
    /// What follows the body.
    pub trailers: Option<HeaderMap>,
    /// Whether it came to its end.
    pub whole: bool,
    /// What came behind that.
    pub behind: Bytes,
    /// Whether another request may be sent.
    pub goes_on: bool,
}

/// Reads the answer to a `HEAD`, or to another request, that comes in `pieces`,
/// after which the upstream closes. `None` when it is refused.
pub fn read<'p>(to_head: bool, pieces: impl IntoIterator<Item = &'p [u8]>) -> Option<Read> {
    let mut pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
    let (mut buffer, mut reader) = (BytesMut::new(), Reader::default());
    reader.begin(to_head);
    let answer = loop {
        buffer.extend_from_slice(pieces.next()?);
        if let Some(answer) = reader.read(&mut buffer, &mut HeaderMap::new()).ok()? {
            break answer;
        }
    };
    let mut body = answer.body;
    let mut read = Read {
        head: answer.head,
        body: Vec::new(),
        trailers: None,
        whole: false,
        behind: Bytes::new(),
        goes_on: false,
    };
    let mut decode = || -> Result<(), Broke> {
        while !body.has_ended() {
            match body.decode(&mut buffer)?.map(http_body::Frame::into_data) {
                Some(Ok(data)) => read.body.extend_from_slice(&data),
                Some(Err(frame)) => read.trailers = frame.into_trailers().ok(),
                None if body.has_ended() => {}
                None => match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => body.close()?,
                },
            }
        }
        Ok(())
    };
    read.whole = decode().is_ok();
    if !read.whole {
        return Some(read);
    }
    pieces.for_each(|piece| buffer.extend_from_slice(piece));
    read.behind = buffer.freeze();
    read.goes_on = answer.goes_on && read.behind.is_empty();
    Some(read)
}

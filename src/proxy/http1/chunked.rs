//! The chunked coding of an answer (RFC 9112, section 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::{Broke, MOST_FIELDS};

/// The digits of the largest chunk that can be counted.
const MOST_DIGITS: u8 = 16;

/// All extensions of a body together.
const MOST_EXTENSIONS: u16 = 16 * 1000;

/// All trailers together.
const MOST_TRAILERS: usize = 16 * 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    /// Blanks after the size.
    Padding,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The beginning of a trailer, or of the last line.
    Line,
    Trailer,
    TrailerLf,
    LastLf,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    state: State,
    /// Of the chunk.
    left: u64,
    digits: u8,
    extensions: u16,
    trailers: Vec<u8>,
}

impl Chunked {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Size,
            left: 0,
            digits: 0,
            extensions: 0,
            trailers: Vec::new(),
        }
    }

    /// What comes next in `buffer`; `None` when more has to be read, or nothing
    /// is left.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Broke> {
        let mut used = 0;
        while self.state != State::Data && self.state != State::Ended {
            let Some(&byte) = buffer.get(used) else {
                buffer.clear();
                return Ok(None);
            };
            used += 1;
            self.state = self.step(byte).map_err(Broke::Malformed)?;
        }
        buffer.advance(used);
        if self.state == State::Ended {
            let trailers = std::mem::take(&mut self.trailers);
            if trailers.is_empty() {
                return Ok(None);
            }
            return parsed(&trailers).map(|trailers| Some(Frame::trailers(trailers)));
        }
        if buffer.is_empty() {
            return Ok(None);
        }
        let taken = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        self.left -= taken as u64;
        if self.left == 0 {
            self.state = State::DataCr;
        }
        Ok(Some(Frame::data(buffer.split_to(taken).freeze())))
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state == State::Ended && self.trailers.is_empty()
    }

    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() => self.count(byte),
            (State::Size, _) if self.digits == 0 => Err("a chunk has no size"),
            (State::Size | State::Padding, b' ' | b'\t') => Ok(State::Padding),
            (State::Size | State::Padding, b';') => Ok(State::Extension),
            (State::Size | State::Padding | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size | State::Padding, _) => Err("the size of a chunk is none"),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.extend(),
            (State::Extension, _) => Err("the extension of a chunk is none"),
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                Ok(if self.left == 0 {
                    State::Line
                } else {
                    State::Data
                })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::DataCr | State::DataLf, _) => Err("a chunk is longer than its size"),
            (State::Line, b'\r') => Ok(State::LastLf),
            (State::Line | State::Trailer, b'\n') => Err("a trailer ends as no line does"),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::Line | State::Trailer, _) => self.keep(&[byte], State::Trailer),
            (State::TrailerLf, b'\n') => self.keep(b"\r\n", State::Line),
            (State::LastLf, b'\n') => Ok(State::Ended),
            (State::SizeLf | State::TrailerLf | State::LastLf, _) => {
                Err("a line does not end as lines do")
            }
            (State::Data | State::Ended, _) => Ok(self.state),
        }
    }

    fn count(&mut self, digit: u8) -> Result<State, &'static str> {
        if self.digits == MOST_DIGITS {
            return Err("a chunk is larger than can be counted");
        }
        self.digits += 1;
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            _ => (digit | 0x20) - b'a' + 10,
        };
        self.left = self.left << 4 | u64::from(value);
        Ok(State::Size)
    }

    fn extend(&mut self) -> Result<State, &'static str> {
        self.extensions += 1;
        if self.extensions > MOST_EXTENSIONS {
            return Err("there is no end of extensions");
        }
        Ok(State::Extension)
    }

    fn keep(&mut self, bytes: &[u8], then: State) -> Result<State, &'static str> {
        if self.trailers.len() + bytes.len() > MOST_TRAILERS {
            return Err("its trailers are too large");
        }
        self.trailers.extend_from_slice(bytes);
        Ok(then)
    }
}

/// Whole lines, without the last one.
fn parsed(lines: &[u8]) -> Result<HeaderMap, Broke> {
    let lines = [lines, b"\r\n"].concat();
    let mut room = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&lines, &mut room)
    else {
        return Err(Broke::Malformed("its trailers are none, or too many"));
    };
    let field = |field: &httparse::Header<'_>| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(field.value).ok()?))
    };
    let trailers: Option<HeaderMap> = fields.iter().map(field).collect();
    trailers.ok_or(Broke::Malformed("one of its trailers is none"))
}

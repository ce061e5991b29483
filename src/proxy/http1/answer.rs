//! The head of an answer, and where its body ends.

use std::mem::{self, MaybeUninit};

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use httparse::{Header, ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::body::Body;
use super::{Broke, MOST_FIELDS, READ_AHEAD};

/// How many heads may come before the answer that only say that it will come.
const MOST_INTERIM: u8 = 128;

/// An answer without its body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Response<()>,
    pub(super) body: Body,
    /// Whether another one may follow on the same connection.
    pub(super) goes_on: bool,
}

/// Reads the head of one answer after the other, past those that only say that it will
/// come.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// It answers a `HEAD`.
    without_body: bool,
    interim: u8,
    interim_bytes: usize,
    /// So much holds no whole head.
    looked_at: usize,
    /// Of the names and values of a head. Its room is used again.
    places: Vec<(Place, Place)>,
}

impl Reader {
    /// The next answer is to be read.
    pub(super) fn begin(&mut self, without_body: bool) {
        *self = Self {
            without_body,
            places: mem::take(&mut self.places),
            ..Self::default()
        };
    }

    /// The answer at the beginning of `buffer`, if it has all of the head. The
    /// fields go into `fields`, which is empty and may have room.
    pub(super) fn read(
        &mut self,
        buffer: &mut BytesMut,
        fields: &mut HeaderMap,
    ) -> Result<Option<Answer>, Broke> {
        loop {
            if !has_end(buffer, self.looked_at) {
                return self.goes_on(buffer.len());
            }
            let seen = &buffer[..buffer.len().min(READ_AHEAD)];
            let Some(head) = Head::parse(seen, &mut self.places)? else {
                return self.goes_on(buffer.len());
            };
            self.looked_at = 0;
            let bytes = buffer.split_to(head.length).freeze();
            if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                self.skip(bytes.len())?;
                continue;
            }
            let answer = head.read(&bytes, &self.places, fields, self.without_body);
            return answer.map(Some);
        }
    }

    fn goes_on(&mut self, read: usize) -> Result<Option<Answer>, Broke> {
        if read >= READ_AHEAD {
            return Err(Broke::Malformed("its head is too large"));
        }
        self.looked_at = read;
        Ok(None)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Broke> {
        self.interim += 1;
        self.interim_bytes += bytes;
        if self.interim > MOST_INTERIM || self.interim_bytes > READ_AHEAD {
            return Err(Broke::Malformed("there is no end of what comes before it"));
        }
        Ok(())
    }
}

/// Whether it is worth while to parse: an empty line comes after the first
/// `looked_at` bytes, or nobody has looked yet.
fn has_end(bytes: &[u8], looked_at: usize) -> bool {
    if looked_at == 0 {
        return !bytes.is_empty();
    }
    let rest = &bytes[looked_at.saturating_sub(3)..];
    let ends = |at: usize| matches!(&rest[at..], [b'\n', b'\n', ..] | [b'\n', b'\r', b'\n', ..]);
    (0..rest.len()).any(ends)
}

/// Where a name or a value lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u16,
    length: u16,
}

impl Place {
    /// Of `part` within `whole`, which is not larger than a head may be.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        let short = |number| u16::try_from(number).unwrap_or_default();
        Self {
            start: short(start),
            length: short(part.len()),
        }
    }

    const fn range(self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.length as usize
    }
}

/// A head that was parsed, without its fields.
struct Head {
    length: usize,
    status: StatusCode,
    is_http_11: bool,
    reason: Option<ReasonPhrase>,
}

impl Head {
    /// `None` when it goes on. Where its fields lie goes into `places`.
    fn parse(bytes: &[u8], places: &mut Vec<(Place, Place)>) -> Result<Option<Self>, Broke> {
        let mut room = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_FIELDS];
        let mut head = httparse::Response::new(&mut []);
        let parsed = ParserConfig::default()
            .parse_response_with_uninit_headers(&mut head, bytes, &mut room)
            .map_err(|error| Broke::Malformed(what(error)))?;
        let Status::Complete(length) = parsed else {
            return Ok(None);
        };
        let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Broke::Malformed("there is no such status"))?;
        places.clear();
        places.extend(head.headers.iter().map(|field| {
            let name = Place::of(field.name.as_bytes(), bytes);
            (name, Place::of(field.value, bytes))
        }));
        Ok(Some(Self {
            length,
            status,
            is_http_11: head.version == Some(1),
            reason: reason(status, head.reason),
        }))
    }

    fn read(
        self,
        bytes: &Bytes,
        places: &[(Place, Place)],
        fields: &mut HeaderMap,
        without_body: bool,
    ) -> Result<Answer, Broke> {
        let mut framing = Framing::default();
        fields.reserve(places.len());
        for (name, value) in places {
            let name = HeaderName::from_bytes(&bytes[name.range()]);
            let value = HeaderValue::from_maybe_shared(bytes.slice(value.range()));
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Broke::Malformed("one of its fields is none"));
            };
            framing.note(&name, value.as_bytes());
            fields.append(name, value);
        }
        let body = framing.body(self.status, self.is_http_11, without_body)?;
        let mut head = Response::new(());
        *head.status_mut() = self.status;
        *head.headers_mut() = mem::take(fields);
        if let Some(reason) = self.reason {
            head.extensions_mut().insert(reason);
        }
        let goes_on = self.is_http_11
            && !framing.closes
            && body != Body::UntilClose
            && self.status != StatusCode::SWITCHING_PROTOCOLS;
        Ok(Answer {
            head,
            body,
            goes_on,
        })
    }
}

fn what(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "the name of a field is none",
        httparse::Error::HeaderValue => "the value of a field is none",
        httparse::Error::NewLine => "a line does not end as lines do",
        httparse::Error::Status => "the status is none",
        httparse::Error::Token => "it does not begin as answers do",
        httparse::Error::TooManyHeaders => "it has too many fields",
        httparse::Error::Version => "it is of another protocol",
    }
}

/// What an upstream says in the place of the usual words.
fn reason(status: StatusCode, said: Option<&str>) -> Option<ReasonPhrase> {
    let said = said.filter(|said| Some(*said) != status.canonical_reason())?;
    ReasonPhrase::try_from(Bytes::copy_from_slice(said.as_bytes())).ok()
}

/// What the fields say of where the answer ends.
#[derive(Default)]
struct Framing {
    length: Length,
    codings: Codings,
    closes: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Length {
    #[default]
    Unsaid,
    Said(u64),
    Invalid,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Codings {
    #[default]
    None,
    Chunked,
    Others,
}

impl Framing {
    fn note(&mut self, name: &HeaderName, value: &[u8]) {
        if *name == CONTENT_LENGTH {
            self.length = value.split(|&byte| byte == b',').fold(self.length, again);
        } else if *name == TRANSFER_ENCODING {
            let alone = self.codings == Codings::None;
            self.codings = if alone && value.eq_ignore_ascii_case(b"chunked") {
                Codings::Chunked
            } else {
                Codings::Others
            };
        } else if *name == CONNECTION {
            let mut options = value.split(|&byte| byte == b',');
            self.closes |= options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
        }
    }

    /// Where the body ends (RFC 9112, section 6.3).
    fn body(
        &self,
        status: StatusCode,
        is_http_11: bool,
        without_body: bool,
    ) -> Result<Body, Broke> {
        let bodiless =
            without_body || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Body::Ended);
        }
        if self.codings != Codings::None && !is_http_11 && !bodiless {
            return Err(Broke::Malformed("HTTP/1.0 has no transfer codings"));
        }
        // Two ends, or a coding beneath `chunked` that the client is not told of.
        match self.codings {
            Codings::None => {}
            Codings::Chunked if self.length == Length::Unsaid => {}
            _ => return Err(Broke::Ambiguous),
        }
        if bodiless {
            return Ok(Body::Ended);
        }
        match (self.codings, self.length) {
            (Codings::None, Length::Unsaid) => Ok(Body::UntilClose),
            (Codings::None, Length::Said(0)) => Ok(Body::Ended),
            (Codings::None, Length::Said(length)) => Ok(Body::Length(length)),
            (Codings::None, Length::Invalid) => Err(Broke::Malformed("its length is none")),
            _ => Ok(Body::chunked()),
        }
    }
}

/// The length after it was said once more: the same one is no other one.
fn again(before: Length, said: &[u8]) -> Length {
    match (before, number(said.trim_ascii())) {
        (Length::Unsaid, Some(length)) => Length::Said(length),
        (Length::Said(before), Some(length)) if before == length => Length::Said(length),
        _ => Length::Invalid,
    }
}

/// Digits, and nothing else.
fn number(digits: &[u8]) -> Option<u64> {
    let whole = (!digits.is_empty()).then_some(0_u64);
    digits.iter().fold(whole, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number?.checked_mul(10)?.checked_add(digit)
    })
}

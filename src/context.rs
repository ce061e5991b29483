//! What the parts of the stack tell each other about a request: one request
//! extension on the way in, typed response extensions on the way out.

#[cfg(feature = "edge")]
pub mod tunnel;

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Response};

use crate::clock::{Now, Timestamp};
use crate::directory::Entry;
use crate::key::KnownKey;
use crate::problem;
use crate::refusal::Refusal;
use crate::route::Route;

/// The one request extension that the stack shares: what was known when the
/// request arrived, and who it turned out to be.
///
/// Whoever routes puts it in, with an anonymous identity; the auth layer fills
/// the identity in place, so that the admitted path allocates nothing.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub received: Now,
    /// Of the client, not of a proxy in between; `None` when it is not known.
    pub client: Option<IpAddr>,
    /// Who the connection is with; `None` when nobody looked.
    pub peer: Option<Peer>,
    /// What the client showed in the TLS handshake, and was verified.
    pub certificate: Option<Arc<ClientCertificate>>,
    pub request_id: RequestId,
    pub route: Arc<Route>,
    pub identity: Identity,
}

/// The other end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    /// It is one of our proxies: what it says of the client is believed.
    pub trusted: bool,
    /// The connection is encrypted.
    pub secure: bool,
}

/// What is told of a client's certificate: made once for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject's name (RFC 4514), percent-encoded where it is no visible
    /// ASCII or `%`.
    pub subject: HeaderValue,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub fingerprint: HeaderValue,
}

/// What a request is called in answers, logs and by the upstream: 1 to 128
/// visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Id);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    /// A UUID, as text. It is here and not on the heap: most requests come without an
    /// id, and this one is copied often.
    Ours([u8; uuid::fmt::Hyphenated::LENGTH]),
    Given(HeaderValue),
}

impl RequestId {
    /// The field that carries it.
    pub const FIELD: HeaderName = HeaderName::from_static("x-request-id");

    /// The one that the client gave, when it is one and usable, or a new one.
    pub fn of(headers: &HeaderMap, received: Timestamp) -> Self {
        let mut given = headers.get_all(Self::FIELD).iter();
        let given = match (given.next(), given.next()) {
            (Some(value), None) => Self::new(value.clone()),
            _ => None,
        };
        given.unwrap_or_else(|| Self::generate(received))
    }

    /// `None` when it is not 1 to 128 visible ASCII characters.
    pub fn new(value: HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let valid = (1..=128).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        valid.then_some(Self(Id::Given(value)))
    }

    /// A UUIDv7 of `at`, for a request that came without a name.
    ///
    /// Unique, not unguessable: its random bits come from a generator of this
    /// thread, which the operating system seeded.
    pub fn generate(at: Timestamp) -> Self {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&next_random().to_be_bytes());
        random[8..].copy_from_slice(&next_random().to_be_bytes()[..2]);
        let mut text = [0; _];
        at.uuid(random).hyphenated().encode_lower(&mut text);
        Self(Id::Ours(text))
    }

    pub fn as_str(&self) -> &str {
        // why: made of visible ASCII only, which is always text.
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Id::Ours(text) => text,
            Id::Given(value) => value.as_bytes(),
        }
    }

    /// The value of [`FIELD`](Self::FIELD).
    pub fn to_header(&self) -> HeaderValue {
        match &self.0 {
            // why: hexadecimal digits and hyphens are a header value.
            Id::Ours(text) => {
                HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static("-"))
            }
            Id::Given(value) => value.clone(),
        }
    }
}

/// The generator `SplitMix64`.
fn next_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(seed());
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn seed() -> u64 {
    // why: without the operating system's, the address of a thread's own
    // variable still tells it from its neighbours.
    let here = 0_u8;
    getrandom::u64().unwrap_or_else(|_| (&raw const here).addr() as u64)
}

/// Whom a request is by.
#[derive(Clone, Debug, Default)]
pub struct Identity(Option<Arc<Entry>>);

impl Identity {
    /// Nobody in particular: a public route.
    pub const ANONYMOUS: Self = Self(None);

    pub const fn of(entry: Arc<Entry>) -> Self {
        Self(Some(entry))
    }

    pub fn key(&self) -> Option<&KnownKey> {
        self.0.as_deref().map(|entry| &entry.key)
    }

    pub const fn entry(&self) -> Option<&Arc<Entry>> {
        self.0.as_ref()
    }
}

/// The response extension that says why a request was refused, and whose it
/// was when the key is known.
#[derive(Clone, Debug)]
pub struct Refused {
    pub refusal: Refusal,
    pub identity: Identity,
}

impl Refused {
    /// The answer to the refused request: its problem document, with this in
    /// the extensions and the request's id among the fields.
    pub fn into_response<B>(self, request_id: Option<&RequestId>) -> Response<problem::Body<B>> {
        self.response_in(request_id, problem::fields(), Extensions::new())
    }

    /// The same in maps that are empty, and may have room.
    pub(crate) fn response_in<B>(
        self,
        request_id: Option<&RequestId>,
        headers: HeaderMap,
        mut extensions: Extensions,
    ) -> Response<problem::Body<B>> {
        let id = request_id.map(RequestId::as_str);
        let mut response = self.refusal.response_in(id, headers);
        if let Some(id) = request_id {
            response
                .headers_mut()
                .insert(RequestId::FIELD, id.to_header());
        }
        extensions.insert(self);
        *response.extensions_mut() = extensions;
        response
    }
}

/// The response extension of a request that is admitted and goes no further:
/// somebody else forwards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted;

/// How an upstream failed a request it was sent. An extension of the response
/// that says so; the error of a response body that broke off later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFailure {
    #[error("the upstream could not be reached, or broke off")]
    Failed,
    #[error("the upstream took too long")]
    TimedOut,
}

/// The key lost the right to a stream that was open. The error of the stream's
/// bodies; an extension of the response where none had begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key lost the right to this stream")]
pub struct Severed(pub Refusal);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_visible_ascii_of_bounded_length() {
        let id = |text: &[u8]| RequestId::new(HeaderValue::from_bytes(text).unwrap());
        assert_eq!(id(b"a-1~").unwrap().as_str(), "a-1~");
        assert!(id(&[b'x'; 128]).is_some());
        for bad in [&b""[..], b"a b", b"\xe4", &[b'x'; 129]] {
            assert_eq!(id(bad), None);
        }
    }

    #[test]
    fn a_generated_request_id_is_a_uuid_of_its_time_and_unique() {
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        let id = RequestId::generate(at);
        let uuid: uuid::Uuid = id.as_str().parse().unwrap();
        let (seconds, nanos) = uuid.get_timestamp().unwrap().to_unix();
        assert_eq!((seconds, nanos), (1_700_000_000, 123_000_000));
        assert_ne!(RequestId::generate(at), id);
    }

    #[test]
    fn a_refusal_becomes_its_problem_document_and_keeps_its_reason() {
        let refused = Refused {
            refusal: Refusal::KeyExpired,
            identity: Identity::ANONYMOUS,
        };
        let response = refused.into_response::<()>(None);
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["content-type"], problem::MEDIA_TYPE);
        let kept = response.extensions().get::<Refused>().unwrap();
        assert_eq!(kept.refusal, Refusal::KeyExpired);
    }
}

//! Every reason for which a request is refused, and what the client is told.
//!
//! One row of [`Refusal::kind`] is all that a client can learn. The reasons
//! that depend on a key's existence share one row, so that the answer does not
//! tell them apart.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::problem::{self, Kind, Problem};

/// What a client is told to wait when the fault is ours and may pass, in seconds.
const RETRY_AFTER_A_FAULT: HeaderValue = HeaderValue::from_static("1");

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The target is neither a path nor a URL, as that of `CONNECT`.
    UnsupportedTarget,
    /// `Host` is missing, repeated, not a host, or not that of the target.
    BadHost,
    /// The body is transferred in another way than by its length or in chunks.
    UnsupportedTransferCoding,
    /// A tunnel of HTTP/2 for a protocol that the route does not list, or that is
    /// no WebSocket.
    UnsupportedProtocol,
    /// The path could mean different things to different servers.
    AmbiguousPath,
    /// No route matches host and path.
    NoRoute,
    TokenMissing,
    /// Not of the token's form, or its checksum is wrong.
    TokenMalformed,
    /// Two different tokens, or one header field twice.
    TokenRepeated,
    /// No such key, or a forged token.
    KeyUnknown,
    KeyInactive,
    KeyExpired,
    /// The record does not open: it was edited, moved or copied.
    KeyTampered,
    /// One more token that is no good, from an address that has presented too many.
    TooManyFailures,
    /// The client's address is not in the key's `allowed_ips`.
    AddressDenied,
    /// The key lacks the route's permission.
    PermissionDenied,
    RateLimited,
    /// The key is not cached and the store cannot be asked.
    StoreUnavailable,
    /// The usage journal is full and the deployment refuses rather than drops.
    JournalFull,
    BodyTooLarge,
}

impl Refusal {
    pub const ALL: [Self; 20] = [
        Self::UnsupportedTarget,
        Self::BadHost,
        Self::UnsupportedTransferCoding,
        Self::UnsupportedProtocol,
        Self::AmbiguousPath,
        Self::NoRoute,
        Self::TokenMissing,
        Self::TokenMalformed,
        Self::TokenRepeated,
        Self::KeyUnknown,
        Self::KeyInactive,
        Self::KeyExpired,
        Self::KeyTampered,
        Self::TooManyFailures,
        Self::AddressDenied,
        Self::PermissionDenied,
        Self::RateLimited,
        Self::StoreUnavailable,
        Self::JournalFull,
        Self::BodyTooLarge,
    ];

    /// What the client is told.
    pub const fn kind(self) -> Kind {
        let (status, slug, title) = match self {
            Self::UnsupportedTarget => (
                StatusCode::BAD_REQUEST,
                "unsupported-target",
                "The request target is neither a path nor a URL",
            ),
            Self::BadHost => (
                StatusCode::BAD_REQUEST,
                "bad-host",
                "The Host field is missing, repeated, not a host, or differs from the target's",
            ),
            Self::UnsupportedTransferCoding => (
                StatusCode::NOT_IMPLEMENTED,
                "unsupported-transfer-coding",
                "The only transfer coding understood is chunked",
            ),
            Self::UnsupportedProtocol => (
                StatusCode::NOT_IMPLEMENTED,
                "unsupported-protocol",
                "No tunnel for this protocol is opened here",
            ),
            Self::AmbiguousPath => (
                StatusCode::BAD_REQUEST,
                "ambiguous-path",
                "The path could mean different things to different servers",
            ),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no-route", "No such route"),
            Self::TokenMissing => (
                StatusCode::UNAUTHORIZED,
                "token-missing",
                "An API key is required",
            ),
            Self::TokenMalformed => (
                StatusCode::UNAUTHORIZED,
                "token-malformed",
                "The API key is malformed, or of another environment",
            ),
            Self::TokenRepeated => (
                StatusCode::UNAUTHORIZED,
                "token-repeated",
                "More than one API key was presented",
            ),
            Self::KeyUnknown | Self::KeyInactive | Self::KeyExpired | Self::KeyTampered => (
                StatusCode::UNAUTHORIZED,
                "key-invalid",
                "The API key is not valid",
            ),
            Self::TooManyFailures => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-failures",
                "Too many requests from this address had no valid API key",
            ),
            Self::AddressDenied => (
                StatusCode::FORBIDDEN,
                "address-denied",
                "The API key may not be used from this address",
            ),
            Self::PermissionDenied => (
                StatusCode::FORBIDDEN,
                "permission-denied",
                "The API key lacks the permission for this request",
            ),
            Self::RateLimited => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "The API key's rate limit is exhausted",
            ),
            Self::StoreUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "store-unavailable",
                "The API key cannot be checked at the moment",
            ),
            Self::JournalFull => (
                StatusCode::SERVICE_UNAVAILABLE,
                "journal-full",
                "Usage cannot be recorded at the moment",
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "The request body is larger than this route allows",
            ),
        };
        Kind {
            status,
            slug,
            title,
        }
    }

    /// A token was presented, and is not of a key that may be used. The reasons
    /// that depend on a key's existence are all in it or none.
    pub const fn is_of_a_bad_token(self) -> bool {
        matches!(
            self,
            Self::TokenMalformed
                | Self::TokenRepeated
                | Self::KeyUnknown
                | Self::KeyInactive
                | Self::KeyExpired
                | Self::KeyTampered
        )
    }

    /// The refusal as a response: the problem document, `WWW-Authenticate` on
    /// 401 (RFC 6750, section 3) and `Retry-After` on 503.
    ///
    /// Whoever limits a rate adds when a 429 may be retried.
    pub fn response<B>(self, request_id: Option<&str>) -> Response<problem::Body<B>> {
        self.response_in(request_id, problem::fields())
    }

    /// The same with `headers`, which are empty and may have room.
    pub(crate) fn response_in<B>(
        self,
        request_id: Option<&str>,
        headers: HeaderMap,
    ) -> Response<problem::Body<B>> {
        let kind = self.kind();
        let mut response = Problem { kind, request_id }.response_in(headers);
        match kind.status {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Bearer");
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, RETRY_AFTER_A_FAULT);
            }
            _ => {}
        }
        response
    }

    /// What operators are told: metrics, logs and usage events name each reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::KeyUnknown => "key-unknown",
            Self::KeyInactive => "key-inactive",
            Self::KeyExpired => "key-expired",
            Self::KeyTampered => "key-tampered",
            other => other.kind().slug,
        }
    }

    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|refusal| refusal.reason() == reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_tells_whether_a_key_exists() {
        let told = Refusal::KeyUnknown.kind();
        for refusal in [
            Refusal::KeyInactive,
            Refusal::KeyExpired,
            Refusal::KeyTampered,
        ] {
            assert_eq!(refusal.kind(), told);
        }
    }

    #[test]
    fn each_status_carries_the_header_it_owes() {
        for refusal in Refusal::ALL {
            let response = refusal.response::<problem::Body<String>>(Some("r1"));
            let (headers, status) = (response.headers(), response.status());
            assert_eq!(headers[header::CONTENT_TYPE], problem::MEDIA_TYPE);
            assert_eq!(
                headers.contains_key(header::WWW_AUTHENTICATE),
                status == StatusCode::UNAUTHORIZED,
                "{refusal:?}"
            );
            assert_eq!(
                headers.contains_key(header::RETRY_AFTER),
                status == StatusCode::SERVICE_UNAVAILABLE,
                "{refusal:?}"
            );
        }
    }

    #[test]
    fn operators_can_tell_every_reason_from_every_other() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_reason(refusal.reason()), Some(refusal));
        }
    }
}

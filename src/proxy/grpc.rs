//! What a gRPC client is told in the place of a problem document.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};

use crate::context::{Refused, UpstreamFailure};
use crate::problem;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC: &[u8] = b"application/grpc";

/// Whether the client reads statuses of gRPC: it is HTTP/2 only.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2
        && request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.as_bytes().strip_prefix(GRPC))
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// An answer of ours as gRPC has it: 200, with the status among the fields and
/// nothing after them. What an upstream answered is left as it is.
pub(super) fn spell<R>(response: &mut Response<problem::Body<R>>) {
    let Some((status, message)) = said(response) else {
        return;
    };
    *response.body_mut() = problem::Body::empty();
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.remove(WWW_AUTHENTICATE);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(status));
    headers.insert(GRPC_MESSAGE, HeaderValue::from_static(message));
}

fn said<B>(response: &Response<B>) -> Option<(u16, &'static str)> {
    let extensions = response.extensions();
    if let Some(refused) = extensions.get::<Refused>() {
        let kind = refused.refusal.kind();
        return Some((of_status(kind.status), kind.title));
    }
    let failure = extensions.get::<UpstreamFailure>()?;
    Some(match failure {
        UpstreamFailure::Failed => (14, "The upstream could not be reached, or broke off"),
        UpstreamFailure::TimedOut => (4, "The upstream took too long"),
    })
}

/// The code that a client of gRPC acts on as one of HTTP does on this status.
const fn of_status(status: StatusCode) -> u16 {
    match status {
        StatusCode::BAD_REQUEST => 3,
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => 12,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => 8,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => 14,
        StatusCode::GATEWAY_TIMEOUT => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body;

    use super::*;
    use crate::context::Identity;
    use crate::refusal::Refusal;

    type Answer = Response<problem::Body<String>>;

    #[test]
    fn a_refusal_is_a_status_of_grpc_and_keeps_when_to_try_again() {
        for (refusal, status) in [
            (Refusal::TokenMissing, "16"),
            (Refusal::KeyUnknown, "16"),
            (Refusal::PermissionDenied, "7"),
            (Refusal::NoRoute, "12"),
            (Refusal::RateLimited, "8"),
            (Refusal::BodyTooLarge, "8"),
            (Refusal::StoreUnavailable, "14"),
            (Refusal::AmbiguousPath, "3"),
        ] {
            let identity = Identity::ANONYMOUS;
            let refused: Answer = Refused { refusal, identity }.into_response(None);
            let again = refused.headers().get("retry-after").cloned();
            let mut spelled = refused;
            spell(&mut spelled);
            assert_eq!(spelled.status(), 200);
            assert_eq!(spelled.headers()["content-type"], "application/grpc");
            assert_eq!(spelled.headers()["grpc-status"], status, "{refusal:?}");
            assert!(spelled.headers().contains_key("grpc-message"));
            assert_eq!(spelled.headers().get("retry-after").cloned(), again);
            assert!(spelled.body().is_end_stream(), "nothing follows the fields");
        }
    }

    #[test]
    fn what_an_upstream_answered_is_left_alone() {
        let mut answer: Answer = Response::new(problem::Body::inner("x".to_owned()));
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
        spell(&mut answer);
        assert_eq!(answer.status(), 401);
        assert!(!answer.headers().contains_key("grpc-status"));
    }

    #[test]
    fn only_http2_with_its_media_type_is_grpc() {
        for (version, kind, is) in [
            (Version::HTTP_2, "application/grpc", true),
            (Version::HTTP_2, "application/grpc+proto", true),
            (Version::HTTP_11, "application/grpc", false),
            (Version::HTTP_2, "application/json", false),
        ] {
            let mut request = Request::new(());
            *request.version_mut() = version;
            let kind = HeaderValue::from_static(kind);
            request.headers_mut().insert(CONTENT_TYPE, kind);
            assert_eq!(is_grpc(&request), is);
        }
    }
}

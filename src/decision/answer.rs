//! An answer, as each proxy takes it.

use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::dialect::{Dialect, Unclear};
use crate::context::{Admitted, Refused, RequestId};
use crate::problem::{self, Kind, Problem};

/// What the refusal's status would be, where the answer cannot have it.
const X_EDGE_STATUS: HeaderName = HeaderName::from_static("x-edge-status");
/// The refusal's document, where the answer's body is thrown away.
const X_EDGE_PROBLEM: HeaderName = HeaderName::from_static("x-edge-problem");
/// What Envoy is to take off its client's request.
const TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Why a question is not heard. Its client is not told more.
pub(super) const fn unclear(unclear: Unclear) -> Kind {
    let title = match unclear {
        Unclear::Method => "The method asked about is missing, repeated or malformed",
        Unclear::Target => "The target asked about is missing, repeated or malformed",
        Unclear::Host => "The host asked about is missing, repeated or malformed",
        Unclear::Address => "The client's address is missing, repeated or malformed",
    };
    Kind {
        status: StatusCode::BAD_REQUEST,
        slug: "question-unclear",
        title,
    }
}

pub(super) const STRANGER: Kind = Kind {
    status: StatusCode::FORBIDDEN,
    slug: "caller-unknown",
    title: "Whoever asks is not a proxy that may",
};

/// Puts a decision into words that a proxy acts on. `told` are the fields that
/// are the answer's to say: what it does not say, the client must not say.
pub(super) fn put<B>(dialect: Dialect, told: &[HeaderName], response: &mut Response<B>) {
    match (response.extensions_mut().remove::<Admitted>(), dialect) {
        (Some(_), Dialect::Envoy) => remove_unsaid(told, response),
        (Some(_), Dialect::Nginx | Dialect::Traefik) => {}
        (None, Dialect::Nginx) => {
            let refused = response.extensions().get::<Refused>();
            let kind = refused.map(|refused| refused.refusal.kind());
            refuse_nginx(kind, response);
        }
        (None, Dialect::Traefik | Dialect::Envoy) => refuse(response),
    }
}

/// The answer to a question that is not heard.
pub(super) fn unheard<B>(dialect: Dialect, kind: Kind) -> Response<problem::Body<B>> {
    let problem = Problem {
        kind,
        request_id: None,
    };
    let mut response = problem.response();
    if dialect == Dialect::Nginx {
        refuse_nginx(Some(kind), &mut response);
    }
    response
}

/// To both, any 2xx would be an admission.
fn refuse<B>(response: &mut Response<B>) {
    if response.status().is_success() {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
}

/// nginx knows 401 and 403. Any other status is a fault to it, and a 500 to its
/// client.
fn refuse_nginx<B>(kind: Option<Kind>, response: &mut Response<B>) {
    refuse(response);
    let status = response.status();
    let document = kind.map(|kind| document(kind, response));
    let headers = response.headers_mut();
    headers.insert(X_EDGE_STATUS, HeaderValue::from(status.as_u16()));
    if let Some(document) = document {
        headers.insert(X_EDGE_PROBLEM, document);
    }
    if status != StatusCode::UNAUTHORIZED {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
}

fn document<B>(kind: Kind, response: &Response<B>) -> HeaderValue {
    let request_id = response.headers().get(RequestId::FIELD);
    let problem = Problem {
        kind,
        request_id: request_id.and_then(|id| id.to_str().ok()),
    };
    // why: JSON of visible ASCII is a header value.
    HeaderValue::try_from(problem.to_json()).unwrap_or(HeaderValue::from_static("{}"))
}

/// Envoy adds the answer's fields to what its client sent.
fn remove_unsaid<B>(told: &[HeaderName], response: &mut Response<B>) {
    let headers = response.headers_mut();
    let unsaid: Vec<&str> = told
        .iter()
        .filter(|name| !headers.contains_key(*name))
        .map(HeaderName::as_str)
        .collect();
    if let Ok(unsaid) = HeaderValue::try_from(unsaid.join(",")) {
        headers.insert(TO_REMOVE, unsaid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Identity;
    use crate::refusal::Refusal;

    const TOLD: [HeaderName; 2] = [
        HeaderName::from_static("x-edge-key-id"),
        HeaderName::from_static("x-edge-route"),
    ];

    fn put_refusal(dialect: Dialect, refusal: Refusal) -> Response<()> {
        let refused = Refused {
            refusal,
            identity: Identity::ANONYMOUS,
        };
        let mut response = refused.into_response::<String>(None).map(drop);
        put(dialect, &TOLD, &mut response);
        response
    }

    #[test]
    fn nginx_is_told_401_or_403_and_what_it_would_have_been() {
        for refusal in Refusal::ALL {
            let response = put_refusal(Dialect::Nginx, refusal);
            let meant = refusal.kind().status;
            let expected = if meant == 401 { 401 } else { 403 };
            assert_eq!(response.status(), expected, "{refusal:?}");
            assert_eq!(response.headers()[X_EDGE_STATUS], meant.as_str());
            let document = response.headers()[X_EDGE_PROBLEM].to_str().unwrap();
            assert!(document.contains(refusal.kind().slug), "{document}");
        }
    }

    #[test]
    fn the_others_are_told_as_a_client_would_be() {
        for dialect in [Dialect::Traefik, Dialect::Envoy] {
            for refusal in Refusal::ALL {
                let response = put_refusal(dialect, refusal);
                assert_eq!(response.status(), refusal.kind().status);
            }
        }
    }

    #[test]
    fn only_an_admission_is_told_as_one() {
        for dialect in [Dialect::Nginx, Dialect::Traefik, Dialect::Envoy] {
            let mut unmarked = Response::new(());
            put(dialect, &TOLD, &mut unmarked);
            assert_eq!(unmarked.status(), 403, "{dialect:?}");
            let mut admitted = Response::new(());
            admitted.extensions_mut().insert(Admitted);
            put(dialect, &TOLD, &mut admitted);
            assert_eq!(admitted.status(), 200, "{dialect:?}");
        }
    }

    #[test]
    fn envoy_takes_off_what_the_answer_does_not_say() {
        let mut response = Response::new(());
        response.extensions_mut().insert(Admitted);
        let said = HeaderValue::from_static("orders");
        response.headers_mut().insert("x-edge-route", said);
        put(Dialect::Envoy, &TOLD, &mut response);
        assert_eq!(response.headers()[TO_REMOVE], "x-edge-key-id");
    }
}

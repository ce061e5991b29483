//! Problem details for HTTP APIs (RFC 9457).

mod body;

pub use body::Body;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// The media type of a [`Problem`] (RFC 9457, section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What a kind of problem always says: the stable part of a [`Problem`].
///
/// `slug` ends its type URI, `urn:cypheron-edge:problem:<slug>`, and is what
/// metrics and usage events call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub status: StatusCode,
    pub slug: &'static str,
    pub title: &'static str,
}

/// One problem document, about one request.
///
/// Nothing that a client did not send or may not know goes in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem<'a> {
    pub kind: Kind,
    pub request_id: Option<&'a str>,
}

impl Problem<'_> {
    /// The document's JSON.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: Option<&'a str>,
        }
        let document = Document {
            r#type: format!("urn:cypheron-edge:problem:{}", self.kind.slug),
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            request_id: self.request_id,
        };
        // why: strings and a number always serialize.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// The response that says so.
    pub fn response<B>(&self) -> Response<Body<B>> {
        let document = Bytes::from(self.to_json());
        let length = HeaderValue::from(document.len());
        let mut response = Response::new(Body::document(document));
        *response.status_mut() = self.kind.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CONTENT_LENGTH, length);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_carries_its_type_status_and_request() {
        let problem = Problem {
            kind: Kind {
                status: StatusCode::NOT_FOUND,
                slug: "no-route",
                title: "No route matches",
            },
            request_id: Some("a\"b"),
        };
        let json: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
        assert_eq!(json["type"], "urn:cypheron-edge:problem:no-route");
        assert_eq!(json["status"], 404);
        assert_eq!(json["request_id"], "a\"b");
    }
}

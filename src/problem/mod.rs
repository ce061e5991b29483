//! Problem details for HTTP APIs (RFC 9457).

mod body;

pub use body::Body;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// The media type of a [`Problem`] (RFC 9457, section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

// What stands between the values of a document.
const TYPE: &str = r#"{"type":"urn:cypheron-edge:problem:"#;
const TITLE: &str = r#"","title":""#;
const STATUS: &str = r#"","status":"#;
const REQUEST_ID: &str = r#","request_id":""#;

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
        let Kind {
            status,
            slug,
            title,
        } = self.kind;
        let id = self.request_id;
        let texts = slug.len() + title.len() + id.map_or(0, |id| REQUEST_ID.len() + id.len() + 1);
        let length = TYPE.len() + TITLE.len() + STATUS.len() + status.as_str().len() + 1 + texts;
        // A flood of refusals is a flood of these: exactly as long as most are,
        // so that it is the response's one buffer as it is.
        let mut json = Vec::with_capacity(length);
        json.extend_from_slice(TYPE.as_bytes());
        extend_escaped(&mut json, slug);
        json.extend_from_slice(TITLE.as_bytes());
        extend_escaped(&mut json, title);
        json.extend_from_slice(STATUS.as_bytes());
        json.extend_from_slice(status.as_str().as_bytes());
        if let Some(id) = id {
            json.extend_from_slice(REQUEST_ID.as_bytes());
            extend_escaped(&mut json, id);
            json.push(b'"');
        }
        json.push(b'}');
        json
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

/// Adds `text` as it stands between the quotes of a JSON string.
fn extend_escaped(json: &mut Vec<u8>, text: &str) {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // To the end, without a branch for each byte: hardly any text has one.
    let any = |found: u8, byte| found | u8::from(is_special(byte));
    if text.bytes().fold(0, any) == 0 {
        json.extend_from_slice(text.as_bytes());
        return;
    }
    // why: text always serializes.
    let quoted = serde_json::to_string(text).unwrap_or_default();
    let inside = quoted.get(1..quoted.len().saturating_sub(1));
    json.extend_from_slice(inside.unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    const GONE: Kind = Kind {
        status: StatusCode::GONE,
        slug: "gone",
        title: "It is \"gone\", they say",
    };

    #[test]
    fn a_problem_without_a_request_says_nothing_of_one() {
        let problem = Problem {
            kind: GONE,
            request_id: None,
        };
        let json: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
        let expected = serde_json::json!({
            "type": "urn:cypheron-edge:problem:gone",
            "title": GONE.title,
            "status": 410,
        });
        assert_eq!(json, expected);
    }

    proptest! {
        #[test]
        fn whatever_a_request_is_called_the_document_says_so(id in any::<String>()) {
            let problem = Problem {
                kind: GONE,
                request_id: Some(&id),
            };
            let json: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
            prop_assert_eq!(json["request_id"].as_str(), Some(&*id));
        }

        #[test]
        fn a_document_is_as_long_as_its_buffer(id in "[!#-\\[\\]-~]{1,128}") {
            let kind = Kind { title: "Gone", ..GONE };
            let json = Problem { kind, request_id: Some(&id) }.to_json();
            prop_assert_eq!(json.len(), json.capacity());
        }
    }
}

//! Problem details for HTTP APIs (RFC 9457).

mod body;
mod length;
mod within;

pub use body::Body;
pub use within::{Answers, Around, Inside, Within};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

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
        self.response_in(fields())
    }

    /// The same with `headers`, which are empty and may have room.
    pub(crate) fn response_in<B>(&self, mut headers: HeaderMap) -> Response<Body<B>> {
        let document = self.to_json().into_boxed_slice();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CONTENT_LENGTH, length::field(document.len()));
        let mut response = Response::new(Body::document(document));
        *response.status_mut() = self.kind.status;
        *response.headers_mut() = headers;
        response
    }
}

/// With room for all that an answer of ours says.
pub(crate) fn fields() -> HeaderMap {
    HeaderMap::with_capacity(12)
}

/// Adds `text` as it stands between the quotes of a JSON string.
fn extend_escaped(json: &mut Vec<u8>, text: &str) {
    if is_plain(text.as_bytes()) {
        json.extend_from_slice(text.as_bytes());
        return;
    }
    // why: text always serializes.
    let quoted = serde_json::to_string(text).unwrap_or_default();
    let inside = quoted.get(1..quoted.len().saturating_sub(1));
    json.extend_from_slice(inside.unwrap_or_default().as_bytes());
}

/// Whether nothing has to be escaped, eight bytes at a time: hardly any text has
/// anything.
fn is_plain(text: &[u8]) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = ONES << 7;
    // The highest bit of a byte that is less, if any is; for `than` up to 128
    // ("Bit Twiddling Hacks", "Determine if a word has a byte less than n").
    let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word & HIGHEST;
    let equal = |word: u64, to: u8| less(word ^ (ONES * u64::from(to)), 1);
    let special = |word| less(word, b' ') | equal(word, b'"') | equal(word, b'\\');
    let (words, rest) = text.as_chunks();
    let found = words
        .iter()
        .fold(0, |found, word| found | special(u64::from_le_bytes(*word)));
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    found | special(u64::from_le_bytes(last)) == 0
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
        fn a_text_is_plain_when_none_of_its_bytes_is_to_be_escaped(
            text in proptest::collection::vec(
                prop_oneof![4 => any::<u8>(), 8 => Just(b'a'), 1 => 0x1e_u8..0x24, 1 => 0x5b_u8..0x5e],
                0..40,
            )
        ) {
            let special = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\\');
            prop_assert_eq!(is_plain(&text), !text.iter().any(special));
        }

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

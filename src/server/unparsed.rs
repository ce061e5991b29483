//! Answers to what never became a request.

use http::StatusCode;

use crate::problem::{Kind, MEDIA_TYPE, Problem};

pub(super) const NOT_HTTP: Kind = Kind {
    status: StatusCode::BAD_REQUEST,
    slug: "bad-request",
    title: "The request is not valid HTTP/1.1",
};

const TARGET_TOO_LONG: Kind = Kind {
    status: StatusCode::URI_TOO_LONG,
    slug: "target-too-long",
    title: "The request target is too long",
};

const HEAD_TOO_LARGE: Kind = Kind {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    slug: "head-too-large",
    title: "The request's header fields are too large or too many",
};

/// The head did not come in time.
pub(super) const TOO_SLOW: Kind = Kind {
    status: StatusCode::REQUEST_TIMEOUT,
    slug: "request-timeout",
    title: "The request's head did not come in time",
};

/// The whole answer. It ends the connection, and has no request id: nothing
/// was read that could have one.
pub(super) fn answer(kind: Kind) -> Vec<u8> {
    let document = Problem {
        kind,
        request_id: None,
    }
    .to_json();
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {MEDIA_TYPE}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        kind.status.as_u16(),
        kind.status.canonical_reason().unwrap_or_default(),
        document.len()
    )
    .into_bytes();
    answer.extend_from_slice(&document);
    answer
}

/// What to say instead of `bare`, hyper's own answer to a head that it could
/// not read; `None` when it is no such answer.
pub(super) fn instead_of(bare: &[u8]) -> Option<Vec<u8>> {
    let status = bare.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let kind = match status {
        b"400" => NOT_HTTP,
        b"414" => TARGET_TOO_LONG,
        b"431" => HEAD_TOO_LARGE,
        _ => return None,
    };
    bare.ends_with(b"\r\n\r\n").then(|| answer(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_answer_gets_a_problem_document() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
        let answer = String::from_utf8(instead_of(bare).unwrap()).unwrap();
        let (head, document) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
        assert!(head.contains(&format!("content-length: {}", document.len())));
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        assert_eq!(document["type"], "urn:cypheron-edge:problem:head-too-large");
    }

    #[test]
    fn other_answers_are_left_alone() {
        for other in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nabc",
            b"HTTP/1.1 4",
            b"",
        ] {
            assert_eq!(instead_of(other), None);
        }
    }
}

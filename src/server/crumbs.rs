//! Fields that HTTP/2 may bring several times, and everybody behind expects once.

use http::header::{CONTENT_LENGTH, COOKIE};
use http::{HeaderMap, HeaderValue};

/// Joins `Cookie` fields into one (RFC 9113, section 8.2.3), and leaves one of
/// lengths that are the same (RFC 9110, section 8.6); hyper refuses others.
pub(super) fn join(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let (Some(length), Some(_)) = (lengths.next(), lengths.next()) {
        let length = length.clone();
        headers.insert(CONTENT_LENGTH, length);
    }
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    // why: values joined by visible ASCII are one.
    if let Ok(joined) = HeaderValue::try_from(joined) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_said_once() {
        let mut headers = HeaderMap::new();
        for _ in 0..3 {
            join(&mut headers);
            headers.append(CONTENT_LENGTH, HeaderValue::from_static("5"));
        }
        join(&mut headers);
        assert_eq!(headers.get_all(CONTENT_LENGTH).iter().count(), 1);
    }

    #[test]
    fn crumbs_become_one_cookie_in_their_order() {
        for (crumbs, whole) in [
            (&["a=1", "b=2", "c=3"][..], vec!["a=1; b=2; c=3"]),
            (&["a=1; b=2"], vec!["a=1; b=2"]),
            (&[], vec![]),
        ] {
            let mut headers = HeaderMap::new();
            for crumb in crumbs {
                headers.append(COOKIE, HeaderValue::from_static(crumb));
            }
            join(&mut headers);
            let joined: Vec<_> = headers.get_all(COOKIE).iter().collect();
            assert_eq!(joined, whole);
        }
    }
}

//! Cookies, which HTTP/2 may send in crumbs.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Joins `Cookie` fields into one, as everybody behind expects it (RFC 9113,
/// section 8.2.3).
pub(super) fn join(headers: &mut HeaderMap) {
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

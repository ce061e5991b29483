//! Which header and trailer fields go no further.
//!
//! Names are compared as an application behind CGI or WSGI sees them, where
//! `-` and `_` are one, and to some servers whatever is no letter and no digit:
//! `X_Edge_Key_Id` and `X.Edge.Key.Id` would be read as `X-Edge-Key-Id`.

use std::cell::{RefCell, RefMut};

use http::header::{CONNECTION, HOST, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Longer than any name that is known here.
const LONGEST: usize = 48;

/// What names are made of that every server reads alike.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < u8::MAX {
        plain[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'-';
        byte += 1;
    }
    plain
};

/// What a field is to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Keep,
    /// Between two neighbours (RFC 9110, section 7.6.1), or settled here.
    HopByHop,
    /// Only this proxy says it.
    Ours,
    /// Another method or path than what was authorized, to some applications.
    Override,
    /// Believed from a trusted proxy only.
    Forwarded,
    /// A field that matters here, in a spelling that another server would
    /// take for it.
    Disguised,
}

impl Fate {
    fn of(name: &str) -> Self {
        let is_plain = |byte: u8| PLAIN[usize::from(byte)];
        // Of all, without a branch for each: nearly every name is.
        if name.bytes().fold(true, |all, byte| all & is_plain(byte)) {
            return Self::of_plain(name);
        }
        let mut folded = [0; LONGEST];
        let length = name.len().min(LONGEST);
        for (to, from) in folded.iter_mut().zip(name.bytes()) {
            *to = if is_plain(from) { from } else { b'-' };
        }
        let folded = std::str::from_utf8(&folded[..length]).unwrap_or_default();
        match Self::of_plain(folded) {
            Self::Keep if !matches!(folded, "host" | "content-length" | "trailer") => Self::Keep,
            // What a request is called decides nothing: it is removed, and refused nowhere.
            _ if folded == "x-request-id" => Self::Ours,
            _ => Self::Disguised,
        }
    }

    fn of_plain(name: &str) -> Self {
        match name.as_bytes() {
            // `Proxy` alone would name a proxy to a CGI program (CVE-2016-5385).
            b"connection"
            | b"keep-alive"
            | b"te"
            | b"transfer-encoding"
            | b"upgrade"
            | b"http2-settings"
            | b"expect"
            | b"proxy"
            | [b'p', b'r', b'o', b'x', b'y', b'-', ..] => Self::HopByHop,
            b"forwarded" | b"x-real-ip" => Self::Forwarded,
            b"x-http-method-override"
            | b"x-method-override"
            | b"x-http-method"
            | b"x-original-url"
            | b"x-rewrite-url" => Self::Override,
            b"x-request-id" => Self::Ours,
            [b'x', b'-', rest @ ..] if rest.starts_with(b"edge-") => Self::Ours,
            [b'x', b'-', rest @ ..] if rest.starts_with(b"forwarded-") => Self::Forwarded,
            _ => Self::Keep,
        }
    }

    const fn passes_request(self, peer_is_trusted: bool) -> bool {
        match self {
            Self::Keep => true,
            Self::Forwarded => peer_is_trusted,
            Self::HopByHop | Self::Ours | Self::Override | Self::Disguised => false,
        }
    }

    const fn passes_response(self) -> bool {
        !matches!(self, Self::HopByHop)
    }
}

/// Whether another server would take the field for one that matters here.
pub(super) fn is_disguised(name: &HeaderName) -> bool {
    Fate::of(name.as_str()) == Fate::Disguised
}

/// Removes fields; keeps the room to note them in from one message to the next.
#[derive(Debug, Default)]
pub(super) struct Scrubber(RefCell<Vec<HeaderName>>);

impl Scrubber {
    /// Removes from a request what goes no further. Says what of that its
    /// client meant us to do.
    pub(super) fn scrub_request(&self, headers: &mut HeaderMap, peer_is_trusted: bool) -> Wishes {
        let doomed = self.condemn(headers, |fate| fate.passes_request(peer_is_trusted));
        let trailers = doomed.contains(&TE) && headers.get_all(TE).iter().any(names_trailers);
        let upgrade = doomed.contains(&UPGRADE).then(|| upgrade(headers));
        remove(headers, doomed);
        Wishes {
            trailers,
            upgrade: upgrade.flatten(),
        }
    }

    /// Removes from a response what goes no further.
    pub(super) fn scrub_response(&self, headers: &mut HeaderMap) {
        let doomed = self.condemn(headers, Fate::passes_response);
        remove(headers, doomed);
    }

    fn condemn(
        &self,
        headers: &HeaderMap,
        passes: impl Fn(Fate) -> bool,
    ) -> RefMut<'_, Vec<HeaderName>> {
        let mut doomed = self.0.borrow_mut();
        for name in headers.keys() {
            if !passes(Fate::of(name.as_str())) {
                doomed.push(name.clone());
            }
            if *name == CONNECTION {
                named_by_connection(headers, &mut doomed);
            }
        }
        doomed
    }
}

fn remove(headers: &mut HeaderMap, mut doomed: RefMut<'_, Vec<HeaderName>>) {
    for name in doomed.drain(..) {
        headers.remove(name);
    }
}

/// What a client asks of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wishes {
    /// It takes trailers.
    pub(super) trailers: bool,
    /// It would speak one of these protocols.
    pub(super) upgrade: Option<HeaderValue>,
}

/// The only `Upgrade`, where `Connection` names it, too.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut fields = headers.get_all(UPGRADE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let mut options = headers.get_all(CONNECTION).iter();
    let named = options.any(|list| names(list, b"upgrade"));
    named.then(|| field.clone())
}

/// Removes from the trailers of a request what goes no further. Nobody may
/// say in a trailer where a request comes from.
pub(super) fn scrub_request_trailers(trailers: &mut HeaderMap) {
    Scrubber::default().scrub_request(trailers, false);
    trailers.remove(HOST);
}

/// Removes from the trailers of a response what goes no further.
pub(super) fn scrub_response_trailers(trailers: &mut HeaderMap) {
    Scrubber::default().scrub_response(trailers);
}

/// What `Connection` names is for this hop only. The host is not to be lost
/// that way: a request without one means something else.
fn named_by_connection(headers: &HeaderMap, doomed: &mut Vec<HeaderName>) {
    let names = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|list| list.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != HOST && headers.contains_key(name));
    doomed.extend(names);
}

fn names_trailers(te: &HeaderValue) -> bool {
    names(te, b"trailers")
}

fn names(list: &HeaderValue, word: &[u8]) -> bool {
    list.as_bytes()
        .split(|&byte| byte == b',')
        .any(|named| named.trim_ascii().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::super::telling;
    use super::*;

    #[test]
    fn what_is_told_is_not_left_of_what_a_client_sent() {
        for field in telling::ALL {
            let fate = Fate::of(field.name.as_str());
            assert!(matches!(fate, Fate::Ours | Fate::Forwarded), "{field:?}");
        }
    }

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    fn left(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn what_is_for_one_hop_or_ours_to_say_goes_no_further() {
        for name in [
            "Connection",
            "Keep-Alive",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Proxy",
            "TE",
            "Transfer-Encoding",
            "Transfer_Encoding",
            "Upgrade",
            "HTTP2-Settings",
            "Expect",
            "X-Edge-Key-Id",
            "x_edge_key_id",
            "X-Request-Id",
            "X_Request_ID",
            "X-Edge_Anything-At-All-However-Long-It-May-Be-And-It-May-Be-Long",
            "X_Edge_Anything_At_All_However_Long_It_May_Be_And_It_May_Be_Long",
            "X-HTTP-Method-Override",
            "X_HTTP_Method",
            "X-Method-Override",
            "X-Original-URL",
            "X_Rewrite_URL",
            "X.Edge.Key.Id",
            "X+Edge+Permissions",
            "X.HTTP.Method.Override",
            "X!Original~URL",
            "X|Real|IP",
            "Content_Length",
            "X_Forwarded_For",
            "X-Forwarded_For",
            "X_Real_IP",
        ] {
            for trusted in [false, true] {
                let mut headers = headers(&[(name, "spoof")]);
                Scrubber::default().scrub_request(&mut headers, trusted);
                assert_eq!(left(&headers), [""; 0], "{name}");
            }
        }
    }

    #[test]
    fn what_was_forwarded_is_believed_from_a_trusted_proxy_only() {
        for name in [
            "x-forwarded-for",
            "x-forwarded-prefix",
            "forwarded",
            "x-real-ip",
        ] {
            let mut spoofed = headers(&[(name, "spoof")]);
            Scrubber::default().scrub_request(&mut spoofed, false);
            assert_eq!(left(&spoofed), [""; 0]);
            let mut told = headers(&[(name, "told")]);
            Scrubber::default().scrub_request(&mut told, true);
            assert_eq!(left(&told), [name]);
            scrub_request_trailers(&mut told);
            assert_eq!(left(&told), [""; 0]);
        }
    }

    #[test]
    fn what_connection_names_goes_no_further_but_the_host_stays() {
        let mut headers = headers(&[
            ("host", "a"),
            ("connection", "close, X-One"),
            ("connection", "host,x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ]);
        Scrubber::default().scrub_request(&mut headers, false);
        assert_eq!(left(&headers), ["host", "x-three"]);
    }

    #[test]
    fn other_fields_are_nobodys_business() {
        let fields = [
            ("authorization", "Basic eA=="),
            ("x-edgeware", "1"),
            ("x_custom", "1"),
            ("x-forwarder", "1"),
            ("trailer", "x-sum"),
            ("content-length", "3"),
        ];
        let mut headers = headers(&fields);
        Scrubber::default().scrub_request(&mut headers, false);
        assert_eq!(left(&headers), fields.map(|(name, _)| name));
    }

    #[test]
    fn a_response_loses_only_what_is_for_one_hop() {
        let mut headers = headers(&[
            ("connection", "x-one"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("transfer-encoding", "chunked"),
            ("x-one", "1"),
            ("ratelimit", "\"app\";r=1"),
        ]);
        Scrubber::default().scrub_response(&mut headers);
        assert_eq!(left(&headers), ["ratelimit"]);
    }

    #[test]
    fn a_client_that_takes_trailers_says_so() {
        for (te, takes) in [
            ("trailers", true),
            ("gzip;q=1, Trailers", true),
            ("gzip", false),
        ] {
            let mut headers = headers(&[("te", te)]);
            let wishes = Scrubber::default().scrub_request(&mut headers, false);
            assert_eq!(wishes.trailers, takes, "{te}");
        }
    }

    #[test]
    fn a_client_that_would_upgrade_says_so_once_and_to_its_neighbour() {
        type Fields<'a> = &'a [(&'a str, &'a str)];
        let rows: [(Fields<'_>, Option<&str>); 5] = [
            (
                &[
                    ("connection", "keep-alive, Upgrade"),
                    ("upgrade", "websocket"),
                ],
                Some("websocket"),
            ),
            (&[("upgrade", "websocket")], None),
            (&[("connection", "close"), ("upgrade", "websocket")], None),
            (
                &[
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                    ("upgrade", "h2c"),
                ],
                None,
            ),
            (&[("connection", "upgrade")], None),
        ];
        for (fields, upgrade) in rows {
            let mut headers = headers(fields);
            let wishes = Scrubber::default().scrub_request(&mut headers, false);
            assert_eq!(
                wishes.upgrade.as_ref().map(|v| v.to_str().unwrap()),
                upgrade
            );
            assert_eq!(left(&headers), [""; 0]);
        }
    }
}

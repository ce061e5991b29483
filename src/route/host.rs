//! The host that a request is for.

use std::borrow::Cow;
use std::fmt;

/// The longest name that DNS knows.
const MAX_LENGTH: usize = 253;

/// A host as routes are matched by it: lower case, without port, without the
/// dot that may end a name. Nearly every one was sent so, and is borrowed.
#[derive(Clone, PartialEq, Eq)]
pub struct Host<'a>(Cow<'a, [u8]>);

impl<'a> Host<'a> {
    /// From a `Host` field or the authority of a URL: `None` when it is empty,
    /// not a name or address, or has user information.
    pub fn parse(authority: &'a [u8]) -> Option<Self> {
        Self::plain(authority).or_else(|| Self::any(authority))
    }

    /// A name or an IPv4 address without a final dot, with or without a port, in
    /// one pass over it: nearly every one is.
    fn plain(authority: &'a [u8]) -> Option<Self> {
        let mut length = 0;
        let mut before = b'.';
        let mut is_lower = true;
        for &byte in authority {
            let lower = LOWER[usize::from(byte)];
            if lower == 0 || lower == b'.' && before == b'.' {
                break;
            }
            is_lower &= lower == byte;
            length += 1;
            before = lower;
        }
        let (host, port) = authority.split_at(length);
        let ends = match port {
            [] => true,
            [b':', port @ ..] => is_port(port),
            _ => false,
        };
        let whole = ends && before != b'.' && length <= MAX_LENGTH;
        whole.then(|| Self::of(host, is_lower))
    }

    fn any(authority: &'a [u8]) -> Option<Self> {
        let host = without_port(authority)?;
        let host = match host.strip_suffix(b".") {
            Some(name) if !host.starts_with(b"[") => name,
            _ => host,
        };
        let valid = match host {
            [b'[', address @ .., b']'] => address
                .iter()
                .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')),
            name => name.split(|byte| *byte == b'.').all(is_label),
        };
        if !valid || host.is_empty() || host.len() > MAX_LENGTH {
            return None;
        }
        Some(Self::of(host, !host.iter().any(u8::is_ascii_uppercase)))
    }

    fn of(host: &'a [u8], is_lower: bool) -> Self {
        Self(if is_lower {
            Cow::Borrowed(host)
        } else {
            Cow::Owned(host.to_ascii_lowercase())
        })
    }

    pub fn as_str(&self) -> &str {
        // why: made of ASCII only, which is always text.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a name may hold, in lower case: labels and dots. Zero for anything else.
static LOWER: [u8; 256] = {
    let mut lower = [0; 256];
    let mut byte = 0;
    while byte < u8::MAX {
        if is_in_label(byte) || byte == b'.' {
            lower[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    lower
};

fn is_label(label: &[u8]) -> bool {
    !label.is_empty() && label.iter().copied().all(is_in_label)
}

const fn is_in_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_port(port: &[u8]) -> bool {
    port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

fn without_port(authority: &[u8]) -> Option<&[u8]> {
    let after_address = authority
        .iter()
        .position(|&byte| byte == b']')
        .map_or(0, |end| end + 1);
    let Some(colon) = authority[after_address..]
        .iter()
        .position(|&byte| byte == b':')
    else {
        return Some(authority);
    };
    let (host, port) = authority.split_at(after_address + colon);
    is_port(&port[1..]).then_some(host)
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plain_host_is_what_any_host_would_be(
            authority in "[aZ9._:\\-\\[\\]@/]{0,12}(\\.[aB0]{0,130}){0,3}(:[0-9]{0,6})?"
        ) {
            let plain = Host::plain(authority.as_bytes());
            prop_assert!(plain.is_none() || plain == Host::any(authority.as_bytes()));
        }

        #[test]
        fn names_and_ports_are_plain(name in "[a-zA-Z0-9_-]{1,20}(\\.[a-z0-9]{1,20}){0,3}(:[0-9]{0,5})?") {
            prop_assert!(Host::plain(name.as_bytes()).is_some());
        }
    }

    #[test]
    fn a_host_is_matched_without_case_port_and_final_dot() {
        for (authority, host) in [
            ("Example.COM", Some("example.com")),
            ("example.com:8080", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("example.com.:80", Some("example.com")),
            ("example.com:", Some("example.com")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("[2001:DB8::1]:443", Some("[2001:db8::1]")),
            ("[::1]", Some("[::1]")),
            ("", None),
            (".", None),
            ("example..com", None),
            ("example.com..", None),
            (":80", None),
            ("user@example.com", None),
            ("example.com:80:80", None),
            ("example.com:port", None),
            ("example.com/path", None),
            ("example.com, other", None),
            ("[::1", None),
            ("::1", None),
            ("ex\u{e4}mple.com", None),
        ] {
            let parsed = Host::parse(authority.as_bytes());
            assert_eq!(parsed.as_ref().map(Host::as_str), host, "{authority}");
        }
        assert!(Host::parse("a".repeat(253).as_bytes()).is_some());
        assert!(Host::parse("a".repeat(254).as_bytes()).is_none());
    }
}

//! `Forwarded` (RFC 7239): who asked whom, by which name and how, in one field.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use http::HeaderValue;
use serde::Deserialize;

/// Which fields tell an upstream where a request comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedFields {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    #[default]
    XForwarded,
    /// `Forwarded`.
    Forwarded,
    Both,
}

/// How a client is called in `Forwarded`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedFor {
    #[default]
    Address,
    /// Not at all: an identifier that is everybody's (RFC 7239, section 6.3).
    Hidden,
}

/// What one hop says of the one before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    /// `None` when it is not known.
    pub(super) client: Option<IpAddr>,
    pub(super) named: ForwardedFor,
    pub(super) host: Option<&'a [u8]>,
    pub(super) proto: Option<&'a [u8]>,
}

impl Element<'_> {
    /// The field: `chain`, what a proxy that is believed said, then this.
    pub(super) fn after<'c>(&self, chain: impl Iterator<Item = &'c HeaderValue>) -> HeaderValue {
        let mut field = BytesMut::with_capacity(128);
        for said in chain {
            field.put_slice(said.as_bytes());
            field.put_slice(b", ");
        }
        field.put_slice(b"for=");
        match (self.client, self.named) {
            (None, _) => field.put_slice(b"unknown"),
            (Some(_), ForwardedFor::Hidden) => field.put_slice(b"_hidden"),
            (Some(IpAddr::V4(address)), _) => field.put_slice(address.to_string().as_bytes()),
            // A token has no colon and no bracket.
            (Some(IpAddr::V6(address)), _) => {
                field.put_slice(format!("\"[{address}]\"").as_bytes());
            }
        }
        for (name, value) in [("host", self.host), ("proto", self.proto)] {
            if let Some(value) = value.filter(|value| can_be_quoted(value)) {
                field.put_u8(b';');
                field.put_slice(name.as_bytes());
                field.put_u8(b'=');
                put_value(value, &mut field);
            }
        }
        HeaderValue::from_maybe_shared(field.freeze())
            .unwrap_or(HeaderValue::from_static("for=unknown"))
    }
}

fn can_be_quoted(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// A token as it is, anything else in quotes (RFC 9110, section 5.6).
fn put_value(value: &[u8], field: &mut BytesMut) {
    if value.iter().all(|byte| is_token(*byte)) {
        field.put_slice(value);
        return;
    }
    field.put_u8(b'"');
    for &byte in value {
        if matches!(byte, b'"' | b'\\') {
            field.put_u8(b'\\');
        }
        field.put_u8(byte);
    }
    field.put_u8(b'"');
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(client: &str, named: ForwardedFor) -> String {
        let element = Element {
            client: client.parse().ok(),
            named,
            host: Some(b"api.example.com:8443"),
            proto: Some(b"https"),
        };
        element.after([].iter()).to_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_no_token_is_in_quotes() {
        let rest = ";host=\"api.example.com:8443\";proto=https";
        for (client, named, written) in [
            ("192.0.2.7", ForwardedFor::Address, "for=192.0.2.7"),
            (
                "2001:db8::7",
                ForwardedFor::Address,
                "for=\"[2001:db8::7]\"",
            ),
            ("192.0.2.7", ForwardedFor::Hidden, "for=_hidden"),
            ("", ForwardedFor::Address, "for=unknown"),
            ("", ForwardedFor::Hidden, "for=unknown"),
        ] {
            assert_eq!(element(client, named), format!("{written}{rest}"));
        }
    }

    #[test]
    fn what_was_said_before_stays_before() {
        let chain =
            ["for=192.0.2.1;proto=https", "for=_a, for=\"[::1]\""].map(HeaderValue::from_static);
        let element = Element {
            client: "192.0.2.9".parse().ok(),
            named: ForwardedFor::Address,
            host: None,
            proto: None,
        };
        assert_eq!(
            element.after(chain.iter()),
            "for=192.0.2.1;proto=https, for=_a, for=\"[::1]\", for=192.0.2.9"
        );
    }

    /// The pairs of one element, read as RFC 7239 has them.
    fn read(field: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut pairs = Vec::new();
        let mut rest = field;
        loop {
            let equals = rest.iter().position(|&byte| byte == b'=').unwrap();
            let name = String::from_utf8(rest[..equals].to_vec()).unwrap();
            rest = &rest[equals + 1..];
            let mut value = Vec::new();
            if let Some(quoted) = rest.strip_prefix(b"\"") {
                rest = quoted;
                while rest[0] != b'"' {
                    let escaped = usize::from(rest[0] == b'\\');
                    value.push(rest[escaped]);
                    rest = &rest[escaped + 1..];
                }
                rest = &rest[1..];
            } else {
                let end = rest.iter().position(|&byte| byte == b';');
                let (token, after) = rest.split_at(end.unwrap_or(rest.len()));
                assert!(!token.is_empty() && token.iter().all(|&byte| is_token(byte)));
                value.extend_from_slice(token);
                rest = after;
            }
            pairs.push((name, value));
            match rest {
                [] => return pairs,
                [b';', after @ ..] => rest = after,
                _ => panic!("more behind a value"),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_what_was_meant(
            address: IpAddr,
            host in proptest::collection::vec(any::<u8>(), 0..24),
            proto in "[ -~]{1,12}",
        ) {
            let element = Element {
                client: Some(address),
                named: ForwardedFor::Address,
                host: Some(&host),
                proto: Some(proto.as_bytes()),
            };
            let field = element.after([].iter());
            let pairs = read(field.as_bytes());
            let client = match address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            };
            let mut expected = vec![("for".to_owned(), client.into_bytes())];
            if can_be_quoted(&host) {
                expected.push(("host".to_owned(), host));
            }
            expected.push(("proto".to_owned(), proto.into_bytes()));
            prop_assert_eq!(pairs, expected);
        }
    }
}

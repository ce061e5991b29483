//! How a proxy describes its client's request.

use std::net::IpAddr;

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::Deserialize;

use crate::route::Host;

/// Whose words a listener takes. It reads no other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `auth_request`: every field is one that the configuration sets.
    Nginx,
    /// `ForwardAuth`: the fields that Traefik sets by itself.
    Traefik,
    /// `ext_authz` over HTTP: method, target and host are the question's own.
    Envoy,
}

const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-original-host");
const X_ORIGINAL_ADDRESS: HeaderName = HeaderName::from_static("x-original-address");

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What a proxy asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub method: Method,
    /// Exactly as the proxy forwards it.
    pub target: PathAndQuery,
    pub host: HeaderValue,
    pub client: IpAddr,
}

/// What of a question is missing, there twice, or not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclear {
    Method,
    Target,
    Host,
    Address,
}

impl Dialect {
    /// What is asked, in this dialect.
    pub fn question(self, head: &Parts) -> Result<Question, Unclear> {
        let field = |name, unclear| only(&head.headers, &name).ok_or(unclear);
        let (method, uri, host, address) = match self {
            Self::Nginx => (
                Some(field(X_ORIGINAL_METHOD, Unclear::Method)?),
                Some(field(X_ORIGINAL_URI, Unclear::Target)?),
                field(X_ORIGINAL_HOST, Unclear::Host)?,
                field(X_ORIGINAL_ADDRESS, Unclear::Address)?,
            ),
            Self::Traefik => (
                Some(field(X_FORWARDED_METHOD, Unclear::Method)?),
                Some(field(X_FORWARDED_URI, Unclear::Target)?),
                field(X_FORWARDED_HOST, Unclear::Host)?,
                field(X_FORWARDED_FOR, Unclear::Address)?,
            ),
            Self::Envoy => (
                None,
                None,
                field(HOST, Unclear::Host)?,
                field(X_ORIGINAL_ADDRESS, Unclear::Address)?,
            ),
        };
        Ok(Question {
            method: match method {
                Some(field) => method_of(field).ok_or(Unclear::Method)?,
                None => head.method.clone(),
            },
            target: match uri {
                Some(field) => target_of(field).ok_or(Unclear::Target)?,
                None => own_target(&head.uri).ok_or(Unclear::Target)?,
            },
            host: match Host::parse(host.as_bytes()) {
                Some(_) => host.clone(),
                None => return Err(Unclear::Host),
            },
            client: address_of(address).ok_or(Unclear::Address)?,
        })
    }
}

/// The field, when it is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (Some(field), None) => Some(field),
        _ => None,
    }
}

fn method_of(field: &HeaderValue) -> Option<Method> {
    Method::from_bytes(field.as_bytes()).ok()
}

/// A target that is what it says, whoever reads it: a fragment, a space or a
/// byte beyond ASCII would be cut off or encoded by one and not by another.
fn target_of(field: &HeaderValue) -> Option<PathAndQuery> {
    let text = field.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    if !text.starts_with(b"/") || !text.iter().all(plain) {
        return None;
    }
    let target = PathAndQuery::try_from(text).ok()?;
    (target.as_str().as_bytes() == text).then_some(target)
}

/// The target of a question that is asked under its client's own.
fn own_target(uri: &Uri) -> Option<PathAndQuery> {
    let target = uri.path_and_query()?;
    let bare = uri.authority().is_none() && target.as_str().starts_with('/');
    bare.then(|| target.clone())
}

/// One address. Of a list nobody here knows which entry to believe.
fn address_of(field: &HeaderValue) -> Option<IpAddr> {
    let address: IpAddr = field.to_str().ok()?.parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const NGINX: [(&str, &str); 4] = [
        ("x-original-method", "POST"),
        ("x-original-uri", "/orders?a=b"),
        ("x-original-host", "api.example.com:8443"),
        ("x-original-address", "192.0.2.7"),
    ];
    const TRAEFIK: [(&str, &str); 4] = [
        ("x-forwarded-method", "POST"),
        ("x-forwarded-uri", "/orders?a=b"),
        ("x-forwarded-host", "api.example.com:8443"),
        ("x-forwarded-for", "192.0.2.7"),
    ];
    const ENVOY: [(&str, &str); 2] = [
        ("host", "api.example.com:8443"),
        ("x-original-address", "192.0.2.7"),
    ];

    fn head<'a>(fields: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Parts {
        let mut request = Request::post("/orders?a=b").body(()).unwrap();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().append(name, value);
        }
        request.into_parts().0
    }

    #[test]
    fn each_dialect_says_the_same_in_its_own_fields() {
        for (dialect, fields) in [
            (Dialect::Nginx, &NGINX[..]),
            (Dialect::Traefik, &TRAEFIK),
            (Dialect::Envoy, &ENVOY),
        ] {
            let question = dialect.question(&head(fields)).unwrap();
            assert_eq!(question.method, Method::POST);
            assert_eq!(question.target, "/orders?a=b");
            assert_eq!(question.host, "api.example.com:8443");
            assert_eq!(question.client.to_string(), "192.0.2.7");
        }
    }

    #[test]
    fn a_field_that_is_missing_or_there_twice_is_not_guessed() {
        for (dialect, fields) in [
            (Dialect::Nginx, &NGINX[..]),
            (Dialect::Traefik, &TRAEFIK),
            (Dialect::Envoy, &ENVOY),
        ] {
            for (at, field) in fields.iter().enumerate() {
                let others = fields.iter().enumerate().filter(|(other, _)| *other != at);
                let missing: Vec<_> = others.map(|(_, field)| field).collect();
                assert!(dialect.question(&head(missing)).is_err(), "{field:?}");
                let twice = fields.iter().chain([field]);
                assert!(dialect.question(&head(twice)).is_err(), "{field:?}");
            }
        }
    }

    #[test]
    fn no_dialect_reads_the_fields_of_another() {
        let everything: Vec<_> = NGINX.iter().chain(&TRAEFIK).collect();
        for (dialect, own) in [
            (Dialect::Nginx, "original"),
            (Dialect::Traefik, "forwarded"),
        ] {
            let foreign = everything.iter().map(|(name, value)| match name {
                name if name.contains(own) => (*name, *value),
                name if name.ends_with("uri") => (*name, "/public"),
                name if name.ends_with("method") => (*name, "GET"),
                name => (*name, *value),
            });
            let foreign: Vec<_> = foreign.collect();
            let question = dialect.question(&head(&foreign)).unwrap();
            assert_eq!(
                (question.method, question.target.as_str()),
                (Method::POST, "/orders?a=b")
            );
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (field, values, unclear) in [
            (0, &["", "GET POST", "G\u{e4}T"][..], Unclear::Method),
            (
                1,
                &[
                    "",
                    "orders",
                    "*",
                    "http://other/orders",
                    "/orders#fragment",
                    "/or ders",
                    "/\u{e4}",
                    "?x",
                ],
                Unclear::Target,
            ),
            (2, &["", "a b", "user@a", "a, b"], Unclear::Host),
            (
                3,
                &[
                    "",
                    "unix:",
                    "192.0.2.7, 192.0.2.8",
                    "192.0.2.7:80",
                    "[::1]",
                    "a",
                ],
                Unclear::Address,
            ),
        ] {
            for value in values {
                let mut fields = NGINX;
                fields[field].1 = value;
                let question = Dialect::Nginx.question(&head(&fields));
                assert_eq!(question, Err(unclear), "{value:?}");
            }
        }
    }

    #[test]
    fn an_address_within_another_is_that_one() {
        let mut fields = NGINX;
        fields[3].1 = "::ffff:192.0.2.7";
        let question = Dialect::Nginx.question(&head(&fields)).unwrap();
        assert_eq!(question.client.to_string(), "192.0.2.7");
    }

    proptest! {
        #[test]
        fn a_target_is_taken_byte_for_byte_or_not_at_all(text in "[ -~\u{80}-\u{ff}]{0,64}") {
            let mut fields = NGINX;
            fields[1].1 = &text;
            if let Ok(question) = Dialect::Nginx.question(&head(&fields)) {
                prop_assert_eq!(question.target.as_str(), text);
            }
        }
    }
}

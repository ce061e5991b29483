//! Which other origins' pages may use a route from a browser (the CORS
//! protocol, Fetch standard, section 3.2).

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;

use crate::setting::{self, Invalid};

/// `[routes.cors]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorsConfig {
    /// `https://app.example`, or `*` alone for any.
    pub origins: Vec<String>,
    pub methods: Vec<String>,
    /// What a page may send; `*` alone for whatever it asks for.
    pub headers: Vec<String>,
    /// What a page may read of an answer.
    pub expose: Vec<String>,
    /// Whether a page may send cookies.
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight.
    #[serde(deserialize_with = "setting::duration")]
    pub max_age: Duration,
}

impl Default for CorsConfig {
    fn default() -> Self {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Self {
            origins: Vec::new(),
            methods: owned(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
            headers: owned(&["Authorization", "Content-Type", "X-API-Key"]),
            expose: owned(&[
                "RateLimit",
                "RateLimit-Policy",
                "Retry-After",
                "X-Request-Id",
            ]),
            credentials: false,
            max_age: Duration::from_mins(10),
        }
    }
}

impl CorsConfig {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        let mut invalid = |key: &str, problem: String| {
            found.push(Invalid::new(format!("{section}.{key}"), problem));
        };
        let any = self.origins.iter().any(|origin| origin == "*");
        if self.origins.is_empty() {
            invalid("origins", "name at least one, or `*` for any".into());
        }
        if any && self.origins.len() > 1 {
            invalid("origins", "`*` stands alone".into());
        }
        if any && self.credentials {
            let problem = "cookies may only be sent by origins that are named, not by `*`";
            invalid("credentials", problem.into());
        }
        for origin in self.origins.iter().filter(|origin| !is_origin(origin)) {
            let problem =
                format!("`{origin}` is not an origin: write `https://host`, without a path");
            invalid("origins", problem);
        }
        for method in &self.methods {
            if method.parse::<Method>().is_err() {
                invalid("methods", format!("`{method}` is not a method"));
            }
        }
        for (key, names) in [("headers", &self.headers), ("expose", &self.expose)] {
            let wildcard = key == "headers" && names.len() == 1 && names[0] == "*";
            for name in names.iter().filter(|_| !wildcard) {
                if name == "*" || name.parse::<HeaderName>().is_err() {
                    invalid(key, format!("`{name}` is not the name of a header"));
                }
            }
        }
    }

    /// `None` when there are [`problems`](Self::problems).
    pub fn compile(&self) -> Option<Cors> {
        let mut found = Vec::new();
        self.problems("", &mut found);
        if !found.is_empty() {
            return None;
        }
        let list = |words: &[String]| HeaderValue::try_from(words.join(", ")).ok();
        let origins = self
            .origins
            .iter()
            .map(|origin| HeaderValue::try_from(origin).ok())
            .collect::<Option<Vec<_>>>()?;
        Some(Cors {
            origins: (self.origins != ["*"]).then_some(origins),
            methods: list(&self.methods)?,
            headers: (self.headers != ["*"])
                .then(|| list(&self.headers))
                .flatten(),
            expose: list(&self.expose)?,
            credentials: self.credentials,
            max_age: HeaderValue::from(self.max_age.as_secs()),
        })
    }
}

fn is_origin(text: &str) -> bool {
    if matches!(text, "*" | "null") {
        return true;
    }
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| super::Host::parse(host.as_bytes()).is_some())
        && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Which other origins' pages may use a route from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Any when `None`.
    origins: Option<Vec<HeaderValue>>,
    methods: HeaderValue,
    /// Whatever is asked for when `None`.
    headers: Option<HeaderValue>,
    expose: HeaderValue,
    credentials: bool,
    max_age: HeaderValue,
}

impl Cors {
    /// Whether a request is a browser's question about another, which no
    /// upstream need see and no key comes with.
    pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// What answers a preflight with the header fields `asked`.
    pub fn answer_preflight(&self, asked: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        if self.allow(asked.get(ORIGIN), &mut answer) {
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            answer.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
            let headers = self.headers.as_ref();
            if let Some(headers) = headers.or_else(|| asked.get(ACCESS_CONTROL_REQUEST_HEADERS)) {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
            }
        }
        answer
    }

    /// Puts on the answer to a request from `origin` what its page may do with
    /// it, in the place of what an upstream may have said.
    pub fn mark(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        for name in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
        ] {
            answer.remove(name);
        }
        if self.allow(origin, answer) && !self.expose.is_empty() {
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
        }
    }

    fn allow(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) -> bool {
        let Some(origins) = &self.origins else {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            return true;
        };
        answer.append(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin.filter(|origin| origins.contains(origin)) else {
            return false;
        };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(toml: &str) -> Cors {
        toml::from_str::<CorsConfig>(toml)
            .unwrap()
            .compile()
            .unwrap()
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|&(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn a_preflight_from_a_named_origin_is_told_what_it_may() {
        let cors = cors("origins = ['https://app.example']\ncredentials = true");
        let asked = headers(&[
            ("origin", "https://app.example"),
            ("access-control-request-method", "PUT"),
        ]);
        assert!(Cors::is_preflight(&Method::OPTIONS, &asked));
        let answer = cors.answer_preflight(&asked);
        assert_eq!(answer["access-control-allow-origin"], "https://app.example");
        assert_eq!(answer["access-control-allow-credentials"], "true");
        assert_eq!(answer["access-control-max-age"], "600");
        assert_eq!(
            answer["access-control-allow-headers"],
            "Authorization, Content-Type, X-API-Key"
        );
        assert_eq!(answer["vary"], "Origin");
    }

    #[test]
    fn another_origin_is_told_nothing() {
        let cors = cors("origins = ['https://app.example']");
        let asked = headers(&[("origin", "https://evil.example")]);
        let answer = cors.answer_preflight(&asked);
        assert_eq!(answer.len(), 1);
        assert_eq!(answer["vary"], "Origin");
    }

    #[test]
    fn our_word_replaces_the_upstreams() {
        let cors = cors("origins = ['https://app.example']");
        let mut answer = headers(&[("access-control-allow-origin", "*")]);
        let origin = HeaderValue::from_static("https://evil.example");
        cors.mark(Some(&origin), &mut answer);
        assert!(!answer.contains_key("access-control-allow-origin"));
    }

    #[test]
    fn what_is_asked_for_is_allowed_where_any_header_is() {
        let cors = cors("origins = ['*']\nheaders = ['*']");
        let asked = headers(&[
            ("origin", "null"),
            ("access-control-request-headers", "x-one"),
        ]);
        let answer = cors.answer_preflight(&asked);
        assert_eq!(answer["access-control-allow-headers"], "x-one");
        assert_eq!(answer["access-control-allow-origin"], "*");
    }

    #[test]
    fn every_bad_setting_is_named() {
        let config: CorsConfig = toml::from_str(
            "origins = ['*', 'https://a/b']\ncredentials = true\nmethods = ['A B']\nheaders = ['a:']\nexpose = ['*']",
        )
        .unwrap();
        let mut found = Vec::new();
        config.problems("cors", &mut found);
        let keys: Vec<_> = found.iter().map(|invalid| invalid.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "cors.origins",
                "cors.credentials",
                "cors.origins",
                "cors.methods",
                "cors.headers",
                "cors.expose"
            ]
        );
        assert_eq!(config.compile(), None);
    }
}

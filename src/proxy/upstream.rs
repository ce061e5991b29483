//! Upstreams: named services, each with one target.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use serde::Deserialize;

use crate::route::Host;
use crate::setting::{self, Invalid};

/// `[upstreams.<name>]`. `target` has no default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// `http://host:port`.
    pub target: String,
    /// The `Host` it is sent: `preserve` for the client's, `target`, or a name.
    pub host: String,
    #[serde(deserialize_with = "setting::duration")]
    pub connect_timeout: Duration,
    /// Until the head of its answer, from the last byte of the request that moved.
    #[serde(deserialize_with = "setting::duration")]
    pub response_timeout: Duration,
    /// How long a connection is kept for the next request. Less than the
    /// upstream keeps it, or requests meet connections that it just closed.
    #[serde(deserialize_with = "setting::duration")]
    pub idle_timeout: Duration,
    /// How many connections a worker keeps for the next request.
    pub max_idle: usize,
    /// Whom an `X-Edge-Assertion` is meant for; none is sent when not set.
    pub assertion: Option<String>,
    /// Who an assertion says it is by.
    pub assertion_issuer: String,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            target: String::new(),
            host: "preserve".to_owned(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_secs(4),
            max_idle: 128,
            assertion: None,
            assertion_issuer: "cypheron-edge".to_owned(),
        }
    }
}

impl UpstreamConfig {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        self.compile(section, found);
    }

    /// `None` when anything was `found`.
    fn compile(&self, section: &str, found: &mut Vec<Invalid>) -> Option<Upstream> {
        let before = found.len();
        let mut invalid = |key: &str, problem: String| {
            found.push(Invalid::new(format!("{section}.{key}"), problem));
        };
        for (key, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
        ] {
            if timeout.is_zero() {
                invalid(key, "is zero: nothing would be answered".into());
            }
        }
        let host = self.host_rule();
        if host.is_none() {
            let problem = "write `preserve`, `target`, or the name of a host";
            invalid("host", format!("`{}` is no host: {problem}", self.host));
        }
        let nobody = |text: &str| text.is_empty() || text.len() > 256;
        if self.assertion.as_deref().is_some_and(nobody) {
            let problem = "write whom assertions are meant for, in 1 to 256 bytes";
            invalid("assertion", problem.into());
        }
        if nobody(&self.assertion_issuer) {
            let problem = "write who assertions are by, in 1 to 256 bytes";
            invalid("assertion_issuer", problem.into());
        }
        let target = target(&self.target).map_err(|problem| invalid("target", problem));
        if found.len() > before {
            return None;
        }
        let (name, port) = target.ok()?;
        Some(Upstream {
            authority: authority(&name, port)?,
            name: name.into(),
            port,
            host: host?,
            connect_timeout: self.connect_timeout,
            response_timeout: self.response_timeout,
            idle_timeout: self.idle_timeout,
            max_idle: self.max_idle,
            assertion: self.assertion.as_deref().map(|audience| Assertion {
                audience: audience.into(),
                issuer: self.assertion_issuer.as_str().into(),
            }),
        })
    }

    fn host_rule(&self) -> Option<HostRule> {
        match self.host.as_str() {
            "preserve" => Some(HostRule::Preserve),
            "target" => Some(HostRule::Target),
            name => {
                Host::parse(name.as_bytes())?;
                HeaderValue::from_str(name).ok().map(HostRule::Name)
            }
        }
    }
}

/// Host, without brackets, and port of `http://host:port`.
fn target(text: &str) -> Result<(String, u16), String> {
    if text.is_empty() {
        return Err("is missing: write `http://127.0.0.1:9000`".into());
    }
    let not_a_target =
        || format!("`{text}` is not a target: write `http://host:port`, without a path");
    let uri: Uri = text.parse().map_err(|_| not_a_target())?;
    if uri.scheme() == Some(&Scheme::HTTPS) {
        return Err(format!(
            "`{text}`: upstreams are spoken to in the clear: write `http://`"
        ));
    }
    let bare = uri.scheme() == Some(&Scheme::HTTP) && matches!(uri.path(), "" | "/");
    let authority = uri.authority().ok_or_else(not_a_target)?;
    let known = Host::parse(authority.as_str().as_bytes()).is_some();
    let port = match &authority.as_str()[authority.host().len()..] {
        "" => Some(80),
        port => port[1..].parse().ok(),
    };
    match port {
        Some(port) if port > 0 && bare && known && uri.query().is_none() => {
            let host = authority.host().trim_matches(['[', ']']);
            Ok((host.to_owned(), port))
        }
        _ => Err(not_a_target()),
    }
}

fn authority(host: &str, port: u16) -> Option<HeaderValue> {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let authority = if port == 80 {
        host
    } else {
        format!("{host}:{port}")
    };
    HeaderValue::try_from(authority).ok()
}

/// A named service, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upstream {
    /// Of the target: an address or a name to be resolved.
    pub(super) name: Box<str>,
    pub(super) port: u16,
    /// The `Host` that means the target.
    pub(super) authority: HeaderValue,
    pub(super) host: HostRule,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_idle: usize,
    pub(super) assertion: Option<Assertion>,
}

/// How the edge vouches for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assertion {
    pub(super) audience: Box<str>,
    pub(super) issuer: Box<str>,
}

/// Which `Host` an upstream is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostRule {
    /// The client's.
    Preserve,
    Target,
    Name(HeaderValue),
}

/// All upstreams of a deployment, by name.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(HashMap<Box<str>, Arc<Upstream>, RandomState>);

impl Upstreams {
    /// Or everything that is wrong with `configs`.
    pub fn from_config(configs: &BTreeMap<String, UpstreamConfig>) -> Result<Self, Vec<Invalid>> {
        let mut found = Vec::new();
        let mut upstreams = HashMap::default();
        for (name, config) in configs {
            if let Some(upstream) = config.compile(&format!("upstreams.{name}"), &mut found) {
                upstreams.insert(name.as_str().into(), Arc::new(upstream));
            }
        }
        if found.is_empty() {
            Ok(Self(upstreams))
        } else {
            Err(found)
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Upstream>)> {
        self.0.iter().map(|(name, upstream)| (&**name, upstream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(toml: &str) -> Result<Upstream, String> {
        let config: UpstreamConfig = toml::from_str(toml).unwrap();
        let mut found = Vec::new();
        config
            .compile("upstreams.u", &mut found)
            .ok_or_else(|| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_target_is_a_host_and_a_port() {
        for (target, name, port, authority) in [
            ("http://127.0.0.1:9000", "127.0.0.1", 9000, "127.0.0.1:9000"),
            ("http://app.internal/", "app.internal", 80, "app.internal"),
            ("http://[::1]:9000", "::1", 9000, "[::1]:9000"),
        ] {
            let upstream = compiled(&format!("target = '{target}'")).unwrap();
            assert_eq!((&*upstream.name, upstream.port), (name, port));
            assert_eq!(upstream.authority, authority);
            assert_eq!(upstream.host, HostRule::Preserve);
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_what_would_do() {
        for target in [
            "",
            "127.0.0.1:9000",
            "https://a",
            "ftp://a",
            "http://a/base",
            "http://a?x",
            "http://user@a",
            "http://a:0",
            "http://a:99999",
            "http://",
        ] {
            let problem = compiled(&format!("target = '{target}'")).unwrap_err();
            assert!(problem.starts_with("upstreams.u.target: "), "{problem}");
            assert!(problem.contains("http://"), "{problem}");
        }
    }

    #[test]
    fn every_bad_setting_is_named() {
        let problems = compiled("host = 'a b'\nconnect_timeout = '0s'").unwrap_err();
        for key in ["host", "connect_timeout", "target"] {
            assert!(
                problems.contains(&format!("upstreams.u.{key}: ")),
                "{problems}"
            );
        }
    }
}

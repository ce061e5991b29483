//! `[upstreams.<name>]`: what may be written, and what is wrong with it.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::ejection::EjectionConfig;
use super::health::CheckConfig;
use super::pick::Balance;
use super::target::Address;
use super::tls::TlsConfig;
use super::{Assertion, HostRule, IdToken};
use crate::proxy::forwarded::{ForwardedFields, ForwardedFor};
use crate::route::Host;
use crate::setting::{self, Invalid};

/// As many as a set of them in one word has room for.
const MOST_TARGETS: usize = 64;

/// `[upstreams.<name>]`. One of `target` and `targets` has to be written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// `http://host:port`, or `https://host:port`: the only target.
    pub target: String,
    /// Several of them; each is as good as the others.
    pub targets: Vec<String>,
    /// How one of them is chosen.
    pub balance: Balance,
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
    /// HTTP/2: by ALPN where it is `https://`, otherwise without asking.
    pub http2: bool,
    /// How many such connections a worker has to each target.
    pub http2_connections: NonZeroUsize,
    /// Whom an `X-Edge-Assertion` is meant for; none is sent when not set.
    pub assertion: Option<String>,
    /// Who an assertion says it is by.
    pub assertion_issuer: String,
    /// The audience of Google's identity token that it is sent; none when not set.
    pub google_id_token: Option<String>,
    /// The field that holds it: `X-Serverless-Authorization` or `Authorization`.
    pub google_id_token_field: String,
    /// Which fields say where a request comes from.
    pub forwarded: ForwardedFields,
    /// How `Forwarded` calls the client.
    pub forwarded_for: ForwardedFor,
    /// How many requests it is sent at once; more are refused.
    pub max_requests: Option<NonZeroUsize>,
    /// How many tunnels it has at once; more are refused.
    pub max_tunnels: Option<NonZeroUsize>,
    /// How many requests each target is sent at once; more wait.
    pub max_connections: Option<NonZeroUsize>,
    /// How many requests may wait.
    pub max_waiting: usize,
    /// How long one may wait.
    #[serde(deserialize_with = "setting::duration")]
    pub max_wait: Duration,
    /// How many of a hundred requests may be sent to another target, or once more.
    pub retry_percent: u32,
    /// How often the names of targets are looked up again.
    #[serde(deserialize_with = "setting::duration")]
    pub resolve_interval: Duration,
    pub tls: TlsConfig,
    pub ejection: EjectionConfig,
    pub health: Option<CheckConfig>,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            target: String::new(),
            targets: Vec::new(),
            balance: Balance::RoundRobin,
            host: "preserve".to_owned(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_secs(4),
            max_idle: 128,
            http2: false,
            http2_connections: NonZeroUsize::MIN.saturating_add(1),
            assertion: None,
            assertion_issuer: "cypheron-edge".to_owned(),
            google_id_token: None,
            google_id_token_field: "X-Serverless-Authorization".to_owned(),
            forwarded: ForwardedFields::default(),
            forwarded_for: ForwardedFor::default(),
            max_requests: None,
            max_tunnels: None,
            max_connections: None,
            max_waiting: 256,
            max_wait: Duration::from_secs(1),
            retry_percent: 20,
            resolve_interval: Duration::from_secs(30),
            tls: TlsConfig::default(),
            ejection: EjectionConfig::default(),
            health: None,
        }
    }
}

impl UpstreamConfig {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        let addresses = self.addresses(section, found);
        self.host_rule(section, found);
        let encrypted = addresses.iter().any(|address| address.encrypted);
        if encrypted {
            self.tls
                .problems(self.http2, &format!("{section}.tls"), found);
        } else if self.tls.is_written() && !addresses.is_empty() {
            let problem = "its targets are `http://`: write `https://`, or remove this section";
            found.push(Invalid::new(format!("{section}.tls"), problem));
        }
        if encrypted && !addresses.iter().all(|address| address.encrypted) {
            let problem = "some are `https://` and some `http://`: write one of them for all";
            found.push(Invalid::new(format!("{section}.targets"), problem));
        }
        let mut invalid = |key: &str, problem: &str| {
            found.push(Invalid::new(format!("{section}.{key}"), problem));
        };
        for (key, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
        ] {
            if timeout.is_zero() {
                invalid(key, "is zero: nothing would be answered");
            }
        }
        let nobody = |text: &str| text.is_empty() || text.len() > 256;
        if self.assertion.as_deref().is_some_and(nobody) {
            let problem = "write whom assertions are meant for, in 1 to 256 bytes";
            invalid("assertion", problem);
        }
        if nobody(&self.assertion_issuer) {
            let problem = "write who assertions are by, in 1 to 256 bytes";
            invalid("assertion_issuer", problem);
        }
        if self.google_id_token.as_deref().is_some_and(nobody) {
            let problem = "write the audience, as `https://service-abc.a.run.app`";
            invalid("google_id_token", problem);
        }
        if self.id_token_field().is_none() {
            let problem = "write `X-Serverless-Authorization` or `Authorization`";
            invalid("google_id_token_field", problem);
        }
        if self.retry_percent > 100 {
            invalid("retry_percent", "is above 100: write 20 for every fifth");
        }
        if self.resolve_interval < Duration::from_secs(1) {
            invalid("resolve_interval", "is below `1s`: write `30s`");
        }
        self.ejection
            .problems(&format!("{section}.ejection"), found);
        if let Some(health) = &self.health {
            health.problems(&format!("{section}.health"), found);
        }
    }

    /// Where its targets are, those of them that are any.
    pub(super) fn addresses(&self, section: &str, found: &mut Vec<Invalid>) -> Vec<Address> {
        let mut invalid = |key: &str, problem: String| {
            found.push(Invalid::new(format!("{section}.{key}"), problem));
        };
        let (key, written) = match (&*self.target, &*self.targets) {
            ("", []) => {
                invalid(
                    "target",
                    "is missing: write `http://127.0.0.1:9000`, or several as `targets`".into(),
                );
                return Vec::new();
            }
            (_, []) => ("target", std::slice::from_ref(&self.target)),
            ("", targets) => ("targets", targets),
            (_, _) => {
                let problem = "is written beside `targets`: keep one of them";
                invalid("target", problem.into());
                return Vec::new();
            }
        };
        if written.len() > MOST_TARGETS {
            let problem = format!("are more than {MOST_TARGETS}: put a name that has them in DNS");
            invalid(key, problem);
        }
        let mut addresses: Vec<Address> = Vec::new();
        for text in written {
            match Address::parse(text) {
                Ok(address) if addresses.contains(&address) => {
                    invalid(key, format!("`{text}` is there twice: keep one"));
                }
                Ok(address) => addresses.push(address),
                Err(problem) => invalid(key, problem),
            }
        }
        addresses
    }

    pub(super) fn assertion(&self) -> Option<Assertion> {
        self.assertion.as_deref().map(|audience| Assertion {
            audience: audience.into(),
            issuer: self.assertion_issuer.as_str().into(),
        })
    }

    pub(super) fn id_token(&self) -> Option<IdToken> {
        Some(IdToken {
            audience: self.google_id_token.as_deref()?.into(),
            field: self.id_token_field()?,
        })
    }

    fn id_token_field(&self) -> Option<HeaderName> {
        let field: HeaderName = self.google_id_token_field.parse().ok()?;
        matches!(
            field.as_str(),
            "authorization" | "x-serverless-authorization"
        )
        .then_some(field)
    }

    /// Whether somebody else could pose as the edge: it proves itself by nothing,
    /// and the upstream is on a network that is not known to be private. That
    /// `https://` tells us who the upstream is does not tell it who we are.
    pub fn takes_the_edge_on_trust(&self) -> bool {
        let proven = self.assertion.is_some()
            || self.google_id_token.is_some()
            || self.tls.certificate.is_some();
        let addresses = self.addresses("", &mut Vec::new());
        !proven && !addresses.iter().all(|address| is_private(&address.host))
    }

    pub(super) fn host_rule(&self, section: &str, found: &mut Vec<Invalid>) -> Option<HostRule> {
        let rule = match self.host.as_str() {
            "preserve" => Some(HostRule::Preserve),
            "target" => Some(HostRule::Target),
            name => Host::parse(name.as_bytes())
                .and_then(|_| HeaderValue::from_str(name).ok())
                .map(HostRule::Name),
        };
        if rule.is_none() {
            let problem = "write `preserve`, `target`, or the name of a host";
            found.push(Invalid::new(
                format!("{section}.host"),
                format!("`{}` is no host: {problem}", self.host),
            ));
        }
        rule
    }
}

/// Loopback, link-local, and what no router of the Internet forwards.
fn is_private(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_takes_the_edge_on_trust_across_a_network_unless_it_proves_itself() {
        for (toml, on_trust) in [
            ("target = 'http://app.example.com'", true),
            ("target = 'http://192.0.2.1:80'", true),
            ("target = 'http://[2001:db8::1]:80'", true),
            ("targets = ['http://10.1.2.3', 'http://192.0.2.1']", true),
            ("target = 'https://app.example.com'", true),
            (
                "target = 'https://app.example.com'\ntls.ca = 'ca.pem'",
                true,
            ),
            (
                "target = 'https://app.example.com'\ntls = { certificate = 'a', key = 'b' }",
                false,
            ),
            ("target = 'https://10.1.2.3'", false),
            ("target = 'http://127.0.0.1:9000'", false),
            ("target = 'http://localhost:9000'", false),
            ("target = 'http://10.1.2.3:9000'", false),
            ("target = 'http://[fd00::1]:9000'", false),
            (
                "target = 'http://app.example.com'\nassertion = 'app'",
                false,
            ),
            (
                "target = 'http://app.example.com'\ngoogle_id_token = 'app'",
                false,
            ),
        ] {
            let config: UpstreamConfig = toml::from_str(toml).unwrap();
            assert_eq!(config.takes_the_edge_on_trust(), on_trust, "{toml}");
        }
    }
}

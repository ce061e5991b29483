//! Upstreams: named services, each with one target or several that are equally
//! good. What stands here is shared by all workers; the connections are not.

mod budget;
mod config;
mod connect;
mod ejection;
mod health;
mod limits;
mod meters;
mod pick;
mod resolve;
mod stream;
mod target;
mod tls;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use foldhash::fast::RandomState;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue};

use crate::clock::Tick;
use crate::setting::Invalid;

pub(super) use budget::RetryBudget;
pub use config::UpstreamConfig;
pub use ejection::EjectionConfig;
pub use health::CheckConfig;
pub(super) use limits::Permits;
pub use pick::Balance;
pub(super) use pick::{Picker, Set, candidates};
pub(super) use stream::Stream;
pub(super) use target::Target;
pub use tls::TlsConfig;

use ejection::Ejections;
use limits::Limits;
use meters::Meters;
use tls::Tls;

/// A named service, and how it is spoken to.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) name: Box<str>,
    /// At least one.
    pub(super) targets: Box<[Target]>,
    pub(super) host: HostRule,
    pub(super) assertion: Option<Assertion>,
    pub(super) id_token: Option<IdToken>,
    pub(super) config: UpstreamConfig,
    /// Where it is spoken to in private.
    tls: Option<Tls>,
    limits: Option<Limits>,
    ejections: Mutex<Ejections>,
    meters: Meters,
    /// Somebody looks after it.
    watched: OnceLock<()>,
}

/// How the edge vouches for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assertion {
    pub(super) audience: Box<str>,
    pub(super) issuer: Box<str>,
}

/// How Google vouches for the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdToken {
    pub(super) audience: Box<str>,
    pub(super) field: HeaderName,
}

/// Which `Host` an upstream is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostRule {
    /// The client's.
    Preserve,
    Target,
    Name(HeaderValue),
}

impl Upstream {
    /// `None` when anything was `found`.
    fn compile(name: &str, config: &UpstreamConfig, found: &mut Vec<Invalid>) -> Option<Self> {
        let before = found.len();
        let section = format!("upstreams.{name}");
        config.problems(&section, found);
        if found.len() > before {
            return None;
        }
        let addresses = config.addresses(&section, found);
        let encrypted = addresses.iter().any(|address| address.encrypted);
        let tls = encrypted
            .then(|| Tls::open(&config.tls, config.http2))
            .transpose();
        let targets: Box<[Target]> = addresses
            .iter()
            .filter_map(|address| Target::new(address, config.max_connections))
            .collect();
        Some(Self {
            host: config.host_rule(&section, found)?,
            assertion: config.assertion(),
            id_token: config.id_token(),
            // What is wrong with it has been found.
            tls: tls.ok()?,
            limits: Limits::of(config),
            ejections: Mutex::new(Ejections::new(targets.len())),
            meters: Meters::of(name, &targets),
            watched: OnceLock::new(),
            name: name.into(),
            config: config.clone(),
            targets,
        })
    }

    pub(super) fn scheme(&self) -> Scheme {
        match self.tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        }
    }

    /// Those of its targets that are expected to answer, and have room.
    pub(super) fn open_targets(&self, now: Tick) -> Set {
        let open = |(place, target): (usize, &Target)| target.is_open(now).then_some(place);
        Set::of(self.targets.iter().enumerate().filter_map(open))
    }

    /// A target did not answer a request, or not to its end.
    pub(super) fn target_failed(&self, place: usize, now: Tick) {
        // Whoever is alone is asked whatever comes.
        if self.targets.len() < 2 {
            return;
        }
        let target = &self.targets[place];
        let failures = target.standing.failed();
        let mut ejections = self
            .ejections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = ejections.failed(place, failures, now, &self.config.ejection) {
            target.standing.eject(until);
            self.meters.ejections.increment(1);
            let (upstream, target) = (&*self.name, target.name());
            let pause = until.since(now);
            tracing::warn!(
                upstream,
                target,
                ?pause,
                "a target is ejected: it failed again and again"
            );
        }
    }

    pub(super) fn target_answered(&self, place: usize) {
        self.targets[place].standing.answered();
    }
}

/// All upstreams of a deployment, by name.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(HashMap<Box<str>, Arc<Upstream>, RandomState>);

impl Upstreams {
    /// Or everything that is wrong with `configs`.
    pub fn from_config(configs: &BTreeMap<String, UpstreamConfig>) -> Result<Self, Vec<Invalid>> {
        Self::default().followed_by(configs)
    }

    /// Those of another configuration; one that is unchanged goes on with what
    /// is known of its targets. Or everything that is wrong with `configs`.
    pub fn followed_by(
        &self,
        configs: &BTreeMap<String, UpstreamConfig>,
    ) -> Result<Self, Vec<Invalid>> {
        let mut found = Vec::new();
        let mut upstreams = HashMap::default();
        for (name, config) in configs {
            let upstream = match self.0.get(&**name) {
                Some(known) if known.config == *config => Some(Arc::clone(known)),
                _ => Upstream::compile(name, config, &mut found).map(Arc::new),
            };
            upstreams.extend(upstream.map(|upstream| (name.as_str().into(), upstream)));
        }
        if found.is_empty() {
            Ok(Self(upstreams))
        } else {
            Err(found)
        }
    }

    /// Of the identity tokens that they are sent.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        let tokens = self.0.values().filter_map(|one| one.id_token.as_ref());
        tokens.map(|token| &*token.audience)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Upstream>)> {
        self.0.iter().map(|(name, upstream)| (&**name, upstream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(toml: &str) -> String {
        let config: UpstreamConfig = toml::from_str(toml).unwrap();
        let mut found = Vec::new();
        assert!(Upstream::compile("u", &config, &mut found).is_none());
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        found.join("\n")
    }

    #[test]
    fn every_bad_setting_is_named() {
        let problems = problems(
            "host = 'a b'
            connect_timeout = '0s'
            response_timeout = '0s'
            retry_percent = 101
            resolve_interval = '1ms'
            ejection = { first = '0s', longest = '0s', max_percent = 101 }
            health = { path = 'x' }",
        );
        for key in [
            "target",
            "host",
            "connect_timeout",
            "response_timeout",
            "retry_percent",
            "resolve_interval",
            "ejection.first",
            "ejection.max_percent",
            "health.path",
        ] {
            let named = format!("upstreams.u.{key}: ");
            assert!(problems.contains(&named), "{key}: {problems}");
        }
    }

    #[test]
    fn targets_are_written_once_each_and_in_one_place() {
        let a = "http://a";
        let many: Vec<String> = (1..=65).map(|n| format!("'http://a:{n}'")).collect();
        for (toml, key, problem) in [
            (
                format!("target = '{a}'\ntargets = ['{a}']"),
                "target",
                "keep one of them",
            ),
            (
                format!("targets = ['{a}', '{a}:80']"),
                "targets",
                "keep one",
            ),
            (
                format!("targets = ['{a}', 'b']"),
                "targets",
                "`b` is not a target",
            ),
            (
                format!("targets = [{}]", many.join(",")),
                "targets",
                "more than 64",
            ),
        ] {
            let found = problems(&toml);
            let named = format!("upstreams.u.{key}: ");
            assert!(
                found.starts_with(&named) && found.contains(problem),
                "{found}"
            );
        }
    }

    #[test]
    fn an_upstream_that_is_unchanged_keeps_what_is_known_of_it() {
        let configs = |second: &str| -> BTreeMap<String, UpstreamConfig> {
            toml::from_str(&format!("a.target = 'http://a'\nb.target = '{second}'")).unwrap()
        };
        let before = Upstreams::from_config(&configs("http://b")).unwrap();
        let after = before.followed_by(&configs("http://c")).unwrap();
        assert!(Arc::ptr_eq(&before.0["a"], &after.0["a"]));
        assert!(!Arc::ptr_eq(&before.0["b"], &after.0["b"]));
    }
}

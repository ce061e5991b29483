//! `[[routes]]`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use http::{HeaderValue, Method};
use serde::{Deserialize, Deserializer};

use super::{Access, CorsConfig, Host, RequiredPermissions, Route, RouteTable, Tunnels, path};
use crate::pace::Pace;
use crate::permission::Required;
use crate::setting::{self, Invalid};

/// One of `[[routes]]`. `name` and `upstream` have no default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// Names the route in usage, metrics and `X-Edge-Route`.
    pub name: String,
    /// Any host when it is not given.
    pub host: Option<String>,
    /// Whole segments; `/` when it is not given.
    pub path: Option<String>,
    /// The name of an upstream.
    pub upstream: String,
    /// What a key needs, whatever the method; nothing but to be valid when
    /// neither this nor `permissions` is given.
    pub permission: Option<String>,
    /// What a key needs, by method; a method without an entry needs `permission`,
    /// and is for nobody when that is not given.
    pub permissions: BTreeMap<String, String>,
    /// Needs no key.
    pub public: bool,
    pub cors: Option<CorsConfig>,
    /// A query parameter that may hold the token.
    pub query_parameter: Option<String>,
    pub body_limit: Option<ByteSize>,
    /// For a client that sends nothing of a body that is waited for.
    #[serde(deserialize_with = "setting::duration")]
    pub body_timeout: Duration,
    /// What it has to send in a second, beyond that.
    pub body_min_rate: ByteSize,
    /// For the whole exchange; none when it is not given.
    #[serde(deserialize_with = "given_duration")]
    pub timeout: Option<Duration>,
    /// The protocols that a connection may go on with.
    pub upgrades: Vec<String>,
    /// For a connection that was upgraded and on which nothing moves.
    #[serde(deserialize_with = "setting::duration")]
    pub tunnel_idle_timeout: Duration,
    /// For a connection that was upgraded; none when it is not given.
    #[serde(deserialize_with = "given_duration")]
    pub tunnel_lifetime: Option<Duration>,
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            host: None,
            path: None,
            upstream: String::new(),
            permission: None,
            permissions: BTreeMap::new(),
            public: false,
            cors: None,
            query_parameter: None,
            body_limit: None,
            body_timeout: Pace::USUAL.patience,
            body_min_rate: ByteSize::b(Pace::USUAL.min_rate),
            timeout: None,
            upgrades: vec!["websocket".to_owned()],
            tunnel_idle_timeout: Duration::from_mins(10),
            tunnel_lifetime: None,
        }
    }
}

fn given_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    setting::optional_duration(from)
}

impl RouteTable {
    /// The table of `configs`, or everything that is wrong with them. Whether
    /// their upstreams exist is for the caller to know.
    pub fn from_config(configs: &[RouteConfig]) -> Result<Self, Vec<Invalid>> {
        let mut found = Vec::new();
        let routes: Vec<Route> = configs
            .iter()
            .enumerate()
            .map(|(at, config)| config.compile(&format!("routes[{at}]"), &mut found))
            .collect();
        if !found.is_empty() {
            return Err(found);
        }
        Self::new(routes).map_err(|conflict| vec![Invalid::new("routes", conflict.to_string())])
    }
}

impl RouteConfig {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        self.compile(section, found);
    }

    /// The route; not to be used when anything was `found`.
    fn compile(&self, section: &str, found: &mut Vec<Invalid>) -> Route {
        let mut problems = Problems { section, found };
        problems.check_name("name", &self.name);
        problems.check_name("upstream", &self.upstream);
        if self.timeout == Some(Duration::ZERO) {
            problems.add("timeout", "is zero: leave it out for no bound");
        }
        if self.body_timeout.is_zero() {
            problems.add("body_timeout", "is zero: no body would come in time");
        }
        if self.body_min_rate.as_u64() == 0 {
            problems.add("body_min_rate", "is zero: for nearly no bound, write `1B`");
        }
        for (key, time) in [
            ("tunnel_idle_timeout", Some(self.tunnel_idle_timeout)),
            ("tunnel_lifetime", self.tunnel_lifetime),
        ] {
            if time == Some(Duration::ZERO) {
                problems.add(key, "is zero: for no upgrades, write `upgrades = []`");
            }
        }
        let route = Route {
            name: self.name.as_str().into(),
            host: self.host.as_deref().map(|host| problems.host(host)),
            path_prefix: problems.path(self.path.as_deref().unwrap_or("/")),
            access: self.access(&mut problems),
            cors: self.cors.as_ref().and_then(CorsConfig::compile),
            upstream: self.upstream.as_str().into(),
            body_limit: self.body_limit.map(|size| size.as_u64()),
            body_pace: Pace {
                patience: self.body_timeout,
                min_rate: self.body_min_rate.as_u64(),
            },
            timeout: self.timeout,
            tunnels: Tunnels {
                protocols: self
                    .upgrades
                    .iter()
                    .filter_map(|name| problems.protocol(name))
                    .collect(),
                idle_timeout: self.tunnel_idle_timeout,
                lifetime: self.tunnel_lifetime,
            },
        };
        if let Some(cors) = &self.cors {
            cors.problems(&format!("{section}.cors"), found);
        }
        route
    }

    fn access(&self, problems: &mut Problems<'_>) -> Access {
        let asks = self.permission.is_some() || !self.permissions.is_empty();
        if self.public && asks {
            let problem = "a public route asks for no permission: remove one of the two";
            problems.add("public", problem);
        }
        let parameter = self.query_parameter.as_deref();
        if let Some(parameter) = parameter.filter(|name| !is_parameter(name)) {
            let problem =
                format!("`{parameter}` is not a parameter's name: use a-z, 0-9, `_` and `-`");
            problems.add("query_parameter", problem);
        }
        let otherwise = self
            .permission
            .as_deref()
            .and_then(|text| problems.permission("permission", text));
        let by_method = self
            .permissions
            .iter()
            .filter_map(|(method, text)| {
                let key = format!("permissions.{method}");
                let required = problems.permission(&key, text)?;
                Some((problems.method(&key, method)?, required))
            })
            .collect();
        Access {
            public: self.public,
            query_parameter: parameter.map(Into::into),
            required: RequiredPermissions {
                otherwise,
                by_method,
            },
        }
    }
}

struct Problems<'a> {
    section: &'a str,
    found: &'a mut Vec<Invalid>,
}

impl Problems<'_> {
    fn add(&mut self, key: &str, problem: impl Into<String>) {
        self.found
            .push(Invalid::new(format!("{}.{key}", self.section), problem));
    }

    fn check_name(&mut self, key: &str, name: &str) {
        let valid = (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        if name.is_empty() {
            self.add(key, "is missing");
        } else if !valid {
            self.add(
                key,
                format!("`{name}` is not a name: use 1 to 64 letters, digits, `_`, `-` and `.`"),
            );
        }
    }

    fn host(&mut self, text: &str) -> Box<str> {
        match Host::parse(text.as_bytes()) {
            Some(host) if !text.contains(':') || text.ends_with(']') => host.as_str().into(),
            _ => {
                let problem = format!(
                    "`{text}` is not a host: write `api.example.com`, without scheme and port"
                );
                self.add("host", problem);
                text.into()
            }
        }
    }

    fn path(&mut self, text: &str) -> Box<str> {
        let whole = text == "/" || !text.ends_with('/');
        let ascii = text.bytes().all(|byte| byte.is_ascii_graphic());
        let only_path = !text.contains(['?', '#']);
        if !(whole && ascii && only_path && path::is_unambiguous(text)) {
            let problem = format!(
                "`{text}` is not the beginning of a path: write `/` or `/whole/segments`, percent-encoded, without `/` at the end"
            );
            self.add("path", problem);
        }
        text.into()
    }

    fn permission(&mut self, key: &str, text: &str) -> Option<Required> {
        text.parse()
            .map_err(|invalid: crate::permission::InvalidPermission| {
                self.add(key, invalid.to_string());
            })
            .ok()
    }

    fn protocol(&mut self, name: &str) -> Option<HeaderValue> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.eq_ignore_ascii_case("h2c") {
            let problem = "`h2c` is HTTP again: nobody would check the requests in it";
            self.add("upgrades", problem);
        } else if name.is_empty() || !name.bytes().all(is_token) {
            let problem = format!("`{name}` is not a protocol: write `websocket`");
            self.add("upgrades", problem);
        } else {
            return HeaderValue::try_from(name.to_ascii_lowercase()).ok();
        }
        None
    }

    fn method(&mut self, key: &str, text: &str) -> Option<Method> {
        let method = text.parse::<Method>().ok();
        let upper = !text.bytes().any(|byte| byte.is_ascii_lowercase());
        if method.is_none() || !upper {
            self.add(key, format!("`{text}` is not a method: write `GET`"));
        }
        method
    }
}

fn is_parameter(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

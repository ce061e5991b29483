//! Reads what was written, section by section, gathering what is wrong and
//! what is in effect.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use http::uri::Authority;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};
use zeroize::Zeroizing;

use super::environment::{self, Environment, FIRESTORE, POSTGRESQL};
use super::layers::Written;
use super::schema::{self, Keys};
use super::{
    Config, DECISION_SECRET, Data, Effective, METADATA_HOST, NEW_PASSWORD, PASSWORD, PASSWORD_FILE,
    Problems, Purpose, Reading, checks, firestore, missing_password, postgres, section,
};
use crate::admin::HealthConfig;
use crate::crypto::Password;
use crate::decision::DecisionConfig;
use crate::id_token::MetadataServer;
use crate::middleware::auth;
use crate::proxy::UpstreamConfig;
use crate::route::RouteConfig;
use crate::secret::Secret;
use crate::setting::Invalid;
use crate::{database, directory, limiter, repository, server, telemetry, usage};

/// As the keyring's password, and for the same reason.
const SHORTEST_SECRET: usize = 32;

pub(super) fn compose(
    mut written: Written,
    environment: &dyn Environment,
    purpose: Purpose,
) -> Reading {
    let mut found = Vec::new();
    apply_environment(&mut written, environment, &mut found);
    let mut reader = Reader {
        environment,
        table: written.table,
        variables: written.variables,
        found,
        effective: Effective::default(),
    };
    let config = reader.config(purpose);
    let Reader {
        variables,
        mut found,
        mut effective,
        ..
    } = reader;
    effective.note_variables(environment, &variables, config.as_ref());
    if let Some(config) = &config {
        effective.warn(config);
    }
    for invalid in &mut found {
        if let Some(variable) = variables.get(&invalid.key) {
            invalid.problem = format!("{} (set by {variable})", invalid.problem);
        }
    }
    let config = match config {
        Some(config) if found.is_empty() => Ok(config),
        _ => Err(Problems(found)),
    };
    Reading { config, effective }
}

fn apply_environment(
    written: &mut Written,
    environment: &dyn Environment,
    found: &mut Vec<Invalid>,
) {
    written.override_from(environment, found);
    apply_port(written, environment, found);
    if cfg!(not(feature = "firestore")) {
        FIRESTORE.refuse(environment, found);
    }
    if cfg!(not(feature = "postgres")) {
        POSTGRESQL.refuse(environment, found);
    }
}

/// A platform that sets `PORT` expects traffic there, whatever the file says;
/// an override that is meant for this program wins over it.
fn apply_port(written: &mut Written, environment: &dyn Environment, found: &mut Vec<Invalid>) {
    let Some(port) = environment::text(environment, "PORT", found) else {
        return;
    };
    let Ok(port) = port.parse::<u16>() else {
        let problem = format!("`{port}` is not a port: set it to a number such as 8080");
        found.push(Invalid::new("PORT", problem));
        return;
    };
    if written.variables.contains_key("server.listen") {
        return;
    }
    let listen = written.get(&["server", "listen"]).and_then(Value::as_str);
    let host = listen
        .and_then(|listen| listen.rsplit_once(':'))
        .map_or("0.0.0.0", |(host, _)| host);
    let listen = Value::String(format!("{host}:{port}"));
    let path = ["server".to_owned(), "listen".to_owned()];
    written.set(&path, listen, "PORT");
}

/// `[data]`, as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenData {
    dir: Option<PathBuf>,
}

/// Reads section by section, gathering what is wrong and what is in effect.
struct Reader<'a> {
    environment: &'a dyn Environment,
    /// What was written and not read yet.
    table: Table,
    /// Which variable set a key, for those that one did.
    variables: BTreeMap<String, String>,
    found: Vec<Invalid>,
    effective: Effective,
}

impl Reader<'_> {
    fn config(&mut self, purpose: Purpose) -> Option<Config> {
        let data = self.data();
        let log = self.section("log", telemetry::Config::problems);
        let server = self.section("server", server::Config::problems);
        // Any address will do: whether it is free is seen when it is taken.
        let health = self.section("health", |_: &HealthConfig, _, _| {});
        let auth = self.section("auth", auth::Config::problems);
        let mut keys = self.section("keys", |_: &repository::Config, _, _| {});
        let firestore = firestore::chosen(self.environment, &mut self.found);
        if let Some(keys) = &mut keys {
            keys.choose_store(firestore.is_some(), "keys", &mut self.found);
        }
        let directory = self.section("directory", directory::Config::problems);
        let limiter = self.section("limiter", limiter::Config::problems);
        let mut usage = self.section("usage", usage::Config::problems);
        let counters = self.section("counters", usage::totals::Config::problems);
        let database = self.section("database", database::Config::problems);
        let postgres = postgres::server(self.environment, &mut self.found);
        if let Some(usage) = &mut usage {
            usage.choose_sink(postgres.is_some(), "usage", &mut self.found);
        }
        let upstreams = self.upstreams();
        let routes = self.routes();
        let metadata_server = self.metadata_server();
        let decisions = self.decisions();
        let decision_secret = self.decision_secret(&decisions);
        self.refuse_the_rest();
        let (password, password_problem) = match self.password(data.as_ref()) {
            Ok(password) => (Some(password), None),
            // Whoever needs none must not fail for want of it.
            Err(problem) if purpose == Purpose::Operate => (None, problem),
            Err(problem) => {
                self.found.push(problem.unwrap_or_else(missing_password));
                (None, None)
            }
        };
        let new_password = self.new_password();
        if let (Purpose::Serve, Err(problem)) = (purpose, &new_password) {
            self.found.push(problem.clone());
        }
        let config = Config {
            data: data?,
            log: log?,
            server: server?,
            health: health?,
            auth: auth?,
            keys: keys?,
            directory: directory?,
            limiter: limiter?,
            usage: usage?,
            counters: counters?,
            database: database?,
            firestore,
            postgres,
            upstreams,
            metadata_server,
            routes,
            decisions,
            decision_secret,
            password,
            password_problem,
            new_password,
        };
        if self.found.is_empty() {
            checks::check(&config, purpose, &mut self.found);
        }
        Some(config)
    }

    /// One section of one table. Every key of it has a default.
    fn section<T: DeserializeOwned>(
        &mut self,
        name: &str,
        problems: impl FnOnce(&T, &str, &mut Vec<Invalid>),
    ) -> Option<T> {
        let keys = schema::keys(name).unwrap_or_default();
        let mut written = self.take(name);
        let section = self.read::<T>(name, &keys, &mut written)?;
        problems(&section, name, &mut self.found);
        self.effective.section(name, keys.written, &written);
        Some(section)
    }

    fn read<T: DeserializeOwned>(
        &mut self,
        shown: &str,
        keys: &Keys,
        written: &mut Table,
    ) -> Option<T> {
        section::read(shown, keys, written, &self.variables, &mut self.found)
    }

    /// The section of that name, empty when it was not written.
    fn take(&mut self, name: &str) -> Table {
        match self.table.remove(name) {
            Some(Value::Table(written)) => written,
            None => Table::new(),
            Some(_) => {
                let problem = format!("is a section: write [{name}]");
                self.found.push(Invalid::new(name, problem));
                Table::new()
            }
        }
    }

    fn upstreams(&mut self) -> BTreeMap<String, UpstreamConfig> {
        let keys = schema::keys("upstreams").unwrap_or_default();
        self.take("upstreams")
            .into_iter()
            .filter_map(|(name, written)| {
                let upstream = self.upstream(&name, written, &keys)?;
                Some((name, upstream))
            })
            .collect()
    }

    fn upstream(&mut self, name: &str, written: Value, keys: &Keys) -> Option<UpstreamConfig> {
        let shown = format!("upstreams.{name}");
        let Value::Table(mut written) = written else {
            let problem = format!("is a section: write [{shown}]");
            self.found.push(Invalid::new(shown, problem));
            return None;
        };
        let upstream = self.read::<UpstreamConfig>(&shown, keys, &mut written)?;
        upstream.problems(&shown, &mut self.found);
        self.effective.upstream(name, &keys.written, &written);
        Some(upstream)
    }

    fn metadata_server(&mut self) -> MetadataServer {
        let Some(host) = environment::text(self.environment, METADATA_HOST, &mut self.found) else {
            return MetadataServer::default();
        };
        let authority: Result<Authority, _> = host.parse();
        if authority.is_err() || host.contains('@') {
            let problem = format!("`{host}` is not an address: set it to HOST or HOST:PORT");
            self.found.push(Invalid::new(METADATA_HOST, problem));
        }
        MetadataServer::at(host)
    }

    fn decisions(&mut self) -> BTreeMap<String, DecisionConfig> {
        let keys = schema::keys("decisions").unwrap_or_default();
        self.take("decisions")
            .into_iter()
            .filter_map(|(name, written)| {
                let decision = self.decision(&name, written, &keys)?;
                Some((name, decision))
            })
            .collect()
    }

    fn decision(&mut self, name: &str, written: Value, keys: &Keys) -> Option<DecisionConfig> {
        let shown = format!("decisions.{name}");
        let Value::Table(mut written) = written else {
            let problem = format!("is a section: write [{shown}]");
            self.found.push(Invalid::new(shown, problem));
            return None;
        };
        let decision = self.read::<DecisionConfig>(&shown, keys, &mut written)?;
        decision.problems(&shown, &mut self.found);
        self.effective.decision(name, written);
        Some(decision)
    }

    /// One for all that ask over a port.
    fn decision_secret(
        &mut self,
        decisions: &BTreeMap<String, DecisionConfig>,
    ) -> Option<Secret<String>> {
        let before = self.found.len();
        let secret = environment::secret(self.environment, DECISION_SECRET, &mut self.found);
        let sound = |secret: &Secret<String>| {
            let text = secret.expose();
            text.len() >= SHORTEST_SECRET && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let needed = decisions.iter().find(|(_, config)| config.needs_secret());
        let problem = match (&secret, needed) {
            (Some(secret), _) if !sound(secret) => {
                format!("use {SHORTEST_SECRET} or more visible ASCII characters")
            }
            (None, Some((name, _))) if self.found.len() == before => format!(
                "not set: decisions.{name} listens on a port, where proxies are known by it: set \
                 it, or {DECISION_SECRET}_FILE to a file that holds it, or let them show a \
                 certificate (`client_ca`), or use a socket"
            ),
            _ => return secret,
        };
        self.found.push(Invalid::new(DECISION_SECRET, problem));
        None
    }

    fn routes(&mut self) -> Vec<RouteConfig> {
        let keys = schema::keys("routes").unwrap_or_default();
        let written = match self.table.remove("routes") {
            Some(Value::Array(written)) => written,
            None => Vec::new(),
            Some(_) => {
                let problem = "is a list of sections: write [[routes]]";
                self.found.push(Invalid::new("routes", problem));
                Vec::new()
            }
        };
        written
            .into_iter()
            .enumerate()
            .filter_map(|(at, route)| self.route(at, route, &keys))
            .collect()
    }

    fn route(&mut self, at: usize, written: Value, keys: &Keys) -> Option<RouteConfig> {
        let Value::Table(mut written) = written else {
            let problem = "is a section: write [[routes]]";
            self.found
                .push(Invalid::new(format!("routes[{at}]"), problem));
            return None;
        };
        let shown = match written.get("name").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => format!("routes.{name}"),
            _ => format!("routes[{at}]"),
        };
        let route = self.read::<RouteConfig>(&shown, keys, &mut written)?;
        route.problems(&shown, &mut self.found);
        self.effective.route(written);
        Some(route)
    }

    /// What nobody took is no section of ours.
    fn refuse_the_rest(&mut self) {
        let known: Vec<&str> = schema::sections().collect();
        for section in self.table.keys() {
            let problem = match schema::nearest(section, known.iter().copied()) {
                Some("routes") => "unknown section; did you mean [[routes]]?".to_owned(),
                Some(meant) => format!("unknown section; did you mean [{meant}]?"),
                None => format!("unknown section; there are {}", known.join(", ")),
            };
            self.found.push(Invalid::new(section, problem));
        }
    }

    fn data(&mut self) -> Option<Data> {
        let keys = schema::keys("data").unwrap_or_default();
        let mut written = self.take("data");
        let data = self.read::<WrittenData>("data", &keys, &mut written)?;
        let Some(dir) = data.dir.or_else(|| default_dir(self.environment)) else {
            let problem = "not set, and neither is XDG_DATA_HOME or HOME: set it to a directory";
            self.found.push(Invalid::new("data.dir", problem));
            return None;
        };
        let shown = Value::String(dir.display().to_string());
        let shown = Table::from_iter([("dir".to_owned(), shown)]);
        self.effective.section("data", shown, &Table::new());
        Some(Data { dir })
    }

    /// The one that was given, or is kept in the data directory. `Err(None)` when
    /// there is none, otherwise why it cannot be used.
    fn password(&self, data: Option<&Data>) -> Result<Password, Option<Invalid>> {
        let mut found = Vec::new();
        let given = environment::secret(self.environment, PASSWORD, &mut found);
        if let Some(problem) = found.pop() {
            return Err(Some(problem));
        }
        let kept = || {
            let file = data?.dir.join(PASSWORD_FILE);
            let text = Zeroizing::new(fs::read_to_string(&file).ok()?);
            let text = Secret::new(text.trim_end().to_owned());
            Some((text, file.display().to_string()))
        };
        let given =
            given.map(|text| (text, environment::secret_source(self.environment, PASSWORD)));
        let (text, source) = given.or_else(kept).ok_or(None)?;
        Password::new(text).map_err(|short| Some(Invalid::new(source, short.to_string())))
    }

    fn new_password(&self) -> Result<Option<Password>, Invalid> {
        let mut found = Vec::new();
        let given = environment::secret(self.environment, NEW_PASSWORD, &mut found);
        match found.pop() {
            Some(problem) => Err(problem),
            None => given.map(Password::new).transpose().map_err(|short| {
                let source = environment::secret_source(self.environment, NEW_PASSWORD);
                Invalid::new(source, short.to_string())
            }),
        }
    }
}

/// Where user programs keep their data (XDG Base Directory Specification 0.8).
fn default_dir(environment: &dyn Environment) -> Option<PathBuf> {
    let data_home = environment::path(environment, "XDG_DATA_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| {
            environment::path(environment, "HOME").map(|home| home.join(".local").join("share"))
        })?;
    Some(data_home.join("cypheron-edge"))
}

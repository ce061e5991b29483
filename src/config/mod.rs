//! The configuration: every module's own settings, composed.
//!
//! Three layers, each over the one before: the defaults, a TOML file, and the
//! environment (`CYPHERON_EDGE__SECTION__KEY`, and a few fixed names). Unknown
//! keys are refused with the nearest known name, and everything that is wrong
//! is reported at once.

mod checks;
mod effective;
mod environment;
mod firestore;
mod inherited;
mod layers;
mod postgres;
mod probe;
mod reader;
mod schema;
mod section;

pub use effective::Effective;
pub use environment::{Environment, Process};
pub use inherited::inherited;
pub use probe::health_address;
pub use schema::REFERENCE;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::admin::HealthConfig;
use crate::crypto::Password;
use crate::database::Server;
use crate::decision::DecisionConfig;
use crate::id_token::MetadataServer;
use crate::middleware::auth;
use crate::proxy::UpstreamConfig;
use crate::repository::FirestoreConfig;
use crate::route::RouteConfig;
use crate::secret::Secret;
use crate::setting::Invalid;
use crate::{database, directory, limiter, repository, server, telemetry, usage};

use layers::Written;

/// Names the configuration file when `--config` does not.
const FILE: &str = "CYPHERON_EDGE_CONFIG";

/// Opens the keyring; also as `PQ_ENCRYPTION_PASSWORD_FILE`.
const PASSWORD: &str = "PQ_ENCRYPTION_PASSWORD";

/// Every variable that holds or names a password of the keyring.
const PASSWORDS: &[&str] = &[
    PASSWORD,
    "PQ_ENCRYPTION_PASSWORD_FILE",
    NEW_PASSWORD,
    "PQ_ENCRYPTION_NEW_PASSWORD_FILE",
];

/// Opens the keyring as well, and alone once the password is changed; also as
/// `PQ_ENCRYPTION_NEW_PASSWORD_FILE`.
const NEW_PASSWORD: &str = "PQ_ENCRYPTION_NEW_PASSWORD";

/// Where the metadata server is, as Google's own libraries have it.
const METADATA_HOST: &str = "GCE_METADATA_HOST";

/// What proxies that ask for decisions over a port prove themselves with; also
/// as `DECISION_SECRET_FILE`.
const DECISION_SECRET: &str = "DECISION_SECRET";

/// A file in the data directory that holds the password when the environment
/// does not: `quickstart` makes it, readable by its owner only.
pub const PASSWORD_FILE: &str = "password";

/// A configuration that has been checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub data: Data,
    pub log: telemetry::Config,
    pub server: server::Config,
    pub health: HealthConfig,
    pub auth: auth::Config,
    pub keys: repository::Config,
    pub directory: directory::Config,
    pub limiter: limiter::Config,
    pub usage: usage::Config,
    pub counters: usage::totals::Config,
    pub database: database::Config,
    /// Where Firestore is, when the environment chooses it.
    pub firestore: Option<FirestoreConfig>,
    /// Where PostgreSQL is, when the environment chooses it.
    pub postgres: Option<Server>,
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// Who gives the identity tokens that upstreams are sent.
    pub metadata_server: MetadataServer,
    pub routes: Vec<RouteConfig>,
    /// Where other proxies ask for decisions.
    pub decisions: BTreeMap<String, DecisionConfig>,
    /// What those who ask over a port prove themselves with, when one was given.
    pub decision_secret: Option<Secret<String>>,
    /// Opens the keyring, when one was given.
    pub password: Option<Password>,
    /// Why the one that was given cannot be used. Not every command needs it.
    pub password_problem: Option<Invalid>,
    /// What is to take its place, when one was given, or why it cannot be used.
    /// Whoever holds both opens a keyring with either.
    pub new_password: Result<Option<Password>, Invalid>,
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Where the embedded stores and the journal live.
    pub dir: PathBuf,
}

/// What a configuration is for: not every command needs all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To serve traffic: a route and the password have to be there.
    Serve,
    /// To work on the stores.
    Operate,
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Invalid>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, invalid) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{invalid}")?;
        }
        Ok(())
    }
}

/// What came of reading a configuration: it, or its problems, and either way
/// what is in effect.
#[derive(Debug)]
pub struct Reading {
    pub config: Result<Config, Problems>,
    pub effective: Effective,
}

impl Config {
    /// Reads `file`, or the one that the environment names, or none.
    pub fn load(
        file: Option<&Path>,
        environment: &dyn Environment,
        purpose: Purpose,
    ) -> Result<Self, Problems> {
        read(file, environment, purpose).config
    }
}

impl Config {
    /// The sections that differ and take effect at the next start only: a
    /// reload takes routes, upstreams, limits and certificates.
    pub fn waiting_for_a_start(&self, next: &Self) -> Vec<&'static str> {
        [
            ("data", self.data != next.data),
            ("log", self.log != next.log),
            ("server", !self.server.is_served_as(&next.server)),
            ("health", self.health != next.health),
            ("auth", self.auth != next.auth),
            ("keys", self.keys != next.keys),
            ("Firestore", self.firestore != next.firestore),
            ("directory", self.directory != next.directory),
            (
                "limiter.max_keys",
                self.limiter.max_keys != next.limiter.max_keys,
            ),
            ("usage", self.usage != next.usage),
            ("counters", self.counters != next.counters),
            (METADATA_HOST, self.metadata_server != next.metadata_server),
            ("decisions", self.decisions != next.decisions),
            (
                DECISION_SECRET,
                self.decision_secret != next.decision_secret,
            ),
        ]
        .into_iter()
        .filter_map(|(section, differs)| differs.then_some(section))
        .collect()
    }
}

/// As [`Config::load`], with what is in effect.
pub fn read(file: Option<&Path>, environment: &dyn Environment, purpose: Purpose) -> Reading {
    let named = environment::path(environment, FILE);
    let Some(path) = file.or(named.as_deref()) else {
        return parse("", environment, purpose).without_file();
    };
    match fs::read_to_string(path) {
        Ok(text) => read_text(&text, &path.display().to_string(), environment, purpose),
        Err(error) => {
            let problem = format!("cannot be read: {error}");
            Reading::refused(Invalid::new(path.display().to_string(), problem))
        }
    }
}

/// As [`read`], of a text rather than a file.
pub fn parse(text: &str, environment: &dyn Environment, purpose: Purpose) -> Reading {
    read_text(text, "the configuration", environment, purpose)
}

fn read_text(text: &str, shown: &str, environment: &dyn Environment, purpose: Purpose) -> Reading {
    match text.parse() {
        Ok(table) => reader::compose(Written::new(table), environment, purpose),
        Err(error) => {
            let problem = format!("is not TOML: {error}");
            Reading::refused(Invalid::new(shown, problem.trim_end()))
        }
    }
}

impl Reading {
    /// Whoever forgot the file learns of that first.
    fn without_file(mut self) -> Self {
        if let Err(Problems(found)) = &mut self.config {
            let problem = format!("no file was read: give one with `--config`, or in {FILE}");
            found.insert(0, Invalid::new("configuration", problem));
        }
        self
    }

    /// What cannot be read says nothing of what it was meant to set.
    fn refused(invalid: Invalid) -> Self {
        Self {
            config: Err(Problems(vec![invalid])),
            effective: Effective::default(),
        }
    }
}

/// What to say where the password is needed and was not given.
pub fn missing_password() -> Invalid {
    Invalid::new(
        PASSWORD,
        format!(
            "not set: set it, or {PASSWORD}_FILE to a file that holds it, to the keyring's \
             password of at least {} characters",
            Password::MIN_CHARACTERS
        ),
    )
}

/// What to say where the new password is needed and was not given.
pub fn missing_new_password() -> Invalid {
    Invalid::new(
        NEW_PASSWORD,
        format!(
            "not set: set it, or {NEW_PASSWORD}_FILE to a file that holds it, to a password of at \
             least {} characters",
            Password::MIN_CHARACTERS
        ),
    )
}

//! The environment: the only module that reads it, and the names in it that
//! are fixed, whatever the configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::setting::Invalid;

/// The variables a process was started with, or a test's stand-in for them.
pub trait Environment {
    fn variable(&self, name: &str) -> Option<OsString>;

    fn names(&self) -> Vec<OsString>;
}

/// The variables of this process.
#[derive(Clone, Copy, Debug)]
pub struct Process;

impl Environment for Process {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that reads the environment"
    )]
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn names(&self) -> Vec<OsString> {
        std::env::vars_os().map(|(name, _)| name).collect()
    }
}

impl Environment for BTreeMap<String, String> {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.get(name).map(OsString::from)
    }

    fn names(&self) -> Vec<OsString> {
        self.keys().map(OsString::from).collect()
    }
}

/// The value of a variable; an empty one counts as not set.
pub(super) fn text(
    environment: &dyn Environment,
    name: &str,
    found: &mut Vec<Invalid>,
) -> Option<String> {
    let value = environment.variable(name)?;
    if value.is_empty() {
        return None;
    }
    value
        .into_string()
        .map_err(|_| found.push(Invalid::new(name, "not UTF-8: set it to plain text")))
        .ok()
}

/// A path may be anything that the system takes for one.
pub(super) fn path(environment: &dyn Environment, name: &str) -> Option<PathBuf> {
    environment
        .variable(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// A secret: the variable itself, or the content of the file that
/// `<NAME>_FILE` names, without the line break that editors leave at its end.
pub(super) fn secret(
    environment: &dyn Environment,
    name: &str,
    found: &mut Vec<Invalid>,
) -> Option<Secret<String>> {
    let file_name = format!("{name}_FILE");
    let direct = text(environment, name, found);
    let Some(file) = path(environment, &file_name) else {
        return direct.map(Secret::new);
    };
    if direct.is_some() {
        let problem = format!("set together with {file_name}: unset one of them");
        found.push(Invalid::new(name, problem));
        return None;
    }
    match fs::read_to_string(&file).map(Zeroizing::new) {
        Ok(content) => {
            let line = content.strip_suffix('\n').unwrap_or(&content);
            let line = line.strip_suffix('\r').unwrap_or(line);
            Some(Secret::new(line.to_owned()))
        }
        Err(error) => {
            let problem = format!("cannot read {}: {error}", file.display());
            found.push(Invalid::new(file_name, problem));
            None
        }
    }
}

/// Which of the two variables a [`secret`] came from.
pub(super) fn secret_source(environment: &dyn Environment, name: &str) -> String {
    let file_name = format!("{name}_FILE");
    match path(environment, &file_name) {
        Some(file) => format!("{file_name} ({})", file.display()),
        None => name.to_owned(),
    }
}

/// A store that is chosen by its variables, and is not in this build.
pub(super) struct Unavailable {
    pub(super) name: &'static str,
    pub(super) feature: &'static str,
    /// Any of these chooses it.
    pub(super) chosen_by: &'static [&'static str],
    /// Settings of it that choose nothing alone.
    pub(super) refined_by: &'static [&'static str],
    pub(super) instead: &'static str,
}

pub(super) const FIRESTORE: Unavailable = Unavailable {
    name: "Firestore",
    feature: "firestore",
    chosen_by: &["GOOGLE_CLOUD_PROJECT_ID", "FIRESTORE_EMULATOR_HOST"],
    // Not GOOGLE_APPLICATION_CREDENTIALS, which others may be meant by.
    refined_by: &["FIRESTORE_COLLECTION", "FIRESTORE_DATABASE"],
    instead: "store = \"embedded\" under [keys]",
};

pub(super) const POSTGRESQL: Unavailable = Unavailable {
    name: "PostgreSQL",
    feature: "postgres",
    chosen_by: &["DATABASE_URL", "DATABASE_URL_FILE", "DB_HOST"],
    refined_by: &[
        "DB_MAX_CONNECTIONS",
        "DB_NAME",
        "DB_PASSWORD",
        "DB_PASSWORD_FILE",
        "DB_PORT",
        "DB_SSL_MODE",
        "DB_SSL_ROOT_CERT",
        "DB_USER",
    ],
    instead: "sink = \"sqlite\" under [usage]",
};

impl Unavailable {
    /// Complains when the environment chooses it. Never shows a value: some of
    /// them are secrets.
    pub(super) fn refuse(&self, environment: &dyn Environment, found: &mut Vec<Invalid>) {
        let Some(name) = self
            .chosen_by
            .iter()
            .find(|name| path(environment, name).is_some())
        else {
            return;
        };
        let Self {
            name: store,
            feature,
            instead,
            ..
        } = self;
        found.push(Invalid::new(
            *name,
            format!(
                "chooses {store}, which this build does not have (feature `{feature}`): unset it, \
                 and write {instead}"
            ),
        ));
    }

    /// The names that are set.
    pub(super) fn set<'a>(
        &'a self,
        environment: &'a dyn Environment,
    ) -> impl Iterator<Item = &'static str> + 'a {
        [self.chosen_by, self.refined_by]
            .into_iter()
            .flatten()
            .copied()
            .filter(|name| path(environment, name).is_some())
    }
}

//! `[keys]`

use serde::{Deserialize, Serialize};

use crate::setting::Invalid;

/// Where records live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// There is no default: a forgotten setting must not start an empty edge.
    pub store: Option<StoreKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// One SQLite file in `data.dir`.
    Embedded,
}

impl Config {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        if self.store.is_none() {
            found.push(Invalid::new(
                format!("{section}.store"),
                "is not set: write `store = \"embedded\"`",
            ));
        }
    }
}

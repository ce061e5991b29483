//! `[keys]`

use serde::{Deserialize, Serialize};

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

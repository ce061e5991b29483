//! Which requests go where, and with which permission.

mod access;

pub use access::{Access, RequiredPermissions};

use std::sync::Arc;
use std::time::Duration;

/// One route: what of a request it matches, who may use it, where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Names the route in usage, metrics and `X-Edge-Route`.
    pub name: Arc<str>,
    /// Lower case, without port; any host when `None`.
    pub host: Option<Box<str>>,
    /// Whole segments: `/api` matches `/api` and `/api/x`, never `/apiary`.
    pub path_prefix: Box<str>,
    pub access: Access,
    /// The name of the upstream.
    pub upstream: Box<str>,
    /// Bytes; no bound when `None`.
    pub body_limit: Option<u64>,
    /// From the last byte of the request head to the last of the response; no bound when `None`.
    pub timeout: Option<Duration>,
}

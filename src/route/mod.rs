//! Which requests go where, and with which permission.
//!
//! A route matches by host and by whole segments of the path; a route for the
//! host is preferred to one for any host, then the longest path wins. A path
//! that different servers could read differently is refused before any of that
//! ([`path`]), so that no route is passed by in disguise.

mod access;
mod config;
mod cors;
mod host;
mod name;
pub mod path;
mod table;
mod tunnels;

pub use access::{Access, Needed, RequiredPermissions};
pub use config::RouteConfig;
pub use cors::{Cors, CorsConfig};
pub use host::Host;
pub use name::RouteName;
pub use table::{Conflict, RouteTable};
pub use tunnels::Tunnels;

use std::time::Duration;

use crate::pace::Pace;

/// One route: what of a request it matches, who may use it, where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Names the route in usage, metrics and `X-Edge-Route`.
    pub name: RouteName,
    /// Lower case, without port; any host when `None`.
    pub host: Option<Box<str>>,
    /// Whole segments: `/api` matches `/api` and `/api/x`, never `/apiary`.
    pub path_prefix: Box<str>,
    pub access: Access,
    /// Which other origins' pages may use it from a browser.
    pub cors: Option<Cors>,
    /// The name of the upstream.
    pub upstream: Box<str>,
    /// Bytes; no bound when `None`.
    pub body_limit: Option<u64>,
    /// What is asked of a client that sends a body.
    pub body_pace: Pace,
    /// From the last byte of the request head to the last of the response; no bound when `None`.
    pub timeout: Option<Duration>,
    /// What its connections may become.
    pub tunnels: Tunnels,
}

/// Everything, for every key.
impl Default for Route {
    fn default() -> Self {
        Self {
            name: "default".into(),
            host: None,
            path_prefix: "/".into(),
            access: Access::default(),
            cors: None,
            upstream: "default".into(),
            body_limit: None,
            body_pace: Pace::USUAL,
            timeout: None,
            tunnels: Tunnels::default(),
        }
    }
}

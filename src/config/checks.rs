//! What no section can know alone.

use super::{Config, Purpose};
use crate::route::RouteTable;
use crate::setting::Invalid;

/// Complains of what does not go together, once every section is sound.
pub(super) fn check(config: &Config, purpose: Purpose, found: &mut Vec<Invalid>) {
    if config.health.listen == config.server.listen {
        let problem = "is the address of the traffic, `server.listen`: choose another port";
        found.push(Invalid::new("health.listen", problem));
    }
    match RouteTable::from_config(&config.routes) {
        Ok(_) => {}
        Err(conflicts) => found.extend(conflicts),
    }
    if config.routes.is_empty() && purpose == Purpose::Serve {
        let problem = "there is none, so nothing would be served: add a [[routes]]";
        found.push(Invalid::new("routes", problem));
    }
}

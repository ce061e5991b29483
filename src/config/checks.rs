//! What no section can know alone.

use super::{Config, Purpose, schema};
use crate::clock::Clock;
#[cfg(feature = "firestore")]
use crate::repository::{self, StoreKind};
use crate::route::RouteTable;
use crate::setting::Invalid;
use crate::tls;

/// Complains of what does not go together, once every section is sound.
pub(super) fn check(config: &Config, purpose: Purpose, found: &mut Vec<Invalid>) {
    if config.health.listen == config.server.listen {
        let problem = "is the address of the traffic, `server.listen`: choose another port";
        found.push(Invalid::new("health.listen", problem));
    }
    if config.server.tls.listen == Some(config.health.listen) {
        let problem = "is the address of the health, `health.listen`: choose another port";
        found.push(Invalid::new("server.tls.listen", problem));
    }
    let now = Clock::system().wall();
    found.extend(tls::check("server.tls", &config.server.tls, now));
    for (name, decision) in &config.decisions {
        let section = format!("decisions.{name}");
        found.extend(tls::check(&section, &decision.tls(), now));
    }
    for route in &config.routes {
        if !config.upstreams.contains_key(&route.upstream) {
            found.push(Invalid::new(
                format!("routes.{}.upstream", route.name),
                unknown_upstream(&route.upstream, config),
            ));
        }
    }
    if let Some(server) = &config.postgres
        && let Err(error) = server.check(config.database.login)
    {
        found.push(Invalid::new("PostgreSQL", error.to_string()));
    }
    #[cfg(feature = "firestore")]
    if config.keys.store == Some(StoreKind::Firestore)
        && let Some(firestore) = &config.firestore
        && let Err(error) = repository::firestore::check_credentials(firestore)
    {
        found.push(Invalid::new(
            super::firestore::CREDENTIALS,
            error.to_string(),
        ));
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

fn unknown_upstream(name: &str, config: &Config) -> String {
    match schema::nearest(name, config.upstreams.keys().map(String::as_str)) {
        Some(meant) => format!("there is no upstream `{name}`; did you mean `{meant}`?"),
        None => format!("there is no upstream `{name}`: add [upstreams.{name}] with its target"),
    }
}

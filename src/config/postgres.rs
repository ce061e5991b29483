//! Where PostgreSQL is, from the names that platforms set: `DATABASE_URL`, or
//! the `DB_*` parts.

use super::environment::{self, Environment};
use crate::database::Server;
use crate::setting::Invalid;

const URL: &str = "DATABASE_URL";
const HOST: &str = "DB_HOST";
const PASSWORD: &str = "DB_PASSWORD";
const MAX_CONNECTIONS: &str = "DB_MAX_CONNECTIONS";

/// Each with libpq's name of the part.
const PARTS: &[(&str, &str)] = &[
    (HOST, "host"),
    ("DB_PORT", "port"),
    ("DB_USER", "user"),
    ("DB_NAME", "dbname"),
];

/// Of a URL too.
const REFINEMENTS: &[(&str, &str)] = &[
    ("DB_SSL_MODE", "sslmode"),
    ("DB_SSL_ROOT_CERT", "sslrootcert"),
];

/// The server that the environment chooses, if it chooses one.
pub(super) fn server(environment: &dyn Environment, found: &mut Vec<Invalid>) -> Option<Server> {
    let before = found.len();
    let mut server = chosen(environment, found)?;
    let refinements = REFINEMENTS.iter();
    set(&mut server, refinements, environment, found);
    if let Some(password) = environment::secret(environment, PASSWORD, found) {
        if server.password.is_some() {
            let problem = format!("{URL} has a password already: leave one of them out");
            found.push(Invalid::new(PASSWORD, problem));
        }
        server.password = Some(password);
    }
    if let Some(text) = environment::text(environment, MAX_CONNECTIONS, found) {
        if let Ok(number) = text.parse() {
            server.max_connections = number;
        } else {
            let problem = format!("`{text}` is not a number: set it to one such as 20");
            found.push(Invalid::new(MAX_CONNECTIONS, problem));
        }
    }
    (found.len() == before).then_some(server)
}

fn chosen(environment: &dyn Environment, found: &mut Vec<Invalid>) -> Option<Server> {
    let Some(url) = environment::secret(environment, URL, found) else {
        environment::text(environment, HOST, found)?;
        let mut server = Server::default();
        set(&mut server, PARTS.iter(), environment, found);
        return Some(server);
    };
    for (name, _) in PARTS {
        if environment::path(environment, name).is_some() {
            let problem = format!("set together with {URL}, which says that too: unset one");
            found.push(Invalid::new(*name, problem));
        }
    }
    Server::from_url(url.expose())
        .map_err(|error| found.push(Invalid::new(URL, error.to_string())))
        .ok()
}

fn set<'a>(
    server: &mut Server,
    parts: impl Iterator<Item = &'a (&'a str, &'a str)>,
    environment: &dyn Environment,
    found: &mut Vec<Invalid>,
) {
    for (name, part) in parts {
        if let Some(value) = environment::text(environment, name, found)
            && let Err(error) = server.set_parameter(part, value)
        {
            found.push(Invalid::new(*name, error.to_string()));
        }
    }
}

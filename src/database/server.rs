//! Where a server is and how to talk to it, from a URL or from its parts.

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::config::Login;
use crate::secret::Secret;

const DEFAULT_PORT: u16 = 5432;

/// How many connections both pools have together when nothing else is said.
const DEFAULT_MAX_CONNECTIONS: u32 = 20;

/// A PostgreSQL server, a database on it, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name or an address; or the directory of a socket, if it begins with `/`.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret<String>>,
    pub database: String,
    /// Of no meaning for a socket.
    pub ssl_mode: SslMode,
    /// The authorities, PEM, that the server's certificate has to come from.
    pub ssl_root_cert: Option<PathBuf>,
    /// Of both pools together, at least two.
    pub max_connections: u32,
}

/// What is asked of the encryption; as libpq has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// Encrypted if the server can.
    Prefer,
    /// Encrypted, to whomever it is; with a root certificate as `VerifyCa`.
    Require,
    /// To a server whose certificate comes from the root certificate.
    VerifyCa,
    /// And bears the name that was connected to.
    VerifyFull,
}

/// Why a URL, or a part of it, cannot be used. Never shows a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidServer(String);

impl InvalidServer {
    pub fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

impl Default for Server {
    /// As the parts are where they are not given.
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: DEFAULT_PORT,
            user: "postgres".to_owned(),
            password: None,
            database: "postgres".to_owned(),
            ssl_mode: SslMode::Prefer,
            ssl_root_cert: None,
            max_connections: DEFAULT_MAX_CONNECTIONS,
        }
    }
}

impl Server {
    /// `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=/file`,
    /// with parts percent-encoded where needed. A socket's directory is either
    /// the host, percent-encoded, or the parameter `host`.
    pub fn from_url(url: &str) -> Result<Self, InvalidServer> {
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .ok_or_else(|| InvalidServer::new("it has to begin with `postgres://`"))?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let mut server = Self::default();
        server.set_address(address)?;
        set_unless_empty(&mut server.user, "user", user)?;
        if let Some(password) = password {
            server.password = Some(Secret::new(decoded("password", password)?));
        }
        // libpq's default: a database named as its user.
        server.database = server.user.clone();
        set_unless_empty(&mut server.database, "database", database)?;
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            server.set_parameter(name, decoded(name, value)?)?;
        }
        Ok(server)
    }

    /// `host`, `host:port`, `[address]:port`.
    fn set_address(&mut self, address: &str) -> Result<(), InvalidServer> {
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest
                    .split_once(']')
                    .ok_or_else(|| InvalidServer::new("the address lacks its `]`"))?;
                (host, port.strip_prefix(':'))
            }
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        set_unless_empty(&mut self.host, "host", host)?;
        if self.host.contains(',') {
            return Err(InvalidServer::new("one host is enough"));
        }
        if let Some(port) = port {
            self.port = port_of(port)?;
        }
        Ok(())
    }

    /// Sets one part, by libpq's name for it.
    pub fn set_parameter(&mut self, name: &str, value: String) -> Result<(), InvalidServer> {
        match name {
            "host" => self.host = value,
            "port" => self.port = port_of(&value)?,
            "user" => self.user = value,
            "password" => self.password = Some(Secret::new(value)),
            "dbname" => self.database = value,
            "sslmode" => self.ssl_mode = SslMode::parse(&value)?,
            "sslrootcert" => self.ssl_root_cert = Some(value.into()),
            _ => {
                return Err(InvalidServer::new(format!(
                    "the parameter `{name}` is not known here: there are host, port, user, \
                     password, dbname, sslmode and sslrootcert"
                )));
            }
        }
        Ok(())
    }

    /// Checks what does not go together, once all parts are there.
    pub fn check(&self, login: Login) -> Result<(), InvalidServer> {
        let mode = self.effective_ssl_mode();
        let verifies = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull);
        let over_network = self.socket().is_none();
        if self.max_connections < 2 {
            Err(InvalidServer::new(
                "at least 2 connections are needed: one for each pool",
            ))
        } else if verifies && self.ssl_root_cert.is_none() {
            Err(InvalidServer::new(
                "a certificate can only be verified with a root certificate: set `sslrootcert`, \
                 or DB_SSL_ROOT_CERT, to its file",
            ))
        } else if !verifies && self.ssl_root_cert.is_some() && over_network {
            Err(InvalidServer::new(
                "the root certificate would not be used: set `sslmode`, or DB_SSL_MODE, to \
                 verify-full or verify-ca",
            ))
        } else if login == Login::Iam && self.password.is_some() {
            Err(InvalidServer::new(
                "there is a password, and `database.login` is \"iam\", which needs none",
            ))
        } else if login == Login::Iam && !verifies && over_network {
            Err(InvalidServer::new(
                "an access token is only sent to a server that was verified: set `sslmode`, or \
                 DB_SSL_MODE, to verify-full or verify-ca, or use a socket",
            ))
        } else {
            Ok(())
        }
    }

    /// The directory of its socket.
    pub fn socket(&self) -> Option<&Path> {
        self.host.starts_with('/').then(|| Path::new(&self.host))
    }

    /// As libpq has it: nothing is encrypted on a socket, and a root
    /// certificate is there to be used.
    pub fn effective_ssl_mode(&self) -> SslMode {
        match self.ssl_mode {
            _ if self.socket().is_some() => SslMode::Disable,
            SslMode::Require if self.ssl_root_cert.is_some() => SslMode::VerifyCa,
            mode => mode,
        }
    }

    /// What certificates are verified with, if they are.
    pub fn trusted_root(&self) -> Option<&Path> {
        match self.effective_ssl_mode() {
            SslMode::VerifyCa | SslMode::VerifyFull => self.ssl_root_cert.as_deref(),
            SslMode::Disable | SslMode::Prefer | SslMode::Require => None,
        }
    }
}

/// Without the password: for people.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            port,
            user,
            database,
            max_connections,
            ..
        } = self;
        let mode = self.effective_ssl_mode().as_str();
        write!(
            f,
            "{user} at {host}:{port}, database {database}, sslmode {mode}, \
             at most {max_connections} connections"
        )
    }
}

impl SslMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    pub fn parse(text: &str) -> Result<Self, InvalidServer> {
        match text {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(InvalidServer::new(format!(
                "`{text}` is no sslmode: there are disable, prefer, require, verify-ca and \
                 verify-full"
            ))),
        }
    }
}

fn set_unless_empty(part: &mut String, name: &str, text: &str) -> Result<(), InvalidServer> {
    if !text.is_empty() {
        *part = decoded(name, text)?;
    }
    Ok(())
}

fn port_of(text: &str) -> Result<u16, InvalidServer> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| InvalidServer::new(format!("`{text}` is not a port")))
}

fn decoded(name: &str, text: &str) -> Result<String, InvalidServer> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| InvalidServer::new(format!("its {name} is not UTF-8")))?;
    if text.contains('\0') {
        return Err(InvalidServer::new(format!("there is a NUL in its {name}")));
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read_from_a_url() {
        let url = "postgresql://us%40er:p%3Aw%2F@db.example:6000/us%C3%A4ge?sslmode=verify-ca&\
                   sslrootcert=/etc/ca.pem";
        let server = Server::from_url(url).unwrap();
        let expected = Server {
            host: "db.example".to_owned(),
            port: 6000,
            user: "us@er".to_owned(),
            password: Some(Secret::new("p:w/".to_owned())),
            database: "usäge".to_owned(),
            ssl_mode: SslMode::VerifyCa,
            ssl_root_cert: Some("/etc/ca.pem".into()),
            max_connections: 20,
        };
        assert_eq!(server, expected);
    }

    #[test]
    fn what_is_not_said_is_as_libpq_has_it() {
        let server = Server::from_url("postgres://edge@[::1]").unwrap();
        assert_eq!((&*server.host, server.port), ("::1", 5432));
        assert_eq!(server.database, "edge");
        assert_eq!(server.ssl_mode, SslMode::Prefer);
        assert_eq!(server.password, None);
    }

    #[test]
    fn a_socket_is_written_either_way() {
        for url in [
            "postgres://edge@%2Fcloudsql%2Fproject%3Aregion%3Ainstance/usage",
            "postgres://edge@/usage?host=/cloudsql/project:region:instance",
            "postgres://edge@localhost/usage?host=/cloudsql/project:region:instance",
        ] {
            let server = Server::from_url(url).unwrap();
            let directory = Path::new("/cloudsql/project:region:instance");
            assert_eq!(server.socket(), Some(directory), "{url}");
            assert_eq!(server.database, "usage", "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_a_password_is_not() {
        for (url, problem) in [
            ("mysql://u:hunter2@h/d", "postgres://"),
            ("postgres://u:hunter2@h:x/d", "`x` is not a port"),
            ("postgres://u:hunter2@h:0/d", "`0` is not a port"),
            ("postgres://u:hunter2@[::1/d", "`]`"),
            ("postgres://u:hunter2@a,b/d", "one host"),
            (
                "postgres://u:hunter2@h/d?sslmode=allow",
                "`allow` is no sslmode",
            ),
            ("postgres://u:hunter2@h/d?sslkey=k", "`sslkey` is not known"),
            ("postgres://u:hunter2%00@h/d", "NUL in its password"),
        ] {
            let error = Server::from_url(url).unwrap_err().to_string();
            assert!(error.contains(problem), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let server = Server::from_url("postgres://u:hunter2@h/d").unwrap();
        assert!(!format!("{server:?}").contains("hunter2"));
    }

    #[test]
    fn a_server_is_only_verified_against_something() {
        let mut server = Server {
            ssl_mode: SslMode::VerifyFull,
            ..Server::default()
        };
        assert!(server.check(Login::Password).is_err());
        server.ssl_root_cert = Some("/etc/ca.pem".into());
        assert_eq!(server.check(Login::Password), Ok(()));
        server.ssl_mode = SslMode::Prefer;
        assert!(server.check(Login::Password).is_err());
        server.ssl_mode = SslMode::Require;
        assert_eq!(server.check(Login::Password), Ok(()));
    }

    #[test]
    fn an_access_token_goes_only_where_it_is_meant_to() {
        let mut server = Server::default();
        assert!(server.check(Login::Iam).is_err());
        server.host = "/cloudsql/project:region:instance".to_owned();
        assert_eq!(server.check(Login::Iam), Ok(()));
        server.password = Some(Secret::new("kept".to_owned()));
        assert!(server.check(Login::Iam).is_err());
    }

    #[test]
    fn each_pool_needs_a_connection() {
        let server = Server {
            max_connections: 1,
            ..Server::default()
        };
        assert!(server.check(Login::Password).is_err());
    }
}

//! `[decisions.<name>]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::Dialect;
use crate::setting::Invalid;
use crate::tls::{self, CertificateFiles, ClientCertificates};

/// `[decisions.<name>]`. `dialect` and `listen` have no default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionConfig {
    /// Which proxy asks.
    pub dialect: Option<Dialect>,
    /// `unix:/path/of/a.sock`, or an address and port.
    pub listen: String,
    /// Who may ask over a socket, as `chmod` has it.
    pub mode: String,
    /// That TLS is spoken with at an address.
    pub certificates: Vec<CertificateFiles>,
    /// The authorities that proxies' certificates are to be from.
    pub client_ca: Option<PathBuf>,
}

impl Default for DecisionConfig {
    fn default() -> Self {
        Self {
            dialect: None,
            listen: String::new(),
            mode: "0660".to_owned(),
            certificates: Vec::new(),
            client_ca: None,
        }
    }
}

/// What a sound section says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compiled {
    pub(super) dialect: Dialect,
    pub(super) place: Place,
    pub(super) proof: Proof,
}

/// Where questions come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Socket { path: PathBuf, mode: u32 },
    Address(SocketAddr),
}

/// What tells a proxy of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// That it is connected: who may open the socket, or shows a certificate, may
    /// ask.
    Connection,
    /// The shared secret.
    Secret,
}

impl DecisionConfig {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        self.compile(section, found);
    }

    /// Whether its callers prove themselves with the shared secret.
    pub fn needs_secret(&self) -> bool {
        self.proof() == Proof::Secret
    }

    fn proof(&self) -> Proof {
        if self.listen.starts_with(UNIX) || self.client_ca.is_some() {
            Proof::Connection
        } else {
            Proof::Secret
        }
    }

    /// How TLS is spoken at its address.
    pub fn tls(&self) -> tls::Config {
        tls::Config {
            certificates: self.certificates.clone(),
            client_certificates: match self.client_ca {
                Some(_) => ClientCertificates::Required,
                None => ClientCertificates::None,
            },
            client_ca: self.client_ca.clone(),
            ..tls::Config::default()
        }
    }

    /// `None` when anything was `found`.
    pub(super) fn compile(&self, section: &str, found: &mut Vec<Invalid>) -> Option<Compiled> {
        let before = found.len();
        let mut invalid = |key: &str, problem: String| {
            found.push(Invalid::new(format!("{section}.{key}"), problem));
        };
        if self.dialect.is_none() {
            let problem = "is missing: write `nginx`, `traefik` or `envoy`";
            invalid("dialect", problem.into());
        }
        let mode = mode(&self.mode);
        if mode.is_none() {
            let problem = format!(
                "`{}` lets nobody in, or everybody: write `0600`, or `0660` for a group",
                self.mode
            );
            invalid("mode", problem);
        }
        let place = match self.listen.strip_prefix(UNIX) {
            Some(path) if path.starts_with('/') => mode.map(|mode| Place::Socket {
                path: path.into(),
                mode,
            }),
            Some(path) => {
                invalid("listen", format!("`{path}` is no absolute path"));
                None
            }
            None => {
                let address = self.listen.parse().ok();
                if address.is_none() {
                    let problem = format!(
                        "`{}` is no place: write `unix:/run/cypheron-edge/decision.sock`, or \
                         an address and port",
                        self.listen
                    );
                    invalid("listen", problem);
                }
                address.map(Place::Address)
            }
        };
        let has_tls = !self.certificates.is_empty();
        if cfg!(not(feature = "tls")) && has_tls {
            let problem = "this build speaks no TLS: build it with the feature `tls`, or leave \
                           the certificates out";
            invalid("certificates", problem.into());
        }
        if has_tls && matches!(place, Some(Place::Socket { .. })) {
            let problem = "are for an address: over a socket no TLS is spoken, and its mode says \
                           who may ask";
            invalid("certificates", problem.into());
        }
        if self.client_ca.is_some() && !has_tls {
            let problem = "is set, and without TLS nobody shows a certificate: give one of the \
                           edge's own in `certificates`";
            invalid("client_ca", problem.into());
        }
        let compiled = Compiled {
            dialect: self.dialect?,
            place: place?,
            proof: self.proof(),
        };
        (found.len() == before).then_some(compiled)
    }
}

const UNIX: &str = "unix:";

/// The permissions that an octal number says: the owner's, perhaps a group's,
/// nobody else's.
fn mode(text: &str) -> Option<u32> {
    let mode = u32::from_str_radix(text, 8).ok()?;
    (mode & 0o600 == 0o600 && mode & !0o660 == 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(toml: &str) -> Result<Compiled, String> {
        let config: DecisionConfig = toml::from_str(toml).unwrap();
        let mut found = Vec::new();
        let compiled = config.compile("decisions.d", &mut found);
        compiled.ok_or_else(|| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn questions_come_over_a_socket_or_from_an_address() {
        let socket = compiled("dialect = 'nginx'\nlisten = 'unix:/run/edge.sock'");
        let over_socket = Compiled {
            dialect: Dialect::Nginx,
            place: Place::Socket {
                path: "/run/edge.sock".into(),
                mode: 0o660,
            },
            proof: Proof::Connection,
        };
        assert_eq!(socket, Ok(over_socket));
        let at_address = |more: &str, proof| {
            let toml = format!("dialect = 'envoy'\nlisten = '127.0.0.1:9903'\n{more}");
            let over_tcp = Compiled {
                dialect: Dialect::Envoy,
                place: Place::Address("127.0.0.1:9903".parse().unwrap()),
                proof,
            };
            assert_eq!(compiled(&toml), Ok(over_tcp), "{more}");
        };
        at_address("", Proof::Secret);
        if cfg!(feature = "tls") {
            let ours = "certificates = [{ chain = 'a.pem', key = 'a.key' }]";
            at_address(ours, Proof::Secret);
            at_address(&format!("{ours}\nclient_ca = 'b.pem'"), Proof::Connection);
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (toml, key) in [
            ("listen = '127.0.0.1:1'", "dialect"),
            ("dialect = 'nginx'", "listen"),
            ("dialect = 'nginx'\nlisten = 'unix:edge.sock'", "listen"),
            ("dialect = 'nginx'\nlisten = '9903'", "listen"),
            (
                "dialect = 'nginx'\nlisten = '127.0.0.1:1'\nclient_ca = 'a.pem'",
                "client_ca",
            ),
            (
                "dialect = 'nginx'\nlisten = 'unix:/a'\n\
                 certificates = [{ chain = 'a.pem', key = 'a.key' }]",
                "certificates",
            ),
            (
                "dialect = 'nginx'\nlisten = 'unix:/a'\nmode = '0666'",
                "mode",
            ),
            (
                "dialect = 'nginx'\nlisten = 'unix:/a'\nmode = '0060'",
                "mode",
            ),
            (
                "dialect = 'nginx'\nlisten = 'unix:/a'\nmode = '7777'",
                "mode",
            ),
            ("dialect = 'nginx'\nlisten = 'unix:/a'\nmode = 'rw'", "mode"),
        ] {
            let problem = compiled(toml).unwrap_err();
            assert!(
                problem.starts_with(&format!("decisions.d.{key}: ")),
                "{problem}"
            );
        }
    }
}

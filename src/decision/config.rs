//! `[decisions.<name>]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::Dialect;
use crate::setting::Invalid;

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
}

impl Default for DecisionConfig {
    fn default() -> Self {
        Self {
            dialect: None,
            listen: String::new(),
            mode: "0660".to_owned(),
        }
    }
}

/// Where questions come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Whoever may open it may ask.
    Socket { path: PathBuf, mode: u32 },
    /// Whoever knows the secret may ask.
    Address(SocketAddr),
}

impl DecisionConfig {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        self.compile(section, found);
    }

    /// Whether its callers prove themselves with the shared secret.
    pub fn needs_secret(&self) -> bool {
        !self.listen.starts_with(UNIX)
    }

    /// `None` when anything was `found`.
    pub(super) fn compile(
        &self,
        section: &str,
        found: &mut Vec<Invalid>,
    ) -> Option<(Dialect, Place)> {
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
        Some((self.dialect?, place?))
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

    fn compiled(toml: &str) -> Result<(Dialect, Place), String> {
        let config: DecisionConfig = toml::from_str(toml).unwrap();
        let mut found = Vec::new();
        let compiled = config.compile("decisions.d", &mut found);
        compiled.ok_or_else(|| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn questions_come_over_a_socket_or_from_an_address() {
        let socket = Place::Socket {
            path: "/run/edge.sock".into(),
            mode: 0o660,
        };
        let over_socket = compiled("dialect = 'nginx'\nlisten = 'unix:/run/edge.sock'");
        assert_eq!(over_socket, Ok((Dialect::Nginx, socket)));
        let address = Place::Address("127.0.0.1:9903".parse().unwrap());
        let over_tcp = compiled("dialect = 'envoy'\nlisten = '127.0.0.1:9903'");
        assert_eq!(over_tcp, Ok((Dialect::Envoy, address)));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (toml, key) in [
            ("listen = '127.0.0.1:1'", "dialect"),
            ("dialect = 'nginx'", "listen"),
            ("dialect = 'nginx'\nlisten = 'unix:edge.sock'", "listen"),
            ("dialect = 'nginx'\nlisten = '9903'", "listen"),
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

//! `[server.tls]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::setting::{self, Invalid};

/// `[server.tls]`. Without a certificate there is no TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where TLS is spoken, beside the plain `server.listen`; when not set,
    /// `server.listen` speaks nothing else.
    #[serde(deserialize_with = "setting::some_address")]
    pub listen: Option<SocketAddr>,
    /// The first is for clients that ask for no name, or for one that none has.
    pub certificates: Vec<CertificateFiles>,
    /// Refuses every client that does not agree on keys by X25519MLKEM768.
    pub require_post_quantum: bool,
    pub client_certificates: ClientCertificates,
    /// The authorities that clients' certificates are to be from.
    pub client_ca: Option<PathBuf>,
    /// From the connection to the end of the handshake.
    #[serde(deserialize_with = "setting::duration")]
    pub handshake_timeout: Duration,
}

/// A certificate on disk, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The certificate, and then its issuers up to the root.
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    None,
    /// They may have none; one that is shown has to be good.
    Optional,
    Required,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            certificates: Vec::new(),
            require_post_quantum: false,
            client_certificates: ClientCertificates::None,
            client_ca: None,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Whether TLS is spoken anywhere.
    pub const fn is_on(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// What is wrong with it, whatever is in the files.
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        let mut invalid = |key: &str, problem: &str| {
            found.push(Invalid::new(format!("{section}.{key}"), problem));
        };
        if cfg!(not(feature = "tls")) && self.is_on() {
            let problem = "this build speaks no TLS: build it with the feature `tls`, or leave \
                           the certificates out";
            invalid("certificates", problem);
        }
        let asks = self.client_certificates != ClientCertificates::None;
        if !self.is_on() {
            let set = [
                ("listen", self.listen.is_some()),
                ("require_post_quantum", self.require_post_quantum),
                ("client_certificates", asks),
                ("client_ca", self.client_ca.is_some()),
            ];
            for (key, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
                let problem = format!(
                    "is set, and no TLS is spoken without a certificate: give one in \
                     {section}.certificates"
                );
                invalid(key, &problem);
            }
        } else if asks && self.client_ca.is_none() {
            let problem = "not set: name the file with the authorities of clients' certificates";
            invalid("client_ca", problem);
        } else if !asks && self.client_ca.is_some() {
            let problem = "is \"none\", so that `client_ca` is for nothing: write \"optional\" \
                           or \"required\"";
            invalid("client_certificates", problem);
        }
        if self.handshake_timeout.is_zero() {
            invalid("handshake_timeout", "is zero: nothing would be served");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let config: Config = toml::from_str(text).unwrap();
        let mut found = Vec::new();
        config.problems("server.tls", &mut found);
        found.into_iter().map(|invalid| invalid.key).collect()
    }

    #[test]
    fn the_defaults_are_sound_and_speak_no_tls() {
        assert_eq!(problems(""), [""; 0]);
        assert!(!Config::default().is_on());
    }

    #[test]
    fn what_needs_a_certificate_is_named_where_there_is_none() {
        let text = "listen = '127.0.0.1:8443'\nrequire_post_quantum = true\n\
                    client_certificates = 'required'\nclient_ca = 'ca.pem'";
        assert_eq!(
            problems(text),
            [
                "server.tls.listen",
                "server.tls.require_post_quantum",
                "server.tls.client_certificates",
                "server.tls.client_ca"
            ]
        );
    }

    #[test]
    #[cfg(feature = "tls")]
    fn clients_certificates_and_their_authority_go_together() {
        let on = "certificates = [{ chain = 'a.pem', key = 'a.key' }]\n";
        for (more, named) in [
            ("", None),
            ("client_certificates = 'optional'", Some("client_ca")),
            ("client_ca = 'ca.pem'", Some("client_certificates")),
            (
                "client_certificates = 'required'\nclient_ca = 'ca.pem'",
                None,
            ),
            ("handshake_timeout = '0s'", Some("handshake_timeout")),
        ] {
            let named: Vec<_> = named
                .map(|key| format!("server.tls.{key}"))
                .into_iter()
                .collect();
            assert_eq!(problems(&format!("{on}{more}")), named, "{more}");
        }
    }
}

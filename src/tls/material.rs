//! What the files hold, made into what a handshake needs.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::by_name::ByName;
use super::certificate::{Certificate, certificates};
use super::{ClientCertificates, Config};
use crate::clock::Timestamp;
use crate::setting::Invalid;

/// What a client may ask to speak, the best first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];

pub(super) const HTTP2: &[u8] = b"h2";

/// What was loaded of one configuration.
#[derive(Debug)]
pub(super) struct Material {
    provider: Arc<CryptoProvider>,
    certificates: Vec<Certificate>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// Everything that is wrong with the files that `section` names, at `now`.
pub fn check(section: &str, config: &Config, now: Timestamp) -> Vec<Invalid> {
    if !config.is_on() {
        return Vec::new();
    }
    match Material::load(section, config) {
        Err(found) => found,
        Ok(material) => material.untimely(section, config, now),
    }
}

impl Material {
    pub(super) fn load(section: &str, config: &Config) -> Result<Self, Vec<Invalid>> {
        let mut provider = aws_lc_rs::default_provider();
        if config.require_post_quantum {
            provider.kx_groups = vec![kx_group::X25519MLKEM768];
        }
        let provider = Arc::new(provider);
        let mut found = Vec::new();
        let mut loaded = Vec::new();
        for (at, files) in config.certificates.iter().enumerate() {
            match Certificate::load(files, &certificate(section, at), &provider) {
                Ok(certificate) => loaded.push(certificate),
                Err(invalid) => found.push(invalid),
            }
        }
        let verifier = verifier(config, &provider).map_err(|problem| {
            found.push(Invalid::new(format!("{section}.client_ca"), problem));
        });
        match verifier {
            Ok(verifier) if found.is_empty() => Ok(Self {
                provider,
                certificates: loaded,
                verifier,
            }),
            _ => Err(found),
        }
    }

    fn untimely(&self, section: &str, config: &Config, now: Timestamp) -> Vec<Invalid> {
        let all = self
            .certificates
            .iter()
            .zip(&config.certificates)
            .enumerate();
        all.filter_map(|(at, (loaded, files))| {
            let problem = loaded.untimely(now)?;
            let key = format!("{}.chain", certificate(section, at));
            Some(Invalid::new(
                key,
                format!("{}: {problem}", files.chain.display()),
            ))
        })
        .collect()
    }

    /// When each certificate expires.
    pub(super) fn expiries(&self) -> impl Iterator<Item = Timestamp> {
        self.certificates
            .iter()
            .map(|certificate| certificate.not_after)
    }

    pub(super) fn server_config(
        self,
        config: &Config,
        http2: bool,
        tickets: Arc<dyn ProducesTickets>,
    ) -> Result<ServerConfig, rustls::Error> {
        // The key exchange that can be required is one of TLS 1.3.
        let versions: &[_] = if config.require_post_quantum {
            &[&TLS13]
        } else {
            &[&TLS13, &TLS12]
        };
        let builder =
            ServerConfig::builder_with_provider(self.provider).with_protocol_versions(versions)?;
        let knows_clients = self.verifier.is_some();
        let builder = match self.verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut made = builder.with_cert_resolver(Arc::new(ByName::new(self.certificates)));
        let spoken = PROTOCOLS.into_iter().filter(|&name| http2 || name != HTTP2);
        made.alpn_protocols = spoken.map(<[u8]>::to_vec).collect();
        if knows_clients {
            // A session that goes on would outlive the certificate it began with,
            // and the authority that was believed then.
            made.session_storage = Arc::new(NoServerSessionStorage {});
            made.send_tls13_tickets = 0;
        } else {
            made.ticketer = tickets;
        }
        Ok(made)
    }
}

fn certificate(section: &str, at: usize) -> String {
    format!("{section}.certificates[{at}]")
}

/// What checks clients' certificates, where they are asked for one.
fn verifier(
    config: &Config,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let Some(file) = &config.client_ca else {
        return Ok(None);
    };
    let of_file = |problem: String| format!("{}: {problem}", file.display());
    let roots = Arc::new(roots(file).map_err(of_file)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = match config.client_certificates {
        ClientCertificates::None => return Ok(None),
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        ClientCertificates::Required => builder,
    };
    let verifier = builder.build();
    Ok(Some(verifier.map_err(|error| {
        of_file(format!("cannot be used: {error}"))
    })?))
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| format!("has what is no authority's certificate: {error}"))?;
    }
    Ok(roots)
}

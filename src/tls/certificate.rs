//! One certificate of ours, from its files.

use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_cert::Certificate as Parsed;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

use super::CertificateFiles;
use crate::clock::Timestamp;
use crate::setting::Invalid;

/// A certificate with its key, and what it says of itself.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) certified: CertifiedKey,
    /// In lower case; `*.example.com` is for any one label.
    pub(super) names: Vec<String>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Certificate {
    /// Reads both files. `shown` is the setting that names them.
    pub(super) fn load(
        files: &CertificateFiles,
        shown: &str,
        provider: &CryptoProvider,
    ) -> Result<Self, Invalid> {
        let of_chain = |problem: String| {
            let file = files.chain.display();
            Invalid::new(format!("{shown}.chain"), format!("{file}: {problem}"))
        };
        let of_key = |problem: String| {
            let file = files.key.display();
            Invalid::new(format!("{shown}.key"), format!("{file}: {problem}"))
        };
        let chain = certificates(&files.chain).map_err(of_chain)?;
        let parsed = parsed(&chain).map_err(of_chain)?;
        let names = names(&parsed[0]).map_err(of_chain)?;
        let validity = &parsed[0].tbs_certificate.validity;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
            of_key(match error {
                pem::Error::NoItemsFound => {
                    "has no private key: give one in PEM, without a passphrase".to_owned()
                }
                other => unreadable(&other),
            })
        })?;
        let certified =
            CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => of_key(format!(
                    "is not the key of {}: give the one that the certificate was made for",
                    files.chain.display()
                )),
                other => of_key(format!("cannot be used: {other}")),
            })?;
        Ok(Self {
            certified,
            names,
            not_before: moment(&validity.not_before),
            not_after: moment(&validity.not_after),
        })
    }

    /// Why it is of no use at `now`.
    pub(super) fn untimely(&self, now: Timestamp) -> Option<String> {
        if now >= self.not_after {
            Some(format!("expired at {}: renew it", self.not_after))
        } else if now < self.not_before {
            let from = self.not_before;
            Some(format!(
                "is valid only from {from}: set the clock, or use another one"
            ))
        } else {
            None
        }
    }
}

/// Every certificate of a PEM file, at least one.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(&error))?;
    if certificates.is_empty() {
        return Err("has no certificate: give one in PEM".to_owned());
    }
    Ok(certificates)
}

fn unreadable(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        other => format!("is not PEM: {other}"),
    }
}

/// In the order of a chain: each is issued by the next.
fn parsed(chain: &[CertificateDer<'_>]) -> Result<Vec<Parsed>, String> {
    let parsed: Vec<_> = chain
        .iter()
        .map(|certificate| Parsed::from_der(certificate))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("has a damaged certificate: {error}"))?;
    for pair in parsed.windows(2) {
        let (of, by) = (&pair[0].tbs_certificate, &pair[1].tbs_certificate);
        if of.issuer != by.subject {
            return Err(format!(
                "is out of order: after `{}` comes its issuer, `{}`, not `{}`",
                of.subject, of.issuer, by.subject
            ));
        }
    }
    Ok(parsed)
}

fn names(certificate: &Parsed) -> Result<Vec<String>, String> {
    let extension = certificate.tbs_certificate.get::<SubjectAltName>();
    let (_, SubjectAltName(all)) = extension
        .map_err(|error| format!("has damaged names: {error}"))?
        .ok_or("names nobody: get one with the host as subject alternative name")?;
    let names = all.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    });
    Ok(names.collect())
}

fn moment(time: &Time) -> Timestamp {
    Timestamp::EPOCH.saturating_add(time.to_unix_duration())
}

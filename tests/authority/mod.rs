//! An authority of a test's own, and what it issued, in files.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use cypheron_edge::clock::Clock;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) directory: TempDir,
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "Test CA");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            directory,
        }
    }

    /// `ca.pem`, or one that was issued.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `<file>.pem` and `<file>.key`.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Issued {
        self.issue_with(file, names, &KeyPair::generate().unwrap())
    }

    pub(crate) fn issue_with(&self, file: &str, names: &[&str], key: &KeyPair) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        // As public authorities issue them: clients that are strict look at it.
        let now =
            Duration::from_secs(Clock::system().wall().as_micros().unsigned_abs() / 1_000_000);
        params.not_before = (UNIX_EPOCH + now - Duration::from_hours(1)).into();
        params.not_after = (UNIX_EPOCH + now + Duration::from_hours(90 * 24)).into();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        let issued = Issued {
            chain: self.file(&format!("{file}.pem")),
            key: self.file(&format!("{file}.key")),
        };
        fs::write(&issued.chain, certificate.pem()).unwrap();
        fs::write(&issued.key, key.serialize_pem()).unwrap();
        issued
    }
}

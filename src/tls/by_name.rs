//! Which certificate is shown to whom.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Certificates by the name that a client asks for: by the exact one, else by
/// a wildcard in the place of its first label, else the first certificate.
///
/// Of several for one name, say an ECDSA and an RSA one, the first that the
/// client can check.
#[derive(Debug)]
pub(super) struct ByName {
    all: Vec<Arc<CertifiedKey>>,
    named: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl ByName {
    pub(super) fn new(certificates: Vec<Certificate>) -> Self {
        let mut named: HashMap<String, Vec<_>> = HashMap::new();
        let mut all = Vec::new();
        for certificate in certificates {
            let certified = Arc::new(certificate.certified);
            for name in certificate.names {
                named.entry(name).or_default().push(Arc::clone(&certified));
            }
            all.push(certified);
        }
        Self { all, named }
    }

    fn find(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let named = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wildcard = || {
                let (_, domain) = name.split_once('.')?;
                self.named.get(&format!("*.{domain}"))
            };
            self.named.get(&name).or_else(wildcard)
        });
        named.map_or(&self.all, Vec::as_slice)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = self.find(hello.server_name());
        usable(found, hello.signature_schemes()).cloned()
    }
}

fn usable<'a>(
    found: &'a [Arc<CertifiedKey>],
    schemes: &[SignatureScheme],
) -> Option<&'a Arc<CertifiedKey>> {
    let checks = |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(schemes).is_some();
    found.iter().find(checks).or_else(|| found.first())
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;
    use crate::clock::Timestamp;

    /// Told apart by how long its chain is.
    fn certificate(mark: usize, names: &[&str]) -> Certificate {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let chain = vec![made.cert.der().clone(); mark];
        Certificate {
            certified: CertifiedKey::new(chain, key),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            not_before: Timestamp::EPOCH,
            not_after: Timestamp::EPOCH,
        }
    }

    #[test]
    fn the_exact_name_comes_before_the_wildcard_and_the_first_is_for_the_rest() {
        let by_name = ByName::new(vec![
            certificate(1, &["first.test"]),
            certificate(2, &["*.example.com", "example.com"]),
            certificate(3, &["api.example.com"]),
        ]);
        for (name, mark) in [
            (None, 1),
            (Some("first.test"), 1),
            (Some("unknown.test"), 1),
            (Some("example.com"), 2),
            (Some("www.example.com"), 2),
            (Some("WWW.Example.com"), 2),
            (Some("a.b.example.com"), 1),
            (Some("api.example.com"), 3),
            (Some("com"), 1),
        ] {
            let found = by_name.find(name);
            assert_eq!(found[0].cert.len(), mark, "{name:?}");
        }
    }

    #[test]
    fn a_client_gets_one_that_it_can_check() {
        let by_name = ByName::new(vec![certificate(1, &["a"])]);
        let found = by_name.find(Some("a"));
        for schemes in [&[SignatureScheme::ECDSA_NISTP256_SHA256][..], &[]] {
            assert_eq!(usable(found, schemes).unwrap().cert.len(), 1);
        }
        assert!(usable(&[], &[]).is_none());
    }
}

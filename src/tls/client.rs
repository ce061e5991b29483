//! Who a client's certificate says it is.

use std::fmt::Write;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_cert::Certificate as Parsed;
use x509_cert::der::Decode;

use crate::context::ClientCertificate;

/// What a subject is not spelled with in a header field.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// What is told of a certificate that was verified; `None` when it cannot be
/// read, which verifying it should have found.
pub(super) fn identity(certificate: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let parsed = Parsed::from_der(certificate).ok()?;
    let subject = parsed.tbs_certificate.subject.to_string();
    let subject = utf8_percent_encode(&subject, ENCODED).to_string();
    let mut fingerprint = String::with_capacity(64);
    for byte in Sha256::digest(certificate) {
        write!(fingerprint, "{byte:02x}").ok()?;
    }
    Some(ClientCertificate {
        subject: HeaderValue::try_from(subject).ok()?,
        fingerprint: HeaderValue::try_from(fingerprint).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn a_subject_is_one_line_of_ascii_whatever_is_in_it() {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.remove(DnType::CommonName);
        params
            .distinguished_name
            .push(DnType::CommonName, "Zoë, 100%\r\nx-edge-key-id: 1");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example");
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let identity = identity(made.der()).unwrap();
        let subject = identity.subject.to_str().unwrap();
        assert!(subject.contains("CN=Zo%C3%AB"), "{subject}");
        assert!(subject.contains("O=Example"), "{subject}");
        assert!(subject.contains("100%25"), "{subject}");
        assert_eq!(identity.fingerprint.len(), 64);
    }

    #[test]
    fn what_is_no_certificate_is_nobody() {
        assert!(identity(&CertificateDer::from_slice(b"no certificate")).is_none());
    }
}

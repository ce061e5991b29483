//! Why a handshake failed, in a word: a metric's label, never a line of log.

use std::io;

use rustls::{Error, PeerIncompatible};

/// It took longer than `server.tls.handshake_timeout`.
pub(super) const TIMED_OUT: &str = "timed_out";

/// The certificate was verified, and cannot be told to an upstream.
pub(super) const UNREADABLE: &str = "bad_client_certificate";

/// The reason of every other failure.
pub(super) fn reason(error: &io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref()) else {
        return "closed";
    };
    match error {
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => "not_tls",
        Error::PeerIncompatible(
            PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NamedGroupsExtensionRequired,
        ) => "no_common_key_exchange",
        Error::PeerIncompatible(_) => "no_common_version",
        Error::NoApplicationProtocol => "no_common_protocol",
        Error::NoCertificatesPresented => "no_client_certificate",
        Error::InvalidCertificate(_) => UNREADABLE,
        Error::AlertReceived(_) => "refused_by_client",
        Error::PeerMisbehaved(_) | Error::InappropriateHandshakeMessage { .. } => "misbehaved",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError, InvalidMessage};

    use super::*;

    #[test]
    fn every_failure_has_its_word() {
        for (error, word) in [
            (InvalidMessage::InvalidContentType.into(), "not_tls"),
            (
                Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon),
                "no_common_key_exchange",
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled),
                "no_common_version",
            ),
            (Error::NoApplicationProtocol, "no_common_protocol"),
            (Error::NoCertificatesPresented, "no_client_certificate"),
            (CertificateError::Expired.into(), "bad_client_certificate"),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "refused_by_client",
            ),
            (Error::DecryptError, "other"),
        ] {
            let shown = error.to_string();
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            assert_eq!(reason(&error), word, "{shown}");
        }
        assert_eq!(reason(&io::ErrorKind::UnexpectedEof.into()), "closed");
    }
}

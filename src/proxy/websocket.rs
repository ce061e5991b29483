//! The handshake of HTTP/1.1 for a client of HTTP/2, which makes none of its own
//! (RFC 8441, section 5; RFC 6455, section 4).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::{HeaderMap, HeaderValue};

/// As an upgrade of HTTP/1.1 and as `:protocol` of HTTP/2.
pub(super) const WEBSOCKET: &[u8] = b"websocket";

/// What a WebSocket server appends to a key, and nobody else.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What an upstream is asked, so that its answer shows that it was asked.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    key: HeaderValue,
    accept: HeaderValue,
}

impl Handshake {
    pub(super) fn new() -> Self {
        let mut nonce = [0; 16];
        // why: it keeps answers apart and no secret, so it may do without chance.
        getrandom::fill(&mut nonce).ok();
        Self::of(&STANDARD.encode(nonce))
    }

    fn of(key: &str) -> Self {
        let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
        // why: base64 is visible ASCII.
        let field =
            |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
        Self {
            key: field(key),
            accept: field(&STANDARD.encode(proof)),
        }
    }

    /// Asks, whatever the client has put there.
    pub(super) fn ask(&self, request: &mut HeaderMap) {
        request.insert(SEC_WEBSOCKET_KEY, self.key.clone());
    }

    /// Whether the answer is to this handshake; takes out what shows it, which is
    /// nothing to a client of HTTP/2.
    pub(super) fn is_answered(&self, response: &mut HeaderMap) -> bool {
        let mut proofs = response.get_all(SEC_WEBSOCKET_ACCEPT).iter();
        let is_ours = proofs.next() == Some(&self.accept) && proofs.next().is_none();
        response.remove(SEC_WEBSOCKET_ACCEPT);
        is_ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(proofs: &[&str]) -> HeaderMap {
        let field = |proof: &&str| (SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(proof).unwrap());
        proofs.iter().map(field).collect()
    }

    #[test]
    fn the_proof_is_that_of_the_standards_example() {
        let handshake = Handshake::of("dGhlIHNhbXBsZSBub25jZQ==");
        let proof = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let mut good = answer(&[proof]);
        assert!(handshake.is_answered(&mut good));
        assert!(good.is_empty());
        for bad in [
            &[][..],
            &["", proof],
            &[proof, proof],
            &["s3pPLMBiTxaQ9kYGzzhZRbK+xOO="],
        ] {
            assert!(!handshake.is_answered(&mut answer(bad)), "{bad:?}");
        }
    }

    #[test]
    fn each_handshake_has_a_key_of_sixteen_bytes_and_its_own() {
        let (one, other) = (Handshake::new(), Handshake::new());
        assert_ne!(one.key, other.key);
        assert_eq!(STANDARD.decode(one.key.as_bytes()).unwrap().len(), 16);
        let mut request = HeaderMap::new();
        request.append(SEC_WEBSOCKET_KEY, HeaderValue::from_static("a"));
        request.append(SEC_WEBSOCKET_KEY, HeaderValue::from_static("b"));
        one.ask(&mut request);
        let keys: Vec<_> = request.get_all(SEC_WEBSOCKET_KEY).iter().collect();
        assert_eq!(keys, [&one.key]);
    }
}

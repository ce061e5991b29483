//! AES-256-GCM (NIST SP 800-38D), with the tag after the ciphertext.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use zeroize::Zeroizing;

pub(super) const NONCE: usize = 12;
pub(super) const TAG: usize = 16;

/// It was not made with this key, nonce and associated data; or, when
/// encrypting, it is longer than the standard allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

pub(super) fn random_nonce() -> Result<[u8; NONCE], getrandom::Error> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

pub(super) fn encrypt(
    key: &[u8; 32],
    nonce: [u8; NONCE],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Failed> {
    let payload = Payload {
        msg: plaintext,
        aad,
    };
    cipher(key)
        .encrypt(&Nonce::from(nonce), payload)
        .map_err(|_| Failed)
}

pub(super) fn decrypt(
    key: &[u8; 32],
    nonce: [u8; NONCE],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Failed> {
    let payload = Payload {
        msg: ciphertext,
        aad,
    };
    cipher(key)
        .decrypt(&Nonce::from(nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| Failed)
}

fn cipher(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(<&Key<Aes256Gcm>>::from(key))
}

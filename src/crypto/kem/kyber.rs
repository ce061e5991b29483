//! X25519 and Kyber-768 as submitted to round 3 of the NIST competition.
//!
//! Keys and ciphertexts are Kyber's, then X25519's; a stored secret key is
//! X25519's, then Kyber's. The shared secret is SHA3-256 over [`LABEL`], both
//! shared secrets, both ciphertexts and both public keys, Kyber's first.

use std::hint::black_box;

use pqcrypto_kyber::kyber768;
use pqcrypto_traits::kem::{Ciphertext, PublicKey as _, SecretKey as _, SharedSecret as _};
use sha3::{Digest, Sha3_256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{InvalidCiphertext, InvalidSecretKey, SharedSecret};
use crate::secret::Secret;

const LABEL: &[u8] = b"cypheron-edge x25519-kyber768 1";

const KYBER_CIPHERTEXT: usize = 1088;
const KYBER_PUBLIC_KEY: usize = 1184;
const KYBER_SECRET_KEY: usize = 2400;
/// Where a secret key holds its public key: after the secret vector.
const PUBLIC_KEY_AT: usize = 1152;
pub(super) const CIPHERTEXT: usize = KYBER_CIPHERTEXT + 32;
const PUBLIC_KEY: usize = KYBER_PUBLIC_KEY + 32;

pub(super) struct Pair {
    kyber_secret: Box<Overwritten>,
    kyber_public: kyber768::PublicKey,
    x25519_secret: StaticSecret,
    x25519_public: PublicKey,
    public_key: [u8; PUBLIC_KEY],
}

/// `pqcrypto` neither wipes its keys nor lends their bytes to be wiped.
struct Overwritten(kyber768::SecretKey);

impl Drop for Overwritten {
    fn drop(&mut self) {
        if let Ok(zeros) = kyber768::SecretKey::from_bytes(&[0; KYBER_SECRET_KEY]) {
            self.0 = zeros;
            // Keeps the compiler from dropping a write that nobody reads.
            black_box(&self.0);
        }
    }
}

impl Pair {
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        let x25519 = Secret::random()?;
        let (public, secret) = kyber768::keypair();
        Ok(Self::new(&secret, &public, *x25519.expose()))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidSecretKey> {
        let (x25519, kyber) = bytes.split_first_chunk::<32>().ok_or(InvalidSecretKey)?;
        let secret = kyber768::SecretKey::from_bytes(kyber).map_err(|_| InvalidSecretKey)?;
        let public = &kyber[PUBLIC_KEY_AT..PUBLIC_KEY_AT + KYBER_PUBLIC_KEY];
        let public = kyber768::PublicKey::from_bytes(public).map_err(|_| InvalidSecretKey)?;
        let pair = Self::new(&secret, &public, *x25519);
        pair.is_consistent().then_some(pair).ok_or(InvalidSecretKey)
    }

    fn new(secret: &kyber768::SecretKey, public: &kyber768::PublicKey, x25519: [u8; 32]) -> Self {
        let x25519_secret = StaticSecret::from(x25519);
        let x25519_public = PublicKey::from(&x25519_secret);
        let mut public_key = [0; PUBLIC_KEY];
        public_key[..KYBER_PUBLIC_KEY].copy_from_slice(public.as_bytes());
        public_key[KYBER_PUBLIC_KEY..].copy_from_slice(x25519_public.as_bytes());
        Self {
            kyber_secret: Box::new(Overwritten(*secret)),
            kyber_public: *public,
            x25519_secret,
            x25519_public,
            public_key,
        }
    }

    /// Whether the public key that the secret key holds is really its own.
    fn is_consistent(&self) -> bool {
        let (sent, ciphertext) = kyber768::encapsulate(&self.kyber_public);
        kyber768::decapsulate(&ciphertext, &self.kyber_secret.0) == sent
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let kyber = self.kyber_secret.0.as_bytes();
        let mut bytes = Zeroizing::new(Vec::with_capacity(32 + kyber.len()));
        bytes.extend_from_slice(self.x25519_secret.as_bytes());
        bytes.extend_from_slice(kyber);
        bytes
    }

    pub(super) const fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(super) fn encapsulate(&self) -> Result<(Vec<u8>, SharedSecret), getrandom::Error> {
        let ephemeral = StaticSecret::from(*Secret::random()?.expose());
        let x25519_shared = ephemeral.diffie_hellman(&self.x25519_public);
        let (kyber_shared, kyber_ciphertext) = kyber768::encapsulate(&self.kyber_public);

        let mut ciphertext = Vec::with_capacity(CIPHERTEXT);
        ciphertext.extend_from_slice(kyber_ciphertext.as_bytes());
        ciphertext.extend_from_slice(PublicKey::from(&ephemeral).as_bytes());
        let shared = self.combine(
            kyber_shared.as_bytes(),
            x25519_shared.as_bytes(),
            &ciphertext,
        );
        Ok((ciphertext, shared))
    }

    pub(super) fn decapsulate(&self, ciphertext: &[u8]) -> Result<SharedSecret, InvalidCiphertext> {
        let (for_kyber, for_x25519) = ciphertext
            .split_at_checked(KYBER_CIPHERTEXT)
            .ok_or(InvalidCiphertext)?;
        let for_kyber =
            kyber768::Ciphertext::from_bytes(for_kyber).map_err(|_| InvalidCiphertext)?;
        let for_x25519: [u8; 32] = for_x25519.try_into().map_err(|_| InvalidCiphertext)?;

        let kyber_shared = kyber768::decapsulate(&for_kyber, &self.kyber_secret.0);
        let x25519_shared = self
            .x25519_secret
            .diffie_hellman(&PublicKey::from(for_x25519));
        Ok(self.combine(
            kyber_shared.as_bytes(),
            x25519_shared.as_bytes(),
            ciphertext,
        ))
    }

    /// Every part but the label has a fixed length.
    fn combine(&self, kyber: &[u8], x25519: &[u8; 32], ciphertext: &[u8]) -> SharedSecret {
        let mut hash = Sha3_256::new();
        hash.update(LABEL);
        hash.update(kyber);
        hash.update(x25519);
        hash.update(ciphertext);
        hash.update(self.public_key);
        Zeroizing::new(hash.finalize().into())
    }
}

//! The master key, and what is wrapped under it.
//!
//! The wrapping key and the MAC key are HKDF-SHA-256 (RFC 5869) of the master
//! key, without salt, their labels as info. The associated data of a wrap is
//! the wrapping label, keyring id, collection, role, owner (a slot's or key's
//! id, a generation's character), suite and public key, the last two empty
//! where there are none, each with its length before it as four bytes,
//! big-endian.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::document::KeyEntry;
use crate::crypto::KeyId;
use crate::crypto::aead::{self, NONCE};
use crate::secret::Secret;

const WRAP_LABEL: &[u8] = b"cypheron-edge keyring wrap 1";
const MAC_LABEL: &[u8] = b"cypheron-edge keyring mac 1";
const IDENTITY_LABEL: &[u8] = b"cypheron-edge keyring identity 1";

#[derive(Clone)]
pub(super) struct Master {
    key: Secret<[u8; 32]>,
    wrapping: Secret<[u8; 32]>,
    mac: Secret<[u8; 32]>,
}

/// Where a wrapped secret belongs.
pub(super) struct Place<'a> {
    pub(super) keyring: &'a KeyId,
    pub(super) collection: &'a str,
    pub(super) role: Role<'a>,
}

/// What a wrapped secret is, and whose.
pub(super) enum Role<'a> {
    /// By password slot.
    Master(&'a KeyId),
    KemSecret(&'a KeyEntry),
    Authentication(&'a KeyEntry),
    /// By generation.
    Index(u8),
    /// By generation.
    Tag(u8),
}

impl Place<'_> {
    /// The associated data.
    fn bytes(&self) -> Vec<u8> {
        let generation;
        let (role, owner, suite, public_key): (_, &[u8], _, &[u8]) = match &self.role {
            Role::Master(slot) => ("master", slot.as_bytes(), "", &[]),
            Role::KemSecret(key) => ("kem", key.id.as_bytes(), &*key.suite, &key.public_key),
            Role::Authentication(key) => (
                "authentication",
                key.id.as_bytes(),
                &*key.suite,
                &key.public_key,
            ),
            Role::Index(name) => {
                generation = [*name];
                ("index", &generation, "", &[])
            }
            Role::Tag(name) => {
                generation = [*name];
                ("tag", &generation, "", &[])
            }
        };
        let mut bytes = Vec::new();
        for part in [
            WRAP_LABEL,
            self.keyring.as_bytes(),
            self.collection.as_bytes(),
            role.as_bytes(),
            owner,
            suite.as_bytes(),
            public_key,
        ] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

impl Master {
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        Secret::random().map(Self::new)
    }

    fn new(key: Secret<[u8; 32]>) -> Self {
        Self {
            wrapping: derive(&key, WRAP_LABEL),
            mac: derive(&key, MAC_LABEL),
            key,
        }
    }

    pub(super) fn wrap(
        &self,
        place: &Place<'_>,
        secret: &[u8],
    ) -> Result<Vec<u8>, getrandom::Error> {
        wrap(self.wrapping.expose(), place, secret)
    }

    pub(super) fn open(&self, place: &Place<'_>, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        open(self.wrapping.expose(), place, wrapped)
    }

    pub(super) fn open_secret(
        &self,
        place: &Place<'_>,
        wrapped: &[u8],
    ) -> Option<Secret<[u8; 32]>> {
        secret(&self.open(place, wrapped)?)
    }

    /// The master key itself, wrapped under what a password gave.
    pub(super) fn wrap_self(
        &self,
        key: &Secret<[u8; 32]>,
        place: &Place<'_>,
    ) -> Result<Vec<u8>, getrandom::Error> {
        wrap(key.expose(), place, self.key.expose())
    }

    pub(super) fn open_self(
        key: &Secret<[u8; 32]>,
        place: &Place<'_>,
        wrapped: &[u8],
    ) -> Option<Self> {
        secret(&open(key.expose(), place, wrapped)?).map(Self::new)
    }

    /// Tells it from another master key, and tells nothing of it.
    pub(super) fn identity(&self) -> [u8; 32] {
        *derive(&self.key, IDENTITY_LABEL).expose()
    }

    pub(super) fn mac(&self, covered: &[u8]) -> [u8; 32] {
        self.started_mac(covered).finalize().into_bytes().into()
    }

    pub(super) fn authenticates(&self, covered: &[u8], mac: &[u8; 32]) -> bool {
        self.started_mac(covered).verify_slice(mac).is_ok()
    }

    fn started_mac(&self, covered: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.mac.expose()).expect("any length will do");
        mac.update(covered);
        mac
    }
}

fn derive(master: &Secret<[u8; 32]>, label: &[u8]) -> Secret<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    #[expect(clippy::expect_used, reason = "one hash is never too long")]
    Hkdf::<Sha256>::new(None, master.expose())
        .expand(label, &mut *key)
        .expect("32 bytes are one hash");
    Secret::new(*key)
}

fn wrap(key: &[u8; 32], place: &Place<'_>, secret: &[u8]) -> Result<Vec<u8>, getrandom::Error> {
    let nonce = aead::random_nonce()?;
    #[expect(clippy::expect_used, reason = "a key is never too long")]
    let ciphertext =
        aead::encrypt(key, nonce, &place.bytes(), secret).expect("a key is a few kilobytes");
    let mut wrapped = Vec::with_capacity(NONCE + ciphertext.len());
    wrapped.extend_from_slice(&nonce);
    wrapped.extend_from_slice(&ciphertext);
    Ok(wrapped)
}

fn open(key: &[u8; 32], place: &Place<'_>, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = wrapped.split_first_chunk()?;
    aead::decrypt(key, *nonce, &place.bytes(), ciphertext).ok()
}

fn secret(bytes: &[u8]) -> Option<Secret<[u8; 32]>> {
    bytes.try_into().ok().map(Secret::new)
}

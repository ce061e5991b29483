//! Who says it.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use http::HeaderValue;
use serde_json::json;

use super::Claims;
use crate::crypto::{KeyId, PostQuantumEncryption};
use crate::secret::Secret;

/// What a key pair is made of, and what it is called.
#[derive(Clone, Debug)]
pub struct SigningKey {
    pub name: KeyId,
    pub seed: Secret<[u8; 32]>,
}

/// Signs. Clones sign with the same key, and all change when one does.
#[derive(Clone)]
pub struct Signer(Arc<ArcSwap<Keys>>);

struct Keys {
    pair: Ed25519KeyPair,
    /// The header of every statement, encoded, with the dot behind it.
    header: String,
    /// The public keys, as a JWK set.
    published: Arc<str>,
}

thread_local! {
    /// Used again for each statement: the claims, and what is written.
    static SCRATCH: RefCell<(Vec<u8>, String)> = const { RefCell::new((Vec::new(), String::new())) };
}

impl Signer {
    /// Signs with `primary`; statements of `others` can be verified, too.
    pub fn new(primary: &SigningKey, others: &[SigningKey]) -> Result<Self, KeyRejected> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Keys::new(
            primary, others,
        )?))))
    }

    /// Of the keyring in use.
    pub fn of(encryption: &PostQuantumEncryption) -> Result<Self, KeyRejected> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Keys::of(encryption)?))))
    }

    /// Of the keyring in use, which is another one now.
    pub fn follow(&self, encryption: &PostQuantumEncryption) -> Result<(), KeyRejected> {
        self.0.store(Arc::new(Keys::of(encryption)?));
        Ok(())
    }

    /// The public keys, as a JWK set: the same on every edge with the keyring.
    pub fn published(&self) -> Arc<str> {
        Arc::clone(&self.0.load().published)
    }

    /// The statement, signed, as the value of a field.
    pub fn sign(&self, claims: &Claims<'_>) -> HeaderValue {
        let keys = self.0.load();
        SCRATCH.with_borrow_mut(|(json, text)| {
            json.clear();
            text.clear();
            // Writing strings and numbers to memory does not fail.
            let _ = serde_json::to_writer(&mut *json, claims);
            text.push_str(&keys.header);
            BASE64URL.encode_string(&*json, text);
            let signature = keys.pair.sign(text.as_bytes());
            text.push('.');
            BASE64URL.encode_string(signature.as_ref(), text);
            let mut value = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
            // Whoever reads a log is not its audience.
            value.set_sensitive(true);
            value
        })
    }
}

impl Keys {
    fn of(encryption: &PostQuantumEncryption) -> Result<Self, KeyRejected> {
        let key = |(name, seed)| SigningKey { name, seed };
        let (primary, others) = encryption.assertion_seeds();
        let others: Vec<_> = others.into_iter().map(key).collect();
        Self::new(&key(primary), &others)
    }

    fn new(primary: &SigningKey, others: &[SigningKey]) -> Result<Self, KeyRejected> {
        let mut published = vec![jwk(primary)?];
        for other in others {
            published.push(jwk(other)?);
        }
        // In one order everywhere, whichever signs.
        published.sort_unstable_by_key(|key| key["kid"].to_string());
        let header = json!({ "alg": "EdDSA", "kid": primary.name.to_string(), "typ": "JWT" });
        Ok(Self {
            pair: pair(primary)?,
            header: BASE64URL.encode(header.to_string()) + ".",
            published: json!({ "keys": published }).to_string().into(),
        })
    }
}

fn pair(key: &SigningKey) -> Result<Ed25519KeyPair, KeyRejected> {
    Ed25519KeyPair::from_seed_unchecked(key.seed.expose())
}

fn jwk(key: &SigningKey) -> Result<serde_json::Value, KeyRejected> {
    let public = BASE64URL.encode(pair(key)?.public_key());
    Ok(json!({
        "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
        "kid": key.name.to_string(), "x": public,
    }))
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.published()).finish()
    }
}

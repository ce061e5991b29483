//! A key store in memory that can be held, broken and edited, and keys for it.

pub(crate) mod bench;
pub(crate) mod edge;
pub(crate) mod recorder;
pub(crate) mod store;

use std::num::NonZeroU32;

use cypheron_edge::clock::Timestamp;
use cypheron_edge::key::ApiKey;
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{Environment, GenerationKeys, KeyHash, TokenFormat, TokenKeys, Value};
use uuid::Uuid;

pub(crate) fn token_format() -> TokenFormat {
    TokenFormat::new("cyk", Environment::Live).unwrap()
}

pub(crate) fn token_keys() -> TokenKeys {
    let generation = GenerationKeys {
        generation: b'0',
        index: Secret::new([1; 32]),
        tag: Secret::new([2; 32]),
    };
    TokenKeys::new(&[generation]).unwrap()
}

/// A token nobody holds yet, and where its record belongs.
pub(crate) fn mint() -> (String, KeyHash) {
    let token = token_format().mint(&token_keys()).unwrap();
    let hash = hash_of(token.expose());
    (token.expose().to_owned(), hash)
}

pub(crate) fn hash_of(token: &str) -> KeyHash {
    match token_format().parse(token) {
        Value::Token(presented) => token_keys().hash(presented).unwrap(),
        other => panic!("not a token: {other:?}"),
    }
}

/// An active key with `orders:read`, 60 requests a minute, revision 1.
pub(crate) fn key(hash: KeyHash) -> ApiKey {
    let [first, ..] = *hash.as_bytes();
    ApiKey {
        id: Uuid::from_u128(u128::from(first)),
        name: "test".parse().unwrap(),
        key_hash: hash,
        permissions: vec!["orders:read".parse().unwrap()],
        rate_limit: NonZeroU32::new(60).unwrap(),
        created_at: Timestamp::EPOCH,
        expires_at: None,
        is_active: true,
        allowed_ips: Vec::new(),
        revision: 1,
        last_used: None,
        usage_count: 0,
    }
}

//! The formats that are stored hold to their known answers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cypheron_edge::crypto::envelope::{Envelope, EnvelopeKey};
use cypheron_edge::crypto::kem::SecretKey;
use cypheron_edge::crypto::keyring::Description;
use cypheron_edge::crypto::{KeyId, Keyring, Password, PostQuantumEncryption};
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{
    Environment, GenerationKeys, TokenDigest, TokenFormat, TokenKeys, Value,
};

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    base16ct::lower::decode_vec(text(value)).unwrap()
}

fn array<const N: usize>(value: &serde_json::Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn envelopes_open(vectors: &str) {
    let vectors = json(vectors);
    let suite = text(&vectors["suite"]).parse().unwrap();
    let secret = SecretKey::from_bytes(suite, &bytes(&vectors["secret_key"])).unwrap();
    assert_eq!(secret.public_key(), bytes(&vectors["public_key"]));
    let key = EnvelopeKey {
        id: KeyId::from_bytes(array(&vectors["key_id"])),
        secret,
        authentication: Secret::new(array(&vectors["authentication"])),
    };
    let envelopes = vectors["envelopes"].as_array().unwrap();
    assert!(!envelopes.is_empty());
    for case in envelopes {
        let (sealed, bound) = (bytes(&case["envelope"]), bytes(&case["associated_data"]));
        let opens = |sealed: &[u8]| Envelope::parse(sealed).ok()?.open(&key, &bound);
        assert_eq!(*opens(&sealed).unwrap(), bytes(&case["plaintext"]));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(opens(&changed).is_none(), "byte {at}");
        }
    }
}

#[test]
fn envelopes_of_suite_1_open() {
    envelopes_open(include_str!("vectors/x25519-mlkem768.json"));
}

#[cfg(feature = "kyber")]
#[test]
fn envelopes_of_suite_2_open() {
    envelopes_open(include_str!("vectors/x25519-kyber768.json"));
}

#[cfg(not(feature = "kyber"))]
#[test]
fn envelopes_of_a_suite_that_is_not_built_in_are_named_as_such() {
    use cypheron_edge::crypto::EnvelopeDefect;

    let vectors = json(include_str!("vectors/x25519-kyber768.json"));
    let sealed = bytes(&vectors["envelopes"][0]["envelope"]);
    let defect = Envelope::parse(&sealed).unwrap_err();
    assert_eq!(defect, EnvelopeDefect::UnsupportedSuite(2));
}

#[test]
fn a_stored_keyring_opens() {
    let document = include_bytes!("vectors/keyring-document.json");
    let expected = json(include_str!("vectors/keyring.json"));
    let password = Password::new(Secret::new(text(&expected["password"]).into())).unwrap();
    let keyring = Keyring::open(document, text(&expected["collection"]), &password).unwrap();

    let description = Description::of(document).unwrap();
    assert_eq!(description, keyring.describe());
    assert_eq!(Some(description.version), expected["version"].as_u64());
    let primary = description.keys.iter().find(|key| key.primary).unwrap();
    assert_eq!(primary.id.to_string(), text(&expected["primary"]));

    let encryption = PostQuantumEncryption::new(&keyring);
    let generation = &encryption.generations()[0];
    let told = &expected["generation"];
    assert_eq!(char::from(generation.name).to_string(), text(&told["name"]));
    assert_eq!(*generation.index.expose(), array(&told["index"]));
    assert_eq!(*generation.tag.expose(), array(&told["tag"]));

    let opened = encryption.open(
        &bytes(&expected["envelope"]),
        &bytes(&expected["associated_data"]),
    );
    assert_eq!(*opened.unwrap(), bytes(&expected["plaintext"]));
}

#[test]
fn tokens_have_their_hash_tag_and_digest() {
    let vectors = json(include_str!("vectors/token.json"));
    let generation = text(&vectors["generation"]).as_bytes()[0];
    let index = Secret::new(array(&vectors["index_key"]));
    let tag = Secret::new(array(&vectors["tag_key"]));
    let keys = |tag| {
        TokenKeys::new(&[GenerationKeys {
            generation,
            index: index.clone(),
            tag,
        }])
        .unwrap()
    };
    let (ours, strange) = (keys(tag), keys(Secret::new([0; 32])));

    let tokens = vectors["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 2);
    for case in tokens {
        let environment = match text(&case["environment"]) {
            "live" => Environment::Live,
            _ => Environment::Test,
        };
        let format = TokenFormat::new(text(&vectors["prefix"]), environment).unwrap();
        let token = text(&case["token"]);
        let Value::Token(presented) = format.parse(token) else {
            panic!("{token} does not parse");
        };
        let hash = ours.hash(presented).unwrap();
        assert_eq!(hash.to_string(), text(&case["key_hash"]));
        assert_eq!(*TokenDigest::of(token).expose(), array(&case["digest"]));
        assert!(ours.tag_matches(presented));
        assert!(!strange.tag_matches(presented));
    }
}

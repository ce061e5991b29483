//! Every parser of the crate as a function over bytes: it must neither panic
//! nor break the promise that it asserts.
//!
//! `cargo test` runs them over the seeds and a fixed budget of mutations,
//! cargo-fuzz for as long as one likes. A new one is a function here, a row of
//! [`TARGETS`], a directory of seeds and one line in `fuzz_targets`.

use std::sync::LazyLock;

use cypheron_edge::clock::Timestamp;
use cypheron_edge::crypto::envelope::Envelope;
use cypheron_edge::crypto::keyring::Description;
use cypheron_edge::crypto::{KeyId, Suite};
use cypheron_edge::key::KeyName;
use cypheron_edge::permission::{Permission, Required};
use cypheron_edge::refusal::Refusal;
use cypheron_edge::route::{Host, path};
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{Environment, GenerationKeys, KeyHash, TokenFormat, TokenKeys, Value};
use cypheron_edge::usage::event::Outcome;

/// A name, and what to run.
type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: &[Target] = &[
    #[cfg(feature = "edge")]
    ("configuration", configuration),
    ("envelope", envelope),
    ("host", host),
    ("key_hash", key_hash),
    ("key_id", key_id),
    ("key_name", key_name),
    ("keyring", keyring),
    ("outcome", outcome),
    ("path", path),
    ("permission", permission),
    ("timestamp", timestamp),
    ("token", token),
];

/// Runs one of [`TARGETS`].
pub(crate) fn run(name: &str, data: &[u8]) {
    for (target, parse) in TARGETS {
        if *target == name {
            return parse(data);
        }
    }
    panic!("there is no target {name}");
}

#[cfg(feature = "edge")]
fn configuration(data: &[u8]) {
    use std::collections::BTreeMap;

    use cypheron_edge::config::{Purpose, parse};

    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let reading = parse(text, &BTreeMap::new(), Purpose::Operate);
    if let Err(problems) = reading.config {
        assert!(!problems.0.is_empty(), "refused, but nothing is wrong");
    }
}

fn envelope(data: &[u8]) {
    if let Ok(envelope) = Envelope::parse(data) {
        assert_eq!(data[1], envelope.suite.id());
        assert_eq!(data[2..18], *envelope.key_id.as_bytes());
    }
}

fn host(data: &[u8]) {
    if let Some(host) = Host::parse(data) {
        let name = host.as_str();
        assert_eq!(Host::parse(name.as_bytes()), Some(host), "{name}");
        assert!(!name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase()));
    }
}

fn key_hash(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(hash) = text.parse::<KeyHash>() {
        assert_eq!(hash.to_string(), text);
    }
}

fn key_id(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(suite) = text.parse::<Suite>() {
        assert_eq!(suite.name(), text);
    }
}

fn key_name(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = text.parse::<KeyName>() {
        assert_eq!(name.as_str(), text);
        assert!(!text.contains(['\n', '\r', '\0']));
    }
}

/// Parsing only: opening takes Argon2.
fn keyring(data: &[u8]) {
    if let Ok(description) = Description::of(data) {
        assert!(!description.keys.is_empty() && !description.passwords.is_empty());
    }
}

fn outcome(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(outcome) = Outcome::parse(&text) {
        assert_eq!(outcome.as_str(), text);
    }
    if let Some(refusal) = Refusal::from_reason(&text) {
        assert_eq!(refusal.reason(), text);
    }
}

/// What is let through has no dot segment and no empty one, however forgiving
/// the reader.
fn path(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let plain = path::plain(&text);
    if !path::is_unambiguous(&text) {
        return;
    }
    let mut segments = plain.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        assert!(last || !segment.is_empty(), "{text}");
        assert!(segment != b"." && segment != b"..", "{text}");
        assert!(!segment.contains(&0) && !segment.contains(&b'\\'), "{text}");
    }
}

fn permission(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(permission) = text.parse::<Permission>() {
        assert_eq!(permission.as_str(), text);
    }
    if let Ok(required) = text.parse::<Required>() {
        let held: Permission = text.parse().expect("what is required can be held");
        assert!(held.grants(&required));
    }
}

fn timestamp(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(time) = Timestamp::parse(&text) else {
        return;
    };
    let written = time.to_string();
    // RFC 3339 ends with the year 9999, which an offset can leave.
    if written.as_bytes()[0].is_ascii_digit() {
        assert_eq!(Timestamp::parse(&written), Ok(time), "{text}");
    }
}

static FORMAT: LazyLock<TokenFormat> =
    LazyLock::new(|| TokenFormat::new("cyk", Environment::Live).expect("a valid prefix"));

static KEYS: LazyLock<TokenKeys> = LazyLock::new(|| {
    let generation = GenerationKeys {
        generation: b'0',
        index: Secret::new([1; 32]),
        tag: Secret::new([2; 32]),
    };
    TokenKeys::new(&[generation]).expect("one generation")
});

fn token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match FORMAT.parse(&text) {
        Value::Token(token) => {
            assert_eq!(token.as_str(), text);
            if KEYS.tag_matches(token) {
                assert!(KEYS.hash(token).is_some());
            }
        }
        Value::Malformed(_) => assert!(text.starts_with("cyk_")),
        Value::Foreign => assert!(!text.starts_with("cyk_")),
    }
}

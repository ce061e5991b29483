//! What a token and an envelope cost: the first on every request, the second
//! when a record is read from the store.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use cypheron_edge::crypto::envelope::{Envelope, EnvelopeKey, seal};
use cypheron_edge::crypto::kem::SecretKey;
use cypheron_edge::crypto::{KeyId, Suite};
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{
    Environment, GenerationKeys, Presented, TokenDigest, TokenFormat, TokenKeys, Value,
};
use x_wing::{Decapsulate, DecapsulationKey, Decapsulator, Encapsulate};

/// About as long as a record's.
const ASSOCIATED_DATA: &[u8] = &[7; 256];

fn presented<'a>(format: &TokenFormat, token: &'a str) -> Presented<'a> {
    match format.parse(token) {
        Value::Token(token) => token,
        other => panic!("{other:?}"),
    }
}

fn token(criterion: &mut Criterion) {
    let format = TokenFormat::new("cyk", Environment::Live).unwrap();
    let keys = TokenKeys::new(&[GenerationKeys {
        generation: b'0',
        index: Secret::random().unwrap(),
        tag: Secret::random().unwrap(),
    }])
    .unwrap();
    let minted = format.mint(&keys).unwrap();
    let token = minted.expose();
    let parsed = presented(&format, token);

    let mut group = criterion.benchmark_group("token");
    group.bench_function("parse", |bencher| {
        bencher.iter(|| format.parse(black_box(token)));
    });
    group.bench_function("hash", |bencher| {
        bencher.iter(|| keys.hash(black_box(parsed)));
    });
    group.bench_function("tag", |bencher| {
        bencher.iter(|| keys.tag_matches(black_box(parsed)));
    });
    group.bench_function("digest", |bencher| {
        bencher.iter(|| TokenDigest::of(black_box(token)));
    });
    group.finish();
}

fn envelope(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for suite in Suite::ALL.iter().copied() {
        let key = EnvelopeKey {
            id: KeyId::from_bytes([1; 16]),
            secret: SecretKey::generate(suite).unwrap(),
            authentication: Secret::random().unwrap(),
        };
        let sealed = seal(&key, &[0; 33], ASSOCIATED_DATA).unwrap();
        group.bench_function(format!("open {suite}"), |bencher| {
            bencher.iter(|| {
                let envelope = Envelope::parse(black_box(&sealed)).unwrap();
                envelope.open(&key, ASSOCIATED_DATA).unwrap()
            });
        });
        group.bench_function(format!("seal {suite}"), |bencher| {
            bencher.iter(|| seal(&key, black_box(&[0; 33]), ASSOCIATED_DATA).unwrap());
        });
    }
    group.finish();
}

fn decapsulation(criterion: &mut Criterion) {
    let ours = SecretKey::generate(Suite::X25519MlKem768).unwrap();
    let seed: [u8; 32] = ours.to_bytes().as_slice().try_into().unwrap();
    let theirs = DecapsulationKey::from(seed);
    let (ciphertext, _) = theirs.encapsulation_key().encapsulate();

    let mut group = criterion.benchmark_group("X-Wing decapsulation");
    group.bench_function("ours", |bencher| {
        bencher.iter(|| ours.decapsulate(black_box(&ciphertext)).unwrap());
    });
    group.bench_function("x-wing crate", |bencher| {
        bencher.iter(|| theirs.decapsulate(black_box(&ciphertext)));
    });
    group.finish();
}

criterion_group!(benches, token, envelope, decapsulation);
criterion_main!(benches);

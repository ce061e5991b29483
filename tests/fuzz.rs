//! The fuzz targets on stable: every seed, and a fixed budget of mutations that
//! are the same in every run.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[cfg(feature = "edge")]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "what a case expects no longer holds of it"
)]
#[path = "edge/framing/case.rs"]
mod case;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use targets::TARGETS;

/// For each parser; all of them take a few seconds together.
const MUTATIONS: usize = 40_000;

/// For the proxy, to which every input is a connection.
#[cfg(feature = "edge")]
const CONNECTIONS: usize = 4000;

/// Bytes that parsers treat specially.
const TELLING: &[u8] = b"\0\n\r %*+-./0:;\\_\"{}[]Zz\x7f\x80\xff";

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = fuzz().join("seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Marsaglia's xorshift: the same numbers everywhere.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap()
    }

    /// Less than `end`; zero when that is zero.
    fn below(&mut self, end: usize) -> usize {
        self.next() % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        if self.below(2) == 0 {
            TELLING[self.below(TELLING.len())]
        } else {
            self.next().to_le_bytes()[0]
        }
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Xorshift) {
    let at = random.below(input.len());
    let end = at + random.below(1 + (input.len() - at).min(16));
    match random.below(7) {
        0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        1 if !input.is_empty() => input[at] = random.byte(),
        2 => input.insert(at, random.byte()),
        3 => drop(input.drain(at..end)),
        4 => {
            let repeated = input[at..end].to_vec();
            input.splice(at..at, repeated);
        }
        5 => input.truncate(at),
        _ => {
            let other = &seeds[random.below(seeds.len())];
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len())..]);
        }
    }
}

fn run(target: &str, input: &[u8]) {
    let ended = catch_unwind(|| targets::run(target, input));
    assert!(ended.is_ok(), "{target} fails on {}", input.escape_ascii());
}

/// Runs a target over its seeds, and over so many mutations of them.
fn run_all(target: &str, seeds: &[Vec<u8>], mutations: usize) {
    assert!(!seeds.is_empty(), "{target} has no seeds");
    run(target, b"");
    for seed in seeds {
        run(target, seed);
    }
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    for _ in 0..mutations {
        let mut input = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, seeds, &mut random);
        }
        run(target, &input);
    }
}

#[test]
fn no_input_breaks_a_parser() {
    for (target, _) in TARGETS {
        if *target != "proxy" {
            run_all(target, &seeds(target), MUTATIONS);
        }
    }
}

#[cfg(feature = "edge")]
#[test]
fn whatever_a_client_sends_what_arrives_is_whole_requests_that_the_edge_answers_for() {
    let mut seeds = seeds("proxy");
    for case in case::cases(include_str!("edge/framing/requests.txt")) {
        let bytes = case.bytes("t");
        // What is large is only slow.
        if bytes.len() < 2000 {
            seeds.push(bytes);
        }
    }
    run_all("proxy", &seeds, CONNECTIONS);
    let arrived = targets::proxy::arrived();
    assert!(arrived > CONNECTIONS / 10, "only {arrived} came through");
}

#[cfg(feature = "edge")]
#[test]
fn every_target_can_be_run_by_cargo_fuzz() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for (target, _) in TARGETS {
        let line = format!("path = \"fuzz_targets/{target}.rs\"");
        assert!(manifest.contains(&line), "{target} is not in Cargo.toml");
        let binary = fuzz().join(format!("fuzz_targets/{target}.rs"));
        let text = fs::read_to_string(binary).unwrap();
        assert!(text.contains(&format!("run(\"{target}\", data)")));
    }
}

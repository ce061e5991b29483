//! Every parser of the crate, and the proxy as a whole, as a function over
//! bytes: it must neither panic nor break the promise that it asserts.
//!
//! `cargo test` runs them over the seeds and a fixed budget of mutations,
//! cargo-fuzz for as long as one likes. A new one is a function here, a row of
//! [`TARGETS`], a directory of seeds and one line in `fuzz_targets`.

#[cfg(feature = "edge")]
mod answer;
#[cfg(feature = "edge")]
mod origin;
#[cfg(feature = "edge")]
pub(crate) mod proxy;
#[cfg(feature = "edge")]
mod strict;

use std::sync::LazyLock;

use cypheron_edge::clock::Timestamp;
use cypheron_edge::context::RequestId;
use cypheron_edge::crypto::envelope::Envelope;
use cypheron_edge::crypto::keyring::Description;
use cypheron_edge::crypto::{KeyId, Suite};
use cypheron_edge::key::KeyName;
use cypheron_edge::middleware::auth::{Config, fuzzing};
use cypheron_edge::permission::{Permission, Required};
use cypheron_edge::refusal::Refusal;
use cypheron_edge::route::{Cors, CorsConfig, Host, path};
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{Environment, GenerationKeys, KeyHash, TokenFormat, TokenKeys, Value};
use cypheron_edge::usage::event::Outcome;
use cypheron_edge::usage::journal::fuzzing as journal;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use percent_encoding::percent_decode_str;

/// A name, and what to run.
type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: &[Target] = &[
    #[cfg(feature = "edge")]
    ("answer", answer::run),
    #[cfg(feature = "edge")]
    ("client_address", client_address),
    #[cfg(feature = "edge")]
    ("configuration", configuration),
    ("cors", cors),
    ("credentials", credentials),
    #[cfg(feature = "edge")]
    ("decision_question", decision_question),
    ("envelope", envelope),
    ("host", host),
    ("journal_frames", journal_frames),
    ("journal_position", journal_position),
    ("journal_record", journal_record),
    ("key_hash", key_hash),
    ("key_id", key_id),
    ("key_name", key_name),
    ("keyring", keyring),
    ("outcome", outcome),
    ("path", path),
    ("permission", permission),
    #[cfg(feature = "edge")]
    ("proxy", proxy::run),
    #[cfg(feature = "edge")]
    ("proxy_header", proxy_header),
    ("request_id", request_id),
    ("timestamp", timestamp),
    ("token", token),
];

/// A request's header fields, one on each line.
fn fields<'d>(lines: impl Iterator<Item = &'d [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next(), parts.next());
        let name = name.and_then(|name| HeaderName::from_bytes(name).ok());
        let value = value.and_then(|value| HeaderValue::from_bytes(value.trim_ascii()).ok());
        if let (Some(name), Some(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// Runs one of [`TARGETS`].
pub(crate) fn run(name: &str, data: &[u8]) {
    for (target, parse) in TARGETS {
        if *target == name {
            return parse(data);
        }
    }
    panic!("there is no target {name}");
}

/// Each line is a field of a question; what it is about is what it says.
#[cfg(feature = "edge")]
fn decision_question(data: &[u8]) {
    use cypheron_edge::decision::Dialect;

    let mut request = Request::new(());
    *request.headers_mut() = fields(data.split(|byte| *byte == b'\n'));
    let (head, ()) = request.into_parts();
    for (dialect, target) in [
        (Dialect::Nginx, "x-original-uri"),
        (Dialect::Traefik, "x-forwarded-uri"),
        (Dialect::Envoy, ""),
    ] {
        let Ok(question) = dialect.question(&head) else {
            continue;
        };
        assert_eq!(question.client, question.client.to_canonical());
        assert!(Host::parse(question.host.as_bytes()).is_some());
        if !target.is_empty() {
            assert_eq!(head.headers[target], question.target.as_str());
        }
    }
}

/// It never asks for a byte that is not the header's, and means what it reads.
#[cfg(feature = "edge")]
fn proxy_header(data: &[u8]) {
    use cypheron_edge::server::proxy_protocol::{Header, Parsed, parse};

    let mut given = 0;
    let header = loop {
        match parse(&data[..given]) {
            Ok(Parsed::Missing(missing)) => {
                assert!(missing > 0);
                given += missing;
            }
            Ok(Parsed::Whole(header)) => break header,
            Err(_) => return,
        }
        if given > data.len() {
            return;
        }
    };
    if data.starts_with(b"PROXY ") {
        let line = &data[..given];
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(given - 1));
        if let Header::Relayed { client, local } = header {
            let family = if client.is_ipv4() { 4 } else { 6 };
            let family = format!("PROXY TCP{family} ");
            assert!(line.starts_with(family.as_bytes()));
            let ports = format!(" {} {}\r\n", client.port(), local.port());
            assert!(line.ends_with(ports.as_bytes()));
        }
    } else {
        let length = usize::from(u16::from_be_bytes([data[14], data[15]]));
        assert_eq!(given, 16 + length);
    }
}

/// Each line is a field; the client is the peer, or somebody that is named.
#[cfg(feature = "edge")]
fn client_address(data: &[u8]) {
    use std::net::{IpAddr, Ipv4Addr};
    use std::num::NonZeroUsize;

    use cypheron_edge::proxy::ClientAddressRule;

    const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let headers = fields(data.split(|byte| *byte == b'\n'));
    let is_named = headers.contains_key("x-forwarded-for");
    for hops in [1, 2] {
        let hops = NonZeroUsize::new(hops).expect("not zero");
        let rule = ClientAddressRule::new(vec![PROXY.into()], hops);
        assert_eq!(rule.client(rule.peer(STRANGER), &headers), STRANGER);
        let client = rule.client(rule.peer(PROXY), &headers);
        assert!(is_named || client == PROXY);
        assert_eq!(client, client.to_canonical());
    }
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

static CORS: LazyLock<Cors> = LazyLock::new(|| {
    let config = CorsConfig {
        origins: vec!["https://app.example.com".to_owned()],
        headers: vec!["*".to_owned()],
        ..CorsConfig::default()
    };
    config.compile().expect("sound settings")
});

/// Only the named origin is let in, however a page asks.
fn cors(data: &[u8]) {
    let asked = fields(data.split(|byte| *byte == b'\n'));
    let origin = asked.get("origin");
    let ours = origin.is_some_and(|origin| origin == "https://app.example.com");
    let answer = CORS.answer_preflight(&asked);
    let mut marked = HeaderMap::new();
    CORS.mark(origin, &mut marked);
    for answer in [answer, marked] {
        let allowed = answer.get("access-control-allow-origin");
        assert_eq!(allowed.is_some(), ours, "{asked:?}");
        assert!(allowed.is_none_or(|allowed| origin == Some(allowed)));
    }
}

/// The first line is the target, the others are fields. No token is left in
/// any place, and everything else is.
fn credentials(data: &[u8]) {
    const PARAMETER: &str = "key";
    let mut lines = data.split(|byte| *byte == b'\n');
    let target = lines.next().and_then(|target| str::from_utf8(target).ok());
    let Some(Ok(target)) = target.map(str::parse::<Uri>) else {
        return;
    };
    let mut request = Request::new(());
    *request.uri_mut() = target;
    *request.headers_mut() = fields(lines);
    let before = request.headers().clone();
    fuzzing::take_off(&mut request, &Config::default(), PARAMETER).expect("a valid prefix");

    for name in before.keys() {
        let of = |headers: &HeaderMap| -> Vec<HeaderValue> {
            headers.get_all(name).iter().cloned().collect()
        };
        if *name != "authorization" && *name != "x-api-key" {
            assert_eq!(of(request.headers()), of(&before), "{name}");
        }
    }
    for value in request.headers().get_all("x-api-key") {
        assert!(!value.as_bytes().starts_with(b"cyk_"), "{value:?}");
    }
    for value in request.headers().get_all("authorization") {
        let value = value.as_bytes();
        // However forgiving the reader.
        let token = match value.trim_ascii_start().split_at_checked("Bearer".len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"Bearer") => rest,
            _ => value,
        };
        assert!(!token.trim_ascii_start().starts_with(b"cyk_"), "{value:?}");
    }
    for pair in request.uri().query().unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
        let ours = decoded(name) == PARAMETER.as_bytes() && decoded(value).starts_with(b"cyk_");
        assert!(!ours, "{pair}");
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
        assert_eq!(Host::parse(name.as_bytes()).as_ref(), Some(&host), "{name}");
        assert!(!name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase()));
    }
}

/// Frames lie one after the other, inside of the segment.
fn journal_frames(data: &[u8]) {
    let (found, _) = journal::frames(data);
    let mut end = 0;
    for payload in found {
        assert!(payload.start >= end + 8 && payload.end <= data.len());
        end = payload.end;
    }
}

fn journal_position(data: &[u8]) {
    if let Some(written) = journal::position(data) {
        assert_eq!(written, data);
    }
}

/// No two payloads say the same.
fn journal_record(data: &[u8]) {
    if let Some(written) = journal::record(data) {
        assert_eq!(written, data);
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

fn request_id(data: &[u8]) {
    let headers = fields(
        [&b"x-request-id:"[..], data]
            .concat()
            .split(|b| *b == b'\n'),
    );
    let id = RequestId::of(&headers, Timestamp::EPOCH);
    let text = id.as_str();
    assert!((1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()));
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

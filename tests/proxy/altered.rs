//! The cases of the framing table, altered at random: whatever a client sends,
//! an origin that reads strictly finds whole requests, and nobody's identity.

#[expect(
    dead_code,
    clippy::expect_used,
    unreachable_pub,
    reason = "what a case expects no longer holds of it"
)]
#[path = "../edge/framing/case.rs"]
mod case;
#[expect(unreachable_pub, reason = "in the other test it is reached")]
#[path = "../edge/framing/origin.rs"]
mod origin;
#[expect(unreachable_pub, reason = "in the other test it is reached")]
#[path = "../../fuzz/strict.rs"]
mod strict;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use self::origin::{Origin, Seen};
use super::edge::Edge;

/// Bytes that parsers treat specially.
const TELLING: &[u8] = b"\0\t\n\x0b\r ,-0:;_~\x7f\x80\xff";

/// What is done to a case: at a place of a thousand, a byte is put in, or taken
/// out, or replaced.
fn alterations() -> impl Strategy<Value = Vec<(usize, usize, u8)>> {
    let byte = prop_oneof![prop::sample::select(TELLING), any::<u8>()];
    prop::collection::vec((0..1000_usize, 0..3_usize, byte), 1..5)
}

fn altered(mut bytes: Vec<u8>, alterations: &[(usize, usize, u8)]) -> Vec<u8> {
    for &(place, how, byte) in alterations {
        let at = bytes.len() * place / 1000;
        match how {
            0 => bytes.insert(at, byte),
            _ if at >= bytes.len() => bytes.push(byte),
            1 => drop(bytes.remove(at)),
            _ => bytes[at] = byte,
        }
    }
    bytes
}

fn is_clean(seen: &Seen) -> bool {
    let Ok(request) = seen else { return false };
    let mut fields = request.fields.iter().chain(&request.trailers);
    let route = request.all("x-edge-route");
    route == ["all"]
        && fields.all(|(name, _)| {
            let folded = name.to_ascii_lowercase().replace('_', "-");
            folded == "x-edge-route" || !folded.starts_with("x-edge-")
        })
}

/// Sends `bytes` and reads until the edge has closed.
fn send(edge: &Edge, bytes: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(edge.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

#[test]
fn what_is_forwarded_of_altered_requests_is_read_strictly_and_names_nobody() {
    let cases = case::cases(include_str!("../edge/framing/requests.txt"));
    let sent: Vec<_> = cases.iter().map(|case| case.bytes("t")).collect();
    let sent: Vec<_> = sent
        .into_iter()
        .filter(|bytes| bytes.len() < 2000)
        .collect();
    let origin = Origin::start(HashMap::new());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let within = runtime.enter();
    let edge = Edge::before(origin.address);
    drop(within);
    let mut runner = TestRunner::new(ProptestConfig {
        // Seeds of failures are in their messages.
        failure_persistence: None,
        ..ProptestConfig::with_cases(4000)
    });
    let inputs = (prop::sample::select(sent), alterations());
    let forwarded = std::cell::Cell::new(0);
    let result = runner.run(&inputs, |(bytes, alterations)| {
        // A reset is one way to close.
        send(&edge, &altered(bytes, &alterations)).ok();
        let seen = origin.seen();
        forwarded.set(forwarded.get() + seen.len());
        prop_assert!(seen.iter().all(is_clean), "{seen:?}");
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(forwarded.get() > 100, "hardly anything was forwarded");
}

//! How long the client of a gRPC call waits, which its head says.

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How long the client of a gRPC call waits, where it says so.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let timeout = headers.get(GRPC_TIMEOUT)?;
    let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
    if !kind.starts_with(b"application/grpc") {
        return None;
    }
    parse(timeout.as_bytes())
}

/// At most eight digits and a unit.
fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_timeout_is_a_number_and_a_unit() {
        for (text, timeout) in [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("99999999H", Some(Duration::from_hours(99_999_999))),
            ("0S", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("100000000S", None),
            ("1 S", None),
        ] {
            assert_eq!(parse(text.as_bytes()), timeout, "{text}");
        }
    }

    #[test]
    fn only_a_grpc_call_has_one() {
        for (kind, timeout) in [
            (Some("application/grpc"), Some(Duration::from_secs(1))),
            (Some("application/grpc+proto"), Some(Duration::from_secs(1))),
            (Some("application/json"), None),
            (None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, "1S".parse().unwrap());
            if let Some(kind) = kind {
                headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            }
            assert_eq!(super::timeout(&headers), timeout);
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..12)) {
            parse(&text);
        }
    }
}

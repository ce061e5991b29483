//! `RateLimit-Policy` and `RateLimit`, as structured fields
//! (draft-ietf-httpapi-ratelimit-headers).
//!
//! Values are cut from a buffer of the thread, which is used again once they
//! are gone, and the few policies in use are kept: nothing is allocated for a
//! response.

use std::cell::RefCell;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::limiter::{Policy, Standing};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The policy's name, a string, in both fields.
const NAME: &[u8] = b"\"edge\"";

/// Longer than either value.
const MAX_VALUE: usize = 64;
/// Some hundred values.
const BUFFER: usize = 8 * 1024;
/// Policies kept by each thread.
const KEPT: usize = 64;

struct Scratch {
    buffer: BytesMut,
    policies: [Option<(Policy, HeaderValue)>; KEPT],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        buffer: BytesMut::new(),
        policies: [const { None }; KEPT],
    });
}

/// Adds both fields, beside any of the upstream's own.
pub(super) fn append(headers: &mut HeaderMap, standing: &Standing) {
    SCRATCH.with_borrow_mut(|scratch| {
        headers.append(POLICY, scratch.policy(standing.policy));
        let (remaining, reset) = (standing.remaining, standing.reset);
        headers.append(LIMIT, scratch.value((b";r=", remaining), (b";t=", reset)));
    });
}

impl Scratch {
    fn policy(&mut self, policy: Policy) -> HeaderValue {
        let at = policy.requests as usize % KEPT;
        match &self.policies[at] {
            Some((kept, value)) if *kept == policy => value.clone(),
            _ => {
                // A kept value must not keep the buffer from being used again.
                let value = self.value((b";q=", policy.requests), (b";w=", policy.window));
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap_or(value);
                self.policies[at] = Some((policy, value.clone()));
                value
            }
        }
    }

    fn value(&mut self, first: (&[u8], u32), second: (&[u8], u32)) -> HeaderValue {
        if self.buffer.capacity() < MAX_VALUE {
            self.buffer.reserve(BUFFER);
        }
        self.buffer.put_slice(NAME);
        let mut digits = itoa::Buffer::new();
        for (parameter, number) in [first, second] {
            self.buffer.put_slice(parameter);
            self.buffer.put_slice(digits.format(number).as_bytes());
        }
        let bytes = self.buffer.split().freeze();
        // why: digits and the constants above are a header value.
        HeaderValue::from_maybe_shared(bytes).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(requests: u32, remaining: u32) -> Standing {
        Standing {
            policy: Policy {
                requests,
                window: 60,
            },
            remaining,
            reset: 7,
        }
    }

    fn fields(standing: &Standing) -> [String; 2] {
        let mut headers = HeaderMap::new();
        append(&mut headers, standing);
        [POLICY, LIMIT].map(|name| headers[name].to_str().unwrap().to_owned())
    }

    #[test]
    fn numbers_are_written_in_full() {
        for (requests, remaining) in [(1, 0), (10, 9), (1_000_000, 123_456), (u32::MAX, u32::MAX)] {
            let [policy, limit] = fields(&standing(requests, remaining));
            assert_eq!(policy, format!("\"edge\";q={requests};w=60"));
            assert_eq!(limit, format!("\"edge\";r={remaining};t=7"));
        }
    }

    #[test]
    fn policies_that_share_a_place_do_not_share_a_value() {
        for requests in [5, 69, 5] {
            let [policy, _] = fields(&standing(requests, 1));
            assert_eq!(policy, format!("\"edge\";q={requests};w=60"));
        }
    }

    #[test]
    fn an_upstreams_own_fields_stay() {
        let mut headers = HeaderMap::new();
        headers.insert(LIMIT, HeaderValue::from_static("\"theirs\";r=1"));
        append(&mut headers, &standing(5, 4));
        assert_eq!(headers.get_all(LIMIT).iter().count(), 2);
    }

    #[test]
    fn values_that_are_kept_are_not_overwritten() {
        let mut kept = Vec::new();
        for remaining in 0..2000 {
            let mut headers = HeaderMap::new();
            append(&mut headers, &standing(5, remaining));
            kept.push(headers.remove(LIMIT).unwrap());
        }
        for (remaining, value) in kept.iter().enumerate() {
            assert_eq!(value, &format!("\"edge\";r={remaining};t=7"));
        }
    }
}

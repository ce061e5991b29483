//! Records: what a frame's payload says.
//!
//! `kind (1)`, then, little endian:
//! * opened, a decision: `number (8) ‖ event id (16) ‖ µs since 1970 (8) ‖
//!   key id (16) ‖ client (1 + 0, 4 or 16) ‖ method (1 + n) ‖ route (2 + n)`;
//! * closed: all of it again, then `status (2) ‖ refusal's reason (1 + n, none
//!   when admitted) ‖ ended (1) ‖ request bytes, response bytes, duration µs,
//!   upstream µs (8 each)`;
//! * began, first in each segment: `decisions before it (8)`.

use std::net::IpAddr;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::refusal::Refusal;
use crate::usage::event::{Ended, Outcome, UsageEvent};
use crate::usage::recorder::{Completion, Decision};

const OPENED: u8 = 1;
const CLOSED: u8 = 2;
const BEGAN: u8 = 3;

/// How much longer the closing record of an admitted request is than the one
/// that opened it.
pub(super) const CLOSING: usize = 2 + 1 + 1 + 4 * 8;

/// How long the first record of a segment is.
pub(super) const BEGINNING: usize = 1 + 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A request was admitted; the event is what it is if nothing follows.
    Opened {
        number: u64,
        event: UsageEvent,
    },
    /// A request has ended, or was refused.
    Closed {
        number: u64,
        event: UsageEvent,
    },
    Began {
        decisions: u64,
    },
}

pub(super) fn began(payload: &mut Vec<u8>, decisions: u64) {
    payload.push(BEGAN);
    payload.extend_from_slice(&decisions.to_le_bytes());
}

pub(super) fn opened(
    payload: &mut Vec<u8>,
    number: u64,
    event_id: Uuid,
    decision: &Decision<'_>,
    client: Option<IpAddr>,
) {
    payload.push(OPENED);
    payload.extend_from_slice(&number.to_le_bytes());
    payload.extend_from_slice(event_id.as_bytes());
    payload.extend_from_slice(&decision.occurred_at.as_micros().to_le_bytes());
    payload.extend_from_slice(decision.key_id.as_bytes());
    match client {
        None => payload.push(0),
        Some(IpAddr::V4(address)) => {
            payload.push(4);
            payload.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            payload.push(6);
            payload.extend_from_slice(&address.octets());
        }
    }
    short_text(payload, decision.method.as_str());
    let route = cut(decision.route, u16::MAX.into());
    let length = u16::try_from(route.len()).unwrap_or(u16::MAX);
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(route.as_bytes());
}

/// Makes a closing record of an opening one, which begins at `start`.
pub(super) fn close(
    payload: &mut Vec<u8>,
    start: usize,
    refusal: Option<Refusal>,
    completion: &Completion,
) {
    payload[start] = CLOSED;
    payload.extend_from_slice(&completion.status.to_le_bytes());
    short_text(payload, refusal.map_or("", Refusal::reason));
    payload.push(ended_code(completion.ended));
    for number in [
        completion.request_bytes,
        completion.response_bytes,
        completion.duration_us,
        completion.upstream_us,
    ] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
}

fn short_text(payload: &mut Vec<u8>, text: &str) {
    let text = cut(text, u8::MAX.into());
    payload.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    payload.extend_from_slice(text.as_bytes());
}

/// The beginning of a text that is longer than its length field can say.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

const fn ended_code(ended: Ended) -> u8 {
    match ended {
        Ended::Complete => 0,
        Ended::ClientGone => 1,
        Ended::UpstreamFailed => 2,
        Ended::Timeout => 3,
        Ended::Revoked => 4,
        Ended::Interrupted => 5,
    }
}

/// `None` for what no version of this program has written.
pub(super) fn decode(payload: &[u8]) -> Option<Record> {
    let mut fields = Fields(payload);
    let record = match fields.u8()? {
        OPENED => {
            let (number, event) = fields.decision()?;
            Record::Opened { number, event }
        }
        CLOSED => {
            let (number, mut event) = fields.decision()?;
            fields.completion(&mut event)?;
            Record::Closed { number, event }
        }
        BEGAN => Record::Began {
            decisions: fields.u64()?,
        },
        _ => return None,
    };
    fields.0.is_empty().then_some(record)
}

/// Whether it is an opening record; what else is in it is not looked at.
pub(super) fn is_opening(payload: &[u8]) -> bool {
    payload.first() == Some(&OPENED)
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self, length: usize) -> Option<&'a str> {
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn decision(&mut self) -> Option<(u64, UsageEvent)> {
        let number = self.u64()?;
        let event_id = Uuid::from_bytes(self.take()?);
        let occurred_at = Timestamp::from_micros(i64::from_le_bytes(self.take()?));
        let key_id = Uuid::from_bytes(self.take()?);
        let client_ip = match self.u8()? {
            0 => None,
            4 => Some(IpAddr::from(self.take::<4>()?)),
            6 => Some(IpAddr::from(self.take::<16>()?)),
            _ => return None,
        };
        let length = self.u8()?;
        let method = self.text(length.into())?.into();
        let length = self.u16()?;
        let route = self.text(length.into())?.into();
        let event = UsageEvent {
            event_id,
            occurred_at,
            key_id,
            route,
            method,
            status: 0,
            outcome: Outcome::Admitted,
            ended: Ended::Interrupted,
            request_bytes: 0,
            response_bytes: 0,
            duration_us: 0,
            upstream_us: 0,
            client_ip,
        };
        Some((number, event))
    }

    fn completion(&mut self, event: &mut UsageEvent) -> Option<()> {
        event.status = self.u16()?;
        let length = self.u8()?;
        event.outcome = match self.text(length.into())? {
            "" => Outcome::Admitted,
            reason => Outcome::Refused(Refusal::from_reason(reason)?),
        };
        let code = self.u8()?;
        event.ended = Ended::ALL
            .into_iter()
            .find(|ended| ended_code(*ended) == code)?;
        event.request_bytes = self.u64()?;
        event.response_bytes = self.u64()?;
        event.duration_us = self.u64()?;
        event.upstream_us = self.u64()?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;

    fn decision() -> Decision<'static> {
        Decision {
            occurred_at: Timestamp::from_micros(1_800_000_000_000_001),
            key_id: Uuid::from_u128(7),
            route: "orders",
            method: &Method::PATCH,
            client: None,
        }
    }

    fn completion(ended: Ended) -> Completion {
        Completion {
            status: 207,
            ended,
            request_bytes: 1,
            response_bytes: u64::MAX,
            duration_us: 3,
            upstream_us: 4,
        }
    }

    #[test]
    fn an_event_survives_being_written_and_read() {
        for client in [None, Some("192.0.2.1"), Some("2001:db8::1")] {
            let client = client.map(|client| client.parse().unwrap());
            let mut payload = Vec::new();
            opened(&mut payload, 9, Uuid::from_u128(8), &decision(), client);
            let Some(Record::Opened { number: 9, event }) = decode(&payload) else {
                panic!("not opened");
            };
            assert_eq!(event.client_ip, client);
            assert_eq!((&*event.method, &*event.route), ("PATCH", "orders"));
            for ended in Ended::ALL {
                let mut payload = payload.clone();
                let before = payload.len();
                close(&mut payload, 0, None, &completion(ended));
                assert_eq!(payload.len(), before + CLOSING);
                let Some(Record::Closed {
                    number: 9,
                    event: closed,
                }) = decode(&payload)
                else {
                    panic!("not closed");
                };
                assert_eq!(closed.ended, ended);
                assert_eq!((closed.status, closed.response_bytes), (207, u64::MAX));
                assert_eq!(closed.event_id, event.event_id);
            }
        }
    }

    #[test]
    fn every_refusal_survives_being_written_and_read() {
        for refusal in Refusal::ALL {
            let mut payload = Vec::new();
            opened(&mut payload, 1, Uuid::nil(), &decision(), None);
            close(&mut payload, 0, Some(refusal), &completion(Ended::Complete));
            let Some(Record::Closed { event, .. }) = decode(&payload) else {
                panic!("not closed");
            };
            assert_eq!(event.outcome, Outcome::Refused(refusal));
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let route = "ü".repeat(40_000);
        let decision = Decision {
            route: &route,
            ..decision()
        };
        let mut payload = Vec::new();
        opened(&mut payload, 1, Uuid::nil(), &decision, None);
        let Some(Record::Opened { event, .. }) = decode(&payload) else {
            panic!("not opened");
        };
        assert_eq!(event.route.len(), 65_534);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_none(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            for kind in [OPENED, CLOSED, BEGAN] {
                let _ = decode(&[&[kind], &bytes[..]].concat());
            }
        }
    }
}

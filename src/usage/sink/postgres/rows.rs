//! Events as columns: what a statement with arrays takes.

use std::borrow::Cow;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::bounds::Reason;
use crate::clock::Timestamp;
use crate::usage::event::UsageEvent;

/// 9999-12-31T23:59:59.999999Z: later times, and earlier ones than 1970, are
/// only ever in quarantine, where being wrong by more says no more.
const LATEST: i64 = 253_402_300_799_999_999;

/// One array for each column of the events.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    event_id: Vec<Uuid>,
    occurred_at: Vec<DateTime<Utc>>,
    key_id: Vec<Uuid>,
    route: Vec<Cow<'a, str>>,
    method: Vec<Cow<'a, str>>,
    status: Vec<i16>,
    outcome: Vec<&'static str>,
    ended: Vec<&'static str>,
    request_bytes: Vec<i64>,
    response_bytes: Vec<i64>,
    duration_us: Vec<i64>,
    upstream_us: Vec<i64>,
    client_ip: Vec<Option<IpAddr>>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(events: impl Iterator<Item = &'a UsageEvent>) -> Self {
        let mut rows = Self::default();
        for event in events {
            rows.event_id.push(event.event_id);
            rows.occurred_at.push(time(event.occurred_at));
            rows.key_id.push(event.key_id);
            rows.route.push(text(&event.route));
            rows.method.push(text(&event.method));
            rows.status
                .push(i16::try_from(event.status).unwrap_or(i16::MAX));
            rows.outcome.push(event.outcome.as_str());
            rows.ended.push(event.ended.as_str());
            rows.request_bytes.push(integer(event.request_bytes));
            rows.response_bytes.push(integer(event.response_bytes));
            rows.duration_us.push(integer(event.duration_us));
            rows.upstream_us.push(integer(event.upstream_us));
            rows.client_ip.push(event.client_ip);
        }
        rows
    }

    /// In the order of the columns.
    pub(super) fn columns(&self) -> [&(dyn ToSql + Sync); 13] {
        [
            &self.event_id,
            &self.occurred_at,
            &self.key_id,
            &self.route,
            &self.method,
            &self.status,
            &self.outcome,
            &self.ended,
            &self.request_bytes,
            &self.response_bytes,
            &self.duration_us,
            &self.upstream_us,
            &self.client_ip,
        ]
    }
}

/// Whether the tables of events can hold it as it is.
pub(super) fn is_storable(event: &UsageEvent) -> bool {
    let text = |text: &str| !text.contains('\0');
    text(&event.route) && text(&event.method) && i16::try_from(event.status).is_ok()
}

pub(super) fn time(at: Timestamp) -> DateTime<Utc> {
    let micros = at.as_micros().clamp(0, LATEST);
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// PostgreSQL's text has no NUL in it.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// PostgreSQL's integers end at half of ours.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An event that has no place among the others.
pub(super) type Aside<'a> = (&'a UsageEvent, Reason);

//! Events as `COPY` takes them in its binary format.

use std::net::IpAddr;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use deadpool_postgres::Transaction;
use futures_util::SinkExt;
use uuid::Uuid;

use super::failed::Failed;
use super::rows::integer;
use crate::usage::event::UsageEvent;

const COPY: &str = "COPY usage_events (event_id, occurred_at, key_id, route, method, status, \
    outcome, ended, request_bytes, response_bytes, duration_us, upstream_us, client_ip, instance) \
    FROM STDIN (FORMAT binary)";

const COLUMNS: i16 = 14;

/// Signature, no flags, no extension.
const HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

const NULL: i32 = -1;

/// What a row is followed by that none follows.
const TRAILER: i16 = -1;

/// 2000-01-01, which PostgreSQL counts from, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// Sent in one piece: the server works on one while the next is encoded.
const PIECE: usize = 64 * 1024;

/// Copies events into the table; all of them have to be storable. Fails, as
/// the server's rows do, when one of them is there already.
pub(super) async fn copy(
    transaction: &Transaction<'_>,
    instance: Uuid,
    events: &[&UsageEvent],
) -> Result<(), Failed> {
    let statement = transaction.prepare_cached(COPY).await?;
    let mut rows = pin!(transaction.copy_in::<_, Bytes>(&statement).await?);
    let mut buffer = BytesMut::with_capacity(PIECE + PIECE / 8);
    buffer.put_slice(&HEADER);
    for event in events {
        put_row(&mut buffer, instance, event);
        if buffer.len() >= PIECE {
            rows.send(buffer.split().freeze()).await?;
            buffer.reserve(PIECE + PIECE / 8);
        }
    }
    buffer.put_i16(TRAILER);
    rows.send(buffer.freeze()).await?;
    rows.finish().await?;
    Ok(())
}

fn put_row(row: &mut BytesMut, instance: Uuid, event: &UsageEvent) {
    row.put_i16(COLUMNS);
    put(row, event.event_id.as_bytes());
    put(
        row,
        &(event.occurred_at.as_micros() - POSTGRES_EPOCH).to_be_bytes(),
    );
    put(row, event.key_id.as_bytes());
    put(row, event.route.as_bytes());
    put(row, event.method.as_bytes());
    let status = i16::try_from(event.status).unwrap_or(i16::MAX);
    put(row, &status.to_be_bytes());
    put(row, event.outcome.as_str().as_bytes());
    put(row, event.ended.as_str().as_bytes());
    for number in [
        event.request_bytes,
        event.response_bytes,
        event.duration_us,
        event.upstream_us,
    ] {
        put(row, &integer(number).to_be_bytes());
    }
    match event.client_ip {
        None => row.put_i32(NULL),
        Some(address) => put_address(row, address),
    }
    put(row, instance.as_bytes());
}

fn put(row: &mut BytesMut, field: &[u8]) {
    // No field is larger than a journal's text: 64 KiB.
    row.put_i32(i32::try_from(field.len()).unwrap_or(i32::MAX));
    row.put_slice(field);
}

/// `family ‖ prefix length ‖ whether it is a network ‖ length ‖ address`, as
/// `inet` is sent.
fn put_address(row: &mut BytesMut, address: IpAddr) {
    const V4: [u8; 4] = [2, 32, 0, 4];
    const V6: [u8; 4] = [3, 128, 0, 16];
    match address {
        IpAddr::V4(address) => {
            row.put_i32(8);
            row.put_slice(&V4);
            row.put_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            row.put_i32(20);
            row.put_slice(&V6);
            row.put_slice(&address.octets());
        }
    }
}

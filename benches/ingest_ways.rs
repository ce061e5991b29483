//! Ways to get a batch into PostgreSQL, each event once and with its sums, in
//! one transaction on one connection. The sink takes the one that costs least:
//!
//! * `unnest`: arrays, `INSERT ... ON CONFLICT DO NOTHING`, and sums of what it
//!   returned, in one statement;
//! * `staging`: a binary `COPY` into a temporary table, and the same from there;
//! * `direct`: a binary `COPY` into the table itself, which fails where an event
//!   is there already, and sums made by the client.
//!
//! `cargo bench --profile quick --bench ingest_ways [-- EVENTS ROUNDS]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on has failed; it tells what it measured"
)]

#[expect(dead_code, reason = "one server and one database will do")]
#[path = "../tests/postgres/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use cypheron_edge::clock::{Clock, Timestamp};
use futures_util::SinkExt;
use server::TestServer;
use tokio_postgres::{Client, NoTls, Statement, Transaction};
use uuid::Uuid;

/// Over what `scripts/throwaway-postgres` sets: PostgreSQL's own.
const SETTINGS: [&str; 3] = ["fsync=on", "full_page_writes=on", "shared_buffers=128MB"];

const WAYS: [&str; 3] = ["unnest", "staging", "direct"];
const SIZES: [usize; 3] = [1000, 5000, 10_000];

const STORE: &str = include_str!("../src/usage/sink/postgres/store.sql");
const SUMS: &str = include_str!("../src/usage/sink/postgres/sums.sql");

const COLUMNS: &str = "event_id, occurred_at, key_id, route, method, status, outcome, ended, \
    request_bytes, response_bytes, duration_us, upstream_us, client_ip";

const KEYS: u128 = 1000;
const HOUR: i64 = 3600 * 1_000_000;
const INSTANCE: Uuid = Uuid::from_u128(1);
const CLIENT: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct Event {
    id: Uuid,
    at: i64,
    key: Uuid,
    bytes: i64,
}

/// A day of 2027 in the making: ids in the order of time, keys in none.
fn events(count: usize) -> Vec<Event> {
    let made = (0..i64::try_from(count).unwrap()).map(|number| {
        let at = 1_800_000_000_000_000 + number * 1000;
        let mut random = [0; 10];
        random[..8].copy_from_slice(&number.wrapping_mul(7_046_029_254_386_353_131).to_le_bytes());
        Event {
            id: Timestamp::from_micros(at).uuid(random),
            at,
            key: Uuid::from_u128(u128::try_from(number).unwrap() * 7919 % KEYS),
            bytes: number % 20_000,
        }
    });
    made.collect()
}

fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap()
}

struct Statements {
    unnest: Statement,
    from_staging: Statement,
    sums: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> Self {
        client
            .batch_execute(
                "CREATE TEMPORARY TABLE staging (LIKE usage_events) ON COMMIT DELETE ROWS;
                SELECT usage_make_day('2027-01-15')",
            )
            .await
            .unwrap();
        let (_, storing) = STORE.split_once("), new AS").unwrap();
        let from_staging =
            format!("WITH given AS (SELECT {COLUMNS} FROM staging), new AS{storing}");
        Self {
            unnest: client.prepare(STORE).await.unwrap(),
            from_staging: client.prepare(&from_staging).await.unwrap(),
            sums: client.prepare(SUMS).await.unwrap(),
        }
    }
}

async fn unnest(transaction: &Transaction<'_>, statements: &Statements, events: &[Event]) {
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    let times: Vec<_> = events.iter().map(|event| time(event.at)).collect();
    let keys: Vec<_> = events.iter().map(|event| event.key).collect();
    let bytes: Vec<_> = events.iter().map(|event| event.bytes).collect();
    let texts = |text: &'static str| vec![text; events.len()];
    let (routes, methods) = (texts("orders"), texts("GET"));
    let (outcomes, ended) = (texts("admitted"), texts("complete"));
    let states = vec![200_i16; events.len()];
    let clients = vec![CLIENT; events.len()];
    let statement = &statements.unnest;
    transaction
        .query(
            statement,
            &[
                &INSTANCE, &ids, &times, &keys, &routes, &methods, &states, &outcomes, &ended,
                &bytes, &bytes, &bytes, &bytes, &clients,
            ],
        )
        .await
        .unwrap();
}

async fn copy(transaction: &Transaction<'_>, table: &str, events: &[Event]) {
    let sql = format!("COPY {table} ({COLUMNS}, instance) FROM STDIN (FORMAT binary)");
    let mut sink = pin!(transaction.copy_in::<_, Bytes>(&sql).await.unwrap());
    let mut rows = BytesMut::new();
    let put = |rows: &mut BytesMut, field: &[u8]| {
        rows.put_i32(i32::try_from(field.len()).unwrap());
        rows.put_slice(field);
    };
    rows.put_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for event in events {
        rows.put_i16(14);
        put(&mut rows, event.id.as_bytes());
        put(&mut rows, &(event.at - 946_684_800_000_000).to_be_bytes());
        put(&mut rows, event.key.as_bytes());
        put(&mut rows, b"orders");
        put(&mut rows, b"GET");
        put(&mut rows, &200_i16.to_be_bytes());
        put(&mut rows, b"admitted");
        put(&mut rows, b"complete");
        for _ in 0..4 {
            put(&mut rows, &event.bytes.to_be_bytes());
        }
        put(&mut rows, &[2, 32, 0, 4, 127, 0, 0, 1]);
        put(&mut rows, INSTANCE.as_bytes());
    }
    rows.put_i16(-1);
    sink.send(rows.freeze()).await.unwrap();
    sink.finish().await.unwrap();
}

async fn add_sums(transaction: &Transaction<'_>, statements: &Statements, events: &[Event]) {
    let mut sums = BTreeMap::new();
    for event in events {
        let (requests, bytes, last) = sums
            .entry((event.at / HOUR * HOUR, event.key))
            .or_insert((0_i64, 0_i64, 0_i64));
        *requests += 1;
        *bytes += event.bytes;
        *last = event.at;
    }
    let hours: Vec<_> = sums.keys().map(|(hour, _)| time(*hour)).collect();
    let keys: Vec<_> = sums.keys().map(|(_, key)| *key).collect();
    let routes = vec!["orders"; sums.len()];
    let requests: Vec<_> = sums.values().map(|sum| sum.0).collect();
    let refused = vec![0_i64; sums.len()];
    let bytes: Vec<_> = sums.values().map(|sum| sum.1).collect();
    let last: Vec<_> = sums.values().map(|sum| time(sum.2)).collect();
    let all = i64::try_from(events.len()).unwrap();
    transaction
        .query(
            &statements.sums,
            &[
                &INSTANCE, &all, &0_i64, &hours, &keys, &routes, &requests, &refused, &bytes,
                &bytes, &bytes, &last,
            ],
        )
        .await
        .unwrap();
}

/// User and system time of a process, in microseconds.
fn cpu(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || times.next().unwrap().parse::<u32>().unwrap();
    f64::from(next() + next()) * 1e4
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let events = events(numbers.next().unwrap_or(300_000));
    let rounds: usize = numbers.next().unwrap_or(3);
    let Some(server) = TestServer::start(&SETTINGS) else {
        return;
    };
    let database = server.migrated_database().await;
    let (mut client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let statements = Statements::prepare(&client).await;
    let row = client.query_one("SELECT pg_backend_pid()::text", &[]).await;
    let backend: String = row.unwrap().get(0);
    let clock = Clock::system();

    let mut measured = BTreeMap::<_, Vec<_>>::new();
    for _ in 0..rounds {
        for size in SIZES {
            for way in WAYS {
                let clear = "TRUNCATE usage_events, usage_hourly, usage_instances";
                client.batch_execute(clear).await.unwrap();
                client.batch_execute("CHECKPOINT").await.unwrap();
                let (began, own, servers) = (clock.tick(), cpu("self"), cpu(&backend));
                for batch in events.chunks(size) {
                    let transaction = client.transaction().await.unwrap();
                    match way {
                        "unnest" => unnest(&transaction, &statements, batch).await,
                        "staging" => {
                            copy(&transaction, "staging", batch).await;
                            let store = &statements.from_staging;
                            transaction.query(store, &[&INSTANCE]).await.unwrap();
                        }
                        _ => {
                            copy(&transaction, "usage_events", batch).await;
                            add_sums(&transaction, &statements, batch).await;
                        }
                    }
                    transaction.commit().await.unwrap();
                }
                let took = clock.tick().since(began).as_secs_f64();
                let count = f64::from(u32::try_from(events.len()).unwrap());
                let costs = [&*backend, "self"].map(cpu);
                measured.entry((size, way)).or_default().push([
                    count / took,
                    (costs[0] - servers) / count,
                    (costs[1] - own) / count,
                ]);
                let sum = "SELECT coalesce(sum(requests), 0)::bigint FROM usage_hourly";
                let summed: i64 = client.query_one(sum, &[]).await.unwrap().get(0);
                assert_eq!(summed, i64::try_from(events.len()).unwrap());
            }
        }
    }
    println!("medians of {rounds} rounds of {} events", events.len());
    println!("batch  way        rows/s  server CPU, µs/row  client CPU, µs/row");
    for ((size, way), rounds) in measured {
        let [rate, server, client] = [0, 1, 2].map(|of| {
            let mut values: Vec<f64> = rounds.iter().map(|round| round[of]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        });
        println!("{size:5}  {way:8} {rate:8.0}  {server:18.2}  {client:18.2}");
    }
}

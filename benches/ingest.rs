//! A backlog of usage on its way into PostgreSQL, beside the ways that anybody
//! would take:
//!
//! * the edge: the journal is read, its events are encoded, stored once each
//!   with their sums in one transaction a batch, and acknowledged;
//! * `insert`: the same rows as `INSERT ... VALUES` of 1,000 rows each;
//! * `copy`: the same rows by one `psql \copy`.
//!
//! All three in turn, in several rounds, into the same table of a server made
//! for it, at PostgreSQL's own settings. The other two write no sums, and fail
//! at a row that is there already.
//!
//! `cargo bench --profile quick --bench ingest [-- EVENTS ROUNDS]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on has failed; it tells what it measured"
)]

#[expect(dead_code, reason = "one server and one database will do")]
#[path = "../tests/postgres/server.rs"]
mod server;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::usage::Config;
use cypheron_edge::usage::client::ClientIp;
use cypheron_edge::usage::event::Ended;
use cypheron_edge::usage::journal::{self, Journal, WhenFull, Writer};
use cypheron_edge::usage::recorder::{Completion, Decision, Recorder, Reservation};
use cypheron_edge::usage::refusals::Refusals;
use cypheron_edge::usage::shipper::Shipper;
use cypheron_edge::usage::sink::PostgresSink;
use http::Method;
use server::{TestDatabase, TestServer};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Over what `scripts/throwaway-postgres` sets: PostgreSQL's own.
const SETTINGS: [&str; 3] = ["fsync=on", "full_page_writes=on", "shared_buffers=128MB"];

const TOLD: [&str; 6] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
];

const KEYS: u128 = 1000;
const ROUTES: [&str; 4] = ["orders", "reports", "search", "users"];

/// Of one statement of `insert`.
const ROWS: usize = 1000;

const HOUR: i64 = 3600 * 1_000_000;

/// One way, one round.
#[derive(Clone, Copy)]
struct Measured {
    rows_per_second: f64,
    /// Of the client, in microseconds, user and system.
    cpu_per_row: f64,
}

struct Scene {
    server: TestServer,
    database: TestDatabase,
    client: Client,
    events: usize,
    scratch: tempfile::TempDir,
    clock: Clock,
}

/// CPU time of this process, and of its children that have ended.
struct Cpu {
    own: Duration,
    children: Duration,
}

impl Cpu {
    fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<_> = fields.split_whitespace().collect();
        // In hundredths of a second everywhere: USER_HZ.
        let time = |at: usize| Duration::from_millis(10 * fields[at].parse::<u64>().unwrap());
        Self {
            own: time(11) + time(12),
            children: time(13) + time(14),
        }
    }
}

impl Scene {
    async fn set(events: usize) -> Option<Self> {
        let server = TestServer::start(&SETTINGS)?;
        let database = server.migrated_database().await;
        let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
        tokio::spawn(connection);
        Some(Self {
            server,
            database,
            client,
            events,
            scratch: tempfile::tempdir().unwrap(),
            clock: Clock::system(),
        })
    }

    async fn tell(&self) {
        let mut told = format!("{} events, {KEYS} keys;", self.events);
        for setting in TOLD {
            let row = self.client.query_one(&format!("SHOW {setting}"), &[]).await;
            let value: String = row.unwrap().get(0);
            write!(told, " {setting} {value}").unwrap();
        }
        println!("{told}");
    }

    async fn round(&self) -> [Measured; 3] {
        self.clear().await;
        let edge = self.edge().await;
        let rows = self.scratch.path().join("rows");
        self.psql(&format!(
            "\\copy (SELECT * FROM usage_events) TO '{}'",
            rows.display()
        ));
        self.clear().await;
        let insert = self.insert(&fs::read_to_string(&rows).unwrap()).await;
        self.clear().await;
        let copy = self.copy(&rows).await;
        [edge, insert, copy]
    }

    async fn clear(&self) {
        let tables = "usage_events, usage_hourly, usage_instances, usage_writers";
        self.execute(&format!("TRUNCATE {tables}")).await;
        self.execute("CHECKPOINT").await;
    }

    async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// As after an outage of the database.
    async fn edge(&self) -> Measured {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            flush_timeout: Duration::from_mins(10),
            journal: journal::Config {
                max_bytes: Some(ByteSize::gib(4)),
                when_full: WhenFull::Refuse,
                ..journal::Config::default()
            },
            ..Config::default()
        };
        let (journal, writers) = Journal::open(
            &config.journal,
            ClientIp::Full,
            directory.path(),
            &self.clock,
            1,
        )
        .unwrap();
        self.record(&writers[0]);
        journal.sync().unwrap();
        let database = self.database.manager();
        let sink = PostgresSink::new(&database, config.retention);
        let shipper = Shipper::new(
            journal,
            Refusals::new(1),
            Arc::new(sink),
            self.clock.clone(),
            &config,
        );
        let measured = self
            .measured(|cpu| cpu.own, async {
                assert!(shipper.run(std::future::ready(())).await);
            })
            .await;
        database.close().await;
        let sums = "SELECT sum(requests)::bigint FROM usage_hourly";
        let summed: i64 = self.client.query_one(sums, &[]).await.unwrap().get(0);
        assert_eq!(summed, i64::try_from(self.events).unwrap());
        measured
    }

    /// An hour's requests.
    fn record(&self, writer: &Writer) {
        let begin = self.clock.wall().as_micros() - HOUR;
        let events = i64::try_from(self.events).unwrap();
        for number in 0..events {
            let key = u128::try_from(number).unwrap() * 7919 % KEYS;
            let decision = Decision {
                occurred_at: Timestamp::from_micros(begin + number * (HOUR / events)),
                key_id: Uuid::from_u128(0x01a2_0ebb_4094_7cf4_ba37_0000_0000_0000 + key),
                route: ROUTES[usize::try_from(key).unwrap() % ROUTES.len()],
                method: &Method::GET,
                client: Some([192, 0, 2, u8::try_from(key % 256).unwrap()].into()),
            };
            let done = Completion {
                status: 200,
                ended: Ended::Complete,
                request_bytes: 0,
                response_bytes: number.unsigned_abs() % 20_000,
                duration_us: 900 + number.unsigned_abs() % 1000,
                upstream_us: 700 + number.unsigned_abs() % 1000,
            };
            loop {
                if let Ok(reservation) = writer.admit(&decision) {
                    reservation.complete(&done);
                    break;
                }
                // The next segment is being made.
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    async fn insert(&self, rows: &str) -> Measured {
        let rows: Vec<_> = rows.lines().collect();
        self.measured(|cpu| cpu.own, async {
            for rows in rows.chunks(ROWS) {
                self.execute(&insert_of(rows)).await;
            }
        })
        .await
    }

    async fn copy(&self, rows: &Path) -> Measured {
        let command = format!("\\copy usage_events FROM '{}'", rows.display());
        self.measured(|cpu| cpu.children, async { self.psql(&command) })
            .await
    }

    fn psql(&self, command: &str) {
        let done = Command::new("psql")
            .args([
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
                "--dbname",
            ])
            .args([&*self.database.url, "--command", command])
            .status();
        assert!(done.unwrap().success());
    }

    async fn measured(
        &self,
        which: fn(&Cpu) -> Duration,
        work: impl Future<Output = ()>,
    ) -> Measured {
        let (cpu, began) = (Cpu::now(), self.clock.tick());
        work.await;
        let (took, cpu_after) = (self.clock.tick().since(began), Cpu::now());
        let count = "SELECT count(*) FROM usage_events";
        let rows: i64 = self.client.query_one(count, &[]).await.unwrap().get(0);
        assert_eq!(rows, i64::try_from(self.events).unwrap());
        let each =
            |time: Duration| time.as_secs_f64() / f64::from(u32::try_from(self.events).unwrap());
        Measured {
            rows_per_second: each(took).recip(),
            cpu_per_row: each(which(&cpu_after).saturating_sub(which(&cpu))) * 1e6,
        }
    }
}

/// One statement of tab-separated rows, as `COPY` writes them.
fn insert_of(rows: &[&str]) -> String {
    let mut sql = String::from("INSERT INTO usage_events VALUES ");
    for (number, row) in rows.iter().enumerate() {
        sql.push_str(if number == 0 { "('" } else { ",('" });
        for (number, field) in row.split('\t').enumerate() {
            if number > 0 {
                sql.push_str("','");
            }
            sql.push_str(field);
        }
        sql.push_str("')");
    }
    sql
}

fn in_order(rounds: &[[Measured; 3]], way: usize, of: fn(&Measured) -> f64) -> Vec<f64> {
    let mut values: Vec<_> = rounds.iter().map(|round| of(&round[way])).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn tell(rounds: &[[Measured; 3]]) {
    println!("{:8} {:>27} {:>27}", "", "rows/s", "client CPU, µs/row");
    let least_median_most = |values: &[f64]| {
        let [least, .., most] = values else {
            return [values[0]; 3];
        };
        [*least, values[values.len() / 2], *most]
    };
    let mut medians = Vec::new();
    for (way, name) in ["edge", "insert", "copy"].into_iter().enumerate() {
        let rows = least_median_most(&in_order(rounds, way, |measured| measured.rows_per_second));
        let cpu = least_median_most(&in_order(rounds, way, |measured| measured.cpu_per_row));
        let rates = rows.map(|rate| format!("{rate:9.0}")).concat();
        let costs = cpu.map(|cost| format!("{cost:9.2}")).concat();
        println!("{name:8} {rates} {costs}");
        medians.push((rows[1], cpu[1]));
    }
    for (other, name) in [(1, "insert"), (2, "copy")] {
        println!(
            "edge / {name}: {:.2} of its rows/s, {:.2} of its client CPU",
            medians[0].0 / medians[other].0,
            medians[0].1 / medians[other].1
        );
    }
    println!("least, median, most of {} rounds", rounds.len());
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let events = numbers.next().unwrap_or(1_000_000);
    let count = numbers.next().unwrap_or(3);
    let Some(scene) = Scene::set(events).await else {
        return;
    };
    scene.tell().await;
    let mut rounds = Vec::new();
    for _ in 0..count {
        rounds.push(scene.round().await);
    }
    tell(&rounds);
    drop(scene.server);
}

//! An edge without its sockets: a journal, and a shipper to PostgreSQL.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::database::{self, DatabaseManager, Server};
use cypheron_edge::usage::Config;
use cypheron_edge::usage::client::ClientIp;
use cypheron_edge::usage::event::Ended;
use cypheron_edge::usage::journal::{self, Batch, Journal, Writer};
use cypheron_edge::usage::recorder::{Completion, Decision, Recorder as _, Reservation as _};
use cypheron_edge::usage::refusals::{RefusalCount, Refusals};
use cypheron_edge::usage::report::{PostgresReports, Standing, verify};
use cypheron_edge::usage::shipper::{Shipper, SinkState};
use cypheron_edge::usage::sink::{AuditRow, PostgresSink, SinkError, Stored, UsageSink};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Method;
use tokio::sync::oneshot;
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::server::TestDatabase;

pub(crate) fn usage_config() -> Config {
    Config {
        journal: journal::Config {
            segment_bytes: ByteSize::kib(64),
            max_bytes: Some(ByteSize::mib(64)),
            when_full: journal::WhenFull::Refuse,
            // Only what is synced is deleted.
            sync_interval: Duration::from_millis(10),
        },
        flush_timeout: Duration::from_secs(20),
        ..Config::default()
    }
}

/// Records, and ships what it recorded.
pub(crate) struct Edge {
    writer: Writer,
    clock: Clock,
    acknowledged: Arc<AtomicU64>,
    sink: SinkState,
    shipping: tokio::task::JoinHandle<bool>,
    end: oneshot::Sender<()>,
}

impl Edge {
    /// The clock is the edge's own; the sink goes by the server's.
    pub(crate) fn start(directory: &Path, manager: &DatabaseManager, clock: &Clock) -> Self {
        let (edge, ship) = Self::prepare(directory, manager, clock);
        ship();
        edge
    }

    /// Ships nothing before the second one is called.
    pub(crate) fn prepare(
        directory: &Path,
        manager: &DatabaseManager,
        clock: &Clock,
    ) -> (Self, impl FnOnce() + use<>) {
        let config = usage_config();
        let (journal, mut writers) =
            Journal::open(&config.journal, ClientIp::Full, directory, clock, 1).unwrap();
        let sink = Counting {
            sink: PostgresSink::new(manager, config.retention),
            acknowledged: Arc::default(),
        };
        let acknowledged = Arc::clone(&sink.acknowledged);
        let shipper = Shipper::new(
            journal,
            Refusals::new(1),
            Arc::new(sink),
            clock.clone(),
            &config,
        );
        let (end, ended) = oneshot::channel();
        let sink = shipper.sink_state();
        let (begin, told_to) = oneshot::channel::<()>();
        let shipping = tokio::spawn(async move {
            told_to.await.unwrap();
            shipper.run(ended.map(|_| ())).await
        });
        let edge = Self {
            writer: writers.pop().unwrap(),
            clock: clock.clone(),
            acknowledged,
            sink,
            shipping,
            end,
        };
        (edge, move || begin.send(()).unwrap())
    }

    pub(crate) fn record(&self, events: u64) {
        for _ in 0..events {
            let decision = Decision {
                occurred_at: self.clock.wall(),
                key_id: Uuid::from_u128(7),
                route: "orders",
                method: &Method::GET,
                client: None,
            };
            let reservation = loop {
                match self.writer.admit(&decision) {
                    Ok(reservation) => break reservation,
                    // No faster than small segments are made.
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            reservation.complete(&Completion {
                status: 200,
                ended: Ended::Complete,
                request_bytes: 1,
                response_bytes: 2,
                duration_us: 3,
                upstream_us: 2,
            });
        }
    }

    /// Events that the sink has said to have, with those sent again.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.sink.is_failing()
    }

    /// Ends it; everything has to be stored by then.
    pub(crate) async fn end(self) {
        drop(self.writer);
        self.end.send(()).unwrap();
        assert!(self.shipping.await.unwrap(), "something is left");
    }
}

/// Counts what a sink acknowledges.
struct Counting {
    sink: PostgresSink,
    acknowledged: Arc<AtomicU64>,
}

impl UsageSink for Counting {
    fn store(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Stored, SinkError>> {
        async move {
            let events = batch.events.len() as u64;
            let stored = self.sink.store(batch).await?;
            self.acknowledged.fetch_add(events, Ordering::SeqCst);
            Ok(stored)
        }
        .boxed()
    }

    fn store_refusals(
        &self,
        instance: Uuid,
        refusals: Arc<[RefusalCount]>,
    ) -> BoxFuture<'_, Result<(), SinkError>> {
        self.sink.store_refusals(instance, refusals)
    }

    fn expire(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, SinkError>> {
        self.sink.expire(before, limit)
    }

    fn audit(&self, row: AuditRow) -> BoxFuture<'_, Result<(), SinkError>> {
        self.sink.audit(row)
    }
}

impl TestDatabase {
    /// Both pools over it, by way of another port.
    pub(crate) fn manager_through(&self, port: u16, config: &database::Config) -> DatabaseManager {
        let server = Server {
            port,
            ..self.server()
        };
        DatabaseManager::postgres(&server, config).unwrap()
    }

    /// One number.
    pub(crate) async fn number(&self, sql: &str) -> u64 {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let number: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        drop(client);
        connection.await.unwrap().unwrap();
        u64::try_from(number).unwrap()
    }

    pub(crate) async fn stored(&self) -> u64 {
        self.number("SELECT count(*) FROM usage_events").await
    }

    /// Every recorded event is there, once, in the sums too, and every start of
    /// an edge is accounted for.
    #[expect(clippy::print_stdout, reason = "the counts are to be seen")]
    pub(crate) async fn has_exactly(&self, recorded: u64, data_dir: &Path, what: &str) {
        let stored = self.stored().await;
        let different = self
            .number("SELECT count(DISTINCT event_id) FROM usage_events")
            .await;
        let summed = self
            .number("SELECT sum(requests)::bigint FROM usage_hourly")
            .await;
        println!(
            "{what}: recorded {recorded}, rows {stored}, different events {different}, \
             in the sums {summed}"
        );
        assert_eq!(
            (stored, different, summed),
            (recorded, recorded, recorded),
            "{what}"
        );
        let reports = PostgresReports::new(&self.manager());
        let checks = verify(&reports, data_dir, Timestamp::from_micros(i64::MAX));
        for check in checks.await.unwrap() {
            assert_eq!(check.standing, Standing::Whole, "{what}: {check:?}");
        }
    }
}

/// Polls `condition` until it holds.
#[expect(clippy::disallowed_methods, reason = "it is real time that passes")]
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition().await {
        assert!(Instant::now() < deadline, "it never came to be that {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

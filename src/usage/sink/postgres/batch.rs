//! The statements of one batch.

use std::collections::BTreeSet;
use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::bounds::{Bounds, Reason, Sorted};
use super::copy::copy;
use super::failed::Failed;
use super::query;
use super::rows::{Aside, Rows, integer, time};
use super::sums::Sums;
use super::work::Work;
use crate::clock::{Clock, Timestamp};
use crate::usage::event::UsageEvent;
use crate::usage::journal::{Batch, Decided};
use crate::usage::sink::Stored;

/// The events of a batch that are told by their time: the functions of
/// `db/migrations` know it as well.
const RECENT: Duration = Duration::from_secs(10);

/// Days that have a partition, counted from 1970.
pub(super) type Days = BTreeSet<i32>;

/// How events get into the table: each way takes what the one before refuses,
/// and longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Copied, as if all of them were new.
    Copied,
    /// Inserted where they are not there yet.
    Inserted,
    /// Those that the tables refuse are looked for, and put aside.
    Sifted,
}

/// Stores one batch, and says which days that needed.
#[derive(Debug)]
pub(super) struct StoreBatch<'a> {
    pub(super) batch: &'a Batch,
    pub(super) known: &'a Days,
    pub(super) retention: Duration,
    pub(super) clock: Option<&'a Clock>,
    pub(super) way: Way,
}

impl<'a> StoreBatch<'a> {
    async fn sorted(&self, transaction: &Transaction<'_>) -> Result<Sorted<'a>, Failed> {
        let (now, horizon) = now_and_horizon(transaction, self.clock).await?;
        let bounds = Bounds::new(now, self.retention, horizon);
        Ok(Sorted::new(&self.batch.events, bounds))
    }
}

impl Work for StoreBatch<'_> {
    type Done = (Stored, Days);

    fn subject(&self) -> String {
        self.batch.instance.to_string()
    }

    async fn run(self, transaction: &mut Transaction<'_>) -> Result<(Stored, Days), Failed> {
        let mut sorted = self.sorted(transaction).await?;
        if !sorted.days().is_subset(self.known) {
            // Days may have been dropped just now: from here on none is.
            query(transaction, "SELECT usage_lock_days()", &[]).await?;
            sorted = self.sorted(transaction).await?;
            make_days(transaction, &sorted.days()).await?;
        }
        let days = sorted.days();
        let Sorted { store, mut aside } = sorted;
        let instance = self.batch.instance;
        let sums = match self.way {
            // What is in quarantine is not new, and copying would not notice.
            Way::Copied if !has_quarantined(transaction, instance).await? => Sums::of(&store),
            _ => None,
        };
        let stored = match (self.way, sums) {
            (Way::Sifted, _) => insert_in_parts(transaction, instance, &store, &mut aside).await?,
            (_, None) => insert(transaction, instance, &store).await?,
            (_, Some(sums)) => {
                if !store.is_empty() {
                    copy(transaction, instance, &store).await?;
                }
                sums.store(transaction, instance).await?;
                store.len() as u64
            }
        };
        let quarantined = match &*aside {
            [] => 0,
            aside => quarantine(transaction, instance, aside).await?,
        };
        count_decided(transaction, instance, &self.batch.writers).await?;
        note_last(transaction, instance, &self.batch.events).await?;
        let new = stored + quarantined;
        Ok((Stored { new, quarantined }, days))
    }
}

/// The server's time, unless another is given, and the moment before which
/// days were dropped.
pub(super) async fn now_and_horizon(
    transaction: &Transaction<'_>,
    clock: Option<&Clock>,
) -> Result<(Timestamp, Timestamp), Failed> {
    let rows = query(
        transaction,
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
         (extract(epoch FROM greatest(day, '1970-01-01')) * 1000000)::bigint FROM usage_horizon",
        &[],
    )
    .await?;
    let Some(row) = rows.first() else {
        return Err(Failed::other(
            "PostgreSQL: the row of usage_horizon is gone",
        ));
    };
    let servers = Timestamp::from_micros(row.try_get(0)?);
    let horizon = Timestamp::from_micros(row.try_get(1)?);
    Ok((clock.map_or(servers, Clock::wall), horizon))
}

/// Whether any event of a process was put aside. Only its own batches, which
/// follow one another, repeat an event.
async fn has_quarantined(transaction: &Transaction<'_>, instance: Uuid) -> Result<bool, Failed> {
    let rows = query(
        transaction,
        "SELECT FROM usage_instances WHERE instance = $1 AND quarantined > 0",
        &[&instance],
    )
    .await?;
    Ok(!rows.is_empty())
}

async fn make_days(transaction: &Transaction<'_>, days: &Days) -> Result<(), Failed> {
    let days: Vec<i32> = days.iter().copied().collect();
    query(
        transaction,
        "SELECT usage_make_day(date '1970-01-01' + day) FROM unnest($1::integer[]) AS day",
        &[&days],
    )
    .await?;
    Ok(())
}

/// How many were not there.
async fn insert(
    transaction: &Transaction<'_>,
    instance: Uuid,
    events: &[&UsageEvent],
) -> Result<u64, Failed> {
    let rows = Rows::of(events.iter().copied());
    let parameters = parameters(&instance, &rows);
    count(&query(transaction, include_str!("store.sql"), &parameters).await?)
}

/// Halves what is refused, until single events are: those are put aside. Each
/// part is added to the sums by itself, out of their order: of two edges that do
/// so at once, the server may end one, which does it again.
async fn insert_in_parts<'a>(
    transaction: &mut Transaction<'_>,
    instance: Uuid,
    events: &[&'a UsageEvent],
    aside: &mut Vec<Aside<'a>>,
) -> Result<u64, Failed> {
    let mut stored = 0;
    let mut parts = vec![events];
    while let Some(part) = parts.pop() {
        let savepoint = transaction.savepoint("part").await?;
        match insert(&savepoint, instance, part).await {
            Ok(new) => {
                savepoint.commit().await?;
                stored += new;
            }
            Err(failed) if failed.is_of_the_rows() => {
                savepoint.rollback().await?;
                match part {
                    [] => return Err(failed),
                    [event] => {
                        let event_id = event.event_id;
                        tracing::error!(%event_id, %failed, "a usage event is put into quarantine");
                        aside.push((event, Reason::Unstorable));
                    }
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                }
            }
            Err(failed) => return Err(failed),
        }
    }
    Ok(stored)
}

/// How many were nowhere.
async fn quarantine(
    transaction: &Transaction<'_>,
    instance: Uuid,
    aside: &[Aside<'_>],
) -> Result<u64, Failed> {
    let rows = Rows::of(aside.iter().map(|(event, _)| *event));
    let reasons: Vec<_> = aside.iter().map(|(_, reason)| reason.as_str()).collect();
    let mut parameters = parameters(&instance, &rows);
    parameters.push(&reasons);
    count(&query(transaction, include_str!("quarantine.sql"), &parameters).await?)
}

async fn count_decided(
    transaction: &Transaction<'_>,
    instance: Uuid,
    writers: &[Decided],
) -> Result<(), Failed> {
    let numbers: Vec<_> = writers
        .iter()
        .map(|writer| integer(writer.writer.into()))
        .collect();
    let decided: Vec<_> = writers
        .iter()
        .map(|writer| integer(writer.decided))
        .collect();
    let dropped: Vec<_> = writers
        .iter()
        .map(|writer| integer(writer.dropped))
        .collect();
    query(
        transaction,
        "INSERT INTO usage_writers AS kept (instance, writer, decided, dropped) \
         SELECT $1, writer, decided, dropped \
         FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS given (writer, decided, dropped) \
         ON CONFLICT (instance, writer) DO UPDATE SET \
         decided = greatest(kept.decided, excluded.decided), \
         dropped = greatest(kept.dropped, excluded.dropped)",
        &[&instance, &numbers, &decided, &dropped],
    )
    .await?;
    Ok(())
}

/// So that dropping a day knows which of its events may be sent again. Nearly
/// all are recent and need no id; a long stream that ends among them costs one,
/// and not all events since it began.
///
/// Those that were put aside are told as well: they may have been stored, and be
/// too old by now.
async fn note_last(
    transaction: &Transaction<'_>,
    instance: Uuid,
    events: &[UsageEvent],
) -> Result<(), Failed> {
    let times = || events.iter().map(|event| event.occurred_at);
    let Some((from, until)) = times().min().zip(times().max()) else {
        return Ok(());
    };
    let recent = until.saturating_sub(RECENT);
    let older = events.iter().filter(|event| event.occurred_at < recent);
    let ids: Vec<Uuid> = older.map(|event| event.event_id).collect();
    query(
        transaction,
        "UPDATE usage_instances \
         SET last_from = $2, last_until = $3, last_ids = nullif($4::uuid[], '{}') \
         WHERE instance = $1",
        &[&instance, &time(from), &time(until), &ids],
    )
    .await?;
    Ok(())
}

fn parameters<'a>(instance: &'a Uuid, rows: &'a Rows<'a>) -> Vec<&'a (dyn ToSql + Sync)> {
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![instance];
    parameters.extend(rows.columns());
    parameters
}

fn count(rows: &[tokio_postgres::Row]) -> Result<u64, Failed> {
    let counted: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    Ok(u64::try_from(counted).unwrap_or(0))
}

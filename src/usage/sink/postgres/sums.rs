//! The sums of events that are all new.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use foldhash::fast::RandomState;
use uuid::Uuid;

use super::failed::Failed;
use super::query;
use super::rows::{integer, time};
use crate::clock::Timestamp;
use crate::usage::event::{Ended, Outcome, UsageEvent};

const HOUR: i64 = 3600 * 1_000_000;

/// The sums of one hour, key and route.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    requests: i64,
    refused: i64,
    request_bytes: i64,
    response_bytes: i64,
    duration_us: i64,
    last_at: i64,
}

/// Sums by hour, key and route, and the counts of the process.
#[derive(Debug, Default)]
pub(super) struct Sums<'a> {
    by_hour: HashMap<(i64, Uuid, &'a str), Sum, RandomState>,
    interrupted: i64,
    all: i64,
}

impl<'a> Sums<'a> {
    /// `None` where a sum is more than a `bigint`: the tables keep more.
    pub(super) fn of(events: &[&'a UsageEvent]) -> Option<Self> {
        let mut sums = Self::default();
        for event in events {
            let at = event.occurred_at.as_micros();
            let what = (at.div_euclid(HOUR), event.key_id, &*event.route);
            sums.by_hour.entry(what).or_default().add(event)?;
            sums.interrupted += i64::from(event.ended == Ended::Interrupted);
            sums.all += 1;
        }
        Some(sums)
    }

    pub(super) async fn store(
        &self,
        transaction: &Transaction<'_>,
        instance: Uuid,
    ) -> Result<(), Failed> {
        let mut hours: Vec<DateTime<Utc>> = Vec::with_capacity(self.by_hour.len());
        let (mut keys, mut routes) = (Vec::new(), Vec::new());
        for (hour, key, route) in self.by_hour.keys() {
            hours.push(time(Timestamp::from_micros(hour * HOUR)));
            keys.push(*key);
            routes.push(*route);
        }
        let column = |of: fn(&Sum) -> i64| self.by_hour.values().map(of).collect::<Vec<_>>();
        let last_at: Vec<_> = self
            .by_hour
            .values()
            .map(|sum| time(Timestamp::from_micros(sum.last_at)))
            .collect();
        query(
            transaction,
            include_str!("sums.sql"),
            &[
                &instance,
                &(self.all - self.interrupted),
                &self.interrupted,
                &hours,
                &keys,
                &routes,
                &column(|sum| sum.requests),
                &column(|sum| sum.refused),
                &column(|sum| sum.request_bytes),
                &column(|sum| sum.response_bytes),
                &column(|sum| sum.duration_us),
                &last_at,
            ],
        )
        .await?;
        Ok(())
    }
}

impl Sum {
    fn add(&mut self, event: &UsageEvent) -> Option<()> {
        let add = |to: i64, number: u64| to.checked_add(integer(number));
        self.requests += 1;
        self.refused += i64::from(event.outcome != Outcome::Admitted);
        self.request_bytes = add(self.request_bytes, event.request_bytes)?;
        self.response_bytes = add(self.response_bytes, event.response_bytes)?;
        self.duration_us = add(self.duration_us, event.duration_us)?;
        self.last_at = self.last_at.max(event.occurred_at.as_micros());
        Some(())
    }
}

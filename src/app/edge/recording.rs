//! Where the usage of an edge goes: into its journal, and from there to the sink.

use crate::app::counters;
use crate::app::error::ServeError;
use crate::app::{sink, store};
use crate::clock::Clock;
use crate::config::Config;
use crate::usage::journal::{DataDir, Journal, Writer};
use crate::usage::refusals::Refusals;
use crate::usage::shipper::Shipper;
use crate::usage::totals::UsageSync;

pub(super) struct Recording {
    /// One for each thread that records.
    pub(super) writers: Vec<Writer>,
    pub(super) refusals: Refusals,
    pub(super) shipper: Shipper,
}

impl Recording {
    /// For so many `threads`; begins to tell records their usage, where an edge
    /// is to do that.
    pub(super) async fn open(
        config: &Config,
        clock: &Clock,
        data: &DataDir,
        threads: usize,
    ) -> Result<Self, ServeError> {
        let (journal, writers) = Journal::open(
            &config.usage.journal,
            config.usage.client_ip,
            data.path(),
            clock,
            threads,
        )?;
        tracing::info!(
            instance = %journal.instance(),
            durability = %journal.durability(),
            max_bytes = journal.max_bytes(),
            "the usage journal is open"
        );
        let ledger = sink::served(config, clock).await?;
        if config.counters.write {
            // The one thing of an edge that can write to the key store.
            let sync = UsageSync {
                totals: ledger.totals,
                repository: store::opened(config, clock)?,
                writes_per_second: config.counters.writes_per_second,
            };
            tokio::spawn(counters::keep_telling(sync, config.counters.interval));
        }
        let refusals = Refusals::new(threads);
        let shipper = Shipper::new(
            journal,
            refusals.clone(),
            ledger.sink,
            clock.clone(),
            &config.usage,
        );
        Ok(Self {
            writers,
            refusals,
            shipper,
        })
    }
}

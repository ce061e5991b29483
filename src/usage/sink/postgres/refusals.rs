//! Refusals of nobody in particular.

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::failed::Failed;
use super::query;
use super::rows::{integer, text, time};
use super::work::Work;
use crate::usage::refusals::RefusalCount;

/// A minute is handed out once, whole: the count is what it is, and storing it
/// again changes nothing.
#[derive(Debug)]
pub(super) struct StoreRefusals<'a> {
    pub(super) instance: Uuid,
    pub(super) refusals: &'a [RefusalCount],
}

impl Work for StoreRefusals<'_> {
    type Done = ();

    fn subject(&self) -> String {
        self.instance.to_string()
    }

    async fn run(self, transaction: &mut Transaction<'_>) -> Result<(), Failed> {
        let Self { instance, refusals } = self;
        let what = || refusals.iter().map(|refusal| refusal.what.as_ref());
        let minutes: Vec<_> = refusals.iter().map(|row| time(row.minute)).collect();
        let routes: Vec<_> = what()
            .map(|what| text(what.and_then(|what| what.route.as_deref()).unwrap_or("")))
            .collect();
        let reasons: Vec<_> = what()
            .map(|what| what.map_or("", |what| what.refusal.reason()))
            .collect();
        let clients: Vec<_> = what()
            .map(|what| {
                let client = what.and_then(|what| what.client);
                client.map(|client| client.to_string()).unwrap_or_default()
            })
            .collect();
        let counts: Vec<_> = refusals.iter().map(|row| integer(row.count)).collect();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&instance, &minutes, &routes, &reasons, &clients, &counts];
        query(transaction, include_str!("refusals.sql"), &parameters).await?;
        Ok(())
    }
}

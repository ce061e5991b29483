//! What is done in one transaction.

use std::time::Duration;

use deadpool_postgres::Transaction;

use super::failed::Failed;

/// Statements that take effect together.
pub(super) trait Work: Send {
    type Done: Send;

    /// Names what is changed by one transaction at a time.
    fn subject(&self) -> String;

    /// How long it waits for what others hold; for as long as it may take at
    /// all, when zero.
    fn lock_patience(&self) -> Duration {
        Duration::ZERO
    }

    fn run(
        self,
        transaction: &mut Transaction<'_>,
    ) -> impl Future<Output = Result<Self::Done, Failed>> + Send;
}

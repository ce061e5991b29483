//! What is done in one transaction.

use deadpool_postgres::Transaction;

use super::failed::Failed;

/// Statements that take effect together.
pub(super) trait Work: Send {
    type Done: Send;

    /// Names what is changed by one transaction at a time.
    fn subject(&self) -> String;

    fn run(
        self,
        transaction: &mut Transaction<'_>,
    ) -> impl Future<Output = Result<Self::Done, Failed>> + Send;
}

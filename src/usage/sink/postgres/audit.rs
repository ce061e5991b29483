//! The audit log.

use deadpool_postgres::Transaction;

use super::failed::Failed;
use super::query;
use super::rows::{integer, text, time};
use super::work::Work;
use crate::usage::sink::AuditRow;

#[derive(Debug)]
pub(super) struct Audit(pub(super) AuditRow);

impl Work for Audit {
    type Done = ();

    fn subject(&self) -> String {
        "audit log".to_owned()
    }

    async fn run(self, transaction: &mut Transaction<'_>) -> Result<(), Failed> {
        let Self(row) = self;
        // The same at the same microsecond is the same, sent again.
        query(
            transaction,
            "INSERT INTO audit_log (at, actor, action, key_id, revision, detail) \
             SELECT $1::timestamptz, $2::text, $3::text, $4::uuid, $5::bigint, $6::text \
             WHERE NOT EXISTS (SELECT FROM audit_log \
                 WHERE (at, actor, action, detail) = ($1, $2, $3, $6) \
                 AND (key_id, revision) IS NOT DISTINCT FROM ($4, $5))",
            &[
                &time(row.at),
                &text(&row.actor),
                &text(&row.action),
                &row.key_id,
                &row.revision.map(integer),
                &text(&row.detail),
            ],
        )
        .await?;
        Ok(())
    }
}

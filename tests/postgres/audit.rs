//! The key store compared with an audit log in PostgreSQL.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use cypheron_edge::admin::{Changes, Fault, KeyRef, Operations, SinkAuditLog};
use cypheron_edge::usage::report::PostgresReports;
use cypheron_edge::usage::sink::PostgresSink;

use crate::desk::{Desk, new_key};
use crate::server::database;
use crate::usage_contract::RETENTION;

#[tokio::test]
async fn a_record_behind_the_audit_log_is_found_and_mended() {
    let Some(database) = database().await else {
        return;
    };
    let manager = database.manager();
    let desk = Desk::new();
    let reports = PostgresReports::new(&manager);
    let log = SinkAuditLog::new(
        Arc::new(PostgresSink::new(&manager, RETENTION)),
        Arc::new(reports.clone()),
    );
    let operations = Operations {
        audit: Arc::new(log),
        ..desk.operations()
    };
    let next = || desk.clock.advance(Duration::from_secs(1));
    let changes = Changes {
        rate_limit: NonZeroU32::new(7),
        ..Changes::default()
    };
    let first = operations.create(new_key("a")).await.unwrap().key.id;
    next();
    let second = operations.create(new_key("b")).await.unwrap().key.id;
    desk.by_hand("CREATE TABLE backup AS SELECT * FROM api_keys");
    next();
    let (first, gone) = (KeyRef::Id(first), KeyRef::Id(second));
    operations.update(&first, &changes).await.unwrap();
    next();
    operations.delete(&gone).await.unwrap();
    desk.by_hand(
        "DELETE FROM api_keys; DELETE FROM tombstones; INSERT INTO api_keys SELECT * FROM backup",
    );

    let mut verification = operations.verify(&reports);
    let mut found = Vec::new();
    while let Some(finding) = verification.next().await.unwrap() {
        let write = finding.write.unwrap();
        found.push((finding.fault, finding.found, write.revision, write.action));
    }
    let fault = |fault, action: &str| (fault, Some(1), 2, action.to_owned());
    let expected = [
        fault(Fault::Behind, "update"),
        fault(Fault::Undeleted, "delete"),
    ];
    assert_eq!(found, expected);

    next();
    let updated = operations.update(&first, &changes).await.unwrap();
    assert_eq!(updated.revision, 3);
    next();
    operations.delete(&gone).await.unwrap();
    let mut verification = operations.verify(&reports);
    assert_eq!(verification.next().await, Ok(None));
}

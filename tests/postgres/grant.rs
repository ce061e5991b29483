//! A role that was granted what an edge needs can be an edge, and no more.

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::database::{Config, DatabaseManager, Server};
use cypheron_edge::usage::report::PostgresReports;
use cypheron_edge::usage::sink::PostgresSink;
use tokio_postgres::NoTls;

use crate::server::{TestDatabase, TestServer};
use crate::usage_contract::{self, EIGHT, RETENTION};

/// As an account of Google's is called.
const ROLE: &str = "edge@my-project.iam";

/// A database with the schema, and its URL for the role.
async fn granted() -> Option<(TestServer, TestDatabase)> {
    let server = TestServer::start(&[])?;
    let create = format!("CREATE ROLE \"{ROLE}\" LOGIN PASSWORD 'edge'");
    server.execute("postgres", &create).await;
    let database = server.migrated_database().await;
    let owner = database.manager();
    owner.grant(ROLE).await.unwrap();
    // As every migration ends: what is granted may be granted already.
    owner.grant(ROLE).await.unwrap();
    owner.close().await;
    let url = database
        .url
        .replace("postgres:postgres@", "edge%40my-project.iam:edge@");
    Some((server, TestDatabase { url }))
}

fn manager(database: &TestDatabase) -> DatabaseManager {
    let server = Server::from_url(&database.url).unwrap();
    DatabaseManager::postgres(&server, &Config::default()).unwrap()
}

#[tokio::test]
async fn it_stores_makes_days_drops_them_and_reports() {
    let Some((_server, database)) = granted().await else {
        return;
    };
    let manager = manager(&database);
    manager.ready().await.unwrap();
    let clock = Clock::manual(Timestamp::from_micros(EIGHT));
    let sink = PostgresSink::new(&manager, RETENTION).with_clock(clock.clone());
    let reports = PostgresReports::new(&manager);
    usage_contract::an_event_is_kept_once(&sink, &reports).await;
    usage_contract::an_audit_row_is_taken(&sink, &reports).await;
    usage_contract::counts_of_refusals_can_be_stored_again(&sink, &reports).await;
    usage_contract::what_is_old_goes_and_its_sums_stay(&sink, &reports, &clock).await;
}

#[tokio::test]
async fn it_can_neither_change_the_schema_nor_what_was_audited() {
    let Some((_server, database)) = granted().await else {
        return;
    };
    let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    for forbidden in [
        "DROP TABLE usage_events",
        "ALTER TABLE usage_hourly ADD COLUMN more int",
        "TRUNCATE usage_events",
        "CREATE TABLE mine ()",
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "DELETE FROM _sqlx_migrations",
        "ALTER FUNCTION usage_make_day(date) SECURITY INVOKER",
    ] {
        let refused = client.batch_execute(forbidden).await.unwrap_err();
        let code = refused.code().map(tokio_postgres::error::SqlState::code);
        assert_eq!(code, Some("42501"), "{forbidden}: {refused:?}");
    }
    drop(client);
    connection.await.unwrap().unwrap();
}

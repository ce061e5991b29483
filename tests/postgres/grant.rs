//! A role that was granted what an edge needs can be an edge, and no more.

use std::sync::Arc;

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::database::{Config, DatabaseManager, Server};
use cypheron_edge::usage::report::PostgresReports;
use cypheron_edge::usage::sink::{PostgresSink, UsageSink as _};
use cypheron_edge::usage::totals::PostgresTotals;
use tokio_postgres::NoTls;

use crate::server::{TestDatabase, TestServer, database};
use crate::usage_contract::{self, EIGHT, RETENTION, batch, event};

/// As an account of Google's is called.
const ROLE: &str = "edge@my-project.iam";

/// A database with the schema, and its URL for the role.
async fn granted() -> Option<(TestServer, TestDatabase)> {
    let (server, database) = with_role().await?;
    let owner = database.manager();
    owner.grant(ROLE).await.unwrap();
    // As every migration ends: what is granted may be granted already.
    owner.grant(ROLE).await.unwrap();
    owner.close().await;
    Some((server, as_role(&database)))
}

/// A database with the schema, and a role that was granted nothing.
async fn with_role() -> Option<(TestServer, TestDatabase)> {
    let server = TestServer::start(&[])?;
    let create = format!("CREATE ROLE \"{ROLE}\" LOGIN PASSWORD 'edge'");
    server.execute("postgres", &create).await;
    let database = server.migrated_database().await;
    Some((server, database))
}

fn as_role(database: &TestDatabase) -> TestDatabase {
    let url = database
        .url
        .replace("postgres:postgres@", "edge%40my-project.iam:edge@");
    TestDatabase { url }
}

fn as_owner(database: &TestDatabase) -> TestDatabase {
    let url = database
        .url
        .replace("edge%40my-project.iam:edge@", "postgres:postgres@");
    TestDatabase { url }
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
async fn it_puts_events_aside_and_tells_totals() {
    let Some((_server, database)) = granted().await else {
        return;
    };
    let manager = manager(&database);
    let clock = Clock::manual(Timestamp::from_micros(EIGHT));
    let sink = PostgresSink::new(&manager, RETENTION).with_clock(clock);
    let mut ahead = event(1000, 1000);
    ahead.occurred_at = Timestamp::from_micros(i64::MAX);
    let given = batch(9, vec![ahead], 1);
    for (new, quarantined) in [(1, 1), (0, 0)] {
        let stored = sink.store(Arc::clone(&given)).await.unwrap();
        assert_eq!((stored.new, stored.quarantined), (new, quarantined));
    }
    let totals = PostgresTotals::new(&manager);
    usage_contract::a_total_is_new_until_its_record_was_told(&sink, &totals).await;
}

#[tokio::test]
async fn it_can_change_neither_the_schema_nor_what_is_not_an_edges_to_change() {
    let Some((_server, database)) = granted().await else {
        return;
    };
    as_owner(&database)
        .execute("CREATE TABLE of_others (); SELECT usage_make_day('2020-01-15')")
        .await;
    is_forbidden(
        &database,
        &[
            "DROP TABLE usage_events",
            "ALTER TABLE usage_hourly ADD COLUMN more int",
            "TRUNCATE usage_events",
            "CREATE TABLE mine ()",
            "ALTER FUNCTION usage_make_day(date) SECURITY INVOKER",
            "UPDATE audit_log SET actor = 'nobody'",
            "DELETE FROM audit_log",
            "DELETE FROM _sqlx_migrations",
            "UPDATE usage_horizon SET day = 'infinity'",
            "UPDATE usage_events SET status = 0",
            "DELETE FROM usage_events",
            "DELETE FROM usage_events_20200115",
            "DELETE FROM usage_hourly",
            "DELETE FROM key_totals",
            "UPDATE usage_quarantine SET status = 0",
            "INSERT INTO usage_dropped VALUES (gen_random_uuid(), now())",
            "SELECT FROM of_others",
            "SELECT usage_keep_last('usage_events_20200115', now())",
        ],
    )
    .await;
}

#[tokio::test]
async fn what_it_was_granted_beyond_that_is_taken_by_the_next_migration() {
    let Some((_server, database)) = granted().await else {
        return;
    };
    let owner = as_owner(&database);
    owner
        .execute(&format!(
            "SELECT usage_make_day('2020-01-15');
            GRANT ALL ON ALL TABLES IN SCHEMA public TO \"{ROLE}\";
            REVOKE ALL ON key_totals FROM \"{ROLE}\""
        ))
        .await;
    owner.manager().migrate().await.unwrap();
    is_forbidden(
        &database,
        &[
            "DELETE FROM usage_events_20200115",
            "DELETE FROM audit_log",
            "UPDATE usage_horizon SET day = 'infinity'",
        ],
    )
    .await;
    database.execute("SELECT FROM key_totals").await;
}

#[tokio::test]
async fn whoever_may_create_functions_beside_those_of_days_is_granted_nothing() {
    let Some((_server, database)) = with_role().await else {
        return;
    };
    let create = "GRANT CREATE ON SCHEMA public TO PUBLIC";
    database.execute(create).await;
    let owner = database.manager();
    let refused = owner.grant(ROLE).await.unwrap_err().to_string();
    assert!(
        refused.contains("REVOKE CREATE ON SCHEMA public"),
        "{refused}"
    );
    is_forbidden(&as_role(&database), &["SELECT FROM usage_events"]).await;
}

/// So that no later migration forgets what `CREATE OR REPLACE` does.
#[tokio::test]
async fn the_functions_of_days_act_as_their_owner_and_are_led_nowhere_else() {
    let Some(database) = database().await else {
        return;
    };
    let functions = "SELECT proname::text, prosecdef, array_to_string(proconfig, ';'), \
        has_function_privilege('public', oid, 'EXECUTE') FROM pg_proc \
        WHERE proname IN ('usage_make_day', 'usage_drop_days') ORDER BY proname";
    let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let found = client.query(functions, &[]).await.unwrap();
    let found: Vec<(String, bool, String, bool)> = found
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let path = "search_path=public, pg_temp".to_owned();
    let safe = |name: &str| (name.to_owned(), true, path.clone(), false);
    assert_eq!(found, ["usage_drop_days", "usage_make_day"].map(safe));
}

/// So that a table that a later migration brings is granted too.
#[tokio::test]
async fn no_table_of_the_schema_is_forgotten() {
    let Some((_server, database)) = granted().await else {
        return;
    };
    let forgotten = "SELECT relname::text FROM pg_class \
        WHERE relkind IN ('r', 'p') AND NOT relispartition \
        AND relnamespace = 'public'::regnamespace AND NOT has_table_privilege(oid, 'SELECT')";
    let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let forgotten = client.query(forgotten, &[]).await.unwrap();
    let forgotten: Vec<String> = forgotten.iter().map(|row| row.get(0)).collect();
    assert_eq!(forgotten, [""; 0]);
}

async fn is_forbidden(database: &TestDatabase, statements: &[&str]) {
    let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    for forbidden in statements {
        let refused = client.batch_execute(forbidden).await.unwrap_err();
        let code = refused.code().map(tokio_postgres::error::SqlState::code);
        assert_eq!(code, Some("42501"), "{forbidden}: {refused:?}");
    }
    drop(client);
    connection.await.unwrap().unwrap();
}

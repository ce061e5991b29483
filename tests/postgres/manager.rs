//! Both pools: limits, causes, passwords.

use std::time::Duration;

use cypheron_edge::database::{Config, DatabaseManager, Server, SslMode};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio_postgres::NoTls;

use crate::server::{TestDatabase, TestServer, database, shared};

#[tokio::test]
async fn both_pools_answer() {
    let Some(database) = database().await else {
        return;
    };
    let manager = database.manager();
    manager.health().await.unwrap();
    let ingest = manager.ingest().await.unwrap();
    let row = ingest.query_one("SELECT 7", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_by_its_cause() {
    let Some(mut server) = TestServer::start(&[]) else {
        return;
    };
    let database = server.migrated_database().await;
    let manager = database.manager();
    manager.health().await.unwrap();
    server.stop();
    let error = manager.health().await.unwrap_err().to_string();
    assert!(error.contains("Connection refused"), "{error}");
    server.restart();
    manager.health().await.unwrap();
}

#[tokio::test]
async fn a_socket_is_connected_to_without_encryption() {
    let Some(server) = shared() else { return };
    let server = Server {
        host: server.directory().display().to_string(),
        port: server.port(),
        ssl_mode: SslMode::Require,
        ..Server::default()
    };
    let manager = DatabaseManager::postgres(&server, &Config::default()).unwrap();
    manager.health().await.unwrap();
    drop(manager.ingest().await.unwrap());
}

#[tokio::test]
async fn the_pools_share_the_limit_and_one_never_takes_the_others_part() {
    let Some(database) = database().await else {
        return;
    };
    let server = Server {
        max_connections: 5,
        ..database.server()
    };
    let config = Config {
        connect_timeout: Duration::from_millis(600),
        ..Config::default()
    };
    let manager = DatabaseManager::postgres(&server, &config).unwrap();
    let (mut queries, mut ingest) = (Vec::new(), Vec::new());
    let refused = loop {
        match manager.queries().await {
            Ok(connection) => queries.push(connection),
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        refused.contains("every connection for queries is in use"),
        "{refused}"
    );
    let refused = loop {
        match manager.ingest().await {
            Ok(connection) => ingest.push(connection),
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        refused.contains("every connection for ingest is in use"),
        "{refused}"
    );
    assert_eq!((queries.len(), ingest.len()), (2, 3));
    assert_eq!(connections(&database).await, 5);
}

#[tokio::test]
async fn connections_that_nobody_needs_are_closed() {
    let Some(database) = database().await else {
        return;
    };
    let config = Config {
        idle_timeout: Duration::from_millis(300),
        ..Config::default()
    };
    let manager = DatabaseManager::postgres(&database.server(), &config).unwrap();
    for _ in 0..2 {
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push((
                manager.queries().await.unwrap(),
                manager.ingest().await.unwrap(),
            ));
        }
        assert_eq!(connections(&database).await, 8);
        drop(held);
        let gone = async {
            while connections(&database).await > 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = manager.keep() => {}
            done = tokio::time::timeout(Duration::from_secs(30), gone) => done.unwrap(),
        }
    }
}

#[tokio::test]
async fn the_pools_are_in_the_metrics() {
    let Some(database) = database().await else {
        return;
    };
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let manager = database.manager();
    let (_held, released) = (
        manager.queries().await.unwrap(),
        manager.ingest().await.unwrap(),
    );
    drop(released);
    // It goes on for ever; its first round is at once.
    let round = tokio::time::timeout(Duration::from_millis(200), manager.keep()).await;
    assert!(round.is_err());
    let text = metrics.render();
    for (pool, state, number) in [
        ("queries", "in_use", 1),
        ("queries", "idle", 0),
        ("ingest", "in_use", 0),
        ("ingest", "idle", 1),
    ] {
        let line = format!(
            "cypheron_edge_database_connections{{pool=\"{pool}\",state=\"{state}\"}} {number}\n"
        );
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}

/// How many connections of ours there are to a database.
async fn connections(database: &TestDatabase) -> i64 {
    let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let counted = client
        .query_one(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'cypheron-edge'",
            &[],
        )
        .await;
    counted.unwrap().get(0)
}

//! Both pools: limits, causes, passwords.

use cypheron_edge::database::{Config, DatabaseManager, Server, SslMode};

use crate::server::{TestServer, database, shared};

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

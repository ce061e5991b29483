//! A role whose password does not stay: as an access token does not.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use cypheron_edge::database::{Config, DatabaseManager, Passwords, Server, Unavailable};
use cypheron_edge::secret::Secret;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::RwLock;

use crate::server::{TestDatabase, database};

/// The password of now; locked while it is being changed.
#[derive(Clone, Debug)]
struct Changing(Arc<RwLock<String>>);

impl Passwords for Changing {
    fn password(&self) -> BoxFuture<'_, Result<Option<Secret<String>>, Unavailable>> {
        async { Ok(Some(Secret::new(self.0.read().await.clone()))) }.boxed()
    }
}

impl Changing {
    async fn change(&self, database: &TestDatabase, to: &str) {
        let mut password = self.0.write().await;
        let sql = format!("ALTER ROLE changing PASSWORD '{to}'");
        database.execute(&sql).await;
        to.clone_into(&mut password);
    }
}

/// The password is another one each second, and every connection is a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_pools_go_on_opening_connections_while_the_password_changes() {
    let Some(database) = database().await else {
        return;
    };
    database
        .execute("CREATE ROLE changing LOGIN PASSWORD 'first'")
        .await;
    let passwords = Changing(Arc::new(RwLock::new("first".to_owned())));
    let server = Server {
        user: "changing".to_owned(),
        ..database.server()
    };
    let manager =
        DatabaseManager::with_passwords(&server, &Config::default(), passwords.clone()).unwrap();

    let opened = Cell::new(0);
    // Under each password, however busy the machine is.
    let some_more = async || {
        let enough = opened.get() + 20;
        while opened.get() < enough {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let changes = async {
        some_more().await;
        for number in 1..=4 {
            passwords
                .change(&database, &format!("number {number}"))
                .await;
            some_more().await;
        }
    };
    let opening = async {
        loop {
            // Taken out of their pools, so that the next ones are new.
            let (queries, ingest) = tokio::join!(manager.queries(), manager.ingest());
            queries.unwrap().detach();
            drop(deadpool_postgres::Object::take(ingest.unwrap()));
            opened.set(opened.get() + 1);
        }
    };
    tokio::select! {
        () = changes => {}
        () = opening => {}
    }
    println!(
        "{} connections of each pool over 4 changes, none refused",
        opened.get()
    );
}

#[tokio::test]
async fn a_password_that_is_wrong_is_said_to_be() {
    let Some(database) = database().await else {
        return;
    };
    let server = Server {
        password: Some(Secret::new("wrong".to_owned())),
        ..database.server()
    };
    let manager = DatabaseManager::postgres(&server, &Config::default()).unwrap();
    let errors = join_all([
        manager.health().boxed(),
        manager.ingest().map(|opened| opened.map(|_| ())).boxed(),
    ]);
    for error in errors.await {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("password authentication failed"), "{error}");
        assert!(!error.contains("wrong"), "{error}");
    }
}

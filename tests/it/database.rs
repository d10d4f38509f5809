//! A PostgreSQL database for one test, on the server that `scripts/test` starts.

use postgres::{Client, NoTls};

/// Dropped with all its sessions at the end.
pub struct Database {
    pub url: String,
    name: String,
    server: String,
}

impl Database {
    /// An empty one.
    pub fn new() -> Database {
        let server = std::env::var("BACKOUT_TEST_PG").expect("start the tests with scripts/test");
        let name = format!("bk_{}", uuid::Uuid::new_v4().simple());
        Client::connect(&server, NoTls).unwrap().batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        Database { url, name, server }
    }

    /// Another client's session.
    pub fn client(&self) -> Client {
        Client::connect(&self.url, NoTls).unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Ok(mut c) = Client::connect(&self.server, NoTls) {
            let _ = c.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

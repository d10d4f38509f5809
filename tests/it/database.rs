//! A PostgreSQL database for one test, on the server that `scripts/with-postgres` starts.
//!
//! An administrator makes it and prepares it; the application and Backout connect as a plain role that owns the tables it
//! makes and nothing else. `BACKOUT_TEST_SUPERUSER=1` lets them be the administrator instead.

use postgres::{Client, NoTls};

/// Dropped at the end, with all its sessions and roles.
pub struct Database {
    pub name: String,
    /// For the application and for Backout.
    pub url: String,
    /// For the administrator.
    pub admin_url: String,
    server: String,
    roles: Vec<String>,
}

impl Database {
    /// An empty one, where our role may make tables and schemas.
    pub fn new() -> Database {
        Database::on(&std::env::var("BACKOUT_TEST_PG").expect("start the tests with scripts/test"))
    }

    /// The same on this server, given as its administrator reaches it.
    pub fn on(server: &str) -> Database {
        let server = server.to_owned();
        let owner = owner();
        let name = format!("bk_{}", uuid::Uuid::new_v4().simple());
        let mut admin = Client::connect(&server, NoTls).unwrap();
        admin.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        admin.batch_execute(&format!("GRANT CREATE ON DATABASE {name} TO {owner}")).unwrap();
        let admin_url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        let url = admin_url.replacen("://postgres:", &format!("://{owner}:"), 1);
        Database { name, url, admin_url, server, roles: Vec::new() }
    }

    /// Another session of the application's.
    pub fn client(&self) -> Client {
        Client::connect(&self.url, NoTls).unwrap()
    }

    /// The administrator's session in this database.
    pub fn admin(&self) -> Client {
        Client::connect(&self.admin_url, NoTls).unwrap()
    }

    /// A role that may connect and no more, and the URL by which it does.
    pub fn role(&mut self, password: &str) -> (String, String) {
        let role = format!("r_{}", uuid::Uuid::new_v4().simple());
        self.admin().batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'")).unwrap();
        self.roles.push(role.clone());
        let host = self.url.split('@').nth(1).unwrap();
        let url = format!("postgres://{role}:{password}@{host}");
        (role, url)
    }
}

/// The name of the role as which the application and Backout connect.
pub fn owner() -> String {
    match std::env::var("BACKOUT_TEST_SUPERUSER").as_deref() {
        Ok("1") => "postgres".into(),
        _ => std::env::var("BACKOUT_TEST_OWNER").expect("start the tests with scripts/test"),
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Ok(mut c) = Client::connect(&self.server, NoTls) {
            let _ = c.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
            for role in &self.roles {
                let _ = c.batch_execute(&format!("DROP ROLE {role}"));
            }
        }
    }
}

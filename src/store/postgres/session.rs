//! Getting a session: the address, what the session must be like, and why there is none.

use std::time::Duration;

use postgres::{Config, NoTls};

use super::{Postgres, code, failed, words};
use crate::gate::Gate;
use crate::store::{Error, Result, Store};

/// Opens the database at `location`, a `postgres://` URL.
///
/// # Errors
/// [`Error::Server`] when it cannot be reached or does not let us in.
pub fn open(location: &str, gate: &Gate) -> Result<Box<dyn Store>> {
    let mut config: Config = location.parse().map_err(|_| Error::Server {
        store: "PostgreSQL".into(),
        cause: "its address cannot be read".into(),
        hint:
            "write postgres://USER:PASSWORD@HOST:PORT/DATABASE; in a password, write %40 for @, %2F for /, %3F for ? \
               and %23 for #; options that only libpq knows are not known here"
                .into(),
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host("localhost");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(10));
    }
    config.application_name("backout");
    Ok(Box::new(Postgres::connect(config, gate.clone())?))
}

fn title_of(config: &Config) -> String {
    use postgres::config::Host;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        #[allow(unreachable_patterns)]
        _ => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or("its default database");
    if port == 5432 {
        format!("PostgreSQL {database} on {host}")
    } else {
        format!("PostgreSQL {database} on {host}:{port}")
    }
}

fn refused_connection(title: &str, e: &postgres::Error) -> Error {
    let hint = match code(e) {
        "28P01" => "the user or the password is wrong",
        "28000" => "the server lets no such user in from here: look at pg_hba.conf, and at the user's name",
        "3D000" => "there is no such database: look at its name, or create it",
        "42501" => "an administrator can GRANT CONNECT ON DATABASE",
        "53300" => "the server has no connection left: close some, or raise max_connections",
        "57P03" => "the server is starting or stopping: try again in a moment",
        _ => {
            "is the server running, and are host and port right? (TLS is not spoken yet: sslmode=require will not work)"
        }
    };
    Error::Server { store: title.to_owned(), cause: words(e), hint: hint.into() }
}

impl Postgres {
    pub(super) fn connect(config: Config, gate: Gate) -> Result<Postgres> {
        let title = title_of(&config);
        let mut client = config.connect(NoTls).map_err(|e| refused_connection(&title, &e))?;
        let setup = "SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET DateStyle = 'ISO, YMD'; \
            SET IntervalStyle = 'postgres'; SET lc_monetary = 'C'; SET xmloption = 'content'; SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; \
            SET statement_timeout = 0; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '10min'; \
            SET row_security = off; SET synchronize_seqscans = off; SET max_parallel_workers_per_gather = 0; \
            SET jit = off; SET client_min_messages = warning; \
            SELECT set_config('synchronous_commit', 'on', false) \
                WHERE current_setting('synchronous_commit') IN ('off', 'local')";
        client.batch_execute(setup).map_err(|e| failed(&title, "setting the session up", &e))?;
        let line = client
            .query_one("SELECT current_schema()::text, current_setting('server_version_num')::int4", &[])
            .map_err(|e| failed(&title, "asking for the schema", &e))?;
        let Some(home) = line.get::<_, Option<String>>(0) else {
            return Err(Error::Refused {
                store: title,
                cause: "no schema of the search_path exists".into(),
                hint: "set one: ALTER ROLE … SET search_path = …".into(),
            });
        };
        Ok(Postgres { client, config, gate, title, home, version: line.get(1), open: None, locked: false })
    }
}

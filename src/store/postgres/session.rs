//! Getting a session: the address, what the session must be like, and why there is none.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::{Postgres, code, failed, list, words};
use crate::gate::Gate;
use crate::store::{Error, Result, Store};

/// Addresses at which no pooler stands.
static DIRECT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Opens the database at `location`, a `postgres://` URL.
///
/// # Errors
/// [`Error::Server`] when it cannot be reached or does not let us in.
pub fn open(location: &str, gate: &Gate) -> Result<Box<dyn Store>> {
    let config = configured(location)?;
    let (title, mut client) = (title_of(&config), connect(&config)?);
    // asked once by each program: a command opens its stores several times, `watch` for days
    if !DIRECT.lock().is_ok_and(|known| known.contains(location)) {
        refuse_pooler(&mut client, &config, &title)?;
        if let Ok(mut known) = DIRECT.lock() {
            known.insert(location.to_owned());
        }
    }
    Ok(Box::new(Postgres::set_up(client, config, gate.clone())?))
}

/// How the server at a `postgres://` URL is reached.
pub(crate) fn configured(location: &str) -> Result<Config> {
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
    Ok(config)
}

/// Connects in a thread of its own: the driver's limit is for reaching the host, and a server that accepts and then says nothing
/// would hold us up for ever.
pub(crate) fn connect(config: &Config) -> Result<Client> {
    let limit = config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(10));
    let (tell, told) = std::sync::mpsc::channel();
    let asked = config.clone();
    std::thread::spawn(move || drop(tell.send(asked.connect(NoTls))));
    let title = title_of(config);
    match told.recv_timeout(limit + Duration::from_millis(500)) {
        Ok(client) => client.map_err(|e| refused_connection(&title, &e)),
        Err(_) => Err(Error::Server {
            store: title,
            cause: format!("it did not answer within {} s", limit.as_secs()),
            hint: "is the server running, or does something on the way drop what we send?".into(),
        }),
    }
}

pub(crate) fn title_of(config: &Config) -> String {
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
    let cause = words(e);
    let hint = match code(e) {
        "28P01" => "the user or the password is wrong",
        "28000" => "the server lets no such user in from here: look at pg_hba.conf, and at the user's name",
        "3D000" => "there is no such database: look at its name, or create it",
        "42501" => "an administrator can GRANT CONNECT ON DATABASE",
        "53300" => "the server has no connection left: close some, or raise max_connections or the role's own limit",
        "57P03" => "the server is starting or stopping: try again in a moment",
        "" if cause.contains("password missing") => {
            "the server asks for a password: write it into the address, or ${VARIABLE} and the whole address into .env"
        }
        _ => {
            "is the server running, and are host and port right? (TLS is not spoken yet: sslmode=require will not work)"
        }
    };
    Error::Server { store: title.to_owned(), cause, hint: hint.into() }
}

/// What every session of ours is like, whatever the role, the database or the server has set for others. Timeouts come first:
/// a short one would end the rest.
const SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '10min'; \
    SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; \
    SET default_transaction_deferrable = off; SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; \
    SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 3; \
    SET lc_monetary = 'C'; SET xmloption = 'content'; \
    SET bytea_output = 'hex'; SET array_nulls = on; SET transform_null_equals = off; SET quote_all_identifiers = off; \
    SET row_security = off; SET synchronize_seqscans = off; SET max_parallel_workers_per_gather = 0; \
    SET jit = off; SET client_min_messages = warning; \
    SELECT set_config('synchronous_commit', 'on', false) \
        WHERE current_setting('synchronous_commit') IN ('off', 'local'); \
    SELECT set_config('session_replication_role', 'origin', false) \
        WHERE current_setting('session_replication_role') <> 'origin';";

/// The schemas of the search_path, ours to make tables in first. `pg_catalog` is left out, so that it comes before all of them and
/// nothing that stands in front of the server's functions and operators is taken for them.
const SCHEMAS: &str = "SELECT ARRAY(SELECT s::text FROM unnest(current_schemas(false)) WITH ORDINALITY u(s, n) \
    WHERE s NOT IN ('pg_catalog', 'information_schema') AND s NOT LIKE 'pg\\_%' ORDER BY n), \
    current_setting('search_path')";

impl Postgres {
    /// Another session like this one.
    pub(super) fn another(&self) -> Result<Postgres> {
        let mut other = Postgres::set_up(connect(&self.config)?, self.config.clone(), self.gate.clone())?;
        (other.home, other.side) = (self.home.clone(), self.side.clone());
        Ok(other)
    }

    pub(super) fn set_up(mut client: Client, config: Config, gate: Gate) -> Result<Postgres> {
        let title = title_of(&config);
        let set = |client: &mut Client, sql: &str| {
            client.batch_execute(sql).map_err(|e| failed(&title, "setting the session up", &e))
        };
        set(&mut client, SETTINGS)?;
        let asked = client.query_one("SELECT current_setting('server_version_num')::int4", &[]);
        let version: i32 = asked.map_err(|e| failed(&title, "asking for the version", &e))?.get(0);
        if version < 130_000 {
            return Err(Error::Refused {
                store: title,
                cause: format!("it is PostgreSQL {}, and 13 is the oldest that works", version / 10_000),
                hint: "upgrade the server first".into(),
            });
        }
        if version >= 140_000 {
            set(&mut client, "SET idle_session_timeout = 0")?;
        }
        if version >= 170_000 {
            set(&mut client, "SET transaction_timeout = 0")?;
        }
        let asked = client.query_one(SCHEMAS, &[]).map_err(|e| failed(&title, "asking for the schema", &e))?;
        let (schemas, path): (Vec<String>, String) = (asked.get(0), asked.get(1));
        let Some(home) = schemas.first().cloned() else {
            return Err(Error::Refused {
                store: title,
                cause: format!("no schema of the search_path ({path}) is there for us"),
                hint: "create it, grant USAGE on it, or set another: ALTER ROLE … SET search_path = …".into(),
            });
        };
        set(&mut client, &format!("SET search_path = {}", list(&schemas)))?;
        Ok(Postgres {
            client,
            config,
            gate,
            title,
            base: home.clone(),
            home,
            side: None,
            version,
            open: None,
            locked: false,
            log_limit: u64::MAX,
            asked: std::collections::HashMap::new(),
        })
    }
}

/// Refuses a pooler that gives each transaction, or each statement, whatever session is free: locks, leases and settings of
/// a session mean nothing there, and ours would stay behind for the application. Asked before anything is set.
fn refuse_pooler(one: &mut Client, config: &Config, title: &str) -> Result<()> {
    let pooled = |cause: &str| {
        Error::Refused {
        store: title.to_owned(),
        cause: format!("a pooler stands before it that {cause}"),
        hint: "give Backout a direct URL to the server, or one of a pool in session mode; the application may go on using \
               the pooler"
            .into(),
    }
    };
    let mut other = connect(config)?;
    // In a pool, either both are given the same session, or, while the other one has it, this one is given another.
    for _ in 0..2 {
        let mut seen = vec![session(one, title)?, session(one, title)?];
        if let Err(e) = other.batch_execute("BEGIN") {
            return Err(match code(&e) {
                "08P01" | "" => pooled("allows no transactions (pool_mode = statement)"),
                _ => failed(title, "looking for a pooler", &e),
            });
        }
        let held = session(&mut other, title)?;
        seen.push(session(one, title)?);
        let _ = other.batch_execute("ROLLBACK");
        if seen.iter().any(|s| *s == held || *s != seen[0]) {
            return Err(pooled("gives each transaction another session (pool_mode = transaction)"));
        }
    }
    Ok(())
}

/// Which session of the server this is. Nothing that the next one would find, such as a prepared statement, is left in it.
fn session(client: &mut Client, title: &str) -> Result<String> {
    let asked = client.simple_query("SELECT pg_catalog.pg_backend_pid()");
    let messages = asked.map_err(|e| failed(title, "looking for a pooler", &e))?;
    let row = messages.iter().find_map(|m| if let SimpleQueryMessage::Row(r) = m { r.get(0) } else { None });
    Ok(row.unwrap_or_default().to_owned())
}

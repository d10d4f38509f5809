//! A writer's connection to one side.

use std::io::Write as _;
use std::time::Duration;

use postgres::Client;
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::House;
use super::ledger::{COLUMNS, Rows, Step, Write};
use crate::room::Kind;

/// How a write ended that was not acknowledged.
#[derive(Debug)]
pub enum Told {
    /// Nothing was written.
    Refused,
    /// The application gave it up.
    RolledBack,
    /// The answer to COMMIT is lost.
    Maybe,
}

enum Link {
    Json,
    Sqlite(Connection),
    Postgres(Client),
}

pub struct Session {
    side: usize,
    link: Link,
}

impl Session {
    /// The session if it is on that side, else a new one there.
    pub fn follow<'s>(session: &'s mut Option<Session>, house: &House, side: usize) -> Result<&'s mut Session, Told> {
        if session.as_ref().is_none_or(|s| s.side != side) {
            let link = match house.kind(side) {
                Kind::Json => Link::Json,
                Kind::Sqlite => {
                    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
                    let conn = Connection::open_with_flags(house.path(side), flags).map_err(|_| Told::Refused)?;
                    conn.busy_timeout(Duration::from_secs(5)).map_err(|_| Told::Refused)?;
                    conn.execute_batch("PRAGMA foreign_keys = ON").map_err(|_| Told::Refused)?;
                    Link::Sqlite(conn)
                }
                Kind::Postgres => Link::Postgres(house.databases[side].as_ref().unwrap().client()),
            };
            *session = Some(Session { side, link });
        }
        Ok(session.as_mut().unwrap())
    }

    /// One transaction.
    pub fn write(&mut self, house: &House, write: &Write, before: &Rows) -> Result<(), Told> {
        let wait = |ms: &u64| std::thread::sleep(Duration::from_millis(*ms));
        match &mut self.link {
            Link::Json => in_json(house, write, before),
            Link::Sqlite(conn) => {
                let done = conn.execute_batch("BEGIN").and_then(|()| {
                    write.steps.iter().try_for_each(|step| match step {
                        Step::Sql(sql) => conn.execute_batch(sql),
                        Step::Wait(ms) => {
                            wait(ms);
                            Ok(())
                        }
                        Step::Copy(..) => unreachable!("SQLite has no COPY"),
                    })
                });
                if done.is_ok() && !write.given_up && conn.execute_batch("COMMIT").is_ok() {
                    return Ok(());
                }
                conn.execute_batch("ROLLBACK").ok();
                expected(&done.as_ref().err().map(ToString::to_string));
                Err(if done.is_ok() && write.given_up { Told::RolledBack } else { Told::Refused })
            }
            Link::Postgres(client) => {
                let done = client.batch_execute("BEGIN").and_then(|()| {
                    write.steps.iter().try_for_each(|step| match step {
                        Step::Sql(sql) => client.batch_execute(sql),
                        Step::Wait(ms) => {
                            wait(ms);
                            Ok(())
                        }
                        Step::Copy(table, lines) => {
                            let mut to = client.copy_in(&format!("COPY {table} FROM STDIN"))?;
                            to.write_all(lines.as_bytes()).expect("a COPY takes its lines");
                            to.finish().map(drop)
                        }
                    })
                });
                if done.is_ok() && !write.given_up {
                    return match client.batch_execute("COMMIT") {
                        Ok(()) => Ok(()),
                        Err(e) if e.as_db_error().is_some() => Err(Told::Refused),
                        Err(_) => Err(Told::Maybe),
                    };
                }
                client.batch_execute("ROLLBACK").ok();
                expected(&done.as_ref().err().map(|e| format!("{e:?}")));
                Err(if done.is_ok() { Told::RolledBack } else { Told::Refused })
            }
        }
    }
}

/// What a writer may be told: that the side is sealed, or that it has to wait for too long. Anything else is a mistake.
fn expected(said: &Option<String>) {
    let known = [
        "backout",
        "Backout",
        "locked",
        "no such table",
        "25006",
        "40P01",
        "42P01",
        "closed",
        "55P03",
        "no such function",
    ];
    if let Some(said) = said {
        assert!(known.iter().any(|k| said.contains(k)), "{said}");
    }
}

fn document(house: &House) -> Map<String, Value> {
    serde_json::from_str(&std::fs::read_to_string(house.path(0)).unwrap()).unwrap()
}

/// The one service writes the file, if it runs.
fn in_json(house: &House, write: &Write, before: &Rows) -> Result<(), Told> {
    let _one = house.service.lock().unwrap();
    let busy = house.folder.path().join("busy");
    std::fs::write(&busy, "").unwrap();
    let runs = house.folder.path().join("running").exists() && house.side() == 0;
    let done = match (runs, write.given_up) {
        (false, _) => Err(Told::Refused),
        (_, true) => Err(Told::RolledBack),
        _ => {
            let mut all = document(house);
            for (table, columns) in COLUMNS {
                let Some(rows) = all.get_mut(table) else { continue };
                let gone = before.keys().filter(|k| k.0 == table && !write.after.contains_key(*k)).map(|k| &k.1);
                let put = write.after.iter().filter(|(k, row)| k.0 == table && before.get(*k) != Some(*row));
                let value = |column: &str, text: &Option<String>| match text {
                    None => Value::Null,
                    Some(t) if ["owner", "slot"].contains(&column) => json!(t.parse::<i64>().unwrap()),
                    Some(t) => json!(t),
                };
                let record = |row: &[Option<String>]| -> Map<String, Value> {
                    columns[1..].iter().zip(row).map(|(c, v)| ((*c).to_owned(), value(c, v))).collect()
                };
                match rows {
                    Value::Object(rows) => {
                        gone.for_each(|k| drop(rows.remove(k)));
                        put.for_each(|(k, row)| drop(rows.insert(k.1.clone(), Value::Object(record(row)))));
                    }
                    Value::Array(rows) => {
                        let gone: Vec<i64> = gone.map(|k| k.parse().unwrap()).collect();
                        rows.retain(|r| !gone.contains(&r["id"].as_i64().unwrap()));
                        for (k, row) in put {
                            let id: i64 = k.1.parse().unwrap();
                            let mut new = Map::from_iter([("id".to_owned(), json!(id))]);
                            new.extend(record(row));
                            match rows.iter_mut().find(|r| r["id"] == id) {
                                Some(there) => *there = Value::Object(new),
                                None => rows.push(Value::Object(new)),
                            }
                        }
                    }
                    _ => unreachable!("a collection"),
                }
            }
            let temporary = house.folder.path().join("source.json.app");
            std::fs::write(&temporary, serde_json::to_string_pretty(&all).unwrap()).unwrap();
            std::fs::rename(temporary, house.path(0)).unwrap();
            Ok(())
        }
    };
    std::fs::remove_file(busy).unwrap();
    done
}

/// Makes the source.
pub fn create(house: &House) {
    if house.kind(0) == Kind::Json {
        // a collection without a record says nothing of its members
        let all = json!({
            "accounts": { "w9-0": { "owner": 9, "slot": 0, "note": "first" }, "w9-1": { "owner": 9, "slot": 1, "note": null } },
            "entries": [{ "id": 9_000_000, "account": "w9-0", "memo": "first" }],
            "scratch": [{ "id": 900, "word": "first" }],
        });
        std::fs::write(house.path(0), serde_json::to_string_pretty(&all).unwrap()).unwrap();
        return;
    }
    let sql = "CREATE TABLE accounts (id TEXT PRIMARY KEY, owner INTEGER NOT NULL, slot INTEGER NOT NULL, note TEXT, \
            UNIQUE (owner, slot));
        CREATE TABLE entries (id INTEGER PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE \
            ON UPDATE CASCADE, memo TEXT);
        CREATE INDEX entries_by_account ON entries (account);
        CREATE TABLE peers (id TEXT PRIMARY KEY, peer TEXT NOT NULL REFERENCES peers (id) DEFERRABLE INITIALLY DEFERRED);
        CREATE TABLE scratch (id INTEGER PRIMARY KEY, word TEXT);
        INSERT INTO accounts VALUES ('w9-0', 9, 0, 'first'), ('w9-1', 9, 1, NULL);
        INSERT INTO entries VALUES (9000000, 'w9-0', 'first');
        INSERT INTO scratch VALUES (900, 'first');";
    // PostgreSQL looks at a unique constraint that may be deferred when the statement ends, so that one can exchange values
    let unique = "UNIQUE (owner, slot)";
    let sql = match house.kind(0) {
        Kind::Postgres => sql.replace(unique, &format!("{unique} DEFERRABLE")),
        _ => sql.to_owned(),
    };
    if house.kind(0) == Kind::Sqlite {
        let conn = Connection::open(house.path(0)).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL").unwrap();
        conn.execute_batch(&sql).unwrap();
    } else {
        house.databases[0].as_ref().unwrap().client().batch_execute(&sql).unwrap();
    }
}

/// Every row that is there, but for those of nobody.
pub fn rows(house: &House, side: usize) -> Rows {
    let mut out = Rows::new();
    for (table, columns) in COLUMNS {
        if house.kind(0) == Kind::Json && table == "peers" {
            continue;
        }
        let casts: Vec<String> = columns.iter().map(|c| format!("CAST({c} AS TEXT)")).collect();
        let sql = format!("SELECT {} FROM {table}", casts.join(", "));
        let mut put = |mut row: Vec<Option<String>>| {
            let key = row.remove(0).unwrap();
            let first = key.starts_with("w9") || key == "9000000" || (table == "scratch" && key == "900");
            if !first {
                out.insert((table, key), row);
            }
        };
        match house.kind(side) {
            Kind::Json => {
                let all = document(house);
                let text = |v: &Value| match v {
                    Value::Null => None,
                    Value::String(s) => Some(s.clone()),
                    other => Some(other.to_string()),
                };
                match &all[table] {
                    Value::Object(rows) => rows.iter().for_each(|(k, r)| {
                        put([Some(k.clone())].into_iter().chain(columns[1..].iter().map(|c| text(&r[*c]))).collect());
                    }),
                    Value::Array(rows) => rows.iter().for_each(|r| put(columns.iter().map(|c| text(&r[*c])).collect())),
                    _ => unreachable!("a collection"),
                }
            }
            Kind::Sqlite => {
                let conn = Connection::open(house.path(side)).unwrap();
                conn.busy_timeout(Duration::from_secs(5)).unwrap();
                let mut found = conn.prepare(&sql).unwrap();
                let mut found = found.query([]).unwrap();
                while let Some(r) = found.next().unwrap() {
                    put((0..columns.len()).map(|i| r.get_unwrap(i)).collect());
                }
            }
            Kind::Postgres => {
                let mut client = house.databases[side].as_ref().unwrap().client();
                client
                    .query(&sql, &[])
                    .unwrap()
                    .iter()
                    .for_each(|r| put((0..columns.len()).map(|i| r.get(i)).collect()));
            }
        }
    }
    out
}

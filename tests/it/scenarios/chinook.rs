//! The Chinook sample, eleven tables of a record shop: JSON → SQLite → PostgreSQL and back; SQLite → PostgreSQL and back.

use std::collections::BTreeMap;
use std::io::Write as _;

use rusqlite::Connection;
use serde_json::Value;

use super::{
    Database, Home, edit, ok, pg_rows, quoted, same, same_bytes, sample, sqlite_dump, sqlite_ours, sqlite_rows,
    sqlite_schema,
};

/// Table and key.
const KEYS: [(&str, &[&str]); 11] = [
    ("Genre", &["GenreId"]),
    ("MediaType", &["MediaTypeId"]),
    ("Artist", &["ArtistId"]),
    ("Album", &["AlbumId"]),
    ("Track", &["TrackId"]),
    ("Employee", &["EmployeeId"]),
    ("Customer", &["CustomerId"]),
    ("Invoice", &["InvoiceId"]),
    ("InvoiceLine", &["InvoiceLineId"]),
    ("Playlist", &["PlaylistId"]),
    ("PlaylistTrack", &["PlaylistId", "TrackId"]),
];

fn from_json() -> Home {
    let home = Home::new(&[("files", "json:chinook.json"), ("local", "sqlite:chinook.db")], "");
    home.write("chinook.json", std::fs::read(sample("chinook.json")).unwrap());
    home.migration("20250101000000_to_sqlite", &to_sqlite());
    home
}

fn to_sqlite() -> String {
    let mut text = String::from("[transfer]\nfrom = \"files\"\nto = \"local\"\n");
    for (table, key) in KEYS {
        text.push_str(&format!("[[transfer.table]]\nsource = \"/{table}\"\nkey = {key:?}\ninto = \"{table}\"\n"));
    }
    text
}

type Rows = BTreeMap<String, Vec<BTreeMap<String, Value>>>;

/// The file as any JSON parser reads it, without the order of members.
fn parsed(bytes: &[u8]) -> Rows {
    serde_json::from_slice(bytes).unwrap()
}

/// The SQLite file holds what the JSON file says, and keys where they belong.
fn sqlite_holds(db: &Connection, rows: &Rows) {
    for (table, key) in KEYS {
        let columns: Vec<(String, i64)> = db
            .prepare("SELECT name, pk FROM pragma_table_info(?1)")
            .unwrap()
            .query_map([table], |r| Ok((r.get(0)?, r.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let mut keyed: Vec<_> = columns.iter().filter(|(_, pk)| *pk > 0).collect();
        keyed.sort_by_key(|(_, pk)| *pk);
        let unique: Vec<String> = db
            .prepare("SELECT ii.name FROM pragma_index_list(?1) il, pragma_index_info(il.name) ii WHERE il.\"unique\" ORDER BY ii.seqno")
            .unwrap()
            .query_map([table], |r| r.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let named: Vec<&str> = keyed.iter().map(|(n, _)| n.as_str()).collect();
        assert!(named == key || unique == key, "{table}: key {named:?}, unique {unique:?}");
        let mut expected: Vec<String> = rows[table]
            .iter()
            .map(|r| {
                let value = |(c, _): &(String, i64)| match r.get(c) {
                    None | Some(Value::Null) => "null".to_owned(),
                    Some(Value::Number(n)) if n.is_i64() => format!("int {n}"),
                    Some(Value::Number(n)) => {
                        let f: f64 = n.to_string().parse().unwrap();
                        format!("real {f:?} {:016x}", f.to_bits())
                    }
                    Some(Value::String(s)) => format!("text {}", s.as_bytes().escape_ascii()),
                    other => panic!("{other:?}"),
                };
                columns.iter().map(value).collect::<Vec<_>>().join(" | ")
            })
            .collect();
        expected.sort();
        assert!(sqlite_rows(db, &format!("SELECT * FROM {table}")) == expected, "{table}");
    }
    let check: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(check, "ok");
}

const CHANGES: &str = r#"
    UPDATE Genre SET Name = 'R&B "é" \ 日本 😀' || char(10) WHERE GenreId = 1;
    UPDATE Genre SET GenreId = 1001 WHERE GenreId = 2;
    DELETE FROM Genre WHERE GenreId IN (3, 25);
    INSERT INTO Genre (GenreId, Name) VALUES (26, 'Ska''n''B');
    UPDATE Track SET UnitPrice = 1.5, Composer = Composer || '!' WHERE TrackId = 3;
    UPDATE Employee SET ReportsTo = NULL WHERE EmployeeId = 2;
    UPDATE Customer SET Company = NULL WHERE CustomerId = 1;
    DELETE FROM PlaylistTrack WHERE PlaylistId = 1 AND TrackId = 3389;
    UPDATE PlaylistTrack SET TrackId = 9000 WHERE PlaylistId = 18;
    INSERT INTO PlaylistTrack (PlaylistId, TrackId) VALUES (18, 1);
    INSERT INTO MediaType (MediaTypeId, Name) VALUES (6, 'gone at once');
    DELETE FROM MediaType WHERE MediaTypeId = 6;
    UPDATE Playlist SET PlaylistId = -PlaylistId WHERE PlaylistId IN (5, 6);
    UPDATE Playlist SET PlaylistId = 11 + PlaylistId WHERE PlaylistId IN (-5, -6);
"#;

/// What those changes make of the file's text: nothing else may be different.
fn edited(text: &str) -> String {
    let mut text = text.to_owned();
    edit(
        &mut text,
        "\"GenreId\": 1,\n      \"Name\": \"Rock\"",
        "\"GenreId\": 1,\n      \"Name\": \"R&B \\\"é\\\" \\\\ 日本 😀\\n\"",
    );
    edit(&mut text, "\"GenreId\": 2,\n      \"Name\": \"Jazz\"", "\"GenreId\": 1001,\n      \"Name\": \"Jazz\"");
    edit(&mut text, "    {\n      \"GenreId\": 3,\n      \"Name\": \"Metal\"\n    },\n", "");
    edit(&mut text, "\"GenreId\": 25,\n      \"Name\": \"Opera\"", "\"GenreId\": 26,\n      \"Name\": \"Ska'n'B\"");
    edit(
        &mut text,
        "\"Composer\": \"F. Baltes, S. Kaufman, U. Dirkscneider & W. Hoffman\",\n      \"Milliseconds\": 230619,\n      \"Bytes\": 3990994,\n      \"UnitPrice\": 0.99",
        "\"Composer\": \"F. Baltes, S. Kaufman, U. Dirkscneider & W. Hoffman!\",\n      \"Milliseconds\": 230619,\n      \"Bytes\": 3990994,\n      \"UnitPrice\": 1.5",
    );
    edit(
        &mut text,
        "\"Title\": \"Sales Manager\",\n      \"ReportsTo\": 1,",
        "\"Title\": \"Sales Manager\",\n      \"ReportsTo\": null,",
    );
    edit(&mut text, "      \"Company\": \"Embraer - Empresa Brasileira de Aeronáutica S.A.\",\n", "");
    edit(&mut text, "    {\n      \"PlaylistId\": 1,\n      \"TrackId\": 3389\n    },\n", "");
    edit(
        &mut text,
        "\"PlaylistId\": 18,\n      \"TrackId\": 597\n    }",
        "\"PlaylistId\": 18,\n      \"TrackId\": 9000\n    },\n    {\n      \"PlaylistId\": 18,\n      \"TrackId\": 1\n    }",
    );
    // two rows changed places: each keeps its own place in the file, under its new key
    edit(&mut text, "\"PlaylistId\": 5,\n      \"Name\"", "\"PlaylistId\": x,\n      \"Name\"");
    edit(&mut text, "\"PlaylistId\": 6,\n      \"Name\"", "\"PlaylistId\": 5,\n      \"Name\"");
    edit(&mut text, "\"PlaylistId\": x,\n      \"Name\"", "\"PlaylistId\": 6,\n      \"Name\"");
    text
}

#[test]
fn json_to_sqlite_and_back_and_on_to_postgres_and_back() {
    let home = from_json();
    let original = home.text("chinook.json");
    home.up();
    sqlite_holds(&home.sqlite("chinook.db"), &parsed(original.as_bytes()));

    home.sqlite("chinook.db").execute_batch(CHANGES).unwrap();
    let out = home.rollback();
    assert!(out.parked.is_empty() && out.kept.is_some(), "{out:?}");
    let expected = edited(&original);
    same_bytes(&home.read("chinook.json"), expected.as_bytes());
    assert_eq!(home.history("files"), [("20250101000000".to_owned(), "rolled back".to_owned())]);

    // again, beside what was kept of the first time
    home.up();
    let db = home.sqlite("chinook.db");
    sqlite_holds(&db, &parsed(expected.as_bytes()));
    db.execute("INSERT INTO Genre (GenreId, Name) VALUES (27, 'Dub')", []).unwrap();
    home.complete();
    let mut rows = parsed(expected.as_bytes());
    rows.get_mut("Genre").unwrap().push([("GenreId".to_owned(), 27.into()), ("Name".to_owned(), "Dub".into())].into());
    sqlite_holds(&db, &rows);
    drop(db);

    // and on: a second migration takes the tables further
    let server = Database::new();
    home.write(
        "backout.toml",
        format!("[stores]\nfiles = \"json:chinook.json\"\nlocal = \"sqlite:chinook.db\"\nmain = \"{}\"\n", server.url),
    );
    home.migration(
        "20250201000000_to_postgres",
        &format!("[transfer]\nfrom = \"local\"\nto = \"main\"\ntables = {:?}\n", KEYS.map(|(t, _)| t)),
    );
    let db = home.sqlite("chinook.db");
    let (before, schema) = (sqlite_dump(&db), sqlite_schema(&db));
    home.up();
    let mut pg = server.client();
    for (table, rows) in &rows {
        let count: i64 = pg.query_one(&format!("SELECT count(*) FROM {}", quoted(table)), &[]).unwrap().get(0);
        assert_eq!(count, i64::try_from(rows.len()).unwrap(), "{table}");
    }
    pg.batch_execute("UPDATE \"Genre\" SET \"Name\" = 'Dub ☂' WHERE \"GenreId\" = 27; DELETE FROM \"PlaylistTrack\" WHERE \"PlaylistId\" = 18").unwrap();
    home.rollback();
    let mut expected = before;
    let genres = expected.get_mut("Genre").unwrap();
    genres.retain(|r| r != "int 27 | text Dub");
    genres.push(format!("int 27 | text {}", "Dub ☂".as_bytes().escape_ascii()));
    genres.sort();
    expected.get_mut("PlaylistTrack").unwrap().retain(|r| !r.starts_with("int 18 |"));
    same(&sqlite_dump(&db), &expected);
    assert_eq!(sqlite_schema(&db), schema);
    let states = home.list().into_iter().map(|(_, state, applied)| (state, applied)).collect::<Vec<_>>();
    assert_eq!(states, [("completed".to_owned(), true), ("pending".to_owned(), false)]);
}

// ── SQLite → PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────

fn from_sqlite() -> (Home, Database) {
    let server = Database::new();
    let home = Home::new(&[("local", "sqlite:chinook.sqlite"), ("main", &server.url)], "");
    home.write("chinook.sqlite", std::fs::read(sample("chinook.sqlite")).unwrap());
    home.migration("20250101000000_to_postgres", "[transfer]\nfrom = \"local\"\nto = \"main\"\n");
    (home, server)
}

/// Every value of the SQLite file as PostgreSQL is to print it, by declared type.
fn as_postgres(db: &Connection, table: &str) -> Vec<String> {
    let columns: Vec<(String, String)> = db
        .prepare("SELECT name, type FROM pragma_table_info(?1)")
        .unwrap()
        .query_map([table], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let shown: Vec<String> = columns
        .iter()
        .map(|(name, ty)| {
            let name = quoted(name);
            if ty.starts_with("NUMERIC") { format!("printf('%.2f', {name})") } else { format!("ifnull({name}, '∅')") }
        })
        .collect();
    let mut statement = db.prepare(&format!("SELECT {} FROM {}", shown.join(" || ' | ' || "), quoted(table))).unwrap();
    let mut rows: Vec<String> = statement.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    rows.sort();
    rows
}

fn postgres_holds(pg: &mut postgres::Client, db: &Connection) {
    let mut constraints = Vec::new();
    let mut indexes = Vec::new();
    for (table, key) in KEYS {
        let columns = pg_rows(
            pg,
            &format!(
                "SELECT attnum, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = '{}'::regclass AND attnum > 0 ORDER BY attnum",
                quoted(table)
            ),
        );
        let mut declared: Vec<String> = db
            .prepare("SELECT cid + 1, type, \"notnull\" FROM pragma_table_info(?1)")
            .unwrap()
            .query_map([table], |r| {
                let ty: String = r.get(1)?;
                let ty = match ty.as_str() {
                    "INTEGER" => "bigint".to_owned(),
                    "DATETIME" => "timestamp without time zone".to_owned(),
                    t => t.replace("NVARCHAR", "character varying").replace("NUMERIC", "numeric"),
                };
                Ok(format!("{} | {ty} | {}", r.get::<_, i64>(0)?, if r.get(2)? { "t" } else { "f" }))
            })
            .unwrap()
            .map(Result::unwrap)
            .collect();
        declared.sort();
        assert_eq!(columns, declared, "{table}");
        assert!(pg_rows(pg, &format!("SELECT * FROM {}", quoted(table))) == as_postgres(db, table), "rows of {table}");
        constraints
            .push(format!("{table} | PRIMARY KEY ({})", key.iter().map(|k| quoted(k)).collect::<Vec<_>>().join(", ")));
        let keys =
            sqlite_rows(db, &format!("SELECT \"from\", \"table\", \"to\" FROM pragma_foreign_key_list('{table}')"));
        for f in keys {
            let f: Vec<&str> = f.split(" | ").map(|p| p.trim_start_matches("text ")).collect();
            constraints.push(format!(
                "{table} | FOREIGN KEY ({}) REFERENCES {}({})",
                quoted(f[0]),
                quoted(f[1]),
                quoted(f[2])
            ));
        }
        for i in sqlite_rows(
            db,
            &format!(
                "SELECT il.name, ii.name FROM pragma_index_list('{table}') il, pragma_index_info(il.name) ii WHERE il.origin = 'c'"
            ),
        ) {
            let (name, column) = i.split_once(" | ").unwrap();
            let bare = |s: &str| quoted(s.trim_start_matches("text "));
            indexes.push(format!(
                "CREATE INDEX {} ON public.{} USING btree ({})",
                bare(name),
                quoted(table),
                bare(column)
            ));
        }
    }
    constraints.sort();
    indexes.sort();
    let found = pg_rows(
        pg,
        "SELECT c.relname, replace(pg_get_constraintdef(k.oid), ' DEFERRABLE', '') FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
         WHERE k.connamespace = 'public'::regnamespace AND k.contype IN ('p', 'f', 'u') AND k.convalidated",
    );
    assert_eq!(found, constraints);
    let found = pg_rows(
        pg,
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexdef NOT LIKE 'CREATE UNIQUE%'",
    );
    assert_eq!(found, indexes);
}

#[test]
fn sqlite_to_postgres_and_back() {
    let (home, server) = from_sqlite();
    let db = home.sqlite("chinook.sqlite");
    let (before, schema) = (sqlite_dump(&db), sqlite_schema(&db));
    home.up();
    let mut pg = server.client();
    postgres_holds(&mut pg, &db);

    // nothing was written: nothing is different
    home.rollback();
    same(&sqlite_dump(&db), &before);
    assert_eq!(sqlite_schema(&db), schema);
    assert_eq!(sqlite_ours(&db), ["backout_history"], "only the history stays");

    home.up();
    postgres_holds(&mut pg, &db);
    change_postgres(&mut pg);
    let out = home.rollback();
    assert!(out.parked.is_empty(), "{out:?}");

    home.write("expected.db", std::fs::read(sample("chinook.sqlite")).unwrap());
    let expected = Connection::open(home.path("expected.db")).unwrap();
    expected.execute_batch(SAME_IN_SQLITE).unwrap();
    same(&sqlite_dump(&db), &sqlite_dump(&expected));
    assert_eq!(sqlite_schema(&db), schema);
    assert_eq!(sqlite_ours(&db), ["backout_history"]);
    let check: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(check, "ok");
    assert_eq!(sqlite_rows(&db, "PRAGMA foreign_key_check"), [""; 0]);
    assert_eq!(home.history("main").len(), 2);

    // and once more, for good
    home.up();
    postgres_holds(&mut pg, &db);
    home.complete();
    pg.batch_execute("UPDATE \"Genre\" SET \"Name\" = 'free' WHERE \"GenreId\" = 1").unwrap();
    let refused = db.execute("UPDATE Genre SET Name = 'x'", []).unwrap_err();
    assert!(!refused.to_string().is_empty());
    assert_eq!(ok(home.project().status()).map(|s| s.state), None);
}

/// As someone with psql would.
fn change_postgres(pg: &mut postgres::Client) {
    // a line is a message of its own: several statements in one would be one transaction
    let lines = r#"
        INSERT INTO "Artist" VALUES (9001, 'Björk "&" ''Ünï'''), (9002, NULL), (9003, '');
        UPDATE "Artist" SET "Name" = repeat('ß', 120) WHERE "ArtistId" = 2;
        INSERT INTO "Artist" VALUES (3, 'Aerosmith!') ON CONFLICT ("ArtistId") DO UPDATE SET "Name" = excluded."Name";
        INSERT INTO "Artist" VALUES (4, 'not taken') ON CONFLICT DO NOTHING;
        UPDATE "Invoice" SET "Total" = 10, "InvoiceDate" = '2024-02-29 23:59:59' WHERE "InvoiceId" = 1;
        UPDATE "Invoice" SET "Total" = 12345678.90, "BillingState" = NULL WHERE "InvoiceId" = 2;
        BEGIN; SAVEPOINT a; DELETE FROM "InvoiceLine" WHERE "InvoiceId" = 3; ROLLBACK TO a; DELETE FROM "InvoiceLine" WHERE "InvoiceId" = 4; COMMIT;
        UPDATE "PlaylistTrack" SET "PlaylistId" = 2 WHERE "PlaylistId" = 18;
        DELETE FROM "Playlist" WHERE "PlaylistId" = 18;
        INSERT INTO "Playlist" VALUES (18, 'born again');
        UPDATE "Employee" SET "EmployeeId" = 80, "ReportsTo" = NULL WHERE "EmployeeId" = 8;
        UPDATE "Artist" SET "ArtistId" = -"ArtistId" WHERE "ArtistId" = 25;
        BEGIN; INSERT INTO "Genre" VALUES (999, 'never was'); ROLLBACK;
        CREATE TEMP TABLE keep AS SELECT * FROM "InvoiceLine";
        TRUNCATE "InvoiceLine";
        INSERT INTO "InvoiceLine" SELECT * FROM keep WHERE "InvoiceLineId" % 3 <> 0;
        "#;
    lines.lines().for_each(|line| pg.batch_execute(line).unwrap());
    let mut copy = pg.copy_in("COPY \"MediaType\" FROM STDIN").unwrap();
    copy.write_all("6\tcopied in\n7\ttab\\there\n8\t\\N\n".as_bytes()).unwrap();
    copy.finish().unwrap();
}

const SAME_IN_SQLITE: &str = r#"
    INSERT INTO Artist VALUES (9001, 'Björk "&" ''Ünï'''), (9002, NULL), (9003, '');
    UPDATE Artist SET Name = replace(hex(zeroblob(60)), '0', 'ß') WHERE ArtistId = 2;
    UPDATE Artist SET Name = 'Aerosmith!' WHERE ArtistId = 3;
    UPDATE Invoice SET Total = 10, InvoiceDate = '2024-02-29 23:59:59' WHERE InvoiceId = 1;
    UPDATE Invoice SET Total = 12345678.90, BillingState = NULL WHERE InvoiceId = 2;
    DELETE FROM InvoiceLine WHERE InvoiceId = 4;
    UPDATE PlaylistTrack SET PlaylistId = 2 WHERE PlaylistId = 18;
    UPDATE Playlist SET Name = 'born again' WHERE PlaylistId = 18;
    UPDATE Employee SET EmployeeId = 80, ReportsTo = NULL WHERE EmployeeId = 8;
    UPDATE Artist SET ArtistId = -ArtistId WHERE ArtistId = 25;
    DELETE FROM InvoiceLine WHERE InvoiceLineId % 3 = 0;
    INSERT INTO MediaType VALUES (6, 'copied in'), (7, 'tab' || char(9) || 'here'), (8, NULL);
"#;

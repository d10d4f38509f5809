//! Tests of what lint finds, and of what it leaves alone.

use std::path::Path;

use super::file::parse;
use super::lint::{CODES, Finding, lint};
use crate::plan::{Config, Kind};

fn found(text: &str, kind: Kind) -> Vec<Finding> {
    let toml = format!("stores.a = '{}'", if kind == Kind::Postgres { "postgres://h/d" } else { "sqlite:a.db" });
    let config = Config::parse(&toml, Path::new("p/backout.toml"), &|_| None).unwrap();
    lint(&parse(text, Path::new("m/1_x.sql"), &config).unwrap(), kind)
}

/// The codes found in an up, each once.
fn codes(sql: &str, kind: Kind, transaction: bool) -> String {
    let text = format!("-- migrate:up transaction:{transaction}\n{sql}\n-- migrate:down irreversible: a test");
    let mut codes: Vec<_> = found(&text, kind).into_iter().map(|f| f.code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes.join(" ")
}

#[test]
fn each_statement_has_what_is_to_be_said_of_it() {
    let (s, p) = (&[Kind::Sqlite][..], &[Kind::Postgres][..]);
    let both = &[Kind::Sqlite, Kind::Postgres][..];
    for (kinds, sql, wanted) in [
        (both, "CREATE TABLE a (x int); INSERT INTO a VALUES (1)", ""),
        (both, "DROP TABLE a", "C06 D01"),
        (both, "/* x */ drop table if exists \"A b\" -- y", "C06 D01"),
        (both, "CREATE TABLE a (x int); DROP TABLE a", ""),
        (both, "DROP VIEW a; DROP INDEX b", ""),
        (both, "ALTER TABLE a DROP COLUMN b", "C03 D02"),
        (both, "ALTER TABLE a DROP b", "C03 D02"),
        (both, "DELETE FROM a", "D04"),
        (both, "DELETE FROM a WHERE x = 1", ""),
        (both, "DELETE FROM a WHERE x IN (SELECT x FROM b)", ""),
        (both, "DELETE FROM a RETURNING (SELECT 1 WHERE true)", "D04"),
        (both, "UPDATE a SET x = 1", "D05"),
        (both, "UPDATE a SET x = (SELECT 1 WHERE true)", "D05"),
        (both, "UPDATE a SET x = 1 WHERE y = 2", ""),
        (both, "WITH b AS (SELECT 1 WHERE true) UPDATE a SET x = 1", "D05"),
        (both, "WITH b AS (SELECT 1) DELETE FROM a WHERE x = 1", ""),
        (both, "INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET x = 2", ""),
        (both, "ALTER TABLE a ADD COLUMN x int; UPDATE a SET x = 1, x = f(2, 3)", ""),
        (both, "ALTER TABLE a ADD x int; UPDATE a SET x = 1, y = 2", "D05"),
        (both, "CREATE TABLE a (x int); UPDATE a SET x = 1; DELETE FROM a", ""),
        (both, "ALTER TABLE a RENAME TO b", "C01"),
        (both, "ALTER TABLE a RENAME COLUMN x TO y", "C02"),
        (both, "ALTER TABLE a RENAME x TO y", "C02"),
        (both, "CREATE TABLE b (x int); ALTER TABLE b RENAME TO a; ALTER TABLE a RENAME x TO y", ""),
        // a table built anew, in either order
        (both, "CREATE TABLE b (x int); INSERT INTO b SELECT x FROM a; DROP TABLE a; ALTER TABLE b RENAME TO a", ""),
        (both, "ALTER TABLE a RENAME TO b; CREATE TABLE a (x int); INSERT INTO a SELECT x FROM b; DROP TABLE b", ""),
        (both, "CREATE TABLE b (x int); INSERT INTO b SELECT x FROM c; DROP TABLE a; ALTER TABLE b RENAME TO a", "D01"),
        (both, "CREATE TABLE b (x int); INSERT INTO b SELECT x FROM a; DROP TABLE a", "C06"),
        (both, "CREATE TABLE b AS SELECT * FROM a; DROP TABLE a", "C06"),
        (both, "ALTER TABLE a RENAME TO b; DROP TABLE b", "C01 D01"),
        (both, "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; UPDATE b SET x = 1; END", ""),
        (s, "ALTER TABLE a ADD COLUMN x int NOT NULL", "F03"),
        (s, "ALTER TABLE a ADD COLUMN x int NOT NULL DEFAULT NULL", "F03"),
        (s, "ALTER TABLE a ADD x int DEFAULT 1 NOT NULL", ""),
        (s, "ALTER TABLE a ADD x int NOT NULL AS (1)", ""),
        (s, "ALTER TABLE a ADD x int CHECK (x IS NOT NULL)", ""),
        (s, "PRAGMA foreign_keys = OFF", "F02"),
        (s, "PRAGMA main.Foreign_Keys(0)", "F02"),
        (s, "PRAGMA foreign_keys; PRAGMA foreign_key_check(a); PRAGMA user_version = 3", ""),
        (s, "PRAGMA journal_mode = WAL", "F02"),
        (s, "VACUUM", "F01"),
        (s, "CREATE INDEX i ON a (x); REINDEX i", ""),
        (p, "TRUNCATE a, b", "D03"),
        (p, "TRUNCATE TABLE ONLY a CASCADE", "D03"),
        (p, "DROP SCHEMA x CASCADE", "D06"),
        (p, "DROP TABLE a, b.c CASCADE", "C06 D01"),
        (p, "WITH gone AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM gone WHERE true", "D04"),
        (p, "UPDATE ONLY a SET x = b.x FROM b", "D05"),
        (p, "SELECT * FROM a FOR UPDATE", ""),
        (p, "CREATE INDEX ON a (x)", "L01"),
        (p, "CREATE UNIQUE INDEX IF NOT EXISTS i ON ONLY s.a (x)", "L01"),
        (p, "CREATE TABLE s.a (x int); CREATE INDEX i ON s.a (x); CREATE INDEX j ON a (x)", ""),
        (p, "CREATE TABLE s.a (x int); CREATE INDEX i ON t.a (x)", "L01"),
        (p, "CREATE TABLE \"A\" (x int); CREATE INDEX i ON a (x)", "L01"),
        (p, "CREATE INDEX CONCURRENTLY i ON a (x)", "F01"),
        (p, "DROP INDEX CONCURRENTLY i", "F01"),
        (p, "CREATE DATABASE x", "F01"),
        (p, "ALTER TABLE a ADD FOREIGN KEY (x) REFERENCES b", "L02"),
        (p, "ALTER TABLE a ADD CONSTRAINT c FOREIGN KEY (x) REFERENCES b NOT VALID, VALIDATE CONSTRAINT c", ""),
        (p, "ALTER TABLE a ADD CHECK (x > 0)", "L03"),
        (p, "ALTER TABLE a ADD CONSTRAINT \"c d\" CHECK (x > 0) NOT VALID", ""),
        (p, "ALTER TABLE ONLY a ADD CONSTRAINT c UNIQUE (x), ADD PRIMARY KEY (y)", "L07"),
        (p, "ALTER TABLE a ADD CONSTRAINT c PRIMARY KEY USING INDEX i", ""),
        (p, "ALTER TABLE a ADD CONSTRAINT c NOT NULL x", "L04"),
        (p, "ALTER TABLE a DROP CONSTRAINT c, RENAME CONSTRAINT c TO d", ""),
        (p, "ALTER TABLE a ALTER x SET NOT NULL", "C04 L04"),
        (p, "ALTER TABLE a ALTER COLUMN x SET DEFAULT 1, ALTER COLUMN x DROP NOT NULL", ""),
        (p, "ALTER TABLE a ALTER x SET DEFAULT 1; ALTER TABLE a ALTER x SET NOT NULL", "L04"),
        (p, "ALTER TABLE a ALTER x TYPE text USING f(x, 1), DROP y", "C03 C05 D02 L05"),
        (p, "ALTER TABLE IF EXISTS a ALTER COLUMN x SET DATA TYPE text", "C05 L05"),
        (p, "ALTER TABLE a ADD x int NOT NULL", "C04"),
        (p, "ALTER TABLE a ADD x int NOT NULL DEFAULT 1, ADD y timestamptz DEFAULT now()", ""),
        (p, "ALTER TABLE a ADD x uuid DEFAULT gen_random_uuid()", "L06"),
        (p, "ALTER TABLE a ADD x int DEFAULT 1 + pg_catalog.random() * 2 NOT NULL", "L06"),
        (p, "ALTER TABLE a ADD x varchar(10) DEFAULT 'a'::varchar(10)", ""),
        (p, "ALTER TABLE a ADD COLUMN IF NOT EXISTS x bigserial NOT NULL", "L06"),
        (p, "ALTER TABLE a ADD x int GENERATED ALWAYS AS IDENTITY", "L06"),
        (p, "ALTER TABLE a ADD x int GENERATED ALWAYS AS (y + 1) STORED", "L06"),
        (p, "ALTER TABLE a ADD x int UNIQUE", "L07"),
        (p, "ALTER TABLE a ADD x int CHECK (x > 0)", "L03"),
        (p, "ALTER TABLE a ADD x int REFERENCES b", ""),
        (p, "ALTER TABLE a ADD x int DEFAULT 1 REFERENCES b", "L02"),
        (p, "CREATE TABLE a (x int); ALTER TABLE a ADD CHECK (x > 0), ADD UNIQUE (x), ALTER x SET NOT NULL", ""),
        (p, "ALTER TABLE a SET SCHEMA s", "C01"),
        (p, "LOCK TABLE a", "L10"),
        (p, "LOCK a IN ROW EXCLUSIVE MODE", ""),
        (p, "LOCK a IN SHARE ROW EXCLUSIVE MODE", "L10"),
        (p, "REINDEX TABLE a", "L11"),
        (p, "CLUSTER a USING i", "L09"),
        (p, "DO $$ BEGIN DELETE FROM a; END $$; SELECT 'DROP TABLE a'", ""),
    ] {
        for kind in kinds {
            if *kind == Kind::Postgres && sql.starts_with("CREATE TRIGGER") {
                continue;
            }
            assert_eq!(codes(sql, *kind, true), wanted, "{kind:?}: {sql}");
        }
    }
    for (sql, wanted) in [
        ("CREATE INDEX CONCURRENTLY i ON a (x); REINDEX INDEX CONCURRENTLY i; VACUUM a; VACUUM (FULL off) a", ""),
        ("BEGIN; CREATE INDEX CONCURRENTLY i ON a (x); COMMIT", "F01"),
        ("BEGIN; SELECT 1; COMMIT; CREATE INDEX CONCURRENTLY i ON a (x)", ""),
        ("VACUUM FULL a", "L08"),
        ("VACUUM (ANALYZE, FULL) a", "L08"),
    ] {
        assert_eq!(codes(sql, Kind::Postgres, false), wanted, "{sql}");
    }
    assert_eq!(codes("PRAGMA foreign_keys = OFF; VACUUM", Kind::Sqlite, false), "");
}

#[test]
fn a_finding_says_where_and_can_be_silenced_with_a_reason() {
    let text = "-- migrate:up\nALTER TABLE a\n  ADD x int,\n  DROP y;\n-- backout:allow D02 nobody reads z\n\
        -- backout:allow C03 nobody reads z\nALTER TABLE a DROP z;\n-- backout:allow D1 gone\nDROP TABLE b;\n\
        -- migrate:down\nDROP TABLE c;\nCREATE INDEX i ON a (x);\n-- backout:allow X77 y\nSELECT 1;";
    let found = found(text, Kind::Postgres);
    let short: Vec<_> = found.iter().map(|f| (f.code, f.line)).collect();
    assert_eq!(short, [("D02", 4), ("C03", 4), ("D01", 9), ("C06", 9), ("U01", 9), ("L01", 12), ("U01", 14)]);
    assert_eq!(found[0].what, "the column a.y is dropped");
    assert_eq!(found[4].hint, "did you mean `D01`?");
    assert_eq!(found[0].file, Path::new("m/1_x.sql"));
    assert!(found.iter().all(|f| CODES.iter().any(|(code, _)| *code == f.code) && !f.hint.is_empty()));
}

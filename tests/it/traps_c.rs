//! What goes wrong with capturing and replaying changes (TRAPS.md, part C), there and back through whole runs: SQLite → PostgreSQL
//! before the cutover, PostgreSQL → SQLite after it. That both sides agree in the end is what the run itself verifies.

use backout::migrate::RollbackOptions;
use backout::store::Phase;

use super::protocol::{House, Pair};

/// A run with these tables in its source; writes on the source after the copy, writes on the target after the cutover, and back.
fn there_and_back(tables: &str, there: &str, back: &str) -> House {
    let house = House::new(Pair::SqliteToPostgres);
    house.at_source(tables);
    house.until_ready();
    house.at_source(there);
    assert_eq!(house.project().cutover().unwrap().phase, Some(Phase::Soaking));
    house.at_target(back);
    taken_back(house)
}

fn taken_back(house: House) -> House {
    let out = house.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!(out.phase, Some(Phase::RolledBack));
    assert_eq!((out.parked, out.verified.unwrap().differences), (vec![], Vec::<String>::new()));
    house
}

/// What the source has, as text: `1|a`.
fn source(house: &House, sql: &str) -> Vec<String> {
    let file = house.file("source.db");
    let mut s = file.prepare(sql).unwrap();
    let n = s.column_count();
    let shown = |r: &rusqlite::Row<'_>| {
        let one = |i| match r.get_ref(i).unwrap() {
            rusqlite::types::ValueRef::Null => "null".to_owned(),
            rusqlite::types::ValueRef::Integer(n) => n.to_string(),
            rusqlite::types::ValueRef::Real(n) => n.to_string(),
            rusqlite::types::ValueRef::Text(t) | rusqlite::types::ValueRef::Blob(t) => {
                String::from_utf8_lossy(t).into_owned()
            }
        };
        Ok((0..n).map(one).collect::<Vec<_>>().join("|"))
    };
    s.query_map([], shown).unwrap().map(Result::unwrap).collect()
}

fn things(house: &House) -> Vec<String> {
    source(house, "SELECT id, word FROM things ORDER BY id")
}

#[test]
fn c01_copy_merge_and_on_conflict_are_carried() {
    let house = House::new(Pair::SqliteToPostgres);
    house.until_ready();
    house.at_source("INSERT INTO things (id, word) VALUES (1, 'uno'), (6, 'six') ON CONFLICT (id) DO UPDATE SET word = excluded.word");
    house.project().cutover().unwrap();
    let mut app = house.server();
    let mut copy = app.copy_in("COPY things (id, word) FROM STDIN").unwrap();
    std::io::Write::write_all(&mut copy, b"30\tcopied\n").unwrap();
    copy.finish().unwrap();
    house.at_target(
        "INSERT INTO things (id, word) VALUES (2, 'zwei'), (40, 'new') ON CONFLICT (id) DO UPDATE SET word = excluded.word;
         INSERT INTO things (id, word) VALUES (3, 'x') ON CONFLICT DO NOTHING;
         MERGE INTO things t USING (VALUES (4, 'm'), (5, 'm'), (50, 'm')) n(id, word) ON t.id = n.id
         WHEN MATCHED AND n.id = 4 THEN DELETE WHEN MATCHED THEN UPDATE SET word = n.word WHEN NOT MATCHED THEN INSERT (id, word) VALUES (n.id, n.word)",
    );
    let house = taken_back(house);
    assert_eq!(things(&house), ["1|uno", "2|zwei", "3|three", "5|m", "6|six", "30|copied", "40|new", "50|m"]);
}

#[test]
fn c02_truncate_is_carried_and_what_comes_after_it_is_new() {
    let house = there_and_back("", "DELETE FROM things", "INSERT INTO things (id, word) VALUES (1, 'again')");
    assert_eq!(things(&house), ["1|again"]);
    let house = there_and_back(
        "",
        "",
        "UPDATE things SET word = 'x'; BEGIN; TRUNCATE things; ROLLBACK; TRUNCATE things; INSERT INTO things (id, word) VALUES (2, 'b'), (9, 'i')",
    );
    assert_eq!(things(&house), ["2|b", "9|i"]);
}

#[test]
fn c03_writers_in_the_replica_role_are_seen() {
    let house = House::new(Pair::SqliteToPostgres);
    house.until_ready();
    house.project().cutover().unwrap();
    let sql = "SET session_replication_role = replica; UPDATE things SET word = 'r' WHERE id = 1; DELETE FROM things WHERE id = 2";
    house.admin().batch_execute(sql).unwrap();
    let house = taken_back(house);
    assert_eq!(things(&house), ["1|r", "3|three", "4|four", "5|five"]);
}

#[test]
fn c04_what_commits_out_of_order_is_carried() {
    let house = House::new(Pair::SqliteToPostgres);
    house.until_ready();
    house.project().cutover().unwrap();
    let (mut early, mut late) = (house.server(), house.server());
    early.batch_execute("BEGIN; SAVEPOINT a; UPDATE things SET word = 'early' WHERE id = 1; RELEASE a").unwrap();
    late.batch_execute("UPDATE things SET word = 'late' WHERE id = 2").unwrap();
    house.project().shadow().unwrap();
    assert_eq!(things(&house)[..2], ["1|one", "2|late"]);
    early.batch_execute("COMMIT").unwrap();
    house.project().shadow().unwrap();
    assert_eq!(things(&house)[..2], ["1|early", "2|late"]);
    taken_back(house);
}

#[test]
fn c05_both_keys_of_a_key_update_and_set_null() {
    let house = there_and_back(
        "CREATE TABLE pairs (a TEXT, b INTEGER, v TEXT, PRIMARY KEY (a, b)); INSERT INTO pairs VALUES ('x', 1, 'p'), ('x', 2, 'q'), ('y', 1, 'r')",
        "UPDATE pairs SET b = 7, v = NULL WHERE v = 'p'; UPDATE things SET id = id + 10, word = NULL WHERE id < 3",
        "UPDATE pairs SET a = 'z' WHERE v = 'q'; UPDATE pairs SET v = NULL WHERE v = 'r'; UPDATE things SET id = 1 WHERE id = 11; UPDATE things SET word = NULL WHERE id = 5",
    );
    assert_eq!(source(&house, "SELECT a, b, v FROM pairs ORDER BY a, b"), ["x|7|null", "y|1|null", "z|2|q"]);
    assert_eq!(things(&house), ["1|null", "3|three", "4|four", "5|null", "12|null"]);
}

#[test]
fn c06_unique_values_that_swapped_are_replayed() {
    // by way of a third value, and so that rows which stay are in each other's way in both stores
    let house = there_and_back(
        "CREATE TABLE a (id INTEGER PRIMARY KEY, u TEXT UNIQUE); INSERT INTO a VALUES (1, 'p'), (2, 'q'), (3, 'r')",
        "UPDATE a SET u = 't' WHERE id = 1; UPDATE a SET u = 'p' WHERE id = 2; UPDATE a SET u = 'q' WHERE id = 1",
        "UPDATE a SET u = 't' WHERE id = 1; UPDATE a SET u = 'q' WHERE id = 3; UPDATE a SET u = 'r' WHERE id = 2; UPDATE a SET u = 'p' WHERE id = 1",
    );
    assert_eq!(source(&house, "SELECT id, u FROM a ORDER BY id"), ["1|p", "2|r", "3|q"]);
}

#[test]
fn c06_parents_children_and_cycles_are_replayed() {
    let house = there_and_back(
        "CREATE TABLE a (id INTEGER PRIMARY KEY, u TEXT UNIQUE, b INTEGER REFERENCES b (id));
         CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a (id), up INTEGER REFERENCES b (id));
         INSERT INTO a VALUES (1, 'p', NULL), (2, 'q', NULL), (3, 'r', NULL), (5, 's', NULL); INSERT INTO b VALUES (1, 1, NULL), (2, 2, 1), (5, 5, NULL);
         UPDATE a SET b = 1 WHERE id = 1",
        // a parent goes with its child, and a cycle comes
        "DELETE FROM b WHERE id = 5; DELETE FROM a WHERE id = 5;
         INSERT INTO a VALUES (9, 'n', NULL); INSERT INTO b VALUES (9, 9, 9); UPDATE a SET b = 9 WHERE id = 9",
        // a cycle goes, another comes, and a parent goes with its children
        "UPDATE a SET b = NULL WHERE id = 9; DELETE FROM b WHERE id = 9; DELETE FROM a WHERE id = 9;
         INSERT INTO a VALUES (4, 'n', NULL); INSERT INTO b VALUES (4, 4, 4); UPDATE a SET b = 4 WHERE id = 4;
         UPDATE b SET up = NULL WHERE id = 2; DELETE FROM b WHERE id = 2; DELETE FROM a WHERE id = 2",
    );
    assert_eq!(source(&house, "SELECT id, u, b FROM a ORDER BY id"), ["1|p|1", "3|r|null", "4|n|4"]);
    assert_eq!(source(&house, "SELECT id, a, up FROM b ORDER BY id"), ["1|1|null", "4|4|4"]);
}

#[test]
fn c07_numbers_that_are_given_collide_on_neither_side() {
    let house = House::new(Pair::SqliteToPostgres);
    house.until_ready();
    house.at_source("INSERT INTO things (id, word) VALUES (20, 'given'); DELETE FROM things WHERE id = 20");
    house.project().cutover().unwrap();
    let new = |word: &str| -> i64 {
        house.server().query_one("INSERT INTO things (word) VALUES ($1) RETURNING id", &[&word]).unwrap().get(0)
    };
    assert_eq!(new("a"), 21, "20 was given once");
    house.at_target("INSERT INTO things (id, word) OVERRIDING SYSTEM VALUE VALUES (30, 'o')");
    house.at_target("SELECT setval(pg_get_serial_sequence('things', 'id'), 40)");
    assert_eq!(new("b"), 41);
    house.at_target("DELETE FROM things WHERE id = 41");
    let house = taken_back(house);
    house.at_source("INSERT INTO things (word) VALUES ('c')");
    assert_eq!(things(&house)[5..], ["21|a", "30|o", "42|c"]);
}

#[test]
fn c08_replace_with_several_unique_indexes() {
    let tables = "CREATE TABLE users (id INTEGER PRIMARY KEY, mail TEXT UNIQUE, nick TEXT UNIQUE);
        INSERT INTO users VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'c', 'z'), (4, 'd', 'w')";
    let house = there_and_back(
        tables,
        "INSERT OR REPLACE INTO users VALUES (9, 'a', 'y'); UPDATE OR REPLACE users SET nick = 'z' WHERE id = 4; REPLACE INTO users VALUES (9, 'n', 'y')",
        "UPDATE users SET mail = 'nn' WHERE id = 9",
    );
    assert_eq!(source(&house, "SELECT id, mail, nick FROM users ORDER BY id"), ["4|d|z", "9|nn|y"]);
}

#[test]
fn c08_replace_in_a_target_of_sqlite() {
    let house = House::new(Pair::JsonToSqlite);
    house.until_ready();
    house.project().cutover().unwrap();
    house.at_target("CREATE UNIQUE INDEX words ON things (word)");
    house.project().shadow().unwrap();
    house.at_target("INSERT OR REPLACE INTO things (id, word) VALUES (9, 'two'); REPLACE INTO things (id, word) VALUES (1, 'three')");
    let out = house.project().rollback(&RollbackOptions::default()).unwrap();
    assert!(out.verified.unwrap().differences.is_empty());
    assert_eq!(house.source(), [(1, "three".into()), (4, "four".into()), (5, "five".into()), (9, "two".into())]);
}

#[test]
fn c09_keys_with_nul_quotes_and_bytes() {
    let tables = "CREATE TABLE odd (k BLOB PRIMARY KEY, v TEXT); INSERT INTO odd VALUES (x'610062', 'nul'), (x'6100', 'end'), (x'', 'empty'), (x'27', 'quote')";
    let house = there_and_back(
        tables,
        "UPDATE odd SET v = 'nul!' WHERE k = x'610062'; DELETE FROM odd WHERE k = x'6100'; UPDATE odd SET k = x'00' WHERE k = x''",
        "UPDATE odd SET v = 'null' WHERE k = '\\x00'; UPDATE odd SET k = '\\x0000' WHERE k = '\\x610062'; INSERT INTO odd VALUES ('\\x6100', 'again')",
    );
    assert_eq!(
        source(&house, "SELECT hex(k), v FROM odd ORDER BY k"),
        ["00|null", "0000|nul!", "27|quote", "6100|again"]
    );
}

#[test]
fn c10_an_outer_conflict_clause_changes_nothing_of_what_is_noted() {
    let tables = "CREATE TABLE users (id INTEGER PRIMARY KEY, mail TEXT UNIQUE);
        INSERT INTO users VALUES (1, 'a'), (2, 'b'), (3, 'c');
        CREATE TABLE feed (id INTEGER PRIMARY KEY, mail TEXT);
        CREATE TRIGGER fed AFTER INSERT ON feed BEGIN INSERT OR IGNORE INTO users (id, mail) VALUES (NEW.id, NEW.mail); END";
    // the outer REPLACE overrides the trigger's own OR IGNORE: users 1 goes
    let house = there_and_back(
        tables,
        "INSERT OR REPLACE INTO feed VALUES (7, 'a'); INSERT OR IGNORE INTO feed VALUES (8, 'b')",
        "UPDATE users SET mail = 'cc' WHERE id = 3",
    );
    assert_eq!(source(&house, "SELECT id, mail FROM users ORDER BY id"), ["2|b", "3|cc", "7|a"]);
}

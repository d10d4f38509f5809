//! A log that nobody drains (P17).

use super::*;

const SHORT: &str = "[rollback]\nlog_limit = 1000\n";

impl House {
    /// Room for entries in the target's log that is taken.
    fn logged(&self) -> i64 {
        if self.pair == JsonToSqlite {
            let sql = "SELECT count(*) FROM backout_log";
            return self.file("target.db").query_row(sql, [], |r| r.get(0)).unwrap();
        }
        let sql = "SELECT pg_relation_size('backout.log_0') / 80";
        self.server().query_one(sql, &[]).unwrap().get(0)
    }
    /// The application writes so much, in as many transactions.
    fn write_much(&self, times: i64) {
        if self.pair == JsonToSqlite {
            let file = self.file("target.db");
            file.execute_batch("BEGIN").unwrap();
            for n in 0..times {
                // entries that cannot be merged
                let sql = match n % 2 {
                    0 => "DELETE FROM things WHERE id = 1 AND word <> ?1",
                    _ => "INSERT INTO things (id, word) VALUES (1, ?1)",
                };
                file.execute(sql, [format!("w{n}")]).unwrap();
            }
            file.execute_batch("COMMIT").unwrap();
        } else {
            let sql = "DO $$ BEGIN FOR i IN 0..TIMES LOOP UPDATE things SET word = 'w' || i WHERE id = 1; \
                IF i % 100 = 0 THEN COMMIT; END IF; END LOOP; END $$";
            self.at_target(&sql.replace("TIMES", &(times - 1).to_string()));
        }
    }
}

#[test]
fn p17_a_log_that_nobody_drains_ends_at_its_limit_and_says_so() {
    for pair in PAIRS {
        let house = House::with(pair, SHORT);
        house.up();
        assert!(house.project().status().unwrap().unwrap().problems.is_empty());
        house.write_much(3000);
        let full = house.logged();
        // some more than the limit, as room is counted in blocks
        assert!((900..3000).contains(&full), "{pair:?} {full}");
        house.write_much(3000);
        let grown = house.logged() - full;
        assert!(grown < 300, "{pair:?}: it does not grow any more, but by what new sessions try: {grown}");
        if pair != JsonToSqlite {
            // sessions of one write each learn it, too: now and then one takes back what the others wrote
            let count =
                || house.server().query_one("SELECT count(*) FROM backout.log_0", &[]).unwrap().get::<_, i64>(0);
            let before = count();
            for _ in 0..200 {
                house.at_target("UPDATE things SET word = 'w2999' WHERE id = 1");
            }
            let after = count();
            assert!(after < before + 200, "{pair:?}: {before} to {after}");
        }
        house.at_target("DELETE FROM things WHERE id = 4; INSERT INTO things (id, word) VALUES (6, 'six')");
        let told = house.project().status().unwrap().unwrap().problems;
        assert!(told.len() == 1 && told[0].contains("reached its limit"), "{pair:?} {told:?}");
        // what the log does not have is found by comparing both sides
        house.project().shadow().unwrap();
        assert_eq!(house.source(), house.target(), "{pair:?}");
        assert!(house.project().status().unwrap().unwrap().problems.is_empty());
        house.at_target(WRITES_AGAIN);
        rolled_back(&house);
        assert_eq!(house.source(), rows(&[(1, "w2999"), (2, "two"), (5, "fünf"), (6, "six")]), "{pair:?}");
    }
}

#[test]
fn p17_updates_of_the_same_rows_do_not_fill_the_log() {
    let house = House::with(JsonToSqlite, SHORT);
    house.up();
    let file = house.file("target.db");
    file.execute_batch("BEGIN").unwrap();
    for n in 0..30_000 {
        let id = [1, 2, 2, 3][n % 4];
        file.execute("UPDATE things SET word = ?1 WHERE id = ?2", rusqlite::params![format!("w{n}"), id]).unwrap();
        match n {
            // a row of its own under an old key, and one that moves
            7_000 => {
                file.execute_batch("DELETE FROM things WHERE id = 3; INSERT INTO things (id, word) VALUES (3, 'x')")
            }
            9_000 => {
                file.execute_batch("UPDATE things SET id = 77 WHERE id = 4; UPDATE things SET word = 'y' WHERE id = 77")
            }
            _ => Ok(()),
        }
        .unwrap();
    }
    file.execute_batch("COMMIT").unwrap();
    assert!(house.logged() < 1000, "{}", house.logged());
    assert!(house.project().status().unwrap().unwrap().problems.is_empty());
    let before = house.project().status().unwrap().unwrap().source.doubt;
    house.project().shadow().unwrap();
    assert_eq!((house.source(), before), (house.target(), None));
    rolled_back(&house);
}

#[test]
fn p17_updates_of_the_same_rows_do_not_fill_the_log_of_a_server() {
    let house = House::with(SqliteToPostgres, "[rollback]\nlog_limit = 40000\n");
    house.up();
    let mut app = house.server();
    for n in 0..3 {
        // others go on meanwhile: one in a transaction that has seen no merging, one that is never done
        let mut serial = house.server();
        let _ = serial.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM things");
        app.batch_execute(&format!(
            "DO $$ BEGIN FOR i IN 1..20000 LOOP UPDATE things SET word = '{n} ' || i WHERE id = 1 + i % 3; \
             IF i % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$;"
        ))
        .unwrap();
        app.batch_execute(&format!(
            "DELETE FROM things WHERE id = 5; INSERT INTO things (id, word) VALUES (5, 'again {n}')"
        ))
        .unwrap();
        serial.batch_execute("UPDATE things SET word = 'serial' WHERE id = 4; COMMIT").unwrap();
        app.batch_execute("VACUUM backout.log_0").unwrap();
    }
    let kept: i64 = app.query_one("SELECT count(*) FROM backout.log_0", &[]).unwrap().get(0);
    // of 60 000: what came after the last hundred blocks, and a few of each hundred
    assert!(kept < 20_000, "{kept}");
    assert!(house.project().status().unwrap().unwrap().problems.is_empty());
    // an application in the middle of a long transaction has merged what we would forget
    app.batch_execute("BEGIN; DO $$ BEGIN FOR i IN 1..15000 LOOP UPDATE things SET word = 'open ' || i WHERE id = 2; END LOOP; END $$")
        .unwrap();
    house.project().shadow().unwrap();
    assert!(house.source().iter().all(|(_, word)| !word.starts_with("open")));
    app.batch_execute("COMMIT").unwrap();
    house.project().shadow().unwrap();
    assert_eq!(house.source(), house.target());
    rolled_back(&house);
}

const WRITES_AGAIN: &str = "DELETE FROM things WHERE id = 3; UPDATE things SET word = 'fünf' WHERE id = 5";

#[test]
fn p17_a_log_that_fills_up_during_a_drain_is_not_taken_for_a_short_one() {
    for pair in PAIRS {
        let house = House::with(pair, SHORT);
        house.up();
        house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2");
        let script: Script = vec![(
            "receiver: changes",
            act(|| {
                house.write_much(3000);
                house.at_target("DELETE FROM things WHERE id = 4");
            }),
        )];
        house.when(script, |p| p.shadow()).unwrap();
        rolled_back(&house);
        assert_eq!(house.source(), rows(&[(1, "w2999"), (2, "zwei"), (3, "three"), (5, "five")]), "{pair:?}");
    }
}

#[test]
fn p17_a_writer_with_an_older_view_is_not_left_out_when_a_full_log_begins_anew() {
    let house = House::with(SqliteToPostgres, SHORT);
    house.up();
    // he has met the log full, and his snapshot has it full for ever
    let mut app = house.server();
    app.batch_execute(
        "DO $$ BEGIN FOR i IN 0..5000 LOOP UPDATE things SET word = 'w' || i WHERE id = 1; IF i % 100 = 0 THEN COMMIT; END IF; END LOOP; END $$",
    )
    .unwrap();
    app.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap();
    house.project().shadow().unwrap();
    app.batch_execute("UPDATE things SET word = 'late' WHERE id = 2; COMMIT").unwrap();
    rolled_back(&house);
    assert_eq!(house.source()[1].1, "late");
}

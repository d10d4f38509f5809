//! Comparing, repairing, and the fingerprint of the source: what they find, and what they say when they cannot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backout::migrate::{ExtractOptions, RepairOptions, RollbackOptions, Scope, Verified, VerifyOptions};
use rusqlite::Connection;

use crate::scenarios::{Database, Home, ok};

const MOVE: &str = "title = \"Things move\"\n[transfer]\nfrom = \"here\"\nto = \"there\"\n";
const OF_JSON: &str = "[[transfer.table]]\nsource = \"$\"\nkey = \"id\"\ninto = \"things\"\nrequired = [\"word\"]\n";
const REPAIR: RepairOptions = RepairOptions { batch: 2, dry_run: false, force: false };

/// Forty things in a SQLite file, and a PostgreSQL database they go to.
fn to_postgres() -> (Home, Database) {
    let database = Database::new();
    let home = Home::new(&[("here", "sqlite:source.db"), ("there", &database.url)], "");
    home.migration("20250301090000_move", MOVE);
    home.sqlite("source.db")
        .execute_batch(
            "CREATE TABLE things (id INTEGER PRIMARY KEY, word TEXT NOT NULL, n INTEGER DEFAULT 7);
             CREATE INDEX by_word ON things (word);
             CREATE TABLE notes (id TEXT PRIMARY KEY, thing INTEGER REFERENCES things (id), body TEXT);
             WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 40)
                INSERT INTO things (id, word, n) SELECT i, 'word ' || i, i * 10 FROM c;
             INSERT INTO notes VALUES ('a', 1, 'first'), ('b', 2, NULL)",
        )
        .unwrap();
    (home, database)
}

/// Forty things in a JSON file that go to SQLite.
fn to_sqlite() -> Home {
    let home = Home::new(&[("here", "json:source.json"), ("there", "sqlite:target.db")], "");
    home.migration("20250301090000_move", &format!("{MOVE}{OF_JSON}"));
    let all: Vec<String> =
        (1..=40).map(|i| format!("  {{\"id\": {i}, \"word\": \"word {i}\", \"n\": {}.5}}", i * 10)).collect();
    home.write("source.json", format!("[\n{}\n]\n", all.join(",\n")));
    home
}

fn verify(home: &Home, scope: Scope) -> Verified {
    ok(home.project().verify_as(&VerifyOptions { scope, ..VerifyOptions::default() })).verified.unwrap()
}

fn sample(rows: u64, seed: u64) -> Scope {
    Scope::Sample { rows, seed }
}

fn after_rollback(home: &Home) -> Verified {
    ok(home.project().verify_as(&VerifyOptions { rollback: true, ..VerifyOptions::default() })).verified.unwrap()
}

fn verdicts(v: &Verified) -> Vec<(&str, &str)> {
    v.fingerprints.iter().map(|f| (f.table.as_str(), f.verdict)).collect()
}

/// What nobody should be able to do: the resting file is changed behind its seal.
fn behind_the_seal(db: &Connection, sql: &str) {
    let seals: Vec<(String, String)> = db
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'backout%'")
        .unwrap()
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(!seals.is_empty());
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    for (name, _) in &seals {
        db.execute_batch(&format!("DROP TRIGGER \"{name}\"")).unwrap();
    }
    db.execute_batch(sql).unwrap();
    for (_, sql) in &seals {
        db.execute_batch(sql).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// Raised when this goes, whatever made it go.
struct Raised<'f>(&'f AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

// ── how much is compared ───────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn each_scope_finds_what_it_looks_at_and_nothing_else() {
    let (home, _database) = to_postgres();
    home.up();
    let all = [Scope::Quick, sample(1000, 1), Scope::Full, Scope::Deep];
    for scope in all {
        let v = verify(&home, scope);
        assert!(v.agrees() && v.not_compared.is_empty(), "{scope:?} {v:?}");
        assert_eq!(v.rows[..], [("things".to_owned(), 40), ("notes".to_owned(), 2)], "{scope:?}");
    }
    let file = home.sqlite("source.db");
    // a value: no count shows it
    behind_the_seal(&file, "UPDATE things SET word = 'rotten' WHERE id = 17");
    assert!(verify(&home, Scope::Quick).agrees());
    for scope in &all[1..] {
        let v = verify(&home, *scope);
        assert_eq!(v.differences.len(), 1, "{scope:?} {v:?}");
        assert!(v.differences[0].starts_with("things 17: column word"), "{v:?}");
    }
    // a row: even a count shows it
    behind_the_seal(&file, "DELETE FROM notes WHERE id = 'b'");
    let v = verify(&home, Scope::Quick);
    assert_eq!(v.differences, ["notes: 1 rows in the source, 2 in the target"]);
    // a definition: no row shows it, and nobody's seal keeps anyone from it
    file.execute_batch("DROP INDEX by_word").unwrap();
    assert!(verify(&home, Scope::Full).problems.is_empty());
    assert_eq!(verify(&home, Scope::Deep).problems, ["index by_word on things is not as it was"]);
}

#[test]
fn a_sample_with_the_same_seed_looks_at_the_same_rows() {
    let (home, _database) = to_postgres();
    home.up();
    behind_the_seal(&home.sqlite("source.db"), "UPDATE things SET n = n + 1");
    let found: Vec<Vec<String>> =
        [7, 7, 8].into_iter().map(|seed| verify(&home, sample(4, seed)).differences).collect();
    assert_eq!(found[0], found[1]);
    assert_ne!(found[0], found[2]);
    // four of each side, and a few may be the same
    assert!((4..=8).contains(&found[0].len()), "{found:?}");
    let v = verify(&home, sample(4, 7));
    assert_eq!((v.scope, v.seed), ("sample", Some(7)));
    assert_eq!(v.rows[0].1, found[0].len() as u64);
}

#[test]
fn p14_a_busy_application_is_no_difference_in_any_scope() {
    let (home, database) = to_postgres();
    home.up();
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        // a failure ends the writer too
        let ends = Raised(&stop);
        let writer = threads.spawn(|| {
            let mut client = database.client();
            let mut n = 100;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                let sql = format!(
                    "INSERT INTO things (id, word) VALUES ({n}, 'new'); UPDATE things SET id = {n} + 100000 WHERE id = {n} - 3; \
                     DELETE FROM things WHERE id = {n} - 7; UPDATE things SET n = {n} WHERE id < 20"
                );
                client.batch_execute(&sql).unwrap();
            }
            n
        });
        for _ in 0..4 {
            for scope in [Scope::Quick, sample(20, 3), Scope::Full] {
                let v = verify(&home, scope);
                assert!(v.agrees(), "{scope:?} {v:?}");
            }
        }
        drop(ends);
        assert!(writer.join().unwrap() > 120);
    });
}

#[test]
fn a_comparison_without_time_says_what_it_did_not_compare() {
    let (home, _database) = to_postgres();
    home.up();
    let asked = VerifyOptions { timeout: Some(Duration::from_nanos(1)), ..VerifyOptions::default() };
    let v = ok(home.project().verify_as(&asked)).verified.unwrap();
    assert!(v.rows.is_empty() && v.agrees());
    assert_eq!(v.not_compared[..2], ["table things", "table notes"]);
    assert_eq!(v.not_compared.len(), 4, "the stores' own checks too: {v:?}");
    let asked = VerifyOptions { timeout: Some(Duration::from_secs(600)), ..VerifyOptions::default() };
    let v = ok(home.project().verify_as(&asked)).verified.unwrap();
    assert!(v.not_compared.is_empty() && v.rows.len() == 2, "{v:?}");
}

// ── the fingerprint of the source ──────────────────────────────────────────────────────────────────────────────────

const WRITES: &str = "UPDATE things SET word = 'zwei' WHERE id = 2; UPDATE things SET id = 113 WHERE id = 13;
    DELETE FROM things WHERE id = 4; INSERT INTO things (id, word) VALUES (106, 'six')";

#[test]
fn the_fingerprint_holds_through_writes_before_and_after_the_cutover() {
    let (home, database) = to_postgres();
    home.up_until_ready();
    // carried up after the comparison, before the cutover
    home.sqlite("source.db").execute_batch(WRITES).unwrap();
    ok(home.project().shadow());
    home.sqlite("source.db").execute_batch("UPDATE things SET n = 1 WHERE id = 5").unwrap();
    ok(home.project().cutover());
    database.client().batch_execute("UPDATE things SET word = 'drei' WHERE id = 3; DELETE FROM notes").unwrap();
    ok(home.project().shadow());
    database.client().batch_execute("TRUNCATE notes; INSERT INTO notes VALUES ('c', 3, 'x')").unwrap();
    let out = home.rollback();
    let v = out.verified.unwrap();
    assert_eq!(verdicts(&v), [("things", "same"), ("notes", "same")]);
    // days later, with nobody having written
    let v = after_rollback(&home);
    assert_eq!(verdicts(&v), [("things", "same"), ("notes", "same")]);
    assert!(v.agrees(), "{v:?}");
    // and once somebody has, nobody can tell that from damage
    home.sqlite("source.db").execute_batch("INSERT INTO things (word) VALUES ('new')").unwrap();
    let v = after_rollback(&home);
    assert_eq!(verdicts(&v), [("things", "differs"), ("notes", "same")]);
    assert_eq!(v.fingerprints[0].why, "1 more than the 40 that were there");
}

#[test]
fn the_fingerprint_of_a_json_file_holds_and_so_does_its_definition() {
    let home = to_sqlite();
    home.up();
    home.sqlite("target.db").execute_batch(WRITES).unwrap();
    let v = home.rollback().verified.unwrap();
    assert_eq!(verdicts(&v), [("the whole file", "same")]);
    assert!(after_rollback(&home).agrees());
    // a record without a member that the migration requires
    let text = home.text("source.json");
    let at = text.find("\"word\": \"word 20\", ").unwrap();
    home.write("source.json", format!("{}{}", &text[..at], &text[at + 19..]));
    let v = after_rollback(&home);
    assert!(!v.agrees());
    assert!(v.problems.iter().any(|p| p.contains("20") && p.contains("word")), "{v:?}");
}

#[test]
fn damage_to_the_resting_source_is_found_after_the_rollback_without_the_target() {
    let (home, database) = to_postgres();
    home.up();
    database.client().batch_execute(WRITES).unwrap();
    ok(home.project().shadow());
    let file = home.sqlite("source.db");
    behind_the_seal(&file, "UPDATE things SET word = 'rotten' WHERE id = 17");
    // not even asked to compare: the fingerprint stays
    let unverified = backout::migrate::Options { verify: false, ..backout::migrate::Options::default() };
    ok(home.project().with(unverified).rollback(&RollbackOptions::default()));
    let v = after_rollback(&home);
    assert_eq!(verdicts(&v), [("things", "differs"), ("notes", "same")]);
    // a connection that has seen the seal may keep it in mind until it reads something
    let file = home.sqlite("source.db");
    file.execute_batch("UPDATE things SET word = 'word 17' WHERE id = 17").unwrap();
    assert!(after_rollback(&home).agrees());
    file.execute_batch("ALTER TABLE notes ADD COLUMN more TEXT").unwrap();
    assert_eq!(after_rollback(&home).problems[0], "column notes.more was not there");
}

#[test]
fn damage_stops_a_rollback_from_being_called_done() {
    let (home, _database) = to_postgres();
    home.up();
    behind_the_seal(&home.sqlite("source.db"), "UPDATE things SET word = 'rotten' WHERE id = 17");
    let failure = home.project().rollback(&RollbackOptions::default()).unwrap_err();
    assert_eq!(failure.exit, 8, "{failure}");
    assert!(failure.to_string().contains("things 17") && failure.to_string().contains("fingerprint"), "{failure}");
    // the application has gone on meanwhile, on other rows: what it wrote is told apart with the target's help
    home.sqlite("source.db").execute_batch("UPDATE things SET n = 5 WHERE id = 30; DELETE FROM notes").unwrap();
    let v = after_rollback(&home);
    assert_eq!(verdicts(&v), [("things", "differs"), ("notes", "same")]);
    assert_eq!(v.differences.len(), 1, "{v:?}");
    home.sqlite("source.db").execute_batch("UPDATE things SET word = 'word 17' WHERE id = 17").unwrap();
    let v = after_rollback(&home);
    assert_eq!(verdicts(&v), [("things", "same"), ("notes", "same")]);
    assert!(v.agrees(), "{v:?}");
}

#[test]
fn what_was_never_recorded_is_not_made_up() {
    let (home, _database) = to_postgres();
    let refused = |home: &Home| {
        let asked = VerifyOptions { rollback: true, ..VerifyOptions::default() };
        home.project().verify_as(&asked).unwrap_err().to_string()
    };
    assert_eq!(refused(&home), "no migration was rolled back");
    let unverified = || backout::migrate::Options { verify: false, ..backout::migrate::Options::default() };
    ok(home.project().with(unverified()).up(&Default::default()));
    assert!(refused(&home).contains("soaking"));
    ok(home.project().with(unverified()).rollback(&RollbackOptions::default()));
    assert!(refused(&home).contains("nothing was recorded"));
}

// ── repairing ──────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_repair_carries_only_what_differs_and_the_fingerprint_is_taken_anew() {
    let (home, database) = to_postgres();
    home.up();
    let file = home.sqlite("source.db");
    behind_the_seal(&file, "UPDATE things SET word = 'rotten' WHERE id = 17; DELETE FROM things WHERE id = 18");
    database.client().batch_execute("UPDATE things SET n = 3 WHERE id = 3").unwrap();
    let dry = ok(home.project().repair(&RepairOptions { dry_run: true, ..REPAIR }));
    assert_eq!(dry.tables.iter().map(|t| t.differing).collect::<Vec<_>>(), [2, 0]);
    assert_eq!(verify(&home, Scope::Full).differences.len(), 2);
    let out = ok(home.project().repair(&REPAIR));
    let table = &out.tables[0];
    assert_eq!((table.rows, table.differing, table.repaired, table.agreement), (40, 2, 2, 95.0));
    assert!(out.verified.unwrap().agrees());
    let word: String = file.query_row("SELECT word FROM things WHERE id = 17", [], |r| r.get(0)).unwrap();
    assert_eq!(word, "word 17");
    // the bytes of what agreed are not touched, and nothing is left to do
    assert!(ok(home.project().repair(&REPAIR)).tables.iter().all(|t| t.repaired == 0));
    let v = home.rollback().verified.unwrap();
    assert_eq!(verdicts(&v), [("things", "same"), ("notes", "same")]);
}

#[test]
fn p13_before_the_cutover_the_target_is_repaired_from_the_source() {
    let (home, database) = to_postgres();
    home.up_until_ready();
    // as its owner might, past the seal
    let mut client = database.client();
    let names = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'things'::regclass AND NOT tgisinternal";
    let seals: Vec<String> = client.query(names, &[]).unwrap().iter().map(|r| r.get(0)).collect();
    assert!(!seals.is_empty());
    let each =
        |what: &str| seals.iter().map(|s| format!("ALTER TABLE things {what} TRIGGER \"{s}\";")).collect::<String>();
    let sql = "UPDATE things SET n = 0 WHERE id = 9; INSERT INTO things (id, word) VALUES (999, 'stray');";
    client.batch_execute(&format!("BEGIN; {} {sql} {} COMMIT", each("DISABLE"), each("ENABLE ALWAYS"))).unwrap();
    let out = ok(home.project().repair(&RepairOptions { force: true, ..REPAIR }));
    assert_eq!((out.tables[0].differing, out.tables[0].repaired), (2, 2));
    assert!(out.verified.unwrap().agrees());
    ok(home.project().cutover());
    let v = home.rollback().verified.unwrap();
    assert_eq!(verdicts(&v), [("things", "same"), ("notes", "same")]);
}

#[test]
fn below_95_percent_nothing_is_repaired_and_going_back_is_proposed() {
    let (home, _database) = to_postgres();
    home.up();
    behind_the_seal(&home.sqlite("source.db"), "UPDATE things SET word = 'rotten' WHERE id IN (1, 2, 3)");
    let failure = home.project().repair(&REPAIR).unwrap_err();
    assert_eq!(failure.exit, 4);
    assert!(failure.to_string().contains("things 92.5 % (3 of 40 differ)"), "{failure}");
    assert!(failure.hint.contains("backout rollback"), "{}", failure.hint);
    assert_eq!(verify(&home, Scope::Full).differences.len(), 3);
    let out = ok(home.project().repair(&RepairOptions { force: true, ..REPAIR }));
    assert!(out.verified.unwrap().agrees());
    assert_eq!(out.tables[0].repaired, 3);
}

// ── making the source anew ─────────────────────────────────────────────────────────────────────────────────────────

fn extract(home: &Home, to: &str) -> backout::migrate::Extracted {
    ok(home.project().extract(&ExtractOptions { to: to.into(), migration: None }))
}

#[test]
fn a_json_file_is_made_anew_out_of_sqlite_when_it_is_gone() {
    let home = to_sqlite();
    let was: serde_json::Value = serde_json::from_str(&home.text("source.json")).unwrap();
    home.up();
    home.complete();
    std::fs::remove_file(home.path("source.json")).unwrap();
    std::fs::remove_dir_all(home.path("source.json.backout")).unwrap();
    let out = extract(&home, "json:again.json");
    assert_eq!(out.rows, [("the whole file".to_owned(), 40)]);
    let text = home.text("again.json");
    let is: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(is, was);
    assert!(text.starts_with("[\n  {\n    \"id\": 1,\n    \"word\": \"word 1\",\n    \"n\": 10.5\n  },\n"), "{text}");
    assert!(text.ends_with("\n  }\n]\n"));
    assert!(!home.path("again.json.backout").exists(), "nothing of ours is left beside it");
    // never over anything
    let refused =
        home.project().extract(&ExtractOptions { to: "json:again.json".into(), migration: None }).unwrap_err();
    assert_eq!((refused.exit, refused.to_string().contains("is there already")), (4, true));
    assert_eq!(home.text("again.json"), text);
    // by its name in backout.toml, where it was
    extract(&home, "here");
    assert_eq!(home.text("source.json"), text);
}

#[test]
fn a_sqlite_file_is_made_anew_out_of_postgres_with_keys_indexes_and_defaults() {
    let (home, database) = to_postgres();
    let schema = crate::scenarios::sqlite_schema(&home.sqlite("source.db"));
    home.up();
    database.client().batch_execute(WRITES).unwrap();
    ok(home.project().shadow());
    let wanted = crate::scenarios::sqlite_dump(&home.sqlite("source.db"));
    std::fs::remove_file(home.path("source.db")).unwrap();
    let out = extract(&home, "sqlite:again.db");
    assert_eq!(out.rows, [("things".to_owned(), 40), ("notes".to_owned(), 2)]);
    assert!(out.left_out.is_empty() && out.exported.is_none());
    let again = home.sqlite("again.db");
    crate::scenarios::same(&crate::scenarios::sqlite_dump(&again), &wanted);
    let names =
        |schema: &[String]| schema.iter().map(|l| l.split(" | ").nth(1).unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&crate::scenarios::sqlite_schema(&again)), names(&schema));
    assert!(crate::scenarios::sqlite_ours(&again).is_empty());
    again.execute_batch("INSERT INTO things (word) VALUES ('seven')").unwrap();
    let n: i64 = again.query_row("SELECT n FROM things WHERE word = 'seven'", [], |r| r.get(0)).unwrap();
    assert_eq!(n, 7);
}

#[test]
fn rows_that_do_not_map_are_left_out_and_exported_whole() {
    let home = to_sqlite();
    home.up();
    let db = home.sqlite("target.db");
    // text where the file had numbers
    db.execute_batch("UPDATE things SET n = 'not a number' WHERE id = 5").unwrap();
    let out = extract(&home, "json:again.json");
    assert_eq!(out.rows[0].1 + out.left_out.len() as u64, 40, "{out:?}");
    assert_eq!(out.left_out.len(), 1);
    let file = out.exported.unwrap();
    let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((&line["key"]["id"], &line["after"]["n"]), (&5.into(), &"not a number".into()));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_extract_that_is_killed_leaves_nothing_at_the_place() {
    for (n, to) in [(1, "json:again.json"), (1, "sqlite:again.db")] {
        let (pg, json);
        let home = if to.starts_with("json") {
            json = to_sqlite();
            &json
        } else {
            pg = to_postgres();
            &pg.0
        };
        home.up();
        let gate = backout::gate::Gate::with_trap(n, |_| {});
        let failed = home.project().gated(gate).extract(&ExtractOptions { to: to.into(), migration: None });
        assert!(failed.is_err(), "{to}");
        let left: Vec<_> = std::fs::read_dir(home.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|f| !f.to_string_lossy().contains("again")), "{left:?}");
        extract(home, to);
    }
}

#[test]
fn what_no_target_remembers_is_not_extracted() {
    let home = to_sqlite();
    let failure = |to: &str| home.project().extract(&ExtractOptions { to: to.into(), migration: None }).unwrap_err();
    assert_eq!(failure("json:a.json").exit, 2, "the target is not there");
    home.sqlite("target.db").execute_batch("CREATE TABLE other (id)").unwrap();
    assert!(failure("json:a.json").to_string().contains("remembers"));
    std::fs::remove_file(home.path("target.db")).unwrap();
    home.up();
    assert!(failure("sqlite:a.db").to_string().contains("the source was JSON"));
    assert!(failure("a.json").to_string().contains("no place"));
}

#[test]
fn what_an_emergency_leaves_out_is_not_in_the_fingerprint_either() {
    let home = to_sqlite();
    home.up();
    home.sqlite("target.db").execute_batch(WRITES).unwrap();
    ok(home.project().shadow());
    // the drain is taken out of the source again, without the target
    ok(home.project().rollback(&RollbackOptions { discard: true, ..RollbackOptions::default() }));
    let v = after_rollback(&home);
    assert_eq!(verdicts(&v), [("the whole file", "same")]);
}

// ── where things stand ─────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn status_tells_what_waits_since_when_and_how_large_the_log_is() {
    let (home, database) = to_postgres();
    home.up();
    let status = || ok(home.project().status()).unwrap();
    let s = status();
    assert_eq!((s.lag, s.log.unwrap().rows, s.carried, s.unfollowed), (Some(0), 0, 0, false));
    assert!(s.followed_at.is_none() && s.cutover_at.is_some() && s.verified_at.is_some());
    database.client().batch_execute(WRITES).unwrap();
    let s = status();
    assert!(s.lag.unwrap() >= 4 && s.log.unwrap().rows >= 4 && s.log.unwrap().bytes > 0, "{s:?}");
    assert!(!s.unfollowed, "not for a minute yet");
    // as if the last one had been long ago
    let file = home.sqlite("source.db");
    let long_ago = "UPDATE backout_run SET state = json_set(state, '$.cutover_at', '2025-01-01T00:00:00Z', '$.drained_at', json('null'))";
    file.execute_batch(long_ago).unwrap();
    assert!(status().unfollowed);
    ok(home.project().shadow());
    let s = status();
    assert_eq!((s.lag, s.carried > 0, s.unfollowed), (Some(0), true, false));
    assert!(s.followed_at.is_some());
}

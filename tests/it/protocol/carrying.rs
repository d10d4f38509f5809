//! What is carried (P5 to P14, P25).

use super::*;

use backout::migrate::{Event, Observer};

/// What hangs is told, not waited for.
fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (say, hear) = mpsc::channel();
    std::thread::spawn(move || say.send(work()));
    hear.recv_timeout(Duration::from_secs(60)).expect("it does not end")
}

#[test]
fn p06_a_backfill_that_is_cut_off_ends_and_goes_on() {
    for pair in PAIRS {
        let left = ends(move || {
            let house = House::new(pair);
            let one = Options { batch: 1, writers_stopped: true, wait: Duration::from_secs(20), ..Options::default() };
            house.killed("target: chunk 2", |p| go(p.with(one)));
            house
        });
        assert_eq!(left.phase(), Phase::Backfilling);
        left.at_source(WRITES);
        let out = left.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking));
        assert_eq!(left.target(), after_writes(), "{pair:?}");
    }
}

#[test]
fn p06_rows_written_at_every_moment_of_a_copy_arrive() {
    for pair in PAIRS {
        let house = House::new(pair);
        let script: Script = vec![
            ("target: tables", act(|| house.at_source("DELETE FROM things WHERE id = 1"))),
            ("target: chunk 1", act(|| house.at_source("UPDATE things SET id = 11 WHERE id = 2"))),
            ("target: chunk 2", act(|| house.at_source("INSERT INTO things (id, word) VALUES (6, 'six')"))),
            ("target: key", act(|| house.at_source("DELETE FROM things WHERE id = 3"))),
            ("receiver: changes", act(|| house.at_source("UPDATE things SET word = 'cinque' WHERE id = 5"))),
            ("target: indexes", act(|| house.at_source("INSERT INTO things (id, word) VALUES (1, 'again')"))),
            ("target: epoch", act(|| house.at_source("UPDATE things SET id = 12 WHERE id = 11"))),
        ];
        let out = house.when(script, go).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking));
        assert_eq!(
            house.target(),
            rows(&[(1, "again"), (4, "four"), (5, "cinque"), (6, "six"), (12, "two")]),
            "{pair:?}"
        );
        rolled_back(&house);
    }
}

#[test]
fn p09_a_move_that_is_carried_twice_keeps_the_rows_bytes() {
    for pair in [JsonToSqlite, JsonToPostgres] {
        let house = House::new(pair);
        house.up();
        // two changes that come so late that the second is carried under the lease
        let script: Script = vec![
            ("source: epoch", act(|| house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2"))),
            ("receiver: changes", act(|| house.at_target("UPDATE things SET id = 11 WHERE id = 1"))),
            ("giver: sealed", None),
        ];
        let end = catch_unwind(AssertUnwindSafe(|| house.when(script, back)));
        assert!(end.is_err());
        assert!(house.json().contains("\"id\": 11, \"word\": \"one\", \"n\": 1E1"), "{}", house.json());
        let out = house.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack));
        let wanted = TEXT.replace("\"id\": 1,", "\"id\": 11,").replace("two", "zwei");
        assert_eq!(house.json(), wanted, "{pair:?}: the row that moved is the same row, 1E1 and all");
    }
}

#[test]
fn p12_a_row_that_cannot_go_back_and_its_children_are_parked() {
    let house = House::new(SqliteToPostgres);
    house.at_source(
        "CREATE TABLE parents (id INTEGER PRIMARY KEY, seen TIMESTAMP);
         INSERT INTO parents VALUES (1, '2025-01-01 10:00:00'), (2, '2025-01-02 11:00:00');
         CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents (id));
         CREATE TABLE grandchildren (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES children (id));",
    );
    house.up();
    house.at_target(
        "INSERT INTO parents VALUES (3, 'infinity'); UPDATE parents SET seen = 'infinity' WHERE id = 2;
         INSERT INTO children VALUES (1, 1), (2, 2), (3, 3), (4, NULL); INSERT INTO grandchildren VALUES (1, 1), (3, 3)",
    );
    let shadow = || house.project().shadow().unwrap().parked.len();
    assert_eq!(shadow(), 4, "both parents, and the child and grandchild of the one that is not there");
    assert_eq!(shadow(), 4, "tried again");
    let ids = |table: &str| -> Vec<i64> {
        let file = house.file("source.db");
        let mut s = file.prepare(&format!("SELECT id FROM {table} ORDER BY id")).unwrap();
        s.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!((ids("parents"), ids("children"), ids("grandchildren")), (vec![1, 2], vec![1, 2, 4], vec![1]));
    // what is mended goes through, with its children
    house.at_target("UPDATE parents SET seen = '2025-01-03 12:00:00' WHERE id = 3");
    assert_eq!(shadow(), 1);
    assert_eq!((ids("children"), ids("grandchildren")), (vec![1, 2, 3, 4], vec![1, 3]));
    let asked = RollbackOptions { clean_target: Some(true), ..RollbackOptions::default() };
    let out = house.project().rollback(&asked).unwrap();
    assert_eq!((out.phase, out.parked.len()), (Some(Phase::RolledBack), 1));
    assert!(out.kept.is_some(), "the only place where that row is whole");
}

#[test]
fn p14_rows_written_while_both_sides_are_compared_do_not_count() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        house.at_source("UPDATE things SET word = 'a' WHERE id = 1; DELETE FROM things WHERE id = 2");
        // the drain in the comparison carries these; what is written while it does is still on its way
        let script: Script = vec![(
            "receiver: changes",
            act(|| {
                house.at_source(
                    "UPDATE things SET word = 'b' WHERE id = 1; INSERT INTO things (id, word) VALUES (8, 'eight')",
                )
            }),
        )];
        let out = house.when(script, |p| p.verify()).unwrap();
        assert_eq!(out.verified.unwrap().differences, Vec::<String>::new(), "{pair:?}");
        // what differs for good does count
        let raw = house.store("there").state().unwrap().unwrap();
        assert_eq!(raw.phase, Phase::Preparing, "the source's word counts");
        house.project().cutover().unwrap();
        assert_eq!(house.target(), rows(&[(1, "b"), (3, "three"), (4, "four"), (5, "five"), (8, "eight")]));
    }
}

#[test]
fn p14_what_is_compared_while_indexes_are_built_is_sealed_before() {
    for pair in [JsonToPostgres, SqliteToPostgres] {
        let house = House::new(pair);
        let stranger = "SET lock_timeout = '5s'; UPDATE things SET word = 'stray' WHERE id = 3";
        let refused = || assert!(house.try_target(stranger).unwrap_err().contains("25006"));
        let script: Script = vec![("source: phase catching up", act(refused)), ("target: indexes", act(refused))];
        let asked = UpOptions { until: Until::Ready, ..UpOptions::default() };
        let out = house.when(script, |p| p.up(&asked)).unwrap();
        assert_eq!(out.verified.unwrap().rows[0].1, 5, "{pair:?}");
        assert_eq!(house.target(), rows(&[(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five")]));
    }
}

/// Told when all five things of the target have been read.
struct Compared(Mutex<mpsc::Sender<()>>);

impl Observer for Compared {
    fn event(&self, event: Event) {
        if matches!(event, Event::Progress { what: "comparing", done: 5, .. }) {
            let _ = self.0.lock().unwrap().send(());
        }
    }
}

#[test]
fn p14_what_was_compared_while_indexes_were_built_counts_only_if_nothing_was_carried_after_it() {
    let house = House::new(SqliteToPostgres);
    // an index that is built beside readers
    house.at_source("CREATE INDEX by_word ON things (word)");
    let (tell, told) = mpsc::channel();
    let late = || {
        // both sides have been read, and were alike
        told.recv_timeout(Duration::from_secs(20)).unwrap();
        house.at_source("UPDATE things SET word = 'later' WHERE id = 3");
    };
    // the row is carried, and does not stay as it was carried
    let rots = || {
        let sql = "SELECT quote_ident(tgname) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = 'things'::regclass";
        let mut admin = house.admin();
        let seals: Vec<String> = admin.query(sql, &[]).unwrap().iter().map(|r| r.get(0)).collect();
        let all =
            |how: &str| seals.iter().map(|t| format!("ALTER TABLE things {how} TRIGGER {t};")).collect::<String>();
        let sql = "UPDATE things SET word = 'rotten' WHERE id = 3;";
        admin.batch_execute(&format!("BEGIN; {} {sql} {} COMMIT", all("DISABLE"), all("ENABLE ALWAYS"))).unwrap();
    };
    let script: Script = vec![("target: index for the key", act(late)), ("trim the change log", act(rots))];
    let asked = UpOptions { until: Until::Ready, ..UpOptions::default() };
    let observer = Arc::new(Compared(Mutex::new(tell)));
    let out = house.when(script, |p| p.observed(observer).up(&asked)).unwrap();
    assert_eq!(out.verified.unwrap().differences, Vec::<String>::new());
    assert_eq!(house.target()[2], (3, "later".into()), "the difference was found, and carried again");
    house.project().cutover().unwrap();
    rolled_back(&house);
    assert_eq!(house.source()[2], (3, "later".into()));
}

#[test]
fn p13_rows_of_a_misdirected_application_do_not_stay_in_the_target() {
    for pair in PAIRS {
        let house = House::new(pair);
        let script: Script = vec![(
            "source: phase catching up",
            act(|| {
                if pair != JsonToSqlite {
                    // the seal lets it pass, as it says that it is us
                    house.at_target("SELECT set_config('backout.session', run, false) FROM backout.run; INSERT INTO things (id, word) VALUES (77, 'astray'); UPDATE things SET word = 'x' WHERE id = 1");
                }
            }),
        )];
        let out = house.when(script, |p| p.up(&UpOptions { until: Until::Ready, ..UpOptions::default() })).unwrap();
        assert_eq!(out.phase, Some(Phase::Ready));
        assert_eq!(house.target(), first(), "{pair:?}");
        assert!(house.try_target("INSERT INTO things (id, word) VALUES (78, 'astray')").is_err());
        assert!(house.try_target("DELETE FROM things").is_err());
    }
}

#[test]
fn a15_numbers_go_on_on_both_sides() {
    let house = House::new(SqliteToPostgres);
    house.at_source("INSERT INTO things (word) VALUES ('six'); DELETE FROM things WHERE id = 6");
    house.up();
    let new = |word: &str| -> i64 {
        house.server().query_one("INSERT INTO things (word) VALUES ($1) RETURNING id", &[&word]).unwrap().get(0)
    };
    assert_eq!(new("seven"), 7, "6 was given once and is not given again");
    assert_eq!(new("eight"), 8);
    house.at_target("DELETE FROM things WHERE id = 8");
    rolled_back(&house);
    house.at_source("INSERT INTO things (word) VALUES ('nine')");
    assert_eq!(house.source().last().unwrap(), &(9, "nine".to_owned()));
    // and again
    house.up();
    assert_eq!(new("ten"), 10);
}

#[test]
fn p05_a_giver_whose_crash_took_back_what_it_gave_under_the_lease_is_compared() {
    let house = House::new(SqliteToPostgres);
    house.until_ready();
    let before = Mutex::new(Vec::new());
    let script: Script = vec![
        ("target: epoch", act(|| house.at_source("UPDATE things SET word = 'due' WHERE id = 2"))),
        (
            "receiver: changes",
            act(|| {
                *before.lock().unwrap() = fs::read(house.path("source.db")).unwrap();
                // so late that it is carried under the lease, which never commits
                house.at_source("UPDATE things SET word = 'uno' WHERE id = 1");
            }),
        ),
        ("giver: sealed", None),
    ];
    assert!(catch_unwind(AssertUnwindSafe(|| house.when(script, |p| p.cutover()))).is_err());
    assert_eq!(house.target()[0].1, "uno");
    // the machine crashed too, and an application without fsync had not made its last write durable
    fs::write(house.path("source.db"), &*before.lock().unwrap()).unwrap();
    house.project().resume(None).unwrap();
    assert_eq!(house.phase(), Phase::Soaking);
    assert_eq!(house.target()[..2], rows(&[(1, "one"), (2, "due")]));
    rolled_back(&house);
}

#[test]
fn p09_a_row_deleted_and_born_anew_inherits_nothing_of_the_dead_one() {
    for pair in [JsonToSqlite, JsonToPostgres] {
        let house = House::new(pair);
        house.up();
        assert!(house.json().contains("1E1"));
        house.at_target("DELETE FROM things WHERE id = 1; INSERT INTO things (id, word, n) VALUES (1, 'one', 10)");
        rolled_back(&house);
        assert!(!house.json().contains("1E1"), "{pair:?}: {}", house.json());
        assert_eq!(house.source(), first());
    }
}

#[test]
fn p06_nobody_drains_while_a_copy_is_under_way_and_its_log_is_kept() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.killed("target: chunk 2", go);
        house.at_source(WRITES);
        // a row that a chunk had read and a drain took out would rise again with the chunk
        type Command = fn(Project) -> Result<(), Failure>;
        let commands: [(&str, Command); 4] = [
            ("shadow", |p| p.shadow().map(drop)),
            ("verify", |p| p.verify().map(drop)),
            ("cutover", |p| p.cutover().map(drop)),
            ("repair", |p| p.repair(&RepairOptions { batch: 2, dry_run: false, force: true }).map(drop)),
        ];
        for (name, command) in commands {
            let end = command(house.project()).unwrap_err();
            assert_eq!(end.exit, 4, "{pair:?} {name} {end:?}");
            assert_eq!(house.phase(), Phase::Backfilling, "{pair:?} {name}");
        }
        let receiver = house.store("there").state().unwrap().unwrap();
        assert_eq!((receiver.drains, receiver.checkpoint), (0, None), "{pair:?}");
        let seen = Mutex::new(0);
        let script: Script = vec![
            ("target: chunk 2", act(|| house.at_source("DELETE FROM things WHERE id = 5"))),
            (
                "target: key",
                act(|| {
                    if pair == SqliteToPostgres {
                        let sql = "SELECT count(*) FROM backout_log";
                        *seen.lock().unwrap() = house.file("source.db").query_row(sql, [], |r| r.get(0)).unwrap();
                    }
                }),
            ),
        ];
        house.when(script, |p| p.resume(None)).unwrap();
        assert_eq!(house.target(), rows(&[(1, "one"), (2, "zwei"), (6, "six"), (13, "three")]), "{pair:?}");
        assert!(*seen.lock().unwrap() >= 5 || pair != SqliteToPostgres, "the log is whole until then");
    }
}

/// What the target's own triggers write, what refers to rows of it, and what our own writes look like to them (P11).
#[test]
fn p11_what_we_write_sets_nothing_off_and_is_noted_nowhere() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        let others = "CREATE TABLE audit (word text); CREATE TABLE notes (id int PRIMARY KEY, thing bigint REFERENCES things (id) ON DELETE CASCADE)";
        house.at_target(others);
        if pair == JsonToSqlite {
            house.at_target("CREATE TRIGGER shout AFTER UPDATE ON things BEGIN UPDATE things SET word = 'SHOUTED' WHERE id = new.id; END;
                CREATE TRIGGER told AFTER UPDATE ON things BEGIN INSERT INTO audit VALUES (new.word); END");
        } else {
            house.at_target("CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.word := 'SHOUTED'; RETURN NEW; END $$;
                CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (NEW.word); RETURN NEW; END $$;
                CREATE TRIGGER shout BEFORE UPDATE ON things FOR EACH ROW EXECUTE FUNCTION shout();
                CREATE TRIGGER told AFTER UPDATE ON things FOR EACH ROW EXECUTE FUNCTION told()");
        }
        house.at_target("INSERT INTO notes VALUES (1, 2)");
        house.at_source("UPDATE things SET word = 'zwei' WHERE id = 2; UPDATE things SET word = 'fünf' WHERE id = 5");
        house.project().cutover().unwrap();
        let wanted = rows(&[(1, "one"), (2, "zwei"), (3, "three"), (4, "four"), (5, "fünf")]);
        assert_eq!(house.target(), wanted, "{pair:?}: nothing of theirs changes what we write");
        let count = |sql: &str| -> i64 {
            if pair == JsonToSqlite {
                return house.file("target.db").query_row(sql, [], |r| r.get(0)).unwrap();
            }
            house.server().query_one(sql, &[]).unwrap().get(0)
        };
        assert_eq!(count("SELECT count(*) FROM notes"), 1, "{pair:?}: no cascade");
        assert_eq!(count("SELECT count(*) FROM audit"), 2, "{pair:?}: what writes other tables goes on");
        // they are on again for everyone else
        house.at_target("UPDATE things SET word = 'uno' WHERE id = 1");
        assert_eq!(house.target()[0].1, "SHOUTED", "{pair:?}");
    }
}

#[test]
fn p19_a_table_without_a_usable_key_is_refused_and_nothing_is_changed() {
    let unusable = [
        ("CREATE TABLE odd (a, b)", "no key"),
        ("CREATE TABLE odd (a UNIQUE, b); INSERT INTO odd VALUES (NULL, 1), (NULL, 2)", "no key"),
        ("CREATE TABLE odd (a NOT NULL, b); CREATE UNIQUE INDEX odd_a ON odd (a) WHERE b > 0", "no key"),
        ("CREATE TABLE odd (a TEXT NOT NULL, b); CREATE UNIQUE INDEX odd_a ON odd (lower(a))", "no key"),
        ("CREATE TABLE odd (a INTEGER PRIMARY KEY DESC, b); INSERT INTO odd VALUES (NULL, 1)", "NULL"),
    ];
    for (sql, word) in unusable {
        let house = House::new(SqliteToPostgres);
        house.at_source(sql);
        // its rowid tells its rows apart today, and after a VACUUM others
        house.at_source("INSERT INTO odd (b) SELECT 7 WHERE 0; VACUUM");
        for end in [house.project().plan(None).map(drop).unwrap_err(), go(house.project()).map(drop).unwrap_err()] {
            let told = format!("{end} {}", end.hint);
            assert!(told.contains("odd") && told.contains(word), "{sql}: {told}");
            assert_eq!(end.exit, 4, "{sql}");
        }
        assert!(house.project().status().unwrap().is_none(), "{sql}");
        let n: i64 =
            house.server().query_one("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", &[]).unwrap().get(0);
        assert_eq!(n, 0, "{sql}");
    }
}

#[test]
fn p09_rows_that_swap_keys_in_one_statement_keep_their_own_bytes() {
    let house = House::new(JsonToPostgres);
    house.up();
    let deferrable = "ALTER TABLE things DROP CONSTRAINT things_pkey, ADD CONSTRAINT things_pkey PRIMARY KEY (id) DEFERRABLE INITIALLY IMMEDIATE";
    house.at_target(deferrable);
    // from here on it takes more than a key to tell rows apart, which is seen
    house.at_target("UPDATE things SET word = 'drei' WHERE id = 3");
    house.project().shadow().unwrap();
    house.at_target("UPDATE things SET id = 3 - id WHERE id IN (1, 2)");
    // rows that meet under one key and part again, and a table that is rewritten between two moves of a row
    house.at_target("BEGIN; SET CONSTRAINTS ALL DEFERRED; UPDATE things SET id = 4 WHERE id = 3; UPDATE things SET id = 3 WHERE id = 4 AND word = 'drei'; COMMIT");
    house.at_target("UPDATE things SET id = 50 WHERE id = 5");
    house.at_target("CLUSTER things USING things_pkey");
    house.at_target("UPDATE things SET id = 500 WHERE id = 50");
    rolled_back(&house);
    let wanted =
        [(2, "one", "1E1"), (1, "two", "20.0"), (3, "drei", "30.5"), (4, "four", "40.0"), (500, "five", "50.0")];
    let lines: Vec<String> =
        wanted.iter().map(|(id, word, n)| format!("  {{\"id\": {id}, \"word\": \"{word}\", \"n\": {n}}}")).collect();
    let mut found: Vec<String> =
        house.json().lines().filter(|l| l.contains("id")).map(|l| l.trim_end_matches(',').to_owned()).collect();
    let mut lines = lines;
    lines.sort();
    found.sort();
    assert_eq!(found, lines);
}

//! Who may write, and how that passes from one side to the other (P1, P2, P4).

use super::*;

#[test]
fn p02_killed_between_drained_and_sealed_then_written_to() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        house.at_source("UPDATE things SET word = 'uno' WHERE id = 1");
        house.killed("giver: sealed", |p| p.cutover());
        assert_eq!(house.phase(), Phase::CuttingOver);
        // the source is live: it was never sealed
        house.at_source(WRITES);
        let out = house.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking), "{pair:?}");
        let mut wanted = after_writes();
        wanted[0].1 = "uno".into();
        assert_eq!(house.target(), wanted, "{pair:?}");
        // and the same on the way back
        house.at_target("UPDATE things SET word = 'fünf' WHERE id = 5");
        house.killed("giver: sealed", back);
        assert_eq!(house.phase(), Phase::RollingBack);
        house.at_target("UPDATE things SET id = 7 WHERE id = 6; DELETE FROM things WHERE id = 2");
        let now = house.target();
        let out = house.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack), "{pair:?}");
        assert_eq!(house.source(), now, "{pair:?}");
    }
}

#[test]
fn p02_killed_before_the_receiver_opens_nobody_can_write() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        house.killed("receiver: open", |p| p.cutover());
        assert!(house.try_target("DELETE FROM things").is_err(), "{pair:?}");
        if pair == SqliteToPostgres {
            assert!(house.file("source.db").execute_batch("DELETE FROM things").is_err());
        }
        let out = house.project().abort().unwrap();
        assert_eq!(out.phase, Some(Phase::Aborted));
        house.at_source(WRITES);
        assert_eq!(house.source(), after_writes());
        house.up();
        assert_eq!(house.target(), after_writes());
        house.killed("receiver: open", back);
        assert!(house.try_target("DELETE FROM things").is_err(), "{pair:?}");
        let out = house.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack));
        assert_eq!(house.source(), after_writes());
    }
}

#[test]
fn p02_after_a_rollback_capture_stays_until_both_sides_were_compared() {
    let service = "[[service]]\nname = \"app\"\nstop = \"true\"\nstart = \"true\"\n";
    for pair in PAIRS {
        let house = House::with(pair, service);
        house.up();
        house.at_target(WRITES);
        let seen = Mutex::new(Vec::new());
        let script: Script = vec![
            // the application is back and writes, before anything is compared
            ("start service app", act(|| house.at_source("UPDATE things SET word = 'uno' WHERE id = 1"))),
            (
                "target: closed",
                act(|| {
                    let state = house.store("here").state().unwrap().unwrap();
                    seen.lock().unwrap().push((state.captured_from.is_some(), house.captured()));
                }),
            ),
        ];
        let out = house.when(script, back).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack));
        assert_eq!(out.verified.unwrap().differences, Vec::<String>::new());
        assert_eq!(*seen.lock().unwrap(), [(true, true)]);
        let mut wanted = after_writes();
        wanted[0].1 = "uno".into();
        assert_eq!(house.source(), wanted);
        // nothing of ours stays in the source but the history
        assert!(house.store("here").state().unwrap().is_none());
        if pair == SqliteToPostgres {
            let n: i64 = house
                .file("source.db")
                .query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%backout%'", [], |r| r.get(0))
                .unwrap();
            assert_eq!(n, 1);
        }
    }
}

impl House {
    /// The target's changes are being noted.
    fn captured(&self) -> bool {
        if self.pair == JsonToSqlite {
            let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'backout_capture%'";
            return self.file("target.db").query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap() > 0;
        }
        let sql = "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'backout_capture_row' AND tgenabled = 'A')";
        self.server().query_one(sql, &[]).unwrap().get(0)
    }

    /// Somebody else raises this side's epoch: what is under way has become a ghost.
    fn raise(&self, name: &str) {
        let mut store = self.store(name);
        store.begin(store::Mode::Write, &[]).unwrap();
        let mut state = store.state().unwrap().unwrap();
        state.epoch += 1;
        store.put_state(&state, None).unwrap();
        store.commit("another operator").unwrap();
    }
}

#[test]
fn p04_a_ghost_writes_neither_a_chunk_nor_a_drain_nor_a_seal() {
    for pair in PAIRS {
        let house = House::new(pair);
        let script: Script = vec![("source: phase backfilling", act(|| house.raise("there")))];
        house.when(script, go).unwrap_err();
        assert_eq!(house.target(), [], "{pair:?}: a chunk of a ghost");
        house.project().abort().unwrap();

        house.until_ready();
        if pair == SqliteToPostgres {
            house.at_source(WRITES);
            let script: Script = vec![("mark the change log", act(|| house.raise("there")))];
            house.when(script, |p| p.cutover()).unwrap_err();
            assert_eq!((house.target(), house.phase()), (first(), Phase::Ready), "a drain of a ghost");
            house.project().cutover().unwrap();
            assert_eq!(house.target(), after_writes());
            house.at_target("DELETE FROM things WHERE id = 1");
            let script: Script = vec![
                ("receiver: changes", act(|| {})),
                ("source: epoch", act(|| {})),
                ("target: epoch", act(|| house.at_target("DELETE FROM things WHERE id = 2"))),
                ("receiver: changes", act(|| house.raise("there"))),
            ];
            let end = house.when(script, back).unwrap_err();
            assert!(matches!(*end.error, Error::CalledOff { .. }), "{end:?}");
            assert_eq!(house.phase(), Phase::Soaking);
            house.at_target("UPDATE things SET word = 'it is not sealed' WHERE id = 5");
            rolled_back(&house);
            assert_eq!(house.source(), rows(&[(5, "it is not sealed"), (6, "six"), (13, "three")]));
        }
    }
}

#[test]
fn p02_a_receiver_that_was_withdrawn_meanwhile_is_not_opened() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        let script: Script = vec![(
            "giver: sealed",
            act(|| {
                let mut store = house.store("there");
                store.begin(store::Mode::Write, &[]).unwrap();
                let mut state = store.state().unwrap().unwrap();
                assert!(matches!(state.side, store::Side::Drained { .. }));
                state.side = store::Side::Withdrawn { epoch: state.epoch };
                store.put_state(&state, None).unwrap();
                store.commit("another operator").unwrap();
            }),
        )];
        house.when(script, |p| p.cutover()).unwrap_err();
        assert_eq!(house.phase(), Phase::Ready, "{pair:?}");
        assert!(house.try_target("DELETE FROM things").is_err(), "{pair:?}: it never opened");
        house.at_source(WRITES);
        house.project().cutover().unwrap();
        assert_eq!(house.target(), after_writes());
    }
}

#[test]
fn p04_killed_between_the_two_epochs() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        house.killed("target: epoch", |p| p.cutover());
        house.at_source(WRITES);
        // one side's epoch is ahead now: drains and hand-overs work all the same
        let out = house.project().resume(Some(Until::Ready)).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking), "{pair:?}");
        assert_eq!(house.target(), after_writes());
        house.killed("target: epoch", back);
        house.at_target("DELETE FROM things WHERE id = 1");
        let now = house.target();
        let out = house.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack));
        assert_eq!(house.source(), now);
    }
}

#[test]
fn p01_a_target_that_is_still_being_filled_refuses_others() {
    for pair in [JsonToPostgres, SqliteToPostgres] {
        let house = House::new(pair);
        let tried = Mutex::new(0);
        let astray = || {
            for sql in ["INSERT INTO things (id, word) VALUES (77, 'astray')", "DELETE FROM things", "TRUNCATE things"]
            {
                let end = house.try_target(&format!("SET lock_timeout = '1s'; {sql}")).unwrap_err();
                assert!(end.contains("is resting") || sql.starts_with("TRUNCATE"), "{sql} {end}");
                *tried.lock().unwrap() += 1;
            }
        };
        let script: Script = vec![
            ("target: chunk 1", act(astray)),
            ("source: phase catching up", act(astray)),
            ("source: phase verifying", act(astray)),
        ];
        house.when(script, go).unwrap();
        assert_eq!((house.target(), *tried.lock().unwrap()), (first(), 9), "{pair:?}");
        house.at_target("DELETE FROM things WHERE id = 1");
        rolled_back(&house);
    }
}

#[test]
fn p01_a_writer_that_never_pauses_does_not_keep_us_out() {
    let house = House::new(SqliteToPostgres);
    let (say, hear) = mpsc::channel();
    let path = house.path("source.db");
    let writer = std::thread::spawn(move || {
        let file = Connection::open(path).unwrap();
        file.busy_timeout(Duration::from_secs(60)).unwrap();
        let mut written = 0;
        loop {
            let sql = format!("BEGIN IMMEDIATE; UPDATE things SET n = {} WHERE id = 1; COMMIT", written + 1);
            if let Err(e) = file.execute_batch(&sql) {
                return (written, e.to_string());
            }
            written += 1;
            if written == 100 {
                say.send(()).unwrap();
            }
        }
    });
    hear.recv().unwrap();
    house.up();
    let (written, end) = writer.join().unwrap();
    assert!(end.contains("backout: table things is resting"), "{end}");
    let n: i64 = house.server().query_one("SELECT n FROM things WHERE id = 1", &[]).unwrap().get(0);
    assert_eq!(n, written, "every write that was acknowledged is there");
}

impl House {
    /// What becomes of a write of someone who does not wait for long.
    fn impatient(&self, name: &str, sql: &str) -> Result<(), String> {
        if (name, self.pair) == ("there", JsonToSqlite) || (name, self.pair) == ("here", SqliteToPostgres) {
            let file = Connection::open(self.path(if name == "here" { "source.db" } else { "target.db" })).unwrap();
            file.busy_timeout(Duration::ZERO).unwrap();
            return file.execute_batch(sql).map_err(|e| e.to_string());
        }
        let sql = format!("SET lock_timeout = '50ms'; {sql}");
        self.server().batch_execute(&sql).map_err(|e| e.code().unwrap().code().to_owned())
    }
}

#[test]
fn p01_nobody_writes_between_the_last_drain_and_the_seal() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        let tried = Mutex::new(Vec::new());
        let write = |name: &'static str| {
            let (tried, house) = (&tried, &house);
            move || tried.lock().unwrap().push(house.impatient(name, "UPDATE things SET word = 'late' WHERE id = 5"))
        };
        if pair == SqliteToPostgres {
            let script: Script = vec![("receiver: drained", act(write("here"))), ("giver: sealed", act(write("here")))];
            house.when(script, |p| p.cutover()).unwrap();
        } else {
            house.project().cutover().unwrap();
        }
        let script: Script = vec![("receiver: drained", act(write("there"))), ("giver: sealed", act(write("there")))];
        house.when(script, back).unwrap();
        let tried = tried.into_inner().unwrap();
        let locked = |e: &Result<(), String>| e.as_ref().is_err_and(|e| e == "55P03" || e.contains("is locked"));
        assert!(tried.len() >= 2 && tried.iter().all(locked), "{pair:?} {tried:?}");
        assert_eq!(house.source(), first(), "{pair:?}");
    }
}

#[test]
fn p04_a_ghost_opens_nothing_without_its_target_either() {
    let emergency = RollbackOptions { emergency: true, ..RollbackOptions::default() };
    let discard = RollbackOptions { discard: true, ..RollbackOptions::default() };
    for pair in PAIRS {
        for asked in [&emergency, &discard] {
            let house = House::new(pair);
            house.up();
            house.at_target(WRITES);
            house.project().shadow().unwrap();
            house.at_target("UPDATE things SET word = 'eins' WHERE id = 1");
            let before = house.source();
            let script: Script = vec![("target: sealed", act(|| house.raise("here")))];
            let end = house.when(script, |p| p.rollback(asked));
            assert!(end.is_err(), "{pair:?}: {:?}", end.map(|o| o.phase));
            let side = house.store("here").state().unwrap().unwrap().side;
            assert_ne!(side, store::Side::Open, "{pair:?}");
            assert_eq!(house.source(), before, "{pair:?}: neither carried nor undone");
            // whoever raised it goes on
            let out = house.project().resume(None).unwrap();
            assert_eq!(out.phase, Some(Phase::RolledBack), "{pair:?}");
            let mut wanted = if asked.discard { first() } else { after_writes() };
            if !asked.discard {
                wanted[0].1 = "eins".into();
            }
            assert_eq!(house.source(), wanted, "{pair:?}");
        }
    }
}

#[test]
fn p21_much_that_was_written_just_before_the_lock_is_carried_before_others_have_to_wait() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        let house = House::new(pair);
        house.up();
        house.at_target(WRITES);
        let much = "INSERT INTO things (id, word) SELECT 1000 + n, 'w' FROM (WITH RECURSIVE c (n) AS \
            (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5000) SELECT n FROM c) x";
        let script: Script = vec![
            ("target: epoch", act(|| {})),
            // nothing was left to carry a moment ago
            ("receiver: seen", act(|| house.at_target(much))),
            ("receiver: changes", act(|| house.at_target("DELETE FROM things WHERE id = 1001"))),
            ("receiver: drained", act(|| {})),
        ];
        let out = house.when(script, back).unwrap();
        assert_eq!((out.phase, house.source().len()), (Some(Phase::RolledBack), 5004), "{pair:?}");
    }
}

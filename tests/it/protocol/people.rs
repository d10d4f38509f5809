//! Two people at once (P4), and what one may take back (P25).

use super::*;

#[test]
fn p04_two_operators_at_once_make_one_run() {
    for pair in PAIRS {
        let house = House::new(pair);
        let ends: Vec<Result<Outcome, Failure>> = std::thread::scope(|threads| {
            let both: Vec<_> = (0..2).map(|_| threads.spawn(|| go(house.project()))).collect();
            both.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(ends.iter().any(Result::is_ok), "{ends:?}");
        assert_eq!(house.phase(), Phase::Soaking);
        assert_eq!(house.target(), first(), "{pair:?}");
        rolled_back(&house);
        assert_eq!(house.source(), first());
        assert_eq!(house.project().history().unwrap().lines.len(), 2, "one run, told by both stores");
    }
}

/// Waits until someone else has this file open too: he waits for its lock.
fn waited_for(file: &Path) {
    let path = fs::canonicalize(file).unwrap();
    let open = || {
        let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == path)).count()
    };
    while open() < 2 {
        std::thread::yield_now();
    }
}

#[test]
fn p04_a_command_that_waited_for_another_looks_again_where_things_stand() {
    type Command = fn(Project) -> Result<Outcome, Failure>;
    let (abort, complete): (Command, Command) = (|p| p.abort(), |p| p.complete(false));
    for (command, stood, stands) in [
        (abort, Phase::Ready, Phase::Soaking),
        (complete, Phase::Soaking, Phase::RollingBack),
        (back, Phase::Soaking, Phase::Completing),
        (|p| p.shadow(), Phase::Soaking, Phase::RollingBack),
    ] {
        let house = House::new(SqliteToPostgres);
        house.until_ready();
        if stood == Phase::Soaking {
            house.project().cutover().unwrap();
        }
        let mut other = house.store("here");
        other.lock(Duration::from_secs(20)).unwrap();
        let end = std::thread::scope(|threads| {
            let waiting = threads.spawn(|| command(house.project()));
            waited_for(&house.path("source.db-backout-lock"));
            // the other one's command goes on to somewhere else
            let mut state = other.state().unwrap().unwrap();
            state.phase = stands;
            other.begin(store::Mode::Write, &[]).unwrap();
            other.put_state(&state, None).unwrap();
            other.commit("the other one").unwrap();
            drop(other);
            waiting.join().unwrap()
        });
        let end = end.unwrap_err();
        assert!(matches!(*end.error, Error::Overtaken { .. }) && end.exit == 5, "{end:?}");
        assert_eq!(house.phase(), stands, "{stood:?}");
    }
}

#[test]
fn p25_each_drain_while_soaking_keeps_what_it_changes() {
    let house = House::new(SqliteToPostgres);
    house.up();
    house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2; INSERT INTO things (id, word) VALUES (6, 'six')");
    house.project().shadow().unwrap();
    house.at_target("UPDATE things SET word = 'due' WHERE id = 2; DELETE FROM things WHERE id = 3; UPDATE things SET id = 11 WHERE id = 1");
    house.project().shadow().unwrap();
    house.project().shadow().unwrap();
    let file = house.file("source.db");
    let mut s = file.prepare("SELECT drain, key, image, at FROM backout_image ORDER BY drain, key").unwrap();
    let kept: Vec<(i64, String, Option<String>)> = s
        .query_map([], |r| {
            let show = |b: Vec<u8>| backout::value::Key(b).to_string();
            assert!(r.get::<_, String>(3)?.parse::<jiff::Timestamp>().is_ok());
            Ok((r.get(0)?, show(r.get(1)?), r.get::<_, Option<Vec<u8>>>(2)?.map(show)))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let (one, two) = (kept[0].0, kept[kept.len() - 1].0);
    assert!(one < two);
    let row = |s: &str| Some(s.to_owned());
    let k = |i: i64| i.to_string();
    assert_eq!(
        kept,
        [
            (one, k(2), row("(2, 'two', 20)")),
            (one, k(6), None),
            (two, k(1), row("(1, 'one', 10)")),
            (two, k(2), row("(2, 'zwei', 20)")),
            (two, k(3), row("(3, 'three', 30)")),
            (two, k(11), None),
        ]
    );
}

#[test]
fn p24_the_kept_target_is_the_backup_and_nothing_in_the_timed_path_grows() {
    let service = "[rollback]\ncreate_backup = true\n[[service]]\nname = \"app\"\nstop = \"true\"\nstart = \"true\"\n";
    for pair in PAIRS {
        let mut timed = Vec::new();
        for many in [0, 400] {
            let house = House::with(pair, service);
            house.up();
            if many > 0 {
                let sql = "INSERT INTO things (id, word) WITH RECURSIVE n (i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 499) SELECT i, 'w' FROM n";
                house.at_target(sql);
                house.project().shadow().unwrap();
            }
            house.at_target(WRITES);
            let before = house.target();
            let effects = Mutex::new(Vec::new());
            let at = house.store("there").state().unwrap().unwrap().run;
            let gate = {
                let effects = &effects;
                house.watch(|p| back(p).unwrap(), move |what| effects.lock().unwrap().push(what.to_owned()))
            };
            assert_eq!(gate.phase, Some(Phase::RolledBack));
            let effects = effects.into_inner().unwrap();
            let of = |what: &str| effects.iter().position(|e| e.starts_with(what)).unwrap();
            let path = &effects[of("receiver: drained")..of("start service app")];
            // files have names of their own each time
            timed.push(path.iter().map(|e| e.split('/').next().unwrap().to_owned()).collect::<Vec<_>>());
            assert_eq!(house.source(), before, "{pair:?}");
            let kept = gate.kept.unwrap();
            assert!(kept.contains(&at), "{kept}: its name tells whose it is");
            assert_eq!(house.kept(&at), before, "{pair:?}: everything that was there is there");
        }
        assert_eq!(timed[0], timed[1], "{pair:?}");
    }
}

#[test]
fn p27_the_windows_end_deletes_nothing() {
    for pair in PAIRS {
        for complete in [false, true] {
            let house = House::with(pair, "[rollback]\nwindow = \"1s\"\n");
            house.up();
            house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2");
            while !house.project().status().unwrap().unwrap().window_over {
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!((house.phase(), house.source()), (Phase::Soaking, first()), "{pair:?}");
            let end = back(house.project()).unwrap_err();
            assert!(end.exit == 4 && end.to_string().contains("window"), "{end:?}");
            assert!(end.hint.contains("--force"), "{end:?}");
            // shadow goes on
            house.project().shadow().unwrap();
            assert_eq!(house.source(), house.target(), "{pair:?}");
            house.at_target("DELETE FROM things WHERE id = 4");
            if complete {
                let before = house.source();
                assert_eq!(house.project().complete(false).unwrap().phase, Some(Phase::Completed));
                assert_eq!(house.source(), before, "{pair:?}: what rests stays until someone says that it shall go");
                if pair == SqliteToPostgres {
                    let end = house.file("source.db").execute_batch("DELETE FROM things").unwrap_err();
                    assert!(end.to_string().contains("backout: table things is resting"), "{end}");
                }
                continue;
            }
            let forced = RollbackOptions { force: true, ..RollbackOptions::default() };
            assert_eq!(house.project().rollback(&forced).unwrap().phase, Some(Phase::RolledBack));
            assert_eq!(house.source(), rows(&[(1, "one"), (2, "zwei"), (3, "three"), (5, "five")]), "{pair:?}");
        }
    }
}

impl House {
    /// Does this and tells each effect before it happens.
    fn watch<T>(&self, run: impl FnOnce(Project) -> T, seen: impl Fn(&str) + Send + Sync) -> T {
        let (tell, told) = mpsc::channel::<String>();
        let gate = Gate::watched(move |what| drop(tell.send(what.to_owned())));
        let out = run(self.project().gated(gate));
        told.try_iter().for_each(|what| seen(&what));
        out
    }

    /// What a target that was set aside holds.
    fn kept(&self, run: &str) -> Rows {
        if self.pair == JsonToSqlite {
            let file = self.file("target.db");
            let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%' || ?1 || '%'";
            let name: String = file.query_row(sql, [run], |r| r.get(0)).unwrap();
            let mut s = file.prepare(&format!("SELECT id, word FROM \"{name}\" ORDER BY id")).unwrap();
            return s.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(Result::unwrap).collect();
        }
        let mut server = self.server();
        let sql = "SELECT format('SELECT id, word FROM %I.%I ORDER BY id', schemaname, tablename) FROM pg_tables \
            WHERE concat(schemaname, tablename) LIKE '%' || $1 || '%' AND tablename LIKE '%things%'";
        let sql: String = server.query_one(sql, &[&run]).unwrap().get(0);
        server.query(&sql, &[]).unwrap().iter().map(|r| (r.get(0), r.get(1))).collect()
    }
}

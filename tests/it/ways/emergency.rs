//! Without the target, and what is salvaged of it later (P22).

use super::*;

#[test]
fn p22_a_stopped_server_is_done_without_and_what_it_had_is_salvaged() {
    let server = Server::new();
    let house = House::on(&server);
    house.up();
    let (carried, before) = written(&house);
    let later = house.target_time();
    server.stop();
    // an ordinary rollback changes nothing, and says what is left to do
    let said = house.project().rollback(&RollbackOptions::default()).unwrap_err();
    assert!(said.hint.contains("rollback --emergency"), "{}", said.hint);
    assert_eq!((said.code(), house.phase()), ("target_lost", Some(Phase::Soaking)));
    fs::remove_dir_all(house.path(".backout")).unwrap();
    let out = house.emergency();
    assert_eq!(out.phase, Some(Phase::Outstanding));
    // what is said to be carried is what is there, no more and no less
    assert_eq!(house.source(), carried);
    assert!(before <= upto(&out) && upto(&out) < later, "{before} {:?} {later}", out.upto);
    assert!(out.notes.iter().any(|n| n.contains("may still take writes")), "{:?}", out.notes);
    house.runs_on_the_source();
    // what is outstanding stays visible, and nothing is put on top of it
    let status = house.project().status().unwrap().unwrap();
    assert_eq!((status.source.phase, status.live.as_str()), (Phase::Outstanding, "source"));
    assert!(house.project().up(&UpOptions::default()).unwrap_err().hint.contains("salvage"));
    for refused in [house.project().abort(), house.project().complete(false), house.project().shadow()] {
        assert_eq!(refused.unwrap_err().exit, 4);
    }
    assert!(house.project().salvage(false).is_err());
    // the application writes on: 3 and 7 on both sides now, 8 the same, 1 here alone
    house.at_source(&[(3, Some("trois")), (7, Some("sept")), (8, Some("eight")), (1, Some("un"))]);
    // and its own numbers do not meet those that the target gave
    let file = house.sqlite("source.db");
    file.execute("INSERT INTO things (word) VALUES ('born')", []).unwrap();
    let born = file.last_insert_rowid();
    assert!(born > 10_000, "{born}");
    drop(file);
    server.start();
    let out = ok(house.project().salvage(false));
    assert_eq!(out.phase, Some(Phase::RolledBack));
    let mut wanted = rows(&[(1, "un"), (2, "zwei"), (3, "trois"), (6, "six"), (7, "sept"), (8, "eight")]);
    wanted.push((born, "born".into()));
    assert_eq!(house.source(), wanted);
    assert_eq!(out.parked.len(), 2, "{:?}", out.parked);
    let left = house.exported(&out);
    let both = |l: &Json| (l["key"]["id"].as_i64(), l["before"]["word"].clone(), l["after"]["word"].clone());
    let left: Vec<_> = left.iter().map(both).collect();
    assert_eq!(left, [(Some(3), "trois".into(), "drei".into()), (Some(7), "sept".into(), "seven".into())]);
    assert_eq!(house.phase(), None);
    // the target is aside, and the migration may be tried again
    house.up();
    let out = ok(house.project().rollback(&RollbackOptions::default()));
    assert!(out.verified.unwrap().differences.is_empty());
    assert_eq!(house.source(), wanted);
}

#[test]
fn p22_a_server_that_hangs_is_waited_for_no_longer_than_the_budget() {
    let mut server = Server::new();
    let house = House::on(&server);
    house.up();
    let (carried, _) = written(&house);
    server.hang();
    let begun = Instant::now();
    let out = house.emergency();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(out.budget, Some((8.0, true)));
    assert_eq!(house.source(), carried);
    house.runs_on_the_source();
    // it takes a write when it wakes, as it was said that it may
    server.go_on();
    house.at_target("INSERT INTO things (id, word) VALUES (9, 'nine')");
    let out = ok(house.project().salvage(false));
    assert!(out.parked.is_empty(), "{:?}", out.parked);
    assert_eq!(
        house.source(),
        rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight"), (9, "nine")])
    );
}

#[test]
fn p22_a_wrong_address_that_answers_nothing_is_no_obstacle() {
    let house = House::new(SqliteToPostgres);
    house.up();
    let (carried, _) = written(&house);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://who@127.0.0.1:{}/nowhere", silent.local_addr().unwrap().port());
    house.config(&format!("{url}?connect_timeout=1"), "");
    // whoever asks is told within the limit of the address
    let begun = Instant::now();
    let status = house.project().status().unwrap().unwrap();
    assert_eq!(status.problems.len(), 1, "{:?}", status.problems);
    assert!(house.project().rollback(&RollbackOptions::default()).unwrap_err().hint.contains("--emergency"));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    house.config(&url, "");
    let begun = Instant::now();
    house.emergency();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(house.source(), carried);
    // with the address mended the rest comes; the target could be written to until then
    house.config(&house.target, "");
    house.at_target("INSERT INTO things (id, word) VALUES (9, 'nine')");
    ok(house.project().salvage(false));
    assert!(house.try_target("INSERT INTO things (id, word) VALUES (10, 'ten')").is_err());
    assert!(house.source().contains(&(9, "nine".into())) && house.source().contains(&(7, "seven".into())));
}

#[test]
fn p22_a_target_that_answers_is_sealed_and_everything_is_carried() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        let house = House::new(pair);
        house.up();
        written(&house);
        let out = house.emergency();
        assert_eq!(out.phase, Some(Phase::RolledBack), "{out:?}");
        let wanted = rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight")]);
        assert_eq!(house.source(), wanted, "{pair:?}");
        house.runs_on_the_source();
        assert_eq!(house.phase(), None);
    }
}

#[test]
fn p22_a_deleted_target_is_done_without_and_given_up() {
    let house = House::new(JsonToSqlite);
    house.up();
    let (carried, _) = written(&house);
    fs::remove_file(house.path("target.db")).unwrap();
    let said = house.project().rollback(&RollbackOptions::default()).unwrap_err();
    assert!(said.hint.contains("rollback --emergency"), "{}", said.hint);
    assert!(!house.path("target.db").exists());
    let out = house.emergency();
    assert_eq!((out.phase, house.source()), (Some(Phase::Outstanding), carried.clone()));
    house.runs_on_the_source();
    assert!(house.project().salvage(false).is_err());
    // to give writes up is asked for by name
    let backout = |args: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_backout")).args(args).current_dir(house.folder.path()).output();
        done.unwrap().status.code()
    };
    assert_eq!((backout(&["salvage", "--forget"]), house.phase()), (Some(4), Some(Phase::Outstanding)));
    let name = house.project().config.name;
    assert_eq!((backout(&["salvage", "--forget", "--confirm", &name]), house.phase()), (Some(0), None));
    assert_eq!(house.source(), carried);
    house.up();
}

#[test]
fn p22_an_emergency_does_not_need_the_variable_that_names_the_target() {
    let house = House::new(SqliteToPostgres);
    house.config("${TARGET}", "");
    let text = fs::read_to_string(house.path("backout.toml")).unwrap();
    house.put("backout.toml", &text.replace("STORE = \"new\"", "STORE = \"${TARGET}\""));
    let said = house.project().up(&UpOptions::default()).unwrap_err();
    assert!(said.hint.contains("export TARGET") && house.phase().is_none(), "{said}");
    let target = house.target.clone();
    let known = |name: &str| (name == "TARGET").then(|| target.clone());
    let project = || Project::open(house.folder.path(), &known).unwrap();
    ok(project().up(&UpOptions::default()));
    house.at_target("INSERT INTO things (id, word) VALUES (6, 'six')");
    ok(project().shadow());
    let carried = rows(&[(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five"), (6, "six")]);
    let said = house.project().rollback(&RollbackOptions::default()).unwrap_err();
    assert!(said.hint.contains("rollback --emergency") && said.to_string().contains("TARGET"), "{said} {}", said.hint);
    let out = house.emergency();
    assert_eq!((out.phase, house.source()), (Some(Phase::Outstanding), carried));
    house.runs_on_the_source();
    assert_eq!(ok(project().salvage(false)).phase, Some(Phase::RolledBack));
}

#[test]
fn p22_a_dropped_table_leaves_the_emergency() {
    let house = House::new(SqliteToPostgres);
    house.up();
    let (carried, _) = written(&house);
    house
        .at_target("INSERT INTO more VALUES (5, 1); UPDATE more SET thing = 2 WHERE id = 1; DROP TABLE things CASCADE");
    let said = house.project().rollback(&RollbackOptions::default()).unwrap_err();
    assert!(said.hint.contains("rollback --emergency"), "{}", said.hint);
    let out = house.emergency();
    assert_eq!((out.phase, house.source()), (Some(Phase::Outstanding), carried.clone()));
    assert!(out.notes.iter().any(|n| n.contains("things is gone")), "{:?}", out.notes);
    // what is still there is sealed
    assert!(house.try_target("INSERT INTO more VALUES (2, 1)").is_err());
    house.runs_on_the_source();
    let said = house.project().salvage(false).unwrap_err();
    assert!(said.hint.contains("salvage --forget") && said.to_string().contains("things is not in"), "{said}");
    // what other tables have is carried all the same
    let more = || -> Vec<(i64, i64)> {
        let file = house.sqlite("source.db");
        let mut s = file.prepare("SELECT id, thing FROM more ORDER BY id").unwrap();
        s.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!((house.source(), more()), (carried.clone(), vec![(1, 2), (5, 1)]));
    // again, for nothing
    assert!(house.project().salvage(false).is_err());
    assert_eq!((house.phase(), more()), (Some(Phase::Outstanding), vec![(1, 2), (5, 1)]));
    ok(house.project().salvage(true));
    assert_eq!(house.source(), carried);
    // what was left there is set aside, and the place is free
    house.up();
}

#[test]
fn p22_an_emergency_cut_off_anywhere_goes_on() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        for at in ["target: sealed", "source: open", "source: phase outstanding"] {
            let house = House::new(pair);
            house.up();
            written(&house);
            let asked = RollbackOptions { emergency: true, ..Default::default() };
            // an effect at the target fails in its own thread, which the emergency does without
            if at != "target: sealed" {
                house.killed(at, |p| p.rollback(&asked));
                let out = ok(house.project().resume(None));
                assert_eq!(out.phase, Some(Phase::RolledBack), "{pair:?} {at}: {out:?}");
            } else {
                let at = at.to_owned();
                let gate = Gate::watched(move |what| {
                    if what == at {
                        resume_unwind(Box::new("killed"));
                    }
                });
                let out = ok(house.project().gated(gate).rollback(&asked));
                assert_eq!(out.phase, Some(Phase::Outstanding));
                ok(house.project().salvage(false));
            }
            let wanted = rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight")]);
            assert_eq!(house.source(), wanted, "{pair:?} {at}");
            house.runs_on_the_source();
            assert_eq!(house.phase(), None);
        }
    }
}

#[test]
fn p22_an_emergency_in_a_cutover_that_was_cut_off_goes_back_to_where_it_was() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        for (at, gone) in [("receiver: open", false), ("receiver: open", true), ("source: soaking", false)] {
            let house = House::new(pair);
            let first = house.source();
            house.killed(at, |p| p.up(&UpOptions::default()));
            assert_eq!(house.phase(), Some(Phase::CuttingOver));
            if gone {
                house.config("postgres://nobody@127.0.0.1:1/nowhere", "");
            }
            let out = house.emergency();
            let ends = if gone { Phase::Outstanding } else { Phase::RolledBack };
            assert_eq!((out.phase, house.source()), (Some(ends), first), "{pair:?} {at} {gone}");
            house.runs_on_the_source();
        }
    }
}

/// Killed in place of each effect, from the first to the last; each time it is gone on with by what `status` proposes.
fn swept(prepare: impl Fn() -> House, run: impl Fn(Project) -> Result<Outcome, Failure>, wanted: impl Fn(&House)) {
    for n in 1.. {
        let house = prepare();
        let gate = Gate::with_trap(n, |_| resume_unwind(Box::new("killed")));
        let project = house.project().gated(gate);
        let end = catch_unwind(AssertUnwindSafe(|| run(project)));
        // in the thread that asks the target it is the target that fails
        let done = matches!(&end, Ok(Ok(out)) if out.effects < n);
        match house.phase() {
            None => {}
            Some(Phase::Soaking) => drop(ok(run(house.project()))),
            Some(Phase::Outstanding) => drop(ok(house.project().salvage(false))),
            Some(_) => {
                let out = ok(house.project().resume(None));
                if out.phase == Some(Phase::Outstanding) {
                    ok(house.project().salvage(false));
                }
            }
        }
        assert_eq!(house.phase(), None, "killed at effect {n}");
        wanted(&house);
        house.runs_on_the_source();
        if done {
            assert!(n > 10, "{n}");
            return;
        }
    }
}

#[test]
fn p22_an_emergency_killed_at_each_effect() {
    let asked = RollbackOptions { emergency: true, ..Default::default() };
    swept(
        || {
            let house = House::new(JsonToSqlite);
            house.up();
            written(&house);
            house
        },
        |project| project.rollback(&asked),
        |house| {
            let wanted = rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight")]);
            assert_eq!(house.source(), wanted);
        },
    );
}

#[test]
fn p22_a_salvage_killed_at_each_effect() {
    swept(
        || {
            let house = House::new(JsonToSqlite);
            house.up();
            written(&house);
            house.config("postgres://nobody@127.0.0.1:1/nowhere", "");
            house.emergency();
            house.config(&house.target, "");
            house.at_source(&[(3, Some("trois")), (1, Some("un"))]);
            house
        },
        |project| project.salvage(false),
        |house| {
            let wanted = rows(&[(1, "un"), (2, "zwei"), (3, "trois"), (6, "six"), (7, "seven"), (8, "eight")]);
            assert_eq!(house.source(), wanted);
            let names =
                fs::read_dir(house.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            let parked: Vec<String> = names.filter(|n| n.starts_with("backout-parked-")).collect();
            assert_eq!(fs::read_to_string(house.path(&parked[0])).unwrap().lines().count(), 1);
        },
    );
}

#[test]
fn p25_a_discard_killed_at_each_effect() {
    let asked = RollbackOptions { discard: true, ..Default::default() };
    swept(
        || {
            let house = House::new(JsonToSqlite);
            house.up();
            house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2; DELETE FROM things WHERE id = 4");
            house.shadow();
            house.at_target(
                "UPDATE things SET word = 'deux' WHERE id = 2; INSERT INTO things (id, word) VALUES (6, 'six')",
            );
            house
        },
        |project| project.rollback(&asked),
        |house| {
            let wanted = rows(&[(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five")]);
            assert_eq!(house.source(), wanted);
        },
    );
}

#[test]
fn p22_a_salvage_cut_off_and_written_to_meanwhile_does_not_take_it_for_a_conflict() {
    let house = House::new(SqliteToPostgres);
    house.up();
    written(&house);
    house.config("postgres://nobody@127.0.0.1:1/nowhere", "");
    house.emergency();
    house.config(&house.target, "");
    house.killed("source: salvaged", |p| p.salvage(false));
    // from before it was read nobody writes to the target any more
    assert!(house.try_target("INSERT INTO things (id, word) VALUES (9, 'nine')").unwrap_err().contains("resting"));
    house.killed("target: closed", |p| p.salvage(false));
    // 7 has come by now, and the application changes it
    house.at_source(&[(7, Some("sept"))]);
    let out = ok(house.project().salvage(false));
    assert!(out.parked.is_empty(), "{:?}", out.parked);
    assert_eq!(house.source(), rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "sept"), (8, "eight")]));
}

#[test]
fn p16_a_salvaged_target_whose_log_is_not_the_one_known_is_compared_in_full() {
    let house = House::new(SqliteToPostgres);
    house.up();
    written(&house);
    house.config("postgres://nobody@127.0.0.1:1/nowhere", "");
    house.emergency();
    house.at_source(&[(3, Some("trois")), (20, Some("mine"))]);
    house.config(&house.target, "");
    // as in a copy that was put back: the marker of the last drain is not there
    house.at_target("DELETE FROM backout.mark");
    let out = ok(house.project().salvage(false));
    // 5 is only here: whether the target deleted it, or never had it, cannot be told, so it stays
    let wanted = rows(&[
        (1, "one"),
        (2, "zwei"),
        (3, "trois"),
        (5, "five"),
        (6, "six"),
        (7, "seven"),
        (8, "eight"),
        (20, "mine"),
    ]);
    assert_eq!(house.source(), wanted);
    assert!(out.parked.iter().any(|p| p.contains("only in the source")), "{:?}", out.parked);
    assert!(out.parked.iter().any(|p| p.contains("things 3 was changed in the source")), "{:?}", out.parked);
    // of 20, which was born here, there is nothing to tell
    assert_eq!(out.parked.len(), 2, "{:?}", out.parked);
}

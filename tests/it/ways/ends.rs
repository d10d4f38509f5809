//! What is left of parked rows, of resting files and of targets; and the time that a way back may take.

use super::*;

#[test]
fn p12_parked_rows_are_exported_by_a_rollback_and_by_a_completion() {
    for complete in [false, true] {
        let house = House::new(SqliteToPostgres);
        house.up();
        house.at_target("INSERT INTO things (id, word) VALUES (6, 'six')");
        house.at_target("ALTER TABLE things DROP CONSTRAINT IF EXISTS things_word_check");
        house.at_target("INSERT INTO things (id, word) VALUES (7, 'bad')");
        house.shadow();
        let out = if complete {
            ok(house.project().complete(false))
        } else {
            ok(house.project().rollback(&RollbackOptions::default()))
        };
        assert_eq!(out.parked.len(), usize::from(!complete), "{out:?}");
        let left = house.exported(&out);
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!((left[0]["key"]["id"].as_i64(), &left[0]["after"]["word"]), (Some(7), &Json::from("bad")));
        assert!(house.source().contains(&(6, "six".into())) && !house.source().contains(&(7, "bad".into())));
    }
}

#[test]
fn p20_a_resting_file_that_others_wrote_is_kept_and_gives_way_to_the_target() {
    for gone in [false, true] {
        let house = House::new(JsonToSqlite);
        house.up();
        let (carried, _) = written(&house);
        let mut foreign = carried.clone();
        foreign[0].1 = "by a stranger".into();
        foreign.push((77, "a stranger's".into()));
        house.put_json(&foreign);
        let bytes = fs::read(house.path("source.json")).unwrap();
        let said = house.project().rollback(&RollbackOptions::default()).unwrap_err();
        assert!(said.hint.contains("--emergency"), "{}", said.hint);
        assert_eq!(fs::read(house.path("source.json")).unwrap(), bytes);
        if gone {
            fs::remove_file(house.path("target.db")).unwrap();
        }
        let run = house.project().status().unwrap().unwrap().source.run;
        let out = house.emergency();
        let note = out.notes.iter().find(|n| n.contains("kept as")).unwrap();
        let copy = house.path(&format!("source.json.foreign-{run}"));
        assert!(note.contains(&copy.display().to_string()), "{note}");
        assert_eq!(fs::read(&copy).unwrap(), bytes);
        if gone {
            assert_eq!(house.source(), foreign);
        } else {
            let wanted = rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight")]);
            assert_eq!(house.source(), wanted);
        }
        house.runs_on_the_source();
    }
}

#[test]
fn p20_what_others_wrote_to_a_resting_file_twice_is_kept_twice() {
    let house = House::new(JsonToSqlite);
    house.up();
    written(&house);
    let run = house.project().status().unwrap().unwrap().source.run;
    let mut kept = Vec::new();
    for word in ["first", "second"] {
        house.put_json(&rows(&[(1, word)]));
        kept.push(fs::read(house.path("source.json")).unwrap());
        let asked = RollbackOptions { emergency: true, ..Default::default() };
        house.killed("source: what is there is accepted", |p| p.rollback(&asked));
    }
    house.emergency();
    let copies = ["", "-2"].map(|end| fs::read(house.path(&format!("source.json.foreign-{run}{end}"))).unwrap());
    assert_eq!(copies.to_vec(), kept);
    assert!(!house.path(&format!("source.json.foreign-{run}-3")).exists());
    house.runs_on_the_source();
}

#[test]
fn m04_a_rollback_whose_time_is_used_up_is_called_off_and_says_so() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        let house = House::new(pair);
        // the application takes its time to stop
        let slow = SWITCH.replace("rm -f running", "sleep 0.4; rm -f running");
        let text = fs::read_to_string(house.path("backout.toml")).unwrap().replace(SWITCH, &slow);
        house.up();
        house.put("backout.toml", &text);
        house.at_target("INSERT INTO things (id, word) VALUES (6, 'six')");
        let asked = RollbackOptions { timeout: Some(Duration::from_millis(350)), ..Default::default() };
        let said = house.project().rollback(&asked).unwrap_err();
        assert!(matches!(said.code(), "called_off" | "timed_out"), "{said}: {}", said.code());
        assert_eq!((said.exit, house.phase()), (1, Some(Phase::Soaking)));
        assert!(said.state.contains("runs on the target"), "{}", said.state);
        // it is live again, and nothing was lost
        assert!(house.path("running").exists());
        house.at_target("INSERT INTO things (id, word) VALUES (7, 'seven')");
        let out = ok(house.project().rollback(&RollbackOptions::default()));
        assert_eq!(out.budget, Some((300.0, true)), "{out:?}");
        assert!(house.source().ends_with(&rows(&[(6, "six"), (7, "seven")])));
    }
}

#[test]
fn m04_a_target_that_falls_silent_in_the_middle_ends_the_waiting_and_leaves_the_emergency() {
    let mut server = Server::new();
    let house = House::on(&server);
    house.up();
    written(&house);
    let (freeze, thaw) = server.freezing();
    // it falls silent when the rollback has just stopped the application
    let service = SWITCH.replace("rm -f running", &format!("rm -f running; {freeze}"));
    let service = service.replace("check =", "timeout = \"1s\"\ncheck =");
    let text = fs::read_to_string(house.path("backout.toml")).unwrap().replace(SWITCH, &service);
    house.put("backout.toml", &text);
    let backout = |args: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_backout")).args(args).current_dir(house.folder.path()).output();
        let done = done.unwrap();
        (done.status.code(), serde_json::from_slice::<Json>(&done.stdout).unwrap())
    };
    let begun = Instant::now();
    let (code, said) = backout(&["rollback", "--timeout", "1s", "--json"]);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!((code, said["error"]["code"].as_str()), (Some(8), Some("target_lost")), "{said}");
    assert!(said["error"]["hint"].as_str().unwrap().contains("rollback --emergency"), "{said}");
    house.config(&house.target, "");
    let (code, said) = backout(&["rollback", "--emergency", "--timeout", "8s", "--json"]);
    assert_eq!((code, said["phase"].as_str()), (Some(0), Some("outstanding")), "{said}");
    // it had been carried before the application was stopped
    let wanted = rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight")]);
    assert_eq!(house.source(), wanted);
    house.runs_on_the_source();
    assert!(Command::new("sh").args(["-c", &thaw]).status().unwrap().success());
    let (code, said) = backout(&["salvage", "--json"]);
    assert_eq!((code, said["phase"].as_str()), (Some(0), Some("rolled_back")), "{said}");
    assert_eq!(house.source(), wanted);
}

#[test]
fn p22_what_is_said_to_be_carried_is_true_to_the_write_while_a_writer_writes() {
    let server = Server::new();
    let house = House::on(&server);
    house.up();
    let url = server.url();
    let (told, heard) = std::sync::mpsc::channel::<(i64, jiff::Timestamp)>();
    let writer = std::thread::spawn(move || {
        let mut client = Client::connect(&url, NoTls).unwrap();
        for id in 100.. {
            if client.execute("INSERT INTO things (id, word) VALUES ($1, 'w')", &[&id]).is_err() {
                return id;
            }
            let Ok(row) = client.query_one("SELECT clock_timestamp()::text", &[]) else { return id + 1 };
            let at: String = row.get(0);
            let _ = told.send((id, at.replace("+00", "+00:00").parse().unwrap()));
        }
        0
    });
    for _ in 0..5 {
        house.shadow();
    }
    // a few more than were carried, certainly
    let mut ledger: Vec<_> = heard.iter().take(200).collect();
    server.stop();
    let attempted = writer.join().unwrap();
    ledger.extend(heard);
    let out = house.emergency();
    let here: Vec<i64> = house.source().into_iter().map(|(id, _)| id).filter(|id| *id >= 100).collect();
    let upto = upto(&out);
    let promised: Vec<i64> = ledger.iter().filter(|(_, at)| *at <= upto).map(|(id, _)| *id).collect();
    assert!(!promised.is_empty() && promised.len() < ledger.len(), "{} of {}", promised.len(), ledger.len());
    let lost: Vec<&i64> = promised.iter().filter(|id| !here.contains(id)).collect();
    assert!(lost.is_empty(), "said to be carried, and are not: {lost:?} (up to {upto})");
    server.start();
    ok(house.project().salvage(false));
    let here: Vec<i64> = house.source().into_iter().map(|(id, _)| id).filter(|id| *id >= 100).collect();
    assert!(ledger.iter().all(|(id, _)| here.contains(id)), "{} of {}", here.len(), ledger.len());
    // the last one may have been written though nobody was told
    assert!(here.iter().all(|id| *id <= attempted));
}

#[test]
fn p27_a_completion_that_is_cut_off_still_drops_what_it_was_told_to() {
    let house = House::new(SqliteToPostgres);
    house.up();
    house.killed("target: closed", |p| p.complete(true));
    assert_eq!(house.phase(), Some(Phase::Completing));
    ok(house.project().resume(None));
    let there: i64 = house
        .sqlite("source.db")
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'things'", [], |r| r.get(0))
        .unwrap();
    assert_eq!(there, 0);
}

#[test]
fn p23_a_target_is_kept_aside_or_dropped_and_the_way_up_is_free() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        for clean in [false, true] {
            let house = House::new(pair);
            for round in 0..2 {
                house.up();
                house.at_target(&format!("INSERT INTO things (id, word) VALUES ({}, 'new')", 10 + round));
                let asked = RollbackOptions { clean_target: Some(clean), ..Default::default() };
                let out = ok(house.project().rollback(&asked));
                assert_eq!(out.kept.is_some(), !clean, "{pair:?}: {:?}", out.kept);
                assert!(house.source().contains(&(10 + round, "new".into())));
                assert!(house.try_target("SELECT * FROM things").is_err());
            }
            let kept: i64 = if pair == JsonToSqlite {
                let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name LIKE '%things%'";
                house.sqlite("target.db").query_row(sql, [], |r| r.get(0)).unwrap()
            } else {
                let sql = "SELECT count(*) FROM pg_catalog.pg_tables WHERE tablename LIKE '%things%'";
                Client::connect(&house.target, NoTls).unwrap().query_one(sql, &[]).unwrap().get(0)
            };
            assert_eq!(kept, if clean { 0_i64 } else { 2 }, "{pair:?}");
        }
    }
}

/// A crash of the giver right after the receiver has what it gave must not take back what that was.
#[test]
fn p05_what_a_receiver_commits_is_durable_in_its_giver_before() {
    let server = Arc::new(Server::new());
    // commits are told before they are written, and nobody writes them soon
    for set in ["synchronous_commit = off", "wal_writer_delay = '10s'", "wal_writer_flush_after = '1GB'"] {
        let mut admin = Client::connect(&server.url(), NoTls).unwrap();
        admin.batch_execute(&format!("ALTER SYSTEM SET {set}")).unwrap();
    }
    server.stop();
    server.start();
    let house = House::on(&server);
    house.up();
    house.shadow();
    house.at_target("INSERT INTO things (id, word) VALUES (6, 'six')");
    let (seen, crashing) = (Arc::new(Mutex::new(0)), server.clone());
    let gate = Gate::between(move |what| {
        let mut seen = seen.lock().unwrap();
        *seen += usize::from(what == "receiver: changes");
        if *seen == 2 {
            // it has committed just now
            *seen += 1;
            crashing.stop();
        }
    });
    house.project().gated(gate).shadow().unwrap_err();
    server.start();
    assert_eq!(house.source().last().unwrap(), &(6, "six".to_owned()));
    assert_eq!(ok(house.project().shadow()).parked, Vec::<String>::new(), "the target is no earlier state of itself");
    ok(house.project().rollback(&RollbackOptions::default()));
    assert_eq!(house.source().len(), 6);
}

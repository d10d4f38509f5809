//! The example projects, run as a user would: copied, planned, up, a write, back.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backout::migrate::{Project, RollbackOptions, UpOptions};
use backout::store::Phase;
use postgres::{Client, SimpleQueryMessage};

fn copy(name: &str) -> tempfile::TempDir {
    fn all(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for e in std::fs::read_dir(from).unwrap() {
            let e = e.unwrap();
            let to = to.join(e.file_name());
            if e.file_type().unwrap().is_dir() {
                all(&e.path(), &to)
            } else {
                std::fs::copy(e.path(), to).map(|_| ()).unwrap()
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    all(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name), folder.path());
    folder
}

#[test]
fn the_reminder_bot_goes_there_and_back() {
    let folder = copy("reminder-bot");
    let path = |f: &str| folder.path().join(f);
    std::fs::copy(path("env.example"), path(".env")).unwrap();
    std::fs::write(path("bot.running"), "").unwrap();
    let before = std::fs::read_to_string(path("watched_reminders.json")).unwrap();
    let project = Project::open(folder.path(), &|_| None).unwrap();
    project.up(&UpOptions::default()).unwrap();
    assert!(std::fs::read_to_string(path(".env")).unwrap().contains("USE_SQLITE=true"));
    assert!(path("bot.running").exists());
    let db = rusqlite::Connection::open(path("discord_bot.db")).unwrap();
    let row: (i64, f64, bool, String) = db
        .query_row(
            "select message_id, interval_minutes, paused, reactions from events where event_id = '1140001'",
            [],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)),
        )
        .unwrap();
    assert_eq!(row, (1_140_001, 30.0, false, "[\"\\u2705\",\"\\u274c\"]".to_owned()));
    db.execute("update events set paused = 0 where event_id = '1140002'", []).unwrap();
    let back = project.rollback(&RollbackOptions::default()).unwrap();
    assert_eq!(back.carried, 1);
    let after = std::fs::read_to_string(path("watched_reminders.json")).unwrap();
    assert_eq!(after, before.replace("\"paused\": true", "\"paused\": false"));
    assert_eq!(std::fs::read(path(".env")).unwrap(), std::fs::read(path("env.example")).unwrap());
}

#[test]
fn the_signage_player_goes_there_and_back() {
    let folder = copy("signage");
    let path = |f: &str| folder.path().join(f);
    let source = rusqlite::Connection::open(path("screenly.db")).unwrap();
    source.execute_batch(&std::fs::read_to_string(path("schema.sql")).unwrap()).unwrap();
    let server = super::database::Database::new();
    let url = server.url.clone();
    let project = Project::open(folder.path(), &|name| (name == "DATABASE_URL").then(|| url.clone())).unwrap();
    project.up(&UpOptions::default()).unwrap();
    assert!(std::fs::read_to_string(path("settings.py")).unwrap().contains("postgresql"));
    let mut client = server.client();
    assert_eq!(client.execute("update assets set play_order = 7 where name = 'Météo'", &[]).unwrap(), 1);
    let back = project.rollback(&RollbackOptions::default()).unwrap();
    assert_eq!(back.carried, 1);
    let (order, start): (i64, String) = source
        .query_row("select play_order, start_date from assets where asset_id = '9a1f0c77'", [], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })
        .unwrap();
    assert_eq!((order, start.as_str()), (7, "2025-01-28 14:00:00.250000"));
    assert!(std::fs::read_to_string(path("settings.py")).unwrap().contains("sqlite3"));
}

#[test]
fn the_versioned_bot_goes_up_by_steps_and_back_to_base() {
    let folder = copy("versioned-bot");
    let db = rusqlite::Connection::open(folder.path().join("bot.db")).unwrap();
    let project = || Project::open(folder.path(), &|_| None).unwrap();
    let back = |to: &str| project().rollback(&RollbackOptions { to: Some(to.into()), ..RollbackOptions::default() });
    assert!(project().check().unwrap().iter().all(|c| c.lost.is_empty() && c.findings.is_empty()));
    project().up(&UpOptions { revision: Some("+2".into()), ..UpOptions::default() }).unwrap();
    db.execute_batch(
        "INSERT INTO events VALUES (1, 9, 'raid', '2025-02-05 20:00'), (2, 9, 'quiz', '2025-02-06 20:00'); \
         INSERT INTO reactions VALUES (1, 'yes')",
    )
    .unwrap();
    project().up(&UpOptions::default()).unwrap();
    db.execute_batch("UPDATE events SET title = 'pub quiz' WHERE id = 2").unwrap();
    back("-1").unwrap();
    let told: String = db
        .query_row("SELECT group_concat(title || ' ' || starts_at, ', ' ORDER BY id) FROM events", [], |r| r.get(0))
        .unwrap();
    assert_eq!(told, "raid 2025-02-05 20:00, pub quiz 2025-02-06 20:00");
    assert_eq!(project().drift().unwrap(), [""; 0]);
    back("base").unwrap();
    let left: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name IN ('events', 'reactions')", [], |r| r.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A program that goes on until it is told to stop.
struct Going(Child);

impl Going {
    fn stop(mut self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, signal).unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn the_media_service_uploads_through_a_merge_and_back() {
    let folder = copy("media-service");
    let path = |f: &str| folder.path().join(f);
    let db = rusqlite::Connection::open(path("media.db")).unwrap();
    db.execute_batch(&std::fs::read_to_string(path("schema.sql")).unwrap()).unwrap();
    db.execute("VACUUM INTO ?1", [path("before.db").to_str().unwrap()]).unwrap();
    let python = |file: &str| {
        let mut command = Command::new("python3");
        command.current_dir(folder.path()).arg(file);
        command
    };
    let verify = |state: &str| {
        let out = python("verify.py").arg(state).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{state}: {said}{}", String::from_utf8_lossy(&out.stderr));
        said
    };
    let begin = || Going(python("uploader.py").spawn().expect("python3 runs the example's uploader"));
    let uploaded = |more: usize| {
        let goal = lines(&path("uploads.log")) + more;
        until("uploads", || lines(&path("uploads.log")) >= goal);
    };
    let project = || Project::open(folder.path(), &|_| None).unwrap();
    let schema = || -> Vec<String> {
        let sql = "SELECT sql FROM sqlite_schema WHERE sql NOT NULL AND name NOT GLOB 'backout_*' AND tbl_name NOT GLOB 'backout_*' \
                   AND name <> 'migration_log' ORDER BY name";
        db.prepare(sql).unwrap().query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let before = schema();

    verify("apart");
    // one connection through all of it
    let uploader = begin();
    uploaded(20);
    assert_eq!(project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    uploaded(40);
    let back = project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((back.phase, back.parked), (Some(Phase::RolledBack), Vec::new()));
    assert!(back.carried > 20, "{}", back.carried);
    uploaded(20);
    uploader.stop(rustix::process::Signal::TERM);
    let said = verify("apart");
    assert!(!said.contains("uploaded images are there: 0") && !said.contains("uploaded docs are there: 0"), "{said}");
    assert_eq!(schema(), before);
    // the next upload has the next number
    let (most, given): (i64, i64) = db
        .query_row(
            "SELECT (SELECT max(id) FROM docs), (SELECT seq FROM sqlite_sequence WHERE name = 'docs')",
            [],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .unwrap();
    assert!(given >= most && given < 2000, "{most}, {given}");
}

#[test]
fn the_media_service_stays_merged() {
    let folder = copy("media-service");
    let path = |f: &str| folder.path().join(f);
    let db = rusqlite::Connection::open(path("media.db")).unwrap();
    db.execute_batch(&std::fs::read_to_string(path("schema.sql")).unwrap()).unwrap();
    db.execute("VACUUM INTO ?1", [path("before.db").to_str().unwrap()]).unwrap();
    let python = |arguments: [&str; 2]| {
        let out = Command::new("python3").current_dir(folder.path()).args(arguments).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        (out.status.success(), said)
    };
    let well = |arguments: [&str; 2]| {
        let (well, said) = python(arguments);
        assert!(well, "{arguments:?}: {said}");
    };
    let project = || Project::open(folder.path(), &|_| None).unwrap();
    well(["uploader.py", "30"]);
    project().up(&UpOptions::default()).unwrap();
    well(["uploader.py", "30"]);
    well(["verify.py", "merged"]);
    // the script sees what is not so
    assert!(!python(["verify.py", "apart"]).0);
    db.execute_batch("BEGIN; UPDATE media SET title = title || '!' WHERE id = 17; COMMIT").unwrap();
    let (found, said) = python(["verify.py", "merged"]);
    assert!(
        !found && said.contains("FAILED  images from before are as they were: https://media.example.org/i/17.png"),
        "{said}"
    );
    db.execute_batch("UPDATE media SET title = rtrim(title, '!') WHERE id = 17").unwrap();
    project().complete(false).unwrap();
    well(["uploader.py", "30"]);
    well(["verify.py", "merged"]);
    let outcome: String = db.query_row("SELECT outcome FROM migration_log", [], |r| r.get(0)).unwrap();
    assert_eq!(outcome, "completed");
}

/// Rows of text of every query of a script for psql.
fn answers(client: &mut Client, script: &str) -> Vec<Vec<String>> {
    let script: String = script.lines().filter(|l| !l.starts_with('\\')).map(|l| format!("{l}\n")).collect();
    let mut out = Vec::new();
    for m in client.simple_query(&script).unwrap() {
        if let SimpleQueryMessage::Row(r) = m {
            out.push((0..r.len()).map(|i| r.get(i).unwrap_or("∅").to_owned()).collect());
        }
    }
    out
}

#[test]
fn the_journal_app_gets_uuids_under_load_and_its_text_ids_back() {
    let folder = copy("journal-app");
    let path = |f: &str| folder.path().join(f);
    let read = |f: &str| std::fs::read_to_string(path(f)).unwrap();
    let server = super::database::Database::new();
    let url = server.url.clone();
    let program = |name: &str| {
        let bin = std::env::var("BACKOUT_TEST_PG_BIN").expect("start the tests with scripts/test");
        let mut command = Command::new(Path::new(&bin).join(name));
        command.current_dir(folder.path()).stdin(Stdio::null());
        command
    };
    let psql = |arguments: &[&str]| {
        let out = program("psql").args(["-qX", "-v", "ON_ERROR_STOP=1"]).args(arguments).arg(&url).output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    psql(&["-f", "schema.sql"]);
    psql(&["-v", "entries=1000", "-f", "make_data.sql"]);
    psql(&["-f", "validate.sql"]);
    let project = || Project::open(folder.path(), &|name| (name == "DATABASE_URL").then(|| url.clone())).unwrap();
    let mut client = server.client();
    let types = |rows: &[Vec<String>]| -> Vec<String> {
        rows.iter().filter(|r| r.len() == 3 && r[1].ends_with("id")).map(|r| r[2].clone()).take(7).collect()
    };
    // orphans: the answers of one number each
    let orphans = |rows: &[Vec<String>]| rows.iter().filter(|r| r.len() == 1).map(|r| r[0].clone()).collect::<Vec<_>>();
    let rest = |rows: &[Vec<String>]| rows.iter().skip(7 + 4 + 3).cloned().collect::<Vec<_>>();
    let definitions = "SELECT tgname, pg_get_triggerdef(oid), tgenabled FROM pg_trigger \
            WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace) ORDER BY 1; \
        SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'; \
        SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint \
            WHERE connamespace = 'public'::regnamespace ORDER BY 2; \
        SELECT attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod), pg_get_expr(adbin, adrelid), \
                col_description(attrelid, attnum) FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum \
            WHERE attnum > 0 AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace) ORDER BY 1, 2";
    let (was, defined) = (answers(&mut client, &read("validate.sql")), answers(&mut client, definitions));
    assert_eq!(types(&was), ["character varying"; 7]);
    assert_eq!(orphans(&was), ["0"; 3]);

    let mut load = program("pgbench");
    load.args([
        "-n",
        "-c",
        "4",
        "-R",
        "300",
        "-T",
        "600",
        "-D",
        "users=50",
        "-f",
        "load/write.sql@1",
        "-f",
        "load/read.sql@3",
    ]);
    let mut load = Going(load.arg(&url).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let written = |client: &mut Client| -> i64 {
        client.query_one("SELECT count(*) FROM journal_entries WHERE title LIKE 'written by%'", &[]).unwrap().get(0)
    };
    until("entries", || written(&mut client) > 20);
    let out = project().up(&UpOptions::default()).unwrap();
    assert_eq!(out.phase, Some(Phase::Soaking));
    let now = answers(&mut client, &read("validate.sql"));
    assert_eq!((types(&now), orphans(&now)), (vec!["uuid".to_owned(); 7], vec!["0".to_owned(); 3]));
    // the originals rest where they are looked for
    let kept = answers(&mut client, &read("audit.sql"));
    assert!(kept.contains(&vec!["migration_backup".into()]), "{kept:?}");
    for table in ["users", "journal_entries", "tags", "reminders"] {
        assert!(kept.contains(&vec![table.into(), "id".into(), "character varying(36)".into()]), "{kept:?}");
    }
    let goal = written(&mut client) + 50;
    until("entries with UUIDs", || written(&mut client) > goal);
    let back = project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((back.phase, back.parked), (Some(Phase::RolledBack), Vec::new()));
    assert!(back.carried > 50, "{}", back.carried);
    let goal = written(&mut client) + 20;
    until("entries with text again", || written(&mut client) > goal);
    // nobody heard of an error until now; the sessions are ended, for it then says how much was acknowledged
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'";
    assert_eq!(client.query(ended, &[]).unwrap().len(), 4, "a client of pgbench has given up");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut load.0.stdout.take().unwrap(), &mut said).unwrap();
    let of_writes = said.split("load/write.sql").nth(1).and_then(|s| s.split(" - ").nth(2)).expect(&said);
    let acknowledged: i64 = of_writes.split(' ').next().unwrap().parse().expect(&said);
    // one of each client's may have been cut off after its commit
    let found = written(&mut client);
    assert!((acknowledged..=acknowledged + 4).contains(&found), "{found} found of\n{said}");
    let sql = "SELECT count(*) FROM journal_entries e JOIN reminders r ON r.entry_id = e.id WHERE e.title LIKE 'written by%' \
               AND e.body = 'under load, and mended' AND e.mood = 4 AND r.done AND e.updated_at >= e.created_at";
    let whole: i64 = client.query_one(sql, &[]).unwrap().get(0);
    assert!((acknowledged..=acknowledged + 4).contains(&whole), "{whole} whole of\n{said}");
    let now = answers(&mut client, &read("validate.sql"));
    assert_eq!((types(&now), orphans(&now)), (types(&was), orphans(&was)));
    assert_eq!(rest(&now), rest(&was), "constraints and indexes");
    assert_eq!(answers(&mut client, definitions), defined);
    let log = answers(&mut client, &read("audit.sql"));
    assert_eq!((log.len(), log[0][2].as_str()), (1, "rolled back"), "{log:?}");
}

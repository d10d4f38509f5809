//! The example projects, run as a user would: copied, planned, up, a write, back.

use std::path::{Path, PathBuf};

use backout::migrate::{Project, RollbackOptions, UpOptions};

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

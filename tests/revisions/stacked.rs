//! Revisions and migrations that move data, in one history (P18).

use backout::migrate::{Options, Project, RollbackOptions, Until, UpOptions};
use backout::store::Phase;
use tempfile::TempDir;

const NOTES: &str = r#"{"n1": {"text": "milk"}, "n2": {"text": "bread"}}"#;

struct Home(TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        home.file("notes.json", NOTES);
        home.file("backout.toml", "[stores]\nfiles = \"json:notes.json\"\nlocal = \"sqlite:notes.db\"\n");
        std::fs::create_dir(home.0.path().join("migrations")).unwrap();
        home.file(
            "migrations/20250101000000_to_sqlite.toml",
            "title = \"Notes move\"\n[transfer]\nfrom = \"files\"\nto = \"local\"\n\
             [[transfer.table]]\nsource = \"$\"\nkey = \"id\"\ninto = \"notes\"\n",
        );
        home
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn project(&self) -> Project {
        let options = Options { writers_stopped: true, ..Options::default() };
        Project::open(self.0.path(), &|_| None).unwrap().with(options)
    }

    fn sql(&self, text: &str) {
        rusqlite::Connection::open(self.0.path().join("notes.db")).unwrap().execute_batch(text).unwrap();
    }

    fn json(&self) -> String {
        std::fs::read_to_string(self.0.path().join("notes.json")).unwrap()
    }

    fn back(&self, to: &str) -> Result<backout::migrate::Outcome, backout::migrate::Failure> {
        self.project().rollback(&RollbackOptions { to: Some(to.into()), ..RollbackOptions::default() })
    }
}

#[test]
fn p18_revisions_on_a_soaking_target_are_taken_back_first_and_no_write_is_lost() {
    for (up, down) in [
        // beside the tables that follow
        ("CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT);", "DROP TABLE tags;"),
        // in one of them: the source cannot follow past it
        ("ALTER TABLE notes ADD COLUMN stars INTEGER;", "ALTER TABLE notes DROP COLUMN stars;"),
    ] {
        let home = Home::new();
        home.file("migrations/20250102000000_more.sql", &format!("-- migrate:up\n{up}\n-- migrate:down\n{down}\n"));
        let done = home.project().up(&UpOptions::default()).unwrap();
        assert_eq!(done.revisions.len(), 1, "the data moved, and the revision ran on top of it");
        let list = home.project().list().unwrap();
        assert!(list.iter().all(|m| m.applied), "{list:?}");
        home.sql(
            "UPDATE notes SET text = 'oat milk' WHERE id = 'n1'; INSERT INTO notes (id, text) VALUES ('n3', 'tea')",
        );
        let back = home.back("base").unwrap();
        assert_eq!(back.revisions.len(), 1);
        assert_eq!(
            home.json(),
            r#"{"n1": {"text": "oat milk"}, "n2": {"text": "bread"}, "n3": {"text": "tea"}}"#,
            "{up}"
        );
    }
}

#[test]
fn p18_one_step_back_takes_the_revision_and_leaves_the_migration_soaking() {
    let home = Home::new();
    home.file(
        "migrations/20250102000000_more.sql",
        "-- migrate:up\nCREATE TABLE tags (id INTEGER PRIMARY KEY);\n-- migrate:down\nDROP TABLE tags;\n",
    );
    home.project().up(&UpOptions::default()).unwrap();
    home.back("-1").unwrap();
    let list = home.project().list().unwrap();
    assert_eq!(
        list.iter().map(|m| (m.state.as_str(), m.applied)).collect::<Vec<_>>(),
        [("soaking", true), ("pending", false)]
    );
    home.back("-1").unwrap();
    assert_eq!(home.json(), NOTES);
}

#[test]
fn p18_a_revision_of_the_resting_side_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    rusqlite::Connection::open(at("a.db"))
        .unwrap()
        .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t VALUES (1, 'a')")
        .unwrap();
    std::fs::write(at("backout.toml"), "[stores]\na = \"sqlite:a.db\"\nb = \"sqlite:b.db\"\n").unwrap();
    std::fs::create_dir(at("migrations")).unwrap();
    std::fs::write(at("migrations/20250101000000_move.toml"), "[transfer]\nfrom = \"a\"\nto = \"b\"\n").unwrap();
    let sql = "-- backout:store a\n-- migrate:up\nCREATE TABLE u (id INTEGER);\n-- migrate:down\nDROP TABLE u;\n";
    let project = || Project::open(folder.path(), &|_| None).unwrap();
    project().up(&UpOptions::default()).unwrap();
    std::fs::write(at("migrations/20250102000000_u.sql"), sql).unwrap();
    let refused = project().up(&UpOptions::default()).unwrap_err();
    assert_eq!(refused.exit, 4, "{refused}");
    assert!(refused.to_string().contains("rests"), "{refused}");
}

#[test]
fn a_revision_that_cannot_be_read_does_not_stand_in_the_way_of_an_emergency() {
    let home = Home::new();
    home.project().up(&UpOptions::default()).unwrap();
    home.sql("UPDATE notes SET text = 'oat milk' WHERE id = 'n1'");
    home.file("migrations/20250102000000_broken.sql", "-- migrate:up\nSELECT 'never closed;\n");
    assert_eq!(home.back("-1").unwrap_err().exit, 2, "it is said");
    let asked = RollbackOptions { emergency: true, force: true, ..RollbackOptions::default() };
    home.project().rollback(&asked).unwrap();
    assert!(home.json().contains("oat milk"));
}

#[test]
fn a_revision_that_was_put_on_top_can_be_taken_back_after_the_window_is_closed() {
    let home = Home::new();
    let tags = "-- migrate:up\nCREATE TABLE tags (id INTEGER PRIMARY KEY);\n-- migrate:down\nDROP TABLE tags;\n";
    home.file("migrations/20250102000000_more.sql", tags);
    home.project().up(&UpOptions::default()).unwrap();
    // so that the end is of a later second than the revision
    let applied = jiff::Timestamp::now().as_second();
    while jiff::Timestamp::now().as_second() == applied {
        std::thread::yield_now();
    }
    home.project().complete(false).unwrap();
    assert_eq!(home.back("-1").unwrap().revisions.len(), 1);
    let refused = home.back("-1").unwrap_err();
    assert_eq!(refused.exit, 4);
    assert!(refused.to_string().contains("was completed at"), "{refused}");
}

#[test]
fn a_clock_that_was_set_back_changes_no_order() {
    let home = Home::new();
    for n in 2..30 {
        let text = format!("-- migrate:up\nCREATE TABLE t{n} (id INTEGER);\n-- migrate:down\nDROP TABLE t{n};\n");
        home.file(&format!("migrations/202501{n:02}000000_t{n}.sql"), &text);
    }
    home.project().up(&UpOptions::default()).unwrap();
    // times in no order at all, on both sides of the migration's own
    home.sql(
        "UPDATE backout_revision SET record = json_set(record, '$.at', \
         CASE WHEN rowid % 3 = 0 THEN '2001' ELSE '2999' END || substr(json_extract(record, '$.at'), 5))",
    );
    home.project().list().unwrap();
    for n in (27..30).rev() {
        let back = home.back("-1").unwrap();
        assert_eq!(back.revisions[0].stamp, format!("202501{n:02}000000"));
    }
}

#[test]
fn m20_a_cutover_that_took_itself_back_holds_what_comes_next() {
    let home = Home::new();
    home.file(
        "backout.toml",
        "[stores]\nfiles = \"json:notes.json\"\nlocal = \"sqlite:notes.db\"\n\
         [[service]]\nname = \"bot\"\nstop = \"test -e mended\"\nstart = \"true\"\n",
    );
    let made = "-- migrate:up\nCREATE TABLE tags (id INTEGER PRIMARY KEY);\n-- migrate:down\nDROP TABLE tags;\n";
    home.file("migrations/20250102000000_more.sql", made);
    let up = |acknowledge| home.project().up(&UpOptions { acknowledge, ..UpOptions::default() });
    assert_eq!(up(false).unwrap_err().exit, 6);
    home.file("mended", "");
    for until in [Until::Soaking, Until::Ready] {
        let held = home.project().up(&UpOptions { until, ..UpOptions::default() }).unwrap_err();
        assert_eq!(held.exit, 4, "{held}");
        assert!(held.to_string().contains("called off") && held.hint.contains("--acknowledge"), "{held} {}", held.hint);
    }
    assert_eq!(home.project().phase().unwrap(), Some(Phase::Ready));
    assert_eq!(up(true).unwrap().revisions.len(), 0, "the cutover first");
    assert_eq!(up(false).unwrap().revisions.len(), 1, "nothing is held any more");
    // a rollback by hand holds nothing
    home.back("base").unwrap();
    assert_eq!(up(false).unwrap().revisions.len(), 1);
    home.back("base").unwrap();
    // whoever asks for that very thing has seen it
    std::fs::remove_file(home.0.path().join("mended")).unwrap();
    up(false).unwrap_err();
    home.project().cutover().unwrap_err();
    up(false).unwrap_err();
    home.file("mended", "");
    home.project().cutover().unwrap();
    assert_eq!(up(false).unwrap().revisions.len(), 1);
}

//! Swaps in a real SQLite file, with an application that has it open.

use std::path::PathBuf;
use std::process::Command;

use backout::gate::Gate;
use backout::plan::Table;
use backout::store::{Error, HistoryLine, Mode, Op, Position, Role, Site, Store, Write, open};
use backout::value::{Batch, Key, Row, Value};
use rusqlite::Connection;
use tempfile::TempDir;

const RUN: &str = "0123456789ab";

/// Everything that a schema can have, with names that want quotes.
const ALL: &str = r#"
CREATE TABLE other (n INTEGER, said TEXT);
CREATE TABLE "or der" ( -- the parent (of lines)
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    [e mail] TEXT COLLATE NOCASE CHECK ("or der".[e mail] <> ''),
    "na""me" TEXT UNIQUE DEFAULT 'x;y',
    upper_name TEXT GENERATED ALWAYS AS (upper("na""me")) VIRTUAL,
    len INT AS (length([e mail])) STORED
);
CREATE TABLE `select` (a INT, b TEXT NOT NULL, o INT REFERENCES "or der" (id) ON DELETE CASCADE, up INT,
    PRIMARY KEY (b, a), FOREIGN KEY (b, up) references `select`(b, a) DEFERRABLE INITIALLY DEFERRED) WITHOUT ROWID;
CREATE TABLE strict1 (k TEXT PRIMARY KEY, v REAL, UNIQUE (v, k) ON CONFLICT IGNORE) STRICT;
CREATE VIEW names AS SELECT "na""me" AS n, len FROM "or der";
CREATE VIEW broken AS SELECT lost FROM nowhere;
CREATE UNIQUE INDEX "or der mail" ON "or der" ([e mail] COLLATE NOCASE DESC) WHERE "or der".len > 1;
CREATE INDEX by_low on "or der"(lower("na""me")) -- an end
;
CREATE INDEX so ON `select` (o);
CREATE TRIGGER audit AFTER UPDATE ON "or der" WHEN NEW.id > 0 BEGIN INSERT INTO other VALUES (NEW.id, 'or der'); END;
CREATE VIRTUAL TABLE found USING fts5("na""me", content='or der', content_rowid='id');
CREATE TRIGGER found_in AFTER INSERT ON "or der" BEGIN INSERT INTO found (rowid, "na""me") VALUES (new.id, new."na""me"); END;
CREATE TRIGGER through INSTEAD OF INSERT ON names BEGIN INSERT INTO "or der" ("na""me") VALUES (NEW.n); END;
CREATE TABLE last (x PRIMARY KEY, y);
CREATE TRIGGER cross AFTER INSERT ON last BEGIN UPDATE "or der" SET [e mail] = NEW.y WHERE id = NEW.x; END;
INSERT INTO "or der" VALUES (1, 'A@x', 'one'), (7, 'B@x', 'two');
DELETE FROM "or der" WHERE id = 7;
INSERT INTO `select` VALUES (1, 'b', 1, NULL), (2, 'b', 1, 1);
INSERT INTO strict1 VALUES ('k', 1.5);
ANALYZE;
"#;

struct Place {
    folder: TempDir,
    app: Connection,
}

impl Place {
    fn new(sql: &str) -> Place {
        let folder = TempDir::new().unwrap();
        let app = Connection::open(folder.path().join("app.db")).unwrap();
        app.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
        app.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        app.execute_batch(sql).unwrap();
        Place { folder, app }
    }
    fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }
    fn store(&self) -> Box<dyn Store> {
        open("sqlite:app.db", self.folder.path(), false, &Gate::default()).unwrap()
    }
    fn at(&self, role: Role, site: Site) -> Box<dyn Store> {
        let mut store = self.store();
        store.stand(role, site);
        store
    }
    fn tables(&self, names: &[&str]) -> Vec<Table> {
        let all = self.store().schema().unwrap().tables;
        names.iter().map(|n| all.iter().find(|t| t.name == *n).unwrap().as_frozen()).collect()
    }
    fn run(&self, sql: &str) {
        self.app.execute_batch(sql).unwrap();
    }
    fn texts(&self, sql: &str) -> Vec<String> {
        texts(&self.app, sql)
    }
    /// The application's schema, in the order in which it is read.
    fn schema(&self) -> Vec<String> {
        self.texts(
            "SELECT json_array(rowid, type, name, tbl_name, sql) FROM sqlite_schema WHERE name NOT LIKE 'backout%' \
             AND tbl_name NOT LIKE 'backout%' AND name <> 'migration_log' ORDER BY rowid",
        )
    }
    /// SQLite, and another program of it, find nothing wrong.
    fn is_sound(&self) {
        let said = "PRAGMA integrity_check; PRAGMA foreign_key_check";
        let fresh = Connection::open(self.path()).unwrap();
        for conn in [&self.app, &fresh] {
            assert_eq!(texts(conn, "PRAGMA integrity_check"), ["ok"]);
            assert_eq!(texts(conn, "SELECT \"table\" FROM pragma_foreign_key_check"), [""; 0]);
        }
        if let Ok(out) = Command::new("sqlite3").arg(self.path()).arg(said).output() {
            assert_eq!(String::from_utf8_lossy(&out.stdout), "ok\n", "{}", String::from_utf8_lossy(&out.stderr));
        }
    }
}

fn texts(conn: &Connection, sql: &str) -> Vec<String> {
    conn.prepare(sql).unwrap().query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
}

fn refs(tables: &[Table]) -> Vec<&Table> {
    tables.iter().collect()
}

fn staged() -> Site {
    Site::Staged(RUN.into())
}

fn batch(rows: &[Row]) -> Batch {
    let mut batch = Batch::default();
    rows.iter().for_each(|r| batch.push(r));
    batch
}

fn rows_of(store: &mut dyn Store, table: &Table) -> Vec<Row> {
    store.begin(Mode::Read, &[table]).unwrap();
    let keys = store.keys(table).unwrap();
    let rows = store.fetch(table, &keys).unwrap();
    store.rollback();
    rows.into_iter().map(Option::unwrap).collect()
}

/// The targets are made beside the sources and have their rows.
fn stage(place: &Place, sources: &[Table], targets: &[Table]) {
    let (mut source, mut store) = (place.store(), place.at(Role::Target, staged()));
    for (from, to) in sources.iter().zip(targets) {
        let rows: Vec<Row> = rows_of(&mut *source, from)
            .into_iter()
            .map(|r| to.columns.iter().map(|c| from.column(&c.name).map_or(Value::Null, |i| r[i].clone())).collect())
            .collect();
        store.begin(Mode::Write, &[]).unwrap();
        store.create(&[to]).unwrap();
        store.load(to, &batch(&rows)).unwrap();
        store.commit("load").unwrap();
    }
    store.begin(Mode::Write, &[]).unwrap();
    store.build_rest(&refs(targets)).unwrap();
    store.commit("rest").unwrap();
}

/// The cutover: sources rest sealed, targets are captured. As the engine does it, through one session at the sources' side.
fn cut_over(place: &Place, sources: &[Table], targets: &[Table]) -> Position {
    let mut store = place.at(Role::Source, Site::Home);
    store.begin(Mode::Swap, &refs(sources)).unwrap();
    store.capture_off(&refs(sources)).unwrap();
    store.swap(&refs(sources), &Site::Backup, &refs(targets), &staged()).unwrap();
    store.stand(Role::Source, Site::Backup);
    store.seal(&refs(sources), RUN).unwrap();
    store.stand(Role::Target, Site::Home);
    let at = store.capture_on(&refs(targets), RUN).unwrap();
    store.commit("cut over").unwrap();
    at
}

fn roll_back(place: &Place, sources: &[Table], targets: &[Table]) {
    let mut store = place.at(Role::Target, Site::Home);
    store.begin(Mode::Swap, &refs(targets)).unwrap();
    store.capture_off(&refs(targets)).unwrap();
    store.unseal(&refs(targets)).unwrap();
    store.stand(Role::Source, Site::Backup);
    store.unseal(&refs(sources)).unwrap();
    store.swap(&refs(targets), &staged(), &refs(sources), &Site::Backup).unwrap();
    store.commit("roll back").unwrap();
}

/// `or der` loses its mail's uniqueness and gets a column; the others go along as they are.
fn altered(sources: &[Table]) -> Vec<Table> {
    let mut targets = sources.to_vec();
    let order = &mut targets[0];
    order.details.sql = None;
    order.alone.push(backout::plan::Lone {
        column: backout::plan::Column {
            name: "note".into(),
            ty: "TEXT".into(),
            not_null: true,
            default: Some("'none'".into()),
            ..Default::default()
        },
        place: 2,
    });
    targets
}

const MAPPED: [&str; 3] = ["or der", "select", "strict1"];

#[test]
fn e01_index_names_and_text_come_back() {
    let place = Place::new(ALL);
    let sources = place.tables(&MAPPED);
    let targets = altered(&sources);
    let before = place.schema();
    let counts = |p: &Place| p.texts("SELECT name || seq FROM sqlite_sequence");
    let statistics = |p: &Place| p.texts("SELECT tbl || coalesce(idx, '') || stat FROM sqlite_stat1 ORDER BY 1");
    let (sequence, stat) = (counts(&place), statistics(&place));
    let notes = place.store().may_swap(&refs(&sources), &refs(&targets)).unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("view broken"), "{notes:?}");
    stage(&place, &sources, &targets);
    let home = |p: &Place| -> Vec<String> {
        let mine =
            |l: &&String| MAPPED.iter().any(|m| l.contains(&format!("\"table\",\"{m}\""))) || l.contains("[\"index\"");
        p.schema().into_iter().filter(|l| !l.contains("migration_backup") && mine(&l)).collect()
    };
    let mut last = Vec::new();
    for _ in 0..2 {
        cut_over(&place, &sources, &targets);
        place.is_sound();
        assert!(!place.schema().iter().any(|l| l.contains("backout_stage")), "{:#?}", place.schema());
        // the same targets come home with the same texts
        let now = home(&place).into_iter().map(|l| l.split_once(',').unwrap().1.to_owned()).collect::<Vec<_>>();
        assert!(last.is_empty() || last == now, "{last:#?} {now:#?}");
        last = now;
        assert_eq!(place.texts("SELECT note FROM \"or der\""), ["none"]);
        let names = place.texts("SELECT name FROM pragma_table_xinfo('or der')");
        assert_eq!(names, ["id", "e mail", "note", "na\"me", "upper_name", "len"]);
        place.run(
            "INSERT INTO names (n) VALUES ('three'); UPDATE `select` SET o = o; DELETE FROM \"or der\" WHERE id > 1",
        );
        roll_back(&place, &sources, &targets);
        place.is_sound();
        assert_eq!(
            place.schema().iter().filter(|l| !l.contains("backout_stage")).collect::<Vec<_>>(),
            before.iter().collect::<Vec<_>>()
        );
        assert_eq!(counts(&place).into_iter().filter(|n| !n.contains("backout_stage")).collect::<Vec<_>>(), sequence);
        assert_eq!(statistics(&place), stat);
    }
    // unchanged tables went along word for word
    assert!(last.iter().any(|l| l.contains("ON CONFLICT IGNORE) STRICT")), "{last:#?}");
    assert!(last.iter().any(|l| l.contains("references `select`(b, a)")), "{last:#?}");
    let mut target = place.at(Role::Target, staged());
    target.begin(Mode::Write, &[]).unwrap();
    let said = target.set_aside(&refs(&targets), RUN).unwrap();
    target.drop_tables(&refs(&targets)).unwrap();
    target.commit("drop").unwrap();
    assert!(said.contains("backout_stage_0123456789ab__or der"), "{said}");
    let mut source = place.at(Role::Source, Site::Home);
    source.begin(Mode::Write, &[]).unwrap();
    source.close(&refs(&sources), &line()).unwrap();
    source.commit("close").unwrap();
    assert_eq!(place.schema(), before);
    assert_eq!(place.texts("SELECT name FROM sqlite_schema WHERE name LIKE 'backout%'"), ["backout_history"]);
    let dumped = Connection::open_in_memory().unwrap();
    if let Ok(out) = Command::new("sqlite3").arg(place.path()).arg(".schema").output() {
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.contains("-- the parent (of lines)"), "{text}");
    }
    drop(dumped);
}

fn line() -> HistoryLine {
    HistoryLine {
        run: RUN.into(),
        migration: "2025".into(),
        title: "T".into(),
        plan_hash: "h".into(),
        outcome: "rolled back".into(),
        started_at: "a".into(),
        ended_at: "b".into(),
        note: String::new(),
        remains: None,
    }
}

/// A plain application: two tables with a foreign key, and what it built upon them.
const SHOP: &str = "
CREATE TABLE users (id INTEGER PRIMARY KEY, mail TEXT NOT NULL UNIQUE, age INT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, user INT NOT NULL REFERENCES users (id), what TEXT);
CREATE INDEX by_user ON orders (user);
INSERT INTO users VALUES (1, 'a', 30), (2, 'b', 40);
INSERT INTO orders VALUES (1, 1, 'x'), (2, 2, 'y');";

/// Both tables; in the target `users` has a column more.
fn shop(place: &Place) -> (Vec<Table>, Vec<Table>) {
    let sources = place.tables(&["users", "orders"]);
    let mut targets = sources.clone();
    targets[0].details.sql = None;
    targets[0].alone.push(backout::plan::Lone {
        column: backout::plan::Column { name: "nick".into(), ty: "TEXT".into(), ..Default::default() },
        place: 3,
    });
    (sources, targets)
}

#[test]
fn e02_a_rename_rewrites_nothing_elsewhere() {
    let place = Place::new(SHOP);
    place.run(
        "CREATE TABLE log (t); CREATE VIEW old AS SELECT users.mail, what FROM users JOIN orders ON user = users.id; \
         CREATE TRIGGER t AFTER INSERT ON orders BEGIN INSERT INTO log SELECT mail FROM users WHERE id = NEW.user; END",
    );
    let (sources, targets) = shop(&place);
    let others = "SELECT name || sql FROM sqlite_schema WHERE name IN ('old', 't') ORDER BY rowid";
    let texts = place.texts(others);
    stage(&place, &sources, &targets);
    cut_over(&place, &sources, &targets);
    assert_eq!(place.texts(others), texts);
    // it fires for what is home, and once
    place.run("INSERT INTO orders VALUES (3, 2, 'z')");
    let mut resting = place.at(Role::Source, Site::Backup);
    resting.begin(Mode::Write, &refs(&sources)).unwrap();
    let row = vec![Value::Int(3), Value::Int(2), Value::text("z")];
    resting.write(&refs(&sources), &[(1, vec![Write::Put { row, from: None }])]).unwrap();
    resting.commit("follow").unwrap();
    assert_eq!(place.texts("SELECT t FROM log"), ["b"]);
    let said = place.app.execute_batch("DELETE FROM migration_backup__orders").unwrap_err().to_string();
    assert!(said.contains("resting"), "{said}");
    roll_back(&place, &sources, &targets);
    assert_eq!(place.texts(others), texts);
    assert_eq!(place.texts("SELECT mail || what FROM old ORDER BY what"), ["ax", "by", "bz"]);
    place.run("INSERT INTO orders VALUES (4, 1, '!')");
    assert_eq!(place.texts("SELECT t FROM log"), ["b", "a"]);
    place.is_sound();
}

#[test]
fn e03_a_broken_view_does_not_block() {
    let place = Place::new(SHOP);
    place.run("CREATE VIEW v AS SELECT gone FROM users; CREATE TRIGGER never AFTER DELETE ON users BEGIN DELETE FROM nowhere; END");
    let (sources, targets) = shop(&place);
    let notes = place.store().may_swap(&refs(&sources), &refs(&targets)).unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    let before = place.schema();
    stage(&place, &sources, &targets);
    cut_over(&place, &sources, &targets);
    place.is_sound();
    roll_back(&place, &sources, &targets);
    assert_eq!(place.schema().into_iter().filter(|l| !l.contains("backout_stage")).collect::<Vec<_>>(), before);
}

/// Whatever would not work is refused by its name before anything is made.
#[test]
fn e04_what_would_break_is_refused_at_plan_time() {
    let refused = |sql: &str, change: fn(&mut Vec<Table>)| -> String {
        let place = Place::new(SHOP);
        place.run(sql);
        let (sources, mut targets) = shop(&place);
        change(&mut targets);
        let schema = place.schema();
        let said = match place.store().may_swap(&refs(&sources), &refs(&targets)) {
            Ok(notes) => format!("{notes:?}"),
            Err(Error::Refused { cause, .. }) => cause,
            Err(e) => panic!("{e}"),
        };
        assert_eq!(place.schema(), schema);
        said
    };
    let no_age = |t: &mut Vec<Table>| drop(t[0].columns.remove(2));
    let text_key = |t: &mut Vec<Table>| {
        t[0].columns[0].ty = "TEXT".into();
        t[0].columns[0].identity = false;
    };
    for (sql, change, said) in [
        ("", (|_| ()) as fn(&mut Vec<Table>), "[]"),
        (
            "CREATE VIEW v AS SELECT age FROM users",
            no_age,
            "view v would not work on the tables as they will be: no such column: age",
        ),
        (
            "CREATE VIEW v AS SELECT \"age\" FROM users",
            no_age,
            "view v would not work on the tables as they will be: no such column: \"age\" - should this be a string literal in single-quotes?",
        ),
        ("CREATE VIEW v AS SELECT \"word\" FROM users", no_age, "[]"),
        (
            "CREATE VIEW v AS SELECT \"word\", \"age\" FROM users",
            no_age,
            "view v says \"age\", which would be a string and no column any more",
        ),
        (
            "CREATE VIEW v AS SELECT \"word\" FROM users WHERE users.age",
            no_age,
            "view v would not work on the tables as they will be: no such column: users.age",
        ),
        (
            "CREATE TRIGGER t AFTER UPDATE OF age ON users BEGIN SELECT 1; END",
            no_age,
            "trigger t would not work on the tables as they will be: no such column: age",
        ),
        (
            "CREATE TRIGGER t AFTER INSERT ON orders BEGIN UPDATE users SET age = 1; END",
            no_age,
            "trigger t would not work on the tables as they will be: no such column: age",
        ),
        (
            "CREATE TABLE migration_backup__orders (x)",
            no_age,
            "there is a migration_backup__orders already, where orders would rest",
        ),
        (
            "CREATE TABLE c (m TEXT REFERENCES users (mail))",
            |t| t[0].indexes.clear(),
            "table c would not work on the tables as they will be: foreign key mismatch - \"c\" referencing \"users\"",
        ),
        (
            "CREATE TABLE taken (x)",
            |t| t[1].indexes[0].name = Some("taken".into()),
            "after the swap there would be two of the name taken",
        ),
        (
            "CREATE TRIGGER t AFTER INSERT ON users BEGIN SELECT 1; END",
            |t| t[0].name = "people".into(),
            "after the swap trigger t belongs to users, which would not be there",
        ),
        ("CREATE VIRTUAL TABLE f USING fts5(mail, content=users, content_rowid=id)", |_| (), "[]"),
        (
            "CREATE VIRTUAL TABLE f USING fts5(mail, content=users)",
            text_key,
            "full-text table f has its rows in users, and would not find them: its rows get other rowids",
        ),
        (
            "CREATE VIRTUAL TABLE f USING fts5(age, content='users', content_rowid='id')",
            no_age,
            "full-text table f has its rows in users, and would not find them: it will have no column age",
        ),
        (
            "CREATE VIRTUAL TABLE f USING fts4(content=\"users\", mail)",
            text_key,
            "full-text table f has its rows in users, and would not find them: its rows get other rowids",
        ),
    ] {
        assert_eq!(refused(sql, change), said, "{sql}");
    }
}

/// A failure at any place leaves the file, and what this connection knows of it, as they were.
#[test]
fn p03_a_swap_that_is_taken_back_leaves_nothing() {
    let place = Place::new(SHOP);
    let (sources, targets) = shop(&place);
    stage(&place, &sources, &targets);
    let before = place.schema();
    // the commit is refused once; then it is called off
    let mut store = open("sqlite:app.db", place.folder.path(), false, &Gate::with_trap(1, |_| {})).unwrap();
    store.stand(Role::Source, Site::Home);
    for refused in [true, false] {
        store.begin(Mode::Swap, &refs(&sources)).unwrap();
        store.swap(&refs(&sources), &Site::Backup, &refs(&targets), &staged()).unwrap();
        if refused {
            assert!(matches!(store.commit("swap"), Err(Error::Gate(_))));
        } else {
            store.rollback();
        }
        assert_eq!(rows_of(&mut *store, &sources[0])[0].len(), 3);
        assert_eq!(place.schema(), before);
    }
    store.begin(Mode::Swap, &refs(&sources)).unwrap();
    store.swap(&refs(&sources), &Site::Backup, &refs(&targets), &staged()).unwrap();
    store.rollback();
    // as many changes of the schema as the swap made, by another: the versions are the same again
    place.run("INSERT INTO users VALUES (3, 'c', 50); CREATE TABLE more (x); DROP TABLE more");
    assert_eq!(rows_of(&mut *store, &sources[0]).len(), 3);
    place.run("ALTER TABLE users RENAME COLUMN age TO years");
    assert!(store.schema().unwrap().tables.iter().any(|t| t.column("years").is_some()));
    place.run("ALTER TABLE users RENAME COLUMN years TO age");
    assert_eq!(place.schema(), before);
    // sealed or captured still: refused
    store.begin(Mode::Write, &[]).unwrap();
    store.capture_on(&refs(&sources), RUN).unwrap();
    store.commit("capture").unwrap();
    store.begin(Mode::Swap, &refs(&sources)).unwrap();
    let said = store.swap(&refs(&sources), &Site::Backup, &refs(&targets), &staged()).unwrap_err().to_string();
    store.rollback();
    assert!(said.contains("backout_capture_") && said.contains("still on"), "{said}");
    assert_eq!(place.schema(), before);
    place.is_sound();
}

fn drained(store: &mut dyn Store, tables: &[Table], from: &Position) -> Vec<(Op, Option<Key>)> {
    store.begin(Mode::Read, &refs(tables)).unwrap();
    store.look(&refs(tables)).unwrap();
    let out = store.log_since(&refs(tables), from).unwrap().0;
    store.rollback();
    out.into_iter().map(|e| (e.op, e.after)).collect()
}

/// An application that has the file open, with prepared statements, writes on into what is home.
#[test]
fn p03_a_writer_with_an_open_connection_finds_the_new_table() {
    for mode in ["WAL", "DELETE"] {
        let place = Place::new(SHOP);
        place.texts(&format!("PRAGMA journal_mode = {mode}"));
        let (sources, targets) = shop(&place);
        let mut store = place.at(Role::Source, Site::Home);
        store.begin(Mode::Write, &[]).unwrap();
        let at = store.capture_on(&refs(&sources), RUN).unwrap();
        store.commit("capture").unwrap();
        stage(&place, &sources, &targets);
        place.run("PRAGMA foreign_keys = ON");
        let mut put = place.app.prepare("INSERT INTO orders (user, what) VALUES (?1, ?2)").unwrap();
        let mut read = place.app.prepare("SELECT count(*) FROM orders").unwrap();
        put.execute((1, "before")).unwrap();
        assert_eq!(drained(&mut *store, &sources, &at), [(Op::Insert, Some(Key::of(&[Value::Int(3)])))]);
        // carried, as the engine would in the swap
        let mut target = place.at(Role::Target, staged());
        target.begin(Mode::Write, &refs(&targets)).unwrap();
        let row = vec![Value::Int(3), Value::Int(1), Value::text("before")];
        target.write(&refs(&targets), &[(1, vec![Write::Put { row, from: None }])]).unwrap();
        target.commit("carry").unwrap();
        let at = cut_over(&place, &sources, &targets);
        put.execute((2, "after")).unwrap();
        // its foreign keys are those of the tables that are home
        let said = put.execute((77, "nobody's")).unwrap_err().to_string();
        assert!(said.contains("FOREIGN KEY"), "{said}");
        assert_eq!(read.query_row([], |r| r.get::<_, i64>(0)).unwrap(), 4, "{mode}");
        let mut live = place.at(Role::Target, Site::Home);
        assert_eq!(drained(&mut *live, &targets, &at), [(Op::Insert, Some(Key::of(&[Value::Int(4)])))]);
        assert_eq!(place.texts("SELECT what FROM migration_backup__orders"), ["x", "y", "before"]);
        if let Ok(out) = Command::new("sqlite3").arg(place.path()).arg("INSERT INTO orders (user, what) VALUES (1, 'shell'); SELECT nick IS NULL FROM users; SELECT what FROM orders").output() {
            assert_eq!(String::from_utf8_lossy(&out.stdout), "1\n1\nx\ny\nbefore\nafter\nshell\n", "{}", String::from_utf8_lossy(&out.stderr));
        }
        roll_back(&place, &sources, &targets);
        put.execute((2, "back")).unwrap();
        assert_eq!(place.texts("SELECT what FROM orders"), ["x", "y", "before", "back"], "{mode}");
        place.is_sound();
    }
}

/// Threads of the application write and read through swaps to and fro; every acknowledged row is where they wrote it.
#[test]
fn p03_nothing_is_lost_or_refused_under_a_writer_that_never_stops() {
    use std::sync::atomic::{AtomicBool, Ordering};
    for mode in ["WAL", "DELETE"] {
        let place = Place::new(SHOP);
        place.texts(&format!("PRAGMA journal_mode = {mode}"));
        let (sources, targets) = shop(&place);
        stage(&place, &sources, &targets);
        let (stop, path) = (AtomicBool::new(false), place.path());
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let app = Connection::open(&path).unwrap();
                app.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
                let mut put = app.prepare("INSERT INTO orders (user, what) VALUES (1, 'w')").unwrap();
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    put.execute([]).unwrap();
                    n += 1;
                }
                n
            });
            for _ in 0..5 {
                cut_over(&place, &sources, &targets);
                roll_back(&place, &sources, &targets);
            }
            stop.store(true, Ordering::SeqCst);
            writer.join().unwrap()
        });
        let there = place.texts(
            "SELECT count(*) || '' FROM (SELECT 1 FROM orders WHERE what = 'w' UNION ALL \
             SELECT 1 FROM backout_stage_0123456789ab__orders WHERE what = 'w')",
        );
        assert_eq!(there, [format!("{written}")], "{mode}");
        place.is_sound();
    }
}

/// A row that meets another's value in a unique index is left out and told, with the other.
#[test]
fn p03_a_chunk_row_that_conflicts_is_left_out_and_told() {
    let place = Place::new(SHOP);
    place.run("CREATE UNIQUE INDEX low ON orders (lower(what)) WHERE user > 0");
    let (_, targets) = shop(&place);
    let mut store = place.at(Role::Target, staged());
    store.begin(Mode::Write, &[]).unwrap();
    store.create(&refs(&targets)).unwrap();
    let user = |id: i64, mail: &'static str| -> Row { vec![Value::Int(id), Value::text(mail), Value::Null] };
    let order = |id: i64, what: &'static str| -> Row { vec![Value::Int(id), Value::Int(1), Value::text(what)] };
    let k = |n: i64| Key::of(&[Value::Int(n)]);
    store.load(&targets[0], &batch(&[user(1, "a"), user(2, "b"), user(1, "c")])).unwrap();
    assert_eq!(store.left_out(), [], "a row that was read twice");
    store.load(&targets[0], &batch(&[user(3, "c"), user(4, "d")])).unwrap();
    assert_eq!(store.left_out(), [k(1), k(3)]);
    store.load(&targets[1], &batch(&[order(1, "X"), order(2, "x"), order(3, "y")])).unwrap();
    assert_eq!(store.left_out(), [k(1), k(2)]);
    assert_eq!(store.left_out(), []);
    store.commit("load").unwrap();
    let of = |t: &str| place.texts(&format!("SELECT group_concat(id, ',' ORDER BY id) FROM backout_stage_{RUN}__{t}"));
    assert_eq!((of("users"), of("orders")), (vec!["1,2,4".into()], vec!["1,3".into()]));
    place.is_sound();
}

/// The log of what was home is none of what comes: another key may have more columns.
#[test]
fn p03_capture_begins_anew_for_what_came_home() {
    let place = Place::new(SHOP);
    let (sources, mut targets) = shop(&place);
    targets[1].details.sql = None;
    targets[1].key = vec![1, 0];
    targets[1].columns[0].identity = false;
    let mut store = place.at(Role::Source, Site::Home);
    store.begin(Mode::Write, &[]).unwrap();
    store.capture_on(&refs(&sources), RUN).unwrap();
    store.commit("capture").unwrap();
    stage(&place, &sources, &targets);
    let at = cut_over(&place, &sources, &targets);
    place.run("INSERT INTO orders VALUES (9, 1, 'new')");
    let mut live = place.at(Role::Target, Site::Home);
    let k = Key::of(&[Value::Int(1), Value::Int(9)]);
    assert_eq!(drained(&mut *live, &targets, &at), [(Op::Insert, Some(k))]);
}

/// A swap alone tells every connection that the schema is another, whatever else its transaction does.
#[test]
fn p03_every_connection_reads_the_schema_again() {
    let place = Place::new(SHOP);
    let (sources, targets) = shop(&place);
    stage(&place, &sources, &targets);
    let mut columns = place.app.prepare("SELECT * FROM users").unwrap();
    let mut store = place.at(Role::Source, Site::Home);
    let mut swapped = |out: &[Table], aside: &Site, home: &[Table], from: &Site| {
        store.begin(Mode::Swap, &[]).unwrap();
        store.swap(&refs(out), aside, &refs(home), from).unwrap();
        store.commit("swap").unwrap();
    };
    for _ in 0..3 {
        swapped(&sources, &Site::Backup, &targets, &staged());
        assert_eq!(columns.query([]).unwrap().next().unwrap().unwrap().as_ref().column_count(), 4);
        swapped(&targets, &staged(), &sources, &Site::Backup);
        assert_eq!(columns.query([]).unwrap().next().unwrap().unwrap().as_ref().column_count(), 3);
        // a rebuild in between gives the rows of the schema other places
        place.run("VACUUM");
        place.is_sound();
    }
}

/// What was done to a resting table, or to the file, is not written over by what was kept of it.
#[test]
fn e05_what_changed_while_it_rested_comes_home_as_it_is() {
    for vacuum in ["VACUUM", "PRAGMA schema_version"] {
        let place = Place::new(ALL);
        let sources = place.tables(&MAPPED);
        let targets = altered(&sources);
        stage(&place, &sources, &targets);
        cut_over(&place, &sources, &targets);
        place.run(
            "ALTER TABLE \"migration_backup__or der\" ADD COLUMN more INT DEFAULT 3; \
         CREATE INDEX mine ON \"migration_backup__or der\" (more); CREATE TABLE late (x)",
        );
        place.app.execute_batch(vacuum).unwrap();
        place.is_sound();
        roll_back(&place, &sources, &targets);
        place.is_sound();
        assert_eq!(place.texts("SELECT more || '' FROM \"or der\" ORDER BY id"), ["3"]);
        assert_eq!(
            place.texts("SELECT name FROM pragma_index_list('or der') ORDER BY name"),
            ["by_low", "mine", "or der mail", "sqlite_autoindex_or der_1"]
        );
        place.run("INSERT INTO names (n) VALUES ('three'); INSERT INTO last VALUES (1, 'C@x')");
        assert_eq!(place.texts("SELECT said FROM other"), ["or der"]);
    }
}

/// A table whose columns changed is made of its model: that says all that its text did.
#[test]
fn a_target_that_is_made_of_its_model_is_as_it_was_said() {
    let place = Place::new(ALL);
    place.run(
        "CREATE TABLE odd (z TEXT DEFAULT 'it''s', y INT DEFAULT -1, x DEFAULT (abs(-3)), w TEXT DEFAULT CURRENT_DATE, \
           v TEXT NOT NULL COLLATE RTRIM, u AS (z || v), t REAL CHECK (t > 0.5), CONSTRAINT two UNIQUE (y, v COLLATE NOCASE), \
           FOREIGN KEY (w, y) REFERENCES odd (v, y) ON UPDATE SET NULL, PRIMARY KEY (y DESC, z), UNIQUE (v, y));",
    );
    let names = ["or der", "select", "strict1", "odd"];
    let sources = place.tables(&names);
    let mut targets = sources.clone();
    targets.iter_mut().for_each(|t| t.details.sql = None);
    let notes = place.store().may_swap(&refs(&sources), &refs(&targets)).unwrap();
    assert!(notes.iter().any(|n| n == "table strict1: ON CONFLICT IGNORE; the new table will be without"), "{notes:?}");
    stage(&place, &sources, &targets);
    let mut store = place.at(Role::Target, staged());
    assert_eq!(store.self_check(&refs(&targets), true).unwrap(), [""; 0]);
    let listed = store.schema().unwrap().tables;
    assert!(listed.iter().all(|t| !t.name.contains("__")), "{listed:?}");
    cut_over(&place, &sources, &targets);
    let listed = place.store().schema().unwrap().tables;
    assert!(listed.iter().all(|t| !t.name.contains("__")), "{listed:?}");
    let plain = |mut t: Table| {
        (t.details.sql, t.details.types) = (None, Vec::new());
        t.indexes.sort_by_key(|i| (i.name.clone(), i.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>()));
        // which index is said first means nothing; its text has the name it was found under
        t.indexes.iter_mut().for_each(|i| i.definition = None);
        t
    };
    for (made, said) in place.tables(&names).into_iter().zip(targets) {
        assert_eq!(plain(made), plain(said));
    }
    place.is_sound();
}

#[test]
fn completing_leaves_the_target_and_nothing_of_ours() {
    let place = Place::new(ALL);
    let sources = place.tables(&MAPPED);
    let targets = altered(&sources);
    stage(&place, &sources, &targets);
    cut_over(&place, &sources, &targets);
    let mut source = place.at(Role::Source, Site::Backup);
    assert_eq!(source.self_check(&refs(&sources), true).unwrap(), [""; 0]);
    source.begin(Mode::Write, &[]).unwrap();
    source.unseal(&refs(&sources)).unwrap();
    source.drop_tables(&refs(&sources)).unwrap();
    source.close(&refs(&sources), &line()).unwrap();
    source.commit("complete").unwrap();
    let mut live = place.at(Role::Target, Site::Home);
    live.begin(Mode::Write, &[]).unwrap();
    live.capture_off(&refs(&targets)).unwrap();
    live.commit("off").unwrap();
    let ours = "SELECT name FROM sqlite_schema WHERE name LIKE 'backout%' OR name LIKE 'migration%' OR sql LIKE '%backout_stage%'";
    assert_eq!(place.texts(ours), ["backout_history"]);
    place.run("INSERT INTO names (n) VALUES ('three'); INSERT INTO last VALUES (1, 'C@x')");
    assert_eq!(place.texts("SELECT said FROM other"), ["or der"]);
    place.is_sound();
}

/// Merged and split: tables come and go that have no namesake on the other side, and one may be told more than once.
#[test]
fn p03_several_become_one_and_one_becomes_several() {
    let place = Place::new(
        "CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT); CREATE INDEX ax ON a (x);
         CREATE TABLE beside (n);
         CREATE TRIGGER t AFTER INSERT ON a BEGIN INSERT INTO beside VALUES (NEW.id); END;
         CREATE TABLE b (id INTEGER PRIMARY KEY, x TEXT); CREATE UNIQUE INDEX bx ON b (x);
         INSERT INTO a VALUES (1, 'a'); INSERT INTO b VALUES (2, 'b');",
    );
    let both = place.tables(&["a", "b"]);
    let (a, b) = (&both[0], &both[1]);
    let c = Table { name: "c".into(), indexes: Vec::new(), ..b.clone() };
    for (sources, targets) in
        [(vec![a, b], vec![a, a]), (vec![b, b], vec![b, &c]), (vec![b], vec![&c]), (vec![a, b], vec![&c, a])]
    {
        let before = place.schema();
        assert_eq!(place.store().may_swap(&sources, &targets).unwrap(), [""; 0]);
        let mut target = place.at(Role::Target, staged());
        let mut made: Vec<&Table> = targets.clone();
        made.dedup_by_key(|t| t.name.clone());
        target.begin(Mode::Write, &[]).unwrap();
        target.create(&made).unwrap();
        target.commit("create").unwrap();
        let mut store = place.at(Role::Source, Site::Home);
        store.begin(Mode::Swap, &sources).unwrap();
        store.swap(&sources, &Site::Backup, &targets, &staged()).unwrap();
        store.commit("swap").unwrap();
        place.is_sound();
        let there = |n: &str| place.texts(&format!("SELECT name FROM sqlite_schema WHERE name = '{n}'")).len();
        for n in ["a", "b", "c"] {
            let home = targets.iter().any(|t| t.name == n) || n != "c" && !sources.iter().any(|s| s.name == n);
            assert_eq!(there(n), usize::from(home), "{n}");
        }
        place.run("INSERT INTO a VALUES (5, 'z'); DELETE FROM a WHERE id = 5");
        store.begin(Mode::Swap, &targets).unwrap();
        store.swap(&targets, &staged(), &sources, &Site::Backup).unwrap();
        store.commit("back").unwrap();
        place.is_sound();
        target.begin(Mode::Write, &[]).unwrap();
        target.drop_tables(&made).unwrap();
        target.commit("drop").unwrap();
        assert_eq!(place.schema(), before);
    }
    assert_eq!(place.texts("SELECT n || '' FROM beside"), ["1", "5", "5", "5", "5"]);
}

#[test]
fn p07_what_is_dropped_next_is_thinned_in_pieces() {
    let many = |table: &str, of: &str| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000) INSERT INTO {table} SELECT {of} FROM n;"
        )
    };
    let place = Place::new(&format!(
        "CREATE TABLE plain (id INTEGER PRIMARY KEY, t TEXT); CREATE INDEX by_t ON plain (t);
         CREATE TABLE \"odd \"\"one\" (a INT, b TEXT, PRIMARY KEY (b, a)) WITHOUT ROWID;
         CREATE TABLE hidden (rowid TEXT, oid TEXT, _rowid_ TEXT PRIMARY KEY NOT NULL, of INTEGER REFERENCES plain ON DELETE RESTRICT);
         CREATE TABLE small (id INTEGER PRIMARY KEY); {} {} {} INSERT INTO small VALUES (1)",
        many("plain", "i, 'text ' || i"),
        many("\"odd \"\"one\"", "i, 'x'"),
        many("hidden", "i, i, i, i")
    ));
    let tables = place.tables(&["plain", "odd \"one", "hidden", "small"]);
    let rows = |table: &str| place.texts(&format!("SELECT count(*) || '' FROM {table}"))[0].parse::<u64>().unwrap();
    let all_rows = || rows("plain") + rows("\"odd \"\"one\"") + rows("hidden");
    let (mut left, mut pieces) = (all_rows(), 0);
    loop {
        // each time as a program that begins anew
        let mut store = place.store();
        store.begin(Mode::Write, &[]).unwrap();
        let more = store.thin(&refs(&tables)).unwrap();
        if !more {
            store.rollback();
            break;
        }
        store.commit("a piece").unwrap();
        assert!(all_rows() < left, "a piece took nothing");
        (left, pieces) = (all_rows(), pieces + 1);
        assert_eq!(place.texts("PRAGMA integrity_check"), ["ok"]);
    }
    assert!(pieces >= 1 && left <= 3 * 20_000, "{left} rows after {pieces} pieces");
    assert_eq!(rows("small"), 1);
    let mut store = place.store();
    store.begin(Mode::Write, &[]).unwrap();
    store.drop_tables(&refs(&tables)).unwrap();
    store.commit("dropped").unwrap();
    assert_eq!(place.schema(), [""; 0]);
}

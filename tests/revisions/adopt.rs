//! Migrations of other tools, taken over.

use std::path::{Path, PathBuf};
use std::process::Command;

use backout::gate::Gate;
use backout::plan::{Config, Kind};
use backout::revision::adopt::{self, Import, ImportedDown, Origin, Tool};
use backout::revision::database::{self, Database, Standing};

use crate::peers::{Theirs, contents, program, run, same};
use crate::project::{BOTH, Place};

/// A folder of another tool's.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn read(tool: Tool, kind: Kind, folder: &Path) -> Result<Import, String> {
    let origin = Origin::of(tool, folder, kind);
    adopt::read(&origin, None).map_err(|e| e.to_string())
}

/// Each revision on a line or a few: stamp, slug, up, down.
fn shown(import: &Import) -> String {
    let mut text = String::new();
    for one in &import.revisions {
        let alone = |transaction: bool| if transaction { "" } else { "!" };
        let down = match &one.down {
            ImportedDown::Sql(sql, transaction) => format!("{}{}", alone(*transaction), sql.trim()),
            ImportedDown::Nothing => "nothing".into(),
            ImportedDown::Irreversible(why) => format!("irreversible: {why}"),
        };
        let up = format!("{}{}", alone(one.up_transaction), one.up.trim());
        text += &format!("{} {} | {up} | {down}\n", one.stamp, one.slug);
    }
    text
}

fn taken(tool: Tool, kind: Kind, files: &[(&str, &str)]) -> Import {
    let folder = folder(files);
    read(tool, kind, folder.path()).unwrap()
}

fn refusal(tool: Tool, files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    read(tool, Kind::Postgres, folder.path()).unwrap_err()
}

#[test]
fn dbmate_files() {
    let import = taken(
        Tool::Dbmate,
        Kind::Postgres,
        &[
            (
                "20240102_b.sql",
                "-- migrate:up transaction:false\r\nCREATE INDEX CONCURRENTLY i ON t (a);\r\n-- migrate:down\r\n\r\n",
            ),
            (
                "1_a.sql",
                "-- a comment\n-- migrate:up\nCREATE TABLE t (a text DEFAULT '-- migrate:up');\n\n\
                 --migrate:down\nDROP TABLE t;\n",
            ),
            (
                "3.sql",
                "-- migrate:up\nSELECT 1;\n-- migrate:down\nSELECT 2;\n-- migrate:up transaction:false\nSELECT 3;\n\
                 -- migrate:down\nSELECT 4;",
            ),
            ("schema.txt", ""),
        ],
    );
    assert_eq!(
        shown(&import),
        "1 a | CREATE TABLE t (a text DEFAULT '-- migrate:up'); | DROP TABLE t;\n\
         3 revision | !SELECT 1;\n\n\n\nSELECT 3; | SELECT 2;\n\n\n\nSELECT 4;\n\
         20240102 b | !CREATE INDEX CONCURRENTLY i ON t (a); | irreversible: imported without a down\n"
    );
    assert_eq!(import.notes, ["not migrations, and left aside: schema.txt"]);
    let said = refusal(Tool::Dbmate, &[("1_a.sql", "SELECT 1;\n-- migrate:up\n")]);
    assert!(said.contains("1_a.sql:1: a statement before"), "{said}");
    let said = refusal(Tool::Dbmate, &[("1_a.sql", "-- migrate:up\nSELECT 1;\nSELECT 'open;\n-- migrate:down\n")]);
    assert!(said.contains("1_a.sql:3:8"), "its own line: {said}");
    let both = [("1_a.sql", "-- migrate:up\nSELECT 1;"), ("01_b.sql", "-- migrate:up\nSELECT 1;")];
    assert!(refusal(Tool::Dbmate, &both).contains("have the same version"));
    assert!(refusal(Tool::Dbmate, &[]).contains("there are no migrations of dbmate"));
}

#[test]
fn sqlx_and_golang_migrate_files() {
    let files = [
        ("1_a_table.up.sql", "CREATE TABLE t (a int);"),
        ("1_a_table.down.sql", "DROP TABLE t;"),
        ("2_b.up.sql", "BEGIN;\nINSERT INTO t VALUES (1);\nCOMMIT;\n"),
        ("2_b.down.sql", "-- nothing to do\n"),
        ("3_c.up.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a);"),
        ("3_c.down.sql", "DROP INDEX CONCURRENTLY i;"),
    ];
    assert_eq!(
        shown(&taken(Tool::Sqlx, Kind::Postgres, &files)),
        "1 a_table | CREATE TABLE t (a int); | DROP TABLE t;\n\
         2 b | INSERT INTO t VALUES (1); | irreversible: imported without a down\n\
         3 c | !-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a); | DROP INDEX CONCURRENTLY i;\n"
    );
    assert_eq!(
        shown(&taken(Tool::GolangMigrate, Kind::Postgres, &files)),
        "1 a_table | CREATE TABLE t (a int); | DROP TABLE t;\n\
         2 b | INSERT INTO t VALUES (1); | irreversible: imported without a down\n\
         3 c | !-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a); | !DROP INDEX CONCURRENTLY i;\n"
    );
    let import = taken(Tool::Sqlx, Kind::Sqlite, &[("5_x.sql", "SELECT 1;")]);
    assert_eq!(shown(&import), "5 x | SELECT 1; | irreversible: imported without a down\n");
    let said = refusal(Tool::GolangMigrate, &[("1_a.up.sql", "SELECT 1;"), ("2_b.down.sql", "SELECT 1;")]);
    assert!(said.contains("ways down without their way up"), "{said}");
}

#[test]
fn goose_files() {
    let function = "-- +goose Up\n-- +goose StatementBegin\nCREATE FUNCTION f() RETURNS int AS $$\nBEGIN\n\
        RETURN 1;\nEND;\n$$ LANGUAGE plpgsql\n-- +goose StatementEnd\nSELECT 1;\n-- +goose Down\nDROP FUNCTION f();\n";
    let import = taken(
        Tool::Goose,
        Kind::Postgres,
        &[
            ("00001_f.sql", function),
            ("00002_i.sql", "-- +goose NO TRANSACTION\n-- +goose up\nCREATE INDEX CONCURRENTLY i ON t (a);\n"),
            ("a_test.go", ""),
        ],
    );
    assert_eq!(
        shown(&import),
        "00001 f | CREATE FUNCTION f() RETURNS int AS $$\nBEGIN\nRETURN 1;\nEND;\n$$ LANGUAGE plpgsql\n;\n\
         SELECT 1; | DROP FUNCTION f();\n\
         00002 i | !CREATE INDEX CONCURRENTLY i ON t (a); | irreversible: imported without a down\n"
    );
    let said = refusal(Tool::Goose, &[("00003_code.go", "package m"), ("00001_f.sql", function)]);
    assert!(said.contains("Go") && said.contains("00003_code.go"), "{said}");
    let said = refusal(Tool::Goose, &[("1_a.sql", "-- +goose Up\nSELECT 1;\n-- +goose ENVSUB ON\n")]);
    assert!(said.contains("1_a.sql:3") && said.contains("envsub"), "{said}");
}

#[test]
fn flyway_files() {
    let import = taken(
        Tool::Flyway,
        Kind::Postgres,
        &[
            ("V1__a.sql", "SELECT 1;"),
            ("more/V1_10__c.sql", "SELECT 3;"),
            ("V1.2__b_it.sql", "CREATE INDEX CONCURRENTLY i ON t (a); SELECT 2;"),
            ("V2__d.sql", "VACUUM;"),
            ("V2__d.sql.conf", "executeInTransaction=false\n"),
            ("U1.2__b_it.sql", "DROP INDEX i;"),
            ("R__views.sql", "SELECT 9;"),
        ],
    );
    assert_eq!(
        shown(&import),
        "100 a | SELECT 1; | irreversible: imported without a down\n\
         102 b_it | !CREATE INDEX CONCURRENTLY i ON t (a); SELECT 2; | DROP INDEX i;\n\
         110 c | SELECT 3; | irreversible: imported without a down\n\
         200 d | !VACUUM; | irreversible: imported without a down\n"
    );
    assert_eq!(import.revisions[2].their_version, "1.10");
    assert!(import.notes.iter().any(|note| note.contains("R__views.sql")), "{:?}", import.notes);
    let said = refusal(Tool::Flyway, &[("V1__a.sql", "\nSELECT '${schema}';")]);
    assert!(said.contains("V1__a.sql:2") && said.contains("${schema}"), "{said}");
    let said = refusal(Tool::Flyway, &[("V1__a.java", ""), ("V2__b.sql", "SELECT 1;")]);
    assert!(said.contains("V1__a.java"), "{said}");
    let said = refusal(Tool::Flyway, &[("V1__a.sql", "SELECT 1;"), ("V1.0__b.sql", "SELECT 1;")]);
    assert!(said.contains("have the same version"), "{said}");
}

#[test]
fn refinery_diesel_and_yoyo_files() {
    let files = [("V2__b.sql", "SELECT 2;"), ("U1__a.sql", "SELECT 1;")];
    assert_eq!(
        shown(&taken(Tool::Refinery, Kind::Sqlite, &files)),
        "1 a | SELECT 1; | irreversible: imported without a down\n\
         2 b | SELECT 2; | irreversible: imported without a down\n"
    );
    assert!(refusal(Tool::Refinery, &[("V1__a.rs", "")]).contains("V1__a.rs"));

    let files = [
        ("00000000000000_diesel_initial_setup/up.sql", "SELECT 0;"),
        ("00000000000000_diesel_initial_setup/down.sql", "SELECT 9;"),
        ("2024-01-02-030405_add-it/up.sql", "VACUUM;"),
        ("2024-01-02-030405_add-it/down.sql", ""),
        ("2024-01-02-030405_add-it/metadata.toml", "run_in_transaction = false\n"),
    ];
    assert_eq!(
        shown(&taken(Tool::Diesel, Kind::Sqlite, &files)),
        "00000000000000 diesel_initial_setup | SELECT 0; | SELECT 9;\n\
         20240102030405 add-it | !VACUUM; | irreversible: imported without a down\n"
    );

    let files = [
        ("20240101_01_aBcDe-first.sql", "-- first\n-- depends:\n\nSELECT 1;"),
        ("20240101_01_aBcDe-first.rollback.sql", "SELECT 9;"),
        ("20240101_02_fGhIj-second.sql", "-- depends: 20240101_01_aBcDe-first\n-- transactional: false\nVACUUM;"),
        ("post-apply.sql", "SELECT 5;"),
    ];
    let import = taken(Tool::Yoyo, Kind::Sqlite, &files);
    assert_eq!(
        shown(&import),
        "2024010101 01_aBcDe-first | -- first\n-- depends:\n\nSELECT 1; | SELECT 9;\n\
         2024010102 02_fGhIj-second | !-- depends: 20240101_01_aBcDe-first\n-- transactional: false\nVACUUM; | \
         irreversible: imported without a down\n"
    );
    assert!(import.notes[0].contains("post-apply.sql"), "{:?}", import.notes);
    let files = [("b.sql", "SELECT 1;"), ("a.sql", "-- depends: b\nSELECT 2;")];
    assert_eq!(
        shown(&taken(Tool::Yoyo, Kind::Sqlite, &files)),
        "0001 b | SELECT 1; | irreversible: imported without a down\n\
         0002 a | -- depends: b\nSELECT 2; | irreversible: imported without a down\n"
    );
    assert!(refusal(Tool::Yoyo, &[("a.py", "")]).contains("a.py"));
    let ring = [("a.sql", "-- depends: b\nSELECT 1;"), ("b.sql", "-- depends: a\nSELECT 1;")];
    assert!(refusal(Tool::Yoyo, &ring).contains("depend on each other: a, b"));
    assert!(refusal(Tool::Yoyo, &[("a.sql", "-- depends: z\nSELECT 1;")]).contains("depends on z"));
}

/// What a tool's history says is applied: its tables' SQL, then what is read.
fn history(tool: Tool, kind: Kind, files: &[(&str, &str)], sql: &str) -> Result<Import, String> {
    let folder = folder(files);
    let place = Place::new(kind);
    place.sql(sql);
    let mut db = open(&place);
    adopt::read(&Origin::of(tool, folder.path(), kind), Some(db.as_mut())).map_err(|e| e.to_string())
}

#[test]
fn a_history_may_have_another_name() {
    for kind in BOTH {
        let theirs = folder(&[("1_x.up.sql", "SELECT 1;"), ("2_x.up.sql", "SELECT 1;")]);
        let place = Place::new(kind);
        let no = if kind == Kind::Postgres { "false" } else { "0" };
        place.sql(&format!(
            "CREATE TABLE \"My migrations\" (version bigint, dirty boolean); \
             INSERT INTO \"My migrations\" VALUES (1, {no})"
        ));
        let origin =
            Origin { table: Some("My migrations".into()), ..Origin::of(Tool::GolangMigrate, theirs.path(), kind) };
        assert_eq!(adopt::read(&origin, Some(open(&place).as_mut())).unwrap().applied, ["1"]);
    }
}

fn open(place: &Place) -> Box<dyn Database> {
    let url = config(place).store("main").unwrap().to_owned();
    database::open(&url, place.folder.path(), true, &Gate::default()).unwrap()
}

#[test]
fn what_is_applied_is_read_from_each_history() {
    let three =
        |form: &dyn Fn(&str) -> (String, String)| -> Vec<(String, String)> { ["1", "2", "3"].map(form).to_vec() };
    let plain = |ending: &'static str| move |n: &str| (format!("{n}_x{ending}"), "SELECT 1;".to_owned());
    for kind in BOTH {
        let yes = if kind == Kind::Postgres { "boolean" } else { "integer" };
        let (t, f) = if kind == Kind::Postgres { ("true", "false") } else { ("1", "0") };
        let ask = |tool: Tool, files: &[(String, String)], sql: &str| {
            let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            history(tool, kind, &files, sql)
        };
        let dbmate = three(&|n| (format!("00{n}_x.sql"), "-- migrate:up\nSELECT 1;\n".to_owned()));
        let table = "CREATE TABLE schema_migrations (version varchar(128) PRIMARY KEY);";
        let import =
            ask(Tool::Dbmate, &dbmate, &format!("{table} INSERT INTO schema_migrations VALUES ('001'), ('003')"));
        let import = import.unwrap();
        assert_eq!(import.applied, ["001", "003"]);
        assert_eq!(import.notes, ["not applied, though later ones are: 002"]);
        let import = ask(Tool::Dbmate, &dbmate, "").unwrap();
        assert!(import.applied.is_empty());
        assert!(import.notes[0].starts_with("there is no table schema_migrations"), "{:?}", import.notes);
        // a file that is gone: older ones are said, others refused
        let gone =
            ask(Tool::Dbmate, &dbmate[1..], &format!("{table} INSERT INTO schema_migrations VALUES ('001'), ('002')"));
        let gone = gone.unwrap();
        assert_eq!((gone.applied, gone.notes.len()), (vec!["002".to_owned()], 1));
        let later = ask(Tool::Dbmate, &dbmate, &format!("{table} INSERT INTO schema_migrations VALUES ('004')"));
        assert!(later.unwrap_err().contains("what is not in the folder: 004"));

        let golang = three(&plain(".up.sql"));
        let table = format!("CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty {yes});");
        let import =
            ask(Tool::GolangMigrate, &golang, &format!("{table} INSERT INTO schema_migrations VALUES (2, {f})"));
        assert_eq!(import.unwrap().applied, ["1", "2"]);
        let dirty =
            ask(Tool::GolangMigrate, &golang, &format!("{table} INSERT INTO schema_migrations VALUES (2, {t})"));
        assert!(dirty.unwrap_err().contains("marked dirty"));
        let other = ask(Tool::Dbmate, &dbmate, &format!("{table} INSERT INTO schema_migrations VALUES (2, {f})"));
        assert!(other.unwrap_err().contains("that of golang-migrate"));

        let bytes = if kind == Kind::Postgres { "bytea" } else { "blob" };
        let table =
            format!("CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, success {yes}, checksum {bytes});");
        let value = |sum: &str| if kind == Kind::Postgres { format!("'\\x{sum}'") } else { format!("x'{sum}'") };
        let sqlx = three(&plain(".sql"));
        let insert =
            |n: u8, ok: &str, sum: &str| format!("INSERT INTO _sqlx_migrations VALUES ({n}, {ok}, {});", value(sum));
        // of `SELECT 1;`
        let sum = "26e71cc37450b183fb5bb72ec4f644ed27de1b55fad3d4d6\
            cfb0ca0d71f42ca990911d74649814105a190325e15d2092";
        let sql = format!("{table}{}{}", insert(1, t, sum), insert(2, t, "00"));
        let import = ask(Tool::Sqlx, &sqlx, &sql).unwrap();
        assert_eq!(import.applied, ["1", "2"]);
        assert_eq!(import.notes, ["edited since sqlx ran them, and taken over as they are now: 2"]);
        let failed = ask(Tool::Sqlx, &sqlx, &format!("{table}{}{}", insert(1, t, sum), insert(2, f, sum)));
        assert!(failed.unwrap_err().contains("sqlx failed within version 2"));

        let goose = three(&|n| (format!("0000{n}_x.sql"), "-- +goose Up\nSELECT 1;\n".to_owned()));
        let sql = format!(
            "CREATE TABLE goose_db_version (id integer PRIMARY KEY, version_id bigint, is_applied {yes});
             INSERT INTO goose_db_version VALUES (1, 0, {t}), (2, 1, {t}), (3, 2, {t}), \
             (4, 2, {f}), (5, 1, {f}), (6, 1, {t})"
        );
        assert_eq!(ask(Tool::Goose, &goose, &sql).unwrap().applied, ["00001"]);

        let flyway = three(&|n| (format!("V1.{n}__x.sql"), "SELECT 1;".to_owned()));
        let rows = |rows: &str| {
            format!(
                "CREATE TABLE flyway_schema_history (installed_rank integer PRIMARY KEY, version varchar(50), \
                 type varchar(20), success {yes}); INSERT INTO flyway_schema_history VALUES {rows}"
            )
        };
        let sql = rows(&format!(
            "(1, '1.1', 'BASELINE', {t}), (2, '1.2', 'SQL', {t}), (3, NULL, 'SQL', {t}), (4, '1.3', 'SQL', {t}), \
             (5, '1.3', 'UNDO_SQL', {t})"
        ));
        assert_eq!(ask(Tool::Flyway, &flyway, &sql).unwrap().applied, ["11", "12"]);
        let failed = ask(Tool::Flyway, &flyway, &rows(&format!("(1, '1.1', 'SQL', {f})")));
        assert!(failed.unwrap_err().contains("Flyway failed within version 1.1"));

        let refinery = three(&|n| (format!("V{n}__x.sql"), "SELECT 1;".to_owned()));
        let sql = "CREATE TABLE refinery_schema_history (version integer PRIMARY KEY, name text);
            INSERT INTO refinery_schema_history VALUES (1, 'x'), (2, 'x')";
        assert_eq!(ask(Tool::Refinery, &refinery, sql).unwrap().applied, ["1", "2"]);

        let diesel = three(&|n| (format!("2024-01-0{n}-000000_x/up.sql"), "SELECT 1;".to_owned()));
        let sql = "CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY);
            INSERT INTO __diesel_schema_migrations VALUES ('20240101000000')";
        assert_eq!(ask(Tool::Diesel, &diesel, sql).unwrap().applied, ["20240101000000"]);

        let yoyo = three(&|n| (format!("2024010{n}_01_abc-x.sql"), "SELECT 1;".to_owned()));
        let sql = "CREATE TABLE _yoyo_migration (migration_hash varchar(64), migration_id varchar(255));
            INSERT INTO _yoyo_migration VALUES ('h', '20240101_01_abc-x')";
        assert_eq!(ask(Tool::Yoyo, &yoyo, sql).unwrap().applied, ["2024010101"]);
    }
}

#[test]
fn a_tool_says_where_its_database_is() {
    let project = folder(&[("alembic.ini", "[alembic]\nsqlalchemy.url = sqlite:///a/b.db\n")]);
    let none = |_: &str| None;
    let some = |name: &str| (name == "DATABASE_URL").then(|| "postgresql+asyncpg://u:secret@h/d".to_owned());
    let store = |tool, lookup: &dyn Fn(&str) -> Option<String>| {
        adopt::store_of(tool, project.path(), lookup).map_err(|e| e.to_string())
    };
    assert_eq!(store(Tool::Alembic, &some), Ok(Some("sqlite:a/b.db".into())));
    assert_eq!(store(Tool::Dbmate, &none), Ok(None));
    assert_eq!(store(Tool::Dbmate, &some), Ok(Some("postgres://u:secret@h/d".into())));
    let other = |_: &str| Some("mysql://u:secret@h/d".to_owned());
    let said = store(Tool::Sqlx, &other).unwrap_err();
    assert!(said.contains("mysql") && !said.contains("secret"), "{said}");
    for tool in Tool::ALL {
        assert_eq!(Tool::named(&tool.word().to_uppercase()), Some(tool));
    }
    assert_eq!(Tool::named("golang_migrate"), Some(Tool::GolangMigrate));
    assert_eq!(Tool::named("liquibase"), None);
}

fn config(place: &Place) -> Config {
    Config::load(&place.folder.path().join("backout.toml"), &|_| None).unwrap()
}

/// Names in the project's folder of migrations.
fn names(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.folder.path().join("migrations")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Writes what was imported, and records what is applied, as the command does.
fn write(place: &Place, import: &Import) {
    let config = config(place);
    adopt::write(import, &config, "main", &Gate::default()).unwrap();
    let mut db = open(place);
    db.begin().unwrap();
    db.prepare().unwrap();
    for record in adopt::records(import, &config, "main", 1).unwrap() {
        assert!(record.stamped && record.standing == Standing::Applied);
        db.put_record(&record).unwrap();
    }
    db.commit("import").unwrap();
}

#[test]
fn all_files_are_written_or_none() {
    let files = [
        ("1_a.up.sql", "CREATE TABLE a (x int);"),
        ("1_a.down.sql", "DROP TABLE a;"),
        ("2_b.up.sql", "VACUUM;"),
        ("3_c.up.sql", "-- nothing"),
    ];
    let import = taken(Tool::GolangMigrate, Kind::Sqlite, &files);
    let place = Place::new(Kind::Sqlite);
    let config = config(&place);
    for n in 1..=3 {
        let gate = Gate::with_trap(n, |_| ());
        adopt::write(&import, &config, "main", &gate).unwrap_err();
        assert!(names(&place).is_empty(), "{n}: {:?}", names(&place));
    }
    let written = adopt::write(&import, &config, "main", &Gate::default()).unwrap();
    assert_eq!(written.len(), 3);
    assert_eq!(names(&place), ["1_a.sql", "2_b.sql", "3_c.sql"]);
    let text = |name: &str| std::fs::read_to_string(place.folder.path().join("migrations").join(name)).unwrap();
    assert_eq!(
        text("1_a.sql"),
        "-- from golang-migrate: 1\n-- migrate:up\nCREATE TABLE a (x int);\n-- migrate:down\nDROP TABLE a;\n"
    );
    assert_eq!(
        text("2_b.sql"),
        "-- from golang-migrate: 2\n-- migrate:up transaction:false\nVACUUM;\n\
         -- migrate:down irreversible: imported without a down\n"
    );
    assert!(text("3_c.sql").ends_with("-- nothing\n-- migrate:down nothing\n"), "{}", text("3_c.sql"));
    // what is there already stays
    std::fs::remove_file(place.folder.path().join("migrations/2_b.sql")).unwrap();
    assert_eq!(adopt::write(&import, &config, "main", &Gate::default()).unwrap().len(), 1);
    // but not what differs
    std::fs::remove_file(place.folder.path().join("migrations/3_c.sql")).unwrap();
    place.file("02_b.sql", "-- migrate:up\nSELECT 1;\n-- migrate:down nothing\n");
    let said = adopt::write(&import, &config, "main", &Gate::default()).unwrap_err().to_string();
    assert!(said.contains("02_b.sql"), "{said}");
    assert_eq!(names(&place), ["02_b.sql", "1_a.sql", "2_b.sql"]);
}

#[test]
fn a_text_that_would_be_read_as_a_directive_is_refused() {
    let files = [("1_a.up.sql", "SELECT 1;\n-- migrate:down\nSELECT 2;"), ("1_a.down.sql", "SELECT 3;")];
    let import = taken(Tool::Sqlx, Kind::Sqlite, &files);
    let place = Place::new(Kind::Sqlite);
    adopt::write(&import, &config(&place), "main", &Gate::default()).unwrap_err();
    assert!(names(&place).is_empty());
}

#[test]
fn the_store_is_said_where_it_is_not_clear() {
    let import = taken(Tool::Refinery, Kind::Sqlite, &[("V1__a.sql", "SELECT 1;")]);
    let place = Place::new(Kind::Sqlite);
    std::fs::write(
        place.folder.path().join("backout.toml"),
        "[project]\ndefault_store = \"main\"\n[stores]\nmain = \"sqlite:app.db\"\nother = \"sqlite:other.db\"\n",
    )
    .unwrap();
    adopt::write(&import, &config(&place), "other", &Gate::default()).unwrap();
    let text = std::fs::read_to_string(place.folder.path().join("migrations/1_a.sql")).unwrap();
    assert!(text.starts_with("-- backout:store other\n"), "{text}");
}

/// An imported history is whole: nothing is pending, and all of it can be taken back.
#[test]
fn what_was_applied_by_another_tool_is_taken_back_by_ours() {
    for kind in BOTH {
        let files = [
            ("1_a.up.sql", "CREATE TABLE a (x int);"),
            ("1_a.down.sql", "DROP TABLE a;"),
            ("2_b.up.sql", "CREATE TABLE b (x int);"),
            ("2_b.down.sql", "DROP TABLE b;"),
        ];
        let place = Place::new(kind);
        let theirs = folder(&files);
        let no = if kind == Kind::Postgres { "false" } else { "0" };
        place.sql(&format!(
            "CREATE TABLE a (x int); CREATE TABLE schema_migrations (version bigint, dirty boolean); \
             INSERT INTO schema_migrations VALUES (1, {no})"
        ));
        let mut db = open(&place);
        let import = adopt::read(&Origin::of(Tool::GolangMigrate, theirs.path(), kind), Some(db.as_mut())).unwrap();
        drop(db);
        write(&place, &import);
        assert_eq!(place.applied(), ["1"]);
        place.up("head");
        assert_eq!(place.tables(), ["a", "b", "schema_migrations"]);
        assert!(place.up("head").nothing);
        place.back("base");
        assert_eq!(place.tables(), ["schema_migrations"]);
    }
}

#[path = "adopt_real.rs"]
mod real;

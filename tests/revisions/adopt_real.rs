//! The same with the tools themselves.

use super::*;

/// Origin of an Alembic project, in this environment and with the Python of the Alembic that the tests have.
fn alembic_origin(folder: &Path, kind: Kind, alembic: &Path) -> Origin {
    let python = Some(alembic.with_file_name("python"));
    // Python may leave files beside what it reads, if it is not told otherwise
    let environment = std::env::vars_os().filter(|(name, _)| name != "PYTHONDONTWRITEBYTECODE").collect();
    Origin { python, environment, ..Origin::of(Tool::Alembic, folder, kind) }
}

/// An Alembic project of so many revisions, made by Alembic.
fn alembic_project(alembic: &Path, url: &str, count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/revisions/alembic_project.py");
    let mut command = Command::new(alembic.with_file_name("python"));
    run(command.arg(script).arg(folder.path()).arg(url).arg(count.to_string()));
    folder
}

fn alembic(program: &Path, folder: &Path, arguments: &[&str]) {
    run(Command::new(program).current_dir(folder).args(arguments));
}

/// Everything below a folder: paths and contents.
fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(snapshot(&path));
        } else {
            all.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

fn two_hundred(kind: Kind) {
    let Some(program) = program("BACKOUT_TEST_ALEMBIC") else { return };
    let theirs = Theirs::new(kind);
    let project = alembic_project(&program, &theirs.sqlalchemy(), 200);
    let before = snapshot(project.path());
    let import = adopt::read(&alembic_origin(project.path(), kind, &program), None).unwrap();
    assert_eq!(snapshot(project.path()), before, "their folder is only read");
    assert_eq!((import.revisions.len(), import.notes.len()), (200, 0), "{:?}", import.notes);
    assert_eq!(import.revisions[0].stamp, "20240101000000");
    assert_eq!(
        (import.revisions[0].slug.as_str(), import.revisions[0].title.as_str()),
        ("5feceb66ffc8_create_table_t0", "create table t0")
    );
    let merge = import.revisions.iter().find(|one| one.title == "merge").unwrap();
    assert_eq!((merge.up.as_str(), &merge.down), ("", &ImportedDown::Nothing));
    let alone = import.revisions.iter().filter(|one| !one.up_transaction).count();
    assert_eq!(alone, if kind == Kind::Postgres { 20 } else { 0 }, "autocommit blocks");

    let place = Place::new(kind);
    write(&place, &import);
    let empty = contents(&store(&place));
    assert_eq!(up(&place), 200);
    alembic(&program, project.path(), &["upgrade", "head"]);
    same(&contents(&store(&place)), &theirs.contents());
    // with its own table in ours the fingerprints are the same, too
    point(project.path(), &theirs.sqlalchemy(), &theirs_of(&place));
    alembic(&program, project.path(), &["stamp", "head"]);
    point(project.path(), &theirs_of(&place), &theirs.sqlalchemy());
    assert_eq!(fingerprint(&store(&place)), fingerprint(&theirs.store()));

    // from here on their own database is ours
    let again = read_with_history(&alembic_origin(project.path(), kind, &program), &theirs);
    assert_eq!(again.revisions, import.revisions, "the same each time");
    let import = again;
    assert_eq!(import.applied.len(), 200);
    let adopted = in_database(&theirs, kind);
    write(&adopted, &import);
    assert_eq!(up(&adopted), 0);
    let (middle, quarter) = (&import.revisions[99], &import.revisions[49]);
    adopted.back(&middle.stamp);
    place.back(&middle.stamp);
    same(&contents(&store(&place)), &theirs.contents());

    // their own way back does to what we made what ours does
    place.sql(&format!("UPDATE alembic_version SET version_num = '{}'", middle.their_version));
    point(project.path(), &theirs.sqlalchemy(), &theirs_of(&place));
    alembic(&program, project.path(), &["downgrade", &quarter.their_version]);
    adopted.back(&quarter.stamp);
    same(&contents(&store(&place)), &theirs.contents());
    adopted.back("base");
    same(&theirs.contents(), &empty);
}

/// Points an Alembic project from one database to another.
fn point(project: &Path, from: &str, to: &str) {
    let ini = project.join("alembic.ini");
    let text = std::fs::read_to_string(&ini).unwrap();
    assert!(text.contains(from));
    std::fs::write(&ini, text.replace(from, to)).unwrap();
}

/// Proves and applies what is pending. How many there were.
fn up(place: &Place) -> usize {
    place.project().up(&Default::default()).unwrap_or_else(|e| panic!("{e}")).revisions.len()
}

fn fingerprint(store: &str) -> String {
    let mut db = database::open(store, Path::new("."), false, &Gate::default()).unwrap();
    backout::revision::catalog::read(db.as_mut()).unwrap().fingerprint()
}

/// The same without the table in which a tool keeps what it has run.
fn made(store: &str) -> String {
    let mut db = database::open(store, Path::new("."), false, &Gate::default()).unwrap();
    backout::revision::catalog::read(db.as_mut()).unwrap().without(adopt::HISTORIES).fingerprint()
}

fn read_with_history(origin: &Origin, theirs: &Theirs) -> Import {
    let mut db = database::open(&theirs.store(), Path::new("."), false, &Gate::default()).unwrap();
    adopt::read(origin, Some(db.as_mut())).unwrap()
}

/// A project of ours whose store is a database of theirs.
fn in_database(theirs: &Theirs, kind: Kind) -> Place {
    let place = Place::new(kind);
    let file = place.folder.path().join("backout.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(config(&place).store("main").unwrap(), &theirs.store())).unwrap();
    place
}

fn store(place: &Place) -> String {
    match &place.database {
        None => format!("sqlite:{}", place.folder.path().join("app.db").display()),
        Some(database) => database.url.clone(),
    }
}

/// Our database as SQLAlchemy has it.
fn theirs_of(place: &Place) -> String {
    match &place.database {
        None => format!("sqlite:///{}", place.folder.path().join("app.db").display()),
        Some(database) => database.url.replacen("postgres://", "postgresql+psycopg2://", 1),
    }
}

fn stamp_for_alembic(place: &Place, version: &str) {
    place.sql(&format!(
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY); \
         INSERT INTO alembic_version VALUES ('{version}')"
    ));
}

#[test]
fn two_hundred_revisions_of_alembic_on_sqlite() {
    two_hundred(Kind::Sqlite);
}

#[test]
fn two_hundred_revisions_of_alembic_on_postgres() {
    two_hundred(Kind::Postgres);
}

/// Writes one more revision into a project, after its head, with this body of its upgrade().
fn one_more(folder: &Path, rev: &str, parent: &str, upgrade: &str) {
    let text = format!(
        "\"\"\"more {rev}\n\nRevision ID: {rev}\nRevises: {parent}\nCreate Date: 2025-01-01 00:00:00\n\"\"\"\n\
         from alembic import op\nimport sqlalchemy as sa\n\nrevision = '{rev}'\ndown_revision = '{parent}'\n\n\
         def upgrade():\n    {upgrade}\n\ndef downgrade():\n    pass\n"
    );
    std::fs::write(folder.join(format!("alembic/versions/{rev}_more.py")), text).unwrap();
}

#[test]
fn what_alembic_cannot_say_offline_is_refused_by_name() {
    let Some(program) = program("BACKOUT_TEST_ALEMBIC") else { return };
    let theirs = Theirs::new(Kind::Sqlite);
    let project = alembic_project(&program, &theirs.sqlalchemy(), 3);
    let origin = alembic_origin(project.path(), Kind::Sqlite, &program);
    let head = adopt::read(&origin, None).unwrap().revisions[2].their_version.clone();
    let read = || adopt::read(&origin, None).map_err(|e| e.to_string());

    one_more(project.path(), "aaa", &head, "op.execute('COMMIT'); op.execute('VACUUM -- all;')");
    let import = read().unwrap();
    let last = import.revisions.last().unwrap();
    assert_eq!((last.stamp.as_str(), last.slug.as_str()), ("20250101000000", "aaa_more_aaa"));
    assert_eq!((last.up.as_str(), last.up_transaction), ("VACUUM -- all\n;\n", false));
    assert_eq!(last.down, ImportedDown::Irreversible("imported without a down".into()));

    let path = project.path().join("alembic/versions/aaa_more.py");
    let text = std::fs::read_to_string(&path).unwrap();
    let raises =
        text.replace("downgrade():\n    pass", "downgrade():\n    raise NotImplementedError('the rows are gone')");
    std::fs::write(&path, raises).unwrap();
    assert_eq!(
        read().unwrap().revisions.last().unwrap().down,
        ImportedDown::Irreversible("the rows are gone".into()),
        "its author said so"
    );

    one_more(project.path(), "bbb", "aaa", "op.get_bind().execute(sa.text('SELECT 1')).scalar()");
    let said = read().unwrap_err();
    assert!(said.contains("bbb (") && said.contains("bbb_more.py:14, upgrade)"), "{said}");
    assert!(!said.contains("aaa ("), "{said}");

    one_more(project.path(), "ccc", &head, "pass");
    let said = read().unwrap_err();
    assert!(said.contains("several heads: ") && said.contains("bbb") && said.contains("ccc"), "{said}");
    std::fs::remove_file(project.path().join("alembic/versions/ccc_more.py")).unwrap();
    std::fs::remove_file(project.path().join("alembic/versions/bbb_more.py")).unwrap();

    let other = Origin { kind: Kind::Postgres, ..origin.clone() };
    let said = adopt::read(&other, None).unwrap_err().to_string();
    assert!(said.contains("is for sqlite, and the store is postgresql"), "{said}");

    // a version that the folder does not have
    let place = Place::new(Kind::Sqlite);
    stamp_for_alembic(&place, "fff");
    let said = adopt::read(&origin, Some(open(&place).as_mut())).unwrap_err().to_string();
    assert!(said.contains("what is not in the folder: fff"), "{said}");

    let none = Origin { python: None, environment: Vec::new(), ..origin };
    let said = adopt::read(&none, None).unwrap_err().to_string();
    assert!(said.contains("Alembic itself is needed"), "{said}");
}

#[test]
fn the_environment_of_alembic_is_given_and_its_secrets_are_not_shown() {
    let Some(program) = program("BACKOUT_TEST_ALEMBIC") else { return };
    let project = alembic_project(&program, "driver://user:pass@localhost/dbname", 2);
    let env = project.path().join("alembic/env.py");
    let text = std::fs::read_to_string(&env).unwrap();
    let text = text.replace(
        "config = context.config\n",
        "config = context.config\nimport os\nconfig.set_main_option('sqlalchemy.url', os.environ['APP_DB'])\n\
         if 'nowhere' not in os.environ['APP_DB']: raise ValueError('no answer: ' + os.environ['APP_DB'])\n",
    );
    std::fs::write(&env, text).unwrap();
    let mut origin = alembic_origin(project.path(), Kind::Postgres, &program);
    let said = adopt::read(&origin, None).unwrap_err().to_string();
    assert!(said.contains("APP_DB"), "{said}");
    origin.environment.push(("APP_DB".into(), "postgresql://u:secret@nowhere/d".into()));
    assert_eq!(adopt::read(&origin, None).unwrap().revisions.len(), 2);
    let last = origin.environment.len() - 1;
    origin.environment[last].1 = "postgresql://u:secret@somewhere/d".into();
    let said = adopt::read(&origin, None).unwrap_err();
    assert!(said.to_string().contains("no answer: postgresql://u:***@somewhere/d"), "{said}");
    assert!(!format!("{said:?}").contains("secret"));
}

const DBMATE: [(&str, &str); 4] = [
    (
        "20240101000000_people.sql",
        "-- migrate:up\nCREATE TABLE people (id integer PRIMARY KEY, name text NOT NULL DEFAULT 'it''s; -- no');\n\
         CREATE UNIQUE INDEX people_name ON people (name);\n\n-- migrate:down\nDROP TABLE people;\n",
    ),
    (
        "20240102000000_pets.sql",
        "-- migrate:up\nCREATE TABLE pets (id integer PRIMARY KEY, owner integer REFERENCES people (id), \
         kind text CHECK (kind IN ('cat', 'dog')));\nINSERT INTO people VALUES (1, 'Ann'), (2, 'Bo; ''x''');\n\
         INSERT INTO pets VALUES (1, 1, 'cat');\n-- migrate:down\nDROP TABLE pets;\n\
         DELETE FROM people WHERE id IN (1, 2);\n",
    ),
    (
        "20240103000000_owned.sql",
        "-- migrate:up\nCREATE VIEW owned AS SELECT p.name, q.kind FROM people p JOIN pets q ON q.owner = p.id;\n\
         -- migrate:down\nDROP VIEW owned;\n",
    ),
    (
        "20240104000000_index.sql",
        "-- migrate:up transaction:false\nCREATE INDEX pets_owner ON pets (owner);\n\
         -- migrate:down transaction:false\nDROP INDEX pets_owner;\n",
    ),
];

#[test]
fn a_dbmate_folder_does_what_dbmate_does() {
    let Some(program) = program("BACKOUT_TEST_DBMATE") else { return };
    for kind in BOTH {
        let folder = folder(&DBMATE);
        let theirs = Theirs::new(kind);
        let dbmate = |word: &str| {
            let mut command = Command::new(&program);
            command.args(["--url", &theirs.dbmate(), "--migrations-dir"]).arg(folder.path());
            run(command.args(["--no-dump-schema", word]));
        };
        let place = Place::new(kind);
        let empty = contents(&store(&place));
        dbmate("up");
        let origin = Origin::of(Tool::Dbmate, folder.path(), kind);
        write(&place, &adopt::read(&origin, None).unwrap());
        let unmade = made(&store(&place));
        assert_eq!(up(&place), 4);
        assert_ne!(made(&store(&place)), unmade);
        same(&contents(&store(&place)), &theirs.contents());
        assert_eq!(made(&store(&place)), made(&theirs.store()), "{kind:?}");
        dbmate("rollback");
        dbmate("rollback");
        place.back("-2");
        same(&contents(&store(&place)), &theirs.contents());
        assert_eq!(made(&store(&place)), made(&theirs.store()), "{kind:?}");

        let import = read_with_history(&origin, &theirs);
        assert_eq!(import.applied, ["20240101000000", "20240102000000"]);
        let adopted = in_database(&theirs, kind);
        write(&adopted, &import);
        assert_eq!(up(&adopted), 2);
        adopted.back("base");
        place.back("base");
        same(&theirs.contents(), &empty);
        same(&contents(&store(&place)), &empty);
        assert_eq!(made(&store(&place)), made(&theirs.store()), "{kind:?}");
        assert_eq!(made(&store(&place)), unmade);
    }
}

/// What sqlx does is to run each file's text. It has to be compiled; where it is there, BACKOUT_TEST_SQLX names it, and it is run.
#[test]
fn a_sqlx_folder_does_what_sqlx_does() {
    for kind in BOTH {
        let mut files: Vec<(String, String)> = Vec::new();
        for (name, text) in DBMATE {
            let (up, down) = text.split_once("-- migrate:down").unwrap();
            let stem = name.trim_end_matches(".sql");
            let statements = |text: &str| text.split_once('\n').unwrap().1.to_owned();
            let first = if text.contains("transaction:false") { "-- no-transaction\n" } else { "" };
            files.push((format!("{stem}.up.sql"), format!("{first}{}", statements(up))));
            files.push((format!("{stem}.down.sql"), format!("{first}{}", statements(down))));
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let folder = folder(&files);
        let (place, other) = (Place::new(kind), Place::new(kind));
        let empty = contents(&store(&place));
        write(&place, &adopt::read(&Origin::of(Tool::Sqlx, folder.path(), kind), None).unwrap());
        up(&place);
        let sqlx = |arguments: &[&str]| {
            let program = std::env::var_os("BACKOUT_TEST_SQLX")?;
            let url = store(&other).replacen("sqlite:", "sqlite://", 1);
            let mut command = std::process::Command::new(program);
            command.arg("migrate").args(arguments).arg("--source").arg(folder.path()).args(["--database-url", &url]);
            Some(crate::peers::run(&mut command))
        };
        if sqlx(&["run"]).is_none() {
            files.iter().filter(|(name, _)| name.ends_with(".up.sql")).for_each(|(_, text)| other.sql(text));
        }
        same(&contents(&store(&place)), &contents(&store(&other)));
        assert_eq!(made(&store(&place)), made(&store(&other)), "{kind:?}");
        place.back("base");
        same(&contents(&store(&place)), &empty);
        if sqlx(&["revert", "--target-version", "0"]).is_some() {
            same(&contents(&store(&other)), &empty);
        }
    }
}

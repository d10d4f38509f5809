//! Swapping tables in PostgreSQL: nothing that an application has put on them is lost, there and back.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use backout::gate::Gate;
use backout::plan::Table;
use backout::store::{self, Error, Mode, Role, Site, State, Store, Write};
use backout::value::{Batch, Key, Value};
use postgres::Client;

use crate::database::{Database, owner};

const RUN: &str = "0123456789ab";

struct Place {
    database: Database,
    /// Roles beside the owner.
    reader: String,
}

impl Place {
    fn with(sql: &str) -> Place {
        let mut database = Database::new();
        let (reader, _) = database.role("secret");
        let place = Place { database, reader };
        place.app().batch_execute(&sql.replace("$READER", &place.reader)).unwrap();
        place
    }
    fn app(&self) -> Client {
        self.database.client()
    }
    fn at(&self, role: Role, site: Site) -> Box<dyn Store> {
        let mut store = store::open(&self.database.url, Path::new("."), false, &Gate::default()).unwrap();
        store.stand(role, site);
        store
    }
    /// The tables as a plan has them that changes nothing.
    fn tables(&self) -> Vec<Table> {
        let mut tables = self.at(Role::Source, Site::Home).schema().unwrap().tables;
        tables.iter_mut().for_each(|t| t.checks.clear());
        tables
    }
    fn words(&self, sql: &str) -> Vec<String> {
        self.app().query(sql, &[]).unwrap().iter().map(|l| l.get(0)).collect()
    }
    /// The database as pg_dump tells it, without ours.
    fn dump(&self) -> String {
        dump(&self.database.url)
    }
    /// Schemas that are not the application's.
    fn schemas(&self) -> Vec<String> {
        self.words(
            "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$|^public$' ORDER BY 1",
        )
    }
}

/// A database as pg_dump tells it, without ours.
pub fn dump(url: &str) -> String {
    let dump = Path::new(&std::env::var("BACKOUT_TEST_PG_BIN").unwrap()).join("pg_dump");
    let out =
        Command::new(dump).args(["--schema-only", "-N", "backout*", "-N", "migration_backup*", url]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let ours = |p: &&str| !p.contains("backout_") && !p.contains("restrict ");
    text.split("\n\n").map(str::trim).filter(|p| !p.is_empty()).filter(ours).collect::<Vec<_>>().join("\n\n")
}

fn all(tables: &[Table]) -> Vec<&Table> {
    tables.iter().collect()
}

fn fails<T>(done: Result<T, Error>) -> String {
    match done {
        Ok(_) => panic!("it was not refused"),
        Err(Error::Refused { cause, hint, .. }) => format!("{cause}; {hint}"),
        Err(e) => e.to_string(),
    }
}

/// Staged, filled, built and dressed.
fn made(place: &Place, sources: &[Table], targets: &[Table]) -> Box<dyn Store> {
    let (sources, targets) = (all(sources), all(targets));
    let mut source = place.at(Role::Source, Site::Home);
    source.prepare().unwrap();
    source.begin(Mode::Write, &[]).unwrap();
    let state = State::begun(RUN, Role::Source, "20250301090000", "t", "h", "2025-03-01T09:00:00Z");
    source.put_state(&state, Some("{}")).unwrap();
    source.commit("the record").unwrap();
    let mut target = place.at(Role::Target, Site::Staged(RUN.into()));
    target.begin(Mode::Write, &[]).unwrap();
    target.create(&targets).unwrap();
    target.commit("creating").unwrap();
    for (source_table, target_table) in sources.iter().zip(&targets) {
        let mut batch = Batch::default();
        assert!(source.scan(source_table, &[], 1000, &mut batch).unwrap().is_none());
        target.begin(Mode::Write, &[]).unwrap();
        target.load(target_table, &batch).unwrap();
        target.build_key(target_table).unwrap();
        target.commit("loading").unwrap();
    }
    target.begin(Mode::Write, &[]).unwrap();
    target.build_rest(&targets).unwrap();
    target.commit("building").unwrap();
    dressed(target.as_mut(), &sources, &targets);
    source
}

fn dressed(target: &mut dyn Store, sources: &[&Table], targets: &[&Table]) {
    target.begin(Mode::Write, &[]).unwrap();
    target.dress(sources, targets).unwrap();
    target.commit("dressing").unwrap();
}

fn cut_over(store: &mut dyn Store, sources: &[Table], targets: &[Table]) -> Result<(), Error> {
    let (sources, targets) = (all(sources), all(targets));
    store.stand(Role::Source, Site::Home);
    store.begin(Mode::Swap, &sources)?;
    let done = store.swap(&sources, &Site::Backup, &targets, &Site::Staged(RUN.into()));
    if let Err(e) = done {
        store.rollback();
        return Err(e);
    }
    store.stand(Role::Target, Site::Home);
    store.unseal(&targets)?;
    store.stand(Role::Source, Site::Backup);
    store.seal(&sources, RUN)?;
    store.commit("cutover")
}

fn roll_back(store: &mut dyn Store, sources: &[Table], targets: &[Table]) -> Result<(), Error> {
    let (sources, targets) = (all(sources), all(targets));
    store.stand(Role::Target, Site::Home);
    store.begin(Mode::Swap, &targets)?;
    store.swap(&targets, &Site::Staged(RUN.into()), &sources, &Site::Backup)?;
    store.stand(Role::Source, Site::Home);
    store.unseal(&sources)?;
    store.stand(Role::Target, Site::Staged(RUN.into()));
    store.seal(&targets, RUN)?;
    store.commit("rollback")
}

/// What a plain owner can put on tables.
pub const EVERYTHING: &str = include_str!("everything.sql");

const NUMBERS: &str =
    "SELECT concat_ws(' ', sequencename, last_value) FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1";
const CONTENT: &str = "SELECT concat_ws('|', id, parent, self, number, word, doubled, name) FROM words ORDER BY 1";

#[test]
fn d03_what_like_leaves_out() {
    let place = Place::with(EVERYTHING);
    let sources = place.tables();
    let (before, numbers, content) = (place.dump(), place.words(NUMBERS), place.words(CONTENT));
    assert_eq!(content.len(), 2);
    let words = place.at(Role::Source, Site::Home).may_swap(&all(&sources), &all(&sources)).unwrap();
    assert_eq!((words, place.schemas()), (vec![], vec![]), "trying left something");

    let mut store = made(&place, &sources, &sources);
    assert_eq!(place.dump(), before);
    let oid =
        || place.words("SELECT 'words'::regclass::oid::text || 'counted'::regclass::oid || 'parents'::regclass::oid");
    let was = oid();
    cut_over(store.as_mut(), &sources, &sources).unwrap();
    assert_ne!(oid(), was, "nothing was swapped");
    assert_eq!(place.dump(), before);
    assert_eq!((place.words(NUMBERS), place.words(CONTENT)), (numbers, content));
    // what stands on the tables reads and writes what is home
    let mut app = place.app();
    app.batch_execute(
        "UPDATE \"Odd \"\"Things\" SET word = 'changed' WHERE word = 'one'; INSERT INTO loud (shout) VALUES ('by the view');
         INSERT INTO parents (name, code) VALUES ('c', 3); SELECT nextval('loose'); REFRESH MATERIALIZED VIEW counted",
    )
    .unwrap();
    let now = place.words("SELECT word FROM words UNION SELECT shout FROM loud ORDER BY 1");
    assert_eq!(now, ["by the view", "changed", "two"]);
    assert_eq!(place.words("SELECT concat_ws(' ', id, name) FROM parents WHERE name = 'c'"), ["20 c"]);
    assert_eq!(place.words("SELECT tablename::text FROM pg_publication_tables WHERE schemaname <> 'public'"), [""; 0]);
    let names: Vec<String> = place.tables().into_iter().map(|t| t.name).collect();
    assert_eq!(names, ["Odd \"Things", "audit", "parents", "quick"], "what rests is listed");
    let resting = app.batch_execute("UPDATE migration_backup.parents SET code = 9").unwrap_err();
    assert_eq!(resting.code().unwrap().code(), "25006");

    roll_back(store.as_mut(), &sources, &sources).unwrap();
    assert_eq!(oid(), was);
    assert_eq!(place.dump(), before);
    assert_eq!(place.words("SELECT word FROM words ORDER BY 1"), ["one", "two"], "the resting tables are home again");
    let given: Vec<String> = app
        .query("INSERT INTO parents (name, code) VALUES ('d', 4) RETURNING id::text", &[])
        .unwrap()
        .iter()
        .map(|l| l.get(0))
        .collect();
    assert!(given[0].parse::<i32>().unwrap() > 20, "a number that was given is given again: {given:?}");

    store.stand(Role::Target, Site::Staged(RUN.into()));
    store.begin(Mode::Write, &[]).unwrap();
    store.drop_tables(&all(&sources)).unwrap();
    store.commit("dropping").unwrap();
    assert_eq!(place.schemas(), ["backout"]);
    assert_eq!(place.dump(), before);
}

/// Two tables, a child's key to its parent, a view.
const SMALL: &str =
    "CREATE TABLE parents (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, note text);
    CREATE TABLE children (id serial PRIMARY KEY, parent int NOT NULL REFERENCES parents, word text);
    CREATE INDEX children_word ON children (word);
    CREATE TABLE other (id int PRIMARY KEY);
    INSERT INTO other VALUES (1), (2);
    INSERT INTO parents (name) VALUES ('a'), ('b'); INSERT INTO children (parent, word) VALUES (1, 'one'), (2, 'two');";

fn small(place: &Place) -> Vec<Table> {
    place.tables().into_iter().filter(|t| t.name != "other").collect()
}

#[test]
fn d01_set_schema_keeps_every_name() {
    let place = Place::with(SMALL);
    let sources = small(&place);
    let mut targets = sources.clone();
    // keys and what refers to them become bigint; the names of all that there is stay
    for t in &mut targets {
        t.columns.iter_mut().filter(|c| c.ty == "integer").for_each(|c| c.ty = "bigint".into());
    }
    let names = "SELECT concat_ws(' ', relkind, relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace \
        UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname) FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1";
    let before = place.words(names);
    let mut store = made(&place, &sources, &targets);
    cut_over(store.as_mut(), &sources, &targets).unwrap();
    assert_eq!(place.words(names), before);
    let types = "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'children'::regclass AND attnum > 0 ORDER BY attnum";
    assert_eq!(place.words(types), ["bigint", "bigint", "text"]);
    let max = "SELECT max_value::text FROM pg_sequences WHERE schemaname = 'public'";
    assert_eq!(place.words(max), ["9223372036854775807", "9223372036854775807"]);
    assert_eq!(place.words("INSERT INTO children (parent) SELECT id FROM parents LIMIT 1 RETURNING id::text"), ["3"]);
    roll_back(store.as_mut(), &sources, &targets).unwrap();
    assert_eq!((place.words(names), place.words(types)[0].as_str()), (before, "integer"));
    assert_eq!(place.words("INSERT INTO children (parent) SELECT id FROM parents LIMIT 1 RETURNING id::text"), ["4"]);
}

#[test]
fn d02_views_follow_the_object() {
    let place = Place::with(SMALL);
    let sources = small(&place);
    let mut app = place.app();
    app.batch_execute("CREATE VIEW words AS SELECT c.id, word, name FROM children c JOIN parents p ON p.id = parent")
        .unwrap();
    let mut store = made(&place, &sources, &sources);
    // one that comes when all is prepared would go with the resting tables
    app.batch_execute("CREATE VIEW late AS SELECT count(*) AS n FROM words").unwrap();
    let said = fails(cut_over(store.as_mut(), &sources, &sources));
    assert!(said.contains("was changed on the tables after"), "{said}");
    let mut target = place.at(Role::Target, Site::Staged(RUN.into()));
    dressed(target.as_mut(), &all(&sources), &all(&sources));
    cut_over(store.as_mut(), &sources, &sources).unwrap();
    app.batch_execute("INSERT INTO children (parent, word) VALUES (1, 'three')").unwrap();
    assert_eq!(place.words("SELECT n::text FROM late"), ["3"]);
    // an empty schema may be tidied up by anyone
    app.batch_execute(&format!("DROP SCHEMA backout_stage_{RUN}")).unwrap();
    // one that is made while the targets are live goes back with them
    app.batch_execute("CREATE VIEW young AS SELECT word FROM children").unwrap();
    roll_back(store.as_mut(), &sources, &sources).unwrap();
    assert_eq!(place.words("SELECT n::text FROM late"), ["2"]);
    assert_eq!(
        place.words("SELECT table_schema::text FROM information_schema.views WHERE table_name = 'young'"),
        [format!("backout_stage_{RUN}")]
    );
    store.stand(Role::Target, Site::Staged(RUN.into()));
    store.begin(Mode::Write, &[]).unwrap();
    store.set_aside(&all(&sources), RUN).unwrap();
    store.commit("aside").unwrap();
    assert_eq!(place.schemas(), ["backout".to_owned(), format!("backout_kept_{RUN}")]);
    assert_eq!(place.words(&format!("SELECT word FROM backout_kept_{RUN}.young ORDER BY 1")), ["one", "three", "two"]);
}

#[test]
fn d02_what_was_taken_off_meanwhile_is_taken_off() {
    let place = Place::with(SMALL);
    let sources = small(&place);
    let mut app = place.app();
    app.batch_execute(&format!(
        "ALTER TABLE parents ENABLE ROW LEVEL SECURITY, REPLICA IDENTITY FULL, SET (fillfactor = 50); CREATE POLICY p ON parents USING (true);
         COMMENT ON TABLE parents IS 'x'; COMMENT ON COLUMN parents.name IS 'y'; GRANT SELECT (name) ON parents TO {};
         CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM children",
        place.reader
    ))
    .unwrap();
    let mut store = made(&place, &sources, &sources);
    let mut target = place.at(Role::Target, Site::Staged(RUN.into()));
    app.batch_execute(&format!(
        "DROP POLICY p ON parents; ALTER TABLE parents DISABLE ROW LEVEL SECURITY, REPLICA IDENTITY DEFAULT, RESET (fillfactor);
         COMMENT ON TABLE parents IS NULL; COMMENT ON COLUMN parents.name IS NULL; REVOKE ALL ON parents FROM {}",
        place.reader
    ))
    .unwrap();
    let before = place.dump();
    dressed(target.as_mut(), &all(&sources), &all(&sources));
    // nothing has changed since, but what the view should tell
    let children = sources.iter().find(|t| t.name == "children").unwrap();
    target.begin(Mode::Write, &[]).unwrap();
    target.write(&[children], &[(0, vec![Write::Delete { key: Key::of([&Value::Int(1)]) }])]).unwrap();
    target.commit("a change").unwrap();
    dressed(target.as_mut(), &all(&sources), &all(&sources));
    cut_over(store.as_mut(), &sources, &sources).unwrap();
    assert_eq!(place.dump(), before);
    assert_eq!(place.words("SELECT n::text FROM kept"), ["1"]);
}

#[test]
fn p11_triggers_of_the_side_that_follows_do_not_fire() {
    let place = Place::with(&format!(
        "{SMALL} CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO other SELECT max(id) + 1 FROM other; RETURN NULL; END $$;
         CREATE TRIGGER told AFTER INSERT OR DELETE ON children FOR EACH ROW EXECUTE FUNCTION told();
         CREATE RULE never AS ON DELETE TO parents DO INSTEAD NOTHING"
    ));
    let sources = small(&place);
    let told = || place.words("SELECT count(*)::text FROM other");
    let mut store = made(&place, &sources, &sources);
    let mut target = place.at(Role::Target, Site::Staged(RUN.into()));
    let follow = |store: &mut dyn Store| {
        store.begin(Mode::Write, &[]).unwrap();
        let delete = |id: i64| Write::Delete { key: Key::of([&Value::Int(id)]) };
        store.write(&all(&sources), &[(0, vec![delete(2)]), (1, vec![delete(2)])]).unwrap();
        store.commit("a drain").unwrap();
    };
    assert_eq!(sources.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["children", "parents"]);
    follow(target.as_mut());
    assert_eq!(told(), ["2"]);
    assert_eq!(place.words(&format!("SELECT count(*)::text FROM backout_stage_{RUN}.parents")), ["1"]);
    cut_over(store.as_mut(), &sources, &sources).unwrap();
    store.stand(Role::Source, Site::Backup);
    follow(store.as_mut());
    assert_eq!(told(), ["2"]);
    place.app().batch_execute("DELETE FROM children WHERE id = 1; DELETE FROM parents").unwrap();
    assert_eq!(
        (told(), place.words("SELECT count(*)::text FROM parents")),
        (vec!["3".to_owned()], vec!["1".to_owned()])
    );
}

#[test]
fn p01_one_side_is_unsealed_and_the_other_stays_sealed() {
    let place = Place::with(SMALL);
    let sources = small(&place);
    let (mut store, mut app) = (made(&place, &sources, &sources), place.app());
    let mut refused = |sql: &str| app.batch_execute(sql).is_err_and(|e| e.code().is_some_and(|c| c.code() == "25006"));
    let staged = format!("TRUNCATE backout_stage_{RUN}.children");
    assert!(refused(&staged));
    cut_over(store.as_mut(), &sources, &sources).unwrap();
    assert!(!refused("DELETE FROM children WHERE id = 1"));
    store.stand(Role::Target, Site::Home);
    store.begin(Mode::Write, &[]).unwrap();
    store.unseal(&all(&sources)).unwrap();
    store.commit("unsealing once more").unwrap();
    assert!(refused("DELETE FROM migration_backup.children") && refused("TRUNCATE migration_backup.children"));
    // a fixture loader switches triggers off and on
    assert!(!refused(
        "ALTER TABLE children DISABLE TRIGGER USER; ALTER TABLE children ENABLE TRIGGER USER; DELETE FROM children WHERE id = 2"
    ));
    roll_back(store.as_mut(), &sources, &sources).unwrap();
    assert!(refused(&staged) && !refused("DELETE FROM children"));
}

#[test]
fn d02_what_rests_goes_with_its_views() {
    let place = Place::with(SMALL);
    let sources = small(&place);
    place
        .app()
        .batch_execute(
            "CREATE VIEW words AS SELECT word FROM children; CREATE MATERIALIZED VIEW kept AS SELECT * FROM words",
        )
        .unwrap();
    let before = place.dump();
    let mut store = made(&place, &sources, &sources);
    cut_over(store.as_mut(), &sources, &sources).unwrap();
    store.stand(Role::Source, Site::Backup);
    store.begin(Mode::Write, &[]).unwrap();
    store.drop_tables(&all(&sources)).unwrap();
    store.commit("complete").unwrap();
    assert_eq!((place.schemas(), place.dump()), (vec!["backout".to_owned()], before));
    assert_eq!(place.words("SELECT word FROM words ORDER BY 1"), ["one", "two"]);
}

#[test]
fn d02_a_schema_of_somebody_else_stays() {
    let place =
        Place::with(&format!("{SMALL} CREATE SCHEMA migration_backup; CREATE TABLE migration_backup.mine (id int)"));
    let sources = small(&place);
    let mut store = made(&place, &sources, &sources);
    cut_over(store.as_mut(), &sources, &sources).unwrap();
    place.app().batch_execute("DROP TABLE migration_backup.mine").unwrap();
    store.stand(Role::Source, Site::Backup);
    store.begin(Mode::Write, &[]).unwrap();
    store.drop_tables(&all(&sources)).unwrap();
    store.commit("complete").unwrap();
    assert_eq!(place.schemas(), ["backout", "migration_backup"]);
}

#[test]
fn d02_what_cannot_follow_is_refused() {
    let place = Place::with(&format!(
        "{SMALL} CREATE FUNCTION of_row(parents) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1.name'"
    ));
    let (sources, mut app) = (small(&place), place.app());
    let schemas = place.schemas();
    let mut refused = |make: &str, undo: &str, says: &[&str]| {
        app.batch_execute(make).unwrap_or_else(|e| panic!("{make}: {e}"));
        let said = fails(place.at(Role::Source, Site::Home).may_swap(&all(&sources), &all(&sources)));
        assert!(says.iter().all(|s| said.contains(s)), "{make}: {said}");
        assert_eq!(
            place.schemas().into_iter().filter(|s| s != "aside" && s != "migration_backup").collect::<Vec<_>>(),
            schemas
        );
        app.batch_execute(undo).unwrap();
    };
    refused(
        "CREATE TABLE outside (p int REFERENCES parents)",
        "DROP TABLE outside",
        &["outside_p_fkey", "outside", "parents"],
    );
    refused(
        "ALTER TABLE children ADD FOREIGN KEY (id) REFERENCES other",
        "ALTER TABLE children DROP CONSTRAINT children_id_fkey",
        &["children_id_fkey"],
    );
    refused("CREATE TABLE typed (p parents)", "DROP TABLE typed", &["table typed"]);
    refused("CREATE TYPE made AS (p parents)", "DROP TYPE made", &["made"]);
    refused(
        "ALTER TABLE other ADD n int CHECK (of_row(NULL) IS NULL)",
        "ALTER TABLE other DROP n",
        &["constraint other_check on table other"],
    );
    refused("CREATE TABLE heirs () INHERITS (parents)", "DROP TABLE heirs", &["parents is partitioned, inherits"]);
    let taken = "CREATE SCHEMA migration_backup; CREATE TABLE migration_backup.children_word ()";
    refused(taken, "DROP SCHEMA migration_backup CASCADE", &["migration_backup has something called children_word"]);
    let mut admin = place.database.admin();
    admin.batch_execute("CREATE VIEW theirs AS SELECT * FROM parents").unwrap();
    if owner() != "postgres" {
        refused("SELECT 1", "SELECT 1", &["theirs belongs to postgres"]);
    }
}

#[test]
fn d02_what_a_dropped_or_renamed_column_takes_with_it() {
    let place = Place::with(SMALL);
    let (sources, mut app) = (small(&place), place.app());
    app.batch_execute("COMMENT ON COLUMN parents.note IS 'a note'; GRANT SELECT (note) ON parents TO PUBLIC").unwrap();
    let mut dropped = sources.clone();
    let parents = |tables: &mut Vec<Table>| tables.iter().position(|t| t.name == "parents").unwrap();
    let at = parents(&mut dropped);
    dropped[at].columns.remove(2);
    let mut gone = sources.clone();
    let lone = backout::plan::Lone { column: gone[at].columns.remove(2), place: 2 };
    gone[at].alone.push(lone);
    let mut renamed = sources.clone();
    renamed[at].columns[2].name = "remark".into();
    let mut elders = sources.clone();
    elders[at].name = "elders".into();
    elders.iter_mut().flat_map(|t| &mut t.foreign_keys).for_each(|f| f.table = "elders".into());
    let tried = |sources: &[Table], targets: &[Table]| {
        place.at(Role::Source, Site::Home).may_swap(&all(sources), &all(targets))
    };
    tried(&gone, &dropped).unwrap();
    tried(&sources, &renamed).unwrap();
    tried(&sources, &elders).unwrap();
    app.batch_execute("CREATE VIEW notes AS SELECT note FROM parents").unwrap();
    let said = fails(tried(&gone, &dropped));
    assert!(said.contains("view notes cannot follow") && said.contains("note") && said.contains("drop it"), "{said}");
    tried(&sources, &renamed).unwrap();
    tried(&sources, &elders).unwrap();
    app.batch_execute("DROP VIEW notes; CREATE POLICY noted ON parents USING (note <> '')").unwrap();
    let said = fails(tried(&gone, &dropped));
    assert!(said.contains("policy noted of parents cannot follow") && said.contains("note"), "{said}");
    app.batch_execute(
        "DROP POLICY noted ON parents; CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER told AFTER UPDATE OF note ON parents FOR EACH ROW EXECUTE FUNCTION nothing()",
    )
    .unwrap();
    let said = fails(tried(&gone, &dropped));
    assert!(said.contains("trigger told of parents cannot follow"), "{said}");
    app.batch_execute("DROP TRIGGER told ON parents; CREATE TRIGGER told AFTER DELETE ON parents FOR EACH ROW EXECUTE FUNCTION nothing()").unwrap();

    let mut store = made(&place, &sources, &elders);
    cut_over(store.as_mut(), &sources, &elders).unwrap();
    let on = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'told' ORDER BY 1";
    assert_eq!(place.words(on), ["elders", "migration_backup.parents"]);
    roll_back(store.as_mut(), &sources, &elders).unwrap();
    assert_eq!(place.words(on), [format!("backout_stage_{RUN}.elders"), "parents".into()]);
}

#[test]
fn d02_definitions_follow_a_renaming() {
    let place = Place::with(&format!(
        "{SMALL} UPDATE parents SET note = 'note of ' || name;
         CREATE VIEW notes AS SELECT id, name, note FROM parents; CREATE VIEW deep AS SELECT note FROM notes WHERE name = 'a';
         CREATE MATERIALIZED VIEW kept AS SELECT word, p.* FROM children c JOIN parents p ON p.id = c.parent;
         CREATE POLICY noted ON parents USING (note <> '' AND EXISTS (SELECT FROM children WHERE parent = parents.id));
         CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO other VALUES (1000); RETURN NULL; END $$;
         CREATE TRIGGER told AFTER UPDATE OF name ON parents FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION told();
         CREATE RULE written AS ON UPDATE TO notes DO INSTEAD UPDATE parents SET note = NEW.note WHERE id = NEW.id;
         CREATE STATISTICS of_both (ndistinct) ON name, note FROM parents;
         COMMENT ON COLUMN parents.note IS 'a note'; GRANT SELECT (note) ON parents TO PUBLIC; CREATE SCHEMA aside;
         CREATE FUNCTION aside.tell(parents) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN $1::text; END $$;
         CREATE VIEW aside.told AS SELECT aside.tell(p) AS told, p.note FROM parents p;
         CREATE POLICY guarded ON other USING (EXISTS (SELECT FROM parents p JOIN children c ON c.parent = p.id WHERE p.note <> c.word));
         CREATE RULE late AS ON UPDATE TO other DO ALSO UPDATE parents SET note = 'by the rule' WHERE name = 'b'"
    ));
    let sources = small(&place);
    let mut targets = sources.clone();
    let [children, parents] = targets.as_mut_slice() else { panic!("{targets:?}") };
    // the tables change names, and so do two columns; another takes the name that the third had
    (children.name, parents.name) = ("parents".into(), "children".into());
    children.foreign_keys[0].table = "children".into();
    (parents.columns[1].name, parents.columns[2].name) = ("note".into(), "name".into());
    parents.indexes[0].definition = Some("UNIQUE (note)".into());
    children.columns[2].name = "said".into();
    children.indexes[0].definition = Some("USING btree (said)".into());
    let column = backout::plan::Column {
        name: "word".into(),
        ty: "text".into(),
        default: Some("'new'".into()),
        ..Default::default()
    };
    children.alone.push(backout::plan::Lone { column, place: 3 });
    place.at(Role::Source, Site::Home).may_swap(&all(&sources), &all(&targets)).unwrap();
    let before = place.dump();
    let content = || {
        (
            place.words("SELECT concat_ws('|', id, name, note) FROM notes ORDER BY 1"),
            place.words("SELECT note FROM deep"),
            place.words("SELECT concat_ws('|', word, name, note) FROM kept ORDER BY 1"),
        )
    };
    let was = (content().0, content().1, vec!["one|a|note of a".to_owned(), "two|b|note of b".into()]);
    let mut store = made(&place, &sources, &targets);
    cut_over(store.as_mut(), &sources, &targets).unwrap();
    assert_eq!(place.words("SELECT concat_ws('|', id, note, name) FROM children ORDER BY 1"), was.0);
    assert_eq!(place.words("SELECT said || word FROM parents ORDER BY 1"), ["onenew", "twonew"]);
    assert_eq!(content(), was);
    let mut app = place.app();
    app.batch_execute(
        "UPDATE notes SET note = 'by the view' WHERE id = 1; UPDATE children SET name = 'no name' WHERE id = 2",
    )
    .unwrap();
    assert_eq!(place.words("SELECT name FROM children ORDER BY 1"), ["by the view", "no name"]);
    assert_eq!(place.words("SELECT count(*)::text FROM other WHERE id = 1000"), ["0"]);
    app.batch_execute("UPDATE children SET note = 'told' WHERE id = 2").unwrap();
    assert_eq!(place.words("SELECT count(*)::text FROM other WHERE id = 1000"), ["1"]);
    let policy =
        place.words("SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = 'children'::regclass");
    assert!(policy[0].contains("name <> ''") && policy[0].contains("FROM parents"), "{policy:?}");
    let policy = place.words("SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polname = 'guarded'");
    assert!(policy[0].contains("(p.name <> c.said)") && policy[0].contains("(children p"), "{policy:?}");
    app.batch_execute("UPDATE other SET id = 3 WHERE id = 1").unwrap();
    assert_eq!(
        place.words("SELECT note || ': ' || name FROM children ORDER BY id"),
        ["a: by the view", "told: no name"]
    );
    app.batch_execute("DELETE FROM other WHERE id = 1000; UPDATE children SET note = 'b' WHERE id = 2; UPDATE other SET id = 4 WHERE id = 3").unwrap();
    assert_eq!(place.words("SELECT note FROM aside.told ORDER BY 1"), ["by the rule", "by the view"]);
    assert_eq!(place.words("SELECT told FROM aside.told ORDER BY 1")[1], "(2,b,\"by the rule\")");
    assert_eq!(place.words("SELECT col_description('children'::regclass, 3)"), ["a note"]);
    roll_back(store.as_mut(), &sources, &targets).unwrap();
    assert_eq!((place.dump(), content()), (before, was));
}

#[test]
fn d02_of_two_that_become_one_nothing_is_lost_without_a_word() {
    let place = Place::with(
        "CREATE TABLE movies (id int PRIMARY KEY, name text); CREATE TABLE shows (id int PRIMARY KEY, name text);
         CREATE VIEW films AS SELECT name FROM movies; COMMENT ON TABLE movies IS 'x'",
    );
    let sources = place.tables();
    let one = Table { name: "media".into(), key_name: None, ..sources[0].clone() };
    let targets = [one.clone(), one];
    let tried = |targets: &[Table]| place.at(Role::Source, Site::Home).may_swap(&all(&sources), &all(targets));
    let told = tried(&targets).unwrap();
    assert!(told.len() == 1 && told[0].contains("view films") && told[0].contains("all of them"), "{told:?}");
    let mut app = place.app();
    app.batch_execute("DROP VIEW films; CREATE POLICY p ON shows USING (true)").unwrap();
    for targets in [&targets[..], &targets[..1]] {
        let told = tried(targets).unwrap();
        assert!(told.len() == 1 && told[0].contains("shows: policy on it"), "{told:?}");
    }
    // what speaks of the second from elsewhere has nothing to speak of
    app.batch_execute("CREATE TABLE other (id int); CREATE POLICY o ON other USING (id IN (SELECT id FROM shows))")
        .unwrap();
    let said = fails(tried(&targets));
    assert!(said.contains("policy o on table other") && said.contains("go on meaning"), "{said}");
    app.batch_execute("DROP TABLE other").unwrap();
    app.batch_execute("CREATE PUBLICATION news FOR TABLE shows").unwrap();
    assert!(fails(tried(&targets)).contains("shows is in a publication"));
    app.batch_execute("DROP PUBLICATION news; CREATE VIEW serials AS SELECT name FROM shows").unwrap();
    for said in [fails(tried(&targets)), fails(tried(&targets[..1]))] {
        assert!(said.contains("view serials stands on a table in whose place none comes"), "{said}");
    }
}

#[test]
fn d03_another_owner() {
    let place = Place::with(SMALL);
    let (reader, mut admin) = (place.reader.clone(), place.database.admin());
    admin
        .batch_execute(&format!(
            "GRANT {reader} TO {}; GRANT CREATE ON SCHEMA public TO {reader}; CREATE VIEW words AS SELECT word FROM children;
             ALTER TABLE parents OWNER TO {reader}; ALTER VIEW words OWNER TO {reader}; GRANT SELECT ON children TO {reader};
             SET ROLE {reader}; GRANT SELECT ON parents TO PUBLIC; RESET ROLE; ALTER DEFAULT PRIVILEGES FOR ROLE {} GRANT SELECT ON TABLES TO PUBLIC",
            owner(),
            owner()
        ))
        .unwrap();
    let (sources, before) = (small(&place), place.dump());
    let mut store = made(&place, &sources, &sources);
    cut_over(store.as_mut(), &sources, &sources).unwrap();
    assert_eq!(place.dump(), before);
    assert_eq!(
        place.words("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'parents' ORDER BY 1"),
        vec![reader; 2]
    );
    roll_back(store.as_mut(), &sources, &sources).unwrap();
    assert_eq!(place.dump(), before);
}

/// What stands on the tables from elsewhere: other schemas, tables that do not change, routines.
const ELSEWHERE: &str = include_str!("elsewhere.sql");

#[test]
fn d02_what_stands_elsewhere_follows() {
    let mut place = Place::with(SMALL);
    let version: i32 = place.app().query_one("SELECT current_setting('server_version_num')::int4", &[]).unwrap().get(0);
    let (other, _) = place.database.role("secret");
    let sql = ELSEWHERE.replace("$READER", &place.reader).replace("$OTHER", &other).replace("$OWNER", &owner());
    let newer = |line: &&str| version >= line.rsplit_once("-- from ").map_or(0, |(_, v)| v.parse::<i32>().unwrap());
    let sql: Vec<&str> = sql.lines().filter(newer).collect();
    let admin = sql.iter().position(|l| l.starts_with("-- as the administrator")).unwrap();
    place.app().batch_execute(&sql[..admin].join("\n")).unwrap();
    place.database.admin().batch_execute(&sql[admin..].join("\n")).unwrap();
    let sources = small(&place);
    let content = || {
        let mut seen = place.words("SELECT word FROM reports.words ORDER BY 1");
        for sql in [
            "SELECT n::text FROM \"Odd.One\".counted",
            "SELECT string_agg(said, ',' ORDER BY said) FROM sayings",
            "SELECT string_agg(name, ',' ORDER BY name) FROM whole()",
            "SELECT called FROM reports.called",
        ] {
            seen.extend(place.words(sql));
        }
        if version >= 140_000 {
            seen.extend(place.words("SELECT reports.many()::text"));
        }
        seen
    };
    let (before, was) = (place.dump(), content());
    let words = place.at(Role::Source, Site::Home).may_swap(&all(&sources), &all(&sources)).unwrap();
    assert_eq!((words, place.schemas()), (vec![], vec!["Odd.One".to_owned(), "reports".into()]));
    let mut store = made(&place, &sources, &sources);
    assert_eq!(place.dump(), before);
    cut_over(store.as_mut(), &sources, &sources).unwrap();
    assert_eq!((place.dump(), content()), (before.clone(), was.clone()));
    // all of it means what is home, and nothing means what rests
    let mut app = place.app();
    app.batch_execute(
        "INSERT INTO parents (name) VALUES ('c'); INSERT INTO children (parent, word) VALUES (3, 'three');
         REFRESH MATERIALIZED VIEW reports.kept; INSERT INTO other (id) VALUES (7); SELECT 1",
    )
    .unwrap();
    let now = content();
    assert_ne!(now, was);
    assert!(now.contains(&"three".into()) && now.contains(&"a,b,c".into()), "{now:?}");
    assert_eq!(place.words("SELECT word FROM reports.kept ORDER BY 1"), ["one", "three", "two"]);
    assert_eq!(place.words("SELECT note FROM parents WHERE id = 1"), ["7 came"], "the rule of another table");
    // its default goes on counting where the children count: two rows each had a number before, and the third child has one
    assert_eq!(place.words("SELECT n::text FROM other WHERE id = 7"), ["6"]);
    let resting = "SELECT count(*)::text FROM migration_backup.parents WHERE note IS NOT NULL OR name = 'c'";
    assert_eq!(place.words(resting), ["0"]);

    roll_back(store.as_mut(), &sources, &sources).unwrap();
    assert_eq!((place.dump(), content()), (before.clone(), was));
    app.batch_execute("INSERT INTO other (id) VALUES (8)").unwrap();
    assert_eq!(place.words("SELECT note FROM parents WHERE id = 1"), ["8 came"]);
    store.stand(Role::Target, Site::Staged(RUN.into()));
    store.begin(Mode::Write, &[]).unwrap();
    store.drop_tables(&all(&sources)).unwrap();
    store.commit("dropping").unwrap();
    assert_eq!(
        (place.dump(), place.schemas()),
        (before, vec!["Odd.One".to_owned(), "backout".into(), "reports".into()])
    );
}

/// Waits until this many sessions wait for a lock.
fn until_waiting(place: &Place, n: i64) {
    let mut admin = place.database.admin();
    let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    let began = Instant::now();
    while admin.query_one(sql, &[]).unwrap().get::<_, i64>(0) < n {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody waits");
        std::thread::yield_now();
    }
}

#[test]
fn p21_an_older_snapshot_would_find_the_tables_empty() {
    // what it is about: by hand, with nobody looking
    let place = Place::with(SMALL);
    let (mut reader, mut app) = (place.app(), place.app());
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM other").unwrap();
    app.batch_execute(
        "CREATE SCHEMA away; CREATE SCHEMA coming; CREATE TABLE coming.children AS SELECT * FROM children;
         ALTER TABLE children SET SCHEMA away; ALTER TABLE coming.children SET SCHEMA public",
    )
    .unwrap();
    assert_eq!(reader.query_one("SELECT count(*) FROM children", &[]).unwrap().get::<_, i64>(0), 0);

    let place = Place::with(SMALL);
    let (mut reader, sources) = (place.app(), small(&place));
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM other").unwrap();
    let mut store = made(&place, &sources, &sources);
    let said = fails(store.begin(Mode::Swap, &all(&sources)));
    assert!(
        said.contains("older than the swap")
            && said.contains("SELECT * FROM other")
            && said.contains("idle in transaction"),
        "{said}"
    );
    // it is waited for, and nobody else is held up meanwhile
    waits_until(store, &sources, || {
        place.app().batch_execute("INSERT INTO children (parent, word) VALUES (1, 'meanwhile')").unwrap();
        assert_eq!(reader.query_one("SELECT count(*) FROM children", &[]).unwrap().get::<_, i64>(0), 2);
        reader.batch_execute("COMMIT").unwrap();
    });
}

/// A cutover that goes on only when `end` has been called.
fn waits_until(mut store: Box<dyn Store>, sources: &[Table], end: impl FnOnce()) {
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || tell.send(cut_over(store.as_mut(), sources, sources).map_err(|e| e.to_string())).unwrap());
        assert!(told.recv_timeout(Duration::from_millis(600)).is_err(), "it was swapped under a snapshot");
        end();
        told.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
    });
}

#[test]
fn p21_a_snapshot_that_waits_for_another_lock_is_older_too() {
    let place = Place::with(SMALL);
    let sources = small(&place);
    let store = made(&place, &sources, &sources);
    let mut holder = place.app();
    holder.batch_execute("BEGIN; LOCK TABLE other").unwrap();
    let mut waits = place.app();
    let thread = std::thread::spawn(move || {
        waits.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").unwrap();
        waits.batch_execute("SELECT 1").unwrap();
        waits.batch_execute("SELECT * FROM other").unwrap();
        let seen: i64 = waits.query_one("SELECT count(*) FROM children", &[]).unwrap().get(0);
        waits.batch_execute("COMMIT").unwrap();
        seen
    });
    until_waiting(&place, 1);
    waits_until(store, &sources, || {
        holder.batch_execute("ROLLBACK").unwrap();
        assert_eq!(thread.join().unwrap(), 2);
    });
}

#[test]
fn p21_a_snapshot_of_a_role_of_which_we_are_told_nothing() {
    let mut place = Place::with(SMALL);
    let (role, url) = place.database.role("secret");
    place.app().batch_execute(&format!("GRANT SELECT ON other TO {role}")).unwrap();
    let sources = small(&place);
    let store = made(&place, &sources, &sources);
    let mut reader = Client::connect(&url, postgres::NoTls).unwrap();
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM other").unwrap();
    waits_until(store, &sources, || reader.batch_execute("COMMIT").unwrap());
}

#[test]
fn p21_who_only_waits_for_the_swap_is_no_blocker() {
    let place = Place::with(SMALL);
    let sources = small(&place);
    let mut store = made(&place, &sources, &sources);
    let (stop, begun) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut app = place.app();
                while !stop.load(Ordering::Relaxed) {
                    app.batch_execute("BEGIN").unwrap();
                    app.batch_execute("SELECT * FROM other").unwrap();
                    app.batch_execute("UPDATE children SET word = word WHERE id = 1").unwrap();
                    app.batch_execute("COMMIT").unwrap();
                    begun.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while begun.load(Ordering::Relaxed) < 20 {
            std::thread::yield_now();
        }
        let done =
            cut_over(store.as_mut(), &sources, &sources).and_then(|()| roll_back(store.as_mut(), &sources, &sources));
        stop.store(true, Ordering::Relaxed);
        done.unwrap();
    });
}

#[test]
fn p21_sequences_and_views_are_locked_before_their_tables() {
    let place = Place::with(&format!(
        "{SMALL} CREATE MATERIALIZED VIEW kept AS SELECT * FROM children; CREATE VIEW words AS SELECT word FROM children;
         CREATE POLICY seen ON other USING (id IN (SELECT id FROM parents))"
    ));
    let sources = small(&place);
    let mut store = made(&place, &sources, &sources);
    for uses in [
        "SELECT nextval('children_id_seq')",
        "LOCK TABLE ONLY words IN ACCESS SHARE MODE",
        "SELECT * FROM kept",
        "SELECT * FROM other",
    ] {
        // it is about to write, and holds what the swap takes, too
        let mut app = place.app();
        app.batch_execute(&format!("BEGIN; {uses}")).unwrap();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let done = store.begin(Mode::Swap, &all(&sources));
                store.rollback();
                tell.send(done.map_err(|e| e.to_string())).unwrap();
            });
            assert!(told.recv_timeout(Duration::from_millis(300)).is_err(), "{uses}: it took the tables");
            app.batch_execute("INSERT INTO children (parent, word) VALUES (1, 'by the way'); COMMIT").unwrap();
            told.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
        });
    }
}

//! Swapping tables in PostgreSQL: nothing that an application has put on them is lost, there and back.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use backout::gate::Gate;
use backout::plan::Table;
use backout::store::{self, Error, Mode, Role, Site, State, Store};
use backout::value::Batch;
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
    /// The home as pg_dump tells it, without ours; `None` where there is no pg_dump for this server.
    fn dump(&self) -> Option<String> {
        let version: i32 =
            self.app().query_one("SELECT current_setting('server_version_num')::int4", &[]).unwrap().get(0);
        if version >= 180_000 {
            return None;
        }
        let out =
            Command::new("pg_dump").args(["--schema-only", "--schema=public", &self.database.url]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap();
        let ours = |p: &&str| !p.contains("backout_") && !p.contains("restrict ");
        Some(text.split("\n\n").map(str::trim).filter(|p| !p.is_empty()).filter(ours).collect::<Vec<_>>().join("\n\n"))
    }
    /// Schemas that are not the application's.
    fn schemas(&self) -> Vec<String> {
        self.words(
            "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$|^public$' ORDER BY 1",
        )
    }
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
const EVERYTHING: &str = include_str!("everything.sql");

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

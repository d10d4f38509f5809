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
const EVERYTHING: &str = r#"
CREATE TYPE mood AS ENUM ('low', 'high');
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.word := NEW.word; RETURN NEW; END $$;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit (what) VALUES (TG_OP); RETURN NULL; END $$;
CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE SEQUENCE shared START 1000 INCREMENT 10;
CREATE TABLE parents (
    id int GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME "parents numbers" START 5 INCREMENT 5 MINVALUE 5 MAXVALUE 100000 CACHE 3 CYCLE),
    name text COLLATE "C" CONSTRAINT parents_named NOT NULL, code int NOT NULL, note text,
    CONSTRAINT parents_key PRIMARY KEY (id) INCLUDE (code),
    CONSTRAINT parents_code UNIQUE (code) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT parents_name UNIQUE (name) INCLUDE (code) WITH (fillfactor = 70));
CREATE TABLE "Odd ""Things" (
    id bigserial PRIMARY KEY, parent int CONSTRAINT odd_parent REFERENCES parents ON DELETE CASCADE ON UPDATE SET NULL DEFERRABLE,
    self bigint REFERENCES "Odd ""Things" DEFERRABLE INITIALLY DEFERRED,
    number smallserial, other int DEFAULT nextval('shared'), word text DEFAULT 'w' NOT NULL CHECK (word <> ''), feeling mood DEFAULT 'low',
    "where" point, doubled int GENERATED ALWAYS AS (number * 2) STORED, gone int, big text, during tsrange,
    CONSTRAINT odd_never CHECK (number > -5) NO INHERIT, CONSTRAINT odd_late CHECK (number < 9999) NOT VALID,
    CONSTRAINT odd_places EXCLUDE USING gist (during WITH &&) WHERE (number > 100))
    WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.5, toast.autovacuum_enabled = false);
ALTER TABLE "Odd ""Things" DROP COLUMN gone;
ALTER SEQUENCE "Odd ""Things_id_seq" RENAME TO odd_counter;
ALTER SEQUENCE odd_counter INCREMENT 2 CACHE 5;
ALTER TABLE "Odd ""Things" ADD CONSTRAINT odd_other FOREIGN KEY (other) REFERENCES parents (id) NOT VALID;
CREATE UNLOGGED TABLE quick (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, of bigint REFERENCES "Odd ""Things");
CREATE SEQUENCE loose OWNED BY quick.of;
CREATE TABLE audit (id serial PRIMARY KEY, what text);
CREATE INDEX odd_lower ON "Odd ""Things" (lower(word) text_pattern_ops) WITH (fillfactor = 60) WHERE number > 0;
ALTER INDEX odd_lower ALTER COLUMN 1 SET STATISTICS 77;
CREATE INDEX odd_desc ON "Odd ""Things" (word DESC NULLS LAST) INCLUDE (number);
CREATE UNIQUE INDEX odd_number ON "Odd ""Things" (number);
CREATE INDEX odd_hash ON "Odd ""Things" USING hash (word);
CREATE STATISTICS odd_stats (ndistinct, dependencies) ON number, word FROM "Odd ""Things";
ALTER STATISTICS odd_stats SET STATISTICS 55;
ALTER TABLE "Odd ""Things" ALTER word SET STATISTICS 300, ALTER big SET STORAGE EXTERNAL, ALTER word SET (n_distinct = 7),
    ALTER big SET COMPRESSION pglz, CLUSTER ON odd_desc, REPLICA IDENTITY USING INDEX odd_number;
ALTER TABLE parents REPLICA IDENTITY FULL;
ALTER TABLE parents ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON parents USING (true);
CREATE POLICY theirs ON parents AS RESTRICTIVE FOR UPDATE TO $READER USING (EXISTS (SELECT FROM "Odd ""Things" o WHERE o.parent = parents.id))
    WITH CHECK (code > 0);
CREATE TRIGGER touches BEFORE INSERT OR UPDATE OF word, number ON "Odd ""Things" FOR EACH ROW WHEN (NEW.number > 0) EXECUTE FUNCTION touch('a', 'b');
CREATE TRIGGER notes AFTER INSERT OR DELETE ON "Odd ""Things" REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION instead();
DROP TRIGGER notes ON "Odd ""Things";
CREATE TRIGGER notes AFTER INSERT ON "Odd ""Things" REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER off AFTER DELETE ON parents FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER always AFTER DELETE ON parents FOR EACH ROW EXECUTE FUNCTION note();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON parents DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE parents DISABLE TRIGGER off, ENABLE ALWAYS TRIGGER always;
CREATE RULE quietly AS ON DELETE TO quick WHERE OLD.id < 0 DO INSTEAD NOTHING;
CREATE RULE loudly AS ON UPDATE TO quick DO ALSO (INSERT INTO audit (what) VALUES ('quick'); SELECT 1);
ALTER TABLE quick ENABLE ALWAYS RULE loudly;
CREATE VIEW words WITH (security_barrier = true) AS SELECT o.*, p.name FROM "Odd ""Things" o JOIN parents p ON p.id = o.parent WHERE o.word <> 'x';
CREATE VIEW loud (id, shout) WITH (check_option = local) AS SELECT id, word FROM "Odd ""Things" WHERE number > 0;
ALTER VIEW loud ALTER shout SET DEFAULT 'hey';
CREATE VIEW above_words AS SELECT count(*) AS n, max(name) AS most FROM words;
CREATE MATERIALIZED VIEW counted WITH (fillfactor = 90) AS SELECT parent, count(*) AS n FROM words GROUP BY parent;
CREATE UNIQUE INDEX counted_parent ON counted (parent);
CREATE MATERIALIZED VIEW empty AS SELECT 1 AS one FROM parents WITH NO DATA;
CREATE TRIGGER through INSTEAD OF UPDATE ON words FOR EACH ROW EXECUTE FUNCTION instead();
CREATE RULE into_loud AS ON INSERT TO loud DO INSTEAD INSERT INTO "Odd ""Things" (word) VALUES (NEW.shout);
GRANT SELECT, UPDATE ON parents TO $READER WITH GRANT OPTION;
GRANT SELECT (word), UPDATE (word, number) ON "Odd ""Things" TO $READER;
GRANT SELECT ON words, counted TO PUBLIC;
GRANT UPDATE (word) ON words TO $READER;
GRANT USAGE ON odd_counter TO $READER;
REVOKE TRUNCATE ON quick FROM CURRENT_USER;
COMMENT ON TABLE parents IS 'It''s the parents';
COMMENT ON COLUMN parents.name IS 'a name';
COMMENT ON CONSTRAINT parents_code ON parents IS 'a code';
COMMENT ON CONSTRAINT odd_parent ON "Odd ""Things" IS 'a parent';
COMMENT ON INDEX odd_lower IS 'lower';
COMMENT ON TRIGGER touches ON "Odd ""Things" IS 'touched';
COMMENT ON POLICY theirs ON parents IS 'theirs';
COMMENT ON RULE loudly ON quick IS 'loud';
COMMENT ON STATISTICS odd_stats IS 'stats';
COMMENT ON SEQUENCE odd_counter IS 'counts';
COMMENT ON VIEW words IS 'all words';
COMMENT ON COLUMN words.name IS 'of the parent';
COMMENT ON MATERIALIZED VIEW counted IS 'counts';
COMMENT ON COLUMN counted.n IS 'how many';
CREATE PUBLICATION all_news FOR TABLE parents, audit;
INSERT INTO parents (name, code) VALUES ('a', 1), ('b', 2);
INSERT INTO "Odd ""Things" (parent, word, other, big) VALUES (5, 'one', NULL, repeat('x', 5000)), (10, 'two', NULL, NULL);
INSERT INTO quick (of) SELECT id FROM "Odd ""Things";
REFRESH MATERIALIZED VIEW counted;
SELECT setval('loose', 41);
"#;

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

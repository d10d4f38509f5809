//! What goes wrong elsewhere, each by its letter.

use super::{Place, Renames, built_again, change, changed, differences, failing, text};
use backout::revision::catalog::{Sign, What, suggest_renames};

#[test]
fn f_enums_left_behind() {
    let mut place = Place::postgres();
    let before = place.read();
    place.run("CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE t (m mood)");
    place.run("DROP TABLE t");
    let found = failing(&before, &place.read());
    let [one] = found.as_slice() else { panic!("{}", text(&found)) };
    assert_eq!((one.what, one.sign, one.object.as_str()), (What::Enum, Sign::Born, "public.mood"));
    assert_eq!(one.to_string(), "+ CREATE TYPE public.mood AS ENUM ('glad')");
    // what is generated takes it away
    changed(&mut place, &before, &Renames::default());
    assert_eq!(place.ask("SELECT typname FROM pg_type WHERE typname = 'mood'"), Vec::<String>::new());
}

#[test]
fn f_column_order_is_reported_not_failed() {
    for mut place in [Place::sqlite(), Place::postgres()] {
        place.run("CREATE TABLE t (a integer, b text, c integer)");
        let before = place.read();
        place.run("ALTER TABLE t DROP COLUMN b");
        place.run("ALTER TABLE t ADD COLUMN b text");
        let after = place.read();
        let found = differences(&before, &after);
        let [one] = found.as_slice() else { panic!("{}", text(&found)) };
        assert!(one.order_only);
        assert!(one.to_string().ends_with("columns in the order a, c, b"), "{one}");
        assert_eq!(before.fingerprint(), after.fingerprint());
        assert_eq!(change(&after, &before, &Renames::default()).up, Vec::<String>::new());
    }
}

/// A table that is built anew keeps its rows, their children, its numbering and what others say of it.
#[test]
fn e_rename_rewrites_references() {
    let mut place = Place::sqlite();
    place.run(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, twice AS (id * 2) STORED);
         CREATE TABLE child (id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent (id) ON DELETE CASCADE);
         CREATE TABLE bare (a, b);
         CREATE INDEX parent_a ON parent (lower(a)) WHERE a <> 'x';
         CREATE VIEW seen AS SELECT c.id, p.a FROM child c JOIN parent p ON p.id = c.p;
         CREATE TRIGGER copy AFTER INSERT ON child BEGIN UPDATE parent SET a = a || '!' WHERE id = NEW.p; END;
         INSERT INTO parent (id, a) VALUES (1, 'one'), (2, NULL), (9, 'gone'); DELETE FROM parent WHERE id = 9;
         INSERT INTO child VALUES (1, 1), (2, 1), (3, 2);
         INSERT INTO bare (rowid, a, b) VALUES (5, 'x', 1), (9, 'y', 2)",
    );
    let before = place.read();
    let mut wanted = Place::sqlite();
    wanted.run(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT NOT NULL DEFAULT 'none' CHECK (a <> ''), twice AS (id * 2) STORED, b REAL);
         CREATE TABLE child (id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent (id) ON DELETE CASCADE);
         CREATE TABLE bare (a TEXT, b);
         CREATE INDEX parent_a ON parent (lower(a)) WHERE a <> 'x';
         CREATE VIEW seen AS SELECT c.id, p.a FROM child c JOIN parent p ON p.id = c.p;
         CREATE TRIGGER copy AFTER INSERT ON child BEGIN UPDATE parent SET a = a || '!' WHERE id = NEW.p; END",
    );
    let after = wanted.read();
    changed(&mut place, &after, &Renames::default());
    assert_eq!(place.ask("SELECT id, a, twice FROM parent"), ["1|one!!|2", "2|none|4"]);
    assert_eq!(place.ask("SELECT id, p FROM child"), ["1|1", "2|1", "3|2"]);
    assert_eq!(place.ask("SELECT rowid, a FROM bare"), ["5|x", "9|y"]);
    assert_eq!(place.ask("SELECT seq FROM sqlite_sequence"), ["9"]);
    assert_eq!(place.ask("SELECT count(*) FROM sqlite_schema WHERE sql LIKE '%rebuilt%'"), ["0"]);
    changed(&mut place, &before, &Renames::default());
    assert_eq!(place.ask("SELECT id, p FROM child"), ["1|1", "2|1", "3|2"]);
    assert_eq!(place.ask("SELECT seq FROM sqlite_sequence"), ["9"]);
}

#[test]
fn e_broken_view_blocks_rename() {
    let mut place = Place::sqlite();
    place.run(
        "CREATE TABLE t (a INTEGER, b TEXT); INSERT INTO t VALUES (1, 'x');
         CREATE VIEW broken AS SELECT x FROM is_not_there;
         CREATE VIEW of_broken AS SELECT x FROM broken;
         CREATE VIEW fine AS SELECT a FROM t;",
    );
    let before = place.read();
    for (sql, renames) in [
        ("CREATE TABLE t (a INTEGER NOT NULL, b TEXT)", Renames::default()),
        ("CREATE TABLE t (a INTEGER)", Renames::default()),
        (
            "CREATE TABLE t (a INTEGER, c TEXT)",
            Renames { columns: vec![("t".into(), "b".into(), "c".into())], ..Renames::default() },
        ),
        (
            "CREATE TABLE u (a INTEGER, b TEXT)",
            Renames { tables: vec![("t".into(), "u".into())], ..Renames::default() },
        ),
    ] {
        let mut wanted = Place::sqlite();
        let of = if sql.contains(" u ") { "u" } else { "t" };
        wanted.run(&format!(
            "{sql}; CREATE VIEW broken AS SELECT x FROM is_not_there; CREATE VIEW of_broken AS SELECT x FROM broken;
             CREATE VIEW fine AS SELECT a FROM {of};"
        ));
        let after = wanted.read();
        changed(&mut place, &after, &renames);
        assert_eq!(place.ask("SELECT a FROM fine"), ["1"]);
        changed(&mut place, &before, &renames.reversed());
        assert_eq!(place.ask("SELECT a FROM fine"), ["1"]);
    }
}

#[test]
fn a20_an_index_without_its_condition_is_another_one() {
    for mut place in [Place::sqlite(), Place::postgres()] {
        place.run("CREATE TABLE t (a integer, b text); CREATE UNIQUE INDEX i ON t (a) WHERE b IS NULL; CREATE INDEX j ON t (lower(b))");
        let before = place.read();
        assert_eq!(before.tables()[0].unique, Vec::<Vec<String>>::new());
        place.run("DROP INDEX i; CREATE UNIQUE INDEX i ON t (a); DROP INDEX j");
        let found = failing(&before, &place.read());
        let told: Vec<_> = found.iter().map(|d| (d.what, d.sign)).collect();
        assert_eq!(told, [(What::Index, Sign::Changed), (What::Index, Sign::Gone)], "{}", text(&found));
        changed(&mut place, &before, &Renames::default());
    }
}

#[test]
fn a21_generated_columns_are_read() {
    let mut place = Place::sqlite();
    place.run("CREATE TABLE t (a INTEGER, b AS (a + 1), c INTEGER GENERATED ALWAYS AS (a * 2) STORED)");
    let catalog = place.read();
    let generated: Vec<_> = catalog.tables()[0].columns.iter().map(|c| c.generated.is_some()).collect();
    assert_eq!(generated, [false, true, true]);
    place.run("DROP TABLE t; CREATE TABLE t (a INTEGER, b AS (a + 1), c INTEGER GENERATED ALWAYS AS (a * 3) STORED)");
    assert_eq!(failing(&catalog, &place.read()).len(), 1);
}

#[test]
fn a22_shadow_tables_are_not_copied_as_tables() {
    let mut place = Place::sqlite();
    place.run("CREATE VIRTUAL TABLE s USING fts5(body); CREATE TABLE t (a); INSERT INTO t VALUES (1); ANALYZE");
    let catalog = place.read();
    assert_eq!(catalog.tables().len(), 1);
    assert_eq!(catalog.create().len(), 2);
}

#[test]
fn two_spellings_in_sqlite_are_one_schema() {
    let (mut one, mut other) = (Place::sqlite(), Place::sqlite());
    one.run("create table t (id integer primary key, n text not null default 'A  b' unique, [c] int references t(id) on update no action); create index if not exists i on t(n)");
    other.run(
        "CREATE TABLE \"t\" (\n  `id` INTEGER, -- the key\n n TEXT DEFAULT ('A  b') NOT NULL, c INT, UNIQUE (\"n\"), PRIMARY KEY (id),\n\
         FOREIGN KEY (c) REFERENCES t (id)); CREATE INDEX i ON t (n)",
    );
    let found = failing(&one.read(), &other.read());
    assert!(found.is_empty(), "{}", text(&found));
    // what is within quotes counts
    other.run("DROP INDEX i; CREATE INDEX i ON t (n) WHERE n = 'a b'");
    let then = other.read();
    other.run("DROP INDEX i; CREATE INDEX i ON t (n) WHERE n = 'a  b'");
    assert_eq!(failing(&then, &other.read()).len(), 1);
}

/// What a wrong down leaves or takes: each is told.
#[test]
fn f_a_wrong_down_is_told() {
    for sqlite in [true, false] {
        let all = [
            ("CREATE INDEX i ON t (a)", "DROP INDEX i", What::Index),
            ("CREATE VIEW v AS SELECT a FROM t", "DROP VIEW v", What::View),
            ("CREATE TABLE extra (a integer)", "DROP TABLE extra", What::Table),
            ("ALTER TABLE t ADD COLUMN z text", "ALTER TABLE t DROP COLUMN z", What::Column),
        ];
        let only_postgres = [
            ("ALTER TABLE t ALTER a SET DEFAULT 3", "ALTER TABLE t ALTER a DROP DEFAULT", What::Column),
            ("ALTER TABLE t ADD CONSTRAINT k CHECK (a > 0)", "ALTER TABLE t DROP CONSTRAINT k", What::Constraint),
            (
                "ALTER TABLE t RENAME CONSTRAINT named TO other",
                "ALTER TABLE t RENAME CONSTRAINT other TO named",
                What::Constraint,
            ),
            ("CREATE SEQUENCE s", "DROP SEQUENCE s", What::Sequence),
            ("CREATE SCHEMA s", "DROP SCHEMA s", What::Schema),
            ("COMMENT ON TABLE t IS 'x'", "COMMENT ON TABLE t IS NULL", What::Table),
            ("GRANT SELECT ON t TO PUBLIC", "REVOKE SELECT ON t FROM PUBLIC", What::Table),
            ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "ALTER TABLE t DISABLE ROW LEVEL SECURITY", What::Table),
            ("CREATE TYPE r AS RANGE (subtype = integer)", "DROP TYPE r", What::Other),
            (
                "CREATE OPERATOR === (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq)",
                "DROP OPERATOR === (integer, integer)",
                What::Other,
            ),
        ];
        let mut place = if sqlite { Place::sqlite() } else { Place::postgres() };
        place.run("CREATE TABLE t (a integer, CONSTRAINT named UNIQUE (a))");
        let before = place.read();
        for (up, down, what) in all.iter().chain(if sqlite { &[][..] } else { &only_postgres[..] }) {
            place.run(up);
            let after = place.read();
            let found = failing(&before, &after);
            assert!(found.iter().any(|d| d.what == *what), "{up}: {}", text(&found));
            assert_ne!(before.fingerprint(), after.fingerprint(), "{up}");
            place.run(down);
            assert_eq!(text(&failing(&before, &place.read())), "", "{down}");
        }
    }
}

#[test]
fn ours_is_left_out() {
    let mut place = Place::sqlite();
    place.run("CREATE TABLE t (a)");
    let before = place.read();
    place.run(
        "CREATE TABLE backout_meta (a); CREATE TABLE backout_revision (a); CREATE INDEX backout_i ON backout_meta (a);
         CREATE TABLE migration_backup__t (a); CREATE VIEW migration_log AS SELECT 1;
         CREATE TRIGGER backout_capture_t AFTER INSERT ON t BEGIN SELECT 1; END",
    );
    assert_eq!(text(&differences(&before, &place.read())), "");
    let mut place = Place::postgres();
    place.run("CREATE TABLE t (a integer)");
    let before = place.read();
    place.run(
        "CREATE SCHEMA backout; CREATE TABLE backout.meta (a integer); CREATE SCHEMA migration_backup; CREATE SCHEMA backout_scratch;
         CREATE FUNCTION backout.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER backout_capture_row AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION backout.refuse()",
    );
    assert_eq!(text(&differences(&before, &place.read())), "");
}

#[test]
fn reading_leaves_the_session_as_it_was() {
    let mut place = Place::postgres();
    place.run("CREATE SCHEMA mine");
    place.session.run("SET search_path = mine, public").unwrap();
    place.read();
    assert_eq!(place.ask("SHOW search_path"), ["mine, public"]);
    place.session.begin().unwrap();
    place.session.run("SET LOCAL search_path = mine; CREATE TABLE t (a integer)").unwrap();
    assert_eq!(place.read().tables().len(), 1);
    assert_eq!(place.ask("SHOW search_path"), ["mine"]);
    place.session.commit("it").unwrap();
    assert_eq!(place.ask("SHOW search_path"), ["mine, public"]);
}

#[test]
fn an_enum_loses_a_value_and_gets_it_back() {
    let mut place = Place::postgres();
    place.run(
        "CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE DOMAIN m AS mood;
         CREATE TABLE t (a mood DEFAULT 'glad' NOT NULL, b mood[], c m, CHECK (a <> 'sad')); CREATE INDEX i ON t (a) WHERE a = 'glad';
         CREATE VIEW v AS SELECT a, b FROM t WHERE a = 'glad'; INSERT INTO t VALUES ('glad', '{glad}', 'glad')",
    );
    let before = place.read();
    let mut wanted = Place::postgres();
    wanted.run(
        "CREATE TYPE mood AS ENUM ('so so', 'glad'); CREATE DOMAIN m AS mood;
         CREATE TABLE t (a mood DEFAULT 'so so' NOT NULL, b mood[], c m); CREATE INDEX i ON t (a) WHERE a = 'glad';
         CREATE VIEW v AS SELECT a, b FROM t WHERE a = 'glad'",
    );
    let after = wanted.read();
    changed(&mut place, &after, &Renames::default());
    assert_eq!(place.ask("SELECT a, b, c FROM v JOIN t USING (a, b)"), ["glad|{glad}|glad"]);
    changed(&mut place, &before, &Renames::default());
    assert_eq!(place.ask("SELECT a, b FROM v"), ["glad|{glad}"]);
    // a value more is no reason to build it anew
    let mut wanted = Place::postgres();
    wanted.run("CREATE TYPE mood AS ENUM ('first', 'glad', 'so so', 'sad')");
    let mut place = Place::postgres();
    place.run("CREATE TYPE mood AS ENUM ('glad', 'sad')");
    let change = changed(&mut place, &wanted.read(), &Renames::default());
    let said = [
        "ALTER TYPE public.mood ADD VALUE 'first' BEFORE 'glad'",
        "ALTER TYPE public.mood ADD VALUE 'so so' AFTER 'glad'",
    ];
    assert_eq!(change.up, said);
}

#[test]
fn what_has_another_name_keeps_its_rows() {
    for sqlite in [true, false] {
        let empty = || if sqlite { Place::sqlite() } else { Place::postgres() };
        let (mut place, mut wanted) = (empty(), empty());
        place.run(
            "CREATE TABLE people (id integer PRIMARY KEY, name text NOT NULL, CHECK (name <> ''));
             CREATE TABLE notes (id integer PRIMARY KEY, who integer REFERENCES people (id)); CREATE INDEX by_name ON people (name);
             CREATE VIEW named AS SELECT name FROM people; INSERT INTO people VALUES (1, 'a'); INSERT INTO notes VALUES (1, 1)",
        );
        wanted.run(
            "CREATE TABLE users (id integer PRIMARY KEY, called text NOT NULL, CHECK (called <> ''));
             CREATE TABLE notes (id integer PRIMARY KEY, who integer REFERENCES users (id)); CREATE INDEX by_name ON users (called);
             CREATE VIEW named AS SELECT called AS name FROM users",
        );
        let (before, after) = (place.read(), wanted.read());
        let guess = suggest_renames(&before, &after);
        let schema = if sqlite { "" } else { "public." };
        // the table's shape is another one too, as a column of it has another name
        assert_eq!(guess.tables, Vec::new());
        let renames = Renames {
            tables: vec![(format!("{schema}people"), format!("{schema}users"))],
            columns: vec![(format!("{schema}users"), "name".into(), "called".into())],
        };
        let change = changed(&mut place, &after, &renames);
        assert!(!change.up.iter().any(|s| s.contains("DROP TABLE") || s.contains("ADD CONSTRAINT")), "{:?}", change.up);
        assert_eq!(place.ask("SELECT name FROM named"), ["a"]);
        changed(&mut place, &before, &renames.reversed());
        assert_eq!(place.ask("SELECT name FROM named"), ["a"]);
        assert_eq!(place.ask("SELECT who FROM notes"), ["1"]);
    }
}

#[test]
fn likely_renames_are_proposed() {
    for empty in [Place::sqlite as fn() -> Place, Place::postgres] {
        let (mut one, mut other) = (empty(), empty());
        one.run("CREATE TABLE a (id integer, x text); CREATE TABLE c (p integer, q text); CREATE TABLE two (m text, n text)");
        other.run("CREATE TABLE b (id integer, x text); CREATE TABLE c (p integer, r text); CREATE TABLE two (o text, s text)");
        let found = suggest_renames(&one.read(), &other.read());
        let bare: Vec<_> = found
            .tables
            .iter()
            .map(|(a, b)| (a.trim_start_matches("public."), b.trim_start_matches("public.")))
            .collect();
        assert_eq!(bare, [("a", "b")]);
        // of two that are alike none is guessed
        assert_eq!(found.columns.len(), 1);
        assert_eq!((found.columns[0].1.as_str(), found.columns[0].2.as_str()), ("q", "r"));
        changed(&mut one, &other.read(), &found);
    }
}

#[test]
fn what_is_not_generated_is_named() {
    let mut place = Place::postgres();
    let nothing = place.read();
    place.run(
        "CREATE TABLE plain (a integer); CREATE TYPE r AS RANGE (subtype = integer); CREATE TABLE ranged (a r);
         CREATE VIEW v AS SELECT a FROM ranged; CREATE TYPE pair AS (a integer); CREATE TABLE of_pair OF pair",
    );
    let catalog = place.read();
    let said = catalog.not_created().join("\n");
    for name in ["type public.r", "table public.ranged", "view public.v", "of_pair: it is a table of a type"] {
        assert!(said.contains(name), "{name} in\n{said}");
    }
    assert_eq!(change(&nothing, &catalog, &Renames::default()).not_generated.join("\n"), said);
    let mut other = Place::postgres();
    other.build(&catalog.create());
    assert_eq!(other.read().tables().len(), 1);
    // a composite type that a column holds stays as it is, and that is said
    let (mut one, mut two) = (Place::postgres(), Place::postgres());
    one.run("CREATE TYPE pair AS (a integer); CREATE TABLE t (p pair)");
    two.run("CREATE TYPE pair AS (a integer, b text); CREATE TABLE t (p pair)");
    let found = change(&one.read(), &two.read(), &Renames::default());
    assert_eq!((found.up.len(), found.not_generated.len()), (0, 1), "{found:?}");
}

#[test]
fn partitions_are_built_again_and_not_altered() {
    let mut place = Place::postgres();
    let nothing = place.read();
    place.run(
        "CREATE TABLE plain (a integer PRIMARY KEY, CHECK (a > 0)); CREATE TABLE child (c integer) INHERITS (plain);
         CREATE TABLE parts (a integer REFERENCES plain, b text, PRIMARY KEY (a)) PARTITION BY RANGE (a);
         CREATE INDEX on_parts ON parts (b); CREATE TABLE part_1 (b text, a integer NOT NULL, CONSTRAINT mine PRIMARY KEY (a));
         ALTER TABLE parts ATTACH PARTITION part_1 FOR VALUES FROM (1) TO (9);
         CREATE TABLE rest PARTITION OF parts DEFAULT PARTITION BY LIST (a); CREATE TABLE rest_1 PARTITION OF rest FOR VALUES IN (20);
         CREATE TABLE refers (p integer REFERENCES parts); CREATE VIEW v AS SELECT a FROM parts;
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER g AFTER INSERT ON parts FOR EACH ROW EXECUTE FUNCTION f()",
    );
    let catalog = built_again(&mut place, Place::postgres);
    let parts: Vec<_> = catalog.tables().iter().filter(|t| t.is_part()).map(|t| t.name.name.as_str()).collect();
    assert_eq!(parts, ["child", "part_1", "rest", "rest_1"]);
    let keys: Vec<_> = catalog.tables().iter().map(|t| t.foreign_keys.len()).collect();
    assert_eq!(keys, [0, 1, 1, 0, 1, 1, 1], "{:?}", catalog.tables().iter().map(|t| &t.name.name).collect::<Vec<_>>());
    changed(&mut place, &nothing, &Renames::default());
    changed(&mut place, &catalog, &Renames::default());
    // one more is made; other bounds are not
    place.run("CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (10) TO (12)");
    changed(&mut place, &catalog, &Renames::default());
    place.run("ALTER TABLE parts DETACH PARTITION part_1; ALTER TABLE parts ATTACH PARTITION part_1 FOR VALUES FROM (1) TO (10)");
    let found = change(&place.read(), &catalog, &Renames::default());
    assert_eq!(found.up, Vec::<String>::new());
    assert!(found.not_generated.iter().any(|s| s.contains("part_1: it is a partition")), "{found:?}");
}

#[test]
fn what_an_extension_brings_is_the_extensions() {
    let mut place = Place::postgres();
    place.run(
        "CREATE EXTENSION citext; CREATE TABLE t (id integer PRIMARY KEY, name citext NOT NULL DEFAULT 'x', CHECK (name <> 'y'));
         CREATE UNIQUE INDEX i ON t (name); CREATE VIEW v AS SELECT name || 'a' AS n FROM t",
    );
    let catalog = built_again(&mut place, Place::postgres);
    assert!(catalog.create()[0].sql.starts_with("CREATE EXTENSION citext"), "{:?}", catalog.create()[0]);
    let mut other = Place::postgres();
    let nothing = other.read();
    changed(&mut other, &catalog, &Renames::default());
    changed(&mut other, &nothing, &Renames::default());
}

#[test]
fn numbering_goes_on_where_it_was() {
    let mut place = Place::postgres();
    place.run("CREATE TABLE t (id integer PRIMARY KEY, a text); INSERT INTO t VALUES (7, 'x')");
    for sql in ["id serial PRIMARY KEY", "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "id serial PRIMARY KEY"]
    {
        let mut wanted = Place::postgres();
        wanted.run(&format!("CREATE TABLE t ({sql}, a text)"));
        changed(&mut place, &wanted.read(), &Renames::default());
        place.run("INSERT INTO t (a) VALUES ('y')");
    }
    assert_eq!(place.ask("SELECT id FROM t ORDER BY id"), ["7", "8", "9", "10"]);
}

#[test]
fn rights_of_another_role_are_read() {
    let mut place = Place::postgres();
    let (role, _) = place._server.as_mut().unwrap().role("x");
    place.run(&format!("CREATE TABLE t (a integer, b integer); GRANT SELECT, DELETE ON t TO {role} WITH GRANT OPTION; GRANT UPDATE (b) ON t TO {role}"));
    let before = place.read();
    place.run(&format!("REVOKE DELETE ON t FROM {role}; REVOKE UPDATE (b) ON t FROM {role}"));
    let after = place.read();
    let said = text(&failing(&before, &after));
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains(&format!("- GRANT DELETE ON table public.t TO {role} WITH GRANT OPTION")), "{said}");
    changed(&mut place, &before, &Renames::default());
    changed(&mut place, &after, &Renames::default());
}

/// A view stays, and what it selects from goes for a while: the rename in between would not get past it.
#[test]
fn e_a_view_of_a_view_blocks_rename() {
    let mut place = Place::sqlite();
    place.run("CREATE TABLE t (a INTEGER); CREATE TABLE u (a INTEGER); CREATE VIEW v AS SELECT a FROM u; CREATE VIEW w AS SELECT a FROM v");
    let before = place.read();
    let mut wanted = Place::sqlite();
    wanted.run(
        "CREATE TABLE t (a INTEGER NOT NULL); CREATE TABLE u (a INTEGER); CREATE VIEW v AS SELECT 2 * a AS a FROM u;
         CREATE VIEW w AS SELECT a FROM v",
    );
    changed(&mut place, &wanted.read(), &Renames::default());
    changed(&mut place, &before, &Renames::default());
}

//! What `plan` makes of `[rekey]` and `[alter]`, and what it refuses; nothing is changed by it.

use backout::migrate::{Failure, Proposal};
use backout::plan::{Codec, Table};

use super::super::database::Database;
use super::super::scenarios::{Home, sqlite_dump, sqlite_schema};

const SHOP: &str = "
    CREATE TABLE users (id varchar(36) PRIMARY KEY DEFAULT gen_random_uuid()::text, nick text, fax text, age integer, email text);
    CREATE TABLE tags (id text PRIMARY KEY, name text UNIQUE);
    CREATE TABLE entries (id serial PRIMARY KEY, user_id varchar(36) NOT NULL REFERENCES users ON DELETE CASCADE,
        twin_of integer REFERENCES entries, body text, words integer GENERATED ALWAYS AS (length(body)) STORED);
    CREATE INDEX entries_by_user ON entries (user_id, id DESC);
    CREATE TABLE entry_tags (entry_id integer REFERENCES entries, tag_id text REFERENCES tags, PRIMARY KEY (entry_id, tag_id));
    CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id varchar(36), what text);
    CREATE TABLE lonely (id integer PRIMARY KEY, x text);
    INSERT INTO users VALUES ('0b7c6c2e-0f1e-4c53-9a0c-0d1f5a1b2c3d', 'ann', '1', 30, 'a@x'), ('9b7c6c2e-0f1e-4c53-9a0c-0d1f5a1b2c3d', 'bo', NULL, 40, NULL);
    INSERT INTO tags VALUES ('00000000-0000-0000-0000-00000000000a', 'red');
    INSERT INTO entries (user_id, body) VALUES ('0b7c6c2e-0f1e-4c53-9a0c-0d1f5a1b2c3d', 'hello');
    INSERT INTO entry_tags VALUES (1, '00000000-0000-0000-0000-00000000000a');
    INSERT INTO audit (user_id, what) VALUES ('0b7c6c2e-0f1e-4c53-9a0c-0d1f5a1b2c3d', 'came');";

struct Shop {
    home: Home,
    database: Database,
}

impl Shop {
    fn new(more: &str) -> Shop {
        let database = Database::new();
        database.client().batch_execute(&format!("{SHOP}{more}")).unwrap();
        Shop { home: Home::new(&[("main", &database.url)], ""), database }
    }

    fn plan(&self, migration: &str) -> Result<Proposal, Failure> {
        self.home.migration("20250101000000_change", migration);
        self.home.project().plan(None).map(Option::unwrap)
    }

    /// What is in the database beside its rows: every relation, column and constraint.
    fn things(&self) -> Vec<String> {
        let sql = "SELECT c.oid::regclass::text || ' ' || c.relkind::text || coalesce(' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod), '') \
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
            WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY 1";
        self.database.client().query(sql, &[]).unwrap().iter().map(|l| l.get(0)).collect()
    }

    #[track_caller]
    fn refuses(&self, migration: &str, words: &[&str]) {
        let before = self.things();
        let failure = self.plan(migration).expect_err("it is not refused");
        let all = format!("{failure} | {}", failure.hint);
        for word in words {
            assert!(all.contains(word), "{word:?} is not in: {all}");
        }
        assert_eq!(failure.state, "nothing was changed");
        assert_eq!(self.things(), before);
    }
}

fn target<'p>(p: &'p Proposal, name: &str) -> &'p Table {
    &p.plan.tables.iter().find(|t| t.target.name == name).unwrap_or_else(|| panic!("{name} is not in the plan")).target
}

fn types(t: &Table) -> Vec<String> {
    t.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect()
}

#[test]
fn keys_become_uuids_with_all_that_refers_to_them() {
    let shop = Shop::new("");
    let before = shop.things();
    let p = shop
        .plan("[rekey]\nstore = \"main\"\ntype = \"uuid\"\ntables = [\"users\", \"tags\"]\n[[rekey.reference]]\ntable = \"audit\"\ncolumn = \"user_id\"\nto = \"users\"\n")
        .unwrap();
    assert!(p.plan.in_place());
    let names: Vec<&str> = p.plan.tables.iter().map(|t| t.target.name.as_str()).collect();
    assert_eq!(names, ["audit", "tags", "users", "entries", "entry_tags"]);
    let users = target(&p, "users");
    assert_eq!(types(users), ["id uuid", "nick text", "fax text", "age integer", "email text"]);
    assert_eq!(users.columns[0].default.as_deref(), Some("gen_random_uuid()"));
    assert_eq!(types(target(&p, "entries")), ["id integer", "user_id uuid", "twin_of integer", "body text"]);
    assert_eq!(types(target(&p, "entry_tags")), ["entry_id integer", "tag_id uuid"]);
    assert_eq!(types(target(&p, "audit"))[1], "user_id uuid");
    let entries = p.plan.tables.iter().find(|t| t.target.name == "entries").unwrap();
    let codecs: Vec<&Codec> = entries.codecs.iter().map(|c| &c.codec).collect();
    let uuid = Codec::Uuid { hyphens: true, upper: false };
    assert_eq!(codecs, [&Codec::Verbatim, &uuid, &Codec::Verbatim, &Codec::Verbatim]);
    assert_eq!(entries.source.indexes, entries.target.indexes);
    assert_eq!(shop.things(), before);
}

#[test]
fn columns_are_renamed_dropped_added() {
    let shop = Shop::new("");
    let p = shop
        .plan(
            "[alter]\nstore = \"main\"\n[[alter.table]]\ntable = \"users\"\nrename = \"people\"\n\
             [[alter.column]]\ntable = \"users\"\ncolumn = \"nick\"\nrename = \"name\"\n\
             [[alter.column]]\ntable = \"users\"\ncolumn = \"fax\"\ndrop = true\n\
             [[alter.column]]\ntable = \"users\"\ncolumn = \"level\"\nadd = true\ntype = \"int\"\ndefault = \"1\"\nnot_null = true\n",
        )
        .unwrap();
    let t = p.plan.tables.iter().find(|t| t.target.name == "people").unwrap();
    assert_eq!(t.source.name, "users");
    assert_eq!(types(&t.source), ["id character varying(36)", "nick text", "age integer", "email text"]);
    assert_eq!(types(&t.target), ["id character varying(36)", "name text", "age integer", "email text"]);
    assert_eq!((t.source.alone[0].column.name.as_str(), t.source.alone[0].place), ("fax", 2));
    assert_eq!((t.target.alone[0].column.name.as_str(), t.target.alone[0].place), ("level", 4));
    assert_eq!(target(&p, "entries").foreign_keys[1].table, "people");
}

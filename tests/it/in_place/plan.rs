//! What `plan` makes of `[rekey]` and `[alter]`, and what it refuses; nothing is changed by it.

use backout::migrate::{Failure, Proposal, Until, UpOptions};
use backout::plan::{Codec, Table};

use super::super::database::Database;
use super::super::scenarios::{Home, sqlite_dump, sqlite_schema};

const SHOP: &str = "
    CREATE TABLE users (id varchar(40) PRIMARY KEY DEFAULT gen_random_uuid()::text, nick text, fax text, age integer, email text);
    CREATE TABLE tags (id text PRIMARY KEY, name text UNIQUE);
    CREATE TABLE entries (id serial PRIMARY KEY, user_id varchar(40) NOT NULL REFERENCES users ON DELETE CASCADE,
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
    assert_eq!(types(&t.source), ["id character varying(40)", "nick text", "age integer", "email text"]);
    assert_eq!(types(&t.target), ["id character varying(40)", "name text", "age integer", "email text"]);
    assert_eq!((t.source.alone[0].column.name.as_str(), t.source.alone[0].place), ("fax", 2));
    assert_eq!((t.target.alone[0].column.name.as_str(), t.target.alone[0].place), ("level", 4));
    assert_eq!(target(&p, "entries").foreign_keys[1].table, "people");
}

const ALTER: &str = "[alter]\nstore = \"main\"\n";
const REKEY: &str = "[rekey]\nstore = \"main\"\ntype = \"uuid\"\n";

/// `[[alter.column]]` of `users`.
fn users(column: &str, rest: &str) -> String {
    format!("{ALTER}[[alter.column]]\ntable = \"users\"\ncolumn = \"{column}\"\n{rest}\n")
}

#[test]
fn texts_that_are_no_uuid_are_refused_by_table_column_key_and_value() {
    let shop = Shop::new(
        "INSERT INTO users VALUES ('x1', 'cy'), ('{0b7c6c2e-0f1e-4c53-9a0c-0d1f5a1b2c3d}', 'di'), ('', 'ed'), ('x2', 'ed')",
    );
    let all = format!("{REKEY}tables = [\"users\"]\n");
    shop.refuses(&all, &["users.id, key 'x1': text is no UUID (value 'x1')", "key '{0b7c", "and 1 more"]);
    for (id, why) in [
        (
            "9B7C6C2E-0F1E-4C53-9A0C-0D1F5A1B2C3D",
            "36 characters in capital letters, where the values before it are 36 characters in small letters",
        ),
        ("9b7c6c2e0f1e4c539a0c0d1f5a1b2c3d", "32 characters in small letters, where"),
    ] {
        let sql = format!("DELETE FROM users WHERE nick <> 'ann'; INSERT INTO users VALUES ('{id}', 'zoe')");
        shop.database.client().batch_execute(&sql).unwrap();
        shop.refuses(&all, &["users.id", &format!("key '{id}'"), why]);
    }
}

#[test]
fn soft_references_have_their_own_spelling_and_no_value_that_is_no_key() {
    let shop = Shop::new("UPDATE audit SET user_id = replace(user_id, '-', '')");
    let soft = format!(
        "{REKEY}tables = [\"users\"]\n[[rekey.reference]]\ntable = \"audit\"\ncolumn = \"user_id\"\nto = \"users\"\ninvalid = \"refuse\"\n"
    );
    let codec = |p: &Proposal| p.plan.tables.iter().find(|t| t.source.name == "audit").unwrap().codecs[1].codec.clone();
    assert_eq!(codec(&shop.plan(&soft).unwrap()), Codec::Uuid { hyphens: false, upper: false });
    // without a value of its own it takes the spelling of what it refers to
    let capitals = "DELETE FROM audit; DELETE FROM entry_tags; DELETE FROM entries; UPDATE users SET id = upper(id)";
    shop.database.client().batch_execute(capitals).unwrap();
    assert_eq!(codec(&shop.plan(&soft).unwrap()), Codec::Uuid { hyphens: true, upper: true });
    shop.database.client().batch_execute("INSERT INTO audit (user_id) VALUES ('system')").unwrap();
    shop.refuses(&soft, &["audit.user_id, key 2", "text is no UUID", "value 'system'"]);
    shop.refuses(&soft.replace("\"user_id\"", "\"who\""), &["table audit has no column \"who\"", "user_id"]);
}

#[test]
fn a_key_may_be_in_an_index_with_an_expression_that_does_not_speak_of_it() {
    let shop = Shop::new(
        "CREATE UNIQUE INDEX one_body ON entries (user_id, lower(body) DESC NULLS LAST, (body || 'x')) INCLUDE (twin_of);
         CREATE INDEX spoken ON audit (lower(user_id), what)",
    );
    let all = format!("{REKEY}tables = [\"users\"]\n");
    let p = shop.plan(&all).unwrap();
    assert_eq!(types(target(&p, "entries"))[1], "user_id uuid");
    shop.refuses(
        &format!("{all}[[rekey.reference]]\ntable = \"audit\"\ncolumn = \"user_id\"\nto = \"users\"\n"),
        &["audit.user_id cannot become uuid", "the index spoken, which is over an expression, speaks of it"],
    );
    let mut client = shop.database.client();
    let index = |client: &mut postgres::Client| -> String {
        client.query_one("SELECT pg_get_indexdef('one_body'::regclass)", &[]).unwrap().get(0)
    };
    let before = index(&mut client);
    shop.home.migration("20250101000000_change", &all);
    shop.home.project().up(&UpOptions::default()).unwrap();
    let mut client = shop.database.client();
    assert_eq!(index(&mut client), before);
    client.batch_execute("INSERT INTO entries (user_id, body) SELECT user_id, body || '!' FROM entries").unwrap();
    assert!(client.batch_execute("INSERT INTO entries (user_id, body) SELECT user_id, body FROM entries").is_err());
    shop.home.project().rollback(&backout::migrate::RollbackOptions::default()).unwrap();
    let mut client = shop.database.client();
    assert_eq!(index(&mut client), before);
    let bodies: Vec<String> =
        client.query("SELECT body FROM entries ORDER BY id", &[]).unwrap().iter().map(|l| l.get(0)).collect();
    assert_eq!(bodies, ["hello", "hello!"]);
}

#[test]
fn an_empty_child_takes_the_spelling_of_its_parent() {
    let shop = Shop::new("DELETE FROM entry_tags; UPDATE tags SET id = '0000000000000000000000000000000A'");
    let p = shop.plan(&format!("{REKEY}tables = [\"tags\"]\n")).unwrap();
    let child = p.plan.tables.iter().find(|t| t.source.name == "entry_tags").unwrap();
    assert_eq!(child.codecs[1].codec, Codec::Uuid { hyphens: false, upper: true });
}

#[test]
fn what_cannot_be_is_refused_where_it_is_asked_for() {
    let shop = Shop::new(
        "CREATE TABLE bare (a integer); CREATE TABLE parts (id integer PRIMARY KEY, x text) PARTITION BY HASH (id); CREATE TABLE profiles (user_id varchar(36) PRIMARY KEY REFERENCES users);
         ALTER TABLE users ADD COLUMN code text NOT NULL DEFAULT 'x'; ALTER TABLE users ADD COLUMN must text;
         UPDATE users SET must = 'm'; ALTER TABLE users ALTER COLUMN must SET NOT NULL;
         ALTER TABLE users ADD COLUMN count text DEFAULT 'many', ADD COLUMN of_kind integer DEFAULT 1 CONSTRAINT of_kind_known CHECK (of_kind IN (1, 2));
         CREATE INDEX by_nick ON users (lower(nick)) WHERE email IS NOT NULL; CREATE VIEW seen AS SELECT 1 AS one;
         UPDATE users SET count = CASE nick WHEN 'ann' THEN '007' ELSE '8' END",
    );
    for (migration, words) in [
        (format!("{REKEY}tables = [\"user\"]\n"), &["there is no table \"user\"", "users"][..]),
        (
            format!("{REKEY}tables = [\"entry_tags\"]\n"),
            &["the key of entry_tags has several columns (entry_id, tag_id)"],
        ),
        (
            format!("{REKEY}tables = [\"profiles\"]\n"),
            &["profiles.user_id would be uuid", "users.id", "name the table in its `tables`"],
        ),
        (format!("{REKEY}tables = [\"bare\"]\n"), &["table bare has no key"]),
        (format!("{REKEY}tables = [\"parts\"]\n"), &["table parts cannot take part: it is partitioned"]),
        (users("id", "type = \"uuid\""), &["users.id", "foreign key", "[rekey]"]),
        (users("nix", "drop = true"), &["table users has no column \"nix\"", "nick"]),
        (users("id", "drop = true"), &["users.id cannot go: it is part of the key"]),
        (
            users("must", "drop = true"),
            &["users.must cannot go: it is NOT NULL without a default", "`default` in a migration before"],
        ),
        (users("nick", "drop = true"), &["users.nick cannot go: it is in the index by_nick"]),
        (users("email", "drop = true"), &["users.email cannot go: it is in the index by_nick"]),
        (users("of_kind", "drop = true"), &["users.of_kind cannot go: it is in the constraint of_kind_known"]),
        (users("fax", "not_null = true"), &["users.fax, key '9b7c6c2e", "NULL in a column that is to be NOT NULL"]),
        (users("id", "not_null = false"), &["users.id is part of the key"]),
        (users("count", "type = \"bigint\""), &["users.count cannot become bigint: its default 'many'::text"]),
        (
            users("count", "type = \"bigint\"\ndefault = \"0\""),
            &["users.count, key '0b7c6c2e", "would not come back the same", "value '007'"],
        ),
        (users("of_kind", "type = \"text\""), &["from integer to text no way is known"]),
        (users("age", "type = \"integer\""), &["users.age is integer already"]),
        (users("age", "rename = \"nick\""), &["two columns of users would be called \"nick\""]),
        (users("age", "rename = \"ctid\""), &["nothing can be called \"ctid\""]),
        (users("fax", "add = true\ntype = \"text\""), &["there is a column users.fax already"]),
        (format!("{ALTER}[[alter.table]]\ntable = \"users\"\nrename = \"tags\"\n"), &["there is a tags already"]),
        (format!("{ALTER}[[alter.table]]\ntable = \"users\"\nrename = \"seen\"\n"), &["there is a seen already"]),
        (
            format!("{ALTER}[[alter.column]]\ntable = \"entries\"\ncolumn = \"body\"\ndrop = true\n"),
            &["entries.body cannot go: words is computed from it"],
        ),
        (
            format!("{ALTER}[[alter.column]]\ntable = \"entries\"\ncolumn = \"words\"\ntype = \"bigint\"\n"),
            &["entries.words is computed from other columns"],
        ),
        (
            format!("{ALTER}[[alter.column]]\ntable = \"entries\"\ncolumn = \"user_id\"\ndrop = true\n"),
            &["it is in a foreign key to users"],
        ),
    ] {
        shop.refuses(&migration, words);
    }
}

#[test]
fn a_table_without_a_key_that_goes_along_is_refused() {
    let shop = Shop::new("CREATE TABLE logins (user_id varchar(36) REFERENCES users, at timestamptz)");
    shop.refuses(
        &format!("{REKEY}tables = [\"users\"]\n"),
        &["table logins, which foreign keys connect with what changes, has no key"],
    );
    shop.refuses(&users("nick", "rename = \"name\""), &["table logins"]);
    // and one that nothing connects is of no matter
    shop.plan(&format!("{ALTER}[[alter.column]]\ntable = \"lonely\"\ncolumn = \"x\"\ndrop = true\n")).unwrap();
}

#[test]
fn definitions_speak_of_columns_by_their_new_names() {
    let shop = Shop::new(
        "ALTER TABLE users ADD COLUMN \"Type\" text DEFAULT 'nick', ADD COLUMN text text, ADD COLUMN year date,
            ADD CONSTRAINT named CHECK (nick <> 'nick' AND lower(nick)::text <> text AND extract(year FROM year) > 1);
         ALTER TABLE users ADD COLUMN loud text GENERATED ALWAYS AS (upper(nick) || \"Type\") STORED;
         CREATE INDEX by_nick ON users (lower(nick) text_pattern_ops, nick DESC NULLS LAST) INCLUDE (fax) WHERE nick IS NOT NULL;
         CREATE UNIQUE INDEX one_nick ON users (nick, text);
         CREATE TABLE nicks (id integer PRIMARY KEY, nick text, text text, FOREIGN KEY (nick, text) REFERENCES users (nick, text) ON DELETE SET NULL (nick))",
    );
    let p = shop
        .plan(&format!(
            "{}[[alter.column]]\ntable = \"users\"\ncolumn = \"text\"\nrename = \"The \\\"text\\\"\"\n\
             [[alter.column]]\ntable = \"users\"\ncolumn = \"year\"\nrename = \"born\"\n\
             [[alter.column]]\ntable = \"users\"\ncolumn = \"Type\"\nrename = \"kind\"\n\
             [[alter.column]]\ntable = \"nicks\"\ncolumn = \"nick\"\nrename = \"of\"\n",
            users("nick", "rename = \"Name\"")
        ))
        .unwrap();
    let t = target(&p, "users");
    assert_eq!(
        t.constraints[0].definition,
        "CHECK (((\"Name\" <> 'nick'::text) AND (lower(\"Name\") <> \"The \"\"text\"\"\") AND (EXTRACT(year FROM \"born\") > (1)::numeric)))"
    );
    assert_eq!(t.generated[0].expression.as_deref(), Some("(upper(\"Name\") || \"kind\")"));
    let index = |name: &str| t.indexes.iter().find(|i| i.name.as_deref() == Some(name)).unwrap();
    assert_eq!(
        index("by_nick").definition.as_deref(),
        Some(
            "USING btree (lower(\"Name\") text_pattern_ops, \"Name\" DESC NULLS LAST) INCLUDE (fax) WHERE (\"Name\" IS NOT NULL)"
        )
    );
    assert_eq!(index("one_nick").columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["Name", "The \"text\""]);
    let f = &target(&p, "nicks").foreign_keys[0];
    assert_eq!(
        (f.columns.join(","), f.references.join(","), f.on_delete.as_str()),
        ("of,text".into(), "Name,The \"text\"".into(), "SET NULL (\"of\")")
    );
    // PostgreSQL takes all of it
    shop.home.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
}

#[test]
fn types_that_lose_nothing_change() {
    let shop = Shop::new(
        "ALTER TABLE users ADD COLUMN digits text DEFAULT '5', ADD COLUMN short varchar(5) DEFAULT 'abc', ADD COLUMN n bigint DEFAULT 7;
         UPDATE users SET digits = '-12'; CREATE INDEX by_digits ON users (digits, n)",
    );
    let change = |column: &str, ty: &str| {
        format!("[[alter.column]]\ntable = \"users\"\ncolumn = \"{column}\"\ntype = \"{ty}\"\n")
    };
    let p = shop
        .plan(&format!(
            "{ALTER}{}{}{}{}[[alter.column]]\ntable = \"entries\"\ncolumn = \"id\"\ntype = \"bigint\"\n",
            change("age", "int8"),
            change("digits", "bigint"),
            change("short", "varchar(9)"),
            change("n", "smallint")
        ))
        .unwrap();
    let t = p.plan.tables.iter().find(|t| t.target.name == "users").unwrap();
    let of = |name: &str| {
        let i = t.target.column(name).unwrap();
        (t.codecs[i].codec.clone(), t.target.columns[i].ty.clone(), t.target.columns[i].default.clone())
    };
    assert_eq!(of("age"), (Codec::Same, "bigint".into(), None));
    assert_eq!(of("digits"), (Codec::Whole, "bigint".into(), Some("5".into())));
    assert_eq!(of("short"), (Codec::Same, "character varying(9)".into(), Some("'abc'::character varying(9)".into())));
    assert_eq!(of("n"), (Codec::Same, "smallint".into(), Some("7".into())));
    // a number that is given stays so
    let id = &target(&p, "entries").columns[0];
    assert_eq!((id.ty.as_str(), id.identity), ("bigint", true));
    shop.home.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
}

#[test]
fn a_plan_shows_what_changes_and_how_much_does_not() {
    let shop = Shop::new("");
    shop.home.migration(
        "20250101000000_change",
        &format!(
            "title = \"Names and keys\"\n{REKEY}tables = [\"users\"]\n{ALTER}[[alter.column]]\ntable = \"users\"\ncolumn = \"fax\"\ndrop = true\n\
             [[alter.column]]\ntable = \"users\"\ncolumn = \"nick\"\nrename = \"name\"\nnot_null = true\n\
             [[alter.column]]\ntable = \"users\"\ncolumn = \"level\"\nadd = true\ntype = \"integer\"\ndefault = \"1\"\nnot_null = true\n"
        ),
    );
    let program =
        std::process::Command::new(env!("CARGO_BIN_EXE_backout")).current_dir(shop.home.path("")).arg("plan").output();
    let out = program.unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.lines().all(|l| l.chars().count() <= 80 || l.starts_with("plan ")), "{text}");
    let shown: Vec<&str> = text.lines().take_while(|l| !l.starts_with("worth knowing")).collect();
    assert_eq!(shown.join("\n").trim_end(), SHOWN);
}

const SHOWN: &str = "\
20250101000000  Names and keys
in    main (PostgreSQL)
changes 2 tables; 2 tables go along as they are; 5 rows, 291 B

users   2 rows, 131 B
  key (id)
  id           varchar(40) default (gen_random_uuid())::text
                 → uuid default gen_random_uuid()
                 36 characters as uuid
  nick → name  text not null
  fax          text                        goes
  level        integer not null default 1  is new
  and 2 columns as they are

entries   1 row, 61 B
  key (id)
  user_id  varchar(40) → uuid  36 characters as uuid
  and 3 columns as they are";

/// A SQLite project.
struct Local(Home);

impl Local {
    fn new(sql: &str) -> Local {
        let home = Home::new(&[("main", "sqlite:app.db")], "");
        home.sqlite("app.db").execute_batch(sql).unwrap();
        Local(home)
    }

    fn plan(&self, migration: &str) -> Result<Proposal, Failure> {
        self.0.migration("20250101000000_change", migration);
        self.0.project().plan(None).map(Option::unwrap)
    }

    #[track_caller]
    fn refuses(&self, migration: &str, words: &[&str]) {
        let db = self.0.sqlite("app.db");
        let before = (sqlite_schema(&db), sqlite_dump(&db));
        let failure = self.plan(migration).expect_err("it is not refused");
        let all = format!("{failure} | {}", failure.hint);
        for word in words {
            assert!(all.contains(word), "{word:?} is not in: {all}");
        }
        assert_eq!(failure.state, "nothing was changed");
        assert_eq!((sqlite_schema(&db), sqlite_dump(&db)), before);
    }
}

const ODD: &str = r#"
CREATE TABLE "Odd" (
    "the id" INTEGER PRIMARY KEY AUTOINCREMENT, -- the id, of course
    nick VARCHAR(10) COLLATE NOCASE NOT NULL DEFAULT 'nick' CHECK (length(nick) > 0 AND nick <> 'nick,('),
    [text] text CONSTRAINT never_null NOT NULL DEFAULT (upper('text')), 'quoted' INT UNIQUE ON CONFLICT IGNORE,
    up AS (upper(nick) || "text") /* , nick */ STORED, boss INTEGER REFERENCES "Odd" ("the id") ON DELETE SET NULL,
    key TEXT, fax NUMERIC(10, 2) DEFAULT -1, bare,
    UNIQUE (nick, key DESC), CONSTRAINT c CHECK (nick IS NOT `text` OR CAST(bare AS text) = "nick"),
    FOREIGN KEY (nick, key) REFERENCES "Odd" (nick, "key") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX by_nick ON "Odd" (lower(nick), nick COLLATE RTRIM DESC) WHERE nick > 'nick' AND "text" NOTNULL;
CREATE TABLE child (id TEXT PRIMARY KEY, nick TEXT, key TEXT, FOREIGN KEY (nick, key) REFERENCES Odd (nick, key)) WITHOUT ROWID;
"#;

/// Tokens without the quotes of names, in small letters: how SQLite and we may spell one definition.
fn bare(sql: &str) -> String {
    let sql = sql.replace(['"', '`', '[', ']'], "").to_lowercase();
    sql.split_whitespace().collect::<Vec<_>>().join(" ").replace("'quoted'", "quoted")
}

#[test]
fn sqlite_renames_as_sqlite_itself_does() {
    for (table, column, to) in [
        ("Odd", "nick", "name"),
        ("Odd", "text", "words"),
        ("Odd", "quoted", "q"),
        ("Odd", "key", "code"),
        ("Odd", "the id", "id"),
        ("Odd", "bare", "b"),
        ("Odd", "up", "loud"),
        ("child", "nick", "of"),
        ("child", "id", "key of it"),
    ] {
        let local = Local::new(ODD);
        let p = local
            .plan(&format!("{ALTER}[[alter.column]]\ntable = \"{table}\"\ncolumn = \"{column}\"\nrename = \"{to}\"\n"))
            .unwrap_or_else(|e| panic!("{column}: {e}"));
        let db = local.0.sqlite("app.db");
        db.execute_batch(&format!("ALTER TABLE \"{table}\" RENAME COLUMN \"{column}\" TO \"{to}\"")).unwrap();
        let texts = |kind: &str| -> Vec<String> {
            let mut all = db.prepare("SELECT sql FROM sqlite_schema WHERE type = ?1 AND sql NOTNULL AND name NOT LIKE 'sqlite%' ORDER BY name").unwrap();
            let all = all.query_map([kind], |r| r.get::<_, String>(0)).unwrap();
            all.map(|t| bare(&t.unwrap())).collect()
        };
        let mut ours: Vec<(String, String)> = p
            .plan
            .tables
            .iter()
            .map(|t| (t.target.name.clone(), bare(t.target.details.sql.as_ref().unwrap())))
            .collect();
        ours.sort();
        assert_eq!(ours.into_iter().map(|o| o.1).collect::<Vec<_>>(), texts("table"), "{column}");
        let indexes: Vec<String> = p
            .plan
            .tables
            .iter()
            .flat_map(|t| &t.target.indexes)
            .filter_map(|i| i.definition.as_deref().map(bare))
            .collect();
        assert_eq!(indexes, texts("index"), "{column}");
    }
}

#[test]
fn sqlite_tables_keep_their_words_where_nothing_changes() {
    let local = Local::new(ODD);
    let p = local
        .plan(&format!(
            "{ALTER}[[alter.table]]\ntable = \"child\"\nrename = \"kid\"\n\
             [[alter.column]]\ntable = \"Odd\"\ncolumn = \"fax\"\ndrop = true\n\
             [[alter.column]]\ntable = \"Odd\"\ncolumn = \"level\"\nadd = true\ntype = \"INTEGER\"\ndefault = \"1\"\nnot_null = true\n"
        ))
        .unwrap();
    let odd = target(&p, "Odd");
    let sql = odd.details.sql.as_ref().unwrap();
    let expected = ODD
        .split("CREATE INDEX")
        .next()
        .unwrap()
        .trim()
        .trim_end_matches(';')
        .replace(" fax NUMERIC(10, 2) DEFAULT -1,", "")
        .replace(" bare,\n", " bare, \"level\" INTEGER NOT NULL DEFAULT 1,\n");
    assert_eq!(*sql, expected);
    rusqlite::Connection::open_in_memory().unwrap().execute_batch(sql).unwrap();
    let source = &p.plan.tables.iter().find(|t| t.source.name == "Odd").unwrap().source;
    assert_eq!((source.alone[0].column.name.as_str(), source.alone[0].place), ("fax", 6));
    let child = p.plan.tables.iter().find(|t| t.source.name == "child").unwrap();
    assert_eq!((child.target.name.as_str(), &child.target.details.sql), ("kid", &child.source.details.sql));
}

#[test]
fn sqlite_changes_types_by_what_is_stored() {
    let sql = "CREATE TABLE t (id TEXT PRIMARY KEY, n TEXT NOT NULL DEFAULT '5' CHECK (1), v INT, opt TEXT NOT NULL);
        CREATE TABLE c (id INTEGER PRIMARY KEY, t TEXT REFERENCES t);
        INSERT INTO t VALUES ('12', '-3', 1, 'a'), ('9223372036854775807', '0', NULL, 'b'); INSERT INTO c VALUES (1, '12'), (2, NULL);";
    let local = Local::new(sql);
    let rekey = "[rekey]\nstore = \"main\"\ntype = \"bigint\"\ntables = [\"t\"]\n";
    let column = |name: &str, rest: &str| format!("[[alter.column]]\ntable = \"t\"\ncolumn = \"{name}\"\n{rest}\n");
    let p = local
        .plan(&format!(
            "{rekey}{ALTER}{}{}{}",
            column("n", "type = \"INTEGER\""),
            column("v", "type = \"BIGINT UNSIGNED\""),
            column("opt", "not_null = false")
        ))
        .unwrap();
    let t = p.plan.tables.iter().find(|t| t.target.name == "t").unwrap();
    assert_eq!(
        t.target.details.sql.as_deref(),
        Some(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL DEFAULT 5 CHECK (1), v BIGINT UNSIGNED, opt TEXT)"
        )
    );
    let codecs: Vec<&Codec> = t.codecs.iter().map(|c| &c.codec).collect();
    assert_eq!(codecs, [&Codec::Whole, &Codec::Whole, &Codec::Verbatim, &Codec::Verbatim]);
    assert!(t.target.columns[0].identity && t.target.columns[0].not_null);
    assert_eq!(
        target(&p, "c").details.sql.as_deref(),
        Some("CREATE TABLE c (id INTEGER PRIMARY KEY, t INTEGER REFERENCES t)")
    );
    local
        .0
        .sqlite("app.db")
        .execute_batch("INSERT INTO t VALUES ('007', '1', 1, ''), ('7.0', '1', 1, ''), (x'07', '1', 1, '')")
        .unwrap();
    local
        .refuses(rekey, &["t.id, key '007'", "would not come back the same", "key '7.0': text is no integer", "bytes"]);
    local.refuses("[rekey]\nstore = \"main\"\ntype = \"uuid\"\ntables = [\"t\"]\n", &["SQLite has no such type"]);
    local
        .refuses(&format!("{ALTER}{}", column("v", "type = \"REAL\"")), &["t.v cannot become REAL", "no way is known"]);
    local.refuses(
        &format!("{ALTER}[[alter.column]]\ntable = \"c\"\ncolumn = \"id\"\ntype = \"TEXT\"\n"),
        &["it is the rowid"],
    );
}

#[test]
fn sqlite_knows_no_case_in_foreign_keys_and_a_rowid_takes_whole_numbers() {
    let sql = "CREATE TABLE T (Id TEXT PRIMARY KEY, v TEXT); CREATE TABLE c (id INT PRIMARY KEY, Of TEXT, FOREIGN KEY (OF) REFERENCES t (ID));
        INSERT INTO T VALUES ('12', 'x'); INSERT INTO c VALUES (1, '12');";
    let local = Local::new(sql);
    let rekey = "[rekey]\nstore = \"main\"\ntype = \"bigint\"\ntables = [\"T\"]\n";
    let rename = "[[alter.column]]\ntable = \"T\"\ncolumn = \"Id\"\nrename = \"key\"\n";
    let p = local.plan(&format!("{rekey}{ALTER}{rename}")).unwrap();
    let c = target(&p, "c");
    assert_eq!(
        c.details.sql.as_deref(),
        Some("CREATE TABLE c (id INT PRIMARY KEY, Of INTEGER, FOREIGN KEY (OF) REFERENCES t (\"key\"))")
    );
    assert_eq!(c.foreign_keys[0].references, ["key"]);
    local.refuses(
        &format!("{ALTER}[[alter.column]]\ntable = \"c\"\ncolumn = \"Of\"\ndrop = true\n"),
        &["c.Of cannot go: it is in a foreign key to T"],
    );
    let id = format!("{ALTER}[[alter.column]]\ntable = \"c\"\ncolumn = \"id\"\ntype = \"INTEGER\"\n");
    assert!(target(&local.plan(&id).unwrap(), "c").columns[0].identity);
    local.0.sqlite("app.db").execute_batch("INSERT INTO c (id) VALUES ('one')").unwrap();
    local.refuses(&id, &["c.id, key 'one'", "whole numbers alone"]);
}

//! Tests of reading revisions.

use std::path::Path;

use proptest::prelude::*;

use super::file::{load, parse, parse_pair};
use super::{Down, Revision, lint};
use crate::plan::{Config, ConfigError, Kind};

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("p/backout.toml"), &|_| None).unwrap()
}

/// A file of one SQLite project.
fn one(text: &str) -> Result<Revision, ConfigError> {
    parse(text, Path::new("m/007_create_events.sql"), &config("stores.a = 'sqlite:a.db'\nstores.j = 'json:j.json'"))
}

/// A pair of files of the same.
fn pair(up: &str, down: &str) -> Result<Revision, ConfigError> {
    let config = config("stores.a = 'sqlite:a.db'\nstores.j = 'json:j.json'");
    parse_pair((up, Path::new("m/7_x.up.sql")), (down, Path::new("m/7_x.down.sql")), &config)
}

#[test]
fn a_file_with_both_ways() {
    let text = "-- about it\n-- backout:title Events\n-- migrate:up\nCREATE TABLE e (id int);\n\
        -- backout:allow D01 why not\nDROP TABLE x\n-- migrate:down transaction:false\nDROP TABLE e;\n";
    let revision = one(text).unwrap();
    assert_eq!((&revision.stamp[..], &revision.slug[..], &revision.title[..]), ("007", "create_events", "Events"));
    assert_eq!((revision.store.as_deref(), revision.down_path.as_deref()), (Some("a"), None));
    assert_eq!(revision.up.text, "CREATE TABLE e (id int);\n-- backout:allow D01 why not\nDROP TABLE x\n");
    assert!(revision.up.transaction);
    assert_eq!(revision.up.statements[1].line, 6);
    assert_eq!(revision.up.statements[1].silenced, [("D01".to_owned(), "why not".to_owned())]);
    let Down::Sql(down) = &revision.down else { panic!("{:?}", revision.down) };
    assert_eq!((down.transaction, &down.text[..], down.statements[0].line), (false, "DROP TABLE e;\n", 8));

    for other in
        [format!("\u{feff}{text}"), text.replace('\n', "\r\n"), format!("\u{feff}{}", text.replace('\n', "\r\n"))]
    {
        assert_eq!(one(&other).unwrap(), revision, "whoever saved it");
    }
    let other = one("--migrate:up transaction:false\nx\n  -- migrate:down  transaction:true \ny").unwrap();
    assert_eq!((&other.title[..], other.up.transaction, &other.up.text[..]), ("create events", false, "x\n"));
    assert!(matches!(other.down, Down::Sql(down) if down.transaction && down.text == "y"));
}

#[test]
fn what_a_down_may_be_instead() {
    let down = |line: &str| one(&format!("-- migrate:up\nx;\n-- migrate:down {line}")).unwrap().down;
    assert_eq!(down("nothing"), Down::Nothing);
    assert_eq!(down("nothing \n-- indeed\n"), Down::Nothing);
    assert_eq!(down("irreversible: rows are gone: all"), Down::Irreversible("rows are gone: all".into()));
    assert_eq!(one("-- migrate:up\n-- migrate:down nothing").unwrap().up.statements, [], "a place in the history");
}

#[test]
fn a_pair_of_files() {
    let revision = pair("\u{feff}-- backout:title T\r\nx;\r\ny", "-- d\r\nz;").unwrap();
    assert_eq!((&revision.stamp[..], &revision.slug[..], &revision.title[..]), ("7", "x", "T"));
    assert_eq!(
        (&revision.path, revision.down_path.as_deref()),
        (&"m/7_x.up.sql".into(), Some(Path::new("m/7_x.down.sql")))
    );
    assert_eq!((&revision.up.text[..], revision.up.statements.len()), ("-- backout:title T\nx;\ny", 2));
    assert!(matches!(&revision.down, Down::Sql(down) if down.text == "-- d\nz;" && down.statements[0].line == 2));

    let revision = pair("-- migrate:up transaction:false\nx", "-- why\n-- migrate:down transaction:false\ny").unwrap();
    assert_eq!((revision.up.transaction, &revision.up.text[..], revision.up.statements[0].line), (false, "x", 2));
    assert!(matches!(&revision.down, Down::Sql(down) if !down.transaction && down.text == "y"));
    assert_eq!(pair("x", "-- migrate:down nothing").unwrap().down, Down::Nothing);
    assert_eq!(pair("x", "-- migrate:down irreversible: no").unwrap().down, Down::Irreversible("no".into()));
}

#[test]
fn what_is_wrong_in_a_file_is_shown_where_it_stands() {
    let up = "-- migrate:up\nx;\n";
    let both = "-- migrate:up\nx;\n-- migrate:down\ny;\n";
    let down = "-- migrate:down nothing";
    for (text, place, message, hint) in [
        (String::new(), "1:1", "no `-- migrate:up`", "before the statements of the way up"),
        ("CREATE TABLE x;".into(), "1:1", "a statement before `-- migrate:up`", "`-- migrate:up` stands before"),
        (format!("-- a\n x;\n{both}"), "2:2", "a statement before `-- migrate:up`", "stands before"),
        ("-- +goose Up\nx;".into(), "2:1", "a statement before", "import --from goose"),
        ("-- no-transaction\nx;".into(), "2:1", "a statement before", "transaction:false"),
        ("-- migrate:pu\nx;".into(), "1:1", "unknown directive `migrate:pu`", "did you mean `migrate:up`?"),
        ("-- migrate: up\nx;".into(), "1:1", "unknown directive `migrate:`", "did you mean `migrate:up`?"),
        ("-- backout: see below\nx;".into(), "1:1", "unknown directive `backout:`", "known: migrate:up"),
        (format!("{up}-- MIGRATE:DOWN\n"), "3:1", "unknown directive `MIGRATE:DOWN`", "did you mean `migrate:down`?"),
        (format!("{both}-- backout:titel T"), "5:1", "unknown directive `backout:titel`", "`backout:title`?"),
        (
            "-- migrate:up transaction:fals\nx;".into(),
            "1:15",
            "unknown option `transaction:fals` of migrate:up",
            "`transaction:false`?",
        ),
        ("-- migrate:up  transaction:true nothing\nx;".into(), "1:33", "unknown option `nothing`", "known here"),
        ("-- migrate:up transaction:false transaction:false\nx;".into(), "1:33", "stands twice", ""),
        (format!("{up}-- migrate:down nothin"), "3:17", "unknown option `nothin`", "did you mean `nothing`?"),
        (format!("{up}-- migrate:down nothing at all"), "3:17", "`nothing` stands alone", "take the other words out"),
        (format!("{up}-- migrate:down transaction:false irreversible: x"), "3:35", "`irreversible` stands alone", ""),
        (format!("{up}-- migrate:down irreversible"), "3:17", "`irreversible` without a reason", "say why"),
        (format!("{up}-- migrate:down irreversible:  "), "3:17", "`irreversible` without a reason", "say why"),
        (
            format!("{up}-- migrate:down irreversible because"),
            "3:17",
            "`irreversible` without a reason",
            "irreversible: the",
        ),
        (format!("{both}-- migrate:up\n"), "5:1", "a second `-- migrate:up`", "one way up"),
        (format!("{both}{down}\n"), "5:1", "a second `-- migrate:down`", "one way up"),
        (format!("{down}\n{up}"), "1:1", "`-- migrate:down` before `-- migrate:up`", "the way up comes first"),
        (up.into(), "1:1", "the revision has no `-- migrate:down`", "say `-- migrate:down nothing`"),
        (format!("{up}-- migrate:down\n-- later\n;\n"), "3:1", "the down is empty", "irreversible: reason`"),
        ("-- migrate:up\n-- migrate:down\nx".into(), "1:1", "the up is empty", "`-- migrate:down nothing`"),
        (format!("{up}{down}\nDROP TABLE x"), "4:1", "a down that is said to have none", "take the statements out"),
        (format!("{up}x; -- migrate:down\ny"), "3:4", "`migrate:down` stands behind something else", "line of its own"),
        (format!("{up}-- backout:title T\n{down}"), "3:1", "`backout:title` comes too late", "at the top"),
        (format!("-- backout:title\n{both}"), "1:1", "`backout:title` says nothing", ""),
        (format!("-- backout:title a\n-- backout:title b\n{both}"), "2:1", "a second `backout:title`", "take one"),
        (format!("-- backout:store a\n-- backout:store a\n{both}"), "2:1", "a second `backout:store`", "take one"),
        (format!("-- backout:store\n{both}"), "1:1", "names no store", "SQL stores in backout.toml: a"),
        (format!("--  backout:store  aa\n{both}"), "1:20", "there is no store `aa`", "did you mean `a`?"),
        (format!("-- backout:store j\n{both}"), "1:18", "`j` is a JSON file", "SQL stores in backout.toml: a"),
        (format!("{up}-- backout:store a\n{down}"), "3:1", "`backout:store` comes too late", "at the top"),
        (format!("-- backout:allow D01 r\n{both}"), "1:1", "no statement follows", ""),
        (format!("{up}-- backout:allow D01 r\n{down}"), "3:1", "no statement follows", "before the statement"),
        (
            format!("{up}-- backout:allow D01\ny;\n{down}"),
            "3:1",
            "lacks its code or its reason",
            "-- backout:allow D01",
        ),
        (format!("{up}select '\n{down}"), "3:8", "this string is never closed", "it needs its `'`"),
        ("-- migrate:up\r\nx;\r\nü '\r\n".into(), "3:3", "this string is never closed", ""),
        (format!("{up}BEGIN;\n{down}"), "3:1", "BEGIN in a script that runs in a transaction", "`transaction:false`"),
        (format!("{up} Commit;\n{down}"), "3:2", "COMMIT in a script that runs in a transaction", "take it out"),
        (format!("{up}ROLLBACK;\n{down}"), "3:1", "ROLLBACK in a script that runs", ""),
        (format!("{up}-- migrate:down\ny;\nend"), "5:1", "END in a script that runs", ""),
        ("-- migrate:up transaction:false\nBEGIN;\nx;".into(), "2:1", "this transaction is never ended", "COMMIT"),
        ("-- migrate:up transaction:false\nx;COMMIT;".into(), "2:3", "no transaction is open here", "BEGIN"),
        ("-- migrate:up transaction:false\nBEGIN; BEGIN".into(), "2:8", "a transaction begins within one", ""),
    ] {
        let error = one(&text).expect_err(&text);
        let shown = error.shown();
        assert!(error.to_string().starts_with(&format!("m/007_create_events.sql:{place}: ")), "{text}\n{shown}");
        assert!(error.to_string().contains(message), "{text}\n{shown}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{text}\n{shown}");
        assert!(error.excerpt().is_some_and(|excerpt| !excerpt.contains('\r')), "{text}\n{shown}");
    }
    let allowed = "-- migrate:up transaction:false\nBEGIN; x; COMMIT; BEGIN; y; ROLLBACK TO a; ROLLBACK;\n\
        -- migrate:down nothing";
    assert_eq!(one(allowed).unwrap().up.statements.len(), 7);
    let savepoints = "-- migrate:up\nSAVEPOINT a; x; ROLLBACK TRANSACTION TO a; RELEASE a;\n-- migrate:down nothing";
    assert_eq!(one(savepoints).unwrap().up.statements.len(), 4);
}

#[test]
fn what_is_wrong_in_a_pair_is_shown_where_it_stands() {
    for (up, down, place, message) in [
        ("x", "", "down.sql:1:1", "the down is empty"),
        ("x", "-- migrate:down\n-- nothing\n", "down.sql:1:1", "the down is empty"),
        ("-- none", "x", "up.sql:1:1", "the up is empty"),
        ("x\n-- migrate:down\ny", "y", "up.sql:2:1", "`-- migrate:down` in the file of the up"),
        ("x", "-- migrate:up\ny", "down.sql:1:1", "`-- migrate:up` in the file of the down"),
        ("x;\n-- migrate:up transaction:false\ny", "z", "up.sql:2:1", "comes after statements"),
        ("-- migrate:up\n-- migrate:up\ny", "z", "up.sql:2:1", "comes after statements, or twice"),
        ("-- no-transaction\nx", "y", "up.sql:1:1", "`no-transaction` is what sqlx reads"),
        ("x", "--no-transaction\ny", "down.sql:1:1", "`no-transaction` is what sqlx reads"),
        ("x;\n-- backout:title a\ny", "z", "up.sql:2:1", "`backout:title` comes too late"),
        ("x", "-- backout:store a\ny", "down.sql:1:1", "`backout:store` in the file of the down"),
        ("x", "-- migrate:down irreversible\n", "down.sql:1:17", "without a reason"),
        ("x", "-- migrate:down nothing\ny", "down.sql:2:1", "a down that is said to have none"),
        ("x;\n'", "y", "up.sql:2:1", "string is never closed"),
        ("x", "y;\n /*", "down.sql:2:2", "comment is never closed"),
        ("BEGIN; x; COMMIT;", "y", "up.sql:1:1", "BEGIN in a script"),
    ] {
        let error = pair(up, down).expect_err(up).to_string();
        assert!(error.starts_with(&format!("m/7_x.{place}: ")) && error.contains(message), "{up} / {down}\n{error}");
    }
}

#[test]
fn the_store_decides_whose_rules_hold() {
    let of = |toml: &str, head: &str| {
        let text = format!("{head}\n-- migrate:up\nx\n-- migrate:down nothing");
        parse(&text, Path::new("m/1_x.sql"), &config(toml)).map(|r| r.store.unwrap_or_default())
    };
    let two = "stores.a = 'sqlite:a.db'\nstores.p = '${NOPE}'\nstores.j = 'json:j.json'";
    assert_eq!(of("stores.j = 'json:j.json'\nstores.p = '${NOPE}'", "").unwrap(), "p", "the only one, though unset");
    assert_eq!(of(two, "-- backout:store p").unwrap(), "p");
    assert_eq!(of(&format!("project.default_store = 'p'\n{two}"), "").unwrap(), "p");
    assert_eq!(of(&format!("project.default_store = 'p'\n{two}"), "-- backout:store a").unwrap(), "a");
    for (toml, message, hint) in [
        (
            two.to_owned(),
            "not said in which store",
            "say `-- backout:store NAME` before the statements; SQL stores in backout.toml: a, p",
        ),
        (format!("project.default_store = 'j'\n{two}"), "the default store `j` is a JSON file", "a, p"),
        ("stores.j = 'json:j.json'".to_owned(), "not said in which store", "has no SQLite or PostgreSQL store"),
    ] {
        let error = of(&toml, "").unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.hint().is_some_and(|h| h.contains(hint)), "{}", error.shown());
    }
    // the same text is two statements in one and one in the other
    let text = |store: &str| format!("-- backout:store {store}\n-- migrate:up\nx $$ ; $$;\n-- migrate:down nothing");
    let count = |store: &str| parse(&text(store), Path::new("m/1_x.sql"), &config(two)).unwrap().up.statements.len();
    assert_eq!((count("a"), count("p")), (2, 1));
}

#[test]
fn a_folder_is_read_in_the_order_of_its_versions() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join("migrations").join(name);
    std::fs::write(folder.path().join("backout.toml"), "stores.a = 'sqlite:a.db'").unwrap();
    std::fs::create_dir(folder.path().join("migrations")).unwrap();
    let write = |name: &str| {
        let one = "-- migrate:up\nx\n-- migrate:down\ny";
        std::fs::write(at(name), if name.ends_with("up.sql") || name.ends_with("down.sql") { "x" } else { one })
            .unwrap();
    };
    let all = || -> Result<Vec<String>, ConfigError> {
        let config = Config::load(&folder.path().join("backout.toml"), &|_| None)?;
        let revisions = load(&config, &config.migrations()?.sql)?;
        Ok(revisions.into_iter().map(|r| format!("{}_{}", r.stamp, r.slug)).collect())
    };
    for name in ["20250128140000_b.sql", "9_a.up.sql", "9_a.down.sql", "0010_c.sql", "99999999999999999999_z.sql"] {
        write(name);
    }
    assert_eq!(all().unwrap(), ["9_a", "0010_c", "20250128140000_b", "99999999999999999999_z"]);
    for (name, message, hint) in [
        ("10_twin.sql", "its version 10 is also that of", "count as numbers"),
        ("009_twin.up.sql", "009_twin.down.sql is missing", "`-- migrate:down nothing`"),
        ("9_b.down.sql", "9_b.up.sql is missing", "did you mean `9_a.up.sql`?"),
        ("9_a.sql", "is also that of", "rename one"),
        ("events.sql", "its name is not that of a revision", "1 to 20 digits"),
        ("11.sql", "its name is not that of a revision", "20250128140000_create_events.sql"),
        ("11_.sql", "its name is not that of a revision", ""),
        ("-1_x.sql", "its name is not that of a revision", ""),
        ("999999999999999999999_x.sql", "its name is not that of a revision", "1 to 20 digits"),
    ] {
        write(name);
        let error = all().expect_err(name);
        assert!(error.to_string().contains(message), "{name}: {error}");
        assert!(error.hint().is_some_and(|h| h.contains(hint)), "{name}: {}", error.shown());
        std::fs::remove_file(at(name)).unwrap();
    }
    std::fs::write(at("11_x.sql"), b"-- migrate:up\nx \xff").unwrap();
    let error = all().unwrap_err().to_string();
    assert!(error.ends_with("11_x.sql:2:3: this is not UTF-8"), "{error}");
    std::fs::remove_file(at("11_x.sql")).unwrap();
    std::fs::write(at("00020250128140000_x.toml"), "[transfer]\nfrom='a'\nto='b'").unwrap();
    assert!(all().unwrap_err().to_string().contains("its name is not that of a migration"));
}

/// Words of revisions in any order.
fn anything() -> impl Strategy<Value = String> {
    let words = "-- migrate:up\n|-- migrate:down\n|-- migrate:up |-- migrate:|-- backout:|store a\n|title ü\n|\
        allow D01 r\n|allow |transaction:false|nothing\n|irreversible: |irreversible|ü|\r|\r\n|\n|;|'|\
        \"|(|)|,|--|/*|*/| |[|$$|.|CREATE |TABLE |INDEX |ON |DROP |ALTER |ADD |COLUMN |RENAME |TO |\
        SET |NOT |NULL |DEFAULT |UPDATE |DELETE |FROM |WITH |AS |TYPE |a |SELECT |INSERT |INTO |\
        PRAGMA |foreign_keys |= |LOCK |IN |BEGIN|COMMIT|VACUUM |FULL |TRIGGER |END|CONSTRAINT |CHECK |UNIQUE ";
    let words: Vec<&str> = words.split('|').collect();
    let begins = prop::sample::select(vec!["", "-- migrate:up\n", "-- migrate:up transaction:false\n", "-- backout:"]);
    let ends = prop::sample::select(vec!["", "\n-- migrate:down nothing", "\n-- migrate:down\nx"]);
    (begins, prop::collection::vec(prop::sample::select(words), 0..20), ends)
        .prop_map(|(begin, parts, end)| format!("{begin}{}{end}", parts.concat()))
}

proptest! {
    #[test]
    fn any_text_is_either_read_and_looked_at_or_has_a_place(text in anything()) {
        for (kind, url) in [(Kind::Sqlite, "sqlite:a.db"), (Kind::Postgres, "postgres://h/d")] {
            match parse(&text, Path::new("m/1_x.sql"), &config(&format!("stores.a = '{url}'"))) {
                Ok(revision) => {
                    let lines = text.lines().count();
                    prop_assert!(lint::lint(&revision, kind).iter().all(|f| f.line >= 1 && f.line <= lines));
                    prop_assert!(revision.up.statements.iter().all(|s| revision.up.text.contains(&s.sql)));
                }
                Err(error) => prop_assert!(error.place().is_some() && !error.shown().is_empty(), "{}", error),
            }
        }
    }
}

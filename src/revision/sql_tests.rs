//! Tests of the tokens, and of where statements end.

use std::path::Path;

use proptest::prelude::*;

use super::sql::{Is, split, tokens, words};
use crate::plan::{ConfigError, Kind};

const BOTH: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

fn cut(text: &str, kind: Kind) -> Result<Vec<String>, ConfigError> {
    Ok(split(text, kind, Path::new("m/1_x.sql"))?.into_iter().map(|s| s.sql).collect())
}

#[test]
fn a_semicolon_ends_a_statement_only_where_the_database_says_so() {
    let trigger = "CREATE TEMP TRIGGER t AFTER UPDATE OF \"end\" ON a WHEN CASE NEW.x WHEN 1 THEN 1 END BEGIN \
        UPDATE a SET end = CASE x WHEN 1 THEN 2 END; /* END; */ DELETE FROM a WHERE begin = 'END;'; END";
    let atomic = "CREATE OR REPLACE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC \
        SELECT CASE a WHEN 1 THEN 2 END AS end; SELECT 1; END";
    let rule = "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO u VALUES (1); DELETE FROM v)";
    let both: &[(&str, &[&str])] = &[
        ("", &[]),
        (";;\n ; ", &[]),
        ("-- only; this\n/* and; that */", &[]),
        ("select 1", &["select 1"]),
        ("select 1;select 2", &["select 1", "select 2"]),
        (" select 1 -- a;b\n + 2 ; -- c\n", &["select 1 -- a;b\n + 2"]),
        ("/* x */ select 1 /* ; */ ;", &["select 1"]),
        ("select 'a;''b;'; select \";\"\";\"", &["select 'a;''b;'", "select \";\"\";\""]),
        ("select 'ü;', 1e5, 1e-5, .5;x", &["select 'ü;', 1e5, 1e-5, .5", "x"]),
        ("select 1--;\n;select 2", &["select 1", "select 2"]),
        ("begin; select 1; end; select 2", &["begin", "select 1", "end", "select 2"]),
        ("create table trigger_log (a); drop table x", &["create table trigger_log (a)", "drop table x"]),
    ];
    let sqlite: &[(&str, &[&str])] = &[
        ("select `a;``;`; select [a;'b]; select 2", &["select `a;``;`", "select [a;'b]", "select 2"]),
        ("select 'a\\'; select 2", &["select 'a\\'", "select 2"]),
        ("select /* a /* b */ 1; select 2", &["select /* a /* b */ 1", "select 2"]),
        ("select $a, @b, :c, ?1, ?; select 2", &["select $a, @b, :c, ?1, ?", "select 2"]),
        ("select $$;$$", &["select $$", "$$"]),
        (&format!("{trigger};\n{trigger} ; select 1"), &[trigger, trigger, "select 1"]),
        ("explain create trigger x begin select 1; end; y", &["explain create trigger x begin select 1; end", "y"]),
        ("create table \"trigger\" (a); select 1", &["create table \"trigger\" (a)", "select 1"]),
    ];
    let postgres: &[(&str, &[&str])] = &[
        ("do $$ begin; end $$; select 1", &["do $$ begin; end $$", "select 1"]),
        ("do $a$ ; $$ ; $b$ ; $a$; select 1", &["do $a$ ; $$ ; $b$ ; $a$", "select 1"]),
        ("do $ü$ ; $ü$; select 1", &["do $ü$ ; $ü$", "select 1"]),
        ("select a$b$c; select d$b$e", &["select a$b$c", "select d$b$e"]),
        ("select $1;select $2", &["select $1", "select $2"]),
        ("select E'\\';'; select e'\\\\'; x", &["select E'\\';'", "select e'\\\\'", "x"]),
        ("select E'a' -- c\n '\\';'; x", &["select E'a' -- c\n '\\';'", "x"]),
        ("select E'a' 'b\\'; x", &["select E'a' 'b\\'", "x"]),
        ("select 'a\\'; select 2", &["select 'a\\'", "select 2"]),
        ("select U&'\\;', U&\"a;\"; x", &["select U&'\\;', U&\"a;\"", "x"]),
        ("select B'1', x';', N';'; x", &["select B'1', x';', N';'", "x"]),
        ("select /* a /* b; */ ; */ 1; x", &["select /* a /* b; */ ; */ 1", "x"]),
        ("select a[1];x", &["select a[1]", "x"]),
        ("select 1 -- a\r; x", &["select 1", "x"]),
        (&format!("{atomic};{atomic}\n;x"), &[atomic, atomic, "x"]),
        ("create procedure p() begin atomic end; x", &["create procedure p() begin atomic end", "x"]),
        (&format!("{rule}; x"), &[rule, "x"]),
        (
            "create trigger t after update on a execute function f(); x",
            &["create trigger t after update on a execute function f()", "x"],
        ),
        (
            "create function begin() returns int as 'x;' language sql; x",
            &["create function begin() returns int as 'x;' language sql", "x"],
        ),
    ];
    for (kind, cases) in [(BOTH[0], both), (BOTH[1], both), (BOTH[0], sqlite), (BOTH[1], postgres)] {
        for (text, wanted) in cases {
            assert_eq!(
                cut(text, kind).map_err(|e| e.shown()).as_deref(),
                Ok(&wanted.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]),
                "{kind:?}: {text}"
            );
        }
    }
}

#[test]
fn what_is_never_closed_is_shown_where_it_begins() {
    let (s, p) = (&[Kind::Sqlite][..], &[Kind::Postgres][..]);
    for (kinds, text, place, message) in [
        (&BOTH[..], "select 1;\n  select 'ü', 'it''s;\nx", "2:15", "string is never closed"),
        (&BOTH, "select \"a;\n", "1:8", "name in quotes is never closed"),
        (&BOTH, "a;\n\t/* b\n", "2:2", "comment is never closed"),
        (p, "a /* b /* c */", "1:3", "comment is never closed"),
        (s, "a;\nb `c", "2:3", "name in quotes is never closed"),
        (s, "a [b", "1:3", "name in brackets is never closed"),
        (p, "do $$ a $b$ ", "1:4", "dollar quote is never closed"),
        (p, "do $b$ a $$", "1:4", "dollar quote is never closed"),
        (p, "x; select E'a\\'", "1:11", "string is never closed"),
        (p, "x; select U&\"a", "1:11", "name in quotes is never closed"),
        (s, "x;\ncreate trigger t begin select 1; x; ", "2:1", "trigger never comes to its END"),
        (s, "create trigger t begin select 1 end; x", "1:1", "trigger never comes to its END"),
        (p, "create function f() begin atomic select 1;", "1:21", "BEGIN ATOMIC never comes to its END"),
        (p, "create rule r as on x to y do (a; b", "1:31", "bracket is never closed"),
        (p, "x;\n copy t (a, b) from stdin with csv;\n1\t'\n\\.", "2:2", "COPY … FROM STDIN speaks with psql"),
        (p, "copy t to stdout", "1:1", "COPY … TO STDOUT speaks with psql"),
        (p, "x;\n\\connect other\ny", "2:1", "`\\connect` is a command of psql"),
        (s, "x;\n.read other.sql\ny", "2:1", "`.read` is a command of the sqlite3 shell"),
        (&BOTH, "x\0y", "1:2", "a NUL character"),
        (&BOTH, "-- backout:allow D01\nx", "1:1", "lacks its code or its reason"),
        (&BOTH, "x; -- backout:allow D01 y\nz", "1:4", "stands after a statement"),
        (&BOTH, "x;\n-- backout:allow D01 y\n", "2:1", "no statement follows"),
    ] {
        for kind in kinds {
            let error = cut(text, *kind).expect_err(text);
            assert!(error.to_string().starts_with(&format!("m/1_x.sql:{place}: ")), "{kind:?} {text}\n{error}");
            assert!(error.to_string().contains(message), "{kind:?} {text}\n{error}");
            assert!(error.excerpt().is_some());
        }
    }
    let error = cut("a\n  'b\n", Kind::Sqlite).unwrap_err();
    assert_eq!(error.excerpt().unwrap(), "   |\n 2 |   'b\n   |   ^");
}

#[test]
fn lines_and_what_is_silenced() {
    let text = "\n-- a\nx\ny;\n-- backout:allow D01 a b\n  -- backout:allow L01 c\nz,\n-- backout:allow C01 d\nz; w";
    let found = split(text, Kind::Sqlite, Path::new("x")).unwrap();
    assert_eq!(found.iter().map(|s| s.line).collect::<Vec<_>>(), [3, 7, 9]);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(found[1].silenced, [pair("D01", "a b"), pair("L01", "c"), pair("C01", "d")]);
    assert!(found[0].silenced.is_empty() && found[2].silenced.is_empty());
}

#[test]
fn names_as_the_database_compares_them() {
    let names = |text: &str, kind| tokens(text, kind).map(|t| t.name(kind)).collect::<Vec<_>>();
    assert_eq!(names("Ab \"C\"\"d\" [E] `F``g` 'H'", Kind::Sqlite), ["ab", "c\"d", "e", "f`g", "h"]);
    assert_eq!(names("Ab \"C\"\"d\" U&\"E\"", Kind::Postgres), ["ab", "C\"d", "E"]);
    assert_eq!(words("Create /* x */ table \"Ab\" (x 'y', 1) -- z", Kind::Postgres), ["CREATE", "TABLE", "Ab", "X"]);
    assert_eq!(tokens("a 'b", Kind::Sqlite).last().map(|t| (t.is, t.text)), Some((Is::Text, "'b")));
}

/// Text of the characters and words that matter, in any order.
fn sqlish() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "'",
        "''",
        "\"",
        "`",
        "[",
        "]",
        ";",
        ";\n",
        "--",
        "\n",
        "/*",
        "*/",
        "$$",
        "$a$",
        "$",
        "E'",
        "\\",
        "U&'",
        "(",
        ")",
        "ü",
        " ",
        "a",
        "1",
        ".",
        "create ",
        "trigger ",
        "function ",
        "begin ",
        "atomic ",
        "end",
        "case ",
        "rule ",
        "\r\n",
        "select 1;",
        "create trigger t begin select 'x'; end;",
        "-- backout:allow D01 r\n",
        "x'",
        "e",
        "+",
    ]);
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn statements_put_together_are_cut_the_same_again(text in sqlish()) {
        for kind in BOTH {
            let Ok(statements) = cut(&text, kind) else { continue };
            prop_assert_eq!(&cut(&statements.join(";"), kind).map_err(|e| e.shown()), &Ok(statements.clone()));
            prop_assert_eq!(&cut(&statements.join("\n;\n"), kind).map_err(|e| e.shown()), &Ok(statements));
        }
    }

    #[test]
    fn nothing_but_blanks_and_comments_is_between_tokens(text in sqlish()) {
        for kind in BOTH {
            let mut at = 0;
            for token in tokens(&text, kind) {
                prop_assert_eq!(&text[token.start..token.start + token.text.len()], token.text);
                prop_assert!(token.start >= at && !token.text.is_empty());
                let between = text[at..token.start].trim();
                let blank = between.is_empty() || between.starts_with("--") || between.starts_with("/*");
                prop_assert!(blank, "{}", between);
                at = token.start + token.text.len();
            }
        }
    }
}

#[test]
fn sqlite_itself_finds_the_same_statements() {
    let script = "CREATE TABLE a (id INTEGER PRIMARY KEY, [x;] TEXT DEFAULT ';', `y` TEXT, \"end\" INT); -- ;\n\
        CREATE TABLE log (what TEXT);\n\
        CREATE TRIGGER t AFTER UPDATE OF \"end\" ON a WHEN CASE NEW.id WHEN 1 THEN 1 END BEGIN\n\
          INSERT INTO log VALUES (CASE NEW.end WHEN 1 THEN 'END;' ELSE 'x' END); /* ; END; */\n\
          UPDATE a SET y = 'it''s; done' WHERE id = NEW.end; END;;\n\
        INSERT INTO a (id, end) VALUES (1, 0), (2, 0); UPDATE a SET end = 1 WHERE id = 1;\n\
        CREATE VIEW v AS SELECT /* /* */ '-- no;' AS c";
    let dump = |run: &dyn Fn(&rusqlite::Connection)| {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        run(&connection);
        let all = "SELECT group_concat(q) FROM (SELECT sql AS q FROM sqlite_schema UNION ALL SELECT what FROM log \
            UNION ALL SELECT id || y FROM a WHERE y NOT NULL)";
        connection.query_row(all, [], |row| row.get::<_, String>(0)).unwrap()
    };
    let statements = cut(script, Kind::Sqlite).unwrap();
    assert_eq!(statements.len(), 6);
    assert_eq!(
        dump(&|c| statements.iter().for_each(|s| assert_eq!(c.execute(s, []).map(|_| ()), Ok(())))),
        dump(&|c| c.execute_batch(script).unwrap())
    );
}

//! Statements are cut where PostgreSQL itself cuts them.

use std::path::Path;

use backout::plan::Kind;
use backout::revision::sql::split;
use postgres::{Client, SimpleQueryMessage};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::database::Database;

fn cut(script: &str) -> Vec<String> {
    let statements = split(script, Kind::Postgres, Path::new("x.sql"));
    statements.unwrap_or_else(|error| panic!("{}\n{script}", error.shown())).into_iter().map(|s| s.sql).collect()
}

/// What each statement of a text returns: the fields of its rows, then a dash.
fn answers(client: &mut Client, sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    for message in client.simple_query(sql).unwrap_or_else(|error| panic!("{error:?}\n{sql}")) {
        match message {
            SimpleQueryMessage::Row(row) => {
                found.extend((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()))
            }
            SimpleQueryMessage::CommandComplete(_) => found.push("-".to_owned()),
            _ => {}
        }
    }
    found
}

#[test]
fn bodies_rules_and_quotes() {
    let script = "CREATE TABLE a (id int, \"x;y\" text DEFAULT ';');
        CREATE FUNCTION plain(int) RETURNS int LANGUAGE sql AS 'SELECT 1; SELECT $1;';
        CREATE FUNCTION quoted() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM $$;$$; RETURN NEW; END; $f$;
        CREATE OR REPLACE FUNCTION body(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC
            SELECT 1 AS end; -- END;
            SELECT CASE a WHEN 1 THEN 2 ELSE 3 END; /* /* END; */ ; */
        END;
        CREATE PROCEDURE nothing() BEGIN ATOMIC END;
        CREATE PROCEDURE two() LANGUAGE sql BEGIN ATOMIC
            INSERT INTO a (id) VALUES (CASE WHEN true THEN 1 END); DELETE FROM a WHERE id = 0; END;
        CREATE RULE r AS ON DELETE TO a DO ALSO (SELECT 1; NOTIFY x;);
        CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION quoted();
        DO LANGUAGE plpgsql $$ BEGIN IF true THEN CALL two(); END IF; END $$;
        SELECT E'\\';' 
            -- goes on;
            '\\';', U&'\\003B', U&\"x;y\" FROM a;;
        SELECT plain(2), body(1)";
    let (whole, apart) = (Database::new(), Database::new());
    let statements = cut(script);
    assert_eq!(statements.len(), 11);
    let wanted = answers(&mut whole.client(), script);
    let mut client = apart.client();
    let found: Vec<String> = statements.iter().flat_map(|statement| answers(&mut client, statement)).collect();
    assert_eq!(found, wanted);
    assert_eq!(wanted.iter().filter(|answer| *answer == "-").count(), 11);
    let made = "SELECT string_agg(pg_get_functiondef(oid), '' ORDER BY proname) FROM pg_proc \
        WHERE pronamespace = 'public'::regnamespace";
    assert_eq!(answers(&mut whole.client(), made), answers(&mut client, made));
}

/// An expression of a text that is full of what ends statements elsewhere.
fn literal() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![";", "'", "\"", "\\", "--", "/*", "*/", "$$", "$a$", "\n", "END", "ü", " "]);
    (prop::collection::vec(part, 0..6), 0..6).prop_map(|(parts, form)| {
        let text = parts.concat();
        match form {
            0 => format!("'{}'", text.replace('\'', "''")),
            1 => format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
            2 => format!("e'{}'\n  -- ;'\n '\\';'", text.replace('\\', "\\\\").replace('\'', "''")),
            3 => format!("$b${text}$b$"),
            4 => format!("U&'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
            _ => format!("1 AS \"x{}\"", text.replace('"', "\"\"")),
        }
    })
}

/// What may stand between any two tokens.
fn blank() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![" ", "\n", " -- it's; \n", "/* ; ' */", "/* /* $$ */ ; */", "\t--$a$\r", " "])
}

#[test]
fn any_statements_are_cut_where_the_server_cuts_them() {
    let database = Database::new();
    let client = std::cell::RefCell::new(database.client());
    let statement = prop::collection::vec((literal(), blank()), 1..4);
    let script = prop::collection::vec((statement, blank()), 1..5);
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&script, |script| {
        let statements: Vec<String> = script
            .into_iter()
            .map(|(parts, blank)| {
                let parts: Vec<String> =
                    parts.into_iter().map(|(literal, blank)| format!("{literal}{blank}")).collect();
                format!("{blank}select{blank}{}", parts.join(","))
            })
            .collect();
        let text = statements.join(";");
        let mut client = client.borrow_mut();
        let wanted = answers(&mut client, &text);
        let found: Vec<String> = cut(&text).iter().flat_map(|statement| answers(&mut client, statement)).collect();
        prop_assert_eq!(&found, &wanted, "{}", text);
        prop_assert_eq!(found.iter().filter(|answer| *answer == "-").count(), statements.len());
        Ok(())
    });
    outcome.unwrap();
}

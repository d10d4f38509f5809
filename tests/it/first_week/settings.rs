//! Settings of the role or the database that suit others: our sessions have their own.

use backout::migrate::UpOptions;

use super::super::database::owner;
use super::super::scenarios::ok;
use super::*;

/// Each of them is what somebody has set for good reasons.
const HOSTILE: &[(&str, &str)] = &[
    ("statement_timeout", "100ms"),
    ("lock_timeout", "1ms"),
    ("idle_in_transaction_session_timeout", "150ms"),
    ("idle_session_timeout", "150ms"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_deferrable", "on"),
    ("search_path", "pg_catalog, public, evil"),
    ("TimeZone", "Pacific/Kiritimati"),
    ("DateStyle", "SQL, DMY"),
    ("IntervalStyle", "sql_standard"),
    ("bytea_output", "escape"),
    ("standard_conforming_strings", "off"),
    ("extra_float_digits", "-10"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
    ("quote_all_identifiers", "on"),
    ("row_security", "on"),
    ("synchronous_commit", "off"),
    ("client_min_messages", "debug1"),
    ("session_replication_role", "origin"),
];

fn set(database: &Database, name: &str, value: &str) {
    let value = if name == "search_path" { value.to_owned() } else { format!("'{value}'") };
    let sql = format!("ALTER ROLE {} IN DATABASE {} SET {name} = {value}", owner(), database.name);
    database.admin().batch_execute(&sql).unwrap();
}

#[test]
fn p26_settings_of_the_role_that_suit_others_are_not_ours() {
    let database = Database::new();
    // one of our statements takes longer than the timeout for others, and functions stand in front of
    // the server's for whoever has evil first
    let owner = owner();
    database
        .admin()
        .batch_execute(&format!(
            "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.2); END$$;
             CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION slow();
             CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO {owner};
             CREATE FUNCTION evil.format_type(oid, int4) RETURNS text LANGUAGE sql AS $$SELECT 'evil'$$;
             CREATE FUNCTION evil.pg_current_xact_id() RETURNS xid8 LANGUAGE sql AS $$SELECT '3'::xid8$$;"
        ))
        .unwrap();
    // the service takes longer to stop than an idle session is let live
    let service = "[[service]]\nname = \"till\"\nstop = \"sleep 0.4\"\nstart = \"true\"\n";
    let home = shop(&database.url, service);
    let more = "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
        INSERT INTO orders (id, person, what, paid) SELECT i, 1, 'order ' || i, i / 7.0 FROM n";
    home.sqlite("shop.db").execute_batch(more).unwrap();
    let mut before = rows(&home);
    for (name, value) in HOSTILE {
        set(&database, name, value);
    }
    home.up();
    // an application that lives with all of them but those that would end it
    let mut app = database.client();
    app.batch_execute(
        "SET statement_timeout = 0; SET idle_session_timeout = 0; SET idle_in_transaction_session_timeout = 0;
         SET lock_timeout = 0; SET default_transaction_read_only = off; SET client_min_messages = warning;
         SET search_path = evil, pg_catalog, public",
    )
    .unwrap();
    app.batch_execute(
        "INSERT INTO public.people (id, name, born) VALUES (8, 'Di', '02/01/2000 03:04:05');
         DELETE FROM public.orders WHERE id > 10; UPDATE public.people SET note = E'\\\\000' WHERE id = 2",
    )
    .unwrap();
    home.rollback();
    before.get_mut("orders").unwrap().retain(|r| {
        r.starts_with("int 1 ") || r.starts_with("int 2 ") || r.starts_with("int 3 ") || r.starts_with("int 10 ")
    });
    let people = before.get_mut("people").unwrap();
    people[1] = people[1].replace("null | null", &format!("null | blob {}", [0_u8].escape_ascii()));
    people.push("int 8 | text Di | text 2000-01-02 03:04:05 | null".into());
    same(&rows(&home), &before);
}

#[test]
fn p11_a_role_whose_sessions_check_no_foreign_keys_is_refused() {
    let database = Database::new();
    let home = shop(&database.url, "");
    set(&database, "session_replication_role", "replica");
    let done = home.project().up(&UpOptions::default());
    if owner() == "postgres" {
        // who may, takes it back for itself
        ok(done);
        return;
    }
    let failure = done.unwrap_err();
    assert_eq!((failure.exit, failure.code()), (4, "refused"), "{failure:?}");
    says(&failure, &["session_replication_role"]);
}

#[test]
fn p26_a_role_that_becomes_the_owner_of_its_tables_is_the_owner() {
    let mut database = Database::new();
    let (login, url) = database.role("secret");
    let owner = owner();
    let sql = format!("GRANT {owner} TO {login}; ALTER ROLE {login} IN DATABASE {} SET role = {owner}", database.name);
    database.admin().batch_execute(&sql).unwrap();
    let home = shop(&url, "");
    let before = rows(&home);
    home.up();
    sells(&mut postgres::Client::connect(&url, postgres::NoTls).unwrap());
    home.rollback();
    same(&rows(&home), &sold(before));
}

#[test]
fn a_search_path_of_which_nothing_is_there_is_named() {
    let database = Database::new();
    set(&database, "search_path", "nowhere, pg_catalog");
    let failure = shop(&database.url, "").project().plan(None).unwrap_err();
    assert_eq!(failure.exit, 4, "{failure:?}");
    says(&failure, &["no schema of the search_path (nowhere, pg_catalog)", "ALTER ROLE"]);
}

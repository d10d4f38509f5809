//! What meets a migration in its first week at somebody else's place: a role that owns its tables and nothing else, a pooler,
//! settings that suit others, sessions in the way, servers that will not have us.

mod blockers;
mod pooler;
mod refusals;
mod settings;

use backout::migrate::Failure;
use postgres::Client;

use super::database::Database;
use super::scenarios::{Dump, Home, same, sqlite_dump};

/// A small shop in SQLite that goes to a PostgreSQL server at `url`.
fn shop(url: &str, rest: &str) -> Home {
    let home = Home::new(&[("local", "sqlite:shop.db"), ("main", url)], rest);
    home.sqlite("shop.db")
        .execute_batch(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL, born DATETIME, note BLOB);
             CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, person INTEGER NOT NULL REFERENCES people (id), what TEXT, paid REAL);
             INSERT INTO people VALUES (1, 'Ann', '2000-01-02 03:04:05', x'00ff5c27'), (2, 'B''o \\', NULL, NULL);
             INSERT INTO orders (person, what, paid) VALUES (1, 'tea', 0.1), (1, 'salt', 83.09203210000001), (2, 'é', NULL);",
        )
        .unwrap();
    home.migration("20250101000000_move", "title = \"The shop moves\"\n[transfer]\nfrom = \"local\"\nto = \"main\"\n");
    home
}

fn rows(home: &Home) -> Dump {
    sqlite_dump(&home.sqlite("shop.db"))
}

/// Writes as the application would, on the target.
fn sells(client: &mut Client) {
    client
        .batch_execute(
            "BEGIN; INSERT INTO public.people (id, name, note) VALUES (7, 'Cy', '\\x5c00'); COMMIT;
             INSERT INTO public.orders (person, what, paid) VALUES (7, 'late', 0.30000000000000004);
             UPDATE public.people SET name = 'Änn' WHERE id = 1; DELETE FROM public.orders WHERE id = 3",
        )
        .unwrap();
}

/// The shop's rows after [`sells`] came back.
fn sold(mut before: Dump) -> Dump {
    let real = |r: f64| format!("real {r:?} {:016x}", r.to_bits());
    let people = before.get_mut("people").unwrap();
    people[0] = people[0].replace("text Ann", &format!("text {}", "Änn".as_bytes().escape_ascii()));
    people.push(format!("int 7 | text Cy | null | blob {}", [0x5c_u8, 0].escape_ascii()));
    let orders = before.get_mut("orders").unwrap();
    orders.pop();
    orders.push(format!("int 4 | int 7 | text late | {}", real(0.30000000000000004)));
    before.insert("sqlite_sequence".into(), vec!["text orders | int 4".into()]);
    before
}

#[track_caller]
fn says(failure: &Failure, words: &[&str]) {
    let all = format!("{failure} | {}", failure.hint);
    for word in words {
        assert!(all.contains(word), "{word:?} is not in: {all}");
    }
}

//! What capture costs the application: one-row updates by eight clients, and statements that write 100 000 rows.
//!
//!     BACKOUT_TEST_FSYNC=1 scripts/with-postgres cargo bench --bench capture [-- SECONDS ROUNDS ROWS]
//!
//! Slots of 10 s, 5 rounds, a table of 100 000 rows. Without capture, with ours as it is while soaking, and with a trigger that logs whole rows:
//! on one table, whose triggers are switched, in turns. The clients are threads of this program, each with one session that sends plain
//! statements, as pgbench does by default.

mod bench;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bench::{House, Random, Result, median, numbers};
use rusqlite::Connection;

const CLIENTS: u64 = 8;
const BULK: u64 = 100_000;

/// What is compared with ours: each change as its old and its new row, in columns of their types.
const FULL: &str = "
CREATE TABLE full_log (n bigserial, op text, was_id bigint, was_account bigint, was_amount bigint, was_note text,
    id bigint, account bigint, amount bigint, note text);
CREATE FUNCTION full_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO full_log (op, id, account, amount, note) VALUES ('I', NEW.id, NEW.account, NEW.amount, NEW.note);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO full_log (op, was_id, was_account, was_amount, was_note) VALUES ('D', OLD.id, OLD.account, OLD.amount, OLD.note);
    ELSE
        INSERT INTO full_log (op, was_id, was_account, was_amount, was_note, id, account, amount, note)
            VALUES ('U', OLD.id, OLD.account, OLD.amount, OLD.note, NEW.id, NEW.account, NEW.amount, NEW.note);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER full_log AFTER INSERT OR UPDATE OR DELETE ON entries FOR EACH ROW EXECUTE FUNCTION full_log();";

#[derive(Clone, Copy, PartialEq)]
enum Capture {
    None,
    Ours,
    Full,
}

const ALL: [(Capture, &str); 3] = [
    (Capture::None, "no capture"),
    (Capture::Ours, "Backout's capture"),
    (Capture::Full, "a trigger that logs whole rows"),
];

/// The table with just this trigger, the logs empty and nothing left to vacuum.
fn switch(house: &House, to: Capture) -> Result<()> {
    let mut c = house.client()?;
    let set = |on: bool, how: &str| if on { how.to_owned() } else { "DISABLE".to_owned() };
    c.batch_execute(&format!(
        "ALTER TABLE entries {} TRIGGER backout_capture_row; ALTER TABLE entries {} TRIGGER full_log;
         TRUNCATE full_log; TRUNCATE backout.log_0",
        set(to == Capture::Ours, "ENABLE ALWAYS"),
        set(to == Capture::Full, "ENABLE")
    ))?;
    c.batch_execute("VACUUM ANALYZE entries")?;
    Ok(c.batch_execute("CHECKPOINT")?)
}

/// Transactions a second.
fn updates(house: &House, seconds: u64, rows: u64) -> Result<f64> {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut sessions = (0..CLIENTS).map(|_| house.client()).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    std::thread::scope(|threads| -> Result<()> {
        let (stop, done) = (&stop, &done);
        let mut working = Vec::new();
        for (n, session) in (0..).zip(&mut sessions) {
            working.push(threads.spawn(move || -> std::result::Result<(), postgres::Error> {
                let mut random = Random(n);
                while !stop.load(SeqCst) {
                    let (id, by) = (1 + random.below(rows), random.below(10_000));
                    session.batch_execute(&format!("UPDATE entries SET amount = amount + {by} WHERE id = {id}"))?;
                    done.fetch_add(1, SeqCst);
                }
                Ok(())
            }));
        }
        std::thread::sleep(Duration::from_secs(seconds));
        stop.store(true, SeqCst);
        for thread in working {
            thread.join().map_err(|_| "a client has failed")??;
        }
        Ok(())
    })?;
    Ok(done.load(SeqCst) as f64 / begun.elapsed().as_secs_f64())
}

/// INSERT, UPDATE and DELETE of many rows, each in milliseconds.
fn bulk(mut run: impl FnMut(&str) -> Result<()>, insert: &str) -> Result<[f64; 3]> {
    let mut out = [0.0; 3];
    let all = [
        insert,
        "UPDATE entries SET amount = amount + 1 WHERE id > 1000000000",
        "DELETE FROM entries WHERE id > 1000000000",
    ];
    for (sql, took) in all.iter().zip(&mut out) {
        let begun = Instant::now();
        run(sql)?;
        *took = begun.elapsed().as_secs_f64() * 1000.0;
    }
    Ok(out)
}

fn bulk_sqlite(from: &Path, file: &Path) -> Result<[f64; 3]> {
    std::fs::copy(from, file)?;
    let db = Connection::open(file)?;
    bulk(
        |sql| Ok(db.execute_batch(sql)?),
        &format!(
            "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {BULK})
             INSERT INTO entries SELECT 1000000000 + n, n % 1000, n, 'note ' || n FROM g"
        ),
    )
}

fn main() -> Result<()> {
    let asked = numbers(&[10, 5, 100_000]);
    let (seconds, rounds) = (asked[0], asked.get(1).copied().unwrap_or(5));
    let rows = asked.get(2).copied().unwrap_or(100_000);
    println!("\n## Capture\n");
    println!("{}; {}; SQLite {}.", bench::machine(), bench::server_version()?, rusqlite::version());
    println!("A table of {rows} rows: a bigint key, two more numbers, one of them indexed, a short text.\n");
    let data = bench::ledger(rows)?;
    let house = House::new(&data)?;
    house.backout(&["up", "--until", "ready", "--no-verify"])?;
    let (captured, file) = (house.path("captured.db"), house.path("measured.db"));
    std::fs::copy(house.path("app.db"), &captured)?;
    house.backout(&["cutover"])?;
    house.client()?.batch_execute(FULL)?;

    let mut rates: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds {
        // each is the first as often as the others
        for n in 0..3 {
            let n = (n + round as usize) % 3;
            switch(&house, ALL[n].0)?;
            rates[n].push(updates(&house, seconds, rows)?);
        }
    }
    println!("One-row updates, {CLIENTS} clients, PostgreSQL, {seconds} s each.\n");
    println!("| | transactions a second, median | each | lost, median of rounds |\n|---|---:|---|---:|");
    for ((_, name), all) in ALL.iter().zip(&rates) {
        let each: Vec<String> = all.iter().map(|r| format!("{r:.0}")).collect();
        let lost = 100.0 - 100.0 * median(all.iter().zip(&rates[0]).map(|(r, none)| r / none));
        println!("| {name} | {:.0} | {} | {lost:.1} % |", median(all.iter().copied()), each.join(" "));
    }

    let insert = format!(
        "INSERT INTO entries SELECT 1000000000 + n, n % 1000, n, 'note ' || n FROM generate_series(1, {BULK}) n"
    );
    let mut took: Vec<(String, Vec<[f64; 3]>)> = Vec::new();
    let mut note = |name: String, one: [f64; 3]| match took.iter_mut().find(|(n, _)| *n == name) {
        Some((_, all)) => all.push(one),
        None => took.push((name, vec![one])),
    };
    for _ in 0..rounds {
        for (capture, name) in ALL {
            switch(&house, capture)?;
            let mut c = house.client()?;
            note(format!("PostgreSQL, {name}"), bulk(|sql| Ok(c.batch_execute(sql)?), &insert)?);
        }
        note("SQLite, no capture".to_owned(), bulk_sqlite(&data, &file)?);
        note("SQLite, Backout's capture".to_owned(), bulk_sqlite(&captured, &file)?);
    }
    println!("\nOne statement for {BULK} rows, milliseconds, medians of {rounds} rounds in turns.\n");
    println!("| | INSERT | UPDATE | DELETE | × without |\n|---|---:|---:|---:|---|");
    let mut without = [0.0; 3];
    for (name, all) in &took {
        let now = [0, 1, 2].map(|i| median(all.iter().map(|one| one[i])));
        if name.ends_with("no capture") {
            without = now;
        }
        let times: Vec<String> = now.iter().zip(without).map(|(n, w)| format!("{:.1}", n / w)).collect();
        println!("| {name} | {:.0} | {:.0} | {:.0} | {} |", now[0], now[1], now[2], times.join(" "));
    }
    Ok(())
}

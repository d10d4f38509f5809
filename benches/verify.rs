//! Comparing two stores in full, beside reladiff.
//!
//!     BACKOUT_TEST_FSYNC=1 scripts/with-postgres cargo bench --bench verify [-- ROWS ROUNDS]
//!
//! Backout compares a SQLite file and a PostgreSQL database, every column of every row, both ways. reladiff does not read SQLite:
//! it compares the same tables with a copy of them in the same server, three text columns of each.

mod bench;

use bench::{House, Result, from_pypi, journal, median, numbers, run, version};

fn main() -> Result<()> {
    let asked = numbers(&[1_000_000, 5]);
    let (rows, rounds) = (asked[0], asked.get(1).copied().unwrap_or(5));
    println!("\n## Comparing in full, {} rows\n", rows + rows / 20);
    println!("{}; {}.", bench::machine(), bench::server_version()?);
    let house = House::new(&journal(rows)?)?;
    house.backout(&["up", "--until", "ready", "--no-verify"])?;
    let reladiff = from_pypi("reladiff", "reladiff", "reladiff[postgresql]");
    if let Some(reladiff) = &reladiff {
        println!("reladiff {}.", version(reladiff, "--version"));
        house.client()?.batch_execute(
            "CREATE TABLE users_copy AS TABLE users; ALTER TABLE users_copy ADD PRIMARY KEY (id);
             CREATE TABLE journal_copy AS TABLE journal_entries; ALTER TABLE journal_copy ADD PRIMARY KEY (id); ANALYZE",
        )?;
    }
    // reladiff knows no other name of the scheme, and ends with 0 whatever happens: it says how many rows it has compared
    let url = house.url.replacen("postgres://", "postgresql://", 1);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(house.backout(&["verify"])?);
        if let Some(reladiff) = &reladiff {
            let mut both = bench::Ran::default();
            let pairs = [
                ("users", "users_copy", ["email", "hashed_password", "id"]),
                ("journal_entries", "journal_copy", ["title", "body", "user_id"]),
            ];
            for (table, copy, columns) in pairs {
                let columns = columns.iter().filter(|c| **c != "id").flat_map(|c| ["-c", c]);
                let all: Vec<&str> =
                    [&url, table, &url, copy, "-k", "id", "--stats"].into_iter().chain(columns).collect();
                let ran = run(house.folder.path(), reladiff, &all)?;
                if !ran.out.contains(" rows in table A") {
                    return Err(format!("reladiff compared nothing: {}", ran.out).into());
                }
                both.seconds += ran.seconds;
                both.cpu += ran.cpu;
                both.peak = both.peak.max(ran.peak);
            }
            theirs.push(both);
        }
    }
    let ratio = median(theirs.iter().map(|r| r.seconds)) / median(ours.iter().map(|r| r.seconds));
    println!("\n{}", bench::HEAD);
    bench::row("`backout verify`, SQLite with PostgreSQL, every column, both ways", &ours, "");
    if !theirs.is_empty() {
        bench::row(
            "`reladiff`, PostgreSQL with itself, text columns",
            &theirs,
            &format!("{ratio:.2} × Backout's time"),
        );
    }
    Ok(())
}

//! JSON → SQLite, beside `sqlite-utils insert`; and the way back, which writes the file anew.
//!
//!     cargo bench --bench records [-- RECORDS ROUNDS]

mod bench;

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use bench::{Random, Result, from_pypi, median, numbers, run, version};

fn main() -> Result<()> {
    let asked = numbers(&[1_000_000, 3]);
    let (records, rounds) = (asked[0], asked.get(1).copied().unwrap_or(3));
    let data = file(records)?;
    println!("\n## JSON → SQLite, {records} records\n");
    println!("{}; file of {} MB.", bench::machine(), data.metadata()?.len() / 1_000_000);
    let peer = from_pypi("sqlite-utils", "sqlite-utils", "sqlite-utils");
    if let Some(peer) = &peer {
        println!("{}.", version(peer, "--version"));
    }
    let (mut up, mut back, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let mut estimate = f64::NAN;
    for _ in 0..rounds {
        let house = house(&data)?;
        if estimate.is_nan() {
            let said = bench::backout(house.path(), &["plan"])?.json()?;
            estimate = said["estimate"]["seconds"].as_f64().unwrap_or(0.0);
        }
        up.push(bench::backout(house.path(), &["up", "--writers-stopped"])?);
        let db = rusqlite::Connection::open(house.path().join("app.db"))?;
        db.execute_batch("UPDATE records SET title = 'changed' WHERE rowid % 1000 = 0")?;
        db.close().map_err(|(_, e)| e)?;
        back.push(bench::backout(house.path(), &["rollback", "--no-verify"])?);
        if let Some(peer) = &peer {
            let folder = tempfile::tempdir_in(bench::folder("run")?)?;
            let path = data.display().to_string();
            theirs.push(run(folder.path(), peer, &["insert", "app.db", "records", &path, "--pk", "id"])?);
        }
    }
    println!("Estimated by `plan`: {estimate:.1} s; actual: {:.1} s.", median(up.iter().map(|r| r.seconds)));
    let ratio = median(theirs.iter().map(|r| r.seconds)) / median(up.iter().map(|r| r.seconds));
    println!("\n{}", bench::HEAD);
    bench::row("`backout up`, compared and cut over", &up, "");
    if !theirs.is_empty() {
        bench::row("`sqlite-utils insert`", &theirs, &format!("{ratio:.2} × Backout's time"));
    }
    bench::row("`backout rollback --no-verify` of a thousandth of the records", &back, "");
    Ok(())
}

fn house(data: &Path) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir_in(bench::folder("run")?)?;
    fs::copy(data, folder.path().join("records.json"))?;
    let stores = "[stores]\nfiles = \"json:records.json\"\nlocal = \"sqlite:app.db\"\n";
    fs::write(folder.path().join("backout.toml"), stores)?;
    fs::create_dir(folder.path().join("migrations"))?;
    let text = "title = \"Records\"\n[transfer]\nfrom = \"files\"\nto = \"local\"\n\
        [[transfer.table]]\nsource = \"$\"\nkey = \"id\"\ninto = \"records\"\n";
    fs::write(folder.path().join("migrations/20250301090000_records.toml"), text)?;
    Ok(folder)
}

/// An array of records of 230 bytes: id, title, text that is not all ASCII, numbers, a truth value, a list, nulls.
fn file(records: u64) -> Result<PathBuf> {
    let path = bench::folder("data")?.join(format!("records-{records}.json"));
    if !path.exists() {
        let part = path.with_extension("part");
        let (mut out, mut random) = (BufWriter::new(fs::File::create(&part)?), Random(5));
        out.write_all(b"[")?;
        for i in 0..records {
            let (id, score, done) = (random.uuid(), random.below(100_000) as f64 / 100.0, random.below(2) == 0);
            let due = if i % 3 == 0 { "null".to_owned() } else { format!("\"2025-01-{:02}T10:00:00Z\"", 1 + i % 28) };
            write!(
                out,
                "{}\n  {{\"id\": \"{id}\", \"title\": \"Reminder {i}\", \"text\": \"épsilon alpha beta gamma 日本 {i}\", \
                 \"score\": {score:?}, \"count\": {}, \"done\": {done}, \"due\": {due}, \"tags\": [\"a\", \"b{}\"]}}",
                if i == 0 { "" } else { "," },
                random.below(1000),
                i % 10
            )?;
        }
        out.write_all(b"\n]\n")?;
        out.into_inner()?.sync_all()?;
        fs::rename(&part, &path)?;
    }
    Ok(path)
}

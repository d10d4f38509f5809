//! SQLite → PostgreSQL: `backout up` with every row compared, and without; beside pgloader, and beside the least that any tool
//! has to do, a binary COPY of prepared files with the same DDL.
//!
//!     BACKOUT_TEST_FSYNC=1 scripts/with-postgres cargo bench --bench transfer [-- ROWS ROUNDS]
//!
//! ROWS journal entries and a twentieth as many users (1 000 000); ROUNDS alternations (5). With more than 2 000 000 rows Backout
//! runs alone: that run is for its memory.

mod bench;

use std::fmt::Write as _;

use bench::{House, Ran, Result, journal, median, numbers, program, run, version};

fn main() -> Result<()> {
    let asked = numbers(&[1_000_000, 5]);
    let (rows, rounds) = (asked[0], asked.get(1).copied().unwrap_or(5));
    let data = journal(rows)?;
    let peers = rows <= 2_000_000;
    println!("\n## SQLite → PostgreSQL, {} rows\n", rows + rows / 20);
    println!(
        "{}; {}; SQLite file {} MB.",
        bench::machine(),
        bench::server_version()?,
        data.metadata()?.len() / 1_000_000
    );
    let pgloader = program("pgloader").filter(|_| peers);
    match &pgloader {
        Some(p) => println!("pgloader: {}.", version(p, "--version")),
        None => println!("pgloader is not run here."),
    }
    let (mut verified, mut bare, mut copied) = (Vec::new(), Vec::new(), Vec::new());
    let (mut loaded, mut less, mut died) = (Vec::new(), Vec::new(), 0);
    let mut estimate = None;
    let mut files: Option<Prepared> = None;
    for _ in 0..rounds {
        let house = House::new(&data)?;
        if estimate.is_none() {
            estimate = Some(house.backout(&["plan"])?.json()?["estimate"].clone());
        }
        verified.push(house.backout(&["up", "--until", "ready"])?);
        if files.is_none() && peers {
            files = Some(Prepared::from(&house)?);
        }
        let size = "SELECT sum(pg_total_relation_size(oid))::int8 FROM pg_class WHERE relkind = 'r' \
            AND relnamespace = 'public'::regnamespace";
        let disk: i64 = house.client()?.query_one(size, &[])?.get(0);
        if let Some(e) = estimate.take_if(|e| e["seconds"].is_number()) {
            let seconds = median(verified.iter().map(|r| r.seconds));
            println!(
                "Estimated by `plan`: {:.1} s and {:.0} MB on disk; actual: {seconds:.1} s and {:.0} MB.",
                e["seconds"].as_f64().unwrap_or(f64::NAN),
                e["disk_bytes"].as_f64().unwrap_or(f64::NAN) / 1e6,
                disk as f64 / 1e6
            );
            estimate = Some(serde_json::Value::Null);
        }
        drop(house);
        if !peers {
            continue;
        }
        let house = House::new(&data)?;
        bare.push(house.backout(&["up", "--until", "ready", "--no-verify"])?);
        drop(house);
        if let Some(files) = &files {
            copied.push(files.load(&House::new(&data)?)?);
        }
        if let Some(pgloader) = &pgloader {
            // as it comes it reads 100 000 rows ahead, for which its heap of 1 GiB is at times too small
            let pgloader = |more: &[&str]| -> Result<Ran> {
                let house = House::new(&data)?;
                let path = house.path("app.db").display().to_string();
                run(house.folder.path(), pgloader, &[more, &[&path, &house.url]].concat())
            };
            match pgloader(&[]) {
                Ok(ran) => loaded.push(ran),
                Err(_) => died += 1,
            }
            less.push(pgloader(&["--with", "prefetch rows = 25000"])?);
        }
    }
    let seconds = |all: &[Ran]| median(all.iter().map(|r| r.seconds));
    println!("\n{}", bench::HEAD);
    bench::row("`backout up --until ready`, every column of every row compared both ways", &verified, "");
    let beside = |all: &[Ran]| format!("{:.2} × Backout's time, compared", seconds(all) / seconds(&verified));
    if !loaded.is_empty() {
        let how = if died > 0 { format!("; died of its heap in {died} of {rounds}") } else { String::new() };
        bench::row(&format!("`pgloader app.db URL`, nothing compared{how}"), &loaded, &beside(&loaded));
    }
    if !less.is_empty() {
        bench::row("`pgloader --with \"prefetch rows = 25000\" app.db URL`, nothing compared", &less, &beside(&less));
    }
    if peers {
        bench::row("`backout up --until ready --no-verify`", &bare, "");
        let beside = format!("Backout without comparing: {:.2} × this", seconds(&bare) / seconds(&copied));
        bench::row("binary COPY of prepared files, same DDL", &copied, &beside);
    }
    println!("\n(Own CPU and peak are of the command's own process, without the server's.)");
    Ok(())
}

/// What a bare load needs: both tables as files, and the definitions before and after them.
struct Prepared {
    folder: tempfile::TempDir,
    psql: String,
}

impl Prepared {
    fn from(house: &House) -> Result<Prepared> {
        let folder = tempfile::tempdir_in(bench::folder("run")?)?;
        let psql = program("psql").ok_or("there is no psql")?;
        let dump = program("pg_dump").ok_or("there is no pg_dump")?;
        let part = |section: &str| -> Result<String> {
            let section = format!("--section={section}");
            let all = run(folder.path(), &dump, &["--schema=public", "--no-owner", &section, &house.url])?.out;
            // our seals are no part of the tables
            let ours = |s: &str| s.contains("backout") || s.contains("CREATE SCHEMA") || s.starts_with('\\');
            let kept: Vec<&str> = all.split(";\n").filter(|s| !ours(s)).collect();
            Ok(kept.join(";\n"))
        };
        let (before, after) = (part("pre-data")?, part("post-data")?);
        let mut script = format!("SET maintenance_work_mem = '256MB';\n{before};\n");
        for table in ["users", "journal_entries"] {
            let copy = format!("\\copy public.{table} to '{table}.bin' (format binary)");
            run(folder.path(), &psql, &["-qX", &house.url, "-c", &copy])?;
            writeln!(script, "\\copy public.{table} from '{table}.bin' (format binary)")?;
        }
        writeln!(script, "{after};\nANALYZE;")?;
        std::fs::write(folder.path().join("load.sql"), script)?;
        Ok(Prepared { folder, psql })
    }

    fn load(&self, house: &House) -> Result<Ran> {
        run(self.folder.path(), &self.psql, &["-qX", "-v", "ON_ERROR_STOP=1", "-f", "load.sql", &house.url])
    }
}

//! Two hundred SQL revisions up and down, beside Alembic and dbmate, on SQLite; and what `current` takes.
//!
//!     BACKOUT_TEST_ALEMBIC=$(scripts/peers alembic) BACKOUT_TEST_DBMATE=$(scripts/peers dbmate) cargo bench --bench revisions [-- ROUNDS]
//!
//! The project is made with Alembic itself (`tests/revisions/alembic_project.py`) and imported; dbmate runs the files that come of that.

mod bench;

use std::path::Path;
use std::process::Command;

use bench::{Result, backout, folder, machine, median, numbers, run, version};

const COUNT: &str = "200";

fn main() -> Result<()> {
    let rounds = numbers(&[5])[0];
    let (Ok(alembic), Ok(dbmate)) = (std::env::var("BACKOUT_TEST_ALEMBIC"), std::env::var("BACKOUT_TEST_DBMATE"))
    else {
        println!("\nAlembic and dbmate are not here: BACKOUT_TEST_ALEMBIC and BACKOUT_TEST_DBMATE name them.\n");
        return Ok(());
    };
    println!("\n## {COUNT} SQL revisions on SQLite\n");
    println!("{}; {}, {}.", machine(), version(&alembic, "--version"), version(&dbmate, "--version"));
    println!(
        "Seconds of whole commands, medians of {rounds} alternating rounds, a new database in each. dbmate goes back by one \
         revision per command.\n"
    );
    let place = tempfile::tempdir_in(folder("run")?)?;
    let python = Path::new(&alembic).with_file_name("python");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/revisions/alembic_project.py");
    let made = Command::new(&python)
        .args([script, &place.path().display().to_string(), "sqlite:///app.db", COUNT])
        .current_dir(place.path())
        .output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned().into());
    }
    let at = place.path();
    let name = at.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    backout(at, &["import", "--from", "alembic", "--python", &python.display().to_string()])?;
    let fresh = || {
        for name in ["app.db", "app.db-wal", "app.db-shm"] {
            let _ = std::fs::remove_file(at.join(name));
        }
        rusqlite::Connection::open(at.join("app.db")).map(drop)
    };
    let mate = ["--url", "sqlite:app.db", "--migrations-dir", "migrations", "--no-dump-schema"];
    let mut took: [Vec<f64>; 8] = Default::default();
    for _ in 0..rounds {
        fresh()?;
        let up = backout(at, &["up"])?;
        let proofs = up.json()?["proof_seconds"].as_f64().ok_or("up did not say what its proofs took")?;
        took[0].push(up.seconds - proofs);
        took[6].push(proofs);
        took[1].push(backout(at, &["rollback", "base", "--confirm", &name])?.seconds);
        fresh()?;
        took[2].push(run(at, &alembic, &["upgrade", "head"])?.seconds);
        took[3].push(run(at, &alembic, &["downgrade", "base"])?.seconds);
        fresh()?;
        took[4].push(run(at, &dbmate, &[&mate[..], &["up"]].concat())?.seconds);
        let begun = std::time::Instant::now();
        for _ in 0..COUNT.parse::<usize>()? {
            if run(at, &dbmate, &[&mate[..], &["rollback"]].concat()).is_err() {
                break;
            }
        }
        took[5].push(begun.elapsed().as_secs_f64());
    }
    fresh()?;
    backout(at, &["up", "--no-verify"])?;
    for _ in 0..50 {
        took[7].push(backout(at, &["current"])?.seconds);
    }
    let [up, down, alembic_up, alembic_down, mate_up, mate_down, proven, current] = took.map(median);
    println!("| | up | down | ratio up | ratio down |\n|---|---:|---:|---:|---:|");
    println!("| Backout, proofs apart | {up:.2} | {down:.2} | | |");
    for (name, u, d) in [("Alembic", alembic_up, alembic_down), ("dbmate", mate_up, mate_down)] {
        println!("| {name} | {u:.2} | {d:.2} | {:.1} × | {:.1} × |", u / up, d / down);
    }
    println!("\nEach down is proven before: {proven:.2} s more for all of them.");
    println!(
        "\n`backout current` with {COUNT} revisions applied, median of 50 whole commands: {:.0} ms.",
        current * 1000.0
    );
    Ok(())
}

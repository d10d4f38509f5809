//! A rollback of 1 000 changed rows, from the lock to the open source, at several sizes of the table.
//!
//!     BACKOUT_TEST_FSYNC=1 scripts/with-postgres cargo bench --bench rollback [-- ROUNDS ROWS…]
//!
//! ROUNDS runs each (5), at 10⁴, 10⁶ and 10⁷ rows.

mod bench;

use bench::{House, Result, ledger, median, numbers};

fn main() -> Result<()> {
    let asked = numbers(&[5, 10_000, 1_000_000, 10_000_000]);
    println!("\n## Rollback of 1 000 changed rows, PostgreSQL → SQLite\n");
    println!("{}; {}.", bench::machine(), bench::server_version()?);
    println!("900 updates, 50 inserts and 50 deletes since the cutover, not carried before; services apart.\n");
    println!(
        "| rows | freeze to thaw, median ms | each | whole command, median s | peak MiB |\n|---:|---:|---|---:|---:|"
    );
    for &rows in &asked[1..] {
        let data = ledger(rows)?;
        let (mut frozen, mut whole, mut peak) = (Vec::new(), Vec::new(), 0.0f64);
        for _ in 0..asked[0] {
            let house = House::new(&data)?;
            house.backout(&["up", "--no-verify"])?;
            house.client()?.batch_execute(&format!(
                "UPDATE entries SET amount = amount + 1 WHERE id % greatest({rows} / 900, 1) = 0 AND id <= {rows} / 900 * 900;
                 INSERT INTO entries (account, amount, note) SELECT n, n, 'new' FROM generate_series(1, 50) n;
                 DELETE FROM entries WHERE id IN (SELECT 1 + n * greatest({rows} / 60, 1) FROM generate_series(1, 50) n)"
            ))?;
            let ran = house.backout(&["rollback", "--no-verify"])?;
            let said = ran.json()?;
            frozen.push(said["frozen_ms"].as_f64().ok_or("the rollback did not say how long it froze")?);
            whole.push(ran.seconds);
            peak = peak.max(ran.peak);
        }
        let each: Vec<String> = frozen.iter().map(|ms| format!("{ms:.0}")).collect();
        let (ms, s) = (median(frozen.clone()), median(whole));
        println!("| {rows} | {ms:.0} | {} | {s:.2} | {peak:.0} |", each.join(" "));
    }
    Ok(())
}

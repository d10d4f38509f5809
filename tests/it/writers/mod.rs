//! Eight writers, each with a ledger of what it was told is written, while the data goes up, back, up and back again:
//! nothing is lost, nothing is invented.
//!
//! A writer does as an application does: it reads the switch in `.env`, writes where that points to, and where it is refused
//! it connects anew and tries again. Each has rows of its own, so that its ledger is exact. `BACKOUT_TEST_WRITES` says how
//! many writes are waited for in each state instead of 80, `BACKOUT_TEST_SEED` plays the same choices again.

mod ledger;
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use backout::migrate::{Failure, Outcome, Project, RollbackOptions, UpOptions};
use backout::store::Phase;
use tempfile::TempDir;

use crate::database::Database;
use crate::faults::Random;
use crate::faults::servers::Server;
use crate::room::{Kind, Pair, folder};
use ledger::{Ledger, Rows};
use session::{Session, Told};

const WRITERS: usize = 8;

/// What all writers share.
struct House {
    pair: Pair,
    folder: TempDir,
    databases: [Option<Database>; 2],
    stop: AtomicBool,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    maybe: AtomicU64,
    /// Held for writing while the ledgers are compared, so that nobody writes.
    pause: RwLock<()>,
    /// The one process that writes a JSON file.
    service: Mutex<()>,
}

impl House {
    fn new(pair: Pair, other: Option<&Server>) -> House {
        let folder = folder();
        let target = || other.map_or_else(Database::new, Server::database);
        let databases = [(pair.from == Kind::Postgres).then(Database::new), (pair.to == Kind::Postgres).then(target)];
        let house = House {
            pair,
            folder,
            databases,
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            maybe: AtomicU64::new(0),
            pause: RwLock::new(()),
            service: Mutex::new(()),
        };
        let path = |name: &str| house.folder.path().join(name);
        std::fs::create_dir(path("migrations")).unwrap();
        std::fs::write(path(".env"), "STORE=old\n").unwrap();
        std::fs::write(path("running"), "").unwrap();
        let config = format!(
            "[project]\nname = \"writers\"\n[stores]\none = {:?}\ntwo = {:?}\n\
             [[service]]\nname = \"app\"\nstop = \"rm -f running; while test -e busy; do sleep 0.002; done\"\n\
             start = \"touch running\"\ncheck = \"test -f running\"\n\
             [[switch]]\ndotenv = \".env\"\nset = {{ STORE = \"new\" }}\n",
            house.url(0),
            house.url(1)
        );
        std::fs::write(path("backout.toml"), config).unwrap();
        let mut migration = "title = \"One to two\"\n[transfer]\nfrom = \"one\"\nto = \"two\"\n".to_owned();
        if pair.from == Kind::Json {
            for table in ["accounts", "entries", "scratch"] {
                migration.push_str(&format!(
                    "[[transfer.table]]\nsource = \"/{table}\"\nkey = \"id\"\ninto = \"{table}\"\n"
                ));
            }
        }
        std::fs::write(path("migrations/20250301090000_one_to_two.toml"), migration).unwrap();
        session::create(&house);
        house
    }

    fn kind(&self, side: usize) -> Kind {
        if side == 0 { self.pair.from } else { self.pair.to }
    }

    fn path(&self, side: usize) -> PathBuf {
        let ending = if self.kind(side) == Kind::Json { "json" } else { "db" };
        self.folder.path().join(format!("{}.{ending}", ["source", "target"][side]))
    }

    fn url(&self, side: usize) -> String {
        let name = self.path(side).file_name().unwrap().to_str().unwrap().to_owned();
        match self.kind(side) {
            Kind::Json => format!("json:{name}"),
            Kind::Sqlite => format!("sqlite:{name}"),
            Kind::Postgres => self.databases[side].as_ref().unwrap().url.clone(),
        }
    }

    /// Where the application is to write, by its configuration.
    fn side(&self) -> usize {
        let text = std::fs::read_to_string(self.folder.path().join(".env")).unwrap();
        usize::from(text.contains("STORE=new"))
    }

    fn project(&self) -> Project {
        Project::open(self.folder.path(), &|_| None).unwrap()
    }

    /// Writes on and on, each write acknowledged or not, and says what must be there.
    fn writer(&self, n: usize, seed: u64, ledger: &Mutex<Ledger>) {
        let mut random = Random(seed);
        let mut session = None;
        while !self.stop.load(Ordering::SeqCst) {
            {
                let _going = self.pause.read().unwrap();
                let side = self.side();
                let mut ledger = ledger.lock().unwrap();
                let write = ledger.next(n, &mut random, self.kind(side), self.pair.from);
                let told = Session::follow(&mut session, self, side).and_then(|s| s.write(self, &write, &ledger.rows));
                match told {
                    Ok(()) => {
                        ledger.rows = write.after;
                        self.acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(Told::Refused) => {
                        session = None;
                        self.refused.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(Told::RolledBack) => {}
                    Err(Told::Maybe) => {
                        // the answer is lost, so that either may be true; the next look says which
                        self.maybe.fetch_add(1, Ordering::SeqCst);
                        ledger.or = Some(write.after);
                        return;
                    }
                }
            }
            // a file is written whole, and somebody else has to find it still now and then
            let rest = match (self.kind(self.side()), self.pair.from) {
                (Kind::Json, _) => 100_000,
                (_, Kind::Json) => 20_000,
                _ => 3_000,
            };
            std::thread::sleep(Duration::from_micros(rest + random.below(3000)));
        }
    }
}

/// Waits until so many more writes are acknowledged.
fn waits_for(house: &House, more: u64) {
    let mut done = house.acknowledged.load(Ordering::SeqCst);
    let (goal, mut since) = (done + more, Instant::now());
    while done < goal {
        assert!(since.elapsed() < Duration::from_secs(60), "nobody can write any more");
        std::thread::sleep(Duration::from_millis(5));
        let now = house.acknowledged.load(Ordering::SeqCst);
        if now > done {
            (done, since) = (now, Instant::now());
        }
    }
}

/// Again and again where others were in the way, as the command says.
fn insist(what: &str, phase: Phase, mut command: impl FnMut() -> Result<Outcome, Failure>) {
    let begun = Instant::now();
    for _ in 0..20 {
        match command() {
            Ok(out) => {
                println!("{what}: {:.1} s, frozen {:?} ms", begun.elapsed().as_secs_f64(), out.frozen_ms);
                return assert_eq!(out.phase, Some(phase));
            }
            Err(e) => {
                println!("{what}: {e}");
                assert!([5, 6, 7].contains(&e.exit), "{what}: {e:?}");
            }
        }
    }
    panic!("{what}: never came through");
}

/// All that is on the live side is what the ledgers say, and the other way round.
fn compare(house: &House, side: usize, ledgers: &[Mutex<Ledger>]) {
    let _nobody_writes = house.pause.write().unwrap();
    let found = session::rows(house, side);
    let mut told = Rows::new();
    for (n, ledger) in ledgers.iter().enumerate() {
        let mut ledger = ledger.lock().unwrap();
        if let Some(or) = ledger.or.take() {
            let mine: Rows =
                found.iter().filter(|(id, _)| ledger::owner(id) == n).map(|(k, v)| (k.clone(), v.clone())).collect();
            if mine == or {
                ledger.rows = or;
            }
        }
        told.extend(ledger.rows.clone());
    }
    let differ = |a: &Rows, b: &Rows| -> BTreeMap<_, _> {
        a.iter().filter(|(k, v)| b.get(*k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let (lost, invented) = (differ(&told, &found), differ(&found, &told));
    assert!(
        lost.is_empty() && invented.is_empty(),
        "lost or not as told: {lost:#?}\nnot told or otherwise: {invented:#?}"
    );
}

fn there_and_back_twice(pair: Pair) {
    there_and_back_on(pair, None);
}

/// With the target on this other server.
fn there_and_back_on(pair: Pair, other: Option<&Server>) {
    let mut random = Random::new(&format!("{pair}"));
    let writes = std::env::var("BACKOUT_TEST_WRITES").map_or(80, |n| n.parse().unwrap());
    let house = House::new(pair, other);
    let ledgers: Vec<Mutex<Ledger>> = (0..WRITERS).map(|_| Mutex::default()).collect();
    let begun = Instant::now();
    std::thread::scope(|threads| {
        let stop = Stop(&house.stop);
        for (n, ledger) in ledgers.iter().enumerate() {
            let seed = random.below(u64::MAX);
            let house = &house;
            threads.spawn(move || house.writer(n, seed, ledger));
        }
        waits_for(&house, writes);
        for _ in 0..2 {
            let again = UpOptions { acknowledge: true, ..UpOptions::default() };
            insist("up", Phase::Soaking, || house.project().up(&again));
            assert_eq!(house.side(), 1);
            waits_for(&house, writes);
            compare(&house, 1, &ledgers);
            insist("shadow", Phase::Soaking, || house.project().shadow());
            waits_for(&house, writes);
            insist("rollback", Phase::RolledBack, || house.project().rollback(&RollbackOptions::default()));
            assert_eq!(house.side(), 0);
            compare(&house, 0, &ledgers);
            waits_for(&house, writes);
            compare(&house, 0, &ledgers);
        }
        drop(stop);
    });
    println!(
        "{pair}: {} writes acknowledged, {} refused, {} whose answer was lost; {:.1} s",
        house.acknowledged.load(Ordering::SeqCst),
        house.refused.load(Ordering::SeqCst),
        house.maybe.load(Ordering::SeqCst),
        begun.elapsed().as_secs_f64()
    );
}

/// The writers stop when this goes, by a panic too.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn json_to_sqlite() {
    there_and_back_twice(Pair { from: Kind::Json, to: Kind::Sqlite });
}

#[test]
fn json_to_postgres() {
    there_and_back_twice(Pair { from: Kind::Json, to: Kind::Postgres });
}

#[test]
fn sqlite_to_postgres() {
    there_and_back_twice(Pair { from: Kind::Sqlite, to: Kind::Postgres });
}

#[test]
fn postgres_to_sqlite() {
    there_and_back_twice(Pair { from: Kind::Postgres, to: Kind::Sqlite });
}

#[test]
fn sqlite_to_sqlite() {
    there_and_back_twice(Pair { from: Kind::Sqlite, to: Kind::Sqlite });
}

#[test]
fn postgres_to_postgres() {
    there_and_back_twice(Pair { from: Kind::Postgres, to: Kind::Postgres });
}

#[test]
fn postgres_to_postgres_on_another_server() {
    there_and_back_on(Pair { from: Kind::Postgres, to: Kind::Postgres }, Some(&Server::new()));
}

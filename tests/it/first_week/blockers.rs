//! Sessions in the way: they are named, and while they are waited for nobody waits long for us.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backout::gate::Gate;
use backout::plan::Table;
use backout::store::{self, Error, HistoryLine, Mode, Role, State, Store};

use super::super::scenarios::wait_until;
use super::*;

const RUN: &str = "0123456789ab";

struct Place {
    database: Database,
    tables: Vec<Table>,
}

impl Place {
    fn new() -> Place {
        let database = Database::new();
        let sql = "CREATE TABLE a (id int8 PRIMARY KEY, n int8); CREATE TABLE b (id int8 PRIMARY KEY, n int8);
            INSERT INTO a SELECT i, 0 FROM generate_series(1, 9) i; INSERT INTO b TABLE a";
        database.client().batch_execute(sql).unwrap();
        let tables = open(&database.url).schema().unwrap().tables;
        assert_eq!(tables.len(), 2);
        Place { database, tables }
    }

    fn tables(&self) -> Vec<&Table> {
        self.tables.iter().collect()
    }

    fn captured(&self) -> Box<dyn Store> {
        let mut store = open(&self.database.url);
        store.prepare().unwrap();
        self.within(&mut *store, Mode::Write, |s| {
            s.capture_on(&self.tables(), RUN).map(drop)?;
            s.put_state(
                &State::begun(RUN, Role::Source, "20250301090000", "t", "h", "2025-03-01T09:00:00Z"),
                Some("{}"),
            )
        });
        store
    }

    fn within(&self, store: &mut dyn Store, mode: Mode, work: impl FnOnce(&mut dyn Store) -> Result<(), Error>) {
        store.begin(mode, &if mode == Mode::Lease { self.tables() } else { vec![] }).unwrap();
        work(store).unwrap();
        store.commit("done").unwrap();
    }

    /// Somebody does `sql` in a transaction, holds on to it for a second and a half while we do `work`, and the application goes on
    /// writing to rows of its own. Returns its longest write.
    fn stall(&self, sql: &str, work: impl FnOnce() + Send) -> Duration {
        let mut blocker = self.database.client();
        let mut app = self.database.client();
        app.batch_execute("SET lock_timeout = '5s'").unwrap();
        blocker.batch_execute(&format!("BEGIN; {sql}")).unwrap();
        let (done, until) = (AtomicBool::new(false), Instant::now() + Duration::from_millis(1500));
        std::thread::scope(|threads| {
            let ours = threads.spawn(|| {
                work();
                done.store(true, Ordering::SeqCst);
            });
            let mut longest = Duration::ZERO;
            while Instant::now() < until {
                let began = Instant::now();
                app.batch_execute("UPDATE a SET n = n + 1 WHERE id = 1; UPDATE b SET n = n + 1 WHERE id = 1").unwrap();
                longest = longest.max(began.elapsed());
            }
            assert!(!done.load(Ordering::SeqCst), "{sql} was not in the way");
            drop(blocker);
            ours.join().unwrap();
            longest
        })
    }
}

fn open(url: &str) -> Box<dyn Store> {
    store::open(url, Path::new("."), false, &Gate::default()).unwrap()
}

/// Far below the time that the blocker stays, far above what a busy machine adds to 50 ms.
const SHORT: Duration = Duration::from_millis(700);

const WRITES: &str = "UPDATE b SET n = n + 1 WHERE id = 9";
const READS: &str = "SELECT * FROM b";

#[test]
fn p21_a_lease_that_waits_for_a_long_writer_stalls_nobody() {
    let place = Place::new();
    let mut store = place.captured();
    let stall = place.stall(WRITES, || {
        store.begin(Mode::Lease, &place.tables()).unwrap();
        store.rollback();
    });
    assert!(stall < SHORT, "{stall:?}");
}

#[test]
fn p21_triggers_that_wait_for_a_long_writer_stall_nobody() {
    let place = Place::new();
    let stall = place.stall(WRITES, || drop(place.captured()));
    assert!(stall < SHORT, "{stall:?}");
}

#[test]
fn p21_taking_triggers_away_waits_for_a_long_reader_and_stalls_nobody() {
    let place = Place::new();
    let mut store = place.captured();
    let stall = place.stall(READS, || closed(&place, &mut *store));
    assert!(stall < SHORT, "{stall:?}");
}

/// A vacuum of our log is not ended by a waiter that gives up before the deadlock check.
#[test]
fn p21_taking_our_log_away_waits_for_whoever_has_it_and_stalls_nobody() {
    let place = Place::new();
    let mut store = place.captured();
    for ours in ["backout.log_1", "backout.run"] {
        let stall =
            place.stall(&format!("LOCK TABLE {ours} IN SHARE UPDATE EXCLUSIVE MODE"), || closed(&place, &mut *store));
        assert!(stall < SHORT, "{ours}: {stall:?}");
        store = place.captured();
    }
}

fn closed(place: &Place, store: &mut dyn Store) {
    let line = HistoryLine {
        run: uuid::Uuid::new_v4().to_string(),
        migration: "20250301090000".into(),
        title: "t".into(),
        plan_hash: "h".into(),
        outcome: "aborted".into(),
        started_at: "2025-03-01T09:00:00Z".into(),
        ended_at: "2025-03-01T10:00:00Z".into(),
        note: String::new(),
    };
    place.within(store, Mode::Write, |s| s.close(&place.tables(), &line));
}

#[test]
fn p21_whoever_is_in_the_way_is_named_with_what_ends_it() {
    let place = Place::new();
    let mut store = place.captured();
    let mut idle = place.database.client();
    let pid: i32 = idle.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    idle.batch_execute("SET application_name = 'night job'; BEGIN; UPDATE a SET n = 5\n WHERE id = 2").unwrap();
    let owner = super::super::database::owner();
    place
        .database
        .client()
        .batch_execute("BEGIN; UPDATE b SET n = 6 WHERE id = 3; PREPARE TRANSACTION 'left behind'")
        .unwrap();
    let e = store.begin(Mode::Lease, &place.tables()).unwrap_err();
    let Error::Locked { cause, .. } = &e else { panic!("{e:?}") };
    for word in [
        &format!("session {pid} (user {owner}, application night job, from 127.0.0.1, idle in transaction, since 2"),
        "UTC), holding a",
        &format!("prepared transaction 'left behind' of {owner}, since 2"),
        "holding b: COMMIT PREPARED or ROLLBACK PREPARED ends it",
    ] {
        assert!(cause.contains(word), "{word:?} is not in: {cause}");
    }
    // … and before anything begins, once they have lingered
    let mut said = Vec::new();
    wait_until("both have lingered", || {
        said = open(&place.database.url).lingering(&place.tables()).unwrap();
        said.len() == 2
    });
    assert!(said.iter().any(|s| s.contains("night job") && s.contains("UPDATE a SET n = 5 WHERE id = 2")), "{said:?}");
    assert!(said.iter().any(|s| s.contains("'left behind'")), "{said:?}");
    idle.batch_execute("ROLLBACK").unwrap();
    place.database.client().batch_execute("ROLLBACK PREPARED 'left behind'").unwrap();
    assert_eq!(store.lingering(&place.tables()).unwrap(), Vec::<String>::new());
}

/// Of a source, too: its schema `backout` is asked for before anything is made.
#[test]
fn p26_a_source_where_no_records_can_be_kept_is_refused_in_the_plan() {
    let mut place = Place::new();
    let (role, url) = place.database.role("secret");
    let owner = super::super::database::owner();
    let mut admin = place.database.admin();
    let revoke = format!("GRANT {owner} TO {role}; REVOKE CREATE ON DATABASE {} FROM {owner}", place.database.name);
    admin.batch_execute(&revoke).unwrap();
    let home = Home::new(&[("here", &url), ("there", "sqlite:there.db")], "");
    home.migration("20250101000000_move", "title = \"Away\"\n[transfer]\nfrom = \"here\"\nto = \"there\"\n");
    if owner != "postgres" {
        let failure = home.project().plan(None).unwrap_err();
        assert_eq!((failure.exit, failure.code()), (4, "refused"), "{failure:?}");
        says(&failure, &["may not make the schema backout", "CREATE SCHEMA backout AUTHORIZATION"]);
        // what it says to do is enough
        admin.batch_execute(&format!("CREATE SCHEMA backout AUTHORIZATION {role}")).unwrap();
    }
    home.up();
    home.rollback();
}

//! An application's place for tests of what goes wrong: a project's folder, two stores of its own, a service, a switch, and
//! a ledger of what the application was told is written.

mod place;

use std::collections::BTreeSet;
use std::path::PathBuf;

use backout::migrate::{Project, RollbackOptions, Status, Until, UpOptions};
use backout::store::{Phase, Side};
use tempfile::TempDir;

pub use place::{Change, Id, Kind, Place, Pool, Rows};

/// From which kind of store to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub from: Kind,
    pub to: Kind,
}

/// Every pair that the engine carries.
pub const PAIRS: [Pair; 6] = [
    Pair { from: Kind::Json, to: Kind::Sqlite },
    Pair { from: Kind::Json, to: Kind::Postgres },
    Pair { from: Kind::Sqlite, to: Kind::Postgres },
    Pair { from: Kind::Postgres, to: Kind::Sqlite },
    Pair { from: Kind::Sqlite, to: Kind::Sqlite },
    Pair { from: Kind::Postgres, to: Kind::Postgres },
];

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} → {:?}", self.from, self.to)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Source,
    Target,
}
pub use At::{Source, Target};

pub struct Room {
    pub folder: TempDir,
    pub source: Place,
    pub target: Place,
    /// Every row as acknowledged: the column that the application changes.
    ledger: Rows,
    /// Rows that the application wrote since the beginning.
    touched: BTreeSet<Id>,
    /// Rows, with every column, and definitions, as they were in the source at the beginning.
    rows_before: Rows,
    schema_before: Vec<String>,
    pub writes: u64,
    /// A command was cut off after the run was closed.
    unswept: bool,
    /// The target has been built, so that it is sealed or open.
    whole: bool,
}

const ENV: &str = "# settings\nTOKEN='s3 cret'\nSTORE=old # the first one\n";

/// A folder in memory where there is one: what a disk does to a write is no matter here.
pub fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Room {
    pub fn new(pair: Pair) -> Room {
        Room::within(pair, folder())
    }

    /// The same in a given folder.
    pub fn within(pair: Pair, folder: TempDir) -> Room {
        let source = Place::new(pair.from, folder.path(), "source");
        let target = Place::new(pair.to, folder.path(), "target");
        Room::of(pair, folder, source, target)
    }

    /// The same with its PostgreSQL databases here.
    pub fn on(pair: Pair, urls: [&str; 2]) -> Room {
        let folder = folder();
        let place = |kind, url, stem| match kind {
            Kind::Postgres => Place::on(url, folder.path(), stem),
            other => Place::new(other, folder.path(), stem),
        };
        let (source, target) = (place(pair.from, urls[0], "source"), place(pair.to, urls[1], "target"));
        Room::of(pair, folder, source, target)
    }

    fn of(pair: Pair, folder: TempDir, source: Place, target: Place) -> Room {
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("migrations")).unwrap();
        std::fs::write(path(".env"), ENV).unwrap();
        std::fs::write(path("running"), "").unwrap();
        source.fill();
        let (ledger, touched) = (source.rows(), BTreeSet::new());
        let (rows_before, schema_before) = (source.whole(), source.schema());
        let room = Room {
            folder,
            source,
            target,
            ledger,
            touched,
            rows_before,
            schema_before,
            writes: 0,
            unswept: false,
            whole: false,
        };
        room.configure(&room.source.url(), &room.target.url());
        let mut migration = "title = \"One to two\"\n[transfer]\nfrom = \"one\"\nto = \"two\"\n".to_owned();
        if pair.from == Kind::Json {
            for (table, key) in [("assets", "asset_id"), ("plays", "id")] {
                migration.push_str(&format!(
                    "[[transfer.table]]\nsource = \"/{table}\"\nkey = \"{key}\"\ninto = \"{table}\"\n"
                ));
            }
        }
        std::fs::write(room.path("migrations/20250301090000_one_to_two.toml"), migration).unwrap();
        room
    }

    /// Writes backout.toml with these stores.
    pub fn configure(&self, from: &str, to: &str) {
        let config = format!(
            "[project]\nname = \"sweep\"\n[stores]\none = {from:?}\ntwo = {to:?}\n\
             [[service]]\nname = \"app\"\nstop = \"rm -f running\"\nstart = \"touch running\"\ncheck = \"test -f running\"\n\
             [[switch]]\ndotenv = \".env\"\nset = {{ STORE = \"new\" }}\n"
        );
        std::fs::write(self.path("backout.toml"), config).unwrap();
    }

    /// A room whose application runs on the target.
    pub fn soaking(pair: Pair) -> Room {
        let mut room = Room::new(pair);
        room.write_to(Some(Source));
        room.up();
        room.write_to(Some(Target));
        room
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn project(&self) -> Project {
        Project::open(self.folder.path(), &|_| None).unwrap()
    }

    pub fn status(&self) -> Option<Status> {
        self.project().status().unwrap()
    }

    pub fn up(&self) {
        let out = self.project().up(&UpOptions::default()).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking));
    }

    pub fn roll_back(&self) {
        let out = self.project().rollback(&RollbackOptions::default()).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack));
    }

    /// After a kill: waits until its sessions and the commands that it ran have ended.
    pub fn settle(&self) {
        self.source.settle();
        self.target.settle();
        let here = std::fs::canonicalize(self.folder.path()).unwrap();
        let works_here = || {
            let all = std::fs::read_dir("/proc").unwrap();
            all.filter_map(Result::ok).any(|p| std::fs::read_link(p.path().join("cwd")).is_ok_and(|cwd| cwd == here))
        };
        let begun = std::time::Instant::now();
        while works_here() {
            assert!(
                begun.elapsed() < std::time::Duration::from_secs(10),
                "something still runs in the project's folder"
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    pub fn forget(&self) {
        let _ = std::fs::remove_dir_all(self.path(".backout"));
    }

    // ── the application ────────────────────────────────────────────────────────────────────────────────────────────

    fn place(&self, at: At) -> &Place {
        if at == Source { &self.source } else { &self.target }
    }

    /// Whether anyone may write there. Nothing is left of the attempt.
    fn is_open(&self, at: At, status: Option<&Status>) -> bool {
        if self.place(at).kind == Kind::Json {
            // a file cannot refuse
            return status.is_none_or(|s| s.live == "source") && !self.is_open(Target, status);
        }
        if at == Target && status.is_some_and(|s| s.source.phase < Phase::Verifying) {
            // being built, and not sealed before it is whole; nobody knows of it
            return false;
        }
        self.place(at).takes_writes()
    }

    pub fn switched(&self) -> bool {
        let text = std::fs::read_to_string(self.path(".env")).unwrap();
        assert!(text == ENV || text == ENV.replace("STORE=old", "STORE=new"), ".env: {text}");
        text != ENV
    }

    pub fn running(&self) -> bool {
        self.path("running").exists()
    }

    /// Who may write at present; at most one.
    fn open_side(&self, status: Option<&Status>) -> Option<At> {
        match (self.is_open(Source, status), self.is_open(Target, status)) {
            (true, true) => panic!("both sides are open"),
            (true, false) => Some(Source),
            (false, true) => Some(Target),
            (false, false) => None,
        }
    }

    /// Writes a few rows wherever that is possible. Returns where.
    pub fn write(&mut self) -> Option<At> {
        let status = self.status();
        let at = self.open_side(status.as_ref());
        self.write_to(at)
    }

    pub fn write_to(&mut self, at: Option<At>) -> Option<At> {
        let at = at?;
        if self.place(at).kind == Kind::Json && !self.running() {
            // only the application writes the file, and it does not run
            return None;
        }
        self.writes += 1;
        let n = self.writes;
        let born = format!("new{n:02}");
        let mut changes = vec![
            Change::New(("assets", born.clone()), format!("Clip {born}")),
            Change::New(("plays", (1000 + n).to_string()), "is new".into()),
            Change::Set(("assets", format!("a{:02}", n % 4)), format!("Edited {n}")),
            Change::Set(("plays", "20".into()), format!("note {n}")),
        ];
        let gone = ("plays", (4 + n % 8).to_string());
        if self.ledger.contains_key(&gone) {
            changes.push(Change::Gone(gone));
        }
        self.place(at).write(&changes).unwrap();
        changes.iter().for_each(|c| self.acknowledge(c));
        Some(at)
    }

    /// Tries to write one row to each side, now, in the middle of a command that is at `what`. Waits for no lock.
    pub fn bystander(&mut self, what: &str) {
        self.writes += 1;
        self.whole |= what == "source: phase verifying";
        let mut taken = Vec::new();
        for at in [Source, Target] {
            let key = format!("by{:03}-{at:?}", self.writes);
            let mine = self.place(at).kind != Kind::Json || (self.running() && !self.switched());
            let change = Change::New(("assets", key.clone()), key);
            if mine && (at == Source || self.whole) && self.place(at).try_write(&change) {
                self.acknowledge(&change);
                taken.push(at);
            }
        }
        assert!(taken.len() < 2, "both sides took a write at {what:?}");
    }

    /// A row is born on the source, which no other side can have changed.
    pub fn writes_at_home(&mut self) {
        if self.source.kind == Kind::Json && !self.running() {
            return;
        }
        self.writes += 1;
        let change = Change::New(("assets", format!("home{:02}", self.writes)), "born at home".into());
        self.source.write(std::slice::from_ref(&change)).unwrap();
        self.acknowledge(&change);
    }

    /// Somebody who may do anything changes a resting side behind its seal.
    pub fn tamper(&self, at: At, n: u64) {
        let odd = "UPDATE assets SET name = 'rotten' WHERE asset_id = 'a05'";
        self.place(at).behind_the_seal(if n.is_multiple_of(2) { odd } else { "DELETE FROM plays WHERE id = 18" });
    }

    /// The command that ended the run was cut off: what it left beside a file goes with the next run.
    pub fn was_cut_off(&mut self) {
        self.unswept = self.status().is_none();
    }

    pub fn ledger(&self) -> Rows {
        self.ledger.clone()
    }

    /// What is there is this, and no longer what was acknowledged.
    pub fn believes(&mut self, ledger: Rows) {
        self.ledger = ledger;
    }

    fn acknowledge(&mut self, change: &Change) {
        let id = change.id().clone();
        self.touched.insert(id.clone());
        match change.value() {
            Some(value) => self.ledger.insert(id, value.clone()),
            None => self.ledger.remove(&id),
        };
    }

    /// All names in the folder but those that belong there.
    fn strangers(&self) -> Vec<String> {
        let known = ["backout.toml", "migrations", ".env", "running", ".backout", "source.json.backout"];
        let names =
            std::fs::read_dir(self.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let ours = |n: &String| {
            known.contains(&n.as_str())
                || [&self.source, &self.target].iter().any(|p| {
                    let name = p.path.file_name().unwrap().to_str().unwrap();
                    n.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest == "-backout-lock")
                })
        };
        // what a way back leaves out is told, and stays
        let exported = |n: &String| n.starts_with("backout-") && n.ends_with(".jsonl");
        names.filter(|n| !ours(n) && !exported(n)).collect()
    }

    // ── what must hold ─────────────────────────────────────────────────────────────────────────────────────────────

    /// After a failure or a kill, before anything mends it: one side may write at most, an application that runs is on
    /// that side, nothing unknown lies about, and there is a way on. Then the application writes, if it can.
    pub fn between(&mut self, n: u64) -> Option<Phase> {
        if n.is_multiple_of(3) {
            self.forget();
        }
        let status = self.status();
        let open = self.open_side(status.as_ref());
        self.unswept = status.is_none();
        if let Some(s) = &status {
            assert!(!s.next.is_empty() && !s.state.is_empty() && s.problems.is_empty(), "{:?}", s.problems);
            let records = match (&s.source.side, s.target.as_ref().map(|t| &t.side)) {
                (Side::Open, Some(Side::Open)) => panic!("both records say open"),
                (Side::Open, _) => Some(Source),
                (_, Some(Side::Open)) => Some(Target),
                _ => None,
            };
            // while it is completed the target's record goes first
            if s.source.phase != Phase::Completing {
                assert_eq!(open, records, "what is open is not what the records say");
            }
        }
        if self.running() {
            assert_eq!(
                open,
                Some(if self.switched() { Target } else { Source }),
                "the application runs on a side that is not open"
            );
        }
        for name in self.strangers() {
            let ours = [".env.backout-", ".source.json.backout.", "source.db-journal", "target.db-journal"];
            assert!(ours.iter().any(|o| name.starts_with(o)), "{name} lies about");
        }
        self.write_to(open);
        status.map(|s| s.source.phase)
    }

    fn rows_are_the_ledgers(&self, at: At) {
        assert_eq!(self.place(at).rows(), self.ledger, "rows of the {at:?} are not what was acknowledged");
    }

    /// The application runs on the target, and the source can follow.
    pub fn is_soaking(&mut self) {
        let status = self.status().expect("no run is open");
        assert_eq!((status.source.phase, status.live.as_str()), (Phase::Soaking, "target"));
        assert_eq!(status.source.last_error, None);
        assert_eq!(self.open_side(Some(&status)), Some(Target));
        assert!(self.switched() && self.running());
        self.write_to(Some(Target));
        self.rows_are_the_ledgers(Target);
        self.project().shadow().unwrap();
        self.rows_are_the_ledgers(Source);
        let verified = self.project().verify().unwrap().verified.unwrap();
        assert_eq!((verified.differences, verified.problems), (vec![], vec![]));
        self.untouched_rows_are_as_before();
        let left: Vec<String> = self.strangers().into_iter().filter(|n| !n.starts_with(".env.backout-")).collect();
        assert_eq!(left, Vec::<String>::new());
    }

    fn untouched_rows_are_as_before(&self) {
        let mut now = self.source.whole();
        let mut before = self.rows_before.clone();
        now.retain(|id, _| !self.touched.contains(id));
        before.retain(|id, _| !self.touched.contains(id));
        assert_eq!(now, before, "rows that nobody wrote have changed");
    }

    /// The application runs on the source, of ours nothing is there but the history, and the target is free.
    pub fn is_home(&mut self) {
        assert!(self.status().is_none(), "a run is open");
        assert_eq!(self.open_side(None), Some(Source));
        assert!(!self.switched() && self.running());
        self.write_to(Some(Source));
        self.rows_are_the_ledgers(Source);
        self.untouched_rows_are_as_before();
        assert_eq!(self.source.schema(), self.schema_before);
        let mut told = self.project().history().unwrap().lines.into_iter().map(|(store, l)| (store, l.run));
        let mut once = BTreeSet::new();
        assert!(told.all(|line| once.insert(line)), "a run is told twice");
        // a target that was never made: nobody has opened it since, so that SQLite could remove its journal
        let left: Vec<String> = self.strangers().into_iter().filter(|n| n != "target.db-journal").collect();
        assert_eq!(left, Vec::<String>::new());
        if self.source.kind == Kind::Json {
            if self.unswept {
                // cut off when it was closed: the next run sweeps up
                self.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
                self.project().abort().unwrap();
                self.unswept = false;
            }
            let folder = std::fs::read_dir(self.path("source.json.backout")).unwrap();
            let left: Vec<String> = folder.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            assert_eq!(left, ["state.json"], "left beside the file");
        }
        assert_eq!(self.target.schema(), Vec::<String>::new(), "left in the target");
    }

    /// The application runs on the target for good.
    pub fn is_completed(&mut self, deleted: bool) {
        assert!(self.status().is_none(), "a run is open");
        assert!(self.is_open(Target, None) && self.switched() && self.running());
        if self.source.kind != Kind::Json {
            assert!(!self.is_open(Source, None), "a forgotten writer could write to the source");
            if deleted {
                assert_eq!(self.source.schema(), Vec::<String>::new());
            }
        }
        self.rows_are_the_ledgers(Target);
        assert_eq!(self.strangers(), Vec::<String>::new());
        let list = self.project().list().unwrap();
        assert!(list.iter().all(|m| m.applied), "{list:?}");
    }

    /// Nobody of ours is left in the databases.
    pub fn leave(self) {
        self.source.leave();
        self.target.leave();
    }
}

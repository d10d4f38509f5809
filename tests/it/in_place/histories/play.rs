//! One history: writes, up, writes, down, and what must be so after each.

use std::fmt;

use backout::migrate::{Project, RollbackOptions, Until, UpOptions};
use backout::store::Phase;
use rusqlite::Connection;
use tempfile::TempDir;

use super::base::{Base, Rows};
use super::crossing::{Crossing, From, Part};
use super::dice::Dice;
use super::migrations::{altered, merged};
use super::schemas::{Keys, shape};
use super::shape::{Lit, Shape};
use super::writes::{Said, World};
use crate::database::Database;

/// What a history says of itself.
#[derive(Default)]
pub struct Play {
    pub said: Said,
    pub told: Vec<String>,
}

pub enum Ended {
    Completed,
    RolledBack,
    Refused(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Completed => write!(f, "completed"),
            Ended::RolledBack => write!(f, "rolled back"),
            Ended::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// Refusals that are right, by words of theirs. The generator does not keep out of the way of all of them.
const KNOWN: &[&str] = &[];

/// What is said where what goes is in something that stays.
const HELD: [&str; 2] = ["cannot go", "changes with [rekey], and [[alter.column]] speaks of it too"];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Alter,
    Merge,
}

struct Place<'p> {
    folder: TempDir,
    world: World,
    crossing: Crossing,
    play: &'p mut Play,
}

pub fn sqlite(seed: u64, wanted: Wanted, play: &mut Play) -> Ended {
    let folder = crate::room::folder();
    let home = Connection::open(folder.path().join("app.db")).unwrap();
    let mode = if seed.is_multiple_of(3) { "PRAGMA journal_mode = WAL;" } else { "" };
    home.execute_batch(&format!("{mode} PRAGMA foreign_keys = ON; PRAGMA synchronous = OFF")).unwrap();
    let twin = Base::Sqlite(Connection::open_in_memory().unwrap());
    history(seed, wanted, play, folder, "sqlite:app.db", Base::Sqlite(home), twin)
}

/// Two databases, for one history after the other.
pub struct Server {
    home: Database,
    twin: Database,
}

impl Server {
    pub fn new() -> Server {
        Server { home: Database::new(), twin: Database::new() }
    }
}

pub fn postgres(seed: u64, wanted: Wanted, play: &mut Play, server: &Server) -> Ended {
    let schemas = "SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace \
        WHERE nspname ~ '^(backout|migration_backup)' OR nspname = 'public'";
    let mut admin = Base::Postgres(server.home.admin());
    let gone: Vec<String> = admin.ask(schemas).unwrap().concat();
    let owner = crate::database::owner();
    admin.run(&format!("{}; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO {owner}", gone.join(";"))).unwrap();
    let (home, twin) = (Base::Postgres(server.home.client()), Base::Postgres(server.twin.admin()));
    history(seed, wanted, play, crate::room::folder(), &server.home.url, home, twin)
}

fn history(
    seed: u64,
    wanted: Wanted,
    play: &mut Play,
    folder: TempDir,
    url: &str,
    home: Base,
    mut twin: Base,
) -> Ended {
    let mut dice = Dice::new(seed);
    let (odd, pg) = (dice.chance(30), matches!(home, Base::Postgres(_)));
    let source = shape(&mut dice, pg, if wanted == Wanted::Merge { Keys::Numbers } else { Keys::Any });
    let crossing =
        if wanted == Wanted::Merge { merged(&mut dice, &source, odd) } else { altered(&mut dice, &source, odd) };
    let config = format!("[project]\nname = \"h\"\n[stores]\nmain = {url:?}\n");
    std::fs::write(folder.path().join("backout.toml"), config).unwrap();
    twin.empty();
    let world = World::new(home, twin, source, dice, odd, play.said.clone());
    Place { folder, world, crossing, play }.all()
}

impl Place<'_> {
    fn project(&self) -> Project {
        Project::open(self.folder.path(), &|_| None).unwrap()
    }

    /// The model is of this shape from here on.
    fn becomes(&mut self, shape: &Shape, rows: &Rows) {
        let w = &mut self.world;
        w.twin.empty();
        w.shape = shape.clone();
        w.twin.run(&shape.ddl(true)).unwrap_or_else(|e| panic!("the model cannot be made: {e}\n{}", shape.ddl(true)));
        w.twin.fill(shape, rows);
    }

    fn all(mut self) -> Ended {
        let ddl = self.world.shape.ddl(false);
        self.world.note(&ddl);
        self.world.note(&self.crossing.toml);
        self.world.home.run(&ddl).unwrap_or_else(|e| panic!("{e} in\n{ddl}"));
        self.world.twin.run(&ddl).unwrap();
        let migrations = self.folder.path().join("migrations");
        std::fs::create_dir(&migrations).unwrap();
        std::fs::write(migrations.join("20250301090000_h.toml"), &self.crossing.toml).unwrap();
        self.world.fill();
        self.world.writes(8);
        let schema = self.world.home.schema();
        let turns = if self.world.dice.chance(30) { 2 } else { 1 };
        for turn in 0..turns {
            if let Some(refused) = self.up() {
                assert_eq!(self.world.home.schema(), schema, "after a refusal");
                self.world.agrees("after a refusal");
                assert!(turn == 0, "{refused} the second time");
                return Ended::Refused(refused);
            }
            self.soak();
            if turn + 1 == turns && self.world.dice.chance(15) {
                self.world.note("-- complete");
                self.project().complete(false).unwrap();
                self.world.agrees("completed");
                self.world.home.is_sound();
                self.world.writes(4);
                return Ended::Completed;
            }
            self.back();
            assert_eq!(self.world.home.schema(), schema, "the schema after a rollback");
            self.world.writes(6);
        }
        Ended::RolledBack
    }

    /// What `plan` says is added to the keys of each table that is merged.
    fn shifts(&mut self) {
        if self.crossing.parts.iter().all(|p| p.told.is_none()) {
            return;
        }
        let Ok(Some(proposal)) = self.project().plan(None) else { return };
        let notes = proposal.plan.notes;
        let said = notes.iter().find_map(|n| n.strip_prefix("keys in ")).unwrap_or_else(|| panic!("{notes:?}"));
        let Crossing { parts, source, .. } = &mut self.crossing;
        for p in parts.iter_mut().filter(|p| p.told.is_some()) {
            let own = format!("those of {} ", source.tables[p.source].name);
            let (_, rest) = said.split_once(&own).unwrap_or_else(|| panic!("{own} is not in {said}"));
            p.shift = match rest.strip_prefix("become ").and_then(|r| r.split_once(" more")) {
                Some((by, _)) => by.parse().unwrap(),
                None => 0,
            };
        }
        self.world.note(format!("-- {said}"));
    }

    /// Up to the soak; or why it was refused.
    fn up(&mut self) -> Option<String> {
        self.shifts();
        let ready = UpOptions { until: Until::Ready, ..UpOptions::default() };
        let whole = UpOptions::default();
        let stepwise = self.world.dice.chance(40);
        self.world.note(if stepwise { "-- up --until ready" } else { "-- up" });
        let mut went = self.project().up(if stepwise { &ready } else { &whole }).map(drop);
        if stepwise && went.is_ok() {
            self.world.agrees("ready");
            self.world.writes(6);
            if self.world.dice.chance(15) {
                self.world.note("-- abort, up --until ready");
                self.project().abort().unwrap();
                self.world.agrees("aborted");
                self.world.writes(2);
                self.project().up(&ready).unwrap();
                self.world.writes(2);
            }
            self.world.note("-- cutover");
            went = self.project().cutover().map(drop);
        }
        if let Err(e) = went {
            let text = e.to_string();
            let held: &[&str] = if self.crossing.refused { &HELD } else { &[] };
            let known = held.iter().chain(KNOWN).find(|k| text.contains(**k));
            return Some((*known.unwrap_or_else(|| panic!("refused: {text}\n{e:?}"))).to_owned());
        }
        assert!(!self.crossing.refused, "it was not refused");
        assert_eq!(self.project().phase().unwrap(), Some(Phase::Soaking));
        let rows = self.world.twin.rows(&self.crossing.source, false);
        let target = self.crossing.target.clone();
        for ((t, key), paired) in std::mem::take(&mut self.crossing.perhaps) {
            let Some(row) = rows[t].iter().find(|r| r[0] == key) else { continue };
            let sql = format!("SELECT 1 FROM {} WHERE id = {paired} AND tag = {}", target.tables[0].title(), row[1]);
            if !self.world.home.ask(&sql).unwrap().is_empty() {
                self.crossing.pairs.insert((t, key), paired);
            }
        }
        self.becomes(&target, &self.crossing.up(&rows));
        self.world.agrees("after the cutover");
        self.world.home.is_sound();
        None
    }

    fn soak(&mut self) {
        for _ in 0..1 + self.world.dice.below(3) {
            self.world.writes(7);
            if self.world.dice.chance(40) {
                self.world.note("-- shadow");
                self.project().shadow().unwrap();
                self.world.agrees("after a shadow");
            }
        }
    }

    fn back(&mut self) {
        let emergency = self.world.dice.chance(5);
        self.world.note(if emergency { "-- rollback --emergency" } else { "-- rollback" });
        let out = self.project().rollback(&RollbackOptions { emergency, ..RollbackOptions::default() });
        let out = out.unwrap_or_else(|e| {
            let model = self.world.twin.rows(&self.crossing.target, true);
            self.world.note(format!("-- the model's rows: {model:?}"));
            let status = self.project().status();
            self.world.note(format!("-- status: {status:?}"));
            for t in &self.crossing.source.tables {
                let rows = self.world.home.ask(&format!("SELECT * FROM {}", t.title()));
                self.world.note(format!("-- {}: {rows:?}", t.name));
            }
            panic!("{e:?}")
        });
        assert_eq!(out.phase, Some(Phase::RolledBack), "{out:?}");
        self.world.note(format!("-- parked: {:#?}", out.parked));
        let target = self.crossing.target.clone();
        let source = self.crossing.source.clone();
        let rows = self.world.twin.rows(&target, true);
        let found = self.world.home.rows(&source, false);
        // a row that was made in a merged table is known by its tag
        let given = |p: &Part, r: &[Lit], was: &Lit| {
            let tag = target.tables[p.target].columns.iter().position(|c| c.name == "tag").unwrap();
            let key = source.tables[p.source].key[0];
            found[p.source].iter().find(|f| f[1] == r[tag] && f[key] != *was).map(|f| f[key].clone())
        };
        let (wanted, misfits) = self.crossing.down(&rows, &found, &given);
        // a number that nobody has is nobody's
        let there = |(t, key): &(usize, Lit)| found[*t].iter().any(|r| r[source.tables[*t].key[0]] == *key);
        self.crossing.pairs.retain(|k, _| there(k));
        self.crossing.perhaps.retain(|k, _| there(k));
        self.world.home.is_sound();
        if misfits.is_empty() && out.parked.is_empty() {
            self.becomes(&source, &wanted);
            self.world.agrees("after the rollback");
            return;
        }
        self.play.told.push("with parked rows".into());
        self.parked(&wanted, &found, &misfits, &out.parked);
        self.becomes(&source, &found);
    }

    /// What is missing or otherwise is listed, and nothing else is.
    fn parked(&mut self, wanted: &Rows, found: &Rows, misfits: &[(usize, Vec<Lit>)], parked: &[String]) {
        let (source, target) = (&self.crossing.source, &self.crossing.target);
        let bare = |lit: &Lit| if source.pg { lit.trim_matches('\'').to_owned() } else { lit.clone() };
        let said = |keys: &[&Lit]| match keys {
            [one] => bare(one),
            more => format!("({})", more.iter().map(|k| bare(k)).collect::<Vec<_>>().join(", ")),
        };
        let listed = |keys: &[String]| {
            let one = |p: &String| {
                let p = if source.pg { p.replace('\'', "") } else { p.clone() };
                let ends = [",", ":", " "];
                keys.iter().any(|k| {
                    ends.iter().any(|end| p.contains(&format!("key {k}{end}")) || p.contains(&format!("row {k}{end}")))
                })
            };
            parked.iter().filter(|p| one(p)).count()
        };
        assert!(misfits.len() <= parked.len(), "{misfits:?} cannot come back, and listed are {parked:?}");
        let mut reasons = std::collections::BTreeSet::new();
        for (t, row) in misfits {
            let table = &target.tables[*t];
            let key = said(&table.key.iter().map(|k| &row[*k]).collect::<Vec<_>>());
            // what is told of a number that was made up for it is not known here
            let part = self.crossing.parts.iter().find(|p| p.target == *t);
            let there = part.filter(|p| p.told.is_none()).map(|p| {
                let whole = |k: &usize| match &p.from[*k] {
                    From::Column(_, codec) => self.crossing.value_down(*codec, &row[*k]).unwrap_or_default(),
                    _ => String::new(),
                };
                said(&table.key.iter().map(whole).collect::<Vec<_>>().iter().collect::<Vec<_>>())
            });
            let known = there.is_none() || listed(&[key.clone(), there.unwrap()]) > 0;
            assert!(known, "{} {row:?} cannot come back and is not listed: {parked:?}", table.name);
            // the source's row that it is, or none
            let told = part.is_some_and(|p| p.told.is_some());
            let own = self.crossing.parts.iter().find(|p| self.crossing.is_home(p, *t, row));
            reasons.insert(match (told, own) {
                (false, _) => (part.map(|p| p.source), key),
                (true, Some(p)) => (Some(p.source), bare(&row[table.columns.len()])),
                (true, None) => (None, key),
            });
        }
        for p in &self.crossing.parts {
            let table = &source.tables[p.source];
            let up = |row: &Vec<Lit>| {
                let keys: Vec<&Lit> = table.key.iter().map(|k| &row[*k]).collect();
                let here = said(&keys);
                // as the target has it: a decimal is a number there
                (here.replace('\'', ""), here)
            };
            let plain: Vec<usize> = table.writable();
            let same = |a: &Vec<Lit>, b: &Vec<Lit>| plain.iter().all(|c| a[*c] == b[*c]);
            let missing = wanted[p.source].iter().filter(|w| !found[p.source].iter().any(|f| same(f, w)));
            let strange = found[p.source].iter().filter(|f| !wanted[p.source].iter().any(|w| same(f, w)));
            for (row, what) in
                missing.map(|r| (r, "missing")).chain(strange.map(|r| (r, "there, and not as it should be")))
            {
                let (there, here) = up(row);
                reasons.insert((Some(p.source), there.clone()));
                let any = p.told.is_some();
                let merged_key = (bare(&row[0]).parse::<i64>().unwrap_or(0) + p.shift).to_string();
                let keys = if any { vec![merged_key, here.clone()] } else { vec![there, here] };
                assert!(listed(&keys) > 0, "{} {row:?} is {what} and is not listed: {parked:?}", table.name);
            }
        }
        assert!(parked.len() <= reasons.len(), "{parked:?} are listed; there is reason for {reasons:?}");
    }
}

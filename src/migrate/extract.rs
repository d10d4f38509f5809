//! Extract: the source's form made anew out of the target, when there is no source any more and no copy of it.
//!
//! The target's rows of one moment are mapped down as a rollback would, into a file or tables that were not there. What was written is
//! read again and must have the digest of what was mapped. Rows that do not map are listed and exported.

use std::path::PathBuf;
use std::time::Instant;

use crate::mapping::{Way, canon_source, map_row};
use crate::plan::{Kind, Migration, Plan};
use crate::store::{self, Mode, Store};
use crate::value::{Batch, Digest, Key, Row};

use super::export::{Export, Left};
use super::project::{Done, Project};
use super::sums::{self, Sums};
use super::{Error, Event, Failure, Result, within};

/// What `extract` is asked to do.
#[derive(Clone, Debug, Default)]
pub struct ExtractOptions {
    /// Where to: `json:FILE`, `sqlite:FILE`, `postgres://…`, or a store's name in backout.toml. Nothing may be there.
    pub to: String,
    /// The migration's stamp; the newest one that left a record in its target, if `None`.
    pub migration: Option<String>,
}

/// What an extract came to.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Extracted {
    /// The run whose mapping was read backwards.
    pub run: String,
    /// Migration's stamp.
    pub migration: String,
    /// Migration's title.
    pub title: String,
    /// The target, for people.
    pub from: String,
    /// What was made, for people.
    pub to: String,
    /// Rows written, per table of the source in plan order; what was read back has the same digest.
    pub rows: Vec<(String, u64)>,
    /// Rows that do not map to the source's form, and why.
    pub left_out: Vec<String>,
    /// The file they are in, with every value.
    pub exported: Option<String>,
    /// What state the data is in.
    pub state: String,
    /// Seconds it took.
    pub seconds: f64,
}

/// The mapping that a target remembers.
struct Remembered {
    run: String,
    plan: Plan,
    target: Box<dyn Store>,
}

impl Project {
    /// Makes the source's form anew out of the target's rows of this moment, in a place where nothing is. The target is only read.
    ///
    /// # Errors
    /// If no target remembers a mapping, if something is there already, or what a store says; what was begun is taken back.
    pub fn extract(&self, asked: &ExtractOptions) -> Done<Extracted> {
        self.extracted(asked).map_err(Failure::untouched)
    }

    fn extracted(&self, asked: &ExtractOptions) -> Result<Extracted> {
        let begun = Instant::now();
        let Remembered { run, plan, mut target } = self.remembered(asked.migration.as_deref())?;
        let url = self.config.store(&asked.to).unwrap_or(&asked.to).to_owned();
        let place = self.vacant(&url, plan.from.kind)?;
        let mut made = Made::default();
        let tables = plan.target_tables();
        let title = match place {
            Place::File(path) => {
                let mut rows: Vec<Vec<Row>> = vec![Vec::new(); plan.tables.len()];
                self.read_down(target.as_mut(), &tables, &plan, &mut made, &mut |i, row| {
                    rows[i].push(row);
                    Ok(())
                })?;
                store::write_json(&path, &plan.source_tables(), rows, &self.gate)?;
                path.display().to_string()
            }
            Place::Store(mut new) => {
                self.fill(new.as_mut(), target.as_mut(), &plan, &mut made)?;
                new.title()
            }
        };
        let mut new = store::open(&url, &self.config.folder, false, &self.gate)?;
        for t in &plan.tables {
            let mut keys: Vec<Key> = t.staying().into_iter().collect();
            keys.sort();
            let never = |key: &Key| format!("table {}, key {key}: this row never left the source", t.source.title());
            made.left_out.extend(keys.iter().map(never));
        }
        let mut out = Extracted {
            from: target.title(),
            to: title,
            migration: plan.migration.clone(),
            title: plan.title.clone(),
            state: "the target was only read; the application runs where it ran".into(),
            ..Extracted::default()
        };
        let stop = self.stop.clone();
        let stopped = || stop.load(std::sync::atomic::Ordering::SeqCst);
        for (t, wanted) in plan.tables.iter().zip(&made.digests) {
            let found = Sums::total(&sums::one(new.as_mut(), Way::Up, t, &stopped)?.as_source);
            if found != *wanted {
                return Err(Error::Differences(vec![format!(
                    "{}: {} rows were written and {} are there, or not the same ones",
                    t.source.title(),
                    wanted.rows,
                    found.rows
                )]));
            }
            out.rows.push((t.source.title().to_owned(), found.rows));
        }
        let problems = new.self_check(&plan.source_tables(), true)?;
        if !problems.is_empty() {
            return Err(Error::Differences(problems));
        }
        if !made.left.is_empty() {
            let file = Export::of(&self.config.folder, "extract", &run, &self.gate);
            file.add(0, &made.left)?;
            out.exported = Some(file.title());
        }
        out.left_out = made.left_out;
        out.run = run;
        out.seconds = begun.elapsed().as_secs_f64();
        Ok(out)
    }

    /// The newest mapping of which a target has the plan: in its record of the open run, or in its history.
    fn remembered(&self, wanted: Option<&str>) -> Result<Remembered> {
        let named: Vec<&Migration> = match wanted {
            Some(name) => vec![self.migrations.find(name)?],
            None => self.migrations.list.iter().rev().collect(),
        };
        let mut silent = None;
        for m in named {
            let mut target = match self.store(&m.transfer.to, false) {
                Ok(target) => target,
                Err(e) => {
                    silent = Some(e);
                    continue;
                }
            };
            let open = target.state()?.filter(|s| s.migration == m.stamp);
            let found = match open {
                Some(state) => target.plan(&state.run)?.map(|plan| (state.run, plan)),
                None => {
                    let ended = target.history()?.into_iter().rev().find(|l| l.migration == m.stamp);
                    let ended = ended.filter(|l| l.outcome == "completed");
                    ended.and_then(|l| Some((l.run, l.remains?.plan)))
                }
            };
            if let Some((run, plan)) = found {
                let plan = serde_json::from_str(&plan)
                    .map_err(|e| Error::Internal(format!("the plan of run {run} cannot be read: {e}")))?;
                super::ask(&plan, target.as_ref());
                return Ok(Remembered { run, plan, target });
            }
        }
        Err(silent.unwrap_or_else(|| Error::Refused {
            cause: "no target remembers how its rows came there".into(),
            hint: "`extract` reads a run's plan from its target: of a run that is open or was completed. Without one, a migration of its own, from that store to a new SQLite or PostgreSQL store, moves the rows back".into(),
        }))
    }

    /// The place, of the source's kind, where nothing is yet.
    fn vacant(&self, url: &str, kind: Kind) -> Result<Place> {
        let refused = |cause: String, hint: &str| Err(Error::Refused { cause, hint: hint.into() });
        let (is, path) = match url.split_once(':') {
            Some(("json", path)) => (Kind::Json, Some(path)),
            Some(("sqlite", path)) => (Kind::Sqlite, Some(path.strip_prefix("///").unwrap_or(path))),
            Some(("postgres" | "postgresql", _)) => (Kind::Postgres, None),
            _ => {
                return refused(
                    format!("{} is no place to extract to", crate::plan::redact(url)),
                    "say json:FILE, sqlite:FILE, postgres://USER@HOST/DATABASE, or a store's name in backout.toml",
                );
            }
        };
        if is != kind {
            return refused(
                format!("the source was {}, and what it was is made anew, not something else", kind.name()),
                &format!("give a place for {}", kind.name()),
            );
        }
        let path: Option<PathBuf> = path.map(|p| self.config.folder.join(p));
        if let Some(path) = path.as_ref().filter(|p| p.symlink_metadata().is_ok()) {
            return refused(
                format!("{} is there already, and nothing is ever written over", path.display()),
                "choose another name; put the file where the application looks for it yourself",
            );
        }
        match (kind, path) {
            (Kind::Json, Some(path)) => Ok(Place::File(path)),
            _ => Ok(Place::Store(store::open(url, &self.config.folder, true, &self.gate)?)),
        }
    }

    /// Tables, rows, keys and indexes in one transaction: it is all there, or nothing is.
    fn fill(&self, new: &mut dyn Store, target: &mut dyn Store, plan: &Plan, made: &mut Made) -> Result<()> {
        let (sources, targets) = (plan.source_tables(), plan.target_tables());
        let marks = target.high_water(&targets)?;
        within(new, Mode::Write, &[], "extract", |new| {
            new.create(&sources)?;
            let mut batch = Batch::default();
            let mut at = 0;
            self.read_down(target, &targets, plan, made, &mut |i, row| {
                if i != at || batch.len() >= self.options.batch.max(1) {
                    new.load(sources[at], &batch)?;
                    batch.clear();
                }
                at = i;
                batch.push(&row);
                Ok(())
            })?;
            if !batch.is_empty() {
                new.load(sources[at], &batch)?;
            }
            for t in &sources {
                new.build_key(t)?;
            }
            new.build_rest(&sources)?;
            Ok(new.raise_high_water(&sources, &marks)?)
        })
    }

    /// Every row of the target at one moment, as the source would have it.
    fn read_down(
        &self,
        target: &mut dyn Store,
        tables: &[&crate::plan::Table],
        plan: &Plan,
        made: &mut Made,
        take: &mut dyn FnMut(usize, Row) -> Result<()>,
    ) -> Result<()> {
        super::looking(target, tables, |target| {
            for (i, t) in plan.tables.iter().enumerate() {
                let (mut after, mut batch, mut bytes) = (Vec::new(), Batch::default(), Vec::new());
                let (mut digest, mut done) = (Digest::default(), 0);
                loop {
                    if self.stop.load(std::sync::atomic::Ordering::SeqCst) {
                        return Err(Error::Stopped);
                    }
                    batch.clear();
                    let next = target.scan(&t.target, &after, self.options.batch.max(1), &mut batch)?;
                    for row in batch.rows() {
                        match map_row(Way::Down, t, &row, None) {
                            Ok(down) => {
                                bytes.clear();
                                canon_source(t, down.clone(), &mut bytes);
                                digest.add(&bytes);
                                take(i, down)?;
                            }
                            Err(misfit) => {
                                let why = misfit.to_string();
                                let left = Left {
                                    table: &t.target,
                                    key: &Key::of_row(&row, &t.target.key),
                                    source: &t.source,
                                    before: None,
                                    after: Some((&t.target, &row)),
                                    at: None,
                                    why: &why,
                                };
                                made.left.extend(left.line());
                                made.left_out.push(why);
                            }
                        }
                    }
                    done += batch.len() as u64;
                    self.observer.event(Event::Progress {
                        what: "extracting",
                        table: t.source.title().to_owned(),
                        done,
                        total: done,
                    });
                    match next {
                        Some(next) => after = next,
                        None => break,
                    }
                }
                made.digests.push(digest);
            }
            Ok(())
        })
    }
}

/// Where the source's form is made.
enum Place {
    File(PathBuf),
    Store(Box<dyn Store>),
}

/// What was mapped.
#[derive(Default)]
struct Made {
    digests: Vec<Digest>,
    left_out: Vec<String>,
    /// Lines of the file of what is left out.
    left: Vec<u8>,
}

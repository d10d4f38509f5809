//! One history: migrations that move data and SQL revisions, by their stamps. What is applied, and which of them a command means.

use crate::plan::{ConfigError, Kind, Migration};
use crate::revision::database::{self, Database, Record, Standing};
use crate::revision::{Revision, order};
use crate::store::{Phase, Store};

use super::answers::UpOptions;
use super::project::Project;
use super::{Error, Result};

/// One link of the history, as its file says it.
#[derive(Clone, Copy)]
pub(crate) enum Link<'a> {
    /// Data moves.
    Mapping(&'a Migration),
    /// SQL runs.
    Sql(&'a Revision),
}

impl Link<'_> {
    pub fn stamp(&self) -> &str {
        match self {
            Link::Mapping(m) => &m.stamp,
            Link::Sql(r) => &r.stamp,
        }
    }

    pub fn slug(&self) -> &str {
        match self {
            Link::Mapping(m) => &m.slug,
            Link::Sql(r) => &r.slug,
        }
    }
}

/// What is applied now and can be taken back, or stands in the way of that.
pub(crate) enum Applied<'a> {
    /// A revision, by its record in the ledger of this index.
    Sql(usize, Box<Record>),
    /// The soaking migration.
    Soaking(&'a Migration),
    /// A migration of which the way back was given up: stamp, title and when.
    Completed(String, String, String),
}

impl Applied<'_> {
    pub fn stamp(&self) -> &str {
        match self {
            Applied::Sql(_, record) => &record.stamp,
            Applied::Soaking(m) => &m.stamp,
            Applied::Completed(stamp, ..) => stamp,
        }
    }

    fn slug(&self) -> &str {
        match self {
            Applied::Sql(_, record) => &record.slug,
            Applied::Soaking(m) => &m.slug,
            Applied::Completed(..) => "",
        }
    }
}

/// A database that revisions run in, with what it records of them.
pub(crate) struct Ledger {
    pub store: String,
    pub db: Box<dyn Database>,
    pub records: Vec<Record>,
    /// Held for as long as a command changes something.
    _lock: Option<Box<dyn Store>>,
}

impl Ledger {
    pub fn record(&self, stamp: &str) -> Option<&Record> {
        self.records.iter().find(|r| order(&r.stamp) == order(stamp))
    }

    /// Whether a revision is recorded as applied.
    pub fn has_applied(&self, stamp: &str) -> bool {
        self.record(stamp).is_some_and(|r| r.standing == Standing::Applied)
    }

    /// Reads the records again.
    pub fn refresh(&mut self) -> Result<()> {
        self.records = self.db.records()?;
        Ok(())
    }
}

impl Project {
    /// Every link, oldest first.
    pub(crate) fn links(&self) -> Vec<Link<'_>> {
        let mut links: Vec<Link<'_>> = self.migrations.list.iter().map(Link::Mapping).collect();
        links.extend(self.revisions.iter().map(Link::Sql));
        links.sort_by(|a, b| order(a.stamp()).cmp(&order(b.stamp())));
        links
    }

    /// The store in which a revision runs.
    pub(crate) fn home(&self, revision: &Revision) -> Result<String> {
        revision.store.clone().or_else(|| self.default_home()).ok_or_else(|| Error::Refused {
            cause: format!("in which store does {}_{} run?", revision.stamp, revision.slug),
            hint: "name it: [project] default_store = \"…\" in backout.toml, or `-- backout:store NAME` in the file"
                .into(),
        })
    }

    /// The store in which revisions run that name none.
    pub(crate) fn default_home(&self) -> Option<String> {
        if let Some(name) = &self.config.default_store {
            return Some(name.clone());
        }
        let json = |url: &str| url.starts_with("json:");
        let mut names = self.config.stores.iter().filter(|(_, url)| !json(url)).map(|(name, _)| name.clone());
        let unset = self.config.unset.iter().filter(|u| u.kind() != Kind::Json).map(|u| u.store.clone());
        match (names.next(), names.chain(unset).next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    }

    /// What kind of database a store is.
    pub(crate) fn kind_of(&self, home: &str) -> Kind {
        let url = self.config.store(home).unwrap_or_default();
        if url.starts_with("sqlite:") { Kind::Sqlite } else { Kind::Postgres }
    }

    /// The databases that revisions run in. `lock`: nobody else's command changes them meanwhile.
    pub(crate) fn ledgers(&self, lock: bool) -> Result<Vec<Ledger>> {
        self.readable()?;
        let mut homes: Vec<String> = Vec::new();
        for revision in &self.revisions {
            let home = self.home(revision)?;
            if !homes.contains(&home) {
                homes.push(home);
            }
        }
        let mut ledgers = Vec::new();
        for home in &homes {
            ledgers.push(self.ledger(home, lock)?);
        }
        // a checkout from before the first revision: what is applied is known there all the same
        if homes.is_empty()
            && let Some(home) = self.default_home()
            && !self.is_away(&home)
            && let Ok(ledger) = self.ledger(&home, false)
            && !ledger.records.is_empty()
        {
            ledgers.push(if lock { self.ledger(&home, true)? } else { ledger });
        }
        Ok(ledgers)
    }

    /// A SQLite file that is not there, or a store without an address, records nothing.
    fn is_away(&self, home: &str) -> bool {
        let url = self.config.store(home).unwrap_or_default();
        url.is_empty() || url.starts_with("json:") || url.starts_with("sqlite:") && !self.sqlite_there(url)
    }

    pub(crate) fn ledger(&self, home: &str, lock: bool) -> Result<Ledger> {
        let url = self.url(home)?;
        let lock = if lock {
            let mut store = self.store(home, true)?;
            store.lock(self.options.wait)?;
            Some(store)
        } else {
            None
        };
        let mut db = database::open(url, &self.config.folder, true, &self.gate)?;
        let records = db.records()?;
        Ok(Ledger { store: home.to_owned(), db, records, _lock: lock })
    }

    /// What is applied, in the order in which it was.
    pub(crate) fn applied(&self, ledgers: &[Ledger]) -> Result<Vec<Applied<'_>>> {
        // revisions know their order among themselves, whatever the clock said
        let mut sql: Vec<(usize, &Record)> = Vec::new();
        for (i, ledger) in ledgers.iter().enumerate() {
            sql.extend(ledger.records.iter().filter(|r| r.standing != Standing::Failed).map(|r| (i, r)));
        }
        sql.sort_by_key(|(_, record)| record.nth);
        let mut moves: Vec<(String, Applied<'_>)> = Vec::new();
        if !self.migrations.list.is_empty() {
            for (_, line) in self.history().map_err(|f| *f.error)?.lines {
                let twice = moves.iter().any(|(_, a)| a.stamp() == line.migration);
                if line.outcome == "completed" && !twice && !line.run.is_empty() {
                    // what was put on top of it while it soaked came before its end, and after its beginning
                    let completed = Applied::Completed(line.migration, line.title, line.ended_at);
                    moves.push((line.started_at, completed));
                }
            }
            if let Some((m, state)) = self.open_state()?
                && state.phase == Phase::Soaking
            {
                moves.push((state.started_at, Applied::Soaking(m)));
            }
        }
        moves.sort_by(|a, b| a.0.cmp(&b.0));
        // a migration comes before the first revision that is later than it; one of the same second is placed by its stamp
        let mut all = Vec::new();
        let mut moves = moves.into_iter().peekable();
        for (i, record) in sql {
            let later = |at: &str, stamp: &str| (at, order(stamp)) < (record.at.as_str(), order(&record.stamp));
            while let Some((_, moved)) = moves.next_if(|(at, moved)| later(at, moved.stamp())) {
                all.push(moved);
            }
            all.push(Applied::Sql(i, Box::new(record.clone())));
        }
        all.extend(moves.map(|(_, moved)| moved));
        Ok(all)
    }

    /// Links that are not applied, oldest first.
    pub(crate) fn pending(&self, ledgers: &[Ledger]) -> Result<Vec<Link<'_>>> {
        let moved = if self.migrations.list.is_empty() { Vec::new() } else { self.moves().map_err(|f| *f.error)? };
        let is_pending = |link: &Link<'_>| -> Result<bool> {
            Ok(match link {
                Link::Mapping(m) => moved.iter().any(|state| state.migration == m.stamp && !state.applied),
                Link::Sql(r) => {
                    let home = self.home(r)?;
                    let record = ledgers.iter().find(|l| l.store == home).and_then(|l| l.record(&r.stamp));
                    record.is_none_or(|record| record.standing == Standing::Failed)
                }
            })
        };
        let mut pending = Vec::new();
        for link in self.links() {
            if is_pending(&link)? {
                pending.push(link);
            }
        }
        Ok(pending)
    }

    /// The revision that stopped between two of its statements, if there is one.
    pub(crate) fn halfway(&self) -> Result<Option<Record>> {
        let ledgers = self.ledgers(false)?;
        Ok(ledgers.iter().flat_map(|l| &l.records).find(|r| r.standing.is_halfway()).cloned())
    }

    /// Refuses a revision that is older than one that is applied, unless that is asked for.
    pub(crate) fn in_order<'a>(
        &self,
        steps: Vec<Link<'a>>,
        ledgers: &[Ledger],
        asked: &UpOptions,
    ) -> Result<Vec<Link<'a>>> {
        let newest = |record: &&Record| record.standing != Standing::Failed;
        for link in &steps {
            let Link::Sql(revision) = link else { continue };
            let home = self.home(revision)?;
            let records = ledgers.iter().filter(|l| l.store == home).flat_map(|l| &l.records).filter(newest);
            let later = records.max_by(|a, b| order(&a.stamp).cmp(&order(&b.stamp)));
            if let Some(later) = later.filter(|r| order(&r.stamp) > order(&revision.stamp))
                && !asked.out_of_order
            {
                return Err(Error::Refused {
                    cause: format!(
                        "{}_{} is not applied, but {}_{}, which comes after it, is",
                        revision.stamp, revision.slug, later.stamp, later.slug
                    ),
                    hint: "give its file a later stamp; or `backout up --out-of-order` runs it now, as the newest; or \
                           `backout stamp` says that it ran"
                        .into(),
                });
            }
        }
        Ok(steps)
    }

    /// Those of `pending` that a goal means: `head` (all), `+N`, or up to the one named.
    pub(crate) fn up_to<'a>(&'a self, pending: Vec<Link<'a>>, goal: Option<&str>) -> Result<Vec<Link<'a>>> {
        let goal = goal.unwrap_or("head");
        if goal == "head" {
            return Ok(pending);
        }
        if let Some(n) = goal.strip_prefix('+') {
            let n: usize = n.parse().ok().filter(|n| *n > 0).ok_or_else(|| not_a_goal(goal))?;
            return Ok(pending.into_iter().take(n).collect());
        }
        let named = self.find(goal)?;
        let last = order(named.stamp());
        Ok(pending.into_iter().filter(|link| order(link.stamp()) <= last).collect())
    }

    /// The newest of `applied` that a goal means, newest first: `-N`, `base` (all), or all that came after the one named.
    pub(crate) fn down_to<'a>(&self, mut applied: Vec<Applied<'a>>, goal: &str) -> Result<Vec<Applied<'a>>> {
        let steps = match goal.strip_prefix('-') {
            Some(n) => {
                let n = n.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(|| not_a_goal(goal))?;
                if n > applied.len().max(1) {
                    return Err(Error::Refused {
                        cause: format!("{goal} would take back {n} migrations, and {} applied", one_is(applied.len())),
                        hint: "`backout history` shows what is; `backout rollback base` takes all of it back".into(),
                    });
                }
                n
            }
            None if goal == "base" => applied.len(),
            None => {
                let names: Vec<(&str, &str)> = applied.iter().map(|a| (a.stamp(), a.slug())).collect();
                let [at] = meant(goal, &names)[..] else {
                    // a better word for what is not known at all, or may be several
                    let named = self.find(goal)?;
                    return Err(Error::Refused {
                        cause: format!("{}_{} is not applied", named.stamp(), named.slug()),
                        hint: "`backout history` shows what is".into(),
                    });
                };
                applied.len() - 1 - at
            }
        };
        let keep = applied.len().saturating_sub(steps);
        Ok(applied.drain(keep..).rev().collect())
    }

    /// The link that a person names: by stamp, the beginning of one, slug or the beginning of one, or file name.
    ///
    /// # Errors
    /// None or several are meant.
    pub(crate) fn find(&self, name: &str) -> Result<Link<'_>> {
        self.readable()?;
        let links = self.links();
        let refuse = |message: String, hint: String| {
            let folder = &self.config.migrations;
            let file = folder.strip_prefix(&self.config.folder).unwrap_or(folder).to_owned();
            Err(Error::Config(ConfigError::File { file, message, hint: Some(hint) }))
        };
        let known = |links: &[Link<'_>]| match links {
            [] => "there is none yet".to_owned(),
            many => {
                let names: Vec<String> = many.iter().map(|l| format!("{}_{}", l.stamp(), l.slug())).collect();
                let shown = names[names.len().saturating_sub(8)..].join(", ");
                if many.len() > 8 { format!("there are, among others: {shown}") } else { format!("there are: {shown}") }
            }
        };
        let names: Vec<(&str, &str)> = links.iter().map(|l| (l.stamp(), l.slug())).collect();
        let found: Vec<Link<'_>> = meant(name, &names).into_iter().map(|i| links[i]).collect();
        match found[..] {
            [one] => Ok(one),
            [] => {
                let near = links.iter().flat_map(|l| [l.slug(), l.stamp()]);
                let hint = crate::plan::did_you_mean(name, near).unwrap_or_else(|| known(&links));
                refuse(format!("there is no migration `{name}`"), hint)
            }
            _ => refuse(format!("`{name}` may mean {} migrations", found.len()), known(&found)),
        }
    }
}

/// Which of these, by stamp and slug, a person who says `name` may mean: those of exactly that stamp or name, else those that begin so.
fn meant(name: &str, all: &[(&str, &str)]) -> Vec<usize> {
    let name = name.trim();
    let stem = [".sql", ".toml", ".up", ".down"].iter().fold(name, |stem, end| stem.strip_suffix(end).unwrap_or(stem));
    // 20250128_140000 is how Alembic's users like to write a time
    let number: String = name.chars().filter(|c| *c != '_').collect();
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let those = |is: &dyn Fn(&str, &str) -> bool| -> Vec<usize> {
        all.iter().enumerate().filter(|(_, (stamp, slug))| is(stamp, slug)).map(|(i, _)| i).collect()
    };
    let exact = those(&|stamp, slug| {
        stem == slug || stem == format!("{stamp}_{slug}") || digits && order(stamp) == order(&number)
    });
    if !exact.is_empty() {
        return exact;
    }
    those(&|stamp, slug| digits && stamp.starts_with(&number) || !digits && name.len() >= 4 && slug.starts_with(name))
}

fn one_is(n: usize) -> String {
    if n == 1 { "only 1 is".into() } else { format!("only {n} are") }
}

fn not_a_goal(goal: &str) -> Error {
    Error::Refused {
        cause: format!("`{goal}` says no place in the history"),
        hint: "up: head, +N, or a migration's stamp or name; rollback: -N, base, or one of those".into(),
    }
}

impl From<crate::revision::Error> for Error {
    fn from(e: crate::revision::Error) -> Error {
        use crate::revision::Error as Of;
        match e {
            Of::File(e) => Error::Config(e),
            Of::Store(e) => Error::Store(e),
            Of::Refused { cause, hint } => Error::Refused { cause, hint },
            Of::Stopped => Error::Stopped,
            Of::Gate(e) => Error::Gate(e),
            other => Error::Revision(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn a_whole_stamp_or_name_means_no_other() {
        let all = [("1", "add_user"), ("0002", "add_users"), ("10", "init"), ("20250128140000", "create_events")];
        for (name, found) in [
            ("1", vec![0]),
            ("2", vec![1]),
            ("10", vec![2]),
            ("add_user", vec![0]),
            ("add_users", vec![1]),
            ("add_u", vec![0, 1]),
            ("20250128_140000", vec![3]),
            ("2025", vec![3]),
            ("create", vec![3]),
            ("20250128140000_create_events.up.sql", vec![3]),
            ("ini", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(meant(name, &all), found, "{name:?}");
        }
    }
}

//! Revisions that write themselves: the schema that is there and the one that is wanted are both built, both read back, and compared.
//! And the other way round: is the schema still what the history made of it?

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::plan::{Kind, read};
use crate::revision::adopt::HISTORIES;
use crate::revision::catalog::{self, Catalog, Renames};
use crate::revision::database::{Database, Record, Standing};
use crate::revision::run::within;
use crate::revision::sql;

use super::chain::{Ledger, Link};
use super::project::{Done, Project};
use super::{Error, Failure, Result};

/// What leads from the schema that is there to the one that is wanted, and back.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Generated {
    /// What differs, as lines with `-` (there) and `+` (wanted).
    pub differences: Vec<String>,
    /// Statements that make the wanted schema.
    pub up: Vec<String>,
    /// Statements that make the present one again.
    pub down: Vec<String>,
    /// What differs, and no statement is made for, with the reason.
    pub not_generated: Vec<String>,
    /// What looks like the same under another name: `users.name=users.full_name`.
    pub renames: Vec<String>,
}

impl Project {
    /// Compares the present schema of a store with the one that a script would build in an empty database. `renames` say what is the same
    /// under another name: `old=new` of tables, `table.old=table.new` of columns. Nothing real is changed.
    ///
    /// # Errors
    /// A script that cannot be read or run; revisions that are still pending; what a store says.
    pub fn difference(&self, schema: &Path, store: Option<&str>, renames: &[String]) -> Done<Generated> {
        self.generated(schema, store, renames).map_err(Failure::untouched)
    }

    fn generated(&self, schema: &Path, store: Option<&str>, renames: &[String]) -> Result<Generated> {
        let renames = parse(renames)?;
        let home = match store {
            Some(name) => name.to_owned(),
            None => self.default_home().ok_or_else(|| Error::Refused {
                cause: "there are several stores".into(),
                hint: "say which: --store NAME, or [project] default_store in backout.toml".into(),
            })?,
        };
        let ledgers = self.ledgers(false)?;
        let mine = |link: &Link<'_>| matches!(link, Link::Sql(r) if self.home(r).is_ok_and(|h| h == home));
        if let Some(first) = self.pending(&ledgers)?.iter().find(|link| mine(link)) {
            return Err(Error::Refused {
                cause: format!("{}_{} is pending: the schema is not the newest one", first.stamp(), first.slug()),
                hint: "`backout up` first".into(),
            });
        }
        drop(ledgers);
        let mut db = self.ledger(&home, false)?.db;
        let kind = self.kind_of(&home);
        let there = catalog::read(db.as_mut())?.without_rights().without(HISTORIES);
        let statements = sql::split(&sql::plain(&read(schema, "`--schema FILE` says where it is")?), kind, schema)?;
        if kind == Kind::Postgres {
            self.check_scratch()?;
        }
        let mut scratch = db.scratch(self.config.scratch.as_deref())?;
        within(scratch.as_mut(), "build the wanted schema", |scratch| {
            for statement in &statements {
                crate::revision::run::run(scratch, statement, schema)?;
            }
            Ok(())
        })?;
        let wanted = catalog::read(scratch.as_mut())?.without_rights().without(HISTORIES);
        let (up, down) =
            (catalog::change(&there, &wanted, &renames), catalog::change(&wanted, &there, &renames.reversed()));
        let mut not_generated = up.not_generated;
        not_generated.extend(down.not_generated.into_iter().map(|why| format!("on the way down: {why}")));
        let suggested = catalog::suggest_renames(&there, &wanted);
        let known = |text: &String| !written(&renames).contains(text);
        Ok(Generated {
            differences: differences(&there, &wanted),
            up: up.up,
            down: down.up,
            not_generated,
            renames: written(&suggested).into_iter().filter(known).collect(),
        })
    }

    /// Writes what `difference` found as a new revision; `None` where there is nothing to do.
    ///
    /// # Errors
    /// As for `new_revision`.
    pub fn write_generated(&self, name: &str, store: Option<&str>, found: &Generated) -> Done<Option<PathBuf>> {
        if found.up.is_empty() {
            return Ok(None);
        }
        let script = |statements: &[String]| {
            statements.iter().fold(String::new(), |mut text, statement| {
                let _ = writeln!(text, "{};", statement.trim_end().trim_end_matches(';'));
                text
            })
        };
        let notes = found.not_generated.iter().fold(String::new(), |mut text, why| {
            let _ = writeln!(text, "-- not generated: {}", why.replace('\n', "\n--   "));
            text
        });
        let down = if found.down.is_empty() {
            "-- migrate:down nothing\n".to_owned()
        } else {
            format!("-- migrate:down\n{}", script(&found.down))
        };
        self.new_file(name, store, &format!("{notes}-- migrate:up\n{}\n{down}", script(&found.up))).map(Some)
    }

    /// Where the schema is not what the history made of it, as lines with `-` (the history) and `+` (what is there). Nothing is changed.
    ///
    /// # Errors
    /// What a store says.
    pub fn drift(&self) -> Done<Vec<String>> {
        let mut found = Vec::new();
        for mut ledger in self.ledgers(false).map_err(Failure::untouched)? {
            found.extend(self.drift_of(&mut ledger).map_err(Failure::untouched)?);
        }
        Ok(found)
    }

    /// Stores that `drift` does not look at, though revisions ran there: a migration moves tables from or to them, or changes them in place,
    /// so that what they must be is in no statement.
    ///
    /// # Errors
    /// What a store says.
    pub fn not_compared(&self) -> Done<Vec<String>> {
        let ledgers = self.ledgers(false).map_err(Failure::untouched)?;
        let moved = ledgers.into_iter().filter(|l| !l.records.is_empty() && self.moves_tables(&l.store));
        Ok(moved.map(|l| l.store).collect())
    }

    fn moves_tables(&self, store: &str) -> bool {
        self.migrations.list.iter().any(|m| m.transfer.from == store || m.transfer.to == store)
    }

    fn drift_of(&self, ledger: &mut Ledger) -> Result<Vec<String>> {
        if ledger.records.is_empty() {
            return Ok(Vec::new());
        }
        if self.moves_tables(&ledger.store) {
            return Ok(Vec::new());
        }
        let there = catalog::read(ledger.db.as_mut())?.without_rights().without(HISTORIES);
        if ledger.db.kind() == Kind::Postgres {
            self.check_scratch()?;
        }
        let mut scratch = ledger.db.scratch(self.config.scratch.as_deref())?;
        let mut records: Vec<Record> =
            ledger.records.iter().filter(|r| r.standing == Standing::Applied).cloned().collect();
        records.sort_by_key(|r| r.nth);
        for record in records {
            let name = format!("{}_{}", record.stamp, record.slug);
            if let Err(e) = replay(scratch.as_mut(), &record) {
                return Ok(vec![format!("{}: the history does not run on an empty copy: {name}: {e}", ledger.store)]);
            }
        }
        let made = catalog::read(scratch.as_mut())?.without_rights().without(HISTORIES);
        let differs = differences(&made, &there);
        Ok(differs.into_iter().map(|d| format!("{} is not what its history made of it:\n{d}", ledger.store)).collect())
    }
}

/// Runs an up once more, as it ran.
fn replay(scratch: &mut dyn Database, record: &Record) -> crate::revision::Result<()> {
    let going = Record { standing: Standing::GoingUp, done: 0, trying: false, ..record.clone() };
    within(scratch, "replay", |scratch| {
        scratch.prepare()?;
        Ok(scratch.put_record(&going)?)
    })?;
    crate::revision::run::go_on(scratch, going, None, &|| false).map(drop)
}

fn differences(before: &Catalog, after: &Catalog) -> Vec<String> {
    let all = catalog::differences(before, after);
    all.iter().filter(|d| !d.order_only).map(ToString::to_string).collect()
}

/// `old=new`, `table.old=table.new`.
fn parse(given: &[String]) -> Result<Renames> {
    let mut renames = Renames::default();
    for text in given {
        let refused = || Error::Refused {
            cause: format!("`{text}` is no rename"),
            hint: "write --rename old_table=new_table, or --rename table.old_column=table.new_column".into(),
        };
        let (from, to) = text.split_once('=').ok_or_else(refused)?;
        match (from.rsplit_once('.'), to.rsplit_once('.')) {
            (Some((_, from)), Some((table, to))) => renames.columns.push((table.into(), from.into(), to.into())),
            (None, None) => renames.tables.push((from.into(), to.into())),
            _ => return Err(refused()),
        }
    }
    Ok(renames)
}

fn written(renames: &Renames) -> Vec<String> {
    let bare = |name: &str| name.strip_prefix("public.").unwrap_or(name).to_owned();
    let tables = renames.tables.iter().map(|(from, to)| format!("{}={}", bare(from), bare(to)));
    let columns = renames.columns.iter().map(|(table, from, to)| {
        let before = renames.tables.iter().find(|(_, now)| now == table).map_or(table, |(then, _)| then);
        format!("{}.{from}={}.{to}", bare(before), bare(table))
    });
    tables.chain(columns).collect()
}

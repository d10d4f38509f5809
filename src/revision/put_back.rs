//! What the opposite step kept comes back: early, as soon as there is room for it, or at the step's end. What does not go back stays where it
//! is kept, and is told.

use super::Result;
use super::database::Database;
use super::keep::{
    GONE, KeyColumn, Loss, Lost, LostColumn, is_there, numbers_of, plain, see_all, see_as_before, sequences, set_aside,
    text, words,
};
use crate::plan::Kind;

/// What is to be put back by a step, and how far that is.
pub(super) struct Returning<'a> {
    losses: &'a [Loss],
    /// Of each: the step has not made its room when it begins, so that it may be put there as soon as it is made.
    waits: Vec<bool>,
    early: Vec<bool>,
}

impl<'a> Returning<'a> {
    /// Before the step's first statement.
    pub fn begin(db: &mut dyn Database, losses: &'a [Loss]) -> Result<Returning<'a>> {
        let mut waits = Vec::new();
        for loss in losses {
            // what stands there now in its place is another one
            waits.push(is_there(db, &loss.kept)? && !has_room(db, loss)?);
        }
        Ok(Returning { losses, early: vec![false; waits.len()], waits })
    }

    /// Whether anything may still be put back before the step ends.
    pub fn waits(&self) -> bool {
        self.waits.iter().zip(&self.early).any(|(waits, early)| *waits && !early)
    }

    /// Whether anything was put back already.
    pub fn has_begun(&self) -> bool {
        self.early.contains(&true)
    }

    /// What was put back was undone again, and all waits for the end.
    pub fn at_the_end(&mut self) {
        self.waits.fill(false);
        self.early.fill(false);
    }

    /// Puts back what the step has just made room for, so that what it does next (NOT NULL, an index, a foreign key) finds it.
    pub fn put_early(&mut self, db: &mut dyn Database) -> Result<()> {
        for (i, loss) in self.losses.iter().enumerate() {
            if self.early[i] || !self.waits[i] || !has_room(db, loss)? {
                continue;
            }
            self.early[i] = attempt(db, |db| {
                typed(db, loss)?;
                match &loss.lost {
                    Lost::Table { .. } => without_triggers(db, &loss.table, |db| put_rows(db, loss)),
                    Lost::Columns { .. } => without_triggers(db, &loss.table, |db| put_values(db, loss, true)),
                }
            })
            .is_ok();
        }
        Ok(())
    }

    /// Puts back the rest, and lets it go. Returns what both sides have their own word on, and what could not be put back. After the
    /// step's last statement.
    pub fn finish(&mut self, db: &mut dyn Database) -> Result<Vec<String>> {
        let mut told = Vec::new();
        let mut left: Vec<&Loss> = Vec::new();
        for loss in self.losses {
            if is_there(db, &loss.kept)? {
                left.push(loss);
            }
        }
        if left.is_empty() {
            return Ok(told);
        }
        let mut tables: Vec<&str> = left.iter().map(|loss| loss.table.as_str()).collect();
        tables.dedup();
        let triggers = disable(db, &tables)?;
        // a parent may come after its child
        loop {
            let (mut failed, before) = (Vec::new(), left.len());
            for loss in left {
                let early = self.losses.iter().position(|l| l == loss).is_some_and(|i| self.early[i]);
                match attempt(db, |db| put(db, loss, early)) {
                    Ok(conflicts) => told.extend(conflicts),
                    Err(e) => failed.push((loss, e)),
                }
            }
            if failed.is_empty() || failed.len() == before {
                for (loss, e) in &failed {
                    let why = match e {
                        super::Error::Store(crate::store::Error::Database { cause, .. }) => cause.clone(),
                        other => other.to_string(),
                    };
                    told.push(format!("not put back, and still in {}: {} ({why})", loss.kept, loss.words()));
                }
                break;
            }
            left = failed.into_iter().map(|(loss, _)| loss).collect();
        }
        enable(db, triggers)?;
        Ok(told)
    }
}

/// Does it, or leaves nothing of it.
fn attempt<T>(db: &mut dyn Database, body: impl FnOnce(&mut dyn Database) -> Result<T>) -> Result<T> {
    db.run("SAVEPOINT kept")?;
    let done = body(db);
    db.run(if done.is_ok() { "RELEASE SAVEPOINT kept" } else { "ROLLBACK TO SAVEPOINT kept; RELEASE SAVEPOINT kept" })?;
    done
}

fn put(db: &mut dyn Database, loss: &Loss, early: bool) -> Result<Vec<String>> {
    typed(db, loss)?;
    let mut told = match &loss.lost {
        Lost::Table { .. } => {
            if !early {
                put_rows(db, loss)?;
            }
            others(db, loss)?
        }
        Lost::Columns { .. } => {
            let conflicts = differing(db, loss)?;
            put_values(db, loss, false)?;
            conflicts
        }
    };
    told.extend(release(db, loss)?);
    Ok(told)
}

/// Lets go what is back. What is not is set aside, and told.
fn release(db: &mut dyn Database, loss: &Loss) -> Result<Vec<String>> {
    let (kind, table, kept) = (db.kind(), &loss.table, &loss.kept);
    let (key, columns): (Vec<String>, Vec<(&str, String)>) = match &loss.lost {
        Lost::Table { key, columns } => (
            key.iter().map(|k| format!("k.{k}")).collect(),
            columns.iter().map(|c| (c.as_str(), format!("k.{c}"))).collect(),
        ),
        Lost::Columns { key, columns, .. } => (
            (0..key.len()).map(|i| format!("k.k{i}")).collect(),
            columns.iter().enumerate().map(|(i, c)| (c.name.as_str(), format!("k.c{i}"))).collect(),
        ),
    };
    let on = on_before(kind, loss);
    let alike: Vec<String> = columns.iter().map(|(name, value)| same(kind, name, value)).collect();
    let nothing: Vec<String> = columns.iter().map(|(_, value)| format!("{value} IS NULL")).collect();
    let gone = format!("NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {on})");
    // a row that is no more, and had nothing to lose, is not missed
    let missed = format!(
        "NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {on} AND {}) AND NOT ({} AND {gone})",
        alike.join(" AND "),
        nothing.join(" AND ")
    );
    // without a key they were counted
    if key.is_empty()
        || columns.is_empty()
        || db.query(&format!("SELECT 1 FROM {kept} AS k WHERE {missed} LIMIT 1"))?.is_empty()
    {
        db.run(&format!("DROP TABLE {kept}"))?;
        db.run(&format!("DROP TABLE IF EXISTS {}", numbers_of(kept)))?;
        return Ok(Vec::new());
    }
    db.run(&format!("DELETE FROM {kept} AS k WHERE NOT ({missed})"))?;
    let values: Vec<&str> = columns.iter().map(|(_, value)| value.as_str()).collect();
    let list = format!("{}, {}", key.join(", "), values.join(", "));
    let rows = db.query(&format!("SELECT {list} FROM {kept} AS k WHERE {gone} LIMIT 21"))?;
    let mut told = Vec::new();
    for row in rows.iter().take(20) {
        let (keys, values) = row.split_at(key.len());
        let were = columns.iter().zip(values).filter(|(_, value)| !value.is_null());
        let were = were.map(|((name, _), value)| format!("{name} was {}", words(value))).collect::<Vec<_>>().join(", ");
        let keys = keys.iter().map(words).collect::<Vec<_>>().join(", ");
        told.push(format!("no such row any more, so not put back: {table} {keys}: {were}"));
    }
    if rows.len() > 20 {
        told.push(format!("no such row any more, so not put back: more rows of {table} than these"));
    }
    let aside = set_aside(db, kept)?;
    told.push(format!(
        "what was not put back of {} stays in {aside} until `backout complete` lets it go",
        loss.words()
    ));
    Ok(told)
}

/// A column of the row `t` holds this value of the kept row `k`, exactly.
fn same(kind: Kind, name: &str, value: &str) -> String {
    match kind {
        Kind::Sqlite => format!("t.{name} IS {value} COLLATE BINARY"),
        // a json has no equal
        _ => format!("t.{name}::text IS NOT DISTINCT FROM {value}::text"),
    }
}

/// Gives what is kept as text the types that it goes back to.
fn typed(db: &mut dyn Database, loss: &Loss) -> Result<()> {
    for (name, kept) in loss.texts() {
        let ty = db.query(&format!(
            "SELECT format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute \
             WHERE attrelid = to_regclass({}) AND attname = {} AND NOT attisdropped",
            text(&loss.table),
            text(&plain(name))
        ))?;
        if let Some(ty) = ty.first().and_then(|row| row.first()).map(words) {
            let table = &loss.kept;
            db.run(&format!("ALTER TABLE {table} ALTER COLUMN {kept} TYPE {ty} USING {kept}::text::{ty}"))?;
        }
    }
    Ok(())
}

/// The table is there, or the columns that were dropped are.
fn has_room(db: &mut dyn Database, loss: &Loss) -> Result<bool> {
    let columns: Vec<&str> = match &loss.lost {
        Lost::Table { columns, .. } => columns.iter().map(String::as_str).collect(),
        Lost::Columns { columns, .. } if columns.iter().any(|c| c.retyped.is_some()) => return Ok(false),
        Lost::Columns { columns, .. } => columns.iter().map(|c| c.name.as_str()).collect(),
    };
    let names = match db.kind() {
        Kind::Sqlite => format!("SELECT name FROM pragma_table_info({})", text(&plain(&loss.table))),
        _ => format!(
            "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass({}) AND attnum > 0 AND NOT attisdropped",
            text(&loss.table)
        ),
    };
    let there: Vec<String> = db.query(&names)?.iter().filter_map(|row| row.first()).map(words).collect();
    let sqlite = db.kind() == Kind::Sqlite;
    let same = |a: &str, b: &str| a == b || sqlite && a.eq_ignore_ascii_case(b);
    Ok(!there.is_empty() && columns.iter().all(|column| there.iter().any(|name| same(name, &plain(column)))))
}

/// A table's rows that are not there.
fn put_rows(db: &mut dyn Database, loss: &Loss) -> Result<()> {
    let Lost::Table { columns, key } = &loss.lost else { return Ok(()) };
    let (table, kept, list) = (&loss.table, &loss.kept, columns.join(", "));
    if columns.is_empty() {
        return Ok(());
    }
    let absent = if key.is_empty() {
        format!("NOT EXISTS (SELECT 1 FROM {table})")
    } else {
        let equal: Vec<String> = key.iter().map(|k| format!("t.{k} = k.{k}")).collect();
        format!("NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {})", equal.join(" AND "))
    };
    let own = if db.kind() == Kind::Postgres { " OVERRIDING SYSTEM VALUE" } else { "" };
    db.run(&format!("INSERT INTO {table} ({list}){own} SELECT {list} FROM {kept} AS k WHERE {absent}"))?;
    go_on_numbering(db, loss)
}

/// Rows of a table that the step itself put in, in place of those that are kept.
fn others(db: &mut dyn Database, loss: &Loss) -> Result<Vec<String>> {
    let Lost::Table { columns, key } = &loss.lost else { return Ok(Vec::new()) };
    let (table, kept, kind) = (&loss.table, &loss.kept, db.kind());
    if key.is_empty() {
        let count = |db: &mut dyn Database, of: &str| -> Result<String> {
            let rows = db.query(&format!("SELECT count(*) FROM {of}"))?;
            Ok(rows.first().and_then(|row| row.first()).map(words).unwrap_or_default())
        };
        let (there, were) = (count(db, table)?, count(db, kept)?);
        let cause = || format!("it has {there} rows of its own, and no key to tell them from the {were} that are kept");
        let list: Vec<String> = match kind {
            Kind::Sqlite => columns.clone(),
            _ => columns.iter().map(|c| format!("{c}::text")).collect(),
        };
        let list = if list.is_empty() { "1".to_owned() } else { list.join(", ") };
        let missed = db.query(&format!("SELECT {list} FROM {kept} EXCEPT SELECT {list} FROM {table} LIMIT 1"))?;
        return if there == were && missed.is_empty() {
            Ok(Vec::new())
        } else {
            Err(super::Error::Refused { cause: cause(), hint: String::new() })
        };
    }
    let alike: Vec<String> = columns.iter().map(|c| same(kind, c, &format!("k.{c}"))).collect();
    let keys: Vec<String> = key.iter().map(|k| format!("k.{k}")).collect();
    let rows = db.query(&format!(
        "SELECT {} FROM {table} AS t, {kept} AS k WHERE {} AND NOT ({}) LIMIT 21",
        keys.join(", "),
        on_before(kind, loss),
        alike.join(" AND ")
    ))?;
    let mut told: Vec<String> = rows
        .iter()
        .take(20)
        .map(|row| {
            let key = row.iter().map(words).collect::<Vec<_>>().join(", ");
            format!("not put back: {table} {key}, as the script made a row of that key itself")
        })
        .collect();
    if rows.len() > 20 {
        told.push(format!("not put back: more rows of {table} than these"));
    }
    Ok(told)
}

/// Columns' values. `early`: wherever nobody chose one; else of every row that was not changed, and of others where nobody chose one.
fn put_values(db: &mut dyn Database, loss: &Loss, early: bool) -> Result<()> {
    let Lost::Columns { columns, .. } = &loss.lost else { return Ok(()) };
    let (kind, table, kept) = (db.kind(), &loss.table, &loss.kept);
    let on = on_before(kind, loss);
    for (i, column) in columns.iter().enumerate() {
        let name = &column.name;
        let unchosen = unchosen(kind, column);
        let rows = match (early, &column.retyped) {
            (true, _) => unchosen,
            (false, Some(_)) => format!("k.then{i} IS NOT NULL"),
            (false, None) => format!("(k.row_then IS NOT NULL OR {unchosen})"),
        };
        let put = format!("UPDATE {table} AS t SET {name} = k.c{i} FROM {kept} AS k WHERE {on} AND {rows}");
        let always = "SELECT 1 FROM pg_catalog.pg_attribute WHERE attidentity = 'a' AND NOT attisdropped";
        let always =
            format!("{always} AND attrelid = to_regclass({}) AND attname = {}", text(table), text(&plain(name)));
        if kind == Kind::Postgres && !db.query(&always)?.is_empty() {
            db.run(&format!("ALTER TABLE {table} ALTER {name} SET GENERATED BY DEFAULT"))?;
            db.run(&put)?;
            db.run(&format!("ALTER TABLE {table} ALTER {name} SET GENERATED ALWAYS"))?;
        } else {
            db.run(&put)?;
        }
    }
    go_on_numbering(db, loss)
}

/// Rows that were changed, and for which the step made another value than the one that is kept.
fn differing(db: &mut dyn Database, loss: &Loss) -> Result<Vec<String>> {
    let Lost::Columns { columns, key, .. } = &loss.lost else { return Ok(Vec::new()) };
    let (kind, table, kept) = (db.kind(), &loss.table, &loss.kept);
    let mut told = Vec::new();
    for (i, column) in columns.iter().enumerate() {
        let name = &column.name;
        let keys: Vec<String> = (0..key.len()).map(|i| format!("k.k{i}")).collect();
        let alike = same(kind, name, &format!("k.c{i}"));
        let changed = match &column.retyped {
            Some(_) => format!("k.then{i} IS NULL"),
            None => format!("k.row_then IS NULL AND NOT {}", unchosen(kind, column)),
        };
        let rows = db.query(&format!(
            "SELECT {}, k.c{i}, t.{name} FROM {table} AS t, {kept} AS k WHERE {} AND {changed} AND NOT ({alike}) LIMIT 21",
            keys.join(", "),
            on_before(kind, loss),
        ))?;
        for row in rows.iter().take(20) {
            let (key, values) = row.split_at(key.len());
            let [kept, now] = values else { continue };
            let key: Vec<String> = key.iter().map(words).collect();
            let (key, now, kept) = (key.join(", "), words(now), words(kept));
            told.push(format!("changed since, so not put back: {table} {key}: {name} stays {now}, was {kept} before"));
        }
        if rows.len() > 20 {
            told.push(format!("changed since, so not put back: {table}: {name} of more rows than these"));
        }
    }
    Ok(told)
}

/// The value is the one that a row has of whom nobody said anything.
fn unchosen(kind: Kind, column: &LostColumn) -> String {
    let name = &column.name;
    match (&column.default, kind) {
        _ if column.given => "(1 = 1)".to_owned(),
        (Some(default), Kind::Sqlite) => format!("(t.{name} IS NULL OR t.{name} IS ({default}))"),
        (Some(default), _) => format!("(t.{name} IS NULL OR t.{name}::text IS NOT DISTINCT FROM ({default})::text)"),
        (None, _) => format!("(t.{name} IS NULL)"),
    }
}

/// The kept row `k` of the row `t` as the table is before.
fn on_before(kind: Kind, loss: &Loss) -> String {
    let parts: Vec<String> = match &loss.lost {
        Lost::Table { key, .. } => {
            // it may be NULL in SQLite
            let equals = if kind == Kind::Sqlite { "IS" } else { "=" };
            key.iter().map(|k| format!("t.{k} {equals} k.{k}")).collect()
        }
        Lost::Columns { key, follows, .. } => {
            let part = |(i, column): (usize, &KeyColumn)| format!("t.{} {} k.k{i}", column.before, column.equals());
            let here = follows.then(|| format!("coalesce(k.body_then, '') <> '{GONE}'"));
            key.iter().enumerate().map(part).chain(here).collect()
        }
    };
    parts.join(" AND ")
}

/// A trigger that is out of the way, and the statement that brings it back as it was.
type Trigger = String;

/// A table's own triggers do not see what we put back: it is what they saw already.
fn without_triggers(
    db: &mut dyn Database,
    table: &str,
    body: impl FnOnce(&mut dyn Database) -> Result<()>,
) -> Result<()> {
    let triggers = disable(db, &[table])?;
    body(db)?;
    enable(db, triggers)
}

fn disable(db: &mut dyn Database, tables: &[&str]) -> Result<Vec<Trigger>> {
    let mut back = Vec::new();
    for table in tables {
        if db.kind() == Kind::Postgres {
            let enabled = db.query(&format!(
                "SELECT format('%I', tgname), tgenabled::text FROM pg_catalog.pg_trigger \
                 WHERE tgrelid = to_regclass({}) AND NOT tgisinternal AND tgenabled <> 'D'",
                text(table)
            ))?;
            for (i, row) in enabled.iter().enumerate() {
                let [name, how] = &row[..] else { continue };
                let how = match words(how).as_str() {
                    "A" => "ENABLE ALWAYS",
                    "R" => "ENABLE REPLICA",
                    _ => "ENABLE",
                };
                if i == 0 {
                    // a table with rows that are still to be checked cannot be altered
                    db.run("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")?;
                }
                db.run(&format!("ALTER TABLE {table} DISABLE TRIGGER {}", words(name)))?;
                back.push(format!("ALTER TABLE {table} {how} TRIGGER {}", words(name)));
            }
            back.extend(see_all(db, table)?);
            // a check that is not valid holds of no row that was there, until that row is touched
            let checks = db.query(&format!(
                "SELECT format('%I', conname), pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint \
                 WHERE conrelid = to_regclass({}) AND contype = 'c' AND NOT convalidated AND conislocal AND coninhcount = 0",
                text(table)
            ))?;
            for row in &checks {
                let [name, made] = &row[..] else { continue };
                db.run(&format!("ALTER TABLE {table} DROP CONSTRAINT {}", words(name)))?;
                back.push(format!("ALTER TABLE {table} ADD CONSTRAINT {} {}", words(name), words(made)));
            }
            continue;
        }
        let triggers = db.query(&format!(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = {} COLLATE NOCASE",
            text(&plain(table))
        ))?;
        for row in &triggers {
            let [name, sql] = &row[..] else { continue };
            db.run(&format!("DROP TRIGGER \"{}\"", words(name).replace('"', "\"\"")))?;
            back.push(words(sql));
        }
    }
    Ok(back)
}

fn enable(db: &mut dyn Database, triggers: Vec<Trigger>) -> Result<()> {
    if db.kind() == Kind::Postgres && !triggers.is_empty() {
        db.run("SET CONSTRAINTS ALL IMMEDIATE")?;
    }
    triggers.iter().try_for_each(|sql| db.run(sql))?;
    see_as_before(db, None)
}

/// Numbers go on after those that were given before, and those that are there.
fn go_on_numbering(db: &mut dyn Database, loss: &Loss) -> Result<()> {
    let (table, numbers) = (&loss.table, numbers_of(&loss.kept));
    let kept = is_there(db, &numbers)?;
    if db.kind() != Kind::Postgres {
        let name = text(&plain(table));
        let made = db.query(&format!("SELECT sql FROM sqlite_schema WHERE name = {name} COLLATE NOCASE"))?;
        let made = made.first().and_then(|row| row.first()).map(words).unwrap_or_default();
        if kept && super::sql::words(&made, Kind::Sqlite).iter().any(|word| word == "AUTOINCREMENT") {
            db.run(&format!(
                "INSERT INTO sqlite_sequence (name, seq) SELECT name, 0 FROM sqlite_schema WHERE type = 'table' \
                 AND name = {name} COLLATE NOCASE AND name NOT IN (SELECT name FROM sqlite_sequence); \
                 UPDATE sqlite_sequence SET seq = max(seq, (SELECT n.seq FROM {numbers} AS n)) \
                 WHERE name = {name} COLLATE NOCASE"
            ))?;
        }
        return Ok(());
    }
    for (column, sequence) in sequences(db, table)? {
        let quoted = format!("\"{}\"", column.replace('"', "\"\""));
        let before = match kept {
            true => format!("UNION ALL SELECT seq FROM {numbers} WHERE name = {}", text(&column)),
            false => String::new(),
        };
        let backwards = format!(
            "(SELECT seqincrement < 0 FROM pg_catalog.pg_sequence WHERE seqrelid = {}::regclass)",
            text(&sequence)
        );
        db.run(&format!(
            "SELECT setval({}, CASE WHEN {backwards} THEN min(n) ELSE max(n) END) FROM (SELECT {quoted}::bigint AS n FROM {table} \
             UNION ALL SELECT last_value FROM {sequence} WHERE is_called {before}) q HAVING count(n) > 0",
            text(&sequence)
        ))?;
    }
    Ok(())
}

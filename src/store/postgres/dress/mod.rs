//! What an application has put on its tables beyond what a plan says, made again for the tables that take their place.
//!
//! The definitions are read with the home as search_path, so that what is there is named by its name alone, and run with the staging schema
//! before it, so that these names mean the staged tables. What the server then refuses cannot follow, and says so.

mod described;
mod follower;
mod outside;
mod table;
mod view;

use super::standing::{ours, short, standing};
use super::swap::{Companion, MADE};
use super::{Postgres, literal, quoted, words};
use crate::plan::{Kind, Table};
use crate::store::{Error, Result, Role, Site, Store};
use crate::tokens::{Is, Token, tokens};

/// One thing that follows: what it is, and the statements that make it.
struct Garment {
    what: String,
    sql: String,
}

/// Which relation takes the place of which, and which column that of which. `$1` is the home, `$2` the staging schema, `$3` and `$4` tables by
/// their names here and there, `$5` to `$8` columns: table, name here, name there, and
/// whether it counts there; `$9` whether views upon them count. Sequences, views and columns of views keep their names.
const PAIRS: &str = concat!(
    standing!("SELECT c.oid, $1::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = ANY($3)"),
    ", spot AS (SELECT n.oid, n.nspname, CASE n.nspname WHEN $1 THEN $2::text ELSE $2 || '.' || ", short!("n.nspname"), " END AS place FROM pg_catalog.pg_namespace n),
tbl AS (
    SELECT s.oid AS s, t.oid AS t, p.now FROM unnest($3::text[], $4::text[]) p(was, now)
        JOIN pg_catalog.pg_class s ON s.relname = p.was AND s.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1)
        JOIN pg_catalog.pg_class t ON t.relname = p.now AND t.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $2)),
rel AS (
    SELECT s, t, now AS name, 0 AS far, $2::text AS place FROM tbl
    UNION ALL SELECT v.oid, w.oid, v.relname::text, max(a.far), p.place FROM above a
        JOIN pg_catalog.pg_class v ON v.oid = a.oid AND a.classid = 'pg_catalog.pg_class'::regclass AND a.far > 0 AND $9 JOIN spot p ON p.oid = v.relnamespace
        LEFT JOIN pg_catalog.pg_namespace m ON m.nspname = p.place LEFT JOIN pg_catalog.pg_class w ON w.relname = v.relname AND w.relnamespace = m.oid
        GROUP BY 1, 2, 3, 5),
-- a routine there is known by its name and those of its arguments' types
fun AS (
    SELECT f.oid AS s, g.oid AS t, f.far, p.place, f.proname, CASE f.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END AS word,
        format('%I.%I(%s)', p.place, f.proname, pg_get_function_identity_arguments(f.oid)) AS named
    FROM (SELECT f.oid, f.proname, f.pronamespace, f.prokind, f.proargtypes, max(a.far) AS far FROM above a
        JOIN pg_catalog.pg_proc f ON f.oid = a.oid AND a.classid = 'pg_catalog.pg_proc'::regclass AND $9 GROUP BY f.oid) f
    JOIN spot p ON p.oid = f.pronamespace LEFT JOIN pg_catalog.pg_namespace m ON m.nspname = p.place
    LEFT JOIN pg_catalog.pg_proc g ON g.pronamespace = m.oid AND g.proname = f.proname
        AND ARRAY(SELECT y.typname FROM unnest(g.proargtypes) WITH ORDINALITY u(ty, o) JOIN pg_catalog.pg_type y ON y.oid = u.ty ORDER BY o)
            = ARRAY(SELECT y.typname FROM unnest(f.proargtypes) WITH ORDINALITY u(ty, o) JOIN pg_catalog.pg_type y ON y.oid = u.ty ORDER BY o)),
owned AS (
    SELECT q.oid AS s, w.oid AS t, q.relname::text AS name, d.refobjid AS of, d.refobjsubid AS num, d.deptype
    FROM tbl JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = tbl.s
        AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')
    JOIN pg_catalog.pg_class q ON q.oid = d.objid AND q.relkind = 'S'
    LEFT JOIN pg_catalog.pg_class w ON w.relname = q.relname AND w.relkind = 'S'
        AND w.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $2)),
col AS (
    SELECT x.s, x.t, x.name, x.place, a.attnum AS snum, b.attnum AS tnum, a.attname AS was, b.attname AS now, m.counts
    FROM rel x JOIN pg_catalog.pg_class c ON c.oid = x.s JOIN pg_catalog.pg_attribute a ON a.attrelid = x.s AND a.attnum > 0
        AND NOT a.attisdropped
    LEFT JOIN unnest($5::text[], $6::text[], $7::text[], $8::bool[]) m(tbl, was, now, counts) ON c.relkind = 'r' AND m.tbl = c.relname AND m.was = a.attname
    JOIN pg_catalog.pg_attribute b ON b.attrelid = x.t AND b.attname = CASE c.relkind WHEN 'r' THEN m.now ELSE a.attname END)
"
);

/// The tables and columns of a run as a query takes them.
struct Pairs {
    home: String,
    staged: String,
    was: Vec<String>,
    now: Vec<String>,
    columns: [Vec<String>; 3],
    counts: Vec<bool>,
    views: bool,
    /// What is not made there, by what it is called.
    without: Vec<String>,
}

impl Pairs {
    fn of(home: String, staged: String, sources: &[&Table], targets: &[&Table]) -> Pairs {
        let names = |tables: &[&Table]| tables.iter().map(|t| t.name.clone()).collect();
        let (mut columns, mut counts): ([Vec<String>; 3], Vec<bool>) = Default::default();
        for (source, target) in sources.iter().zip(targets) {
            let moved = source.columns.iter().zip(&target.columns).map(|(s, t)| (&s.name, &t.name, t.identity));
            let computed = source.generated.iter().filter(|g| target.generated.iter().any(|t| t.name == g.name));
            for (was, now, count) in moved.chain(computed.map(|g| (&g.name, &g.name, false))) {
                for (list, name) in columns.iter_mut().zip([&source.name, was, now]) {
                    list.push(name.clone());
                }
                counts.push(count);
            }
        }
        let (was, now) = (names(sources), names(targets));
        Pairs { home, staged, was, now, columns, counts, views: true, without: Vec::new() }
    }

    /// The same while the staged tables have the names of the sources.
    fn disguised(self) -> Pairs {
        let [tables, was, _] = self.columns;
        Pairs { now: self.was.clone(), columns: [tables, was.clone(), was], ..self }
    }
}

/// Reads what there is to be made.
type Step = fn(&mut Postgres, &Pairs) -> Result<Vec<Garment>>;

/// Statements that give staged tables and their columns the names of the sources, and those that give them their own again. Names that change
/// places go by others.
fn disguise(staged: &str, sources: &[&Table], targets: &[&Table]) -> (Vec<String>, Vec<String>) {
    let (mut on, mut off) = (Vec::new(), Vec::new());
    let (mut away, mut there, mut from, mut back) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (n, (source, target)) in sources.iter().zip(targets).enumerate() {
        let table = format!("ALTER TABLE {}.", quoted(staged));
        let mut columns: Vec<(&str, Option<&str>)> =
            source.columns.iter().zip(&target.columns).map(|(s, t)| (t.name.as_str(), Some(s.name.as_str()))).collect();
        columns.extend(target.alone.iter().map(|l| (l.column.name.as_str(), None)));
        columns.extend(
            target.generated.iter().map(|g| {
                (g.name.as_str(), source.generated.iter().find(|s| s.name == g.name).map(|s| s.name.as_str()))
            }),
        );
        let changes = |(now, was): &&(&str, Option<&str>)| {
            was.is_none_or(|was| was != *now)
                && (was.is_some() || columns.iter().any(|(other, was)| *was == Some(*now) && other != now))
        };
        let changed: Vec<_> = columns.iter().filter(changes).collect();
        let rename =
            |a: &str, b: &str| format!("{table}{} RENAME COLUMN {} TO {}", quoted(&target.name), quoted(a), quoted(b));
        let by = |i: usize| format!("backout_{i}");
        on.extend(changed.iter().enumerate().map(|(i, (now, _))| rename(now, &by(i))));
        on.extend(changed.iter().enumerate().filter_map(|(i, (_, was))| Some(rename(&by(i), (*was)?))));
        off.extend(changed.iter().enumerate().filter_map(|(i, (_, was))| Some(rename((*was)?, &by(i)))));
        off.extend(changed.iter().enumerate().map(|(i, (now, _))| rename(&by(i), now)));
        if source.name != target.name {
            let rename = |a: &str, b: &str| format!("{table}{} RENAME TO {}", quoted(a), quoted(b));
            away.push(rename(&target.name, &by(n)));
            there.push(rename(&by(n), &source.name));
            from.push(rename(&source.name, &by(n)));
            back.push(rename(&by(n), &target.name));
        }
    }
    (on.into_iter().chain(away).chain(there).collect(), from.into_iter().chain(back).chain(off).collect())
}

/// Each table with the one that comes in its place: of several tables that become one, what is on the first is what the one has; of several that
/// one becomes, the first has it.
fn firsts<'t>(sources: &[&'t Table], targets: &[&'t Table]) -> (Vec<&'t Table>, Vec<&'t Table>) {
    let first = |n: usize| {
        !targets[..n].iter().any(|t| t.name == targets[n].name)
            && !sources[..n].iter().any(|s| s.name == sources[n].name)
    };
    let paired = (0..sources.len().min(targets.len())).filter(|n| first(*n));
    paired.map(|n| (sources[n], targets[n])).unzip()
}

impl Postgres {
    /// Sets where names are looked for, for the rest of the transaction; returns where they were.
    pub(super) fn look_in(&mut self, path: &str) -> Result<String> {
        let sql = "SELECT current_setting('search_path'), set_config('search_path', $1, true)";
        let lines = self.ask("setting the search_path", sql, &[&path])?;
        Ok(lines.first().map(|l| l.get(0)).unwrap_or_default())
    }

    pub(super) fn dress_all(&mut self, sources: &[&Table], targets: &[&Table]) -> Result<()> {
        self.make_schema(&Site::Backup)?;
        let (home, staged) = (self.base.clone(), self.home.clone());
        let rest = self.look_in(&quoted(&home))?;
        let done = self.dress_in(&home, &staged, &rest, sources, targets);
        // where it failed, the transaction takes the path back with it
        if done.is_ok() {
            self.look_in(&rest)?;
        }
        done
    }

    fn dress_in(&mut self, home: &str, staged: &str, rest: &str, sources: &[&Table], targets: &[&Table]) -> Result<()> {
        let worn = self.described(home, sources, true, true)?;
        let mark = mark_of(&worn);
        if self.mark_on(staged)?.as_deref() == Some(&mark) {
            return self.refresh(staged, targets);
        }
        let mut others: Vec<String> =
            self.companions(home, sources)?.iter().filter_map(|c| c.other().map(str::to_owned)).collect();
        others.sort();
        others.dedup();
        let places = self.places(staged, &others)?;
        for place in &places {
            self.make_named(place)?;
        }
        let read =
            [home].into_iter().chain(others.iter().map(String::as_str)).map(quoted).collect::<Vec<_>>().join(", ");
        // each name means what is staged by it, if anything is, before what is there by it
        let made = |(place, schema): (&String, &String)| [quoted(place), quoted(schema)];
        let path = [quoted(staged), quoted(home)].into_iter().chain(places.iter().zip(&others).flat_map(made));
        let path = path.chain([rest.to_owned()]).collect::<Vec<_>>().join(", ");
        let (all, every) = (sources, targets);
        let (sources, targets) = firsts(sources, targets);
        let (sources, targets) = (sources.as_slice(), targets.as_slice());
        let mut pairs = Pairs::of(home.to_owned(), staged.to_owned(), sources, targets);
        for (source, target) in sources.iter().zip(targets).filter(|(s, _)| is_split(all, s)) {
            let unfit = self.unfit_triggers(source, target, true)?;
            pairs.without.extend(unfit.iter().map(|(trigger, _)| format!("trigger {trigger} of {}", source.name)));
        }
        // each of several has a sequence of its own, under the name that it was made with
        let several = |name: &String| all.iter().filter(|s| s.name == *name).count() > 1;
        pairs.columns[0]
            .iter()
            .zip(&mut pairs.counts)
            .filter(|(t, _)| several(t))
            .for_each(|(_, counts)| *counts = false);
        self.strip(staged, every)?;
        self.put_on_all(&pairs, &read, &path, &[Postgres::no_identities, Postgres::sequences])?;
        // under the names of the sources every definition means what it means there; the server follows a renaming by itself
        let (on, off) = disguise(staged, sources, targets);
        self.run("preparing the swap", &on.join("; "))?;
        let steps: [Step; 6] = [
            Postgres::views,
            Postgres::unlogged,
            Postgres::storage,
            Postgres::rows_guarded,
            Postgres::acting,
            Postgres::said_and_owned,
        ];
        self.put_on_all(&pairs.disguised(), &read, &path, &steps)?;
        self.run("preparing the swap", "SAVEPOINT backout_try")?;
        self.look_in(&read)?;
        let followers = self.followers(all)?;
        self.look_in(&path)?;
        self.try_leading(&followers)?;
        // by a name that is another's there, something staged may have come to stand on a source
        self.nothing_outside(all)?;
        self.run("preparing the swap", "ROLLBACK TO SAVEPOINT backout_try; RELEASE SAVEPOINT backout_try")?;
        self.run("preparing the swap", &off.join("; "))?;
        for (n, (source, target)) in all.iter().zip(every).enumerate() {
            if is_split(all, source) && all[..n].iter().any(|s| s.name == source.name) {
                self.dress_part(&read, &path, [home, staged], source, target)?;
            }
        }
        self.look_in(&quoted(home))?;
        let mut made: Vec<String> = self.companions(staged, targets)?.iter().map(Companion::title).collect();
        for title in self.companions(home, all)?.iter().map(Companion::title) {
            let Some(n) = made.iter().position(|m| *m == title) else {
                return Err(self.refused(
                    format!("{title} stands on a table in whose place none comes that is its own"),
                    "drop it first and make it again afterwards",
                ));
            };
            made.swap_remove(n);
        }
        self.compare(&read, &path, [home, staged], sources, targets)?;
        let comment = literal(&format!("{MADE} {mark}"));
        self.run("preparing the swap", &format!("COMMENT ON SCHEMA {} IS {comment}", quoted(staged)))
    }

    /// The counterparts of schemas where tables are staged.
    fn places(&mut self, staged: &str, schemas: &[String]) -> Result<Vec<String>> {
        let sql =
            concat!("SELECT $1 || '.' || ", short!("s"), " FROM unnest($2::text[]) WITH ORDINALITY u(s, o) ORDER BY o");
        Ok(self.query("preparing the swap", sql, &[&staged, &schemas])?.iter().map(|l| l.get(0)).collect())
    }

    /// Another of several tables that one becomes: who may do what with it, and what happens then, is as on the first.
    fn dress_part(
        &mut self,
        read: &str,
        path: &str,
        [home, staged]: [&str; 2],
        source: &Table,
        target: &Table,
    ) -> Result<()> {
        let unfit = self.unfit_triggers(source, target, false)?;
        let (on, off) = disguise(staged, &[source], &[target]);
        self.run("preparing the swap", &on.join("; "))?;
        let mut pairs = Pairs::of(home.to_owned(), staged.to_owned(), &[source], &[target]).disguised();
        pairs.views = false;
        pairs.without = unfit.into_iter().map(|(trigger, _)| format!("trigger {trigger} of {}", source.name)).collect();
        let steps: [Step; 3] = [Postgres::rows_guarded, Postgres::triggers, Postgres::said_and_owned];
        self.put_on_all(&pairs, read, path, &steps)?;
        self.run("preparing the swap", &off.join("; "))
    }

    /// The triggers of a table that one of those that it becomes does not get, and why: what they do speaks of columns by names that they do not have
    /// there, or cannot be read. On the first of them what cannot be read is put all the same.
    fn unfit_triggers(&mut self, source: &Table, target: &Table, first: bool) -> Result<Vec<(String, String)>> {
        let sql = "SELECT t.tgname::text, pg_get_triggerdef(t.oid, true), p.proname::text, l.lanname::text, p.prosrc \
            FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
            JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
            WHERE c.relname = $1 AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $2) \
            AND NOT t.tgisinternal AND t.tgname NOT LIKE 'backout\\_%' ORDER BY 1";
        let home = self.base.clone();
        let lines = self.ask("looking at triggers", sql, &[&source.name, &home])?;
        let there = |name: &str| {
            let mut alone = target.alone.iter().map(|l| &l.column.name);
            target.column(name).is_some() || alone.any(|n| n == name) || target.generated.iter().any(|g| g.name == name)
        };
        let own = source.columns.iter().map(|c| &c.name).chain(source.alone.iter().map(|l| &l.column.name));
        let lacking: Vec<&String> = own.filter(|name| !there(name)).collect();
        let named = |text: &str| {
            let speaks = |t: &Token<'_>, name: &str| match t.is {
                Is::Word => t.text.eq_ignore_ascii_case(name),
                Is::Name => t.name(Kind::Postgres) == name,
                // it may be run
                Is::Text => t.text.to_lowercase().contains(&name.to_lowercase()),
                _ => false,
            };
            let all: Vec<Token<'_>> = tokens(text, Kind::Postgres).collect();
            lacking.iter().find(|name| all.iter().any(|t| speaks(t, name)))
        };
        let unfit = |l: &postgres::Row| {
            let (trigger, definition, function): (String, String, String) = (l.get(0), l.get(1), l.get(2));
            let (language, body): (String, String) = (l.get(3), l.get(4));
            let why = match (named(&definition), named(&body)) {
                (Some(name), _) => format!("it speaks of {name}, which is not there"),
                _ if language != "plpgsql" => {
                    let told = format!("what its function {function} speaks of cannot be told");
                    return (!first).then_some((trigger, told));
                }
                (None, Some(name)) => format!("its function {function} speaks of {name}, which is not there"),
                (None, None) => return None,
            };
            Some((trigger, why))
        };
        Ok(lines.iter().filter_map(unfit).collect())
    }

    /// Each step reads what the one before has made.
    fn put_on_all(&mut self, pairs: &Pairs, read: &str, path: &str, steps: &[Step]) -> Result<()> {
        for step in steps {
            self.look_in(read)?;
            let garments = step(self, pairs)?;
            self.look_in(path)?;
            for garment in garments.iter().filter(|g| !pairs.without.contains(&g.what)) {
                self.put_on(garment)?;
            }
        }
        Ok(())
    }

    fn put_on(&mut self, garment: &Garment) -> Result<()> {
        self.client.batch_execute(&garment.sql).map_err(|e| match super::failed(&self.title, &garment.what, &e) {
            e @ (Error::Locked { .. } | Error::Server { .. }) => e,
            _ => self.refused(
                format!("{} cannot follow to the tables that take the place of its own: {}", garment.what, words(&e)),
                "change it so that it fits both, or drop it first and make it again afterwards",
            ),
        })
    }

    /// Materialized views that were made with an earlier dressing: they are to be no older than those that they take the place of.
    fn refresh(&mut self, staged: &str, targets: &[&Table]) -> Result<()> {
        let companions = self.companions(staged, targets)?;
        let sql: Vec<String> = companions.iter().rev().filter_map(Companion::refresh_sql).collect();
        if sql.is_empty() { Ok(()) } else { self.run("refreshing materialized views", &sql.join("; ")) }
    }

    /// What an earlier dressing has made, where the sources have changed since.
    fn strip(&mut self, staged: &str, targets: &[&Table]) -> Result<()> {
        let names: Vec<&str> = targets.iter().map(|t| t.name.as_str()).collect();
        let sql = "SELECT s FROM ( \
            SELECT 0, format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass), c.relname, c.relnamespace \
                FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
                WHERE NOT t.tgisinternal AND t.tgname NOT LIKE 'backout\\_%' \
            UNION ALL SELECT 0, format('DROP POLICY %I ON %s', p.polname, p.polrelid::regclass), c.relname, c.relnamespace \
                FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid \
            UNION ALL SELECT 0, format('DROP RULE %I ON %s', r.rulename, r.ev_class::regclass), c.relname, c.relnamespace \
                FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND r.rulename <> '_RETURN' \
            UNION ALL SELECT 0, format('DROP STATISTICS %I.%I', n.nspname, e.stxname), c.relname, c.relnamespace \
                FROM pg_catalog.pg_statistic_ext e JOIN pg_catalog.pg_class c ON c.oid = e.stxrelid \
                JOIN pg_catalog.pg_namespace n ON n.oid = e.stxnamespace \
            UNION ALL SELECT 1, concat_ws(', ', format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY, \
                    REPLICA IDENTITY DEFAULT, SET WITHOUT CLUSTER', c.oid::regclass), 'RESET (' || (SELECT string_agg( \
                    u.pre || quote_ident(split_part(o, '=', 1)), ', ') FROM (SELECT '' AS pre, unnest(c.reloptions) AS o \
                    UNION ALL SELECT 'toast.', unnest(t.reloptions)) u) || ')'), c.relname, c.relnamespace \
                FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid WHERE c.relkind = 'r' \
            UNION ALL SELECT 2, CASE d.objsubid WHEN 0 THEN format('COMMENT ON TABLE %s IS NULL', c.oid::regclass) \
                    ELSE format('COMMENT ON COLUMN %s.%I IS NULL', c.oid::regclass, a.attname) END, c.relname, c.relnamespace \
                FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid AND c.relkind = 'r' \
                LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid \
                WHERE d.classoid = 'pg_catalog.pg_class'::regclass \
            ) x(o, s, relname, relnamespace) \
            WHERE relname = ANY($1) AND relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $2) ORDER BY o, s";
        let lines = self.query("preparing the swap anew", sql, &[&names, &staged])?;
        let mut sql: Vec<String> = self.companions(staged, targets)?.iter().filter_map(Companion::drop_sql).collect();
        sql.extend(lines.iter().map(|l| l.get(0)));
        if sql.is_empty() { Ok(()) } else { self.run("preparing the swap anew", &sql.join("; ")) }
    }

    /// The mark that the last dressing left on the staging schema.
    fn mark_on(&mut self, schema: &str) -> Result<Option<String>> {
        let sql = "SELECT obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace WHERE nspname = $1";
        let lines = self.ask("looking at the staging schema", sql, &[&schema])?;
        let comment: Option<String> = lines.first().and_then(|l| l.get(0));
        Ok(comment.and_then(|c| c.strip_prefix(MADE).map(|m| m.trim().to_owned())).filter(|m| !m.is_empty()))
    }

    /// Refuses if what the application has put on the sources has changed since the targets were dressed.
    pub(super) fn still_dressed(&mut self, sources: &[&Table], staged: &str) -> Result<()> {
        let Some(mark) = self.mark_on(staged)? else {
            return Err(self.wrong("swapping tables", "the staged tables were not prepared for it"));
        };
        let home = self.base.clone();
        let rest = self.look_in(&quoted(&home))?;
        let worn = self.described(&home, sources, true, true)?;
        self.look_in(&rest)?;
        if mark == mark_of(&worn) {
            return self.nothing_outside(sources);
        }
        Err(self.refused(
            "a view, trigger, policy, privilege or the like was changed on the tables after what takes their place was prepared",
            "go on again: it is prepared anew",
        ))
    }

    /// Unchanged tables must look the same, or something would be lost without a word.
    fn compare(
        &mut self,
        read: &str,
        path: &str,
        [home, staged]: [&str; 2],
        sources: &[&Table],
        targets: &[&Table],
    ) -> Result<()> {
        let same = |s: &Table, t: &Table| {
            (&s.name, &s.columns, &s.key, &s.indexes, &s.constraints, &s.foreign_keys)
                == (&t.name, &t.columns, &t.key, &t.indexes, &t.constraints, &t.foreign_keys)
                && s.alone.is_empty()
                && t.alone.is_empty()
        };
        let unchanged: Vec<&Table> = sources.iter().zip(targets).filter(|(s, t)| same(s, t)).map(|(s, _)| *s).collect();
        // a view may stand on a table that changes, too
        let all = unchanged.len() == sources.len();
        self.look_in(read)?;
        let worn = self.described(home, &unchanged, all, false)?;
        self.look_in(path)?;
        let made = self.described(staged, &unchanged, all, false)?;
        let lacking = worn.iter().find(|w| !made.contains(w)).map(|w| (w, "has no equal there"));
        let beyond = || made.iter().find(|m| !worn.contains(m)).map(|m| (m, "was not here before"));
        let Some((what, how)) = lacking.or_else(beyond) else { return Ok(()) };
        Err(self.refused(
            format!("what takes the place of the tables would not be the same: {what} {how}"),
            "change or drop it first, and tell us: it should have followed",
        ))
    }

    /// What would be refused at the swap, found out on empty tables in a transaction that is taken back.
    pub(super) fn could_swap(&mut self, sources: &[&Table], targets: &[&Table]) -> Result<Vec<String>> {
        if self.open.is_some() {
            return Err(self.wrong("trying the swap", "a transaction is open"));
        }
        let mut told = self.outsiders(sources, targets)?;
        let paired = |n: usize| n < targets.len() && !targets[..n].iter().any(|t| t.name == targets[n].name);
        for (n, source) in sources.iter().enumerate() {
            let first = sources[..n].iter().position(|s| s.name == source.name);
            match first {
                Some(first) => told.push(format!(
                    "{}: rules, statistics and storage settings of {} are put on {} alone",
                    targets[n].name, source.name, targets[first].name
                )),
                None if !paired(n) => told.extend(self.left_behind(source)?),
                None => {}
            }
            if is_split(sources, source) {
                let unfit = self.unfit_triggers(source, targets[n], first.is_none())?;
                let each = |(trigger, why)| format!("{}: trigger {trigger} is not put on it: {why}", targets[n].name);
                told.extend(unfit.into_iter().map(each));
            }
        }
        if firsts(sources, targets).0.len() != sources.len() {
            let home = self.base.clone();
            let views = self.companions(&home, sources)?.iter().map(Companion::title).collect::<Vec<_>>();
            let others = self.followers(sources)?.into_iter().map(follower::Follower::what);
            told.extend(
                views
                    .into_iter()
                    .filter(|t| !t.starts_with("statistics "))
                    .chain(others)
                    .map(|what| format!("{what} is not changed otherwise: where rows come together it speaks of all of them, where they part of the first table's")),
            );
        }
        let was = (self.home.clone(), self.side.clone());
        self.run("trying the swap", "BEGIN; SET LOCAL lock_timeout = '2s'; SET LOCAL row_security = off")?;
        self.stand(Role::Target, Site::Staged(format!("try_{:.12}", uuid::Uuid::new_v4().simple().to_string())));
        let tried = self.rehearse(sources, targets);
        let _ = self.client.batch_execute("ROLLBACK");
        (self.home, self.side) = was;
        tried.map(|()| told)
    }

    /// What rests with a table in whose place none comes that is its own. A publication would lose it for good, the way back not telling.
    fn left_behind(&mut self, table: &Table) -> Result<Option<String>> {
        let home = self.base.clone();
        let on_it = |kinds: &[&str], lines: &[String]| {
            let mut found: Vec<&str> =
                lines.iter().filter_map(|l| l.split(' ').next()).filter(|w| kinds.contains(w)).collect();
            found.dedup();
            found.join(", ")
        };
        let lines = self.described(&home, &[table], false, true)?;
        if !on_it(&["publication"], &lines).is_empty() {
            let cause = format!("{} is in a publication, and no table of its own comes in its place", table.name);
            return Err(self.refused(cause, "take it out of the publication for the migration"));
        }
        let rests = on_it(&["trigger", "rule", "policy", "statistics"], &lines);
        let told = format!(
            "{}: {rests} on it and its privileges rest with it, as no table of its own comes in its place",
            table.name
        );
        Ok((!rests.is_empty()).then_some(told))
    }

    fn rehearse(&mut self, sources: &[&Table], targets: &[&Table]) -> Result<()> {
        let mut once: Vec<&Table> = Vec::new();
        for table in targets {
            if !once.iter().any(|t| t.name == table.name) {
                once.push(table);
            }
        }
        self.create_tables(&once)?;
        for table in &once {
            self.add_key(table)?;
        }
        self.add_rest(&once)?;
        self.dress_all(sources, targets)
    }

    /// Reads statements that make things, each with what it is.
    fn garments(&mut self, sql: &str, pairs: &Pairs) -> Result<Vec<Garment>> {
        let [tables, was, now] = &pairs.columns;
        let sql = format!("{PAIRS}{sql}");
        let lines = self.query(
            "reading what is on the tables",
            &sql,
            &[&pairs.home, &pairs.staged, &pairs.was, &pairs.now, tables, was, now, &pairs.counts, &pairs.views],
        )?;
        let garment = |l: &postgres::Row| Some(Garment { what: l.get(0), sql: l.get::<_, Option<String>>(1)? });
        Ok(lines.iter().filter_map(garment).collect())
    }
}

/// It becomes several.
fn is_split(sources: &[&Table], table: &Table) -> bool {
    sources.iter().filter(|s| s.name == table.name).count() > 1
}

fn mark_of(worn: &[String]) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(worn.join("\n").as_bytes()))
}

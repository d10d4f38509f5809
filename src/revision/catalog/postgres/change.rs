//! One PostgreSQL schema into another: which objects have to go, to be altered, to be made, and in which order.
//!
//! Everything that happens is an action. What depends on what, as `pg_depend` said, gives the order: an object goes after all that
//! needs it, and is made after all that it needs. What is only disturbed (a view of a column whose type changes) goes and comes again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::fate::{Fate, beyond, by_id, fate, needs};
use super::words::{about, called, column, column_settings, make, plain, settings, table, usual, within};
use super::{alter, rename};
use crate::plan::Kind;
use crate::revision::catalog::{About, Catalog, Column, Object, Renames, Statement, Table, What, differences};

/// Statements for a whole schema, and what none are made for.
pub(in crate::revision::catalog) fn create(catalog: &Catalog) -> (Vec<Statement>, Vec<String>) {
    change(&Catalog::empty(Kind::Postgres), catalog, &Renames::default())
}

const SECURITY: &str = " ROW LEVEL SECURITY";

/// Something that happens.
#[derive(Default)]
pub(super) struct Action {
    /// What may happen first does so in this order.
    pub(super) rank: u8,
    pub(super) statements: Vec<Statement>,
    /// Ids that have to be gone before.
    pub(super) gone: BTreeSet<String>,
    /// Ids that have to be there before.
    pub(super) made: BTreeSet<String>,
    /// Actions that have to be done before.
    pub(super) after: BTreeSet<usize>,
}

pub(super) struct Work<'a> {
    pub(super) from: &'a Catalog,
    pub(super) to: &'a Catalog,
    pub(super) fate: Fate,
    pub(super) actions: Vec<Action>,
    /// Who makes an id, and who makes it go.
    pub(super) makes: HashMap<String, usize>,
    pub(super) ends: HashMap<String, usize>,
    pub(super) not_generated: Vec<String>,
    /// Ids for which no statement is made.
    pub(super) beyond: BTreeSet<String>,
    /// Of the schema before: what each needs, and who needs it.
    pub(super) needs: BTreeMap<String, BTreeSet<String>>,
    pub(super) users: HashMap<String, Vec<String>>,
    pub(super) before: HashMap<String, &'a Object>,
    pub(super) after: HashMap<String, &'a Object>,
}

pub(in crate::revision::catalog) fn change(
    from: &Catalog,
    to: &Catalog,
    renames: &Renames,
) -> (Vec<Statement>, Vec<String>) {
    let (from, mut out) = rename::apply(from, to, renames);
    let beyond = beyond(&from, to);
    let (fate, stuck) = fate(&from, to);
    let mut work = Work {
        from: &from,
        to,
        fate,
        actions: Vec::new(),
        makes: HashMap::new(),
        ends: HashMap::new(),
        not_generated: stuck,
        beyond,
        users: HashMap::new(),
        needs: needs(&from),
        before: by_id(&from),
        after: by_id(to),
    };
    for (id, on) in &work.needs {
        for needed in on {
            work.users.entry(needed.clone()).or_default().push(id.clone());
        }
    }
    work.name_beyond();
    work.drop_objects();
    work.drop_tables();
    work.types();
    work.alter_tables();
    work.make_objects();
    work.make_tables();
    let bodies = to.objects.iter().any(|o| {
        let string = o.parts.iter().any(|(k, v)| k == "language" && matches!(v.as_str(), "sql" | "plpgsql"));
        string && work.makes.contains_key(&o.id())
    });
    let not_generated = std::mem::take(&mut work.not_generated);
    let ordered = work.ordered();
    if bodies {
        out.push(plain("SET check_function_bodies = off".into()));
    }
    out.extend(ordered);
    if bodies {
        out.push(plain("RESET check_function_bodies".into()));
    }
    (out, not_generated)
}

impl<'a> Work<'a> {
    pub(super) fn act(&mut self, action: Action) -> usize {
        self.actions.push(action);
        self.actions.len() - 1
    }

    fn name_beyond(&mut self) {
        for difference in differences(self.from, self.to) {
            if difference.order_only {
                continue;
            }
            let word = difference.what.word();
            let why = |t: Option<&Table>| t.filter(|t| self.beyond.contains(&t.id())).and_then(|t| t.beyond.clone());
            let table = why(self.to.table(&difference.object)).or_else(|| why(self.from.table(&difference.object)));
            let id = |o: &&Object| o.what == difference.what && o.title() == difference.object;
            let object = self.to.objects.iter().find(id).or_else(|| self.from.objects.iter().find(id));
            let ids = [format!("{word} {}", difference.object), object.map(Object::id).unwrap_or_default()];
            if let Some(why) = table {
                self.not_generated.push(format!("{word} {}: {why}", difference.object));
            } else if difference.what == What::Other {
                self.not_generated.push(format!("{}: no statement is made for this kind", difference.object));
            } else if ids.iter().any(|id| self.beyond.contains(id)) {
                self.not_generated
                    .push(format!("{word} {}: it needs what no statement is made for", difference.object));
            }
        }
        self.not_generated.sort();
        self.not_generated.dedup();
    }

    pub(super) fn goes(&self, id: &str) -> bool {
        self.fate.gone.contains(id)
    }

    /// The table that it belongs to goes, and takes it along.
    pub(super) fn taken_along(&self, object: &Object) -> Option<String> {
        let table = self.from.table(object.table.as_deref()?)?;
        self.goes(&table.id()).then(|| table.id())
    }

    fn types(&mut self) {
        let to = self.to;
        for object in &to.objects {
            let id = object.id();
            if self.beyond.contains(&id) || !self.fate.rebuilt.contains(&id) {
                continue;
            }
            let word = if object.what == What::Enum { "TYPE" } else { "DOMAIN" };
            let (schema, name) = super::words::split_last(&object.name);
            let aside = format!("\"{}~\"", name.trim_matches('"'));
            let rename = plain(format!("ALTER {word} {} RENAME TO {aside}", object.name));
            let first = self.act(Action { rank: 11, statements: vec![rename], ..Action::default() });
            let mut statements = make(object);
            statements.extend(self.said(object, &About::default(), true));
            let made: BTreeSet<String> = object.depends.clone();
            let second = self.act(Action { rank: 21, statements, made, after: [first].into(), ..Action::default() });
            self.makes.insert(id.clone(), second);
            let drop = plain(format!("DROP {word} {schema}.{aside}"));
            let last =
                self.act(Action { rank: 24, statements: vec![drop], after: [second].into(), ..Action::default() });
            // after all that had it
            for user in self.users.get(&id).cloned().unwrap_or_default() {
                if let Some(&end) = self.ends.get(&user) {
                    self.actions[last].after.insert(end);
                    if !user.starts_with("column ") && !self.fate.rebuilt.contains(&user) {
                        // by the name that the type still has
                        self.actions[first].after.insert(end);
                    }
                }
                if user.starts_with("column ") {
                    self.actions[last].made.insert(format!("retyped {user}"));
                }
                if self.fate.rebuilt.contains(&user) {
                    self.actions[last].gone.insert(user);
                }
            }
            self.ends.insert(id, last);
        }
    }

    fn alter_tables(&mut self) {
        let to = self.to;
        for table in &to.tables {
            let Some(was) = self.from.table(&table.name.quoted) else { continue };
            if self.beyond.contains(&table.id()) {
                continue;
            }
            let name = &table.name.quoted;
            for column in &table.columns {
                let id = table.column_id(column);
                let then = was.column(&column.name).filter(|_| !self.goes(&id));
                match then {
                    None => self.add_column(table, column),
                    Some(then) => {
                        let retyped = self.fate.retyped.contains(&id);
                        let rebuilt = retyped && then.ty == column.ty && then.collation == column.collation;
                        let mut statements = alter::column(table, then, column, retyped, rebuilt);
                        statements.extend(column_settings(table, Some(then), column));
                        let mut made = column.depends.clone();
                        made.retain(|d| !d.starts_with("column ") && !d.starts_with("table "));
                        let mut action = Action { rank: 22, statements, made, ..Action::default() };
                        if retyped || then.not_null != column.not_null || then.identity != column.identity {
                            let users = self.users.get(&id).into_iter().flatten();
                            action.gone = users.filter(|user| !self.fate.retyped.contains(*user)).cloned().collect();
                        }
                        let called = format!("COLUMN {id}", id = id.trim_start_matches("column "));
                        action.statements.extend(about(&called, &then.about, &column.about, None, false));
                        let loosened = alter::loosened(table, then, column);
                        if !loosened.is_empty() {
                            let first = self.act(Action { rank: 7, statements: loosened, ..Action::default() });
                            action.after.insert(first);
                        }
                        let old_types: Vec<String> = then.depends.difference(&column.depends).cloned().collect();
                        let at = self.act(action);
                        if retyped {
                            self.makes.insert(format!("retyped {id}"), at);
                            self.makes.insert(id.clone(), at);
                        }
                        for ty in old_types {
                            if let Some(&end) = self.ends.get(&ty) {
                                self.actions[end].after.insert(at);
                            }
                        }
                        let default = table.default_id(column);
                        let changed = then.default != column.default || self.goes(&default);
                        if let Some(expression) = column.default.as_ref().filter(|_| changed) {
                            let sql =
                                format!("ALTER TABLE {name} ALTER COLUMN {} SET DEFAULT {expression}", column.quoted);
                            let mut statements = vec![plain(sql)];
                            statements.extend(self.counted(table, column));
                            let made = column.default_depends.clone();
                            let mut after = BTreeSet::from([at]);
                            after.extend(self.ends.get(&default).copied());
                            let set = self.act(Action { rank: 26, statements, made, after, ..Action::default() });
                            self.makes.insert(default, set);
                            // what the one before needed goes after
                            for need in &then.default_depends {
                                if let Some(&end) =
                                    self.ends.get(need).filter(|_| !self.ends.contains_key(&table.default_id(column)))
                                {
                                    self.actions[end].after.insert(set);
                                }
                            }
                        }
                    }
                }
            }
            let mut statements = settings(Some(was), table, false);
            statements.extend(about(&format!("TABLE {name}"), &was.about, &table.about, None, false));
            self.act(Action { rank: 23, statements, ..Action::default() });
            self.late_settings(Some(was), table);
        }
    }

    fn late_settings(&mut self, was: Option<&Table>, table: &Table) {
        // an index that went took the setting along
        let mut then = was.cloned();
        for key in ["replica identity", "clustered on"] {
            if let Some(value) = was.and_then(|t| t.options.get(key)) {
                let index = value.trim_start_matches("USING INDEX ");
                let went = self.from.objects.iter().any(|o| {
                    self.goes(&o.id())
                        && o.table.as_deref() == Some(&table.name.quoted)
                        && super::words::split_last(&o.name).1 == index
                });
                if went && let Some(then) = &mut then {
                    then.options.remove(key);
                }
            }
        }
        let statements = settings(then.as_ref(), table, true);
        if !statements.is_empty() {
            self.act(Action { rank: 60, statements, ..Action::default() });
        }
    }

    fn add_column(&mut self, table: &Table, one: &Column) {
        let apart = one.default.is_some() && !self.simple(&one.default_depends);
        let name = &table.name.quoted;
        let mut statements = vec![plain(format!("ALTER TABLE {name} ADD COLUMN {}", column(table, one, !apart, true)))];
        statements.extend(column_settings(table, None, one));
        let id = table.column_id(one);
        let called = format!("COLUMN {}", id.trim_start_matches("column "));
        statements.extend(about(&called, &About::default(), &one.about, None, true));
        let mut made = one.depends.clone();
        if !apart {
            made.extend(one.default_depends.iter().filter(|d| **d != id).cloned());
        }
        let gone = BTreeSet::from([id.clone()]);
        let at = self.act(Action { rank: 25, statements, made, gone, ..Action::default() });
        self.makes.insert(id, at);
        self.makes.insert(table.default_id(one), at);
        if apart && let Some(expression) = &one.default {
            let sql = format!("ALTER TABLE {name} ALTER COLUMN {} SET DEFAULT {expression}", one.quoted);
            let made = one.default_depends.clone();
            let set = self.act(Action {
                rank: 26,
                statements: vec![plain(sql)],
                made,
                after: [at].into(),
                ..Action::default()
            });
            self.makes.insert(table.default_id(one), set);
        }
    }

    /// A sequence that was not there goes on after the rows that are.
    fn counted(&self, table: &Table, column: &Column) -> Option<Statement> {
        let sequence = column.default_depends.iter().find_map(|d| d.strip_prefix("sequence "))?;
        if self.before.contains_key(&format!("sequence {sequence}"))
            || !column.ty.ends_with("int") && column.ty != "integer"
        {
            return None;
        }
        let name = sequence.replace('\'', "''");
        Some(plain(format!(
            "SELECT pg_catalog.setval('{name}', (SELECT max({}) FROM {}))",
            column.quoted, table.name.quoted
        )))
    }

    /// None of these leads to a table by way of a function: what needs them may stand within CREATE TABLE.
    fn simple(&self, needs: &BTreeSet<String>) -> bool {
        let (mut open, mut seen): (Vec<&String>, BTreeSet<&String>) = (needs.iter().collect(), BTreeSet::new());
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            if id.starts_with("function ") {
                let Some(object) = self.after.get(id) else { return false };
                let leads =
                    |d: &String| ["table ", "column ", "view ", "materialized view "].iter().any(|k| d.starts_with(k));
                if object.depends.iter().any(leads) {
                    return false;
                }
                open.extend(object.depends.iter());
            }
        }
        true
    }

    /// Comment, owner and grants of an object.
    fn said(&self, object: &Object, from: &About, fresh: bool) -> Vec<Statement> {
        let mut from = from.clone();
        if fresh && !object.about.grants.is_empty() {
            from.grants = usual(object.what, &object.about);
        }
        about(&called(object), &from, &object.about, self.to.reader.as_deref(), fresh)
    }

    fn make_objects(&mut self) {
        let to = self.to;
        for object in &to.objects {
            let id = object.id();
            if self.beyond.contains(&id) || self.makes.contains_key(&id) {
                continue;
            }
            let before = self.before.get(&id).copied().filter(|_| !self.goes(&id));
            let rank = match object.what {
                What::Schema => 20,
                What::Extension => 20,
                What::Sequence => 21,
                What::Function => 30,
                What::Constraint => 40,
                What::Index => 42,
                What::Statistics => 43,
                What::View | What::MaterializedView => 44,
                What::Rule => 46,
                What::ForeignKey => 50,
                What::Trigger => 52,
                What::Policy => 54,
                _ => 21,
            };
            let mut made = object.depends.clone();
            if let Some(table) = &object.table {
                made.insert(format!("table {table}"));
            }
            if let Some(before) = before {
                let mut statements = alter::object(before, object);
                statements.extend(self.said(object, &before.about, false));
                if !statements.is_empty() {
                    let at = self.act(Action { rank, statements, made, ..Action::default() });
                    self.makes.insert(id.clone(), at);
                    // what it needed and no longer does
                    for need in before.depends.difference(&object.depends) {
                        if let Some(&end) = self.ends.get(need) {
                            self.actions[end].after.insert(at);
                        }
                    }
                }
                self.own(object, before.parts.iter().find(|(k, _)| k == "OWNED BY"));
                continue;
            }
            if object.what == What::Schema && object.name == "public" {
                continue;
            }
            let mut statements = make(object);
            statements.extend(self.said(object, &About::default(), true));
            let after = self.ends.get(&id).copied().into_iter().collect();
            let at = self.act(Action { rank, statements, made, after, ..Action::default() });
            self.makes.insert(id, at);
            self.own(object, None);
        }
    }

    /// A column owns a sequence.
    fn own(&mut self, object: &Object, was: Option<&(String, String)>) {
        let is = object.parts.iter().find(|(k, _)| k == "OWNED BY");
        if object.what != What::Sequence || is == was && !is.is_some_and(|(_, c)| self.goes(&format!("column {c}"))) {
            return;
        }
        let owner = is.map_or("NONE", |(_, column)| column.as_str());
        let sql = format!("ALTER SEQUENCE {} OWNED BY {owner}", object.name);
        let made = BTreeSet::from([object.id(), format!("column {owner}"), format!("default {owner}")]);
        self.act(Action { rank: 27, statements: vec![plain(sql)], made, ..Action::default() });
    }

    fn make_tables(&mut self) {
        let to = self.to;
        for one in &to.tables {
            let id = one.id();
            if self.beyond.contains(&id) || self.from.table(&one.name.quoted).is_some() {
                continue;
            }
            let own = |o: &&Object| o.table.as_deref() == Some(&one.name.quoted) && o.what == What::Constraint;
            let inline: Vec<&Object> =
                to.objects.iter().filter(own).filter(|o| within(o) && self.simple(&o.depends)).collect();
            let apart: BTreeSet<String> = one
                .columns
                .iter()
                .filter(|c| c.default.is_some() && !self.simple(&c.default_depends))
                .map(|c| c.name.clone())
                .collect();
            let mut made = one.depends.clone();
            let mut statements = vec![plain(table(one, &inline, &apart))];
            let (secured, set): (Vec<_>, Vec<_>) =
                settings(None, one, false).into_iter().partition(|s| s.sql.ends_with(SECURITY));
            statements.extend(set);
            let mut said = one.about.clone();
            let from = About { grants: usual(What::Table, &said), ..About::default() };
            if said.grants.is_empty() {
                said.grants = from.grants.clone();
            }
            statements.extend(about(&format!("TABLE {}", one.name.quoted), &from, &said, to.reader.as_deref(), true));
            for column in &one.columns {
                made.extend(column.depends.iter().cloned());
                if !apart.contains(&column.name) {
                    made.extend(column.default_depends.iter().cloned());
                }
                statements.extend(column_settings(one, None, column));
                let called = format!("COLUMN {}", one.column_id(column).trim_start_matches("column "));
                statements.extend(about(&called, &About::default(), &column.about, None, true));
            }
            for constraint in &inline {
                made.extend(constraint.depends.iter().cloned());
                let called = called(constraint);
                statements.extend(about(&called, &About::default(), &constraint.about, None, true));
            }
            let own = format!("column {}.", one.name.quoted);
            made.retain(|d| *d != id && !d.starts_with(&own));
            let at = self.act(Action { rank: 28, statements, made, ..Action::default() });
            self.act(Action { rank: 55, statements: secured, after: [at].into(), ..Action::default() });
            self.makes.insert(id, at);
            self.attach(one);
            for column in &one.columns {
                self.makes.insert(one.column_id(column), at);
                if !apart.contains(&column.name) {
                    self.makes.insert(one.default_id(column), at);
                    continue;
                }
                let Some(expression) = &column.default else { continue };
                let sql =
                    format!("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {expression}", one.name.quoted, column.quoted);
                let made = column.default_depends.clone();
                let set = self.act(Action {
                    rank: 32,
                    statements: vec![plain(sql)],
                    made,
                    after: [at].into(),
                    ..Action::default()
                });
                self.makes.insert(one.default_id(column), set);
            }
            for constraint in inline {
                if let Some(before) = self.makes.insert(constraint.id(), at) {
                    self.actions[before].statements.clear();
                }
            }
            self.late_settings(None, one);
        }
    }

    /// A partition becomes one when it has the indexes that its parent wants, so that it keeps their names.
    fn attach(&mut self, table: &Table) {
        let (Some(bound), Some(parent)) = (table.options.get("partition"), table.options.get("inherits")) else {
            return;
        };
        let own = |o: &&Object| {
            matches!(o.what, What::Constraint | What::Index)
                && o.table.as_ref().is_some_and(|t| t == parent || *t == table.name.quoted)
        };
        let mut made: BTreeSet<String> = self.to.objects.iter().filter(own).map(Object::id).collect();
        made.extend([table.id(), format!("table {parent}")]);
        let sql = format!("ALTER TABLE {parent} ATTACH PARTITION {} {bound}", table.name.quoted);
        self.act(Action { rank: 43, statements: vec![plain(sql)], made, ..Action::default() });
    }

    /// The statements, in an order in which each finds what it needs.
    fn ordered(mut self) -> Vec<Statement> {
        for i in 0..self.actions.len() {
            let action = &self.actions[i];
            let mut after = action.after.clone();
            after.extend(action.made.iter().filter_map(|id| self.makes.get(id)).copied());
            after.extend(action.gone.iter().filter_map(|id| self.ends.get(id)).copied());
            after.remove(&i);
            self.actions[i].after = after;
        }
        // what has to wait for rows, and all that waits for it
        let n = self.actions.len();
        let late = |action: &Action| {
            let kinds = [
                "CREATE TRIGGER",
                "CREATE CONSTRAINT TRIGGER",
                "CREATE RULE",
                "CREATE POLICY",
                "CREATE MATERIALIZED",
                "CREATE OR REPLACE TRIGGER",
            ];
            let first = action.statements.first().map_or("", |s| s.sql.as_str());
            kinds.iter().any(|k| first.starts_with(k))
                || first.starts_with("ALTER TABLE") && (first.contains(" FOREIGN KEY (") || first.ends_with(SECURITY))
        };
        let mut is_late: Vec<bool> = self.actions.iter().map(late).collect();
        loop {
            let more: Vec<usize> = (0..n)
                .filter(|&i| {
                    !is_late[i] && self.actions[i].after.iter().any(|&a| is_late[a] && self.actions[a].rank >= 20)
                })
                .collect();
            if more.is_empty() {
                break;
            }
            more.into_iter().for_each(|i| is_late[i] = true);
        }
        let mut waiting: Vec<usize> = self.actions.iter().map(|a| a.after.len()).collect();
        let mut followers = vec![Vec::new(); n];
        for (i, action) in self.actions.iter().enumerate() {
            for &a in &action.after {
                followers[a].push(i);
            }
        }
        let rank = |i: usize| (is_late[i] && self.actions[i].rank >= 20, self.actions[i].rank, i);
        let mut ready: BTreeSet<_> = (0..n).filter(|&i| waiting[i] == 0).map(rank).collect();
        let mut open: BTreeSet<_> = (0..n).map(rank).collect();
        let mut out = Vec::new();
        // where it goes round, whatever comes first by rank goes first
        while let Some(next) = ready.pop_first().or_else(|| open.first().copied()) {
            if !open.remove(&next) {
                continue;
            }
            let i = next.2;
            out.extend(self.actions[i].statements.iter().cloned().map(|s| Statement { after_rows: is_late[i], ..s }));
            for &f in &followers[i] {
                waiting[f] = waiting[f].saturating_sub(1);
                if waiting[f] == 0 && open.contains(&rank(f)) {
                    ready.insert(rank(f));
                }
            }
        }
        out
    }
}

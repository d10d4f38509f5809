//! What goes.

use std::collections::BTreeSet;

use super::change::{Action, Work};
use super::words::{plain, unmake};
use crate::revision::catalog::What;

impl Work<'_> {
    pub(super) fn drop_objects(&mut self) {
        let from = self.from;
        for object in &from.objects {
            let id = object.id();
            if !self.goes(&id) || self.beyond.contains(&id) {
                continue;
            }
            // its table's own, or what refers to another one that goes before
            if self.taken_along(object).is_some() && object.what != What::ForeignKey {
                continue;
            }
            if let Some((_, owner)) = object.parts.iter().find(|(k, _)| k == "OWNED BY")
                && self.goes(&format!("column {owner}"))
            {
                // its column takes it along
                continue;
            }
            let rank = match object.what {
                What::Policy => 0,
                What::Trigger => 1,
                What::Rule => 2,
                What::View | What::MaterializedView => 3,
                What::ForeignKey => 4,
                What::Index | What::Statistics => 5,
                What::Constraint => 6,
                What::Function => 9,
                What::Sequence => 10,
                What::Schema | What::Extension => 13,
                _ => 11,
            };
            let at = self.act(Action { rank, statements: vec![plain(unmake(object))], ..Action::default() });
            self.ends.insert(id, at);
        }
        // a default that has to be away before what it needs goes
        for table in &from.tables {
            let Some(other) = self.to.table(&table.name.quoted) else { continue };
            for column in table.columns.iter().filter(|c| c.default.is_some()) {
                let id = table.default_id(column);
                if !self.goes(&id) || self.goes(&table.column_id(column)) || self.beyond.contains(&table.id()) {
                    continue;
                }
                let sql = format!("ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT", table.name.quoted, column.quoted);
                let retyped = self.fate.retyped.contains(&table.column_id(column));
                let kept = other.column(&column.name).is_some_and(|c| c.default.is_some());
                let needed = column.default_depends.iter().any(|d| self.goes(d) || self.fate.rebuilt.contains(d));
                // SET DEFAULT alone is enough for another one
                if !kept || retyped || needed {
                    let at = self.act(Action { rank: 7, statements: vec![plain(sql)], ..Action::default() });
                    self.ends.insert(id, at);
                }
            }
        }
    }

    pub(super) fn drop_tables(&mut self) {
        let from = self.from;
        for table in &from.tables {
            let id = table.id();
            if !self.beyond.contains(&id) && self.goes(&id) {
                let mut statements = vec![plain(format!("DROP TABLE {}", table.name.quoted))];
                if let (Some(_), Some(parent)) = (table.options.get("partition"), table.options.get("inherits")) {
                    if self.goes(&format!("table {parent}")) {
                        continue;
                    }
                    // foreign keys to its parent hold it
                    let detach = format!("ALTER TABLE {parent} DETACH PARTITION {}", table.name.quoted);
                    statements.insert(0, plain(detach));
                }
                let at = self.act(Action { rank: 8, statements, ..Action::default() });
                self.ends.insert(id, at);
                continue;
            }
            for column in &table.columns {
                let id = table.column_id(column);
                if !self.goes(&id) || self.beyond.contains(&table.id()) {
                    continue;
                }
                let sql = format!("ALTER TABLE {} DROP COLUMN {}", table.name.quoted, column.quoted);
                let at = self.act(Action { rank: 8, statements: vec![plain(sql)], ..Action::default() });
                self.ends.insert(id, at);
            }
        }
        // a partition goes with its parent
        loop {
            let with: Vec<(String, usize)> = from
                .tables
                .iter()
                .filter(|t| self.goes(&t.id()) && !self.ends.contains_key(&t.id()))
                .filter_map(|t| Some((t.id(), *self.ends.get(&format!("table {}", t.options.get("inherits")?))?)))
                .collect();
            if with.is_empty() {
                break;
            }
            self.ends.extend(with);
        }
        // who goes with a table goes when it does
        for table in &from.tables {
            let Some(&at) = self.ends.get(&table.id()) else { continue };
            for column in &table.columns {
                self.ends.insert(table.column_id(column), at);
                self.ends.insert(table.default_id(column), at);
            }
        }
        for object in from.objects.iter() {
            if self.ends.contains_key(&object.id()) {
                continue;
            }
            if let Some(table) = self.taken_along(object)
                && let Some(&at) = self.ends.get(&table)
            {
                self.ends.insert(object.id(), at);
            }
            if let Some((_, owner)) = object.parts.iter().find(|(k, _)| k == "OWNED BY")
                && let Some(&at) = self.ends.get(&format!("column {owner}"))
            {
                if self.goes(&object.id()) {
                    self.ends.insert(object.id(), at);
                } else {
                    let sql = format!("ALTER SEQUENCE {} OWNED BY NONE", object.name);
                    let free = self.act(Action { rank: 7, statements: vec![plain(sql)], ..Action::default() });
                    self.actions[at].after.insert(free);
                }
            }
        }
        for (id, on) in &self.needs {
            let Some(&user) = self.ends.get(id) else { continue };
            for needed in on {
                if let Some(&end) = self.ends.get(needed).filter(|end| **end != user) {
                    self.actions[end].after.insert(user);
                }
            }
        }
        // foreign keys among tables that go: children first, unless they go round
        let keys: Vec<(String, usize)> = from
            .objects
            .iter()
            .filter(|o| o.what == What::ForeignKey && self.taken_along(o).is_some())
            .filter_map(|o| Some((o.id(), *self.ends.get(&o.id())?)))
            .collect();
        for (id, at) in keys {
            let Some(own) = self.before.get(&id).and_then(|o| self.taken_along(o)) else { continue };
            let others: Vec<usize> = self
                .needs
                .get(&id)
                .into_iter()
                .flatten()
                .filter_map(|d| self.ends.get(d).copied())
                .filter(|end| Some(end) != self.ends.get(&own))
                .collect();
            let Some(&mine) = self.ends.get(&own) else { continue };
            if others.iter().all(|other| !self.reaches(mine, *other)) {
                // no way leads back: the table's own DROP is enough
                self.actions[at].statements.clear();
                for other in others {
                    if other != at {
                        self.actions[other].after.insert(mine);
                    }
                }
            }
        }
    }

    /// `one` has to be done after `other`.
    fn reaches(&self, one: usize, other: usize) -> bool {
        let (mut open, mut seen) = (vec![one], BTreeSet::new());
        while let Some(at) = open.pop() {
            if at == other {
                return true;
            }
            if seen.insert(at) {
                open.extend(self.actions[at].after.iter().copied());
            }
        }
        false
    }
}

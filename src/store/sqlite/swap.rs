//! In site: the targets are built beside the sources in the same file, and swapped in by their names (P3).

use std::borrow::Cow;

use super::Sqlite;
use crate::plan::Table;
use crate::store::{Result, Site};

/// What the names of tables and indexes begin with that are at this site.
pub(super) fn prefix(site: &Site) -> String {
    match site {
        Site::Home => String::new(),
        Site::Staged(run) => format!("backout_stage_{run}__"),
        Site::Backup => "migration_backup__".to_owned(),
    }
}

/// The table under the names that it has at this site. The tables of a run that has both sides in one file refer to one another alone.
pub(super) fn placed(table: &Table, site: &Site) -> Table {
    let prefix = prefix(site);
    let mut table = table.clone();
    table.name.insert_str(0, &prefix);
    table.foreign_keys.iter_mut().for_each(|f| f.table.insert_str(0, &prefix));
    table.indexes.iter_mut().filter_map(|i| i.name.as_mut()).for_each(|n| n.insert_str(0, &prefix));
    table
}

/// As the functions of this room take them.
pub(super) fn refs<'c>(tables: &'c [Cow<'_, Table>]) -> Vec<&'c Table> {
    tables.iter().map(|t| &**t).collect()
}

impl Sqlite {
    /// The table as it is called where this connection stands.
    pub(super) fn here<'t>(&self, table: &'t Table) -> Cow<'t, Table> {
        match &self.side {
            Some((_, site)) if *site != Site::Home => Cow::Owned(placed(table, site)),
            _ => Cow::Borrowed(table),
        }
    }

    pub(super) fn all_here<'t>(&self, tables: &[&'t Table]) -> Vec<Cow<'t, Table>> {
        tables.iter().map(|t| self.here(t)).collect()
    }

    pub(super) fn could_swap(&mut self, _sources: &[&Table], _targets: &[&Table]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    pub(super) fn swap_tables(&mut self, out: &[&Table], aside: &Site, home: &[&Table], from: &Site) -> Result<()> {
        self.ddl()?;
        for (tables, was, to) in [(out, &Site::Home, aside), (home, from, &Site::Home)] {
            for t in tables {
                let (was, to) = (format!("{}{}", prefix(was), t.name), format!("{}{}", prefix(to), t.name));
                let sql = format!("ALTER TABLE {} RENAME TO {}", super::text::quote(&was), super::text::quote(&to));
                self.run(&format!("swap {}", t.name), &sql)?;
            }
        }
        Ok(())
    }
}

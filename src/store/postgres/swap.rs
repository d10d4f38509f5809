//! In site: the targets are built in a schema of their own under their final names, and swapped in by `SET SCHEMA` (P3).

use super::{Postgres, quoted};
use crate::plan::Table;
use crate::store::{Result, Site};

impl Postgres {
    /// The schema in which the tables of a side lie that is at this site.
    pub(super) fn schema_of(&self, site: &Site) -> String {
        match site {
            Site::Home => self.base.clone(),
            Site::Staged(run) => format!("backout_stage_{run}"),
            Site::Backup => "migration_backup".to_owned(),
        }
    }

    /// Makes the schema of a site if it is not there.
    pub(super) fn make_schema(&mut self, site: &Site) -> Result<()> {
        let schema = self.schema_of(site);
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)";
        if *site != Site::Home && !self.query("looking for schemas", sql, &[&schema])?.first().is_some_and(|l| l.get(0))
        {
            self.run(&format!("creating schema {schema}"), &format!("CREATE SCHEMA {}", quoted(&schema)))?;
        }
        Ok(())
    }

    pub(super) fn could_swap(&mut self, _sources: &[&Table], _targets: &[&Table]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    pub(super) fn dress_all(&mut self, _sources: &[&Table], _targets: &[&Table]) -> Result<()> {
        self.make_schema(&Site::Backup)
    }

    pub(super) fn swap_tables(&mut self, out: &[&Table], aside: &Site, home: &[&Table], from: &Site) -> Result<()> {
        let mut sql = Vec::new();
        for (tables, was, to) in [(out, &Site::Home, aside), (home, from, &Site::Home)] {
            let (was, to) = (quoted(&self.schema_of(was)), quoted(&self.schema_of(to)));
            sql.extend(tables.iter().map(|t| format!("ALTER TABLE {was}.{} SET SCHEMA {to}", quoted(&t.name))));
        }
        self.run("swapping tables", &sql.join("; "))
    }
}

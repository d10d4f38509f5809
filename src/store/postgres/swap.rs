//! In place: the targets are built in a schema of their own under their final names, and swapped in by `SET SCHEMA` (P3).

use super::standing::{ours, short, standing};
use super::{Postgres, literal, quoted};
use crate::plan::Table;
use crate::store::{Result, Site};

/// The comment on schemas of ours: only these are dropped when they are empty.
pub(super) const MADE: &str = "Made by Backout for a migration in place; it goes with it.";

/// What lies beside tables and goes where they go: views upon them, routines that speak of their rows, statistics. Sequences and indexes go
/// by themselves.
pub(super) struct Companion {
    kind: String,
    /// Qualified, and told from others of its name.
    name: String,
    filled: bool,
    title: String,
    /// If it is of another schema than the tables: that, and what its counterparts have behind the dot.
    other: Option<(String, String)>,
}

impl Companion {
    /// How it is dropped; statistics go with their table.
    pub(super) fn drop_sql(&self) -> Option<String> {
        (self.kind != "STATISTICS").then(|| format!("DROP {} {}", self.kind, self.name))
    }

    /// What it is called, for people.
    pub(super) fn title(&self) -> String {
        let place = self.other.as_ref().map_or(String::new(), |(schema, _)| format!("{schema}."));
        format!("{} {place}{}", self.kind.to_lowercase(), self.title)
    }

    /// How it gets its rows anew, if it keeps any.
    pub(super) fn refresh_sql(&self) -> Option<String> {
        self.filled.then(|| format!("REFRESH {} {}", self.kind, self.name))
    }

    /// The schema of the application's in which it is at home, if it is not that of the tables.
    pub(super) fn other(&self) -> Option<&str> {
        self.other.as_ref().map(|(schema, _)| schema.as_str())
    }

    /// Where it lies when the tables lie in `site`.
    pub(super) fn place(&self, site: &str, home: &str) -> String {
        match &self.other {
            None => site.to_owned(),
            Some((schema, _)) if site == home => schema.clone(),
            Some((_, short)) => format!("{site}.{short}"),
        }
    }

    /// How it goes where the tables go to.
    pub(super) fn moved_sql(&self, to: &str, home: &str) -> String {
        format!("ALTER {} {} SET SCHEMA {}", self.kind, self.name, quoted(&self.place(to, home)))
    }
}

/// Those of the tables `$2` in the schema `$1`, what stands on others first.
const COMPANIONS: &str = concat!(
    standing!("SELECT c.oid, $1::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = ANY($2)"),
    ", found(kind, nsp, name, far, filled, title) AS (
    SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'MATERIALIZED VIEW' END, c.relnamespace, quote_ident(c.relname), max(a.far),
        c.relkind = 'm' AND c.relispopulated, c.relname::text
        FROM above a JOIN pg_catalog.pg_class c ON c.oid = a.oid AND a.classid = 'pg_catalog.pg_class'::regclass AND c.relkind IN ('v', 'm') GROUP BY c.oid, 1, 2, 3, 5, 6
    UNION ALL SELECT CASE f.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, f.pronamespace,
        format('%I(%s)', f.proname, pg_get_function_identity_arguments(f.oid)), max(a.far), false, f.proname::text
        FROM above a JOIN pg_catalog.pg_proc f ON f.oid = a.oid AND a.classid = 'pg_catalog.pg_proc'::regclass GROUP BY f.oid, 1, 2, 3, 6
    UNION ALL SELECT DISTINCT 'STATISTICS', e.stxnamespace, quote_ident(e.stxname), 0, false, e.stxname::text
        FROM above a JOIN pg_catalog.pg_statistic_ext e ON e.stxrelid = a.oid)
SELECT f.kind, quote_ident(n.nspname) || '.' || f.name, f.filled, f.title, o.schema, o.short
FROM found f JOIN pg_catalog.pg_namespace n ON n.oid = f.nsp LEFT JOIN LATERAL (
    SELECT s.nspname::text AS schema, ", short!("s.nspname"), " AS short FROM pg_catalog.pg_namespace s
    WHERE s.nspname = n.nspname AND $1 !~ ", ours!(), " OR n.nspname = $1 || '.' || ", short!("s.nspname"), " AND $1 ~ ", ours!(), "
    -- whose schema is gone cannot come home, and the server says so
    UNION ALL SELECT substr(n.nspname, length($1) + 2), substr(n.nspname, length($1) + 2) LIMIT 1) o ON n.nspname <> $1
ORDER BY f.far DESC, 1, 2"
);

/// How the tables `$3` of the schema `$1` take the places of `$2` in publications: a subscriber is sent what is home, and nothing of what rests.
const PUBLISHED: &str = "
SELECT format('ALTER PUBLICATION %I DROP TABLE ONLY %I.%I', p.pubname, $1, m.was), p.pubname::text, m.n,
    ARRAY(SELECT a.attname::text FROM unnest({columns}) WITH ORDINALITY u(num, o)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.num ORDER BY u.o), {clause}
FROM unnest($2::text[]) WITH ORDINALITY m(was, n) JOIN pg_catalog.pg_class c ON c.relname = m.was
    AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1)
JOIN pg_catalog.pg_publication_rel r ON r.prrelid = c.oid JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid ORDER BY 1";

/// Numbers that were given are not given again: each sequence that came home to `$1` goes on where the one of its name, now in `$2`, stands.
const NUMBERS: &str = "
SELECT setval(i.oid::regclass, v.v) FROM pg_catalog.pg_class i JOIN pg_catalog.pg_namespace h ON h.oid = i.relnamespace AND h.nspname = $1
JOIN pg_catalog.pg_class o ON o.relname = i.relname AND o.relkind = 'S' JOIN pg_catalog.pg_namespace a ON a.oid = o.relnamespace AND a.nspname = $2
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = o.oid AND d.deptype IN ('a', 'i')
JOIN pg_catalog.pg_class t ON t.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_class'::regclass AND t.relname = ANY($3)
JOIN pg_catalog.pg_sequence s ON s.seqrelid = i.oid
CROSS JOIN LATERAL (SELECT pg_sequence_last_value(o.oid) AS v, pg_sequence_last_value(i.oid) AS w) v
WHERE i.relkind = 'S' AND v.v BETWEEN s.seqmin AND s.seqmax
    AND (v.w IS NULL OR s.seqcycle OR CASE WHEN s.seqincrement > 0 THEN v.v > v.w ELSE v.v < v.w END)";

/// To plan what is asked of the catalog takes longer than to answer it, and is done before the locks.
const GENERIC: &str = "SET LOCAL plan_cache_mode = force_generic_plan";

fn names<'t>(tables: &[&'t Table]) -> Vec<&'t str> {
    tables.iter().map(|t| t.name.as_str()).collect()
}

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
        if *site == Site::Home { Ok(()) } else { self.make_named(&self.schema_of(site)) }
    }

    pub(super) fn make_named(&mut self, schema: &str) -> Result<()> {
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)";
        if !self.query("looking for schemas", sql, &[&schema])?.first().is_some_and(|l| l.get(0)) {
            let (name, made) = (quoted(schema), literal(MADE));
            let sql = format!("CREATE SCHEMA {name}; COMMENT ON SCHEMA {name} IS {made}");
            self.run(&format!("creating schema {schema}"), &sql)?;
        }
        Ok(())
    }

    /// Makes the counterparts that these need where tables lie in the schema `site`.
    pub(super) fn make_places(&mut self, companions: &[Companion], site: &str) -> Result<()> {
        let home = self.base.clone();
        let mut places: Vec<String> =
            companions.iter().filter(|c| c.other().is_some()).map(|c| c.place(site, &home)).collect();
        places.dedup();
        places.iter().filter(|_| site != home).try_for_each(|p| self.make_named(p))
    }

    /// Drops the schemas that we made for the sides of a run and that nothing is left in.
    pub(super) fn sweep_schemas(&mut self) -> Result<()> {
        let sql = "SELECT n.nspname::text FROM pg_catalog.pg_namespace n \
            WHERE n.nspname ~ '^(backout_stage_|migration_backup($|[.]))' AND starts_with(obj_description(n.oid, 'pg_namespace'), $1) \
            AND pg_has_role(n.nspowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
                WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid) ORDER BY 1";
        for line in self.query("looking for schemas of ours", sql, &[&MADE])? {
            let schema: String = line.get(0);
            self.run(&format!("dropping schema {schema}"), &format!("DROP SCHEMA {}", quoted(&schema)))?;
        }
        Ok(())
    }

    /// What goes along with these tables of a schema.
    pub(super) fn companions(&mut self, schema: &str, tables: &[&Table]) -> Result<Vec<Companion>> {
        let lines = self.ask("looking what is built on the tables", COMPANIONS, &[&schema, &names(tables)])?;
        let other = |l: &postgres::Row| Some((l.get::<_, Option<String>>(4)?, l.get(5)));
        let one = |l| Companion { other: other(l), kind: l.get(0), name: l.get(1), filled: l.get(2), title: l.get(3) };
        Ok(lines.iter().map(one).collect())
    }

    /// Asks all that the swap asks under its locks. It asks again there; but what is to be refused is refused before anyone waits, and the server has
    /// the answers at hand then.
    pub(super) fn look_before_swap(
        &mut self,
        out: &[&Table],
        aside: &Site,
        home: &[&Table],
        from: &Site,
    ) -> Result<()> {
        self.run("preparing the swap", GENERIC)?;
        if let (Site::Staged(_), Site::Backup) = (from, aside) {
            self.still_dressed(out, &self.schema_of(from))?;
        }
        let (base, from) = (self.base.clone(), self.schema_of(from));
        // the server plans anew where the search_path is another one
        self.look_in("")?;
        self.published(&base, out, home)?;
        self.companions(&base, out)?;
        self.companions(&from, home)?;
        self.followers(out)?;
        // this one cannot be tried without effect
        self.statement("preparing the swap", NUMBERS).map(drop)
    }

    pub(super) fn swap_tables(&mut self, out: &[&Table], aside: &Site, home: &[&Table], from: &Site) -> Result<()> {
        self.run("swapping tables", GENERIC)?;
        if let (Site::Staged(_), Site::Backup) = (from, aside) {
            self.still_dressed(out, &self.schema_of(from))?;
        }
        // it was made with the tables, but it was empty since
        self.make_schema(aside)?;
        let base = self.base.clone();
        // names in definitions are told in full, and mean the tables that are home then
        let rest = self.look_in("")?;
        let followers = self.followers(out)?;
        let mut sql = Vec::new();
        let published = self.published(&base, out, home)?;
        sql.extend(published.iter().map(|(gone, _)| gone.clone()));
        for (tables, was, to) in [(out, &Site::Home, aside), (home, from, &Site::Home)] {
            let (was, to) = (self.schema_of(was), self.schema_of(to));
            let companions = self.companions(&was, tables)?;
            self.make_places(&companions, &to)?;
            sql.extend(companions.iter().map(|c| c.moved_sql(&to, &base)));
            let (was, to) = (quoted(&was), quoted(&to));
            // what was live may be gone
            let there = if was == quoted(&base) { "IF EXISTS " } else { "" };
            sql.extend(tables.iter().map(|t| format!("ALTER TABLE {there}{was}.{} SET SCHEMA {to}", quoted(&t.name))));
        }
        sql.extend(published.into_iter().map(|(_, back)| back));
        self.run("swapping tables", &sql.join("; "))?;
        self.lead(&followers, out, home)?;
        self.look_in(&rest)?;
        self.run("swapping tables", "SET LOCAL plan_cache_mode = auto")?;
        let aside = self.schema_of(aside);
        // where several become one, the numbers of one say nothing of another's: what was given there is carried by itself
        let mut same = names(out);
        if out.len() != home.len() {
            same.retain(|name| home.iter().any(|t| t.name == *name));
        }
        self.ask("carrying the sequences on", NUMBERS, &[&base, &aside, &same]).map(drop)
    }

    /// Statements that take the tables out of publications, and those that put their successors in.
    fn published(&mut self, base: &str, out: &[&Table], home: &[&Table]) -> Result<Vec<(String, String)>> {
        // before PostgreSQL 15 a table is published whole
        let (columns, clause) = match self.version {
            150_000.. => ("r.prattrs::int2[]", "pg_get_expr(r.prqual, r.prrelid)"),
            _ => ("NULL::int2[]", "NULL"),
        };
        let sql = PUBLISHED.replace("{columns}", columns).replace("{clause}", clause);
        let lines = self.query("looking for publications", &sql, &[&base, &names(out)])?;
        let mut all = Vec::new();
        for line in lines {
            let (gone, publication, n): (String, String, i64) = (line.get(0), line.get(1), line.get(2));
            let at = n as usize - 1;
            let (Some(was), Some(now)) = (out.get(at), home.get(at)) else { continue };
            let columns: Vec<String> = line.get(3);
            let renamed = |c: &String| {
                let moved = was.column(c).and_then(|i| now.columns.get(i));
                quoted(moved.map_or(c.as_str(), |m| m.name.as_str()))
            };
            let list: Vec<String> = columns.iter().map(renamed).collect();
            let list = if list.is_empty() { String::new() } else { format!(" ({})", list.join(", ")) };
            let clause = line.get::<_, Option<String>>(4).map_or(String::new(), |e| format!(" WHERE ({e})"));
            let name = format!("{}.{}", quoted(base), quoted(&now.name));
            all.push((gone, format!("ALTER PUBLICATION {} ADD TABLE ONLY {name}{list}{clause}", quoted(&publication))));
        }
        Ok(all)
    }
}

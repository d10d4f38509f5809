//! What speaks of the tables and stays where it is when they are swapped: it is told anew what it means, by the same words.

use super::{Garment, Postgres, disguise, firsts};
use crate::plan::Table;
use crate::store::Result;
use crate::store::postgres::standing::{ours, short, standing};

/// Of the tables `$2` in the schema `$1`: what it is, how it is told anew, and the same for a stand-in of it beside tables staged in `$3`.
const FOLLOWERS: &str = concat!(
    standing!("SELECT c.oid, $1::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = ANY($2)"),
    ", on_it AS (
    SELECT f.classid, f.oid, c.relname, quote_ident(n.nspname) AS schema, quote_ident(p.place) AS place, t.own, t.there,
        format('CREATE SCHEMA IF NOT EXISTS %I; ', p.place) || coalesce('CREATE TABLE IF NOT EXISTS ' || t.there || ' (LIKE ' || t.own || '); ', '') AS made
    FROM follower f LEFT JOIN pg_catalog.pg_class c ON c.oid = f.rel LEFT JOIN pg_catalog.pg_proc r ON f.rel = 0 AND r.oid = f.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(c.relnamespace, r.pronamespace)
    CROSS JOIN LATERAL (SELECT CASE n.nspname WHEN $1 THEN $3 ELSE $3 || '.' || ", short!("n.nspname"), " END AS place) p
    CROSS JOIN LATERAL (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS own, quote_ident(p.place) || '.' || quote_ident(c.relname) AS there) t)
SELECT what, sql, trial FROM (
    SELECT format('policy %s of %s', p.polname, o.relname), format('ALTER POLICY %I ON %s%s', p.polname, o.own, e.words),
        o.made || format('CREATE POLICY %I ON %s FOR %s%s', p.polname, o.there, CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'
            WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END, e.words)
        FROM on_it o JOIN pg_catalog.pg_policy p ON p.oid = o.oid AND o.classid = 'pg_catalog.pg_policy'::regclass
        CROSS JOIN LATERAL (SELECT concat(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
            ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')') AS words) e
    UNION ALL SELECT format('rule %s of %s', r.rulename, o.relname), 'CREATE OR REPLACE' || substr(e.words, 7), o.made || overlay(e.words PLACING ' TO ' || o.there
            FROM strpos(e.words, ' TO ' || o.own) FOR length(' TO ' || o.own))
        FROM on_it o JOIN pg_catalog.pg_rewrite r ON r.oid = o.oid AND o.classid = 'pg_catalog.pg_rewrite'::regclass
        CROSS JOIN LATERAL (SELECT pg_get_ruledef(r.oid) AS words) e
    UNION ALL SELECT format('the default of %s.%s', o.relname, a.attname), format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', o.own, a.attname, e.words),
            o.made || format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', o.there, a.attname, e.words)
        FROM on_it o JOIN pg_catalog.pg_attrdef d ON d.oid = o.oid AND o.classid = 'pg_catalog.pg_attrdef'::regclass
        JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        CROSS JOIN LATERAL (SELECT pg_get_expr(d.adbin, d.adrelid) AS words) e
    UNION ALL SELECT format('%s %s', e.kind, f.proname), e.words, o.made || overlay(e.words PLACING e.head || o.place
            FROM 1 FOR length(e.head || o.schema))
        FROM on_it o JOIN pg_catalog.pg_proc f ON f.oid = o.oid AND o.classid = 'pg_catalog.pg_proc'::regclass
        CROSS JOIN LATERAL (SELECT pg_get_functiondef(f.oid) AS words, CASE f.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END AS kind,
            CASE f.prokind WHEN 'p' THEN 'CREATE OR REPLACE PROCEDURE ' ELSE 'CREATE OR REPLACE FUNCTION ' END AS head) e
    ) x(what, sql, trial) ORDER BY what, sql"
);

/// One of them.
pub(in crate::store::postgres) struct Follower {
    garment: Garment,
    trial: String,
}

impl Follower {
    /// What it is called, for people.
    pub(super) fn what(self) -> String {
        self.garment.what
    }
}

impl Postgres {
    /// What follows these tables of the home. As the search_path is, so names are told.
    pub(in crate::store::postgres) fn followers(&mut self, tables: &[&Table]) -> Result<Vec<Follower>> {
        let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
        let (base, home) = (self.base.clone(), self.home.clone());
        let lines = self.ask("looking what speaks of the tables", FOLLOWERS, &[&base, &names, &home])?;
        let one = |l: &postgres::Row| Follower { garment: Garment { what: l.get(0), sql: l.get(1) }, trial: l.get(2) };
        Ok(lines.iter().map(one).collect())
    }

    /// Tells them that they mean the tables that have come home in the places of `out`.
    pub(in crate::store::postgres) fn lead(
        &mut self,
        followers: &[Follower],
        out: &[&Table],
        home: &[&Table],
    ) -> Result<()> {
        if followers.is_empty() {
            return Ok(());
        }
        // by the names that were in use when these words were read; the server follows a renaming by itself
        let (out, home) = firsts(out, home);
        let (on, off) = disguise(&self.base, &out, &home);
        self.run("swapping tables", &on.join("; "))?;
        followers.iter().try_for_each(|f| self.put_on(&f.garment))?;
        self.run("swapping tables", &off.join("; "))
    }

    /// Finds out whether they could be led, by stand-ins that mean the staged tables. They go again with the savepoint that is before them.
    pub(super) fn try_leading(&mut self, followers: &[Follower]) -> Result<()> {
        for f in followers {
            self.put_on(&Garment { what: f.garment.what.clone(), sql: f.trial.clone() })?;
        }
        Ok(())
    }
}

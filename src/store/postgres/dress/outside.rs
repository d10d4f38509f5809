//! What could not follow tables that are swapped, or would be in the way: looked for in the catalog before anything is made.

use super::{Postgres, quoted};
use crate::plan::Table;
use crate::store::Result;
use crate::store::postgres::standing::{ours, short, standing};

/// What stands on the tables of `$2` in the schema `$1` and is no part of them, no companion and no follower: it follows the thing and not the
/// name, and would go with the resting table.
const OUTSIDERS: &str = concat!(
    standing!("SELECT c.oid, $1::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = ANY($2) AND c.relkind IN ('r', 'p')"),
    ", dep(classid, objid) AS (
    SELECT 'pg_catalog.pg_class'::regclass::oid, oid FROM base
    UNION SELECT x.c, x.o FROM dep p CROSS JOIN LATERAL (
        SELECT d.classid AS c, d.objid AS o FROM pg_catalog.pg_depend d WHERE d.refclassid = p.classid AND d.refobjid = p.objid
        UNION ALL SELECT 'pg_catalog.pg_class'::regclass::oid, r.ev_class FROM pg_catalog.pg_rewrite r
            WHERE p.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = p.objid AND r.rulename = '_RETURN') x
        WHERE NOT EXISTS (SELECT FROM follower f WHERE f.classid = x.c AND f.oid = x.o)),
kin AS (SELECT c.oid FROM dep d JOIN pg_catalog.pg_class c ON c.oid = d.objid AND d.classid = 'pg_catalog.pg_class'::regclass
    WHERE c.relkind IN ('i', 't', 'S') OR c.oid IN (SELECT oid FROM above WHERE classid = 'pg_catalog.pg_class'::regclass)),
part AS (SELECT d.classid, d.objid, CASE d.classid
        WHEN 'pg_catalog.pg_class'::regclass THEN d.objid
        WHEN 'pg_catalog.pg_constraint'::regclass THEN (SELECT conrelid FROM pg_catalog.pg_constraint WHERE oid = d.objid)
        WHEN 'pg_catalog.pg_attrdef'::regclass THEN (SELECT adrelid FROM pg_catalog.pg_attrdef WHERE oid = d.objid)
        WHEN 'pg_catalog.pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_catalog.pg_trigger WHERE oid = d.objid)
        WHEN 'pg_catalog.pg_policy'::regclass THEN (SELECT polrelid FROM pg_catalog.pg_policy WHERE oid = d.objid)
        WHEN 'pg_catalog.pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_catalog.pg_rewrite WHERE oid = d.objid)
        WHEN 'pg_catalog.pg_statistic_ext'::regclass THEN (SELECT stxrelid FROM pg_catalog.pg_statistic_ext WHERE oid = d.objid)
        WHEN 'pg_catalog.pg_publication_rel'::regclass THEN (SELECT prrelid FROM pg_catalog.pg_publication_rel WHERE oid = d.objid)
        WHEN 'pg_catalog.pg_type'::regclass THEN (SELECT coalesce(nullif(t.typrelid, 0), e.typrelid) FROM pg_catalog.pg_type t
            LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem WHERE t.oid = d.objid) END AS rel
    FROM dep d WHERE NOT EXISTS (SELECT FROM above a WHERE a.classid = d.classid AND a.oid = d.objid AND a.classid = 'pg_catalog.pg_proc'::regclass))
SELECT DISTINCT pg_describe_object(p.classid, p.objid, 0) FROM part p
WHERE p.rel IS NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = p.objid AND p.classid = 'pg_catalog.pg_class'::regclass)
    OR p.rel NOT IN (SELECT oid FROM kin) AND (p.classid = 'pg_catalog.pg_class'::regclass
        OR NOT EXISTS (SELECT FROM part o WHERE o.classid = 'pg_catalog.pg_class'::regclass AND o.objid = p.rel))
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.oid = p.objid AND p.classid = 'pg_catalog.pg_trigger'::regclass AND t.tgisinternal)
ORDER BY 1"
);

/// Each with what to do about it: what of the tables themselves does not go along, or is in the way.
const OBSTACLES: &str = concat!(
    standing!("SELECT c.oid, $1::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = ANY($2) AND c.relkind IN ('r', 'p')"),
    ", mapped AS (SELECT c.* FROM pg_catalog.pg_class c JOIN base b ON b.oid = c.oid),
spot AS (SELECT n.oid, n.nspname, CASE n.nspname WHEN $1 THEN 'migration_backup' ELSE 'migration_backup.' || ", short!("n.nspname"), " END AS place
    FROM pg_catalog.pg_namespace n),
up AS (SELECT DISTINCT a.oid FROM above a WHERE a.classid = 'pg_catalog.pg_class'::regclass),
moving AS (
    SELECT c.relname::text AS name, p.place, 'something' AS kind FROM (SELECT oid FROM up UNION SELECT i.indexrelid FROM up JOIN pg_catalog.pg_index i ON i.indrelid = up.oid
        UNION SELECT oid FROM touched WHERE classid = 'pg_catalog.pg_class'::regclass) a
        JOIN pg_catalog.pg_class c ON c.oid = a.oid JOIN spot p ON p.oid = c.relnamespace
    UNION SELECT f.proname, p.place, 'a routine' FROM above a JOIN pg_catalog.pg_proc f ON f.oid = a.oid AND a.classid = 'pg_catalog.pg_proc'::regclass
        JOIN spot p ON p.oid = f.pronamespace
    UNION SELECT e.stxname, p.place, 'statistics' FROM up JOIN pg_catalog.pg_statistic_ext e ON e.stxrelid = up.oid JOIN spot p ON p.oid = e.stxnamespace),
held(oid, name, owner, rests) AS (
    SELECT c.oid, c.relname::text, c.relowner, p.place FROM up JOIN pg_catalog.pg_class c ON c.oid = up.oid JOIN spot p ON p.oid = c.relnamespace
    UNION SELECT f.oid, f.proname, f.proowner, p.place FROM above a JOIN pg_catalog.pg_proc f ON f.oid = a.oid AND a.classid = 'pg_catalog.pg_proc'::regclass
        JOIN spot p ON p.oid = f.pronamespace
    UNION SELECT c.oid, c.relname, c.relowner, NULL FROM follower f JOIN pg_catalog.pg_class c ON c.oid = f.rel
    UNION SELECT r.oid, r.proname, r.proowner, p.place FROM follower f JOIN pg_catalog.pg_proc r ON r.oid = f.oid AND f.rel = 0 JOIN spot p ON p.oid = r.pronamespace),
me AS (SELECT current_user::text AS name)
SELECT what, hint FROM (
    SELECT format('%s is partitioned, inherits or is inherited from, or is of a type of its own', m.relname), 'only plain tables can be changed in place: leave it out'
        FROM mapped m WHERE m.relkind <> 'r' OR m.relispartition OR m.reloftype <> 0
            OR EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE m.oid IN (h.inhrelid, h.inhparent))
    UNION ALL SELECT format('foreign key %s joins %s and %s, and only one of them would be swapped', k.conname, k.conrelid::regclass, k.confrelid::regclass),
            'take both into the migration, or drop the foreign key first'
        FROM pg_catalog.pg_constraint k WHERE k.contype = 'f'
            AND (k.conrelid IN (SELECT oid FROM mapped)) <> (k.confrelid IN (SELECT oid FROM mapped))
    UNION ALL SELECT format('%s belongs to %s', h.name, pg_get_userbyid(h.owner)), format('connect as its owner, or an administrator runs once: GRANT %I TO %I',
            pg_get_userbyid(h.owner), me.name)
        FROM held h CROSS JOIN me WHERE NOT pg_has_role(h.owner, 'USAGE')
    UNION ALL SELECT format('publication %s, which has %s, belongs to %s', p.pubname, m.relname, pg_get_userbyid(p.pubowner)),
            format('connect as its owner, or take the table out of it for the migration: ALTER PUBLICATION %I DROP TABLE %I', p.pubname, m.relname)
        FROM mapped m JOIN pg_catalog.pg_publication_rel r ON r.prrelid = m.oid JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
        WHERE NOT pg_has_role(p.pubowner, 'USAGE')
    UNION ALL SELECT format('%s has %s called %s already, and what is swapped out rests there', m.place, m.kind, m.name),
            'complete or close the migration that left it, or rename or drop it'
        FROM moving m JOIN pg_catalog.pg_namespace n ON n.nspname = m.place
        WHERE CASE m.kind WHEN 'something' THEN EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relname = m.name AND c.relnamespace = n.oid)
                OR EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.typname = m.name AND t.typnamespace = n.oid)
            WHEN 'statistics' THEN EXISTS (SELECT FROM pg_catalog.pg_statistic_ext e WHERE e.stxname = m.name AND e.stxnamespace = n.oid)
            ELSE EXISTS (SELECT FROM pg_catalog.pg_proc f WHERE f.proname = m.name AND f.pronamespace = n.oid) END
    UNION ALL SELECT format('%s may make nothing in the schema %s', me.name, n.nspname), format('an administrator runs once: GRANT USAGE, CREATE ON SCHEMA %I TO %I', n.nspname, me.name)
        FROM pg_catalog.pg_namespace n CROSS JOIN me WHERE (n.nspname IN ($1, 'migration_backup') OR EXISTS (SELECT FROM held h JOIN spot p ON p.place = h.rests
            WHERE n.oid = p.oid OR n.nspname = p.place))
        AND NOT (has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE'))
    UNION ALL SELECT format('%s may make no schema', me.name), format('an administrator runs once: GRANT CREATE ON DATABASE %I TO %I', current_database(), me.name)
        FROM me WHERE NOT has_database_privilege(current_database(), 'CREATE')
    UNION ALL SELECT format('%s has a security label', a.oid::regclass), 'take it off for the migration (SECURITY LABEL … IS NULL)'
        FROM up a WHERE EXISTS (SELECT FROM pg_catalog.pg_seclabel s WHERE s.objoid = a.oid AND s.classoid = 'pg_catalog.pg_class'::regclass)
    UNION ALL SELECT format('the triggers of foreign keys of %s are disabled', m.relname), format('enable them: ALTER TABLE %I ENABLE TRIGGER ALL', m.relname)
        FROM mapped m WHERE EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = m.oid AND t.tgisinternal AND t.tgenabled <> 'O' AND t.tgconstraint <> 0)
    UNION ALL SELECT format('constraint %s of %s was never validated, and may not be: NOT NULL', k.conname, m.relname),
            format('ALTER TABLE %I VALIDATE CONSTRAINT %I', m.relname, k.conname)
        FROM mapped m JOIN pg_catalog.pg_constraint k ON k.conrelid = m.oid AND k.contype = 'n' AND NOT k.convalidated
    ) x(what, hint) ORDER BY 1"
);

const WORDS: &str = "
SELECT format('publication %s is FOR ALL TABLES, and sends also what is written to the staged and the resting tables and to the schema backout: a '
    'subscriber that has no such tables stops at the first row of one with an error. Publish the tables by their names for the migration', pubname)
FROM pg_catalog.pg_publication WHERE puballtables ORDER BY 1";

impl Postgres {
    /// Refuses what could not follow; returns what is worth a word.
    pub(super) fn outsiders(&mut self, sources: &[&Table], targets: &[&Table]) -> Result<Vec<String>> {
        let home = self.base.clone();
        let names: Vec<&str> = sources.iter().map(|t| t.name.as_str()).collect();
        if let Some(line) = self.query("looking what stands in the way", OBSTACLES, &[&home, &names])?.first() {
            return Err(self.refused(line.get::<_, String>(0), line.get(1)));
        }
        self.nothing_outside(sources)?;
        let taken = targets.iter().filter(|t| !names.contains(&t.name.as_str()));
        let taken: Vec<String> = taken.map(|t| format!("{}.{}", quoted(&home), quoted(&t.name))).collect();
        let sql = "SELECT t FROM unnest($1::text[]) t WHERE to_regclass(t) IS NOT NULL ORDER BY 1";
        if let Some(line) = self.query("looking whether names are free", sql, &[&taken])?.first() {
            return Err(self.refused(
                format!("{} is there already", line.get::<_, &str>(0)),
                "choose another name, or rename or drop it",
            ));
        }
        Ok(self.query("looking what is worth a word", WORDS, &[])?.iter().map(|l| l.get(0)).collect())
    }

    /// Refuses if anything but their own parts, companions and followers stands on the sources: it would follow them and not their name.
    pub(super) fn nothing_outside(&mut self, sources: &[&Table]) -> Result<()> {
        let (home, names) = (self.base.clone(), sources.iter().map(|t| t.name.as_str()).collect::<Vec<_>>());
        let found = self.ask("looking what is built on the tables", OUTSIDERS, &[&home, &names])?;
        let found: Vec<String> = found.iter().map(|l| l.get(0)).collect();
        if found.is_empty() {
            return Ok(());
        }
        let cause = format!(
            "{} would go on meaning the tables that are swapped out, as PostgreSQL follows the thing and not the name",
            found.join("; ")
        );
        let hint = "drop it before the migration and make it again afterwards";
        Err(self.refused(cause, hint))
    }
}

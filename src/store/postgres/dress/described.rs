//! Tables, and what is built on them, in words by which two of them can be compared.

use super::Postgres;
use crate::plan::Table;
use crate::store::Result;
use crate::store::postgres::standing::{ours, short, standing};

/// `$1` is the schema, `$2` the tables, `$3` whether views on them count, `$4` whether publications do. The search_path begins with the schema, so that
/// names in definitions are the same wherever it is. Ours, and the rows, are left out.
const DESCRIBED: &str = concat!(
    standing!("SELECT c.oid, $1::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = ANY($2) AND c.relkind IN ('r', 'p')"),
    ", spot AS (SELECT n.oid, CASE WHEN n.nspname = $1 THEN '' WHEN $1 !~ ", ours!(), " THEN n.nspname::text ELSE coalesce((SELECT s.nspname::text
        FROM pg_catalog.pg_namespace s WHERE n.nspname = $1 || '.' || ", short!("s.nspname"), " LIMIT 1), n.nspname) END AS schema FROM pg_catalog.pg_namespace n),
rel AS (SELECT c.*, p.schema FROM (SELECT DISTINCT oid FROM above WHERE classid = 'pg_catalog.pg_class'::regclass AND (far = 0 OR $3)) a
    JOIN pg_catalog.pg_class c ON c.oid = a.oid JOIN spot p ON p.oid = c.relnamespace),
seq AS (SELECT c.*, r.relname AS of, t.attname AS col FROM rel r JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass
    AND d.refobjid = r.oid AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')
    JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
    JOIN pg_catalog.pg_attribute t ON t.attrelid = r.oid AND t.attnum = d.refobjsubid)
SELECT line FROM (
SELECT concat_ws(' ', 'relation', c.schema, c.relname, c.relkind, 'owner', pg_get_userbyid(c.relowner), c.relpersistence, m.amname,
    'tablespace', s.spcname, 'options', c.reloptions, (SELECT t.reloptions FROM pg_catalog.pg_class t WHERE t.oid = c.reltoastrelid),
    'identity', c.relreplident, 'row security', c.relrowsecurity, c.relforcerowsecurity, 'privileges', (SELECT string_agg(
        concat_ws(' ', x.grantee::regrole, x.privilege_type, x.is_grantable, x.grantor::regrole), ', '
        ORDER BY x.grantee, x.privilege_type, x.grantor) FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x),
    'comment', obj_description(c.oid, 'pg_class'), CASE c.relkind WHEN 'm' THEN 'populated ' || c.relispopulated END)
FROM rel c LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
UNION ALL
SELECT concat_ws(' ', 'column', c.relname, rank() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname,
    format_type(a.atttypid, a.atttypmod), 'not null', a.attnotnull, 'default', pg_get_expr(d.adbin, d.adrelid), 'identity', a.attidentity,
    a.attgenerated, 'collation', a.attcollation::regcollation, 'storage', a.attstorage, to_jsonb(a) ->> 'attcompression',
    'statistics', coalesce(nullif(to_jsonb(a) ->> 'attstattarget', '-1'), 'default'), 'options', a.attoptions,
    'privileges', (SELECT string_agg(concat_ws(' ', x.grantee::regrole, x.privilege_type, x.is_grantable, x.grantor::regrole), ', '
        ORDER BY x.grantee, x.privilege_type, x.grantor) FROM aclexplode(a.attacl) x), 'comment', col_description(c.oid, a.attnum))
FROM rel c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
UNION ALL
SELECT concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid, 0, true), 'options', x.reloptions, 'tablespace', s.spcname, 'key', i.indisprimary,
    'cluster', i.indisclustered, 'identity', i.indisreplident, 'comment', obj_description(x.oid, 'pg_class'), 'statistics',
    (SELECT string_agg(a.attnum || ': ' || coalesce(nullif(to_jsonb(a) ->> 'attstattarget', '-1'), 'default'), ', ' ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = x.oid))
FROM rel c JOIN pg_catalog.pg_index i ON i.indrelid = c.oid JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = x.reltablespace
UNION ALL
SELECT concat_ws(' ', 'constraint', c.relname, k.conname, pg_get_constraintdef(k.oid), 'valid', k.convalidated, 'inherited', NOT k.connoinherit,
    'comment', obj_description(k.oid, 'pg_constraint'))
FROM rel c JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid WHERE k.contype <> 't'
UNION ALL
SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid, true), 'enabled', t.tgenabled, 'comment', obj_description(t.oid, 'pg_trigger'))
FROM rel c JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal AND t.tgname NOT LIKE 'backout\\_%'
UNION ALL
SELECT concat_ws(' ', 'rule', c.relname, pg_get_ruledef(r.oid, true), 'enabled', r.ev_enabled, 'comment', obj_description(r.oid, 'pg_rewrite'))
FROM rel c JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid
UNION ALL
SELECT concat_ws(' ', 'policy', c.relname, p.polname, p.polcmd, p.polpermissive, ARRAY(SELECT r::regrole FROM unnest(p.polroles) r ORDER BY 1),
    'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid), 'comment', obj_description(p.oid, 'pg_policy'))
FROM rel c JOIN pg_catalog.pg_policy p ON p.polrelid = c.oid
UNION ALL
SELECT concat_ws(' ', 'statistics', p.schema, e.stxname, substr(pg_get_statisticsobjdef(e.oid), length(format('CREATE STATISTICS %I.%I', n.nspname, e.stxname))),
    'owner', pg_get_userbyid(e.stxowner), 'target', coalesce(nullif(to_jsonb(e) ->> 'stxstattarget', '-1'), 'default'),
    'comment', obj_description(e.oid, 'pg_statistic_ext'))
FROM rel c JOIN pg_catalog.pg_statistic_ext e ON e.stxrelid = c.oid JOIN pg_catalog.pg_namespace n ON n.oid = e.stxnamespace JOIN spot p ON p.oid = n.oid
UNION ALL
SELECT concat_ws(' ', 'sequence', q.relname, 'of', q.of, q.col, 'owner', pg_get_userbyid(q.relowner), format_type(s.seqtypid, NULL), s.seqstart,
    s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle, q.relpersistence, 'comment', obj_description(q.oid, 'pg_class'),
    'privileges', (SELECT string_agg(concat_ws(' ', x.grantee::regrole, x.privilege_type, x.is_grantable, x.grantor::regrole), ', '
        ORDER BY x.grantee, x.privilege_type, x.grantor) FROM aclexplode(coalesce(q.relacl, acldefault('s', q.relowner))) x))
FROM seq q JOIN pg_catalog.pg_sequence s ON s.seqrelid = q.oid
UNION ALL
SELECT concat_ws(' ', 'publication', c.relname, 'by', p.pubname, to_jsonb(r) ->> 'prattrs', to_jsonb(r) ->> 'prqual')
FROM rel c JOIN pg_catalog.pg_publication_rel r ON r.prrelid = c.oid JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE $4
UNION ALL
SELECT concat_ws(' ', 'routine', p.schema, substr(pg_get_functiondef(f.oid), strpos(pg_get_functiondef(f.oid), quote_ident(n.nspname) || '.')
        + length(quote_ident(n.nspname) || '.')), 'owner', pg_get_userbyid(f.proowner), 'privileges', (SELECT string_agg(
        concat_ws(' ', x.grantee::regrole, x.privilege_type, x.is_grantable, x.grantor::regrole), ', '
        ORDER BY x.grantee, x.privilege_type, x.grantor) FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) x),
    'comment', obj_description(f.oid, 'pg_proc'))
FROM (SELECT DISTINCT oid FROM above WHERE classid = 'pg_catalog.pg_proc'::regclass AND $3) a JOIN pg_catalog.pg_proc f ON f.oid = a.oid
JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace JOIN spot p ON p.oid = n.oid
) all_of(line) ORDER BY line COLLATE \"C\""
);

impl Postgres {
    /// A line for each thing; the search_path has to begin with `schema`.
    pub(super) fn described(
        &mut self,
        schema: &str,
        tables: &[&Table],
        views: bool,
        published: bool,
    ) -> Result<Vec<String>> {
        let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
        let lines = self.ask("reading what is on the tables", DESCRIBED, &[&schema, &names, &views, &published])?;
        Ok(lines.iter().map(|l| l.get(0)).collect())
    }
}

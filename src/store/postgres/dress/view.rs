//! Views follow the table itself and not its name, and so do routines that take or give its rows: they are made again beside the staged ones.

use super::{Garment, Pairs, Postgres};
use crate::store::Result;

/// Those nearest to the tables first. Triggers, rules, comments and privileges come with those of the tables. A view's own rule stands in its
/// definition; defaults of its columns do not.
const VIEWS: &str = "
SELECT what, sql FROM (
    SELECT x.far * 2, format('%s %s', CASE v.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END, x.name), concat_ws(' ',
            format(CASE v.relkind WHEN 'v' THEN 'CREATE VIEW %I.%I' ELSE 'CREATE MATERIALIZED VIEW %I.%I' END, x.place, x.name),
            CASE WHEN v.relkind = 'm' THEN format('USING %I', m.amname) END,
            CASE WHEN v.reloptions IS NOT NULL THEN format('WITH (%s)', (SELECT string_agg(format('%I = %L', split_part(o, '=', 1),
                substr(o, 2 + length(split_part(o, '=', 1)))), ', ') FROM unnest(v.reloptions) o)) END,
            'TABLESPACE ' || quote_ident(p.spcname), 'AS', rtrim(pg_get_viewdef(v.oid), ';'),
            CASE WHEN v.relkind = 'm' AND NOT v.relispopulated THEN 'WITH NO DATA' END)
        FROM rel x JOIN pg_catalog.pg_class v ON v.oid = x.s LEFT JOIN pg_catalog.pg_am m ON m.oid = v.relam
        LEFT JOIN pg_catalog.pg_tablespace p ON p.oid = v.reltablespace
        WHERE x.far > 0 AND x.t IS NULL
    UNION ALL SELECT x.far * 2 + 1, format('index %s', r.relname), format('CREATE%s INDEX %I ON %I.%I %s', CASE WHEN i.indisunique THEN ' UNIQUE' END,
            r.relname, x.place, x.name, substr(pg_get_indexdef(r.oid), 1 + length(concat('CREATE ', CASE WHEN i.indisunique THEN 'UNIQUE ' END, 'INDEX ',
                quote_ident(r.relname), ' ON ', format('%I.%I', n.nspname, v.relname), ' '))))
        FROM rel x JOIN pg_catalog.pg_class v ON v.oid = x.s AND v.relkind = 'm' JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
        JOIN pg_catalog.pg_index i ON i.indrelid = v.oid JOIN pg_catalog.pg_class r ON r.oid = i.indexrelid WHERE x.t IS NULL
    UNION ALL SELECT x.far * 2 + 1, format('the default of %s.%s', x.name, a.attname), format('ALTER VIEW %I.%I ALTER COLUMN %I SET DEFAULT %s', x.place, x.name,
            a.attname, pg_get_expr(d.adbin, d.adrelid))
        FROM rel x JOIN pg_catalog.pg_class v ON v.oid = x.s AND v.relkind = 'v' JOIN pg_catalog.pg_attribute a ON a.attrelid = v.oid
        JOIN pg_catalog.pg_attrdef d ON d.adrelid = v.oid AND d.adnum = a.attnum WHERE x.t IS NULL
    UNION ALL SELECT f.far * 2, lower(f.word) || ' ' || f.proname, overlay(pg_get_functiondef(f.s) PLACING format('CREATE OR REPLACE %s %I.', f.word, f.place)
            FROM 1 FOR length(format('CREATE OR REPLACE %s %I.', f.word, n.nspname)))
        FROM fun f JOIN pg_catalog.pg_proc p ON p.oid = f.s JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE f.t IS NULL
    ) x(o, what, sql) ORDER BY o, what";

impl Postgres {
    pub(super) fn views(&mut self, pairs: &Pairs) -> Result<Vec<Garment>> {
        self.garments(VIEWS, pairs)
    }
}

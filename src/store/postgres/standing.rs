//! What stands on tables in PostgreSQL's catalog: it follows the thing and not its name.
//!
//! *Companions* go where their tables go: views, and routines that take or give rows of one. Each schema of the application's that has some has a
//! counterpart wherever the tables of a side may lie: that of `reports` is `migration_backup.reports`, one schema by that whole name.
//! *Followers* stay where they are, and are told anew what they mean when the tables are swapped: policies and rules of other tables, routines
//! whose body the server has parsed, defaults by a sequence that is a table's own.

/// Whether a schema is one in which a side of a run may lie, as a regular expression.
macro_rules! ours {
    () => {
        "'^(backout_(stage|kept)_|migration_backup($|[.]))'"
    };
}

/// What the counterpart of a schema has behind the dot. A long name is told by its hash, as one of ours has 63 bytes at most.
macro_rules! short {
    ($name:literal) => {
        concat!(
            "CASE WHEN octet_length(",
            $name,
            "::text) <= 32 THEN ",
            $name,
            "::text ",
            "ELSE left(encode(sha256(convert_to(",
            $name,
            "::text, 'UTF8')), 'hex'), 32) END"
        )
    };
}

/// The beginning of a query. `$base` selects tables, each with the schema in which its side lies. `above` has these (`far` is 0), and their companions,
/// each further than what it stands on; `follower` has what follows, and the relation that it is on.
macro_rules! standing {
    ($base:literal) => {
        concat!(
            "
WITH RECURSIVE base(oid, site) AS (", $base, "),
above(classid, oid, site, far) AS (
    SELECT 'pg_catalog.pg_class'::regclass::oid, b.oid, b.site, 0 FROM base b
    UNION SELECT x.classid, x.oid, x.site, x.far FROM (
        SELECT d.classid = 'pg_catalog.pg_proc'::regclass AS routine, a.site, a.far + 1 AS far,
            CASE d.classid WHEN 'pg_catalog.pg_proc'::regclass THEN d.classid ELSE 'pg_catalog.pg_class'::regclass END AS classid,
            CASE d.classid WHEN 'pg_catalog.pg_proc'::regclass THEN d.objid ELSE
                (SELECT r.ev_class FROM pg_catalog.pg_rewrite r WHERE r.oid = d.objid AND r.rulename = '_RETURN' AND r.ev_class <> a.oid) END AS oid,
            t.classid = 'pg_catalog.pg_type'::regclass AS of_rows, t.oid AS ty
        FROM above a
        CROSS JOIN LATERAL (SELECT a.classid, a.oid UNION ALL SELECT 'pg_catalog.pg_type'::regclass, u FROM pg_catalog.pg_type y
            CROSS JOIN LATERAL unnest(ARRAY[y.oid, y.typarray]) u
            WHERE a.classid = 'pg_catalog.pg_class'::regclass AND y.typrelid = a.oid) t
        JOIN pg_catalog.pg_depend d ON d.refclassid = t.classid AND d.refobjid = t.oid
            AND d.classid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_rewrite'::regclass)
        WHERE a.far < 60) x
    LEFT JOIN pg_catalog.pg_class c ON NOT x.routine AND c.oid = x.oid
    LEFT JOIN pg_catalog.pg_proc f ON x.routine AND f.oid = x.oid AND f.prokind IN ('f', 'p') AND x.of_rows
        AND (x.ty = f.prorettype OR x.ty = ANY (f.proargtypes) OR x.ty = ANY (f.proallargtypes))
    JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(c.relnamespace, f.pronamespace)
    WHERE CASE WHEN x.site ~ ", ours!(), " THEN n.nspname = x.site OR starts_with(n.nspname, x.site || '.') ELSE n.nspname !~ ", ours!(), " END),
touched(classid, oid, site) AS (
    SELECT a.classid, a.oid, a.site FROM above a
    UNION SELECT 'pg_catalog.pg_type'::regclass, u, a.site FROM above a JOIN pg_catalog.pg_type y ON y.typrelid = a.oid
        CROSS JOIN LATERAL unnest(ARRAY[y.oid, y.typarray]) u WHERE a.classid = 'pg_catalog.pg_class'::regclass
    UNION SELECT d.classid, d.objid, a.site FROM above a JOIN pg_catalog.pg_depend d ON d.refclassid = a.classid AND d.refobjid = a.oid
        AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i') JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'),
follower(classid, oid, rel, site) AS (
    SELECT DISTINCT f.* FROM (
        SELECT d.classid, d.objid, CASE d.classid
            WHEN 'pg_catalog.pg_policy'::regclass THEN (SELECT p.polrelid FROM pg_catalog.pg_policy p WHERE p.oid = d.objid)
            WHEN 'pg_catalog.pg_rewrite'::regclass THEN (SELECT r.ev_class FROM pg_catalog.pg_rewrite r WHERE r.oid = d.objid AND r.rulename <> '_RETURN')
            WHEN 'pg_catalog.pg_attrdef'::regclass THEN (SELECT e.adrelid FROM pg_catalog.pg_attrdef e JOIN pg_catalog.pg_attribute k
                ON k.attrelid = e.adrelid AND k.attnum = e.adnum AND k.attgenerated = '' WHERE e.oid = d.objid)
            WHEN 'pg_catalog.pg_proc'::regclass THEN (SELECT 0::oid FROM pg_catalog.pg_proc f WHERE f.oid = d.objid AND f.prokind IN ('f', 'p')
                AND to_jsonb(f) ->> 'prosqlbody' IS NOT NULL) END AS rel, t.site
        FROM touched t JOIN pg_catalog.pg_depend d ON d.refclassid = t.classid AND d.refobjid = t.oid) f
    LEFT JOIN pg_catalog.pg_class c ON c.oid = f.rel LEFT JOIN pg_catalog.pg_proc g ON f.rel = 0 AND g.oid = f.objid
    JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(c.relnamespace, g.pronamespace) AND n.nspname !~ ", ours!(), "
    WHERE NOT EXISTS (SELECT FROM above a WHERE a.site = f.site AND (a.oid = f.rel OR a.oid = f.objid AND a.classid = f.classid)))
"
        )
    };
}

pub(super) use {ours, short, standing};

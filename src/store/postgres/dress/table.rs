//! What is on a table itself: its sequences, storage, policies, triggers, privileges, comments.

use super::{Garment, Pairs, Postgres};
use crate::store::Result;

/// What `create` has made an identity, and is none; and the sequences of identities, away from names that others are to have.
const NO_IDENTITY: &str = "
SELECT what, sql FROM (
    SELECT format('the default of %s.%s', c.name, c.now), format('ALTER TABLE %I.%I ALTER COLUMN %I DROP IDENTITY IF EXISTS', c.place, c.name, c.now)
        FROM col c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.s AND a.attnum = c.snum AND a.attidentity = ''
        JOIN pg_catalog.pg_attribute b ON b.attrelid = c.t AND b.attnum = c.tnum AND b.attidentity <> ''
        JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.s AND d.adnum = c.snum
        WHERE pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%' AND c.counts
    UNION ALL SELECT format('sequence %s', o.name), format('ALTER SEQUENCE %I.%I RENAME TO %I', $2::text, w.relname, 'backout_' || o.s)
        FROM owned o JOIN col c ON c.s = o.of AND c.snum = o.num AND o.deptype = 'i'
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.t AND d.refobjsubid = c.tnum
            AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'i'
        JOIN pg_catalog.pg_class w ON w.oid = d.objid AND w.relkind = 'S' AND w.relname <> o.name
    ) x(what, sql) ORDER BY 1";

/// The sequence of an identity gets its name here. A column that has a sequence of its own
/// without being an identity keeps that, and one that counts by a sequence that is not its own goes on doing so.
const SEQUENCES: &str = "
, num AS (
    SELECT o.*, c.now, c.t AS tbl, b.attidentity, b.atttypid, a.atttypid <> b.atttypid AS other_type, s.*, x.relpersistence,
        (SELECT w.relname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class w ON w.oid = d.objid AND w.relkind = 'S'
            WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.t AND d.refobjsubid = c.tnum
            AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'i') AS made,
        format_type(CASE WHEN b.atttypid = a.atttypid THEN s.seqtypid ELSE b.atttypid END, NULL) AS ty,
        c.name AS tbl_name
    FROM owned o JOIN col c ON c.s = o.of AND c.snum = o.num JOIN pg_catalog.pg_sequence s ON s.seqrelid = o.s
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.s AND a.attnum = c.snum
    JOIN pg_catalog.pg_attribute b ON b.attrelid = c.t AND b.attnum = c.tnum
    JOIN pg_catalog.pg_class x ON x.oid = o.s
    WHERE (b.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) OR o.deptype = 'a' AND b.atttypid = a.atttypid)
        -- each of several tables that one becomes has the sequence of an identity
        AND NOT (o.deptype = 'a' AND a.attidentity = '' AND b.attidentity <> '')
        -- another of several tables that one becomes may have made its own by this name
        AND (o.t IS NULL OR o.deptype = 'a' OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
            AND d.objid = o.t AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.t))),
opt AS (
    SELECT n.s, concat_ws(' ', CASE WHEN n.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN 'AS ' || n.ty END,
        'INCREMENT BY ' || n.seqincrement,
        CASE WHEN n.other_type AND n.seqmin IN (-32768, -2147483648, -9223372036854775808) THEN 'NO MINVALUE' ELSE 'MINVALUE ' || n.seqmin END,
        CASE WHEN n.other_type AND n.seqmax IN (32767, 2147483647, 9223372036854775807) THEN 'NO MAXVALUE' ELSE 'MAXVALUE ' || n.seqmax END,
        'START WITH ' || n.seqstart, 'CACHE ' || n.seqcache, CASE WHEN n.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END) AS words
    FROM num n)
SELECT what, sql FROM (
    SELECT 3, format('sequence %s', n.name), format('ALTER SEQUENCE %I.%I RENAME TO %I', $2::text, n.made, n.name)
        FROM num n WHERE n.deptype = 'i' AND n.made IS NOT NULL AND n.made <> n.name
    UNION ALL SELECT 4, format('sequence %s', n.name), format('ALTER SEQUENCE %I.%I %s RESTART', $2::text, n.name, o.words)
        FROM num n JOIN opt o ON o.s = n.s WHERE n.deptype = 'i' AND n.made IS NOT NULL
    UNION ALL SELECT 5, format('sequence %s', n.name), format('CREATE %s SEQUENCE %I.%I %s', CASE n.relpersistence WHEN 'u' THEN 'UNLOGGED' END,
            $2::text, n.name, o.words)
        FROM num n JOIN opt o ON o.s = n.s WHERE n.deptype = 'a' AND n.t IS NULL
    UNION ALL SELECT 6, format('sequence %s', n.name), format('ALTER SEQUENCE %I.%I OWNED BY %I.%I.%I', $2::text, n.name, $2::text, n.tbl_name, n.now)
        FROM num n WHERE n.deptype = 'a'
    UNION ALL SELECT 7, format('the default of %s.%s', c.name, c.now), format('ALTER TABLE %I.%I ALTER COLUMN %I SET DEFAULT %s', c.place, c.name, c.now,
            pg_get_expr(d.adbin, d.adrelid))
        FROM col c JOIN pg_catalog.pg_class k ON k.oid = c.s AND k.relkind = 'r'
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.s AND a.attnum = c.snum AND a.attidentity = '' AND a.attgenerated = ''
        JOIN pg_catalog.pg_attribute b ON b.attrelid = c.t AND b.attnum = c.tnum
        JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.s AND d.adnum = c.snum
        WHERE pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%' AND c.counts AND b.attidentity = ''
    ) x(o, what, sql) ORDER BY o, what";

/// Children before the tables to which they refer, as nothing that is logged may refer to what is not.
const UNLOGGED: &str = "
, fk AS (SELECT DISTINCT k.conrelid AS child, k.confrelid AS parent FROM pg_catalog.pg_constraint k
    WHERE k.contype = 'f' AND k.conrelid IN (SELECT s FROM rel) AND k.conrelid <> k.confrelid),
height(oid, n) AS (SELECT s, 0 FROM tbl UNION SELECT f.parent, h.n + 1 FROM height h JOIN fk f ON f.child = h.oid WHERE h.n < 50)
SELECT format('UNLOGGED of %s', x.name), format('ALTER TABLE %I.%I SET UNLOGGED', x.place, x.name)
FROM tbl JOIN rel x ON x.s = tbl.s JOIN pg_catalog.pg_class s ON s.oid = x.s JOIN pg_catalog.pg_class t ON t.oid = x.t
WHERE s.relpersistence = 'u' AND t.relpersistence = 'p' ORDER BY (SELECT max(h.n) FROM height h WHERE h.oid = x.s)";

const STORAGE: &str = "
, idx AS (SELECT x.name, x.place, i.*, s.relname AS named, s.reloptions, s.reltablespace, s.relkind, w.oid AS there, w.reloptions AS made, w.reltablespace AS stands
    FROM rel x JOIN pg_catalog.pg_index i ON i.indrelid = x.s JOIN pg_catalog.pg_class s ON s.oid = i.indexrelid
    JOIN pg_catalog.pg_index j ON j.indrelid = x.t JOIN pg_catalog.pg_class w ON w.oid = j.indexrelid AND w.relname = s.relname)
SELECT what, sql FROM (
    SELECT 1, format('access method of %s', x.name), format('ALTER TABLE %I.%I SET ACCESS METHOD %I', x.place, x.name, m.amname)
        FROM rel x JOIN pg_catalog.pg_class s ON s.oid = x.s JOIN pg_catalog.pg_class t ON t.oid = x.t JOIN pg_catalog.pg_am m ON m.oid = s.relam
        WHERE s.relam <> t.relam AND s.relkind = 'r'
    UNION ALL SELECT 1, format('sequence %s', o.name), format('ALTER SEQUENCE %I.%I SET %s', $2::text, o.name, CASE s.relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE 'LOGGED' END)
        FROM owned o JOIN pg_catalog.pg_class s ON s.oid = o.s JOIN pg_catalog.pg_class t ON t.oid = o.t WHERE s.relpersistence <> t.relpersistence
    UNION ALL SELECT 2, format('tablespace of %s', x.name), format('ALTER TABLE %I.%I SET TABLESPACE %I', x.place, x.name, p.spcname)
        FROM rel x JOIN pg_catalog.pg_class s ON s.oid = x.s JOIN pg_catalog.pg_class t ON t.oid = x.t
        JOIN pg_catalog.pg_tablespace p ON p.oid = s.reltablespace WHERE s.reltablespace <> t.reltablespace
    UNION ALL SELECT 2, format('tablespace of %s', i.named), format('ALTER INDEX %I.%I SET TABLESPACE %I', i.place, i.named, p.spcname)
        FROM idx i JOIN pg_catalog.pg_tablespace p ON p.oid = i.reltablespace WHERE i.reltablespace <> i.stands
    UNION ALL SELECT 3, format('options of %s', x.name), format('ALTER TABLE %I.%I SET (%s)', x.place, x.name, (SELECT string_agg(
            format('%s%I = %L', u.pre, split_part(o, '=', 1), substr(o, 2 + length(split_part(o, '=', 1)))), ', ')
            FROM (SELECT '' AS pre, unnest(s.reloptions) AS o UNION ALL SELECT 'toast.', unnest(h.reloptions)) u))
        FROM rel x JOIN pg_catalog.pg_class s ON s.oid = x.s LEFT JOIN pg_catalog.pg_class h ON h.oid = s.reltoastrelid
        WHERE s.relkind IN ('r', 'm') AND (s.reloptions IS NOT NULL OR h.reloptions IS NOT NULL)
    UNION ALL SELECT 3, format('options of %s', i.named), format('ALTER INDEX %I.%I SET (%s)', i.place, i.named, (SELECT string_agg(
            format('%I = %L', split_part(o, '=', 1), substr(o, 2 + length(split_part(o, '=', 1)))), ', ') FROM unnest(i.reloptions) o))
        FROM idx i WHERE i.reloptions IS NOT NULL AND i.reloptions IS DISTINCT FROM i.made
    UNION ALL SELECT 4, format('storage of %s.%s', c.name, c.now), format('ALTER TABLE %I.%I ALTER COLUMN %I SET STORAGE %s', c.place, c.name, c.now,
            CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END)
        FROM col c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.s AND a.attnum = c.snum JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
        JOIN pg_catalog.pg_attribute b ON b.attrelid = c.t AND b.attnum = c.tnum JOIN pg_catalog.pg_type z ON z.oid = b.atttypid
        JOIN pg_catalog.pg_class k ON k.oid = c.s AND k.relkind IN ('r', 'm')
        WHERE a.attstorage <> b.attstorage AND a.attstorage <> y.typstorage AND z.typstorage <> 'p'
    UNION ALL SELECT 4, format('compression of %s.%s', c.name, c.now), format('ALTER TABLE %I.%I ALTER COLUMN %I SET COMPRESSION %s', c.place, c.name, c.now,
            CASE to_jsonb(a) ->> 'attcompression' WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END)
        FROM col c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.s AND a.attnum = c.snum
        JOIN pg_catalog.pg_attribute b ON b.attrelid = c.t AND b.attnum = c.tnum JOIN pg_catalog.pg_type z ON z.oid = b.atttypid
        WHERE to_jsonb(a) ->> 'attcompression' IN ('p', 'l') AND z.typstorage <> 'p'
    UNION ALL SELECT 4, format('statistics target of %s.%s', c.name, c.now), format('ALTER TABLE %I.%I ALTER COLUMN %I SET STATISTICS %s', c.place, c.name, c.now,
            to_jsonb(a) ->> 'attstattarget')
        FROM col c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.s AND a.attnum = c.snum
        WHERE (to_jsonb(a) ->> 'attstattarget')::int4 >= 0
    UNION ALL SELECT 4, format('statistics target of %s', i.named), format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s', i.place, i.named, a.attnum,
            to_jsonb(a) ->> 'attstattarget')
        FROM idx i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indexrelid WHERE (to_jsonb(a) ->> 'attstattarget')::int4 >= 0
    UNION ALL SELECT 4, format('options of %s.%s', c.name, c.now), format('ALTER TABLE %I.%I ALTER COLUMN %I SET (%s)', c.place, c.name, c.now,
            (SELECT string_agg(format('%I = %L', split_part(o, '=', 1), substr(o, 2 + length(split_part(o, '=', 1)))), ', ') FROM unnest(a.attoptions) o))
        FROM col c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.s AND a.attnum = c.snum AND a.attoptions IS NOT NULL
    UNION ALL SELECT 5, format('constraint %s of %s', k.conname, x.name), format('ALTER TABLE %I.%I RENAME CONSTRAINT %I TO %I', x.place, x.name, l.conname, k.conname)
        FROM rel x JOIN pg_catalog.pg_constraint k ON k.conrelid = x.s AND k.contype = 'n' JOIN col c ON c.s = x.s AND c.snum = k.conkey[1]
        JOIN pg_catalog.pg_constraint l ON l.conrelid = x.t AND l.contype = 'n' AND l.conkey[1] = c.tnum WHERE k.conname <> l.conname
    UNION ALL SELECT 6, format('constraint %s of %s', k.conname, x.name), format('ALTER TABLE %I.%I ALTER CONSTRAINT %I NO INHERIT', x.place, x.name, k.conname)
        FROM rel x JOIN pg_catalog.pg_constraint k ON k.conrelid = x.s AND k.contype = 'n' AND k.connoinherit JOIN col c ON c.s = x.s AND c.snum = k.conkey[1]
        JOIN pg_catalog.pg_constraint l ON l.conrelid = x.t AND l.contype = 'n' AND l.conkey[1] = c.tnum WHERE NOT l.connoinherit
    UNION ALL SELECT 6, format('constraint %s of %s', k.conname, x.name), format('ALTER TABLE %I.%I DROP CONSTRAINT %I, ADD CONSTRAINT %I %s',
            x.place, x.name, k.conname, k.conname, pg_get_constraintdef(l.oid) || ' NOT VALID')
        FROM rel x JOIN pg_catalog.pg_constraint k ON k.conrelid = x.s AND k.contype IN ('f', 'c') AND NOT k.convalidated
        JOIN pg_catalog.pg_constraint l ON l.conrelid = x.t AND l.contype = k.contype AND l.conname = k.conname AND l.convalidated
    UNION ALL SELECT 7, format('replica identity of %s', x.name), format('ALTER TABLE %I.%I REPLICA IDENTITY %s', x.place, x.name,
            CASE s.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING'
                ELSE (SELECT format('USING INDEX %I', r.relname) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class r ON r.oid = i.indexrelid
                    WHERE i.indrelid = x.s AND i.indisreplident) END)
        FROM rel x JOIN pg_catalog.pg_class s ON s.oid = x.s WHERE s.relkind = 'r' AND s.relreplident <> 'd'
    UNION ALL SELECT 8, format('cluster mark of %s', i.named), format('ALTER TABLE %I.%I CLUSTER ON %I', i.place, i.name, i.named)
        FROM idx i WHERE i.indisclustered
    UNION ALL SELECT 9, format('statistics %s', e.stxname), format('CREATE STATISTICS %I.%I%s', n.place, e.stxname,
            substr(pg_get_statisticsobjdef(e.oid), 1 + length(format('CREATE STATISTICS %I.%I', n.nspname, e.stxname))))
            || CASE WHEN (to_jsonb(e) ->> 'stxstattarget')::int4 >= 0
                THEN format('; ALTER STATISTICS %I.%I SET STATISTICS %s', n.place, e.stxname, to_jsonb(e) ->> 'stxstattarget') ELSE '' END
        FROM rel x JOIN pg_catalog.pg_statistic_ext e ON e.stxrelid = x.s JOIN spot n ON n.oid = e.stxnamespace
    ) x(o, what, sql) ORDER BY o, what";

const ROWS_GUARDED: &str = "
SELECT what, sql FROM (
    SELECT 1, format('row security of %s', x.name), concat_ws('; ',
            CASE WHEN s.relrowsecurity THEN format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', x.place, x.name) END,
            CASE WHEN s.relforcerowsecurity THEN format('ALTER TABLE %I.%I FORCE ROW LEVEL SECURITY', x.place, x.name) END)
        FROM rel x JOIN pg_catalog.pg_class s ON s.oid = x.s WHERE s.relrowsecurity OR s.relforcerowsecurity
    UNION ALL SELECT 2, format('policy %s of %s', p.polname, x.name), concat_ws(' ', format('CREATE POLICY %I ON %I.%I AS %s FOR %s TO %s', p.polname, x.place,
            x.name, CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
            CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
            (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ') FROM unnest(p.polroles) r)),
            'USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', 'WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
        FROM rel x JOIN pg_catalog.pg_policy p ON p.polrelid = x.s
    ) x(o, what, sql) ORDER BY o, what";

/// A definition names its table first; that one is said in full, as by its name alone a renamed one would be the source.
const ACTING: &str = "
SELECT what, sql FROM (
    SELECT 1, format('trigger %s of %s', t.tgname, x.name), concat_ws('; ', overlay(pg_get_triggerdef(t.oid, true)
                PLACING format(' ON %I.%I ', x.place, x.name) FROM strpos(pg_get_triggerdef(t.oid, true), format(' ON %I ', s.relname))
                FOR length(format(' ON %I ', s.relname))),
            CASE t.tgenabled WHEN 'O' THEN NULL ELSE format('ALTER TABLE %I.%I %s TRIGGER %I', x.place, x.name,
                CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END, t.tgname) END)
        FROM rel x JOIN pg_catalog.pg_class s ON s.oid = x.s
        JOIN pg_catalog.pg_trigger t ON t.tgrelid = x.s AND NOT t.tgisinternal AND t.tgname NOT LIKE 'backout\\_%'
    UNION ALL SELECT 2, format('rule %s of %s', r.rulename, x.name), concat_ws('; ', rtrim(overlay(pg_get_ruledef(r.oid, true)
                PLACING format(' TO %I.%I', x.place, x.name) FROM strpos(pg_get_ruledef(r.oid, true), format(' TO %I', s.relname))
                FOR length(format(' TO %I', s.relname))), ';'),
            CASE r.ev_enabled WHEN 'O' THEN NULL ELSE format('ALTER TABLE %I.%I %s RULE %I', x.place, x.name,
                CASE r.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END, r.rulename) END)
        FROM rel x JOIN pg_catalog.pg_class s ON s.oid = x.s
        JOIN pg_catalog.pg_rewrite r ON r.ev_class = x.s AND r.rulename <> '_RETURN'
    ) x(o, what, sql) ORDER BY o, what";

/// Every comment, by the kind of what it is on; its name is the same there, but for columns.
const SAID: &str = "
, note AS (
    SELECT 'column ' || c.now AS what, format('COLUMN %I.%I.%I', c.place, c.name, c.now) AS on_it, col_description(c.s, c.snum) AS text FROM col c
    UNION ALL SELECT x.name, format('%s %I.%I', CASE k.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, x.place, x.name),
        obj_description(x.s, 'pg_class') FROM rel x JOIN pg_catalog.pg_class k ON k.oid = x.s
    UNION ALL SELECT 'sequence ' || o.name, format('SEQUENCE %I.%I', $2::text, o.name), obj_description(o.s, 'pg_class') FROM owned o WHERE o.t IS NOT NULL
    UNION ALL SELECT 'index ' || k.relname, format('INDEX %I.%I', x.place, k.relname), obj_description(k.oid, 'pg_class')
        FROM rel x JOIN pg_catalog.pg_index i ON i.indrelid = x.s JOIN pg_catalog.pg_class k ON k.oid = i.indexrelid
        WHERE EXISTS (SELECT FROM pg_catalog.pg_class w JOIN pg_catalog.pg_index j ON j.indexrelid = w.oid
            WHERE w.relname = k.relname AND j.indrelid = x.t)
    UNION ALL SELECT 'constraint ' || k.conname, format('CONSTRAINT %I ON %I.%I', k.conname, x.place, x.name), obj_description(k.oid, 'pg_constraint')
        FROM rel x JOIN pg_catalog.pg_constraint k ON k.conrelid = x.s
        WHERE EXISTS (SELECT FROM pg_catalog.pg_constraint l WHERE l.conrelid = x.t AND l.conname = k.conname)
    UNION ALL SELECT 'trigger ' || t.tgname, format('TRIGGER %I ON %I.%I', t.tgname, x.place, x.name), obj_description(t.oid, 'pg_trigger')
        FROM rel x JOIN pg_catalog.pg_trigger t ON t.tgrelid = x.s AND NOT t.tgisinternal AND t.tgname NOT LIKE 'backout\\_%'
        WHERE EXISTS (SELECT FROM pg_catalog.pg_trigger u WHERE u.tgrelid = x.t AND u.tgname = t.tgname)
    UNION ALL SELECT 'rule ' || r.rulename, format('RULE %I ON %I.%I', r.rulename, x.place, x.name), obj_description(r.oid, 'pg_rewrite')
        FROM rel x JOIN pg_catalog.pg_rewrite r ON r.ev_class = x.s
        WHERE EXISTS (SELECT FROM pg_catalog.pg_rewrite u WHERE u.ev_class = x.t AND u.rulename = r.rulename)
    UNION ALL SELECT 'policy ' || p.polname, format('POLICY %I ON %I.%I', p.polname, x.place, x.name), obj_description(p.oid, 'pg_policy')
        FROM rel x JOIN pg_catalog.pg_policy p ON p.polrelid = x.s
    UNION ALL SELECT 'statistics ' || e.stxname, format('STATISTICS %I.%I', n.place, e.stxname), obj_description(e.oid, 'pg_statistic_ext')
        FROM rel x JOIN pg_catalog.pg_statistic_ext e ON e.stxrelid = x.s JOIN spot n ON n.oid = e.stxnamespace
    UNION ALL SELECT lower(f.word) || ' ' || f.proname, format('%s %s', f.word, f.named), obj_description(f.s, 'pg_proc') FROM fun f WHERE f.t IS NOT NULL)
SELECT 'the comment on ' || what, format('COMMENT ON %s IS %L', on_it, text) FROM note WHERE text IS NOT NULL ORDER BY 1";

/// A new owner must be able to make things in the schema for that moment; what he grants is granted as he did. What a default of the role's has
/// given or withheld is undone.
const OWNED: &str = "
, item AS (
    SELECT x.name, x.place, format('%I.%I', x.place, x.name) AS named, CASE k.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END AS word,
        'r'::\"char\" AS kind, x.s, x.t, k.relowner AS owner, k.relacl AS acl, w.relowner AS made_by, w.relacl AS made_acl
        FROM rel x JOIN pg_catalog.pg_class k ON k.oid = x.s JOIN pg_catalog.pg_class w ON w.oid = x.t
    UNION ALL SELECT w.relname::text, $2::text, format('%I.%I', $2::text, w.relname), 'SEQUENCE', 's', o.s, w.oid, k.relowner, k.relacl, w.relowner, w.relacl
        FROM owned o JOIN pg_catalog.pg_class k ON k.oid = o.s JOIN col c ON c.s = o.of AND c.snum = o.num
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.t AND d.refobjsubid = c.tnum
            AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')
        JOIN pg_catalog.pg_class w ON w.oid = d.objid AND w.relkind = 'S'
    UNION ALL SELECT f.proname::text, f.place, f.named, f.word, 'f', f.s, f.t, k.proowner, k.proacl, w.proowner, w.proacl
        FROM fun f JOIN pg_catalog.pg_proc k ON k.oid = f.s JOIN pg_catalog.pg_proc w ON w.oid = f.t),
wanted AS (
    SELECT i.name, i.place, i.owner, CASE i.kind WHEN 'r' THEN '' ELSE i.word || ' ' END || i.named AS on_it, NULL::text AS col,
        a.grantee, a.grantor, a.privilege_type, a.is_grantable FROM item i
        CROSS JOIN LATERAL aclexplode(coalesce(i.acl, CASE WHEN i.made_acl IS NOT NULL THEN acldefault(i.kind, i.owner) END)) a
    UNION ALL SELECT i.name, i.place, i.owner, i.named, c.now, a.grantee, a.grantor, a.privilege_type, a.is_grantable
        FROM item i JOIN col c ON c.s = i.s AND i.kind = 'r' JOIN pg_catalog.pg_attribute b ON b.attrelid = c.s AND b.attnum = c.snum
        CROSS JOIN LATERAL aclexplode(b.attacl) a)
SELECT what, sql FROM (
    SELECT 1, 'the owner of ' || i.name, format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', i.place, pg_get_userbyid(i.owner))
        FROM item i WHERE i.owner <> i.made_by
    UNION ALL SELECT 2, 'the owner of ' || i.name, format('ALTER %s %s OWNER TO %I', i.word, i.named, pg_get_userbyid(i.owner))
        FROM item i WHERE i.owner <> i.made_by AND i.kind <> 's'
    UNION ALL SELECT 3, 'the owner of statistics ' || e.stxname, format('GRANT USAGE, CREATE ON SCHEMA %I TO %I; ALTER STATISTICS %I.%I OWNER TO %I',
            n.place, pg_get_userbyid(e.stxowner), n.place, e.stxname, pg_get_userbyid(e.stxowner))
        FROM rel x JOIN pg_catalog.pg_statistic_ext e ON e.stxrelid = x.s JOIN spot n ON n.oid = e.stxnamespace
        WHERE e.stxowner <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
    UNION ALL SELECT 4, 'the privileges on ' || i.name, format('REVOKE ALL ON %s%s FROM %s', CASE i.kind WHEN 'r' THEN '' ELSE i.word || ' ' END, i.named,
            CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END)
        FROM item i
        CROSS JOIN LATERAL (SELECT DISTINCT CASE a.grantee WHEN i.made_by THEN i.owner ELSE a.grantee END AS grantee
            FROM aclexplode(coalesce(i.made_acl, acldefault(i.kind, i.made_by))) a WHERE i.acl IS NOT NULL OR i.made_acl IS NOT NULL
            UNION SELECT a.grantee FROM pg_catalog.pg_attribute b, aclexplode(b.attacl) a WHERE i.kind = 'r' AND b.attrelid = i.t AND a.grantee <> i.made_by) g
    UNION ALL SELECT CASE w.grantor WHEN w.owner THEN 5 ELSE 6 END, 'the privileges on ' || w.name, concat_ws('; ',
            CASE WHEN w.grantor <> w.owner THEN format('GRANT USAGE ON SCHEMA %I TO %I; SET LOCAL ROLE %I', w.place, pg_get_userbyid(w.grantor),
                pg_get_userbyid(w.grantor)) END,
            format('GRANT %s%s ON %s TO %s%s', w.privilege_type, '(' || quote_ident(w.col) || ')', w.on_it,
                CASE w.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(w.grantee)) END,
                CASE WHEN w.is_grantable THEN ' WITH GRANT OPTION' END),
            CASE WHEN w.grantor <> w.owner THEN 'RESET ROLE' END)
        FROM wanted w
    ) x(o, what, sql) ORDER BY o, what, sql";

impl Postgres {
    pub(super) fn no_identities(&mut self, pairs: &Pairs) -> Result<Vec<Garment>> {
        self.garments(NO_IDENTITY, pairs)
    }

    pub(super) fn sequences(&mut self, pairs: &Pairs) -> Result<Vec<Garment>> {
        self.garments(SEQUENCES, pairs)
    }

    pub(super) fn unlogged(&mut self, pairs: &Pairs) -> Result<Vec<Garment>> {
        self.garments(UNLOGGED, pairs)
    }

    pub(super) fn storage(&mut self, pairs: &Pairs) -> Result<Vec<Garment>> {
        self.garments(STORAGE, pairs)
    }

    pub(super) fn rows_guarded(&mut self, pairs: &Pairs) -> Result<Vec<Garment>> {
        self.garments(ROWS_GUARDED, pairs)
    }

    pub(super) fn acting(&mut self, pairs: &Pairs) -> Result<Vec<Garment>> {
        self.garments(ACTING, pairs)
    }

    /// Of what acts on a table only its triggers.
    pub(super) fn triggers(&mut self, pairs: &Pairs) -> Result<Vec<Garment>> {
        let mut acting = self.garments(ACTING, pairs)?;
        acting.retain(|g| g.what.starts_with("trigger "));
        Ok(acting)
    }

    pub(super) fn said_and_owned(&mut self, pairs: &Pairs) -> Result<Vec<Garment>> {
        let mut out = self.garments(SAID, pairs)?;
        out.extend(self.garments(OWNED, pairs)?);
        Ok(out)
    }
}

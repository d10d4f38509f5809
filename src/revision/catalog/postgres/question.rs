//! What is asked of PostgreSQL's catalogs.

/// The schemas that are read.
const SCHEMAS: &str = "(SELECT oid, nspname, nspowner, nspacl FROM pg_namespace WHERE nspname !~ '^pg_' \
    AND nspname <> 'information_schema' AND nspname !~ '^(backout|backout_scratch|migration_backup.*)$')";

/// Within the query of a catalog whose row is `o`: the row is no extension's.
fn own(class: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{class}'::regclass AND e.objid = o.oid AND e.deptype = 'e')"
    )
}

/// Owner, grants and comment of the row `o`.
fn about(class: &str, owner: &str, acl: &str, letter: &str) -> String {
    format!(
        "quote_ident(pg_get_userbyid(o.{owner})), (SELECT string_agg({GRANT}, chr(31)) FROM \
         aclexplode(coalesce(o.{acl}, acldefault('{letter}', o.{owner}))) a), obj_description(o.oid, '{class}')",
        GRANT = GRANT.replace("$owner", &format!("o.{owner}"))
    )
}

/// One line of an exploded list of grants. The owner goes by another name, as tables may have others here and there.
const GRANT: &str = "format('%s TO %s%s', a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' WHEN $owner THEN '%owner' \
    ELSE quote_ident(pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)";

/// The whole question. The first column of each row tells what it is about. The search path is put back as it was.
pub(super) fn question() -> String {
    let (relation, function, ty) = (own("pg_class"), own("pg_proc").replace("= 'e'", "IN ('e', 'i')"), own("pg_type"));
    let relation_about = format!(
        "quote_ident(pg_get_userbyid(o.relowner)), (SELECT string_agg({}, chr(31)) FROM aclexplode(coalesce(o.relacl, \
         acldefault(CASE o.relkind WHEN 'S' THEN 's'::\"char\" ELSE 'r' END, o.relowner))) a), obj_description(o.oid, 'pg_class')",
        GRANT.replace("$owner", "o.relowner")
    );
    let others = [
        ("pg_operator", "o.oprcode::text"),
        ("pg_opclass", "o.opcintype::regtype::text || ' default ' || o.opcdefault"),
        ("pg_opfamily", "''"),
        ("pg_cast", "concat(o.castcontext, ' ', o.castmethod, ' ', nullif(o.castfunc, 0)::regprocedure)"),
        ("pg_collation", "concat(o.collprovider, ' ', o.collcollate, ' ', o.collisdeterministic)"),
        ("pg_conversion", "o.conproc::text"),
        ("pg_ts_config", "(SELECT string_agg(concat(m.maptokentype, ' ', m.mapseqno, ' ', m.mapdict::regdictionary), ', ' \
            ORDER BY m.maptokentype, m.mapseqno) FROM pg_ts_config_map m WHERE m.mapcfg = o.oid)"),
        ("pg_ts_dict", "o.dictinitoption"),
        ("pg_ts_parser", "o.prsstart::text"),
        ("pg_ts_template", "o.tmpllexize::text"),
        ("pg_event_trigger", "concat(o.evtevent, ' ', o.evtfoid::regprocedure, ' ', o.evtenabled, ' ', o.evttags)"),
        ("pg_foreign_data_wrapper", "o.fdwoptions::text"),
        ("pg_foreign_server", "concat(o.srvtype, ' ', o.srvversion)"),
        ("pg_publication", "concat(o.puballtables, o.pubinsert, o.pubupdate, o.pubdelete, o.pubtruncate, ' ', \
            (SELECT string_agg(concat(r.prrelid::regclass, ' ', pg_get_expr(r.prqual, r.prrelid)), ', ' ORDER BY r.prrelid::regclass::text) \
             FROM pg_publication_rel r WHERE r.prpubid = o.oid))"),
        ("pg_default_acl", "o.defaclacl::text"),
        ("pg_language", "o.lanplcallfoid::regproc::text"),
        ("pg_transform", "''"),
        ("pg_am", "o.amhandler::text"),
    ]
    .map(|(class, detail)| {
        format!("SELECT '{class}'::regclass AS classid, o.oid, {detail} AS detail FROM {class} o WHERE o.oid >= 16384 AND {}", own(class))
    })
    .join(" UNION ALL ");
    [
        "SELECT set_config('backout.search_path', current_setting('search_path'), true)".to_owned(),
        "SELECT set_config('search_path', '', true)".to_owned(),
        "SELECT 'Y', quote_ident(current_user)".to_owned(),
        format!(
            "SELECT 'N', o.oid, quote_ident(o.nspname), {} FROM {SCHEMAS} o WHERE {}",
            about("pg_namespace", "nspowner", "nspacl", "n"),
            own("pg_namespace")
        ),
        // plpgsql is in every new database
        "SELECT 'E', o.oid, quote_ident(o.extname), quote_ident(n.nspname), o.extowner, obj_description(o.oid, 'pg_extension') \
         FROM pg_extension o JOIN pg_namespace n ON n.oid = o.extnamespace WHERE o.extname <> 'plpgsql'"
            .into(),
        format!(
            "SELECT 'T', o.oid, o.typarray, o.typtype, format('%I.%I', n.nspname, o.typname), \
             (SELECT string_agg(quote_literal(v.enumlabel), chr(31) ORDER BY v.enumsortorder) FROM pg_enum v WHERE v.enumtypid = o.oid), \
             format_type(o.typbasetype, o.typtypmod), o.typnotnull, pg_get_expr(o.typdefaultbin, 0), \
             (SELECT string_agg(format('%I %s', k.conname, pg_get_constraintdef(k.oid)), chr(31) ORDER BY k.conname) FROM pg_constraint k \
              WHERE k.contypid = o.oid AND k.contype = 'c'), \
             (SELECT format(' COLLATE %I.%I', cn.nspname, c.collname) FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace, \
              pg_type b WHERE c.oid = o.typcollation AND b.oid = o.typbasetype AND b.typcollation <> c.oid), \
             (SELECT string_agg(format('%I %s%s', a.attname, format_type(a.atttypid, a.atttypmod), (SELECT format(' COLLATE %I.%I', \
              cn.nspname, c.collname) FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace, pg_type b WHERE c.oid = a.attcollation \
              AND b.oid = a.atttypid AND b.typcollation <> c.oid)), chr(31) ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = o.typrelid \
              AND a.attnum > 0 AND NOT a.attisdropped), o.typrelid, \
             (SELECT concat(g.rngsubtype::regtype, ' ', nullif(g.rngcanonical, 0), ' ', nullif(g.rngsubdiff, 0)) FROM pg_range g \
              WHERE g.rngtypid = o.oid), {} FROM pg_type o JOIN {SCHEMAS} n ON n.oid = o.typnamespace \
             LEFT JOIN pg_class r ON r.oid = o.typrelid \
             WHERE (o.typtype IN ('e', 'd', 'r') OR o.typtype = 'c' AND r.relkind = 'c' OR o.typtype = 'b' AND NOT EXISTS \
             (SELECT FROM pg_type e WHERE e.typarray = o.oid)) AND {ty}",
            about("pg_type", "typowner", "typacl", "T")
        ),
        format!(
            "SELECT 'C', o.oid, o.reltype, (SELECT t.typarray FROM pg_type t WHERE t.oid = o.reltype), o.relkind, n.nspname, o.relname, \
             format('%I.%I', n.nspname, o.relname), o.relpersistence, \
             array_to_string(o.reloptions || ARRAY(SELECT 'toast.' || x FROM pg_class t, unnest(t.reloptions) x WHERE t.oid = o.reltoastrelid), ', '), \
             o.relrowsecurity, o.relforcerowsecurity, o.relreplident, o.relispartition, \
             CASE WHEN o.relkind = 'p' THEN pg_get_partkeydef(o.oid) END, pg_get_expr(o.relpartbound, o.oid), \
             (SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno) FROM pg_inherits i WHERE i.inhrelid = o.oid), \
             (SELECT quote_ident(t.spcname) FROM pg_tablespace t WHERE t.oid = o.reltablespace), \
             (SELECT quote_ident(m.amname) FROM pg_am m WHERE m.oid = o.relam AND o.relkind IN ('r', 'm') AND m.amname <> 'heap'), \
             CASE WHEN o.relkind IN ('v', 'm') THEN pg_get_viewdef(o.oid) END, o.relispopulated, \
             nullif(o.reloftype, 0)::regtype::text, {relation_about}, \
             (SELECT string_agg(format('%I %L', a.attname, d.description), chr(31) ORDER BY a.attnum) FROM pg_attribute a \
              JOIN pg_description d ON d.objoid = o.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.attnum \
              WHERE a.attrelid = o.oid AND o.relkind IN ('v', 'm')) \
             FROM pg_class o JOIN {SCHEMAS} n ON n.oid = o.relnamespace WHERE o.relkind IN ('r', 'p', 'f', 'v', 'm') AND {relation}"
        ),
        format!(
            "SELECT 'S', o.oid, o.relname, format('%I.%I', n.nspname, o.relname), format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, \
             s.seqmin, s.seqmax, s.seqcache, s.seqcycle, o.relpersistence, d.deptype, d.refobjid, d.refobjsubid, {relation_about} \
             FROM pg_class o JOIN {SCHEMAS} n ON n.oid = o.relnamespace JOIN pg_sequence s ON s.seqrelid = o.oid \
             LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = o.oid AND d.refclassid = 'pg_class'::regclass \
             AND d.deptype IN ('a', 'i') WHERE {relation}"
        ),
        format!(
            "SELECT 'A', o.oid, a.attnum, a.attname, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attnotnull, \
             a.attidentity, a.attgenerated, d.oid, pg_get_expr(d.adbin, d.adrelid), \
             (SELECT format('%I.%I', cn.nspname, c.collname) FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace \
              WHERE c.oid = a.attcollation AND t.typcollation <> c.oid), CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END, \
             nullif(a.attstattarget, -1), nullif(a.attcompression, ''), array_to_string(a.attoptions, ', '), \
             (SELECT string_agg({}, chr(31)) FROM aclexplode(a.attacl) x(grantor, grantee, privilege_type, is_grantable), \
              LATERAL (SELECT x.*) a), col_description(o.oid, a.attnum) \
             FROM pg_attribute a JOIN pg_class o ON o.oid = a.attrelid JOIN {SCHEMAS} n ON n.oid = o.relnamespace \
             JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
             WHERE o.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped AND {relation} ORDER BY 2, 3",
            GRANT.replace("$owner", "o.relowner")
        ),
        format!(
            "SELECT 'K', k.oid, k.conrelid, quote_ident(k.conname), k.contype, pg_get_constraintdef(k.oid), k.conindid, k.confrelid, \
             array_to_string(k.conkey, chr(31)), array_to_string(k.confkey, chr(31)), obj_description(k.oid, 'pg_constraint'), k.conparentid, \
             (SELECT array_to_string(i.reloptions, ', ') FROM pg_class i WHERE i.oid = k.conindid AND k.contype IN ('p', 'u', 'x')), \
             (SELECT x.indisclustered FROM pg_index x WHERE x.indexrelid = k.conindid AND k.contype IN ('p', 'u', 'x')), \
             (SELECT x.indisreplident FROM pg_index x WHERE x.indexrelid = k.conindid AND k.contype IN ('p', 'u', 'x')) \
             FROM pg_constraint k JOIN pg_class o ON o.oid = k.conrelid JOIN {SCHEMAS} n ON n.oid = o.relnamespace \
             WHERE k.contype IN ('p', 'u', 'c', 'x', 'f') AND {relation}"
        ),
        format!(
            "SELECT 'I', o.oid, x.indrelid, format('%I.%I', n.nspname, o.relname), quote_ident(o.relname), pg_get_indexdef(o.oid), x.indisunique, x.indisvalid, \
             x.indisclustered, x.indisreplident, obj_description(o.oid, 'pg_class'), \
             CASE WHEN x.indpred IS NULL AND x.indexprs IS NULL THEN \
              array_to_string((x.indkey::int2[])[:x.indnkeyatts - 1], chr(31)) END, \
             (SELECT string_agg(format('%s %s', a.attnum, a.attstattarget), chr(31) ORDER BY a.attnum) FROM pg_attribute a \
              WHERE a.attrelid = o.oid AND a.attstattarget >= 0) \
             FROM pg_index x JOIN pg_class o ON o.oid = x.indexrelid JOIN {SCHEMAS} n ON n.oid = o.relnamespace \
             WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = o.oid AND k.contype IN ('p', 'u', 'x')) AND {relation}"
        ),
        format!(
            "SELECT 'F', o.oid, o.prokind, format('%I.%I', n.nspname, o.proname), oidvectortypes(o.proargtypes), \
             CASE WHEN o.prokind <> 'a' THEN pg_get_functiondef(o.oid) ELSE \
              CASE WHEN g.aggkind = 'n' AND g.aggmtransfn = 0 AND g.aggsortop = 0 THEN format('CREATE AGGREGATE %I.%I(%s) (SFUNC = %s, STYPE = %s%s%s%s%s%s%s%s)', \
               n.nspname, o.proname, CASE WHEN o.pronargs = 0 THEN '*' ELSE pg_get_function_arguments(o.oid) END, g.aggtransfn, \
               format_type(g.aggtranstype, NULL), \
               CASE WHEN g.aggtransspace > 0 THEN format(', SSPACE = %s', g.aggtransspace) END, \
               CASE WHEN g.aggfinalfn <> 0 THEN format(', FINALFUNC = %s', g.aggfinalfn) END, \
               CASE WHEN g.aggfinalextra THEN ', FINALFUNC_EXTRA' END, \
               CASE WHEN g.aggcombinefn <> 0 THEN format(', COMBINEFUNC = %s', g.aggcombinefn) END, \
               CASE WHEN g.aggserialfn <> 0 THEN format(', SERIALFUNC = %s, DESERIALFUNC = %s', g.aggserialfn, g.aggdeserialfn) END, \
               CASE WHEN g.agginitval IS NOT NULL THEN format(', INITCOND = %L', g.agginitval) END, \
               CASE o.proparallel WHEN 's' THEN ', PARALLEL = SAFE' WHEN 'r' THEN ', PARALLEL = RESTRICTED' END) END END, \
             pg_get_function_arguments(o.oid), pg_get_function_result(o.oid), l.lanname, {} FROM pg_proc o \
             JOIN {SCHEMAS} n ON n.oid = o.pronamespace JOIN pg_language l ON l.oid = o.prolang \
             LEFT JOIN pg_aggregate g ON g.aggfnoid = o.oid WHERE {function}",
            about("pg_proc", "proowner", "proacl", "f")
        ),
        format!(
            "SELECT 'G', g.oid, g.tgrelid, quote_ident(g.tgname), pg_get_triggerdef(g.oid), g.tgenabled, \
             obj_description(g.oid, 'pg_trigger'), g.tgparentid FROM pg_trigger g JOIN pg_class o ON o.oid = g.tgrelid \
             JOIN {SCHEMAS} n ON n.oid = o.relnamespace WHERE NOT g.tgisinternal AND g.tgname !~ '^backout_' AND {relation}"
        ),
        format!(
            "SELECT 'R', w.oid, w.ev_class, quote_ident(w.rulename), CASE WHEN w.rulename <> '_RETURN' THEN pg_get_ruledef(w.oid) END, \
             w.ev_enabled, obj_description(w.oid, 'pg_rewrite') FROM pg_rewrite w JOIN pg_class o ON o.oid = w.ev_class \
             JOIN {SCHEMAS} n ON n.oid = o.relnamespace WHERE {relation}"
        ),
        format!(
            "SELECT 'P', p.oid, p.polrelid, quote_ident(p.polname), \
             concat(CASE WHEN NOT p.polpermissive THEN ' AS RESTRICTIVE' END, \
             CASE p.polcmd WHEN 'r' THEN ' FOR SELECT' WHEN 'a' THEN ' FOR INSERT' WHEN 'w' THEN ' FOR UPDATE' WHEN 'd' THEN ' FOR DELETE' END, \
             CASE WHEN p.polroles <> '{{0}}' THEN ' TO ' || (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, \
              ', ' ORDER BY pg_get_userbyid(r)) FROM unnest(p.polroles) r) END, \
             ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'), \
             obj_description(p.oid, 'pg_policy') FROM pg_policy p JOIN pg_class o ON o.oid = p.polrelid \
             JOIN {SCHEMAS} n ON n.oid = o.relnamespace WHERE {relation}"
        ),
        format!(
            "SELECT 'X', o.oid, o.stxrelid, format('%I.%I', n.nspname, o.stxname), pg_get_statisticsobjdef(o.oid), nullif(o.stxstattarget, -1), \
             quote_ident(pg_get_userbyid(o.stxowner)), obj_description(o.oid, 'pg_statistic_ext') FROM pg_statistic_ext o \
             JOIN {SCHEMAS} n ON n.oid = o.stxnamespace WHERE {}",
            own("pg_statistic_ext")
        ),
        format!(
            "SELECT 'O', x.classid::regclass::text, x.oid, i.type, i.identity, x.detail, obj_description(x.oid, x.classid::regclass::text) \
             FROM ({others}) x, LATERAL pg_identify_object(x.classid, x.oid, 0) i"
        ),
        // what an extension brought along is there when the extension is
        "SELECT 'D', d.classid, d.objid, d.objsubid, d.refclassid, d.refobjid, d.refobjsubid, d.deptype FROM pg_depend d \
         WHERE d.objid >= 16384 AND d.refobjid >= 16384 AND d.deptype <> 'i'"
            .into(),
        "SELECT 'Q', o.oid, o.relname FROM pg_class o WHERE o.oid < 16384 AND o.relkind = 'r'".into(),
        "SELECT set_config('search_path', current_setting('backout.search_path'), true)".to_owned(),
    ]
    .join("; ")
}

//! Reads PostgreSQL's catalogs: all in one message, every name in it qualified.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{About, Catalog, Column, ForeignKey, Name, Object, Table, What};
use crate::plan::Kind;
use crate::revision::Result;
use crate::revision::database::Database;
use crate::value::Value;

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
fn question() -> String {
    let (relation, function, ty) = (own("pg_class"), own("pg_proc"), own("pg_type"));
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

/// A row of the answer; NULL is an empty text where nobody asks.
struct Line(Vec<Option<String>>);

impl Line {
    fn text(&self, i: usize) -> String {
        self.0.get(i).cloned().flatten().unwrap_or_default()
    }

    fn some(&self, i: usize) -> Option<String> {
        self.0.get(i).cloned().flatten().filter(|t| !t.is_empty())
    }

    fn yes(&self, i: usize) -> bool {
        self.text(i) == "t"
    }

    fn list(&self, i: usize) -> Vec<String> {
        self.some(i).map(|t| t.split('\u{1f}').map(str::to_owned).collect()).unwrap_or_default()
    }

    /// Owner, grants and comment from column `i` on.
    fn about(&self, i: usize) -> About {
        let mut grants = self.list(i + 1);
        grants.sort();
        About { owner: self.some(i), grants, comment: self.some(i + 2) }
    }
}

/// What an oid stands for, by its catalog and, of columns, their number.
type Ids = HashMap<(String, String, String), String>;

struct Reading {
    tables: Vec<Table>,
    objects: Vec<Object>,
    ids: Ids,
    /// Which table an oid is.
    at: HashMap<String, usize>,
    /// Names of columns, by their table and their number.
    numbers: HashMap<(String, String), String>,
    /// Quoted names of all relations.
    relations: HashMap<String, String>,
}

pub(super) fn read(db: &mut dyn Database) -> Result<Catalog> {
    let mut lines: HashMap<String, Vec<Line>> = HashMap::new();
    for row in db.query(&question())? {
        let texts = row.into_iter().map(|value| match value {
            Value::Text(text) => Some(String::from_utf8_lossy(&text).into_owned()),
            _ => None,
        });
        let line = Line(texts.collect());
        lines.entry(line.text(0)).or_default().push(line);
    }
    let mut reading = Reading {
        tables: Vec::new(),
        objects: Vec::new(),
        ids: Ids::new(),
        at: HashMap::new(),
        numbers: HashMap::new(),
        relations: HashMap::new(),
    };
    let none = Vec::new();
    let of = |tag: &str| lines.get(tag).unwrap_or(&none);
    reading.apart(of("N"), of("E"), of("O"));
    reading.types(of("T"));
    reading.relations(of("C"));
    reading.columns(of("A"));
    reading.sequences(of("S"));
    reading.constraints(of("K"));
    reading.indexes(of("I"));
    reading.functions(of("F"));
    reading.belongings(of("G"), of("R"), of("P"), of("X"));
    let classes = of("Q").iter().map(|l| (l.text(1), l.text(2))).collect();
    reading.dependencies(of("D"), &classes);
    let reader = of("Y").first().and_then(|l| l.some(1));
    Ok(Catalog { kind: Kind::Postgres, tables: reading.tables, objects: reading.objects, reader })
}

fn object(what: What, name: String, table: Option<String>, sql: String, about: About) -> Object {
    Object {
        what,
        name,
        table,
        canon: sql.clone(),
        sql,
        parts: Vec::new(),
        word: None,
        broken: false,
        about,
        depends: BTreeSet::new(),
    }
}

fn commented(comment: Option<String>) -> About {
    About { comment, ..About::default() }
}

impl Reading {
    fn known(&mut self, class: &str, oid: &str, id: &str) {
        self.ids.insert((class.to_owned(), oid.to_owned(), "0".into()), id.to_owned());
    }

    /// Columns by their numbers in a table.
    fn named(&self, table: &str, numbers: Vec<String>) -> Vec<String> {
        let name = |n: String| self.numbers.get(&(table.to_owned(), n)).cloned();
        numbers.into_iter().filter_map(name).collect()
    }

    fn add(&mut self, class: &str, oid: &str, object: Object) {
        self.known(class, oid, &object.id());
        self.objects.push(object);
    }

    fn apart(&mut self, schemas: &[Line], extensions: &[Line], others: &[Line]) {
        for line in schemas {
            let name = line.text(2);
            let mut about = line.about(3);
            if name == "public" {
                // it is in every new database, with this comment
                about.comment = about.comment.filter(|c| c != "standard public schema");
            }
            let made = object(What::Schema, name.clone(), None, format!("CREATE SCHEMA {name}"), about);
            self.add("pg_namespace", &line.text(1), made);
        }
        for line in extensions {
            let name = line.text(2);
            let sql = format!("CREATE EXTENSION {name} WITH SCHEMA {}", line.text(3));
            let made = object(What::Extension, name, None, sql, About::default());
            self.add("pg_extension", &line.text(1), made);
        }
        for line in others {
            let name = format!("{} {}", line.text(3), line.text(4));
            let sql = format!("{name}: {}", line.text(5));
            let made = object(What::Other, name, None, sql, commented(line.some(6)));
            self.add(&line.text(1), &line.text(2), made);
        }
    }

    fn types(&mut self, lines: &[Line]) {
        for line in lines {
            let (name, kind) = (line.text(4), line.text(3));
            let about = line.about(14);
            let mut parts = Vec::new();
            let (what, sql) = match kind.as_str() {
                "e" => {
                    let values = line.list(5);
                    parts = values.iter().map(|v| ("value".to_owned(), v.clone())).collect();
                    (What::Enum, format!("CREATE TYPE {name} AS ENUM ({})", values.join(", ")))
                }
                "d" => {
                    parts.push(("type".into(), format!("{}{}", line.text(6), line.text(10))));
                    let mut sql = format!("CREATE DOMAIN {name} AS {}{}", line.text(6), line.text(10));
                    if let Some(default) = line.some(8) {
                        sql += &format!(" DEFAULT {default}");
                        parts.push(("default".into(), default));
                    }
                    if line.yes(7) {
                        sql += " NOT NULL";
                        parts.push(("not null".into(), String::new()));
                    }
                    for check in line.list(9) {
                        sql += &format!(" CONSTRAINT {check}");
                        parts.push(("check".into(), check));
                    }
                    (What::Domain, sql)
                }
                "c" => {
                    parts = line.list(11).into_iter().map(|a| ("attribute".to_owned(), a)).collect();
                    (What::Composite, format!("CREATE TYPE {name} AS ({})", line.list(11).join(", ")))
                }
                _ => (What::Other, format!("type {name}: {}", line.text(13))),
            };
            let named = if what == What::Other { format!("type {name}") } else { name };
            let mut made = object(what, named, None, sql, about);
            made.parts = parts;
            made.word = matches!(what, What::Enum | What::Composite).then(|| "TYPE".to_owned());
            let id = made.id();
            self.known("pg_type", &line.text(2), &id);
            if kind == "c" {
                self.known("pg_class", &line.text(12), &id);
            }
            self.add("pg_type", &line.text(1), made);
        }
    }

    fn relations(&mut self, lines: &[Line]) {
        for line in lines {
            let (oid, quoted, kind) = (line.text(1), line.text(7), line.text(4));
            self.relations.insert(oid.clone(), quoted.clone());
            let id = if kind == "v" || kind == "m" {
                let what = if kind == "v" { What::View } else { What::MaterializedView };
                let with = line.some(9).map(|o| format!(" WITH ({o})")).unwrap_or_default();
                let query = line.text(19).trim().trim_end_matches(';').to_owned();
                let method = line.some(18).map(|m| format!(" USING {m}")).unwrap_or_default();
                let place = line.some(17).map(|t| format!(" TABLESPACE {t}")).unwrap_or_default();
                let word = if kind == "v" { "VIEW" } else { "MATERIALIZED VIEW" };
                let sql = format!("CREATE {word} {quoted}{method}{with}{place} AS\n{query}");
                let mut made = object(what, quoted, None, sql, line.about(22));
                if kind == "m" && !line.yes(20) {
                    made.sql += " WITH NO DATA";
                }
                made.parts = line.list(25).into_iter().map(|c| ("column comment".to_owned(), c)).collect();
                let id = made.id();
                self.add("pg_class", &oid, made);
                id
            } else {
                let mut options = BTreeMap::new();
                let mut option = |key: &str, value: Option<String>| {
                    if let Some(value) = value {
                        options.insert(key.to_owned(), value);
                    }
                };
                option("unlogged", (line.text(8) == "u").then(String::new));
                option("with", line.some(9));
                option("row security", line.yes(10).then(String::new));
                option("forced row security", line.yes(11).then(String::new));
                option(
                    "replica identity",
                    match line.text(12).as_str() {
                        "f" => Some("FULL".into()),
                        "n" => Some("NOTHING".into()),
                        _ => None,
                    },
                );
                option("partitioned by", line.some(14));
                option("partition", line.some(15));
                option("inherits", line.some(16));
                option("tablespace", line.some(17));
                option("access method", line.some(18));
                option("of type", line.some(21));
                let beyond = match kind.as_str() {
                    "p" => Some("it is partitioned"),
                    "f" => Some("it is a foreign table"),
                    _ if line.yes(13) => Some("it is a partition"),
                    _ if line.some(16).is_some() => Some("it inherits from another table"),
                    _ if line.some(21).is_some() => Some("it is a table of a type"),
                    _ => None,
                };
                let name = Name { schema: Some(line.text(5)), name: line.text(6), quoted };
                self.at.insert(oid.clone(), self.tables.len());
                let made = Table {
                    name,
                    columns: Vec::new(),
                    key: Vec::new(),
                    unique: Vec::new(),
                    foreign_keys: Vec::new(),
                    sql: String::new(),
                    constraints: Vec::new(),
                    options,
                    beyond: beyond.map(str::to_owned),
                    about: line.about(22),
                    depends: BTreeSet::new(),
                };
                let id = made.id();
                self.known("pg_class", &oid, &id);
                self.tables.push(made);
                id
            };
            self.known("pg_type", &line.text(2), &id);
            self.known("pg_type", &line.text(3), &id);
        }
    }

    fn columns(&mut self, lines: &[Line]) {
        for line in lines {
            let (oid, number) = (line.text(1), line.text(2));
            let Some(&at) = self.at.get(&oid) else { continue };
            let mut options = BTreeMap::new();
            let storage = match line.text(12).as_str() {
                "p" => Some("PLAIN"),
                "e" => Some("EXTERNAL"),
                "m" => Some("MAIN"),
                "x" => Some("EXTENDED"),
                _ => None,
            };
            let compression = match line.text(14).as_str() {
                "p" => Some("pglz"),
                "l" => Some("lz4"),
                _ => None,
            };
            for (key, value) in [
                ("storage", storage.map(str::to_owned)),
                ("statistics", line.some(13)),
                ("compression", compression.map(str::to_owned)),
                ("with", line.some(15)),
            ] {
                if let Some(value) = value {
                    options.insert(key.to_owned(), value);
                }
            }
            let (expression, generated) = (line.some(10), line.some(8));
            let mut grants = line.list(16);
            grants.sort();
            let column = Column {
                name: line.text(3),
                quoted: line.text(4),
                ty: line.text(5),
                not_null: line.yes(6),
                default: expression.clone().filter(|_| generated.is_none()),
                is_virtual: generated.as_deref() == Some("v"),
                generated: generated.and(expression),
                identity: match line.text(7).as_str() {
                    "a" => Some("ALWAYS".into()),
                    "d" => Some("BY DEFAULT".into()),
                    _ => None,
                },
                collation: line.some(11),
                options,
                about: About { comment: line.some(17), owner: None, grants },
                ..Column::default()
            };
            self.numbers.insert((oid.clone(), number.clone()), column.name.clone());
            let table = &mut self.tables[at];
            let (id, default) = (table.column_id(&column), table.default_id(&column));
            let of_default = if column.default.is_some() { default } else { id.clone() };
            table.columns.push(column);
            self.ids.insert(("pg_class".into(), oid, number), id);
            if let Some(default) = line.some(9) {
                self.known("pg_attrdef", &default, &of_default);
            }
        }
    }

    fn sequences(&mut self, lines: &[Line]) {
        for line in lines {
            let (oid, name, ty) = (line.text(1), line.text(3), line.text(4));
            let (start, increment, min, max) = (line.text(5), line.text(6), line.text(7), line.text(8));
            let (least, greatest) = match ty.as_str() {
                "smallint" => ("-32768", "32767"),
                "integer" => ("-2147483648", "2147483647"),
                _ => ("-9223372036854775808", "9223372036854775807"),
            };
            let (usual_min, usual_max) = if increment.starts_with('-') { (least, "-1") } else { ("1", greatest) };
            let usual_start = if increment.starts_with('-') { &max } else { &min };
            let mut said = String::new();
            let mut say = |text: String, usual: bool| {
                if !usual {
                    said += &text;
                }
            };
            say(format!(" INCREMENT BY {increment}"), increment == "1");
            say(format!(" MINVALUE {min}"), min == usual_min);
            say(format!(" MAXVALUE {max}"), max == usual_max);
            say(format!(" START WITH {start}"), start == *usual_start);
            say(format!(" CACHE {}", line.text(9)), line.text(9) == "1");
            say(" CYCLE".into(), !line.yes(10));
            let owner = self
                .at
                .get(&line.text(13))
                .map(|&at| (at, self.ids.get(&("pg_class".into(), line.text(13), line.text(14))).cloned()));
            let place = owner.as_ref().and_then(|(at, id)| {
                let id = id.clone()?;
                let table = &self.tables[*at];
                let column = table.columns.iter().position(|c| table.column_id(c) == id)?;
                Some((*at, column, id))
            });
            if line.text(12) == "i" {
                let Some((at, column, id)) = place else { continue };
                self.known("pg_class", &oid, &id);
                let table = &mut self.tables[at];
                table.columns[column].sequence = Some(name);
                if let Some(identity) = &mut table.columns[column].identity
                    && !said.is_empty()
                {
                    *identity += &format!(" ({})", said.trim_start());
                }
                continue;
            }
            let mut sql = format!("CREATE SEQUENCE {name}");
            if line.text(11) == "u" {
                sql = format!("CREATE UNLOGGED SEQUENCE {name}");
            }
            if ty != "bigint" {
                sql += &format!(" AS {ty}");
            }
            sql += &said;
            let mut made = object(What::Sequence, name, None, sql, line.about(15));
            made.parts = vec![
                ("AS".into(), ty),
                ("INCREMENT BY".into(), increment),
                ("MINVALUE".into(), min),
                ("MAXVALUE".into(), max),
                ("START WITH".into(), start),
                ("CACHE".into(), line.text(9)),
                (if line.yes(10) { "CYCLE" } else { "NO CYCLE" }.into(), String::new()),
            ];
            if let Some((_, _, id)) = place {
                made.parts.push(("OWNED BY".into(), id.trim_start_matches("column ").to_owned()));
            }
            self.add("pg_class", &oid, made);
        }
    }

    fn constraints(&mut self, lines: &[Line]) {
        for line in lines {
            let Some(&at) = self.at.get(&line.text(2)) else { continue };
            let (kind, name) = (line.text(4), line.text(3));
            let columns = self.named(&line.text(2), line.list(8));
            let references = self.named(&line.text(7), line.list(9));
            let parent = self.at.get(&line.text(7)).map(|&p| self.tables[p].name.clone());
            let table = &mut self.tables[at];
            match (kind.as_str(), parent) {
                ("p", _) => table.key = columns,
                ("u", _) => table.unique.push(columns),
                ("f", Some(parent)) => {
                    table.foreign_keys.push(ForeignKey { columns, table: parent, references });
                }
                _ => {}
            }
            if line.yes(13) {
                table.options.insert("clustered on".into(), name.clone());
            }
            if line.yes(14) {
                table.options.insert("replica identity".into(), format!("USING INDEX {name}"));
            }
            let what = if kind == "f" { What::ForeignKey } else { What::Constraint };
            let mut text = line.text(5);
            if let Some(options) = line.some(12) {
                // in front of what may follow it
                let end = [" DEFERRABLE", " WHERE ("].iter().filter_map(|w| text.find(w)).min().unwrap_or(text.len());
                text.insert_str(end, &format!(" WITH ({options})"));
            }
            let sql = format!("CONSTRAINT {name} {text}");
            let quoted = table.name.quoted.clone();
            let mut made = object(what, name, Some(quoted), sql, commented(line.some(10)));
            made.parts = vec![("kind".into(), kind)];
            if line.text(11) != "0" {
                made.parts.push(("inherited".into(), String::new()));
            }
            if what == What::Constraint && line.text(6) != "0" {
                self.known("pg_class", &line.text(6), &made.id());
            }
            self.add("pg_constraint", &line.text(1), made);
        }
    }

    fn indexes(&mut self, lines: &[Line]) {
        for line in lines {
            let Some(quoted) = self.relations.get(&line.text(2)).cloned() else { continue };
            let columns = self.named(&line.text(2), line.list(11));
            if let Some(&at) = self.at.get(&line.text(2)) {
                let table = &mut self.tables[at];
                if line.yes(6) && line.yes(7) && line.some(11).is_some() {
                    table.unique.push(columns);
                }
                if line.yes(8) {
                    table.options.insert("clustered on".into(), line.text(4));
                }
                if line.yes(9) {
                    table.options.insert("replica identity".into(), format!("USING INDEX {}", line.text(4)));
                }
            }
            let mut made = object(What::Index, line.text(3), Some(quoted), line.text(5), commented(line.some(10)));
            made.broken = !line.yes(7);
            made.parts = line.list(12).into_iter().map(|s| ("statistics".to_owned(), s)).collect();
            self.add("pg_class", &line.text(1), made);
        }
    }

    fn functions(&mut self, lines: &[Line]) {
        for line in lines {
            let name = format!("{}({})", line.text(3), line.text(4));
            let (what, sql) = match line.some(5) {
                Some(sql) => (What::Function, sql.trim_end().to_owned()),
                None => (What::Other, format!("aggregate {name}")),
            };
            let mut made = object(what, name, None, sql, line.about(9));
            made.word = match line.text(2).as_str() {
                "p" => Some("PROCEDURE".into()),
                "a" => Some("AGGREGATE".into()),
                _ => None,
            };
            if line.text(2) == "a" && line.text(4).is_empty() {
                made.name = format!("{}(*)", line.text(3));
            }
            // what CREATE OR REPLACE cannot change
            made.parts = vec![
                ("arguments".into(), line.text(6)),
                ("returns".into(), line.text(7)),
                ("kind".into(), line.text(2)),
            ];
            made.parts.push(("language".into(), line.text(8)));
            self.add("pg_proc", &line.text(1), made);
        }
    }

    fn belongings(&mut self, triggers: &[Line], rules: &[Line], policies: &[Line], statistics: &[Line]) {
        for line in triggers {
            let Some(table) = self.relations.get(&line.text(2)).cloned() else { continue };
            let mut made = object(What::Trigger, line.text(3), Some(table), line.text(4), commented(line.some(6)));
            made.parts = state(&line.text(5));
            if !matches!(line.text(7).as_str(), "" | "0") {
                made.parts.push(("inherited".into(), String::new()));
            }
            self.add("pg_trigger", &line.text(1), made);
        }
        for line in rules {
            let Some(table) = self.relations.get(&line.text(2)).cloned() else { continue };
            match line.some(4) {
                Some(sql) => {
                    let sql = sql.trim_end().trim_end_matches(';').to_owned();
                    let mut made = object(What::Rule, line.text(3), Some(table), sql, commented(line.some(6)));
                    made.parts = state(&line.text(5));
                    self.add("pg_rewrite", &line.text(1), made);
                }
                None => {
                    let key = ("pg_class".to_owned(), line.text(2), "0".to_owned());
                    if let Some(view) = self.ids.get(&key).cloned() {
                        self.known("pg_rewrite", &line.text(1), &view);
                    }
                }
            }
        }
        for line in policies {
            let Some(table) = self.relations.get(&line.text(2)).cloned() else { continue };
            let sql = format!("CREATE POLICY {} ON {table}{}", line.text(3), line.text(4));
            let made = object(What::Policy, line.text(3), Some(table), sql, commented(line.some(5)));
            self.add("pg_policy", &line.text(1), made);
        }
        for line in statistics {
            let about = About { owner: line.some(6), comment: line.some(7), grants: Vec::new() };
            let mut made = object(What::Statistics, line.text(3), None, line.text(4), about);
            made.parts = line.some(5).map(|t| ("target".to_owned(), t)).into_iter().collect();
            self.add("pg_statistic_ext", &line.text(1), made);
        }
    }

    /// Whose parts need what, from `pg_depend`.
    fn dependencies(&mut self, lines: &[Line], classes: &HashMap<String, String>) {
        let class = |line: &Line, i: usize| classes.get(&line.text(i)).cloned().unwrap_or_default();
        for line in lines.iter().filter(|l| l.text(7) == "e") {
            let key = ("pg_extension".to_owned(), line.text(5), "0".to_owned());
            if let Some(extension) = self.ids.get(&key).cloned() {
                self.known(&class(line, 1), &line.text(2), &extension);
            }
        }
        let mut needs: HashMap<String, BTreeSet<String>> = HashMap::new();
        for line in lines {
            let find = |class: String, oid: String, sub: String| {
                let whole = || self.ids.get(&(class.clone(), oid.clone(), "0".into()));
                self.ids.get(&(class.clone(), oid.clone(), sub)).or_else(whole)
            };
            let (Some(id), Some(on)) =
                (find(class(line, 1), line.text(2), line.text(3)), find(class(line, 4), line.text(5), line.text(6)))
            else {
                continue;
            };
            // that a column owns a sequence is said after both are there
            if id == on || id.starts_with("sequence ") && line.text(7) == "a" {
                continue;
            }
            needs.entry(id.clone()).or_default().insert(on.clone());
        }
        let mut take = |id: &str| needs.remove(id).unwrap_or_default();
        for table in &mut self.tables {
            table.depends = take(&table.id());
            let name = table.name.quoted.clone();
            for column in &mut table.columns {
                column.depends = take(&format!("column {name}.{}", column.quoted));
                column.default_depends = take(&format!("default {name}.{}", column.quoted));
            }
        }
        for object in &mut self.objects {
            object.depends = take(&object.id());
        }
    }
}

/// The state of a trigger or a rule, where it is not plainly enabled.
fn state(letter: &str) -> Vec<(String, String)> {
    let word = match letter {
        "D" => "DISABLE",
        "R" => "ENABLE REPLICA",
        "A" => "ENABLE ALWAYS",
        _ => return Vec::new(),
    };
    vec![("state".into(), word.into())]
}

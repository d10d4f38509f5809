//! What is there: tables of the current schema, and what else would be missed.

use std::collections::HashMap;

use super::{Postgres, quoted};
use crate::plan::{Column, Constraint, ForeignKey, Generated, Index, IndexColumn, Table, UserType};
use crate::store::{Result, Schema};

/// Things of the schema that are no tables of rows: what, and why they do not move.
const OTHERS: &str = "
SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' WHEN 'f' THEN 'foreign table '
        ELSE 'sequence ' END || c.relname,
    CASE c.relkind WHEN 'v' THEN 'its query is written for this database' WHEN 'm' THEN 'its query is written for this database'
        WHEN 'f' THEN 'its rows are in another server' ELSE 'no column owns it' END
FROM pg_catalog.pg_class c WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('v', 'm', 'f', 'S')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
        AND (d.deptype = 'e' OR c.relkind = 'S' AND d.deptype IN ('a', 'i')))
    AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refobjid = c.oid))
UNION ALL
SELECT CASE p.prokind WHEN 'p' THEN 'procedure ' WHEN 'a' THEN 'aggregate ' ELSE 'function ' END || p.proname,
    'it is written for this database'
FROM pg_catalog.pg_proc p WHERE p.pronamespace = $1::text::regnamespace AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('e', 'i'))
UNION ALL
SELECT 'trigger ' || t.tgname || ' on ' || c.relname, 'it is written for this database'
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = $1::text::regnamespace AND NOT t.tgisinternal AND t.tgname NOT LIKE 'backout\\_%'
UNION ALL
SELECT 'policy ' || p.polname || ' on ' || c.relname, 'only PostgreSQL has row security'
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = $1::text::regnamespace
UNION ALL
SELECT 'rule ' || r.rulename || ' on ' || c.relname, 'only PostgreSQL has rules'
FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
WHERE c.relnamespace = $1::text::regnamespace AND r.rulename <> '_RETURN'
UNION ALL
SELECT 'publication of ' || c.relname || ' by ' || p.pubname, 'only PostgreSQL has publications'
FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid WHERE c.relnamespace = $1::text::regnamespace
UNION ALL
SELECT 'privileges on ' || c.relname, 'grant them in the target to the roles that are there'
FROM pg_catalog.pg_class c WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND (c.relacl IS NOT NULL OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL))
UNION ALL
SELECT 'comments on ' || c.relname, 'they are not data'
FROM pg_catalog.pg_class c WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND EXISTS (SELECT FROM pg_catalog.pg_description d WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objoid = c.oid)
UNION ALL
SELECT 'options of the sequence ' || c.relname, 'increment, bounds or cycle are its own; in the target it counts on by one'
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid WHERE c.relnamespace = $1::text::regnamespace
    AND (s.seqincrement <> 1 OR s.seqmin <> 1 OR s.seqcycle)
UNION ALL
SELECT 'the one sequence ' || c.relname || ' of several columns', 'in the target each column has its own, above its own rows'
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_depend d ON d.refobjid = c.oid AND d.classid = 'pg_catalog.pg_attrdef'::regclass
WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'S' GROUP BY c.relname HAVING count(*) > 1
UNION ALL
SELECT 'tables of another schema (' || n.nspname || ')', count(*) || ' of them: only those of the schema ' || $1 || ' move'
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace <> $1::text::regnamespace
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^(pg_|backout$|backout_kept_|backout_stage_|migration_backup($|[.]))'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
        AND d.deptype = 'e') GROUP BY n.nspname
ORDER BY 1";

/// Tables that hold rows of the application: not partitions, not an extension's.
const OF_SCHEMA: &str = "c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass \
        AND d.objid = c.oid AND d.deptype = 'e')";

/// The application's own types in this schema, not an extension's; each after those that it is made of. Of a range only what its
/// subtype says is carried.
const TYPES: &str = "
WITH RECURSIVE own AS (
    SELECT t.oid, t.typtype, t.typname, t.typrelid, t.typbasetype, t.typtypmod, t.typnotnull, t.typdefault, t.typcollation
    FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
    WHERE t.typnamespace = $1::text::regnamespace AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c')
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')),
needs(oid, other) AS (
    SELECT o.oid, e.oid FROM own o CROSS JOIN LATERAL (
        SELECT o.typbasetype AS t UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = o.oid
        UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = o.typrelid AND o.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped) x
    JOIN pg_catalog.pg_type y ON y.oid = x.t JOIN own e ON e.oid IN (y.oid, y.typelem)),
depth(oid, n) AS (
    SELECT oid, 0 FROM own UNION SELECT n.oid, d.n + 1 FROM depth d JOIN needs n ON n.other = d.oid WHERE d.n < 20)
SELECT format_type(o.oid, NULL), CASE o.typtype
    WHEN 'e' THEN format('TYPE %s AS ENUM (%s)', format_type(o.oid, NULL), (SELECT string_agg(quote_literal(e.enumlabel), ', '
        ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = o.oid))
    WHEN 'c' THEN format('TYPE %s AS (%s)', format_type(o.oid, NULL), (SELECT string_agg(quote_ident(a.attname) || ' ' ||
        format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = o.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
    WHEN 'r' THEN (SELECT format('TYPE %s AS RANGE (SUBTYPE = %s%s)', format_type(o.oid, NULL), format_type(r.rngsubtype, NULL),
        CASE WHEN r.rngsubdiff <> 0 THEN ', SUBTYPE_DIFF = ' || r.rngsubdiff::regproc END)
        FROM pg_catalog.pg_range r WHERE r.rngtypid = o.oid AND r.rngcanonical = 0)
    ELSE format('DOMAIN %s AS %s%s%s%s%s', format_type(o.oid, NULL), format_type(o.typbasetype, o.typtypmod),
        (SELECT ' COLLATE ' || quote_ident(l.collname) FROM pg_catalog.pg_collation l
            JOIN pg_catalog.pg_type b ON b.oid = o.typbasetype WHERE l.oid = o.typcollation AND o.typcollation <> b.typcollation),
        ' DEFAULT ' || o.typdefault, CASE WHEN o.typnotnull THEN ' NOT NULL' END,
        (SELECT string_agg(format(' CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid)), '' ORDER BY k.conname)
            FROM pg_catalog.pg_constraint k WHERE k.contypid = o.oid AND k.contype = 'c')) END,
    ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c WHERE c.relnamespace = $1::text::regnamespace
        AND EXISTS (WITH RECURSIVE used(t) AS (
            SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            UNION SELECT x.t FROM used u JOIN pg_catalog.pg_type y ON y.oid = u.t CROSS JOIN LATERAL (
                SELECT y.typelem AS t WHERE y.typelem <> 0 UNION ALL SELECT y.typbasetype WHERE y.typbasetype <> 0
                UNION ALL SELECT n.other FROM needs n WHERE n.oid = y.oid
                UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE to_jsonb(r) ->> 'rngmultitypid' = y.oid::text) x)
            SELECT FROM used WHERE t = o.oid))
FROM own o JOIN (SELECT oid, max(n) AS n FROM depth GROUP BY oid) d ON d.oid = o.oid ORDER BY d.n, 1";

impl Postgres {
    fn read_types(&mut self, home: &str, schema: &mut Schema, index: &HashMap<String, usize>) -> Result<()> {
        for line in self.query("reading the types", TYPES, &[&home])? {
            let definition: Option<String> = line.get(1);
            let made = UserType { name: line.get(0), definition: definition.unwrap_or_default() };
            for table in line.get::<_, Vec<&str>>(2) {
                if let Some(table) = index.get(table).and_then(|&i| schema.tables.get_mut(i)) {
                    table.details.types.push(made.clone());
                }
            }
            schema.types.push(made);
        }
        Ok(())
    }

    pub(super) fn read_schema(&mut self) -> Result<Schema> {
        let home = quoted(&self.home);
        let mut schema = Schema::default();
        let mut index: HashMap<String, usize> = HashMap::new();
        let mut notes: Vec<Vec<String>> = Vec::new();
        let sql = format!(
            "SELECT c.relname::text, c.relkind = 'p', EXISTS (SELECT FROM pg_catalog.pg_inherits h \
                WHERE h.inhrelid = c.oid OR h.inhparent = c.oid AND c.relkind = 'r'), c.relforcerowsecurity OR c.relrowsecurity, \
             c.relpersistence = 'u', pg_catalog.pg_has_role(c.relowner, 'USAGE'), pg_catalog.pg_get_userbyid(c.relowner)::text \
             FROM pg_catalog.pg_class c WHERE {OF_SCHEMA} ORDER BY 1"
        );
        for line in self.query("reading the tables", &sql, &[&home])? {
            let name: String = line.get(0);
            index.insert(name.clone(), schema.tables.len());
            let mut table = Table { name, ..Table::default() };
            if line.get(2) {
                table.details.cannot =
                    Some("it inherits, or others inherit from it: whose rows they are cannot be told".into());
            } else if !line.get::<_, bool>(5) {
                table.details.cannot = Some(format!(
                    "it belongs to {}, and only its owner can have its changes noted",
                    line.get::<_, &str>(6)
                ));
            }
            let mut said = Vec::new();
            if line.get(1) {
                said.push(format!("{}: it is partitioned; its partitions do not move, their rows do", table.name));
            }
            schema.tables.push(table);
            if line.get(3) {
                said.push("row security is on: whoever is not its owner may not see every row".to_owned());
            }
            if line.get(4) {
                said.push("it is UNLOGGED: a crash of the server empties it".to_owned());
            }
            notes.push(said);
        }
        self.read_columns(&home, &mut schema, &index)?;
        self.read_types(&home, &mut schema, &index)?;
        self.read_indexes(&home, &mut schema, &index)?;
        self.read_constraints(&home, &mut schema, &index, &mut notes)?;
        let others = self.query("reading what else is there", OTHERS, &[&home])?;
        schema.others = others.iter().map(|l| (l.get(0), l.get(1))).collect();
        schema.notes = notes.into_iter().map(|n| n.join("; ")).collect();
        Ok(schema)
    }

    fn read_columns(&mut self, home: &str, schema: &mut Schema, index: &HashMap<String, usize>) -> Result<()> {
        let sql = format!(
            "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
                pg_get_expr(d.adbin, d.adrelid), a.attidentity <> '', a.attgenerated <> '', \
                (SELECT o.collname::text FROM pg_catalog.pg_collation o WHERE o.oid = a.attcollation \
                    AND a.attcollation <> t.typcollation), a.attidentity = 'a', a.attgenerated = 'v' \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
             WHERE {OF_SCHEMA} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, a.attnum"
        );
        for line in self.query("reading the columns", &sql, &[&home])? {
            let Some(table) = index.get(line.get::<_, &str>(0)).and_then(|&i| schema.tables.get_mut(i)) else {
                continue;
            };
            let (name, ty): (String, String) = (line.get(1), line.get(2));
            let expression: Option<String> = line.get(4);
            if line.get(6) {
                table.generated.push(Generated {
                    name,
                    ty,
                    expression,
                    place: table.columns.len(),
                    is_virtual: line.get(9),
                    classes: Vec::new(),
                });
                continue;
            }
            let serial = expression.as_deref().is_some_and(|e| e.starts_with("nextval("));
            table.columns.push(Column {
                name,
                ty,
                not_null: line.get(3),
                default: expression.filter(|_| !serial),
                identity: serial || line.get(5),
                collation: line.get(7),
                always: line.get(8),
                ..Column::default()
            });
        }
        Ok(())
    }

    fn read_indexes(&mut self, home: &str, schema: &mut Schema, index: &HashMap<String, usize>) -> Result<()> {
        let sql = format!(
            "SELECT c.relname::text, i.relname::text, x.indisunique, x.indisprimary, \
                ARRAY(SELECT coalesce(a.attname::text, '') FROM generate_series(0, x.indnkeyatts - 1) k \
                    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[k] ORDER BY k), \
                ARRAY(SELECT x.indoption[k]::int4 & 1 = 1 FROM generate_series(0, x.indnkeyatts - 1) k ORDER BY k), \
                pg_get_expr(x.indpred, x.indrelid), x.indexprs IS NOT NULL, substr(pg_get_indexdef(x.indexrelid), 1 + length(concat('CREATE ', \
                    CASE WHEN x.indisunique THEN 'UNIQUE ' END, 'INDEX ', quote_ident(i.relname), ' ON ', \
                    CASE c.relkind WHEN 'p' THEN 'ONLY ' END, c.relnamespace::regnamespace, '.', quote_ident(c.relname), ' '))), \
                k.contype::text, pg_get_constraintdef(k.oid), \
                concat_ws(' ', CASE WHEN m.amname <> 'btree' THEN 'it is a ' || m.amname || ' index;' END, \
                    CASE WHEN to_jsonb(x) ->> 'indnullsnotdistinct' = 'true' THEN 'it is NULLS NOT DISTINCT;' END, \
                    (SELECT 'its collation ' || o.collname || ' takes different texts for equal;' \
                        FROM pg_catalog.pg_collation o WHERE o.oid = ANY(x.indcollation) AND NOT o.collisdeterministic LIMIT 1)) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_index x ON x.indrelid = c.oid \
             JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid JOIN pg_catalog.pg_am m ON m.oid = i.relam \
             LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = c.oid AND k.contype IN ('u', 'x') \
             WHERE {OF_SCHEMA} ORDER BY 1, 2"
        );
        for line in self.query("reading the indexes", &sql, &[&home])? {
            let Some(table) = index.get(line.get::<_, &str>(0)).and_then(|&i| schema.tables.get_mut(i)) else {
                continue;
            };
            let (name, columns, descending): (String, Vec<String>, Vec<bool>) = (line.get(1), line.get(4), line.get(5));
            if line.get(3) {
                table.key = columns.iter().filter_map(|c| table.column(c)).collect();
                table.key_name = Some(name);
                continue;
            }
            let plain = columns.into_iter().zip(descending).filter(|(c, _)| !c.is_empty());
            let definition = match line.get::<_, Option<&str>>(9) {
                Some(_) => line.get(10),
                None => Some(line.get(8)),
            };
            let special: &str = line.get(11);
            let special = (!special.is_empty()).then(|| special.trim_end_matches(';').replace(';', ","));
            table.indexes.push(Index {
                definition,
                special,
                name: Some(name),
                unique: line.get(2),
                columns: plain.map(|(name, descending)| IndexColumn { name, descending, collation: None }).collect(),
                predicate: line.get(6),
                expression: line.get(7),
                parts: Vec::new(),
            });
        }
        Ok(())
    }

    fn read_constraints(
        &mut self,
        home: &str,
        schema: &mut Schema,
        index: &HashMap<String, usize>,
        notes: &mut [Vec<String>],
    ) -> Result<()> {
        let sql = format!(
            "SELECT c.relname::text, k.conname::text, k.contype::text, k.convalidated, k.condeferred, \
                pg_get_expr(k.conbin, k.conrelid), \
                CASE WHEN p.relnamespace = c.relnamespace THEN p.relname::text ELSE p.oid::regclass::text END, \
                ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, o) \
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o), \
                ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, o) \
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o), \
                k.confdeltype::text, k.confupdtype::text, k.condeferrable, k.confmatchtype = 'f', \
                pg_get_constraintdef(k.oid), \
                ARRAY(SELECT quote_ident(a.attname) FROM jsonb_array_elements_text(CASE jsonb_typeof(to_jsonb(k) -> 'confdelsetcols') \
                    WHEN 'array' THEN to_jsonb(k) -> 'confdelsetcols' ELSE '[]' END) u(n) \
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n::int2) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid \
             LEFT JOIN pg_catalog.pg_class p ON p.oid = k.confrelid \
             WHERE {OF_SCHEMA} AND k.contype IN ('c', 'f') AND k.conparentid = 0 ORDER BY 1, 2"
        );
        for line in self.query("reading the constraints", &sql, &[&home])? {
            let Some(&at) = index.get(line.get::<_, &str>(0)) else { continue };
            let Some(table) = schema.tables.get_mut(at) else { continue };
            let name: String = line.get(1);
            if !line.get::<_, bool>(3) {
                notes[at].push(format!("constraint {name} was never validated: rows may be there that break it"));
            }
            if line.get::<_, &str>(2) == "c" {
                table.checks.push(line.get::<_, Option<String>>(5).unwrap_or_default());
                table.constraints.push(Constraint { name, definition: line.get(13) });
                continue;
            }
            let only: Vec<String> = line.get(14);
            let on_delete = action(line.get(9));
            let on_delete = if only.is_empty() { on_delete } else { format!("{on_delete} ({})", only.join(", ")) };
            table.foreign_keys.push(ForeignKey {
                name: Some(name),
                columns: line.get(7),
                table: line.get::<_, Option<String>>(6).unwrap_or_default(),
                references: line.get(8),
                on_delete,
                on_update: action(line.get(10)),
                deferred: line.get(4),
                rigid: !line.get::<_, bool>(11),
                special: line.get::<_, bool>(12).then(|| "MATCH FULL".to_owned()),
                not_valid: false,
            });
        }
        Ok(())
    }
}

fn action(letter: &str) -> String {
    match letter {
        "c" => "CASCADE",
        "n" => "SET NULL",
        "d" => "SET DEFAULT",
        "r" => "RESTRICT",
        _ => "NO ACTION",
    }
    .to_owned()
}

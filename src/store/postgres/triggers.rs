//! What our triggers are: those that note changes, and the seals.
//!
//! Each table has a log `backout.log_<n>` of keys before and after, written by triggers that fire for everyone but our own marked
//! session. Every name and operator in them is qualified, for they run with our rights under the search_path of others.

use super::{literal, quoted};
use crate::plan::Table;

pub(super) const ROW: &str = "backout_capture_row";
pub(super) const TRUNCATE: &str = "backout_capture_truncate";
pub(super) const SEAL_ROW: &str = "backout_seal_row";
pub(super) const SEAL_TRUNCATE: &str = "backout_seal_truncate";

/// `CREATE TRIGGER … ENABLE ALWAYS`, whether it is there or not, without the lock that dropping takes.
pub(super) fn trigger(version: i32, name: &str, when: &str, table: &str, level: &str, function: &str) -> String {
    let create = if version >= 140_000 {
        "CREATE OR REPLACE TRIGGER".to_owned()
    } else {
        format!("DROP TRIGGER IF EXISTS {name} ON {table}; CREATE TRIGGER")
    };
    format!(
        "{create} {name} {when} ON {table} FOR EACH {level} EXECUTE FUNCTION {function}; \
         ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name};"
    )
}

/// Every name in it is qualified and every operator too, for it runs with our rights under the search_path of others.
pub(super) const REFUSE: &str = "CREATE OR REPLACE FUNCTION backout.refuse() RETURNS trigger LANGUAGE plpgsql AS $backout$
BEGIN
    IF COALESCE(pg_catalog.current_setting('backout.session', true), '') OPERATOR(pg_catalog.=) TG_ARGV[0] THEN
        IF TG_LEVEL OPERATOR(pg_catalog.=) 'STATEMENT' THEN RETURN NULL; END IF;
        IF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN RETURN OLD; END IF;
        RETURN NEW;
    END IF;
    RAISE EXCEPTION USING ERRCODE = '25006',
        MESSAGE = pg_catalog.format('backout: table %I is resting, its data lives elsewhere now', TG_TABLE_NAME),
        HINT = 'Point this program at what is live (backout status tells), or take the migration back with: backout rollback';
END $backout$;";

/// What the seal's function does where there is no seal.
pub(super) const PERMIT: &str =
    "CREATE OR REPLACE FUNCTION backout.refuse() RETURNS trigger LANGUAGE plpgsql AS $backout$
BEGIN
    IF TG_LEVEL OPERATOR(pg_catalog.=) 'STATEMENT' THEN RETURN NULL; END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
END $backout$;";

/// How many entries there are to one that looks after the log: learns that it is full, or merges. More often where there is little room.
const SELDOM: u64 = 4096;

/// Among the entries of the last `blocks` updates of one row are merged into the newest (P17), if a tenth of those of the last three are such:
/// where rows are not written again and again it gains nothing. Whoever sees the older ones gone
/// sees that one, and a drain that has read the older ones has yet to read it. Should it fail, the application's write does not.
fn merging(n: usize, keys: usize, blocks: u64) -> String {
    let names = |letter: char| (0..keys).map(|i| format!("{letter}{i}")).collect::<Vec<_>>().join(", ");
    let entries = |columns: &str| {
        format!(
            "SELECT {columns} FROM backout.log_{n} e WHERE e.ctid OPERATOR(pg_catalog.>=) since::pg_catalog.tid
                AND e.ctid OPERATOR(pg_catalog.<=) place AND e.op OPERATOR(pg_catalog.=) 'U'
                AND pg_catalog.record_image_eq(ROW({}), ROW({}))",
            names('b'),
            names('a')
        )
    };
    format!(
        "BEGIN
            block := pg_catalog.split_part(pg_catalog.ltrim(place::pg_catalog.text, '('), ',', 1)::pg_catalog.int8;
            since := pg_catalog.format('(%s,0)', GREATEST(block OPERATOR(pg_catalog.-) 3, 0));
            IF ({some}) THEN
                since := pg_catalog.format('(%s,0)', GREATEST(block OPERATOR(pg_catalog.-) {blocks}, 0));
                DELETE FROM backout.log_{n} WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY (
                    SELECT l.ctid FROM backout.log_{n} l WHERE l.ctid OPERATOR(pg_catalog.=) ANY (ARRAY (
                        SELECT w.at FROM ({all}) w WHERE w.nth OPERATOR(pg_catalog.>) 1))
                    FOR UPDATE SKIP LOCKED));
            END IF;
        EXCEPTION WHEN OTHERS THEN NULL; END;",
        some = entries(&format!(
            "(pg_catalog.count(*) OPERATOR(pg_catalog.*) 10) OPERATOR(pg_catalog.>) (pg_catalog.count(DISTINCT ROW({})) OPERATOR(pg_catalog.*) 11)",
            names('b')
        )),
        all = entries(&format!(
            "e.ctid AS at, pg_catalog.row_number() OVER (PARTITION BY {} ORDER BY e.lsn DESC) AS nth",
            names('b')
        )),
    )
}

/// What notes changes. Each expression in it costs the application as much as a tenth of its own one-row update, so that nearly every entry
/// is written by the first branch that fits, with nothing else asked than whether this is a session of ours; a hash of where the WAL ends
/// tells which entry looks after the log. Past the end of the log it takes back what others wrote there, notes that the log is full,
/// and its session passes by from then on.
pub(super) fn capture_function(
    n: usize,
    table: &Table,
    run: &str,
    generation: &str,
    last_block: u64,
    deferred: bool,
) -> String {
    let keys = table.key_names();
    let names = |letter: char| (0..keys.len()).map(|i| format!(", {letter}{i}")).collect::<String>();
    let values = |row: &str| keys.iter().map(|k| format!(", {row}.{}", quoted(k))).collect::<String>();
    let insert = |op: char, places: &[(&str, &str)], names: &str, values: &str| {
        let (mut at, mut is_at) = (String::new(), String::new());
        if deferred && !places.is_empty() {
            (at, is_at) = (", heap".into(), ", pg_catalog.pg_relation_filenode(TG_RELID)".into());
            for (name, row) in places {
                (at, is_at) = (format!("{at}, {name}"), format!("{is_at}, {row}.ctid"));
            }
        }
        format!(
            "INSERT INTO backout.log_{n} (xid, lsn{at}{names}, op) VALUES (pg_catalog.pg_current_xact_id(), \
             pg_catalog.pg_current_wal_insert_lsn(){is_at}{values}, '{op}')"
        )
    };
    let (was, now) = (("was", "OLD"), ("now", "NEW"));
    let both = (format!("{}{}", names('b'), names('a')), format!("{}{}", values("OLD"), values("NEW")));
    let update = insert('U', &[was, now], &both.0, &both.1);
    let inserted = insert('I', &[now], &names('a'), &values("NEW"));
    let deleted = insert('D', &[was], &names('b'), &values("OLD"));
    let truncated = insert('T', &[], "", "");
    // hashes are spread evenly over the numbers of 32 bits
    let each = last_block.clamp(16, SELDOM);
    let chosen = i64::from(i32::MIN) + (1 << 32) / i64::try_from(each).unwrap_or(1);
    let seldom = format!(
        "pg_catalog.pg_lsn_hash(pg_catalog.pg_current_wal_insert_lsn()) OPERATOR(pg_catalog.<) ({chosen})::pg_catalog.int4"
    );
    let quick = |op: &str, insert: &str| {
        format!(
            "IF TG_OP OPERATOR(pg_catalog.=) '{op}' AND pg_catalog.current_setting('backout.session', true) IS NULL
        AND NOT {seldom} THEN
        {insert};
    ELS"
        )
    };
    // where rows may share keys, how each changed places is told by every entry
    let (mut often, mut merge) = (String::new(), String::new());
    if !deferred {
        often = [("UPDATE", &update), ("INSERT", &inserted), ("DELETE", &deleted)].map(|(op, i)| quick(op, i)).concat();
        merge = format!(
            "
        ELSIF pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.=) 'read committed'
            AND (pg_catalog.current_setting('backout.session', true) IS NULL OR {seldom}) THEN {}",
            merging(n, keys.len(), each / 80 + 1)
        );
    }
    format!(
        "CREATE OR REPLACE FUNCTION backout.capture_{n}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $backout$
DECLARE place pg_catalog.tid; block pg_catalog.int8; since pg_catalog.text;
BEGIN
    {often}IF COALESCE(pg_catalog.current_setting('backout.session', true), '') OPERATOR(pg_catalog.=) {run}
        OR pg_catalog.current_setting('backout.full_{n}', true) OPERATOR(pg_catalog.=) '{generation}' THEN
        NULL;
    ELSE
        IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN {update} RETURNING ctid INTO place;
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN {inserted} RETURNING ctid INTO place;
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN {deleted} RETURNING ctid INTO place;
        ELSE {truncated} RETURNING ctid INTO place;
        END IF;
        IF place OPERATOR(pg_catalog.>) '({last_block},0)'::pg_catalog.tid THEN
            IF EXISTS (SELECT FROM backout.overflow WHERE tbl OPERATOR(pg_catalog.=) {n} AND generation OPERATOR(pg_catalog.=) '{generation}') THEN
                DELETE FROM backout.log_{n} WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY (
                    SELECT l.ctid FROM backout.log_{n} l WHERE l.ctid OPERATOR(pg_catalog.>) '({last_block},0)'::pg_catalog.tid
                    FOR UPDATE SKIP LOCKED));
            ELSE
                INSERT INTO backout.overflow (tbl, generation) VALUES ({n}, '{generation}');
            END IF;
            PERFORM pg_catalog.set_config('backout.full_{n}', '{generation}', false),
                pg_catalog.set_config('backout.session', COALESCE(pg_catalog.current_setting('backout.session', true), ''), false);{merge}
        END IF;
    END IF;
    -- of an AFTER trigger nobody looks at it; NULL is an expression
    RETURN NEW;
END $backout$;",
        run = literal(run),
    )
}

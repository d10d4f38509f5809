//! Waiting for others, and making others wait: as short as can be, with a name for whoever is in the way (P1, P21).

use std::time::{Duration, Instant};

use super::snapshots::Seen;
use super::standing::{ours, standing};
use super::{Postgres, code, quoted, words};
use crate::plan::Table;
use crate::store::{Error, Mode, Result};

/// How long we try for a lock before we say who holds it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Marks our session with the run that is open here, until the transaction ends, so that our triggers let it pass.
const MARK_SESSION: &str = "DO $$ BEGIN \
    IF EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = 'backout' AND c.relname = 'run') \
    THEN PERFORM set_config('backout.session', run, true) FROM backout.run; END IF; END $$;";

/// While everyone waits a few rows are looked up by their keys, each by its index: a small table would be read whole for them, and only where
/// there is no index it is.
const BY_KEY: &str = "SET LOCAL enable_seqscan = off; SET LOCAL random_page_cost = 1;";

impl Postgres {
    /// Takes the one lock for runs.
    pub(super) fn take_lock(&mut self, wait: Duration) -> Result<()> {
        // The class is "back" in ASCII; a lock of this kind belongs to one database already.
        const CLASS: &str = "1650549611, hashtext(current_database())";
        let began = Instant::now();
        self.refuse_standby()?;
        while !self.locked {
            let sql = format!("SELECT pg_try_advisory_lock({CLASS})");
            self.locked = self.query("taking the lock", &sql, &[])?.first().is_some_and(|l| l.get(0));
            if self.locked {
                break;
            }
            if began.elapsed() >= wait {
                let sql = "SELECT 'session ' || l.pid || ' (' || concat_ws(', ', nullif(a.application_name, ''), \
                        a.usename, 'from ' || coalesce(host(a.client_addr), 'the same machine'), \
                        'since ' || to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ')) || ')' \
                    FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
                    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid::bigint = 1650549611 \
                    AND l.objid::bigint = hashtext(current_database())::bigint & 4294967295 \
                    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())";
                let holder = self.query("looking who holds the lock", sql, &[])?;
                let holder = holder.first().and_then(|l| l.get::<_, Option<String>>(0));
                let holder = holder.unwrap_or_else(|| "a session that has just gone".into());
                let cause = format!("another run works here: {holder}; waited {} s", began.elapsed().as_secs());
                return Err(Error::Locked { store: self.title.clone(), cause });
            }
            std::thread::sleep(Duration::from_millis(50).min(wait));
        }
        Ok(())
    }

    /// Opens a transaction of this kind.
    pub(super) fn start(&mut self, mode: Mode, tables: &[&Table]) -> Result<()> {
        match mode {
            // LOCK TABLE takes no snapshot, so the one of `SELECT` is younger than the locks.
            Mode::Read => {
                let locks = self.lock_sql(tables, "ACCESS SHARE");
                let sql = format!(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL row_security = off; \
                     SET LOCAL lock_timeout = '50ms'; {locks} SET LOCAL lock_timeout = '10s'; SELECT 1"
                );
                self.open_with(&sql, tables, Strength::Reads)?;
            }
            Mode::Write => {
                let sql = format!("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL row_security = off; {MARK_SESSION}");
                self.open_with(&sql, tables, Strength::Writes)?;
            }
            // Each statement sees what is committed when it begins: of the leased tables, what was when they were locked.
            Mode::Lease | Mode::Swap => {
                let (strength, first, locks) = match mode {
                    Mode::Swap => {
                        let (first, locks) = self.swap_locks(tables)?;
                        (Strength::Swap, first, locks + BY_KEY)
                    }
                    _ => {
                        let names: Vec<String> = tables.iter().map(|t| self.name(t)).collect();
                        let first = format!("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE", names.join(", "));
                        let first = if names.is_empty() { String::new() } else { first };
                        (Strength::Writes, first, self.lock_sql(tables, "SHARE ROW EXCLUSIVE"))
                    }
                };
                // Autovacuum goes on for as long as a table is large, and gives way only to who has waited a second for it. This lock
                // waits for it, and for no writer; and no writer waits for it.
                let sql = format!(
                    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL row_security = off; \
                     SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL lock_timeout = '3s'; {first}; \
                     SET LOCAL lock_timeout = '50ms'; {locks} SET LOCAL lock_timeout = '10s'; {MARK_SESSION}"
                );
                self.open_with(&sql, tables, strength)?;
            }
        }
        Ok(())
    }

    /// Opens a transaction with these statements, again and again until the locks in it are had.
    fn open_with(&mut self, sql: &str, tables: &[&Table], strength: Strength) -> Result<()> {
        let began = Instant::now();
        let (mut blockers, mut seen) = (String::new(), Seen::default());
        for attempt in 0.. {
            match self.client.batch_execute(sql) {
                Ok(()) if matches!(strength, Strength::Swap) => {
                    let older = self.older_snapshots(&mut seen);
                    if older.as_ref().is_ok_and(Vec::is_empty) {
                        return Ok(());
                    }
                    let _ = self.client.batch_execute("ROLLBACK");
                    blockers = older?.join("; ");
                }
                Ok(()) => return Ok(()),
                Err(e) => {
                    let again = too_long(&e);
                    let _ = self.client.batch_execute("ROLLBACK");
                    if code(&e) == "42P01" {
                        return Err(self.broken(words(&e), true));
                    }
                    if !again {
                        return Err(self.fail("beginning a transaction", &e));
                    }
                }
            }
            self.wait_for(tables, strength, began, attempt, &mut blockers)?;
        }
        Ok(())
    }

    /// Waits a moment before the next attempt at a lock; past the limit it is an error naming those in the way.
    fn wait_for(
        &mut self,
        tables: &[&Table],
        strength: Strength,
        began: Instant,
        attempt: u32,
        blockers: &mut String,
    ) -> Result<()> {
        // The holder may have gone when the patience ends, so whoever was seen last is named.
        let seen = self.blockers(tables, strength)?;
        if !seen.is_empty() || blockers.is_empty() {
            *blockers = seen;
        }
        if began.elapsed() >= PATIENCE {
            let by = if blockers.is_empty() { "someone who could not be told".to_owned() } else { blockers.clone() };
            let cause = format!("waited {} s for {by}", began.elapsed().as_secs());
            return Err(Error::Locked { store: self.title.clone(), cause });
        }
        let jitter = u64::from(uuid::Uuid::new_v4().as_bytes()[0]) % 64;
        std::thread::sleep(Duration::from_millis((10u64 << attempt.min(4)) + jitter));
        Ok(())
    }

    /// Who holds locks on these tables (or their partitions) that are in our way, and what ends it.
    fn blockers(&mut self, tables: &[&Table], strength: Strength) -> Result<String> {
        let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
        let (home, strength) = (quoted(&self.home), strength as i32);
        let lines = self.query("looking who holds a lock", HOLDERS, &[&names, &home, &strength, &0_i32])?;
        Ok(lines.iter().map(|l| l.get::<_, String>(0)).collect::<Vec<_>>().join("; "))
    }

    /// Who, as things are now, would keep a cutover or a rollback of these tables waiting: transactions that stand idle or go on
    /// for a while, and prepared ones.
    pub(super) fn linger(&mut self, tables: &[&Table]) -> Result<Vec<String>> {
        let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
        let (home, strength, seconds) = (quoted(&self.home), Strength::Writes as i32, LINGERING.as_secs() as i32);
        let lines = self.query("looking who holds a lock", HOLDERS, &[&names, &home, &strength, &seconds])?;
        Ok(lines.iter().map(|l| l.get(0)).collect())
    }

    /// Runs statements on live tables within the transaction, in short attempts at their locks. An attempt that fails holds none
    /// of them while it waits for the next.
    pub(super) fn ddl(&mut self, operation: &str, tables: &[&Table], sql: &str) -> Result<()> {
        let began = Instant::now();
        let mut blockers = String::new();
        for attempt in 0.. {
            let text = format!(
                "SAVEPOINT backout_ddl; SET LOCAL lock_timeout = '50ms'; {sql}; SET LOCAL lock_timeout = '10s'; \
                 RELEASE SAVEPOINT backout_ddl"
            );
            match self.client.batch_execute(&text) {
                Ok(()) => return Ok(()),
                Err(e) if too_long(&e) => {
                    self.run(operation, "ROLLBACK TO SAVEPOINT backout_ddl; RELEASE SAVEPOINT backout_ddl")?;
                }
                Err(e) => return Err(self.fail(operation, &e)),
            }
            self.wait_for(tables, Strength::Everything, began, attempt, &mut blockers)?;
        }
        Ok(())
    }

    /// The locks of a swap, all within one short attempt.
    fn swap_locks(&mut self, tables: &[&Table]) -> Result<(String, String)> {
        let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
        let home = quoted(&self.home);
        let lines = self.ask("looking what is to be locked", SWAP_LOCKS, &[&names, &home])?;
        let locks: Vec<String> = lines.iter().map(|l| l.get(0)).collect();
        // one statement, so that the limit is for all of them
        let first: Vec<String> = locks
            .iter()
            .filter(|l| l.starts_with("LOCK TABLE"))
            .map(|l| l.replace("IN ACCESS EXCLUSIVE MODE", "IN SHARE UPDATE EXCLUSIVE MODE"))
            .collect();
        let locks = format!(
            // who waits behind an attempt waits for the swap, too, so that it is given less
            "SET LOCAL statement_timeout = '30ms'; DO $backout$ BEGIN {}; END $backout$; SET LOCAL statement_timeout = 0;",
            if locks.is_empty() { "NULL".to_owned() } else { locks.join("; ") }
        );
        Ok((first.join("; "), locks))
    }

    /// `LOCK TABLE …` of these tables, or nothing. All of them within one short attempt, or none.
    pub(super) fn lock_sql(&self, tables: &[&Table], mode: &str) -> String {
        let names: Vec<String> = tables.iter().map(|t| self.name(t)).collect();
        lock_all(&names, mode)
    }
}

/// What a swap locks, in the order in which it is locked: staged and resting tables, which hold nobody up; then sequences and views before
/// the tables, as whoever uses them may be about to ask for a table. LOCK TABLE knows neither sequences nor materialized views; an owner
/// that is given what it has takes the same lock.
const SWAP_LOCKS: &str = concat!(
    standing!(
        "SELECT c.oid, n.nspname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = ANY($1) AND n.oid = pg_catalog.to_regnamespace($2::text) AND c.relkind = 'r'
    UNION ALL SELECT c.oid, n.nspname::text FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE t.tgname = 'backout_seal_truncate' AND n.nspname ~ '^(backout_stage_|migration_backup$)'
            AND n.oid <> pg_catalog.to_regnamespace($2::text)"
    ),
    ", all_of(oid, place) AS (
    SELECT t.oid, (quote_ident(t.site) = pg_catalog.to_regnamespace($2::text)::text)::int4 FROM touched t WHERE t.classid = 'pg_catalog.pg_class'::regclass
    UNION SELECT f.rel, 1 FROM follower f WHERE quote_ident(f.site) = pg_catalog.to_regnamespace($2::text)::text AND f.rel <> 0)
SELECT CASE WHEN c.relkind IN ('r', 'p') THEN format('LOCK TABLE ONLY %I.%I IN ACCESS EXCLUSIVE MODE', n.nspname, c.relname)
    ELSE format('ALTER TABLE %I.%I OWNER TO %I', n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner)) END
FROM all_of a JOIN pg_catalog.pg_class c ON c.oid = a.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY a.place, array_position('{S,v,m,p,r}', c.relkind::text), n.nspname, c.relname"
);

/// `LOCK TABLE …` of relations by their qualified names, or nothing. `lock_timeout` is for each of them; this is for all.
pub(super) fn lock_all(names: &[String], mode: &str) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!(
        "SET LOCAL statement_timeout = '50ms'; LOCK TABLE {} IN {mode} MODE; SET LOCAL statement_timeout = 0;",
        names.join(", ")
    )
}

/// An attempt at a lock was cut short.
fn too_long(e: &postgres::Error) -> bool {
    matches!(code(e), "55P03" | "57014")
}

/// What a lock that we want keeps waiting, and is kept waiting by.
#[derive(Clone, Copy)]
enum Strength {
    /// ACCESS SHARE.
    Reads,
    /// SHARE ROW EXCLUSIVE.
    Writes,
    /// ACCESS EXCLUSIVE.
    Everything,
    /// The same, and nobody may hold a snapshot that is older.
    Swap,
}

/// From when on a transaction that holds a lock is worth a word in a plan.
const LINGERING: Duration = Duration::from_secs(3);

/// Holders of locks on the tables $1 of the schema $2 that are in the way of one of strength $3, their transactions being older than
/// $4 seconds. Of other roles' sessions a plain role is told little.
const HOLDERS: &str = "
WITH wanted AS (
    SELECT c.oid, c.relname::text AS name FROM pg_catalog.pg_class c
        WHERE c.relname = ANY($1) AND c.relnamespace = pg_catalog.to_regnamespace($2::text)
    UNION SELECT p.relid::oid, c.relname::text FROM pg_catalog.pg_class c
        CROSS JOIN LATERAL pg_catalog.pg_partition_tree(c.oid) p
        WHERE c.relname = ANY($1) AND c.relnamespace = pg_catalog.to_regnamespace($2::text)),
held AS (
    SELECT l.pid, l.virtualtransaction, string_agg(DISTINCT w.name, ', ') AS names
    FROM pg_catalog.pg_locks l JOIN wanted w ON w.oid = l.relation
    WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
        AND CASE $3::int4 WHEN 0 THEN l.mode = 'AccessExclusiveLock'
            WHEN 1 THEN l.mode NOT IN ('AccessShareLock', 'RowShareLock') ELSE true END
    GROUP BY 1, 2)
SELECT CASE
    WHEN h.pid IS NULL THEN format('prepared transaction %L of %s, since %s, holding %s: COMMIT PREPARED or ROLLBACK PREPARED ends it',
        coalesce(p.gid, '?'), coalesce(p.owner::text, '?'), to_char(p.prepared, 'YYYY-MM-DD HH24:MI:SS') || ' UTC', h.names)
    WHEN a.backend_type = 'autovacuum worker' THEN format('autovacuum (session %s), holding %s: it ends by itself', h.pid, h.names)
    ELSE format('session %s (%s), holding %s%s', h.pid, concat_ws(', ', 'user ' || a.usename,
            'application ' || nullif(a.application_name, ''), 'from ' || host(a.client_addr), a.state,
            'since ' || to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS') || ' UTC'), h.names,
        ', last query: ' || nullif(left(regexp_replace(a.query, '\\s+', ' ', 'g'), 100), '')) END
FROM held h LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = h.pid
LEFT JOIN pg_catalog.pg_locks own ON h.pid IS NULL AND own.pid IS NULL AND own.virtualtransaction = h.virtualtransaction
    AND own.locktype = 'transactionid' AND own.mode = 'ExclusiveLock'
LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = own.transactionid
WHERE coalesce(a.xact_start, p.prepared, '-infinity') <= clock_timestamp() - make_interval(secs => $4::int4)
ORDER BY coalesce(a.xact_start, p.prepared)";

//! Snapshots that are older than a swap. Whoever has one would read the tables that are swapped in as they were then: empty (P21).

use std::collections::HashMap;
use std::time::Duration;

use super::Postgres;
use crate::store::Result;

/// How often a session that may hold a snapshot is looked at, under the lock, before it is taken for one that does.
const LOOKS: u32 = 6;

/// Sessions of this database that hold a snapshot or did so a moment ago: which transaction, its snapshot's oldest transaction, whether it
/// stands idle, whether it is past its first statement, whether it waits for ours, and words for people. Of other roles' sessions a plain
/// role is told only that there is a snapshot. Vacuum reads no table of ours by a snapshot.
const SESSIONS: &str = "SELECT concat_ws(' ', a.pid, coalesce(a.xact_start::text, a.backend_xmin::text)), a.backend_xmin::text, \
    coalesce(a.state LIKE 'idle in transaction%', false), coalesce(a.xact_start < a.query_start, a.state IS NULL), \
    pg_backend_pid() = ANY (pg_blocking_pids(a.pid)), \
    format('session %s (%s), whose snapshot is older than the swap: it would find the tables empty after it%s', a.pid, \
        concat_ws(', ', 'user ' || a.usename, 'application ' || nullif(a.application_name, ''), 'from ' || host(a.client_addr), a.state, \
            'since ' || to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS') || ' UTC'), \
        CASE WHEN a.state IS NULL THEN '; what it does is not told to us: GRANT pg_read_all_stats TO ' || quote_ident(current_user) \
            ELSE ', last query: ' || left(regexp_replace(a.query, '\\s+', ' ', 'g'), 100) END) \
    FROM pg_catalog.pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL \
    AND a.datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
    AND coalesce(a.backend_type, 'client backend') = 'client backend' ORDER BY a.pid";

/// What a transaction does with its snapshot, as far as it was seen.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    Unknown,
    /// It stood idle with it: REPEATABLE READ, or an open cursor.
    Keeps,
    /// Another one for another statement: READ COMMITTED.
    Renews,
}

/// What was seen of transactions in earlier attempts.
#[derive(Default)]
pub(super) struct Seen(HashMap<String, (Option<String>, Habit)>);

struct Holder {
    transaction: String,
    snapshot: String,
    keeps: bool,
    words: String,
}

impl Postgres {
    /// Who holds a snapshot that will be older than the swap, within the transaction that has the locks. A session that waits for
    /// our lock and was never seen idle with its snapshot takes another one when it goes on.
    pub(super) fn older_snapshots(&mut self, seen: &mut Seen) -> Result<Vec<String>> {
        let mut holders = self.holders(seen)?;
        for _ in 1..LOOKS {
            if holders.is_empty() || holders.iter().any(|h| h.keeps) {
                break;
            }
            // most are in the middle of a statement, and let go of it soon
            std::thread::sleep(Duration::from_millis(5));
            let now = self.holders(seen)?;
            holders.retain(|h| now.iter().any(|n| n.transaction == h.transaction && n.snapshot == h.snapshot));
        }
        Ok(holders.into_iter().map(|h| h.words).collect())
    }

    fn holders(&mut self, seen: &mut Seen) -> Result<Vec<Holder>> {
        // within a transaction the server shows the sessions as they were when it was first asked
        self.ask("looking for older snapshots", "SELECT pg_stat_clear_snapshot()", &[])?;
        let mut out = Vec::new();
        for line in self.ask("looking for older snapshots", SESSIONS, &[])? {
            let (transaction, snapshot): (String, Option<String>) = (line.get(0), line.get(1));
            let (idle, later, waits): (bool, bool, bool) = (line.get(2), line.get(3), line.get(4));
            let known = seen.0.entry(transaction.clone()).or_insert((None, Habit::Unknown));
            if known.0.is_some() && known.0 != snapshot {
                known.1 = Habit::Renews;
            }
            let Some(snapshot) = snapshot else { continue };
            known.0 = Some(snapshot.clone());
            if idle {
                known.1 = Habit::Keeps;
            }
            let keeps = known.1 == Habit::Keeps;
            if keeps || known.1 == Habit::Unknown && later && !waits {
                out.push(Holder { transaction, snapshot, keeps, words: line.get(5) });
            }
        }
        Ok(out)
    }
}

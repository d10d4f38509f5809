//! What a writer knows to be there, and what it does next.

use std::collections::BTreeMap;

use crate::faults::Random;
use crate::room::Kind;

/// Table and key → the other columns, in order, as text.
pub type Rows = BTreeMap<(&'static str, String), Vec<Option<String>>>;

/// A table's columns, the key first.
pub const COLUMNS: [(&str, &[&str]); 4] = [
    ("accounts", &["id", "owner", "slot", "note"]),
    ("entries", &["id", "account", "memo"]),
    ("peers", &["id", "peer"]),
    ("scratch", &["id", "word"]),
];

/// Which writer's row this is.
pub fn owner((table, key): &(&'static str, String)) -> usize {
    match *table {
        "scratch" => 0,
        "entries" => key.parse::<usize>().unwrap() / 1_000_000,
        _ => key[1..2].parse().unwrap(),
    }
}

pub enum Step {
    Sql(String),
    /// Rows by COPY: table with columns, and the lines.
    Copy(&'static str, String),
    /// The transaction stays open for so many milliseconds.
    Wait(u64),
}

/// One transaction.
pub struct Write {
    pub steps: Vec<Step>,
    /// It is rolled back by the application itself.
    pub given_up: bool,
    /// What is there if it is committed.
    pub after: Rows,
}

#[derive(Default)]
pub struct Ledger {
    pub rows: Rows,
    /// Or else this: the answer to the last write was lost.
    pub or: Option<Rows>,
    count: u64,
}

fn some(text: impl ToString) -> Option<String> {
    Some(text.to_string())
}

impl Ledger {
    fn keys(&self, table: &str) -> Vec<String> {
        self.rows.keys().filter(|(t, _)| *t == table).map(|(_, k)| k.clone()).collect()
    }

    /// One of the writer's rows.
    fn one(&self, random: &mut Random, table: &str) -> Option<String> {
        let keys = self.keys(table);
        (!keys.is_empty()).then(|| keys[random.below(keys.len() as u64) as usize].clone())
    }

    fn entries_of(&self, account: &str) -> Vec<(&'static str, String)> {
        self.rows
            .iter()
            .filter(|((t, _), row)| *t == "entries" && row[0].as_deref() == Some(account))
            .map(|(k, _)| k.clone())
            .collect()
    }

    /// What writer `n` does next on a store of this kind; the source's constraints are there, if it is one that has some.
    pub fn next(&mut self, n: usize, random: &mut Random, kind: Kind, from: Kind) -> Write {
        let (relational, deferrable) = (from != Kind::Json, from == Kind::Postgres);
        self.count += 1;
        let (count, owner) = (self.count, n as u64);
        let mut w = Write { steps: Vec::new(), given_up: false, after: self.rows.clone() };
        let fresh = format!("w{n}-{count}");
        let word = format!("it''s {count} ☕");
        let said = some(format!("it's {count} ☕"));
        let choice = random.below(16);
        match choice {
            // key updates, with what refers to the key
            3 => {
                if let Some(id) = self.one(random, "accounts") {
                    w.sql(format!("UPDATE accounts SET id = '{fresh}' WHERE id = '{id}'"));
                    let row = w.after.remove(&("accounts", id.clone())).unwrap();
                    w.after.insert(("accounts", fresh.clone()), row);
                    if !relational {
                        w.sql(format!("UPDATE entries SET account = '{fresh}' WHERE account = '{id}'"));
                    }
                    for entry in self.entries_of(&id) {
                        w.after.get_mut(&entry).unwrap()[0] = some(&fresh);
                    }
                }
            }
            // a delete that cascades
            4 => {
                if let Some(id) = self.one(random, "accounts") {
                    if !relational {
                        w.sql(format!("DELETE FROM entries WHERE account = '{id}'"));
                    }
                    w.sql(format!("DELETE FROM accounts WHERE id = '{id}'"));
                    for entry in self.entries_of(&id) {
                        w.after.remove(&entry);
                    }
                    w.after.remove(&("accounts", id));
                }
            }
            // two rows exchange what is unique
            5 => {
                if let (Some(a), Some(b)) = (self.one(random, "accounts"), self.one(random, "accounts"))
                    && a != b
                {
                    let slot = |id: &String| self.rows[&("accounts", id.clone())][1].clone();
                    let (of_a, of_b) = (slot(&a), slot(&b));
                    let set = |slot: &str, id: &str| format!("UPDATE accounts SET slot = {slot} WHERE id = '{id}'");
                    if kind == Kind::Postgres && deferrable {
                        w.sql(format!(
                            "UPDATE accounts SET slot = CASE id WHEN '{a}' THEN {} ELSE {} END WHERE id IN ('{a}', '{b}')",
                            of_b.as_ref().unwrap(),
                            of_a.as_ref().unwrap()
                        ));
                    } else {
                        w.sql(set("-1", &a));
                        w.sql(set(of_a.as_ref().unwrap(), &b));
                        w.sql(set(of_b.as_ref().unwrap(), &a));
                    }
                    w.after.get_mut(&("accounts", a)).unwrap()[1] = of_b;
                    w.after.get_mut(&("accounts", b)).unwrap()[1] = of_a;
                }
            }
            // two keys are exchanged
            6 => {
                let keys = self.keys("entries");
                if keys.len() > 1 {
                    let (a, b) = (&keys[0], &keys[keys.len() - 1]);
                    let set = |to: &str, id: &str| format!("UPDATE entries SET id = {to} WHERE id = {id}");
                    w.sql(set(&format!("-{a}"), a));
                    w.sql(set(a, b));
                    w.sql(set(b, &format!("-{a}")));
                    let (of_a, of_b) =
                        (self.rows[&("entries", a.clone())].clone(), self.rows[&("entries", b.clone())].clone());
                    w.after.insert(("entries", a.clone()), of_b);
                    w.after.insert(("entries", b.clone()), of_a);
                }
            }
            // rows that refer to each other, checked at the end only
            7 if relational => {
                w.sql(if kind == Kind::Postgres {
                    "SET CONSTRAINTS ALL DEFERRED"
                } else {
                    "PRAGMA defer_foreign_keys = ON"
                });
                let twin = format!("{fresh}b");
                w.sql(format!("INSERT INTO peers (id, peer) VALUES ('{fresh}', '{twin}')"));
                w.sql(format!("INSERT INTO peers (id, peer) VALUES ('{twin}', '{fresh}')"));
                w.after.insert(("peers", fresh.clone()), vec![some(&twin)]);
                w.after.insert(("peers", twin), vec![some(&fresh)]);
            }
            // everything goes, and something else comes
            8 if n == 0 => {
                w.sql(if kind == Kind::Postgres { "TRUNCATE scratch" } else { "DELETE FROM scratch" });
                w.after.retain(|(t, _), _| *t != "scratch");
                let lines: Vec<u64> = (0..5).map(|i| i * 3 + count % 3).collect();
                if kind == Kind::Postgres {
                    let text: String = lines.iter().map(|i| format!("{i}\tcopied {count}\n")).collect();
                    w.steps.push(Step::Copy("scratch (id, word)", text));
                } else {
                    lines.iter().for_each(|i| w.sql(format!("INSERT INTO scratch VALUES ({i}, 'copied {count}')")));
                }
                w.after
                    .extend(lines.iter().map(|i| (("scratch", i.to_string()), vec![some(format!("copied {count}"))])));
            }
            // a row takes another's place
            9 => {
                if let (Some(id), Some(account)) = (self.one(random, "entries"), self.one(random, "accounts")) {
                    let values = format!("VALUES ({id}, '{account}', '{word}')");
                    w.sql(if kind == Kind::Sqlite && count % 2 == 0 {
                        format!("REPLACE INTO entries (id, account, memo) {values}")
                    } else {
                        format!(
                            "INSERT INTO entries (id, account, memo) {values} ON CONFLICT (id) DO UPDATE \
                             SET account = excluded.account, memo = excluded.memo"
                        )
                    });
                    w.after.insert(("entries", id), vec![some(account), said]);
                }
            }
            // a REPLACE whose victim has another key
            10 if relational => {
                let lonely = self.keys("accounts").into_iter().find(|id| self.entries_of(id).is_empty());
                if let Some(id) = lonely {
                    let slot = self.rows[&("accounts", id.clone())][1].clone().unwrap();
                    if kind == Kind::Postgres {
                        w.sql(format!("DELETE FROM accounts WHERE id = '{id}'"));
                    }
                    let verb = if kind == Kind::Sqlite { "REPLACE" } else { "INSERT" };
                    w.sql(format!(
                        "{verb} INTO accounts (id, owner, slot, note) VALUES ('{fresh}', {owner}, {slot}, NULL)"
                    ));
                    w.after.remove(&("accounts", id));
                    w.after.insert(("accounts", fresh.clone()), vec![some(owner), some(slot), None]);
                }
            }
            // savepoints
            11 => {
                if let Some(id) = self.one(random, "accounts") {
                    w.sql("SAVEPOINT a");
                    w.sql(format!("DELETE FROM entries WHERE account = '{id}'"));
                    w.sql(format!("UPDATE accounts SET note = 'never' WHERE id = '{id}'"));
                    w.sql("ROLLBACK TO SAVEPOINT a");
                    w.sql("SAVEPOINT b");
                    w.sql(format!("UPDATE accounts SET note = '{word}' WHERE id = '{id}'"));
                    w.sql("RELEASE SAVEPOINT b");
                    w.after.get_mut(&("accounts", id)).unwrap()[2] = said;
                }
            }
            // given up by the application itself
            12 => {
                w.sql(format!("DELETE FROM accounts WHERE owner = {owner}"));
                w.given_up = true;
            }
            // an update without a word of the key, or to nothing
            13 | 14 => {
                if let Some(id) = self.one(random, "accounts") {
                    let (sql, now) = if choice == 13 { (format!("'{word}'"), said) } else { ("NULL".into(), None) };
                    w.sql(format!("UPDATE accounts SET note = {sql} WHERE id = '{id}'"));
                    w.after.get_mut(&("accounts", id)).unwrap()[2] = now;
                }
            }
            // births, some in a transaction that takes its time
            _ => {
                w.sql(format!(
                    "INSERT INTO accounts (id, owner, slot, note) VALUES ('{fresh}', {owner}, {count}, '{word}')"
                ));
                w.after.insert(("accounts", fresh.clone()), vec![some(owner), some(count), said.clone()]);
                if choice == 15 && n > 5 {
                    w.steps.push(Step::Wait(150));
                }
                for i in 0..2 {
                    let id = owner * 1_000_000 + count * 2 + i;
                    w.sql(format!("INSERT INTO entries (id, account, memo) VALUES ({id}, '{fresh}', '{word}')"));
                    w.after.insert(("entries", id.to_string()), vec![some(&fresh), said.clone()]);
                }
            }
        }
        w
    }
}

impl Write {
    fn sql(&mut self, sql: impl Into<String>) {
        self.steps.push(Step::Sql(sql.into()));
    }
}

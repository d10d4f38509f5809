//! What an application writes, at random: each statement runs on the store and on the model, and both must say the same of it.

use std::sync::{Arc, Mutex};

use super::base::Base;
use super::dice::Dice;
use super::shape::{Column, Flavour, Foreign, Lit, NULL, Shape, Table, quoted};

/// All that was done, for whoever has to find out why it fails.
pub type Said = Arc<Mutex<Vec<String>>>;

pub struct World {
    pub home: Base,
    pub twin: Base,
    /// What the application finds.
    pub shape: Shape,
    pub dice: Dice,
    pub tag: i64,
    /// What cannot come back is written, too.
    pub odd: bool,
    /// In a transaction that PostgreSQL goes on with no more.
    broken: bool,
    pub said: Said,
}

impl World {
    pub fn new(home: Base, twin: Base, shape: Shape, dice: Dice, odd: bool, said: Said) -> World {
        World { home, twin, shape, dice, tag: 0, odd, broken: false, said }
    }

    pub fn note(&self, what: impl Into<String>) {
        self.said.lock().unwrap().push(what.into());
    }

    /// Both run it, and it does the same.
    fn both(&mut self, sql: &str) -> bool {
        self.both_as(sql, sql)
    }

    fn both_as(&mut self, sql: &str, twin: &str) -> bool {
        self.note(sql);
        let (a, b) = (self.home.run(sql), self.twin.run(twin));
        // of rows that refer to each other, how many a DELETE counts depends on which one it comes to first
        let counts = ["INSERT", "UPDATE"].iter().any(|w| sql.starts_with(w));
        match (&a, &b) {
            (Ok(_), Ok(_)) if !counts => {}
            (Ok(a), Ok(b)) => assert_eq!(a, b, "rows changed by {sql}"),
            (Err(e), Err(_)) => {
                self.note(format!("-- refused: {e}"));
                self.broken = true;
            }
            _ => {
                let (home, twin) = (self.home.rows(&self.shape, false), self.twin.rows(&self.shape, true));
                self.note(format!("-- the application's rows: {home:?}\n-- the model's: {twin:?}"));
                panic!("the application is told {a:?} and the model {b:?} of {sql}")
            }
        }
        a.is_ok()
    }

    /// Home is what the model is.
    pub fn agrees(&mut self, when: &str) {
        for t in &self.shape.tables {
            let found = self.home.rows_of(t, false);
            let wanted = self.twin.rows_of(&Table { hidden: Vec::new(), ..t.clone() }, true);
            if found != wanted {
                let more: Vec<_> = found.iter().filter(|r| !wanted.contains(r)).collect();
                let less: Vec<_> = wanted.iter().filter(|r| !found.contains(r)).collect();
                panic!("{when}: table {} has {more:?} and lacks {less:?}", t.name);
            }
        }
    }

    pub fn writes(&mut self, most: usize) {
        for _ in 0..self.dice.below(most + 1) {
            self.step();
            self.agrees("after a write");
        }
    }

    /// The first rows.
    pub fn fill(&mut self) {
        for t in 0..self.shape.tables.len() {
            for _ in 0..3 + self.dice.below(10) {
                self.broken = false;
                self.insert(t, "");
            }
        }
        self.agrees("at the beginning");
    }

    fn step(&mut self) {
        self.broken = false;
        if !self.dice.chance(25) {
            self.statement();
            return;
        }
        self.both("BEGIN");
        for n in 0..2 + self.dice.below(5) {
            if self.dice.chance(10) {
                self.both(&format!("SAVEPOINT s{n}"));
                self.statement();
                self.statement();
                if self.dice.chance(50) || self.broken && self.shape.pg {
                    self.both(&format!("ROLLBACK TO s{n}"));
                    self.broken = false;
                }
            } else {
                self.statement();
            }
            if self.broken && self.shape.pg {
                break;
            }
        }
        let stopped = self.broken && self.shape.pg || self.dice.chance(15);
        if stopped || !self.both("COMMIT") && !self.shape.pg {
            self.both("ROLLBACK");
        }
    }

    fn statement(&mut self) {
        let t = self.dice.below(self.shape.tables.len());
        let pg = self.shape.pg;
        match self.dice.below(100) {
            0..22 => self.insert(t, ""),
            22..28 => self.insert(t, "IGNORE"),
            28..36 => self.insert(t, if pg { "UPSERT" } else { "REPLACE" }),
            36..40 => self.insert(t, "UPSERT"),
            40..62 => self.update(t),
            62..70 => self.rekey(t),
            70..73 => self.swap(t),
            73..77 => self.all(t),
            77..90 => self.delete(t),
            90..97 => self.again(t),
            97..98 => self.empty(t),
            _ => self.told(t),
        }
    }

    // ── values ─────────────────────────────────────────────────────────────────────────────────────────────────────

    fn value(&mut self, c: &Column) -> Lit {
        let nullable = !c.not_null && !c.filled;
        if nullable && self.dice.chance(15) {
            return NULL.into();
        }
        let strict = self.shape.tables.iter().any(|t| t.strict);
        let d = &mut self.dice;
        let number = |d: &mut Dice| match d.below(30) {
            0 if !["smallint", "integer"].contains(&c.ty.as_str()) => "9223372036854775807".to_owned(),
            1 => "-3".to_owned(),
            _ => d.below(40).to_string(),
        };
        match c.flavour {
            Flavour::Int => number(d),
            Flavour::Decimal => format!("'{}'", number(d)),
            Flavour::Mostly if !strict && d.chance(20) => (*d.pick(&["'many'", "1.5", "x'07'", "'1e3 '"])).into(),
            Flavour::Mostly => number(d),
            Flavour::Text => (*d.pick(&[
                "'a'", "'b'", "'B'", "'it''s'", "''", "'ünï'", "' lead'", "'007'", "'日本'", "'x y'", "'1.10'",
                "'end '",
            ]))
            .into(),
            Flavour::Word => format!("'w{}'", d.below(25)),
            Flavour::Real => (*d.pick(&["1.5", "0.0", "-2.25", "1e300", "3.0", "0.1"])).into(),
            Flavour::Blob if self.shape.pg => (*d.pick(&["'\\x'", "'\\x00ff'", "'abc'"])).into(),
            Flavour::Blob => (*d.pick(&["x''", "x'00ff'", "x'616263'"])).into(),
            Flavour::Any if self.shape.pg => (*d.pick(&["'1'", "'one'", "''"])).into(),
            Flavour::Any => (*d.pick(&["1", "'1'", "1.5", "'1.50'", "x'31'", "'one'", "''", "2.0"])).into(),
            Flavour::Uuid => {
                let n = d.below(30);
                let u = uuid::Uuid::from_u128(0xabcd_ef00_0000_4000_8000_0000_0000_0000 + n as u128 * 0xfedc_ba98);
                let (hyphens, upper) = if c.ty == "uuid" { (true, false) } else { self.shape.spelling };
                let s = if hyphens { u.hyphenated().to_string() } else { u.simple().to_string() };
                format!("'{}'", if upper { s.to_uppercase() } else { s })
            }
            Flavour::Tag => {
                self.tag += 1;
                self.tag.to_string()
            }
            Flavour::Told => NULL.into(),
        }
    }

    fn key_value(&mut self, t: &Table, c: usize) -> Lit {
        if let Some(s) = (!t.slices.is_empty()).then(|| self.dice.below(4)) {
            let base = [0, 100_000, 100_000, 5_000][s];
            return (base + self.dice.below(40)).to_string();
        }
        let plain = Column { filled: true, ..t.columns[c].clone() };
        match (plain.flavour, plain.ty.as_str()) {
            // numbers that others are likely to have
            (Flavour::Int, _) => self.dice.below(40).to_string(),
            (Flavour::Decimal, _) => format!("'{}'", self.dice.below(40)),
            _ => self.value(&plain),
        }
    }

    fn rows(&mut self, t: &Table) -> Vec<Vec<Lit>> {
        if self.broken && self.shape.pg { Vec::new() } else { self.twin.rows_of(t, true) }
    }

    /// What a foreign key may say.
    fn parent(&mut self, t: &Table, f: &Foreign) -> Vec<Lit> {
        let nullable = f.columns.iter().all(|c| !t.columns[*c].not_null && !t.columns[*c].filled);
        if nullable && self.dice.chance(25) {
            return vec![NULL.into(); f.columns.len()];
        }
        let parent = self.shape.tables[f.parent].clone();
        let mut rows = self.rows(&parent);
        if !(parent.slices.is_empty() || self.odd && self.dice.chance(10)) {
            let told = parent.columns.len() - 1;
            rows.retain(|r| r[told] == f.of);
        }
        if rows.is_empty() && nullable {
            return vec![NULL.into(); f.columns.len()];
        }
        if rows.is_empty() || self.dice.chance(3) {
            // most often nobody's
            return f.references.iter().map(|c| self.key_value(&parent, *c)).collect();
        }
        let row = self.dice.pick(&rows);
        f.references.iter().map(|c| row[*c].clone()).collect()
    }

    /// A new row's columns and values. `None` where the store gives the key.
    fn row(&mut self, t: &Table) -> Vec<Option<Lit>> {
        let mut out: Vec<Option<Lit>> = vec![None; t.columns.len()];
        let slice = (!t.slices.is_empty()).then(|| self.dice.pick(&t.slices).clone());
        for c in t.writable() {
            let column = &t.columns[c];
            out[c] = if t.key.contains(&c) {
                if t.gives() && self.dice.chance(50) { None } else { Some(self.key_value(t, c)) }
            } else if column.flavour != Flavour::Tag && !column.not_null && !column.filled && self.dice.chance(10)
                || column.not_null && column.default.is_some() && self.dice.chance(20)
            {
                None
            } else {
                Some(self.value(column))
            };
        }
        for f in t.foreign.clone() {
            for (c, v) in f.columns.iter().zip(self.parent(t, &f)) {
                out[*c] = Some(v);
            }
        }
        if let Some(s) = slice {
            let told = t.columns.len() - 1;
            for (c, v) in out.iter_mut().enumerate() {
                let strange = self.odd && self.dice.chance(4);
                if c == told {
                    *v = Some(if strange { "'nobody''s'".into() } else { s.told.clone() });
                } else if !s.own.contains(&c) && !strange {
                    *v = None;
                } else if s.needs.contains(&c) && v.as_ref().is_none_or(|v| v == NULL) {
                    let column = Column { filled: true, ..t.columns[c].clone() };
                    *v = Some(match t.foreign_of(c).cloned() {
                        Some(f) => {
                            let all: Vec<_> = self.rows(&self.shape.tables[f.parent].clone());
                            let told = self.shape.tables[f.parent].columns.len() - 1;
                            let fits = all.iter().find(|r| f.of.is_empty() || r[told] == f.of);
                            fits.map_or("-77".into(), |r| r[f.references[0]].clone())
                        }
                        None => self.value(&column),
                    });
                }
            }
        }
        out
    }

    fn by_key(t: &Table, row: &[Lit]) -> String {
        t.key.iter().map(|k| format!("{} = {}", t.col(*k), row[*k])).collect::<Vec<_>>().join(" AND ")
    }

    // ── statements ─────────────────────────────────────────────────────────────────────────────────────────────────

    fn insert(&mut self, t: usize, way: &str) {
        let table = self.shape.tables[t].clone();
        let row = self.row(&table);
        self.insert_row(&table, row, if way == "REPLACE" && self.lax(t) { "IGNORE" } else { way });
    }

    fn insert_row(&mut self, t: &Table, mut row: Vec<Option<Lit>>, way: &str) {
        let pg = self.shape.pg;
        let (or, mut tail) = match way {
            "IGNORE" if pg => ("", " ON CONFLICT DO NOTHING".to_owned()),
            "IGNORE" => (" OR IGNORE", String::new()),
            "REPLACE" => (" OR REPLACE", String::new()),
            _ => ("", String::new()),
        };
        if way == "UPSERT" {
            let set = t
                .writable()
                .into_iter()
                .find(|c| !t.key.contains(c) && row[*c].is_some() && t.columns[*c].flavour != Flavour::Tag);
            let Some(c) = set else { return };
            tail =
                format!(" ON CONFLICT ({}) DO UPDATE SET {} = {}", t.cols(&t.key), t.col(c), row[c].as_ref().unwrap());
        }
        let statement = |row: &[Option<Lit>], returning: &str| {
            let set: Vec<usize> = (0..row.len()).filter(|c| row[*c].is_some()).collect();
            let values: Vec<&str> = set.iter().map(|c| row[*c].as_deref().unwrap()).collect();
            let columns = if set.is_empty() {
                "DEFAULT VALUES".into()
            } else {
                format!("({}) VALUES ({})", t.cols(&set), values.join(", "))
            };
            format!("INSERT{or} INTO {} {columns}{tail}{returning}", t.title())
        };
        let given = t.gives() && row[t.key[0]].is_none();
        if given && !(self.broken && pg) {
            let sql = statement(&row, &format!(" RETURNING {}", t.col(t.key[0])));
            self.note(&sql);
            match self.home.ask(&sql) {
                // the number that it would have had is another's, and the model's own next one is none of its
                Ok(keys) if keys.is_empty() && pg => {}
                Ok(keys) if keys.is_empty() => {
                    assert_eq!(self.twin.run(&statement(&row, "")), Ok(0), "{sql} did nothing")
                }
                Ok(keys) => {
                    self.note(format!("-- was given {}", keys[0][0]));
                    row[t.key[0]] = Some(keys[0][0].clone());
                    let sql = statement(&row, "");
                    self.twin.run(&sql).unwrap_or_else(|e| panic!("the model does not take {sql}: {e}"));
                }
                Err(e) => {
                    self.note(format!("-- refused: {e}"));
                    self.broken = true;
                    // the model's next number may be taken where the store's is not
                    if !e.contains("UNIQUE") && !e.contains("duplicate") {
                        let also = self.twin.run(&statement(&row, ""));
                        assert!(also.is_err(), "the application is told {e} of {sql}, and the model takes it");
                    }
                }
            }
            return;
        }
        // a row that takes the place of one of the same key is that row, as far as it has columns that are not seen here
        let hidden: Vec<String> = t.hidden.iter().map(|h| quoted(&h.name)).collect();
        let keyed: Vec<Lit> = row.iter().map(|v| v.clone().unwrap_or_else(|| NULL.into())).collect();
        let by_key = World::by_key(t, &keyed);
        let before = match way == "REPLACE" && !hidden.is_empty() {
            true => self.rows_by(t, &by_key),
            false => None,
        };
        let done = self.both(&statement(&row, ""));
        if let Some(before) = before.filter(|_| done) {
            let set: Vec<String> =
                hidden.iter().zip(&before[t.columns.len()..]).map(|(n, v)| format!("{n} = {v}")).collect();
            self.twin.run(&format!("UPDATE {} SET {} WHERE {by_key}", t.title(), set.join(", "))).unwrap();
        }
    }

    /// The model's row that this finds.
    fn rows_by(&mut self, t: &Table, by: &str) -> Option<Vec<Lit>> {
        let names = (0..t.columns.len()).map(|i| t.col(i)).chain(t.hidden.iter().map(|h| quoted(&h.name)));
        let names: Vec<String> = names.map(|n| self.twin.said(&n)).collect();
        self.twin.ask(&format!("SELECT {} FROM {} WHERE {by}", names.join(", "), t.title())).unwrap().pop()
    }

    /// A row that is there.
    fn some(&mut self, t: &Table) -> Option<Vec<Lit>> {
        let rows = self.rows(t);
        if rows.is_empty() { None } else { Some(self.dice.pick(&rows).clone()) }
    }

    /// SQLite itself lets an orphan into such a table with OR REPLACE, if no trigger is there.
    fn lax(&self, t: usize) -> bool {
        self.shape.tables[t].foreign.iter().any(|f| f.parent == t && f.delete == "SET NULL")
    }

    fn or(&mut self, t: usize) -> &'static str {
        match self.dice.below(12) {
            _ if self.shape.pg => "",
            0 if self.lax(t) => "",
            0 => " OR REPLACE",
            1 => " OR IGNORE",
            _ => "",
        }
    }

    /// The columns that the application changes, and to what.
    fn news(&mut self, t: &Table, row: &[Lit]) -> Vec<String> {
        let can: Vec<usize> = t
            .writable()
            .into_iter()
            .filter(|c| !t.key.contains(c) && !matches!(t.columns[*c].flavour, Flavour::Tag | Flavour::Told))
            .collect();
        let slice = t.slices.iter().find(|s| s.told == row[t.columns.len() - 1]).cloned();
        let mut set: Vec<String> = Vec::new();
        for _ in 0..1 + self.dice.below(2) {
            let Some(c) = self.dice.one(&can) else { break };
            let strange = self.odd && self.dice.chance(5);
            if slice.as_ref().is_some_and(|s| !s.own.contains(&c)) && !strange
                || set.iter().any(|s| s.starts_with(&t.col(c)))
            {
                continue;
            }
            let values = match t.foreign_of(c).cloned() {
                Some(f) if f.columns.len() == 1 => self.parent(t, &f)[0].clone(),
                Some(_) => continue,
                None => self.value(&t.columns[c]),
            };
            if values == NULL && slice.as_ref().is_some_and(|s| s.needs.contains(&c)) {
                continue;
            }
            set.push(format!("{} = {values}", t.col(c)));
        }
        set
    }

    fn update(&mut self, n: usize) {
        let t = self.shape.tables[n].clone();
        let Some(row) = self.some(&t) else { return };
        let set = self.news(&t, &row);
        if set.is_empty() {
            return;
        }
        let or = self.or(n);
        self.both(&format!("UPDATE{or} {} SET {} WHERE {}", t.title(), set.join(", "), World::by_key(&t, &row)));
    }

    /// A row gets another key.
    fn rekey(&mut self, n: usize) {
        let t = self.shape.tables[n].clone();
        let Some(row) = self.some(&t) else { return };
        let k = *self.dice.pick(&t.key);
        let (new, or) = (self.key_value(&t, k), self.or(n));
        self.both(&format!("UPDATE{or} {} SET {} = {new} WHERE {}", t.title(), t.col(k), World::by_key(&t, &row)));
    }

    /// Two rows change places.
    fn swap(&mut self, t: usize) {
        let t = self.shape.tables[t].clone();
        let (Some(a), Some(b)) = (self.some(&t), self.some(&t)) else { return };
        let k = t.key[0];
        let free = match t.columns[k].flavour {
            Flavour::Int => "777".to_owned(),
            Flavour::Decimal => "'777'".to_owned(),
            Flavour::Word => "'w777'".to_owned(),
            _ => return,
        };
        if t.key.len() > 1 || a[k] == b[k] {
            return;
        }
        for (from, to) in [(&a[k], &free), (&b[k], &a[k]), (&free, &b[k])] {
            if !self.both(&format!("UPDATE {} SET {} = {to} WHERE {} = {from}", t.title(), t.col(k), t.col(k))) {
                return;
            }
        }
    }

    /// Several rows at once.
    fn all(&mut self, t: usize) {
        let t = self.shape.tables[t].clone();
        let Some(row) = self.some(&t) else { return };
        let set = if self.dice.chance(30)
            && t.key.len() == 1
            && t.columns[t.key[0]].flavour == Flavour::Int
            && t.slices.is_empty()
        {
            let k = t.col(t.key[0]);
            vec![format!("{k} = {k} + 40")]
        } else if t.slices.is_empty() {
            self.news(&t, &row)
        } else {
            return;
        };
        if !set.is_empty() {
            let limit = if self.dice.chance(50) {
                String::new()
            } else {
                format!(" WHERE {} > {}", t.col(t.key[0]), row[t.key[0]])
            };
            self.both(&format!("UPDATE {} SET {}{limit}", t.title(), set.join(", ")));
        }
    }

    fn delete(&mut self, t: usize) {
        let t = self.shape.tables[t].clone();
        let Some(row) = self.some(&t) else { return };
        let by = if self.dice.chance(10) {
            format!("{} < {}", t.col(t.key[0]), row[t.key[0]])
        } else {
            World::by_key(&t, &row)
        };
        self.both(&format!("DELETE FROM {} WHERE {by}", t.title()));
    }

    /// A row goes, and another one comes under its key.
    fn again(&mut self, t: usize) {
        let t = self.shape.tables[t].clone();
        let Some(row) = self.some(&t) else { return };
        if self.both(&format!("DELETE FROM {} WHERE {}", t.title(), World::by_key(&t, &row))) {
            let mut new = self.row(&t);
            for k in &t.key {
                new[*k] = Some(row[*k].clone());
            }
            self.insert_row(&t, new, "");
        }
    }

    fn empty(&mut self, t: usize) {
        let title = self.shape.tables[t].title();
        let sql = if self.shape.pg && self.dice.chance(60) {
            format!("TRUNCATE {title} CASCADE")
        } else {
            format!("DELETE FROM {title}")
        };
        self.both(&sql);
    }

    /// A merged row becomes one of another table's.
    fn told(&mut self, t: usize) {
        let t = self.shape.tables[t].clone();
        let Some(row) = self.some(&t).filter(|_| self.odd && !t.slices.is_empty()) else { return };
        let to = self.dice.pick(&t.slices).told.clone();
        let by = World::by_key(&t, &row);
        self.both(&format!("UPDATE {} SET {} = {to} WHERE {by}", t.title(), t.col(t.columns.len() - 1)));
    }
}

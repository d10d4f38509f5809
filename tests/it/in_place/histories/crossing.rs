//! What a migration makes of each row, and what each row comes back as: said here once more, and by other means than the program's.

use std::collections::HashMap;

use super::base::Rows;
use super::shape::{Lit, NULL, Shape, Table};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Same,
    /// '12' and 12.
    Whole,
    /// Text and a UUID.
    Uuid {
        hyphens: bool,
        upper: bool,
    },
    /// A key of this table of the source.
    Key(usize),
}

/// Where a target's column has its values from.
#[derive(Clone, Debug)]
pub enum From {
    Column(usize, Codec),
    /// Rows of another table have something there.
    Nothing,
    Fixed(Lit),
    Added(Lit),
    Computed,
}

/// A source's table, and what its rows are in the target.
#[derive(Clone, Debug)]
pub struct Part {
    pub source: usize,
    pub target: usize,
    pub from: Vec<From>,
    /// Columns of the source, in the order of the target's hidden ones.
    pub dropped: Vec<usize>,
    /// What tells its rows: column, value.
    pub told: Option<(usize, Lit)>,
    /// What is added to its keys.
    pub shift: i64,
}

#[derive(Clone, Debug)]
pub struct Crossing {
    pub toml: String,
    pub source: Shape,
    pub target: Shape,
    pub parts: Vec<Part>,
    /// Table of the source and key there: the key in the target, where it does not follow.
    pub pairs: Pairs,
    /// The same of rows that took the number of one that was there, or were given it: whether they keep theirs is seen.
    pub perhaps: Pairs,
    /// It cannot be: what goes is in something that stays.
    pub refused: bool,
}

fn unquoted(lit: &str) -> Option<String> {
    Some(lit.strip_prefix('\'')?.strip_suffix('\'')?.replace("''", "'"))
}

fn uuid_text(lit: &str, hyphens: bool, upper: bool) -> Option<Lit> {
    let u = uuid::Uuid::parse_str(&unquoted(lit)?).ok()?;
    let s = if hyphens { u.hyphenated().to_string() } else { u.simple().to_string() };
    Some(format!("'{}'", if upper { s.to_uppercase() } else { s }))
}

pub type Pairs = HashMap<(usize, Lit), Lit>;

/// Where a target's row is found in the source, if not under the key that it had there.
pub type Given<'g> = dyn Fn(&Part, &[Lit], &Lit) -> Option<Lit> + 'g;

/// A row that cannot come back: table of the target, its row.
pub type Misfits = Vec<(usize, Vec<Lit>)>;

impl Crossing {
    fn part_of(&self, source: usize) -> &Part {
        self.parts.iter().find(|p| p.source == source).unwrap()
    }

    /// The part whose rows have keys of that table.
    fn key_up(&self, table: usize, key: &Lit) -> Lit {
        self.pairs.get(&(table, key.clone())).cloned().unwrap_or_else(|| self.moved(table, key))
    }

    fn moved(&self, table: usize, key: &Lit) -> Lit {
        let bare = key.trim_matches('\'').parse::<i64>().unwrap_or_else(|_| panic!("{key} is no key"));
        let moved = (bare + self.part_of(table).shift).to_string();
        if self.source.pg { format!("'{moved}'") } else { moved }
    }

    /// Whether a row of that table of the target is of this part, under the key that it came with.
    pub fn is_home(&self, p: &Part, t: usize, row: &[Lit]) -> bool {
        let table = &self.target.tables[t];
        let told = p.target == t && p.told.as_ref().is_some_and(|(c, v)| row[*c] == *v);
        told && row[table.columns.len()] != NULL
            && self.key_up(p.source, &row[table.columns.len()]) == row[table.key[0]]
    }

    fn value_up(&self, codec: Codec, lit: &Lit) -> Lit {
        if lit == NULL {
            return lit.clone();
        }
        match codec {
            Codec::Same => lit.clone(),
            Codec::Whole if self.source.pg => lit.clone(),
            Codec::Whole => unquoted(lit).unwrap_or_else(|| panic!("{lit} is no decimal")),
            Codec::Uuid { .. } => uuid_text(lit, true, false).unwrap_or_else(|| panic!("{lit} is no UUID")),
            Codec::Key(table) => self.key_up(table, lit),
        }
    }

    /// The target's rows, with what is hidden.
    pub fn up(&self, rows: &Rows) -> Rows {
        let mut out: Rows = self.target.tables.iter().map(|_| Vec::new()).collect();
        for p in &self.parts {
            let merged = p.told.is_some();
            for r in &rows[p.source] {
                let mut new: Vec<Lit> = p
                    .from
                    .iter()
                    .map(|f| match f {
                        From::Column(i, codec) => self.value_up(*codec, &r[*i]),
                        From::Nothing | From::Computed => NULL.into(),
                        From::Fixed(v) | From::Added(v) => v.clone(),
                    })
                    .collect();
                if merged {
                    new.push(r[self.source.tables[p.source].key[0]].clone());
                } else {
                    new.extend(p.dropped.iter().map(|i| r[*i].clone()));
                }
                out[p.target].push(new);
            }
        }
        out
    }

    pub fn value_down(&self, codec: Codec, lit: &Lit) -> Option<Lit> {
        if lit == NULL {
            return Some(lit.clone());
        }
        match codec {
            Codec::Whole if !self.source.pg => lit.parse::<i64>().ok().map(|i| format!("'{i}'")),
            Codec::Uuid { hyphens, upper } => uuid_text(lit, hyphens, upper),
            Codec::Same | Codec::Whole | Codec::Key(_) => Some(lit.clone()),
        }
    }

    /// The source's rows, and rows that are none. `given`: where a target's row is found in the source, if it was made there
    /// anew; not where it was. `found`: the source's rows; one that is gone may be held there by those that refer to it, and is listed.
    pub fn down(&mut self, rows: &Rows, found: &Rows, given: &Given<'_>) -> (Rows, Misfits) {
        let mut misfits = Vec::new();
        // first the keys, since others refer to them: by the target's key, table and key in the source
        let mut keys: HashMap<Lit, (usize, Lit)> = HashMap::new();
        let (mut pairs, mut perhaps) = (self.pairs.clone(), Pairs::new());
        let part_of = |t: usize, r: &[Lit]| {
            self.parts.iter().find(|p| p.target == t && p.told.as_ref().is_none_or(|(c, v)| r[*c] == *v))
        };
        for (t, rows) in rows.iter().enumerate() {
            for r in rows {
                let Some(p) = part_of(t, r).filter(|p| p.told.is_some()) else { continue };
                let table = &self.target.tables[t];
                let (key, was) = (&r[table.key[0]], &r[table.columns.len()]);
                let stayed = was != NULL && self.key_up(p.source, was) == *key;
                // it is given the next number, or what refers to it as it was keeps it where it was
                let source = if stayed { Some(was.clone()) } else { given(p, r, was) };
                if let Some(source) = source {
                    if !stayed {
                        let follows = self.moved(p.source, &source) == *key;
                        let known = if follows { &mut perhaps } else { &mut pairs };
                        known.insert((p.source, source.clone()), key.clone());
                    }
                    keys.insert(key.clone(), (p.source, source));
                }
            }
        }
        let mut out: Rows = self.source.tables.iter().map(|_| Vec::new()).collect();
        for (t, rows) in rows.iter().enumerate() {
            for r in rows {
                let fits = part_of(t, r).and_then(|p| Some((p, self.row_down(p, r, &keys, found)?)));
                match fits {
                    Some((p, row)) => out[p.source].push(row),
                    None => misfits.push((t, r.clone())),
                }
            }
        }
        (self.pairs, self.perhaps) = (pairs, perhaps);
        (out, misfits)
    }

    fn row_down(&self, p: &Part, r: &[Lit], keys: &HashMap<Lit, (usize, Lit)>, found: &Rows) -> Option<Vec<Lit>> {
        let table: &Table = &self.source.tables[p.source];
        let hidden = self.target.tables[p.target].columns.len();
        let mut row = vec![NULL.to_owned(); table.columns.len()];
        for (i, f) in p.from.iter().enumerate() {
            match f {
                From::Column(s, Codec::Key(of)) if r[i] != NULL => {
                    let there = keys.get(&r[i]).filter(|(table, _)| table == of).map(|(_, key)| key);
                    let at = self.source.tables[*of].key[0];
                    let held = || found[*of].iter().map(|f| &f[at]).find(|key| self.key_up(*of, key) == r[i]);
                    row[*s] = there.or_else(held)?.clone();
                }
                From::Column(s, codec) => row[*s] = self.value_down(*codec, &r[i])?,
                From::Nothing if r[i] != NULL => return None,
                _ => {}
            }
        }
        for (h, s) in p.dropped.iter().enumerate() {
            row[*s] = r[hidden + h].clone();
        }
        let fine = table.columns.iter().zip(&row).all(|(c, v)| !c.not_null || v != NULL || c.computed.is_some());
        fine.then_some(row)
    }
}

//! `invalid = "carry"`: texts that are no UUIDs, or are spelled otherwise than most of their column, go along as UUIDs that are made of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{Codec, Kind};
use crate::value::Value;

use super::super::keys::made_up;
use super::{Changing, Fate, Result, refuse, spelled, up_exact};

/// A plan keeps no more than so many texts.
const MOST: usize = 1000;

/// What was seen of a column.
#[derive(Clone, Debug)]
pub(super) struct Carry {
    /// The table whose keys they are.
    space: String,
    /// By spelling: how many values, and some of them.
    seen: Vec<(Codec, u64, BTreeSet<String>)>,
    /// Those in none.
    others: (u64, BTreeSet<String>),
}

impl Carry {
    pub fn of(space: &str) -> Carry {
        Carry { space: space.to_owned(), seen: Vec::new(), others: (0, BTreeSet::new()) }
    }

    pub fn look(&mut self, tries: &[Codec], text: &[u8]) {
        let value = Value::Text(text.into());
        let fits = |c: &Codec| up_exact(&plan(c), Kind::Postgres, "uuid", &value).is_ok();
        if self.seen.is_empty() {
            self.seen = tries.iter().map(|c| (c.clone(), 0, BTreeSet::new())).collect();
        }
        let text = || String::from_utf8_lossy(text).into_owned();
        let (n, some) = match self.seen.iter_mut().find(|(c, ..)| fits(c)) {
            Some((_, n, some)) => (n, some),
            None => (&mut self.others.0, &mut self.others.1),
        };
        *n += 1;
        if some.len() <= MOST {
            some.insert(text());
        }
    }
}

fn plan(codec: &Codec) -> crate::plan::ColumnPlan {
    crate::plan::ColumnPlan { codec: codec.clone(), why: String::new() }
}

/// Whose keys it holds, by the number of that family of columns: in all of them a text becomes the same.
fn whose(f: &Fate) -> usize {
    f.leans.unwrap_or(f.family)
}

/// The columns that have one spelling: a soft reference has its own, or without a value that of what it refers to.
fn group(f: &Fate) -> (usize, usize) {
    (whose(f), f.leans.filter(|_| f.values == 0).unwrap_or(f.family))
}

/// Chooses the spelling that most values have; all others go along. Returns what is worth a word.
pub(super) fn settle(all: &mut [Changing]) -> Result<Vec<String>> {
    let carrying = all.iter().flat_map(|t| &t.fates).filter(|f| f.carry.is_some());
    let families: BTreeSet<usize> = carrying.map(|f| f.family).collect();
    // a reference without a value, to keys of which none goes along: it is spelled as they are
    let alone = |f: &&mut Fate| f.values == 0 && f.leans.is_some_and(|of| !families.contains(&of));
    all.iter_mut().flat_map(|t| &mut t.fates).filter(alone).for_each(|f| f.carry = None);
    let fates = || {
        let all = all.iter().flat_map(|t| std::iter::repeat(t).zip(t.fates.iter().zip(&t.table.columns)));
        all.filter_map(|(t, (f, c))| Some((format!("{}.{}", t.table.name, c.name), f, f.carry.as_ref()?)))
    };
    // two tables may be named of which one has the other's keys
    let mut spaces: BTreeMap<usize, &str> = BTreeMap::new();
    let mut chosen: BTreeMap<(usize, usize), Codec> = BTreeMap::new();
    for (_, f, carry) in fates() {
        let space = spaces.entry(whose(f)).or_insert(&carry.space);
        *space = (*space).min(&carry.space);
    }
    for (title, f, _) in fates() {
        if chosen.contains_key(&group(f)) {
            continue;
        }
        let alike = || fates().filter(|(_, x, _)| group(x) == group(f));
        let count = |codec: &Codec| -> u64 {
            alike().flat_map(|(.., c)| &c.seen).filter(|(c, ..)| c == codec).map(|(_, n, _)| n).sum()
        };
        let room = |codec: &&Codec| alike().all(|(_, x, _)| x.tries.contains(codec));
        // the first of those that have as many
        let Some(most) = f.tries.iter().filter(room).rev().max_by_key(|c| count(c)) else {
            let cause =
                format!("{title} and the columns that hold the same keys have room for no one spelling of a UUID");
            return refuse(f.at, cause, "make them of one type first, in a SQL revision");
        };
        chosen.insert(group(f), most.clone());
    }
    let mut texts: BTreeMap<usize, BTreeMap<String, String>> = BTreeMap::new();
    let mut notes = Vec::new();
    for (title, f, carry) in fates() {
        let (space, of) = (spaces[&whose(f)], &chosen[&group(f)]);
        let apart = carry.seen.iter().filter(|(c, ..)| c != of).map(|(_, n, some)| (n, some));
        let (mut rows, mut own) = (0, BTreeSet::new());
        for (n, some) in apart.chain([(&carry.others.0, &carry.others.1)]) {
            rows += n;
            own.extend(some);
        }
        let list = texts.entry(whose(f)).or_default();
        list.extend(own.iter().map(|t| ((*t).clone(), made_up(space, t))));
        if list.len() > MOST {
            let cause =
                format!("{title}: {rows} values are no UUIDs of {}, and a plan keeps {MOST} such texts", spelled(of));
            return refuse(f.at, cause, "`invalid = \"carry\"` is for few: mend them, or leave the column as it is");
        }
        if rows > 0 {
            let some = own.iter().take(3).map(|t| format!("{} as {}", Value::text((*t).clone()), list[*t]));
            let some = some.collect::<Vec<_>>().join(", ");
            notes.push(format!(
                "{title}: {rows} {} no UUID of {}; each becomes one that is made of it, and comes back word for word: {some}{}. Another one \
                 that appears before the cutover needs a new plan",
                if rows == 1 { "value is" } else { "values are" },
                spelled(of),
                if own.len() > 3 { ", …" } else { "" },
            ));
        }
    }
    for f in all.iter_mut().flat_map(|t| &mut t.fates).filter(|f| f.carry.is_some()) {
        let (of, list) = (chosen[&group(f)].clone(), &texts[&whose(f)]);
        let values: Vec<(String, String)> = list.iter().map(|(t, made)| (t.clone(), made.clone())).collect();
        f.tries = vec![if values.is_empty() { of } else { Codec::Carried { of: Box::new(of), values } }];
    }
    Ok(notes)
}

//! Folding the change log: what became of each key, however often it was written.

use std::collections::{HashMap, VecDeque};

use crate::value::Key;

/// What the application did to one row, in the order in which it did it to that key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index into the `tables` that were asked for.
    pub table: usize,
    /// What was done.
    pub op: Op,
    /// The key before (`Update`, `Delete`, `Doubt`).
    pub before: Option<Key>,
    /// The key after (`Insert`, `Update`).
    pub after: Option<Key>,
    /// Where the row was before and is after, if several rows may be under one key for a while.
    pub was: Option<Place>,
    /// See `was`.
    pub now: Option<Place>,
}

/// Where a version of a row is; told where a unique constraint is deferrable, for there a key alone does not say which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Places of different heaps cannot be compared: the table was rewritten in between.
    pub heap: u32,
    /// The place in it.
    pub at: u64,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new row.
    Insert,
    /// A row changed; its key too if `before` and `after` differ.
    Update,
    /// A row gone.
    Delete,
    /// All rows of the table gone at once.
    Truncate,
    /// Not a change but a doubt: this key is to be looked at again.
    Doubt,
}

/// Where the row that is now under a key comes from, seen from the last drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The same row as before, changed or not.
    Kept,
    /// A row that was born since: it inherits nothing from a dead row of the same key.
    Reborn,
    /// The row that was under that other key.
    MovedFrom(Key),
}

/// A table's changes, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Every row that was there before is gone; what is there now was born since.
    pub truncated: bool,
    /// Each key that was touched, once, in the order of its first mention.
    pub keys: Vec<(Key, Origin)>,
}

#[derive(Clone)]
enum Row {
    Was(Key),
    Born,
}

/// What is under a key now.
#[derive(Default)]
struct Here {
    /// More than one only while a deferred unique constraint lets them be.
    rows: VecDeque<(Row, Option<Place>)>,
    /// A row that was there from the beginning and was not mentioned may be there beside them.
    unseen: bool,
}

impl Here {
    /// Takes out the row at this place; `first` is what was under the key from the beginning.
    fn leave(&mut self, place: Option<Place>, first: Row) -> Row {
        let Some(place) = place else { return self.rows.pop_front().map_or(Row::Born, |(row, _)| row) };
        let named = self.rows.iter().position(|(_, at)| *at == Some(place));
        if let Some((row, _)) = named.and_then(|i| self.rows.remove(i)) {
            return row;
        }
        // none of those that came: so the one that was there, unless places do not mean the same any more
        if self.unseen && self.rows.iter().all(|(_, at)| at.is_some_and(|at| at.heap == place.heap)) {
            self.unseen = false;
            return first;
        }
        self.leave(None, first)
    }
}

/// Folds one table's entries, oldest first.
pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Folded {
    let mut truncated = false;
    let mut order: Vec<Key> = Vec::new();
    let mut keys: HashMap<Key, Here> = HashMap::new();
    for e in entries {
        if e.op == Op::Truncate {
            truncated = true;
            keys.clear();
            order.clear();
            continue;
        }
        let leaving = e.before.as_ref().map(|k| {
            let first = if truncated { Row::Born } else { Row::Was(k.clone()) };
            let here = keys.entry(k.clone()).or_insert_with(|| {
                order.push(k.clone());
                Here { rows: VecDeque::from([(first.clone(), None)]), unseen: false }
            });
            if e.op == Op::Doubt { Row::Born } else { here.leave(e.was, first) }
        });
        if let Some(k) = &e.after {
            let here = keys.entry(k.clone()).or_insert_with(|| {
                order.push(k.clone());
                Here { rows: VecDeque::new(), unseen: e.now.is_some() && !truncated }
            });
            if e.now.is_none() {
                // Who is there already is this row: it refers to itself, and its own reference followed it, which was noted first.
                here.rows.clear();
            }
            here.rows.push_back((leaving.unwrap_or(Row::Born), e.now));
        }
    }
    let keys = order
        .into_iter()
        .map(|k| {
            let here = keys.get(&k);
            let origin = match here.and_then(|h| h.rows.front()) {
                Some((Row::Was(from), _)) if *from == k => Origin::Kept,
                Some((Row::Was(from), _)) => Origin::MovedFrom(from.clone()),
                // others came and went, and it stayed
                None if here.is_some_and(|h| h.unseen) => Origin::Kept,
                _ => Origin::Reborn,
            };
            (k, origin)
        })
        .collect();
    Folded { truncated, keys }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn k(i: i64) -> Key {
        Key::of([&Value::Int(i)])
    }
    fn e(op: Op, before: Option<i64>, after: Option<i64>) -> Entry {
        Entry { table: 0, op, before: before.map(k), after: after.map(k), was: None, now: None }
    }

    #[test]
    fn p09_kept_reborn_moved() {
        let f = |list: &[Entry]| fold(list).keys;
        assert_eq!(f(&[e(Op::Update, Some(1), Some(1))]), [(k(1), Origin::Kept)]);
        assert_eq!(f(&[e(Op::Delete, Some(1), None), e(Op::Insert, None, Some(1))]), [(k(1), Origin::Reborn)]);
        assert_eq!(f(&[e(Op::Update, Some(1), Some(2))]), [(k(1), Origin::Reborn), (k(2), Origin::MovedFrom(k(1)))]);
        // a swap through a third key
        let swap = [(1, 9), (2, 1), (9, 2)].map(|(a, b)| e(Op::Update, Some(a), Some(b)));
        let f = fold(&swap).keys.into_iter().collect::<BTreeMap<_, _>>();
        assert_eq!(f[&k(1)], Origin::MovedFrom(k(2)));
        assert_eq!(f[&k(2)], Origin::MovedFrom(k(1)));
        // a row that refers to itself, with ON UPDATE CASCADE: what follows of its new key is noted before it
        let list = [(Some(3), None), (Some(3), Some(3)), (Some(9), Some(3)), (Some(4), Some(4)), (Some(3), Some(4))]
            .map(|(a, b)| e(if b.is_none() { Op::Delete } else { Op::Update }, a, b));
        let f = fold(&list).keys.into_iter().collect::<BTreeMap<_, _>>();
        assert_eq!((&f[&k(4)], &f[&k(3)]), (&Origin::MovedFrom(k(9)), &Origin::Reborn));
        let t = fold(&[e(Op::Update, Some(1), Some(1)), e(Op::Truncate, None, None), e(Op::Insert, None, Some(1))]);
        assert_eq!(t, Folded { truncated: true, keys: vec![(k(1), Origin::Reborn)] });
        assert_eq!(fold(&[e(Op::Doubt, Some(1), None)]).keys, [(k(1), Origin::Kept)]);
    }

    proptest! {
        /// A model of rows with an identity of their own, changed at random, agrees with the fold of its log.
        #[test]
        fn p09_the_fold_follows_each_row(ops in proptest::collection::vec((0u8..3, 0i64..5, 0i64..5), 0..40)) {
            let mut model: BTreeMap<i64, Option<i64>> = (0..3).map(|i| (i, Some(i))).collect();
            let mut log = Vec::new();
            for (op, a, b) in ops {
                match op {
                    0 if !model.contains_key(&a) => { model.insert(a, None); log.push(e(Op::Insert, None, Some(a))); }
                    1 if model.contains_key(&a) => { model.remove(&a); log.push(e(Op::Delete, Some(a), None)); }
                    2 if model.contains_key(&a) && (a == b || !model.contains_key(&b)) => {
                        let row = model.remove(&a).unwrap();
                        model.insert(b, row);
                        log.push(e(Op::Update, Some(a), Some(b)));
                    }
                    _ => {}
                }
            }
            for (key, origin) in fold(&log).keys {
                let Value::Int(i) = key.values()[0] else { unreachable!() };
                match model.get(&i) {
                    None => prop_assert_eq!(origin, Origin::Reborn),
                    Some(None) => prop_assert_eq!(origin, Origin::Reborn),
                    Some(Some(was)) if *was == i => prop_assert_eq!(origin, Origin::Kept),
                    Some(Some(was)) => prop_assert_eq!(origin, Origin::MovedFrom(k(*was))),
                }
            }
        }

        /// The same where a unique constraint is deferred: within a transaction several rows may be under one key, and the table may be
        /// rewritten between two.
        #[test]
        fn p09_the_fold_follows_each_row_through_deferred_keys(
            transactions in proptest::collection::vec((any::<bool>(), proptest::collection::vec((0u8..6, 0usize..6, 0i64..4), 1..8)), 0..12)
        ) {
            // a row: its key now, the key it had, where it is
            let mut rows: Vec<(i64, Option<i64>, u64)> = (0..3).map(|i| (i, Some(i), i as u64)).collect();
            let (mut log, mut heap, mut places) = (Vec::new(), 0, 100);
            let mut truncated = false;
            for (rewritten, ops) in transactions {
                if rewritten {
                    heap += 1;
                    for (i, row) in rows.iter_mut().enumerate() {
                        row.2 = i as u64;
                    }
                }
                let (mut after, mut told, mut emptied) = (rows.clone(), Vec::new(), false);
                for (op, which, key) in ops {
                    places += 1;
                    let at = |at| Some(Place { heap, at });
                    match op {
                        0 => {
                            after.push((key, None, places));
                            told.push(Entry { now: at(places), ..e(Op::Insert, None, Some(key)) });
                        }
                        1 if which < after.len() => {
                            let (from, _, place) = after.remove(which);
                            told.push(Entry { was: at(place), ..e(Op::Delete, Some(from), None) });
                        }
                        5 if which == 5 && key == 0 => {
                            after.clear();
                            told.push(e(Op::Truncate, None, None));
                            emptied = true;
                        }
                        2..=5 if which < after.len() => {
                            let (from, was, place) = after[which];
                            after[which] = (key, was, places);
                            told.push(Entry { was: at(place), now: at(places), ..e(Op::Update, Some(from), Some(key)) });
                        }
                        _ => {}
                    }
                }
                let mut unique: Vec<i64> = after.iter().map(|r| r.0).collect();
                unique.sort();
                unique.dedup();
                // else it is refused at its commit
                if unique.len() == after.len() {
                    rows = after;
                    log.extend(told);
                    truncated |= emptied;
                }
            }
            let folded = fold(&log);
            prop_assert_eq!(folded.truncated, truncated);
            let mentioned: Vec<Key> = folded.keys.iter().map(|(k, _)| k.clone()).collect();
            for (key, origin) in folded.keys {
                let Value::Int(i) = key.values()[0] else { unreachable!() };
                let Some((_, was, _)) = rows.iter().find(|r| r.0 == i) else { continue };
                match was {
                    None => prop_assert_eq!(origin, Origin::Reborn),
                    Some(was) if *was == i => prop_assert_eq!(origin, Origin::Kept),
                    Some(was) => prop_assert_eq!(origin, Origin::MovedFrom(k(*was))),
                }
            }
            if !truncated {
                let untouched = |r: &&(i64, Option<i64>, u64)| r.1 == Some(r.0);
                prop_assert!(rows.iter().filter(|r| !mentioned.contains(&k(r.0))).all(|r| untouched(&r)));
            }
        }
    }
}

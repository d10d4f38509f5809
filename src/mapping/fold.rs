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

/// Folds one table's entries, oldest first.
pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Folded {
    let mut truncated = false;
    let mut order: Vec<Key> = Vec::new();
    // Under each key, the rows that are there now; more than one only while a deferred unique constraint lets them be.
    let mut rows: HashMap<Key, VecDeque<Row>> = HashMap::new();
    for e in entries {
        if e.op == Op::Truncate {
            truncated = true;
            rows.clear();
            order.clear();
            continue;
        }
        let leaving = e.before.as_ref().map(|k| {
            let was = if truncated { Row::Born } else { Row::Was(k.clone()) };
            let here = rows.entry(k.clone()).or_insert_with(|| {
                order.push(k.clone());
                VecDeque::from([was])
            });
            if e.op == Op::Doubt { Row::Born } else { here.pop_front().unwrap_or(Row::Born) }
        });
        if let Some(k) = &e.after {
            let here = rows.entry(k.clone()).or_insert_with(|| {
                order.push(k.clone());
                VecDeque::new()
            });
            here.push_back(leaving.unwrap_or(Row::Born));
        }
    }
    let keys = order
        .into_iter()
        .map(|k| {
            let origin = match rows.get(&k).and_then(|r| r.front()) {
                Some(Row::Was(from)) if *from == k => Origin::Kept,
                Some(Row::Was(from)) => Origin::MovedFrom(from.clone()),
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
        Entry { table: 0, op, before: before.map(k), after: after.map(k) }
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
    }
}

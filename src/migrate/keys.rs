//! Rows born on the target get a key of the source's on their way back, by the source's own rule: the next number (P10).

use std::collections::{HashMap, HashSet};

use crate::mapping::fold::{Origin, fold};
use crate::mapping::{Way, convert};
use crate::plan::{Codec, KeyForm, KeyMap, Pair, Plan, Table, TablePlan};
use crate::store::{self, Position, Store};
use crate::value::{Key, Row, Value};

use super::Result;
use super::drain::Changes;

/// Makes up the keys that these changes need and that no one knows yet; the plan knows them from here on, and the caller keeps them in
/// the transaction that writes the rows. Within that transaction.
pub(super) fn make_up(source: &mut dyn Store, plan: &Plan, changes: &[Changes]) -> Result<Vec<Pair>> {
    let mut made = Vec::new();
    // by table of the source, of which several may be slices: the next number, and those that rows of this set keep
    let mut next: HashMap<&str, i64> = HashMap::new();
    let mut kept: HashSet<(&str, Key)> = HashSet::new();
    for c in changes {
        let t = &plan.tables[c.table];
        let Some((codec, map)) = own_keys(t) else { continue };
        let unpaired = c.rows.iter().filter(|(_, _, row)| row.is_some()).filter_map(|(key, ..)| {
            let value = key.values().into_iter().next()?.into_owned();
            let by_itself = convert::down(codec, &value).ok();
            let known = map.source_of(&value).is_some()
                || by_itself.is_some() && matches!(codec, Codec::Key { form: KeyForm::Uuid { .. }, .. });
            (!known).then(|| (value, by_itself.map(|v| Key::of(&[v]))))
        });
        let unpaired: Vec<_> = unpaired.collect();
        // a number that nobody has may be another's, or be given by the table itself
        let there = here(source, &t.source, &unpaired)?;
        let unknown: Vec<_> =
            unpaired.into_iter().filter(|(_, key)| key.as_ref().is_none_or(|k| !there.contains(k))).collect();
        if unknown.is_empty() {
            continue;
        }
        // of one that the application gave it is the row's own, as long as nobody else has it
        let own = !t.source.columns[t.source.key[0]].identity;
        let taken = if own { here(source, &t.source.whole(), &unknown)? } else { HashSet::new() };
        let of_it = || plan.tables.iter().filter(|x| x.source.name == t.source.name).filter_map(own_keys);
        for (value, by_itself) in unknown {
            if let Some(key) = by_itself.filter(|key| own && !taken.contains(key))
                && let [Value::Int(number)] = key.values()[..]
                && of_it().all(|(_, map)| map.target_of(&Value::Int(number)).is_none())
                && kept.insert((&t.source.name, key.clone()))
            {
                next.entry(&t.source.name).and_modify(|n| *n = (*n).max(number + 1));
                continue;
            }
            let number = match next.get(t.source.name.as_str()) {
                Some(n) => *n,
                None => {
                    let sources = Way::Down.receivers(plan);
                    // rows may have been given greater ones by hand
                    source.raise_high_water(&sources, &vec![None; sources.len()])?;
                    let given = source.high_water(&sources)?.get(c.table).copied().flatten();
                    let of_set = kept
                        .iter()
                        .filter(|(name, _)| *name == t.source.name)
                        .filter_map(|(_, key)| if let [Value::Int(n)] = key.values()[..] { Some(n) } else { None });
                    1 + of_it().filter_map(|(_, map)| map.highest()).chain(of_set).max().max(given).unwrap_or(0)
                }
            };
            next.insert(&t.source.name, number + 1);
            let pair = Pair::new(&map.table, &Value::Int(number), &value);
            map.add(&pair);
            made.push(pair);
        }
    }
    Ok(made)
}

/// The pairs whose rows are in the source since before it was opened at `from`: a number that was free then is another row's by now, or
/// will be. Within a transaction.
pub(super) fn living(source: &mut dyn Store, plan: &Plan, from: Option<&Position>) -> Result<Vec<Pair>> {
    let mut out = plan.known();
    if out.is_empty() {
        return Ok(out);
    }
    let log = match from.map(|from| source.log_since(&plan.source_tables(), from)) {
        Some(Ok((log, _))) => log,
        None | Some(Err(store::Error::Capture { .. })) => Vec::new(),
        Some(Err(e)) => return Err(e.into()),
    };
    for (i, t) in plan.tables.iter().enumerate() {
        let Some((_, map)) = own_keys(t) else { continue };
        let born = fold(log.iter().filter(|e| e.table == i)).keys.into_iter().filter(|(_, o)| *o != Origin::Kept);
        let born: HashSet<Key> = born.map(|(key, _)| key).collect();
        let keys = map.sources();
        let rows = source.fetch(&t.source, &keys)?;
        let there = keys.into_iter().zip(rows).filter_map(|(k, row)| row.map(|_| k)).filter(|k| !born.contains(k));
        let there: HashSet<Key> = there.collect();
        out.retain(|pair| pair.table != map.table || pair.source_key().is_some_and(|k| there.contains(&k)));
    }
    Ok(out)
}

/// Which of these keys a table has.
fn here(source: &mut dyn Store, table: &Table, of: &[(Value<'_>, Option<Key>)]) -> Result<HashSet<Key>> {
    let keys: Vec<Key> = of.iter().filter_map(|(_, key)| key.clone()).collect();
    let key_of = |row: Row| Key::of_row(&row, &table.key);
    Ok(source.fetch(table, &keys)?.into_iter().flatten().map(key_of).collect())
}

/// The codec and the map of a table's own keys; not of keys of another that they refer to.
fn own_keys(t: &TablePlan) -> Option<(&Codec, &KeyMap)> {
    let [at] = t.target.key.as_slice() else { return None };
    let codec = &t.codecs[*at].codec;
    let map = codec.key_map()?;
    (map.table == t.source.name || map.table == t.target.name).then_some((codec, map))
}

/// How far the giver's numbers have come, as the receiver counts: where keys become others it counts by itself on the way back.
pub(super) fn marks(way: Way, plan: &Plan, marks: Vec<Option<i64>>) -> Vec<Option<i64>> {
    let one = |(t, mark): (&TablePlan, Option<i64>)| match (own_keys(t), way) {
        (None, _) => mark,
        (Some((codec, _)), Way::Up) => match convert::up(codec, &Value::Int(mark?)) {
            Ok(Value::Int(i)) => Some(i),
            _ => None,
        },
        (Some(_), Way::Down) => None,
    };
    plan.tables.iter().zip(marks).map(one).collect()
}

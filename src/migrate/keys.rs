//! Rows born on the target get a key of the source's on their way back, by the source's own rule: the next number (P10).

use std::collections::HashMap;

use crate::mapping::{Way, convert};
use crate::plan::{Codec, KeyForm, KeyMap, Pair, Plan, TablePlan};
use crate::store::Store;
use crate::value::{Key, Value};

use super::Result;
use super::drain::Changes;

/// Makes up the keys that these changes need and that no one knows yet; the plan knows them from here on, and the caller keeps them in
/// the transaction that writes the rows. Within that transaction.
pub(super) fn make_up(source: &mut dyn Store, plan: &Plan, changes: &[Changes]) -> Result<Vec<Pair>> {
    let mut made = Vec::new();
    // by table of the source, of which several may be slices
    let mut next: HashMap<&str, i64> = HashMap::new();
    for c in changes {
        let t = &plan.tables[c.table];
        let Some((codec, map)) = own_keys(t) else { continue };
        for (key, _, row) in &c.rows {
            let values = key.values();
            let (Some(_), [value]) = (row, values.as_slice()) else { continue };
            if let Ok(known) = convert::down(codec, value)
                && (map.source_of(value).is_some()
                    || matches!(codec, Codec::Key { form: KeyForm::Uuid { .. }, .. })
                    // a number that nobody has may be another's, or be given by the table itself
                    || source.fetch(&t.source, &[Key::of(&[known])])?.iter().any(Option::is_some))
            {
                continue;
            }
            let number = match next.get(t.source.name.as_str()) {
                Some(n) => *n,
                None => {
                    let sources = Way::Down.receivers(plan);
                    // rows may have been given greater ones by hand
                    source.raise_high_water(&sources, &vec![None; sources.len()])?;
                    let given = match source.high_water(&sources)?.get(c.table).copied().flatten() {
                        None if !t.source.columns.iter().any(|c| c.identity) => source.greatest(&t.source)?,
                        given => given,
                    };
                    let of_it = plan.tables.iter().filter(|x| x.source.name == t.source.name).filter_map(own_keys);
                    1 + of_it.filter_map(|(_, map)| map.highest()).max().max(given).unwrap_or(0)
                }
            };
            next.insert(&t.source.name, number + 1);
            let pair = Pair::new(&map.table, &Value::Int(number), value);
            map.add(&pair);
            made.push(pair);
        }
    }
    Ok(made)
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

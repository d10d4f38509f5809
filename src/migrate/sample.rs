//! Some rows of a table, chosen all over it, so that a look at a large table stays short. The same seed chooses the same ones.

use crate::mapping::{Way, map_key};
use crate::plan::TablePlan;
use crate::store::Store;
use crate::value::{Batch, Key, values_of};

use super::{Error, Result};

/// Keys, as the target has them, of about `rows` rows of the giver of `way`: one somewhere in each of as many equal stretches of it.
/// Also what keys do not map.
///
/// The giver's rows are passed over in its own order; only those chosen are decoded.
pub(super) fn keys(
    store: &mut dyn Store,
    way: Way,
    t: &TablePlan,
    rows: u64,
    seed: u64,
    stopped: &dyn Fn() -> bool,
) -> Result<(Vec<Key>, Vec<String>)> {
    let table = way.giver(t);
    let mut chosen = places(store.count(table)?, rows, seed).into_iter().peekable();
    let (mut out, mut misfits) = (Vec::new(), Vec::new());
    let (mut batch, mut after, mut place) = (Batch::default(), Vec::new(), 0u64);
    let staying = if way == Way::Up { t.staying() } else { Default::default() };
    while chosen.peek().is_some() {
        if stopped() {
            return Err(Error::Stopped);
        }
        batch.clear();
        let next = store.scan(table, &after, 20_000, &mut batch)?;
        for bytes in batch.encoded() {
            if chosen.next_if_eq(&place).is_some() {
                let key = Key::of_row(&values_of(bytes), &table.key);
                match if staying.contains(&key) {
                    place += 1;
                    continue;
                } else if way == Way::Up {
                    map_key(Way::Up, t, &key)
                } else {
                    Ok(key)
                } {
                    Ok(key) => out.push(key),
                    Err(m) => misfits.push(m.to_string()),
                }
            }
            place += 1;
        }
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok((out, misfits))
}

/// Where: ascending, each once.
fn places(count: u64, rows: u64, seed: u64) -> Vec<u64> {
    let rows = rows.min(count);
    // splitmix64
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let stretch = |n: u64| u64::try_from(u128::from(n) * u128::from(count) / u128::from(rows)).unwrap_or(count);
    (0..rows).map(|n| stretch(n) + random() % (stretch(n + 1) - stretch(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn a_sample_is_all_over_the_table_and_the_same_for_the_same_seed() {
        let some = places(1_000_000, 100, 7);
        assert_eq!(some.len(), 100);
        assert!(some.iter().zip(0..).all(|(p, n)| p / 10_000 == n), "{some:?}");
        assert_eq!(some, places(1_000_000, 100, 7));
        assert_ne!(some, places(1_000_000, 100, 8));
        assert_eq!(places(3, 100, 7), [0, 1, 2]);
        assert!(places(0, 100, 7).is_empty());
    }
}

//! Keys that become others: what pairs a run knows beyond those that follow from the keys themselves (P10).

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};

use super::{Codec, Plan};
use crate::value::{Key, Value};

/// How a target key follows from a source key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum KeyForm {
    /// An integer in a UUID of version 8, beside a hash of it and of `space`.
    Uuid {
        /// What tells this table's keys from those of others.
        space: String,
    },
    /// An integer, and `by` more than it.
    Shift {
        /// What is added.
        by: i64,
        /// The greatest source key there is room for.
        most: i64,
    },
}

/// The pairs of one table's keys, shared by all columns that hold such keys. A plan writes down its name alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyMap {
    /// The table, as the source names it.
    pub table: String,
    #[serde(skip)]
    pairs: Arc<RwLock<Pairs>>,
}

#[derive(Debug, Default)]
struct Pairs {
    target_of: HashMap<Vec<u8>, Value<'static>>,
    source_of: HashMap<Vec<u8>, Value<'static>>,
}

impl PartialEq for KeyMap {
    fn eq(&self, other: &KeyMap) -> bool {
        self.table == other.table
    }
}

impl Eq for KeyMap {}

/// A row born on the target, and the source key that it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The table, as the source names it.
    pub table: String,
    /// Its key there, encoded, in hexadecimal.
    pub source: String,
    /// Its key in the target, likewise.
    pub target: String,
}

fn encoded(v: &Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    v.encode(&mut out);
    out
}

impl KeyMap {
    /// A map of this table's keys that knows no pair yet.
    pub fn of(table: &str) -> KeyMap {
        KeyMap { table: table.to_owned(), pairs: Arc::default() }
    }

    fn read<T>(&self, look: impl FnOnce(&Pairs) -> T) -> T {
        look(&self.pairs.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The target key that was paired with this one.
    pub fn target_of(&self, source: &Value<'_>) -> Option<Value<'static>> {
        self.read(|p| if p.target_of.is_empty() { None } else { p.target_of.get(&encoded(source)).cloned() })
    }

    /// The source key that was paired with this one.
    pub fn source_of(&self, target: &Value<'_>) -> Option<Value<'static>> {
        self.read(|p| if p.source_of.is_empty() { None } else { p.source_of.get(&encoded(target)).cloned() })
    }

    /// The greatest source key of a pair, where they are integers.
    pub fn highest(&self) -> Option<i64> {
        self.read(|p| p.source_of.values().filter_map(|v| if let Value::Int(i) = v { Some(*i) } else { None }).max())
    }

    /// The source keys of all pairs.
    pub fn sources(&self) -> Vec<Key> {
        self.read(|p| p.source_of.values().map(|v| Key::of([v])).collect())
    }

    /// Remembers a pair.
    pub fn add(&self, pair: &Pair) {
        let value = |hex: &str| {
            let bytes = crate::value::unhex(hex).unwrap_or_default();
            Value::decode(&mut bytes.as_slice()).map(Value::into_owned)
        };
        if let (Some(source), Some(target)) = (value(&pair.source), value(&pair.target)) {
            let mut pairs = self.pairs.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            pairs.target_of.insert(encoded(&source), target.clone());
            pairs.source_of.insert(encoded(&target), source);
        }
    }

    fn all(&self) -> Vec<Pair> {
        let pair = |(target, source): (&Vec<u8>, &Value<'_>)| Pair {
            table: self.table.clone(),
            source: crate::value::hex(&encoded(source)),
            target: crate::value::hex(target),
        };
        self.read(|p| p.source_of.iter().map(pair).collect())
    }

    fn clear(&self) {
        *self.pairs.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Pairs::default();
    }
}

impl Pair {
    /// The key in the target, if it is an integer.
    pub fn target_number(&self) -> Option<i64> {
        let bytes = crate::value::unhex(&self.target)?;
        match Value::decode(&mut bytes.as_slice()) {
            Some(Value::Int(i)) => Some(i),
            _ => None,
        }
    }

    /// The key in the source.
    pub fn source_key(&self) -> Option<Key> {
        let bytes = crate::value::unhex(&self.source)?;
        Some(Key::of(&[Value::decode(&mut bytes.as_slice())?]))
    }

    /// A pair of keys of one column each.
    pub fn new(table: &str, source: &Value<'_>, target: &Value<'_>) -> Pair {
        let hex = |v: &Value<'_>| crate::value::hex(&encoded(v));
        Pair { table: table.to_owned(), source: hex(source), target: hex(target) }
    }
}

impl Plan {
    /// All columns that hold keys of one table share its map from here on; and these are the pairs.
    pub fn know(&mut self, pairs: &[Pair]) {
        let mut maps: HashMap<String, KeyMap> = HashMap::new();
        for column in self.tables.iter_mut().flat_map(|t| &mut t.codecs) {
            if let Codec::Key { map, .. } = &mut column.codec {
                let shared = maps.entry(map.table.clone()).or_insert_with(|| KeyMap::of(&map.table));
                *map = shared.clone();
            }
        }
        for pair in pairs {
            if let Some(map) = maps.get(&pair.table) {
                map.add(pair);
            }
        }
    }

    /// The pairs that it knows.
    pub fn known(&self) -> Vec<Pair> {
        let mut maps: Vec<&KeyMap> = Vec::new();
        for map in self.tables.iter().flat_map(|t| &t.codecs).filter_map(|c| c.codec.key_map()) {
            if !maps.contains(&map) {
                maps.push(map);
            }
        }
        maps.into_iter().flat_map(KeyMap::all).collect()
    }

    /// Forgets what it knows, and knows these.
    pub fn know_again(&self, pairs: &[Pair]) {
        let maps = || self.tables.iter().flat_map(|t| &t.codecs).filter_map(|c| c.codec.key_map());
        maps().for_each(KeyMap::clear);
        for pair in pairs {
            if let Some(map) = maps().find(|m| m.table == pair.table) {
                map.add(pair);
            }
        }
    }
}

impl Codec {
    /// The map of the keys that a column holds, if they become others.
    pub fn key_map(&self) -> Option<&KeyMap> {
        if let Codec::Key { map, .. } = self { Some(map) } else { None }
    }
}

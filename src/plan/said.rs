//! Columns that change by SQL of their store: what it has said of each value.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Codec, ColumnPlan, Plan, TablePlan};
use crate::value::Value;

/// What an expression makes of a value, or why it makes nothing of it.
pub type Made = Result<Value<'static>, String>;

/// Asks the store what the expression of a way (`true`: up) makes of each of these values. An error says why it could not be asked.
pub type Teller = Box<dyn FnMut(bool, &[Value<'static>]) -> Result<Vec<Made>, String> + Send>;

/// So many bytes are remembered, and then all are forgotten: what is asked for again is asked anew.
const MOST: usize = 64 << 20;
/// So many values are asked for at a time.
const AT_ONCE: usize = 5000;

/// What a store has said of a column's values. All clones share it; a plan writes nothing of it down.
#[derive(Clone, Default)]
pub struct Said(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    teller: Option<Teller>,
    /// By way (up: 1) and value.
    known: [HashMap<Vec<u8>, Made>; 2],
    bytes: usize,
    failed: Option<String>,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Said")
    }
}

impl PartialEq for Said {
    fn eq(&self, _: &Said) -> bool {
        true
    }
}

impl Eq for Said {}

fn encoded(v: &Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    v.encode(&mut out);
    out
}

impl Said {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom it asks from here on.
    pub fn by(&self, teller: Teller) {
        self.heard().teller = Some(teller);
    }

    /// What becomes of a value.
    ///
    /// # Errors
    /// Why nothing becomes of it; or why the store could not be asked, which [`Plan::unheard`] tells apart.
    pub fn of(&self, up: bool, value: &Value<'_>) -> Made {
        let (mut heard, bytes) = (self.heard(), encoded(value));
        if let Some(known) = heard.known[usize::from(up)].get(&bytes) {
            return known.clone();
        }
        let made = heard.ask(up, vec![value.clone().into_owned()])?;
        made.into_iter().next().unwrap_or_else(|| Err("the store said nothing".into()))
    }

    /// Asks for all of these at a time, and returns what became of those of which something does.
    pub fn learn(&self, up: bool, values: Vec<Value<'static>>) -> Vec<Value<'static>> {
        let (mut heard, mut out) = (self.heard(), Vec::new());
        let mut unknown: HashMap<Vec<u8>, Value<'static>> = HashMap::new();
        for value in values {
            let bytes = encoded(&value);
            match heard.known[usize::from(up)].get(&bytes) {
                Some(known) => out.extend(known.clone().ok()),
                None => drop(unknown.insert(bytes, value)),
            }
        }
        let mut left: Vec<Value<'static>> = unknown.into_values().collect();
        while !left.is_empty() {
            let some = left.split_off(left.len().saturating_sub(AT_ONCE));
            match heard.ask(up, some) {
                Ok(made) => out.extend(made.into_iter().filter_map(Result::ok)),
                // whoever needs one asks for it again
                Err(_) => return out,
            }
        }
        out
    }
}

impl Heard {
    fn ask(&mut self, up: bool, values: Vec<Value<'static>>) -> Result<Vec<Made>, String> {
        let asked = match &mut self.teller {
            Some(teller) => teller(up, &values),
            None => Err("no store was given for it".into()),
        };
        let made = asked.map_err(|why| {
            let why = format!("the store could not be asked what becomes of a value: {why}");
            self.failed = Some(why.clone());
            why
        })?;
        if self.bytes > MOST {
            self.known.iter_mut().for_each(HashMap::clear);
            self.bytes = 0;
        }
        for (value, made) in values.iter().zip(&made) {
            let key = encoded(value);
            self.bytes += 2 * key.len() + 64;
            self.known[usize::from(up)].insert(key, made.clone());
        }
        Ok(made)
    }
}

impl Plan {
    /// Gives each column that changes by SQL somebody to ask, whom `teller` makes: for a column of a table, by its position, and its
    /// `up` and `down`.
    pub fn ask(&self, teller: impl Fn(&TablePlan, usize, &str, &str) -> Teller) {
        for t in &self.tables {
            for (i, c) in t.codecs.iter().enumerate() {
                if let Codec::Sql { up, down, said, .. } = &c.codec {
                    said.by(teller(t, i, up, down));
                }
            }
        }
    }

    /// Why the store could not be asked, if that happened since the last call: what was taken for a value that does not fit
    /// may be none.
    pub fn unheard(&self) -> Option<String> {
        let failed = |c: &ColumnPlan| match &c.codec {
            Codec::Sql { said, .. } => said.heard().failed.take(),
            _ => None,
        };
        self.tables.iter().flat_map(|t| &t.codecs).filter_map(failed).fold(None, |_, why| Some(why))
    }
}

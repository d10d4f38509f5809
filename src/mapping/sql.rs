//! Columns that change by SQL of their store. What the store says of a value is asked by `plan::Said`; what follows from it is here.

use super::Way;
use super::convert::plain;
use crate::plan::{Codec, Plan, Said, TablePlan};
use crate::value::Value;

/// How a column's expressions are taken.
pub(super) struct Rule<'c> {
    /// What the store says.
    pub said: &'c Said,
    /// No two values may become one.
    pub exact: bool,
    /// The target's values are numbers as text, where 1.10 and 1.1 are one.
    pub numeric: bool,
}

impl Rule<'_> {
    /// The target value. What comes back of it need not be spelled as it was, but it must mean the same: become the same again.
    pub fn up(&self, value: &Value<'_>) -> Result<Value<'static>, String> {
        let target = self.said.of(true, value).map_err(|why| format!("`up` fails: {why}"))?;
        if let (Value::Text(t), Value::Date(_) | Value::Timestamp(_) | Value::TimestampTz(_)) = (value, &target)
            && ["now", "today", "tomorrow", "yesterday"]
                .iter()
                .any(|w| t.trim_ascii().eq_ignore_ascii_case(w.as_bytes()))
        {
            return Err("it means another time whenever it is read".into());
        }
        let back = self.said.of(false, &target);
        let back = back.map_err(|why| format!("`up` makes {target} of it, for which `down` fails: {why}"))?;
        if back == *value {
            return Ok(target);
        }
        if !value.is_null() && (target.is_null() || back.is_null()) {
            return Err(format!("`up` makes {target} of it, and `down` of that {back}"));
        }
        if self.exact {
            return Err(format!(
                "`up` makes {target} of it, and `down` of that {back}; in a unique index no two values may become one"
            ));
        }
        match self.said.of(true, &back) {
            Ok(again) if self.same(&again, &target) => Ok(target),
            Ok(again) => Err(format!("`up` makes {target} of it, `down` of that {back}, and of that `up` {again}")),
            Err(why) => Err(format!("`up` makes {target} of it, `down` of that {back}, for which `up` fails: {why}")),
        }
    }

    /// The source value, which has to become this again.
    pub fn down(&self, value: &Value<'_>) -> Result<Value<'static>, String> {
        let source = self.said.of(false, value).map_err(|why| format!("`down` fails: {why}"))?;
        match self.said.of(true, &source) {
            Ok(again) if self.same(&again, value) => Ok(source),
            Ok(again) => Err(format!("`down` makes {source} of it, and `up` of that {again}")),
            Err(why) => Err(format!("`down` makes {source} of it, for which `up` fails: {why}")),
        }
    }

    /// A source value as `down` says it.
    pub fn canon<'a>(&self, value: Value<'a>) -> Value<'a> {
        self.said.of(true, &value).and_then(|target| self.said.of(false, &target)).unwrap_or(value)
    }

    fn same(&self, one: &Value<'_>, other: &Value<'_>) -> bool {
        one == other
            || self.numeric
                && match (one, other) {
                    (Value::Text(a), Value::Text(b)) => plain(a).is_some_and(|a| Some(a) == plain(b)),
                    _ => false,
                }
    }
}

/// Has the store say in one go what these rows of one side will need. `column` gives the values of a column, by its position.
pub fn ahead(way: Way, t: &TablePlan, column: impl Fn(usize) -> Vec<Value<'static>>) {
    for (i, c) in t.codecs.iter().enumerate() {
        if let Codec::Sql { said, .. } = &c.codec {
            said_ahead(said, way, column(i));
        }
    }
}

/// The same for values of one column.
pub fn said_ahead(said: &Said, way: Way, values: Vec<Value<'static>>) {
    let up = way == Way::Up;
    let there = said.learn(up, values);
    let back = said.learn(!up, there);
    said.learn(up, back);
}

/// Has whoever will be asked be there, before anyone waits for it.
pub fn warm(plan: &Plan) {
    for t in &plan.tables {
        ahead(Way::Up, t, |_| vec![Value::Null]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::convert;

    fn codec(numeric: bool) -> (Codec, Said) {
        let said = Said::default();
        (Codec::Sql { up: "u".into(), down: "d".into(), exact: false, numeric, said: said.clone() }, said)
    }

    #[test]
    fn a_store_that_could_not_be_asked_is_asked_again() {
        let (codec, said) = codec(false);
        let text = Value::text("a");
        said.by(Box::new(|_, _| Err("it is away".into())));
        assert!(convert::up(&codec, &text).unwrap_err().contains("it is away"));
        said.learn(true, vec![text.clone()]);
        said.by(Box::new(|_, values| Ok(values.iter().cloned().map(Ok).collect())));
        assert_eq!(convert::up(&codec, &text), Ok(text));
    }

    #[test]
    fn numbers_are_one_however_they_are_written_and_texts_are_not() {
        // up gives two digits after the point, and down none
        let say = |up: bool, values: &[Value<'static>]| {
            let one = |v: &Value<'static>| {
                let text = v.to_string();
                let whole = text.trim_matches('\'').split('.').next().unwrap_or_default();
                Ok(Value::text(if up { format!("{whole}.00") } else { whole.to_owned() }))
            };
            Ok(values.iter().map(one).collect())
        };
        for (numeric, value, back) in
            [(true, "5.0", true), (false, "5.0", false), (true, "5.1", false), (false, "5.00", true)]
        {
            let (codec, said) = codec(numeric);
            said.by(Box::new(say));
            assert_eq!(convert::down(&codec, &Value::text(value)).is_ok(), back, "{value} {numeric}");
        }
    }
}

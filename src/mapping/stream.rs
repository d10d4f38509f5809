//! Rows by the million: encoded bytes in, encoded bytes out, without a value in between where a column goes as it is.
//!
//! What a [`Stream`] says is what [`map_row`] says; whatever it is not sure of, it asks `map_row`.

use crate::plan::{Codec, Kind, TablePlan};
use crate::value::{Key, Value, tag, values_of};

use super::{Misfit, Way, convert, map_row, plain_text, up_exact};

/// Maps the rows of one table, one way.
pub struct Stream<'p> {
    way: Way,
    table: &'p TablePlan,
    lanes: Vec<Lane>,
    /// What the receiver could not hold need not be told from what it does not hold.
    trusting: bool,
    /// Where each column of the last row ends, as it came and as it went.
    came: Vec<usize>,
    went: Vec<usize>,
}

/// How a column's values go.
enum Lane {
    /// Values of this tag go as they are, text being UTF-8 without NUL and of at most so many characters.
    Plain { tag: u8, most: usize },
    /// Every value goes as it is, but for a negative zero, of which `map_row` knows.
    Verbatim,
    /// Text that is a JSON document ↔ json: the same bytes under another tag.
    Json,
    /// Through the codec, and tried back.
    Exact,
    /// Through the codec alone.
    Trusted,
}

impl<'p> Stream<'p> {
    /// Every row it gives comes back as it was, or is a [`Misfit`].
    pub fn exact(way: Way, table: &'p TablePlan) -> Stream<'p> {
        let lanes = (0..table.codecs.len()).map(|i| Lane::of(way, table, i)).collect();
        Stream { way, table, lanes, trusting: false, came: Vec::new(), went: Vec::new() }
    }

    /// For sums over both sides, which are looked at only together: what would be a [`Misfit`] may come out as a row that the other
    /// side does not have. On the way up text is not looked through, for no target holds text that it does not take. On the way
    /// down a value is not tried back: where the sums of all rows agree, as the target has them and as the source has them,
    /// t = up(s) and down(t) = s, so that up(down(t)) = t need not be asked of each.
    pub fn summed(way: Way, table: &'p TablePlan) -> Stream<'p> {
        let mut stream = Stream::exact(way, table);
        stream.trusting = true;
        if way == Way::Down {
            for (lane, c) in stream.lanes.iter_mut().zip(&table.codecs) {
                // what may be said in several ways, of which `canon` makes one, is tried all the same
                if matches!(lane, Lane::Exact) && c.codec.is_plain() && !c.codec.is_loose() {
                    *lane = Lane::Trusted;
                }
            }
        }
        stream
    }

    /// Maps a row, appending its encoding to `out`.
    ///
    /// # Errors
    /// [`Misfit`], as for [`map_row`]; `out` is as it was.
    pub fn map(&mut self, row: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
        let start = out.len();
        if self.quick(row, out).is_some() {
            return Ok(());
        }
        out.truncate(start);
        self.came.clear();
        self.went.clear();
        let (values, mut at) = (values_of(row), Vec::new());
        let mapped = map_row(self.way, self.table, &values, None)?;
        for (v, m) in values.iter().zip(&mapped) {
            v.encode(&mut at);
            m.encode(out);
            self.came.push(at.len());
            self.went.push(out.len() - start);
        }
        Ok(())
    }

    fn quick(&mut self, row: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.came.clear();
        self.went.clear();
        let (start, mut rest) = (out.len(), row);
        for (i, lane) in self.lanes.iter().enumerate() {
            let before = rest;
            let value = Value::decode(&mut rest)?;
            let bytes = &before[..before.len() - rest.len()];
            let begun = out.len();
            match (lane, &value) {
                (Lane::Verbatim, Value::Real(r)) if self.way == Way::Down && r.to_bits() == (-0.0f64).to_bits() => {
                    return None;
                }
                (Lane::Verbatim, _) => out.extend_from_slice(bytes),
                (Lane::Plain { .. } | Lane::Json, Value::Null) => out.push(tag::NULL),
                (Lane::Plain { tag, most }, v) if bytes[0] == *tag => {
                    if let (Value::Text(t), false) = (v, self.trusting) {
                        short_text(t, *most)?;
                    }
                    out.extend_from_slice(bytes);
                }
                (Lane::Json, Value::Text(t)) if self.way == Way::Up => {
                    if !self.trusting {
                        let text = plain_text(t)?;
                        serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
                    }
                    out.push(tag::JSON);
                    out.extend_from_slice(&bytes[1..]);
                }
                (Lane::Json, Value::Json(_)) if self.way == Way::Down => {
                    out.push(tag::TEXT);
                    out.extend_from_slice(&bytes[1..]);
                }
                (Lane::Exact, v) if self.way == Way::Up => {
                    up_exact(&self.table.codecs[i], self.table.to, &self.table.target.columns[i].ty, v)
                        .ok()?
                        .encode(out);
                }
                (Lane::Trusted, v) => convert::down(&self.table.codecs[i].codec, v).ok()?.encode(out),
                _ => return None,
            }
            // a member that is required, and not there
            if out.get(begun) == Some(&tag::NULL) && self.way == Way::Up && self.table.target.columns[i].not_null {
                return None;
            }
            self.came.push(row.len() - rest.len());
            self.went.push(out.len() - start);
        }
        rest.is_empty().then_some(())
    }

    /// The target's key of the row that was mapped last, given its target form.
    pub fn key<'k>(&self, row: &'k [u8], spare: &'k mut Vec<u8>) -> &'k [u8] {
        let ends = if self.way == Way::Up { &self.went } else { &self.came };
        let field = |c: usize| &row[if c == 0 { 0 } else { ends[c - 1] }..ends[c]];
        match self.table.target.key.as_slice() {
            [one] => field(*one),
            several => {
                spare.clear();
                several.iter().for_each(|&c| spare.extend_from_slice(field(c)));
                spare
            }
        }
    }

    /// The giver's key of a row as it came, for what is said of a misfit.
    pub fn given_key(&self, row: &[u8]) -> Key {
        Key::of_row(&values_of(row), &self.way.giver(self.table).key)
    }
}

impl Lane {
    fn of(way: Way, t: &TablePlan, i: usize) -> Lane {
        let (codec, ty) = (&t.codecs[i].codec, t.target.columns[i].ty.as_str());
        let plain = |tag, most| Lane::Plain { tag, most };
        match codec {
            Codec::Verbatim => Lane::Verbatim,
            Codec::JsonText => Lane::Json,
            // other pairs have types of which this knows nothing
            Codec::Same if (t.from, t.to) == (Kind::Sqlite, Kind::Postgres) => match ty {
                "bigint" => plain(tag::INT, 0),
                "bytea" => plain(tag::BLOB, 0),
                // a double that comes back may be one that SQLite does not keep
                "double precision" if way == Way::Up => plain(tag::REAL, 0),
                "text" => plain(tag::TEXT, usize::MAX),
                ty => match ty.strip_prefix("character varying(").and_then(|n| n.trim_end_matches(')').parse().ok()) {
                    Some(most) => plain(tag::TEXT, most),
                    None => Lane::Exact,
                },
            },
            _ => Lane::Exact,
        }
    }
}

/// The text, if it is one that every store takes, and not too long.
fn short_text(t: &[u8], most: usize) -> Option<&str> {
    let text = plain_text(t)?;
    (t.len() <= most || text.chars().count() <= most).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::canon_source;
    use crate::plan::{Affinity, Column, ColumnPlan, Fraction, Spelling, Table, TimeFormat, Zone};
    use crate::value::encode_row;
    use proptest::prelude::*;

    fn columns() -> Vec<(Codec, &'static str, &'static str)> {
        let format = TimeFormat { t: false, fraction: Fraction::SixOrNone, zone: Zone::None };
        vec![
            (Codec::Same, "INTEGER", "bigint"),
            (Codec::Same, "INTEGER", "smallint"),
            (Codec::Same, "REAL", "double precision"),
            (Codec::Same, "TEXT", "text"),
            (Codec::Same, "VARCHAR(4)", "character varying(4)"),
            (Codec::Same, "BLOB", "bytea"),
            (Codec::JsonText, "JSON", "json"),
            (Codec::Timestamp { format }, "DATETIME", "timestamp"),
            (Codec::Flag { yes: Spelling::Int(1), no: Spelling::Int(0) }, "BOOLEAN", "boolean"),
            (Codec::AffinityText { affinity: Affinity::Integer }, "INT", "text"),
            (Codec::Real, "NUMERIC", "double precision"),
            (Codec::Verbatim, "NUMERIC", "NUMERIC"),
        ]
    }

    fn plan() -> TablePlan {
        let (source, target) = (Table::default(), Table::default());
        let (from, to) = (Kind::Sqlite, Kind::Postgres);
        let mut t = TablePlan { source, target, codecs: Vec::new(), from, to, staying: Vec::new() };
        for (i, (codec, from, to)) in columns().into_iter().enumerate() {
            let column = |ty: &str| Column { name: format!("c{i}"), ty: ty.into(), ..Column::default() };
            t.source.columns.push(column(from));
            t.target.columns.push(column(to));
            t.codecs.push(ColumnPlan { codec, why: String::new() });
        }
        t.source = Table { name: "t".into(), key: vec![0], ..t.source };
        t.target = Table { name: "t".into(), key: vec![0, 3], ..t.target };
        t
    }

    fn value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            (0i64..2).prop_map(Value::Int),
            prop_oneof![Just(-0.0), any::<f64>()].prop_map(Value::Real),
            "[a-zé日\\x00]{0,6}".prop_map(Value::text),
            Just(Value::text("{\"a\": [1, 2]}")),
            Just(Value::text("2024-02-29 10:11:12.000013")),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(|b| Value::Text(b.into())),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(|b| Value::Blob(b.into())),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Timestamp),
            Just(Value::Json(b"[1]".as_slice().into())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn a_stream_says_what_map_row_says(column in 0..12usize, v in value(), down in any::<bool>()) {
            let (mut t, way) = (plan(), if down { Way::Down } else { Way::Up });
            for side in [&mut t.source, &mut t.target] {
                side.columns = vec![side.columns[column].clone()];
                side.key = vec![0];
            }
            t.codecs = vec![t.codecs[column].clone()];
            let row = encode_row(std::slice::from_ref(&v));
            let expected = map_row(way, &t, &values_of(&row), None);
            let mut out = b"before".to_vec();
            let said = Stream::exact(way, &t).map(&row, &mut out);
            match (&expected, said) {
                (Ok(m), Ok(())) => prop_assert_eq!(&out[6..], encode_row(m)),
                (Err(e), Err(said)) => {
                    prop_assert_eq!(e, &said);
                    prop_assert_eq!(out.as_slice(), b"before");
                }
                (e, said) => prop_assert!(false, "{e:?} but {said:?}"),
            }
            // trusted, it may only give more where the way up would not have given that value
            let mut out = Vec::new();
            if let (Ok(m), Ok(())) = (&expected, Stream::summed(way, &t).map(&row, &mut out)) {
                prop_assert_eq!(out, encode_row(m));
            }
        }
    }

    #[test]
    fn the_key_is_the_targets_whatever_the_way() {
        let mut t = plan();
        let row: Vec<Value<'_>> = (0..12).map(|i| if i == 0 { Value::Int(7) } else { Value::Null }).collect();
        let (row, mut out, mut spare) = (encode_row(&row), Vec::new(), Vec::new());
        let mut up = Stream::exact(Way::Up, &t);
        up.map(&row, &mut out).unwrap();
        let expected = encode_row(&[Value::Int(7), Value::Null]);
        assert_eq!(up.key(&out, &mut spare), expected);
        let mut canon = Vec::new();
        canon_source(&t, values_of(&row), &mut canon);
        assert_eq!(canon, row);
        t.target.key = vec![3];
        let mut down = Stream::summed(Way::Down, &t);
        let mut back = Vec::new();
        down.map(&out, &mut back).unwrap();
        assert_eq!((back, down.key(&out, &mut spare)), (row, &[0u8][..]));
    }
}

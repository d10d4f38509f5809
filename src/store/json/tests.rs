//! Properties of reading and editing, without files.

use proptest::collection::vec;
use proptest::prelude::*;

use super::check::check;
use super::document::Document;
use super::source::{Reader, Spool, Text};
use super::text::{decode, field, minify, splice};
use crate::plan::{Column, Details, Table};
use crate::store::Write;
use crate::value::{Key, Row, Value};

// ── a renderer like Python's and JavaScript's ──────────────────────────────────────────────────────────────────────

#[derive(Clone, Debug)]
enum J {
    Null,
    Bool(bool),
    Raw(&'static str),
    Int(i64),
    Str(String),
    List(Vec<J>),
    Map(Vec<(String, J)>),
}

#[derive(Clone, Debug)]
struct Manner {
    indent: Option<&'static str>,
    colon: &'static str,
    comma: &'static str,
    newline: &'static str,
    ascii: bool,
    slash: bool,
    /// Python 2 left the space after the comma at the end of the line.
    trail: bool,
    upper: bool,
    bom: bool,
    last: &'static str,
}

impl Manner {
    fn string(&self, s: &str, out: &mut String) {
        out.push('"');
        for c in s.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '/' if self.slash => out.push_str("\\/"),
                c if c < ' ' || (self.ascii && c > '~') => {
                    for u in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&if self.upper { format!("\\u{u:04X}") } else { format!("\\u{u:04x}") });
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }

    fn list(
        &self,
        n: usize,
        brackets: (char, char),
        level: usize,
        out: &mut String,
        each: &dyn Fn(usize, &mut String),
    ) {
        out.push(brackets.0);
        let line = |level: usize, out: &mut String| {
            if let Some(unit) = self.indent {
                out.push_str(self.newline);
                out.push_str(&unit.repeat(level));
            }
        };
        for i in 0..n {
            if i > 0 {
                out.push_str(if self.indent.is_some() && !self.trail { self.comma.trim_end() } else { self.comma });
            }
            line(level + 1, out);
            each(i, out);
        }
        if n > 0 {
            line(level, out);
        }
        out.push(brackets.1);
    }

    fn value(&self, j: &J, level: usize, out: &mut String) {
        match j {
            J::Null => out.push_str("null"),
            J::Bool(b) => out.push_str(&b.to_string()),
            J::Raw(r) => out.push_str(r),
            J::Int(i) => out.push_str(&i.to_string()),
            J::Str(s) => self.string(s, out),
            J::List(l) => self.list(l.len(), ('[', ']'), level, out, &|i, out| self.value(&l[i], level + 1, out)),
            J::Map(m) => self.list(m.len(), ('{', '}'), level, out, &|i, out| {
                self.string(&m[i].0, out);
                out.push_str(self.colon);
                self.value(&m[i].1, level + 1, out);
            }),
        }
    }

    fn text(&self, j: &J) -> String {
        let mut out = String::from(if self.bom { "\u{feff}" } else { "" });
        self.value(j, 0, &mut out);
        out + self.last
    }
}

/// As a field's value, in the spelling of this manner.
fn given(j: &J, manner: &Manner) -> Value<'static> {
    let mut out = String::new();
    Manner { indent: None, colon: ":", comma: ",", bom: false, ..manner.clone() }.value(j, 0, &mut out);
    field(out.as_bytes()).into_owned()
}

fn scalar() -> impl Strategy<Value = J> {
    prop_oneof![
        Just(J::Null),
        any::<bool>().prop_map(J::Bool),
        any::<i64>().prop_map(J::Int),
        prop_oneof![Just("1E3"), Just("-0"), Just("10.0"), Just("1e400"), Just("12345678901234567890")]
            .prop_map(J::Raw),
        "[a-c/\"\\\\\n\té😀 ]{0,6}".prop_map(J::Str),
    ]
}

fn nested() -> impl Strategy<Value = J> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(J::List),
            vec(inner, 0..3)
                .prop_map(|l| J::Map(l.into_iter().enumerate().map(|(i, j)| (format!("m{i}"), j)).collect())),
        ]
    })
}

fn manner() -> impl Strategy<Value = Manner> {
    let indent = prop_oneof![Just(None), Just(Some("  ")), Just(Some("    ")), Just(Some("\t")), Just(Some(""))];
    let seams = prop_oneof![Just((": ", ", ")), Just((":", ",")), Just((": ", ","))];
    let ends = prop_oneof![Just("\n"), Just("\r\n")];
    (indent, seams, ends, any::<[bool; 5]>(), any::<bool>()).prop_map(|(indent, (colon, comma), newline, b, last)| {
        Manner {
            indent,
            colon,
            comma,
            newline,
            ascii: b[0],
            slash: b[1],
            upper: b[2],
            bom: b[3],
            trail: b[4],
            last: if last { newline } else { "" },
        }
    })
}

// ── the model: an ordered list of records over four columns ────────────────────────────────────────────────────────

type Record = (String, [Option<J>; 3]);

fn record_fields() -> impl Strategy<Value = [Option<J>; 3]> {
    [proptest::option::of(nested()), proptest::option::of(nested()), proptest::option::of(nested())]
}

pub(super) fn table(object: bool, name: &str) -> Table {
    let column = |name: &str| Column { name: name.into(), ..Column::default() };
    Table {
        name: name.into(),
        columns: ["id", "a", "b/é", "c"].into_iter().map(column).collect(),
        key: vec![0],
        details: Details { json_object: object, ..Details::default() },
        ..Table::default()
    }
}

/// A document with the collection at `/rows`, and beside it something that shows the whole style.
fn document(object: bool, records: &[Record]) -> J {
    let fields = |f: &[Option<J>; 3]| {
        ["a", "b/é", "c"].iter().zip(f).filter_map(|(n, v)| Some(((*n).to_owned(), v.clone()?))).collect::<Vec<_>>()
    };
    let rows = if object {
        J::Map(records.iter().map(|(k, f)| (k.clone(), J::Map(fields(f)))).collect())
    } else {
        let id = |k: &String| ("id".to_owned(), J::Str(k.clone()));
        J::List(records.iter().map(|(k, f)| J::Map([id(k)].into_iter().chain(fields(f)).collect())).collect())
    };
    let sample = J::List(vec![J::Str("ëẍ/😀".into()), J::Map(vec![("n".into(), J::List(vec![J::Int(1), J::Int(2)]))])]);
    J::Map(vec![("rows".into(), rows), ("sample".into(), sample)])
}

fn row((key, fields): &Record, manner: &Manner) -> Row {
    let mut row = vec![Value::text(key.as_str())];
    row.extend(fields.iter().map(|f| f.as_ref().map_or(Value::Missing, |j| given(j, manner))));
    row
}

pub(super) fn key(k: &str) -> Key {
    Key::of(&[Value::text(k)])
}

pub(super) fn read(text: &[u8], table: &Table) -> Vec<Row> {
    let d = Document::new("t", text.to_vec().into()).unwrap();
    rows_of(&d, table).unwrap()
}

pub(super) fn rows_of(d: &Document, table: &Table) -> crate::store::Result<Vec<Row>> {
    let c = d.collection(table)?;
    let (mut records, mut rows) = (d.records(&c, None)?, Vec::new());
    while let Some(r) = records.next()? {
        rows.push(d.row(table, &r)?.into_iter().map(Value::into_owned).collect());
    }
    Ok(rows)
}

pub(super) fn write(text: &[u8], table: &Table, writes: Vec<Write>) -> Vec<u8> {
    written(&Document::new("t", text.to_vec().into()).unwrap(), table, writes)
}

fn written(d: &Document, table: &Table, writes: Vec<Write>) -> Vec<u8> {
    let mut out = Vec::new();
    splice(&d.text, &d.edit(&[table], &[(0, writes)]).unwrap(), &mut out).unwrap();
    out
}

#[derive(Clone, Debug)]
enum Act {
    Set(u8, [Option<J>; 3]),
    Move(u8, u8),
    Add(u8, [Option<J>; 3]),
    Remove(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (any::<u8>(), record_fields()).prop_map(|(i, f)| Act::Set(i, f)),
        (any::<u8>(), any::<u8>()).prop_map(|(i, k)| Act::Move(i, k)),
        (any::<u8>(), record_fields()).prop_map(|(k, f)| Act::Add(k, f)),
        any::<u8>().prop_map(Act::Remove),
    ]
}

/// Keeps absent members absent and present ones present, so that members keep their places.
fn same_shape(before: &[Option<J>; 3], after: [Option<J>; 3]) -> [Option<J>; 3] {
    let mut after = after;
    for (b, a) in before.iter().zip(&mut after) {
        *a = b.as_ref().map(|_| a.take().unwrap_or(J::Null));
    }
    after
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Edits look as if the file had been rendered anew from the edited model, whatever its style.
    #[test]
    fn an_edited_file_is_what_its_own_writer_would_have_written(
        manner in manner(),
        object in any::<bool>(),
        first in vec(record_fields(), 0..5),
        acts in vec(act(), 0..6),
        at_once in any::<bool>(),
    ) {
        let table = table(object, "/rows");
        let mut model: Vec<Record> = first.into_iter().enumerate().map(|(i, f)| (format!("k/{i}"), f)).collect();
        let mut text = manner.text(&document(object, &model)).into_bytes();
        let mut together = Vec::new();
        let mut touched = std::collections::HashSet::new();
        for act in acts {
            let n = model.len();
            let (name, write_one) = match act {
                Act::Set(i, fields) if n > 0 => {
                    let r = &mut model[usize::from(i) % n];
                    if !touched.insert(r.0.clone()) && at_once { continue }
                    r.1 = same_shape(&r.1, fields);
                    (r.0.clone(), Write::Put { row: row(r, &manner), from: Some(key(&r.0)) })
                }
                Act::Move(i, k) if n > 0 => {
                    let to = format!("moved{k}é");
                    let i = usize::from(i) % n;
                    if model.iter().any(|r| r.0 == to) { continue }
                    if !touched.insert(model[i].0.clone()) && at_once { continue }
                    let from = std::mem::replace(&mut model[i].0, to.clone());
                    touched.insert(to);
                    (from.clone(), Write::Put { row: row(&model[i], &manner), from: Some(key(&from)) })
                }
                Act::Add(k, fields) => {
                    let name = format!("k/{}", k % 8);
                    if !touched.insert(name.clone()) && at_once { continue }
                    model.retain(|r| r.0 != name);
                    let r = (name.clone(), fields);
                    let put = Write::Put { row: row(&r, &manner), from: None };
                    model.push(r);
                    (name, put)
                }
                Act::Remove(i) if n > 0 => {
                    let name = model[usize::from(i) % n].0.clone();
                    if !touched.insert(name.clone()) && at_once { continue }
                    model.retain(|r| r.0 != name);
                    (name.clone(), Write::Delete { key: key(&name) })
                }
                _ => continue,
            };
            let _ = name;
            if at_once { together.push(write_one) } else { text = write(&text, &table, vec![write_one]) }
        }
        if at_once { text = write(&text, &table, together) }
        let wanted = manner.text(&document(object, &model));
        prop_assert_eq!(String::from_utf8(text).unwrap(), wanted);
    }

    /// However odd the spacing: the result is JSON, its rows are the model's, and records not written keep every byte.
    #[test]
    fn any_writes_leave_json_with_the_rows_of_the_model(
        object in any::<bool>(),
        gaps in vec("[ \n\t]{0,3}", 16),
        first in vec(record_fields(), 0..5),
        acts in vec(act(), 0..8),
    ) {
        let table = table(object, "");
        let manner = Manner { indent: None, colon: ":", comma: ",", newline: "\n", ascii: false, slash: false, trail: false, upper: false, bom: false, last: "" };
        let mut model: Vec<Record> = first.into_iter().enumerate().map(|(i, f)| (format!("k/{i}"), f)).collect();
        let J::Map(parts) = document(object, &model) else { return Ok(()) };
        let mut text = scatter(&manner.text(&parts[0].1), &gaps).into_bytes();
        for act in acts {
            let n = model.len();
            let writes = match act {
                Act::Set(i, fields) if n > 0 => {
                    let r = &mut model[usize::from(i) % n];
                    r.1 = fields;
                    vec![Write::Put { row: row(r, &manner), from: Some(key(&r.0)) }]
                }
                Act::Add(k, fields) => {
                    let r = (format!("k/{}", k % 8), fields);
                    model.retain(|o| o.0 != r.0);
                    let put = Write::Put { row: row(&r, &manner), from: None };
                    model.push(r);
                    vec![put]
                }
                Act::Remove(i) if n > 0 => {
                    let gone = model.remove(usize::from(i) % n);
                    vec![Write::Delete { key: key(&gone.0) }]
                }
                _ => continue,
            };
            text = write(&text, &table, writes);
            let rows: Vec<Row> = model.iter().map(|r| row(r, &manner)).collect();
            prop_assert_eq!(read(&text, &table), rows, "{}", String::from_utf8_lossy(&text));
            let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&text);
            prop_assert!(parsed.is_ok(), "{}", String::from_utf8_lossy(&text));
        }
    }

    /// A record appended and deleted again, and fields changed and changed back, leave no trace.
    #[test]
    fn what_is_taken_back_leaves_no_trace(
        manner in manner(),
        object in any::<bool>(),
        gaps in vec("[ \n\t]{0,2}", 16),
        odd in any::<bool>(),
        first in vec(record_fields(), 1..5),
        other in record_fields(),
        which in any::<usize>(),
    ) {
        let table = table(object, "/rows");
        let model: Vec<Record> = first.into_iter().enumerate().map(|(i, f)| (format!("k/{i}"), f)).collect();
        let mut text = manner.text(&document(object, &model));
        if odd { text = scatter(&text, &gaps) }
        let text = text.into_bytes();
        let new = (String::from("new"), other.clone());
        let more = write(&text, &table, vec![Write::Put { row: row(&new, &manner), from: None }]);
        prop_assert_ne!(&more, &text);
        let less = write(&more, &table, vec![Write::Delete { key: key("new") }]);
        prop_assert_eq!(String::from_utf8_lossy(&less), String::from_utf8_lossy(&text));

        // Back to the values as they were: only lists laid out oddly are laid out anew.
        let r = &model[which % model.len()];
        let flat = |f: &Option<J>| !matches!(f, Some(J::List(_) | J::Map(_)));
        if odd && !r.1.iter().all(flat) { return Ok(()) }
        let changed = (r.0.clone(), same_shape(&r.1, other));
        let there = write(&text, &table, vec![Write::Put { row: row(&changed, &manner), from: Some(key(&r.0)) }]);
        let back = write(&there, &table, vec![Write::Put { row: row(r, &manner), from: Some(key(&r.0)) }]);
        prop_assert_eq!(String::from_utf8_lossy(&back), String::from_utf8_lossy(&text));
    }

    /// The scanner takes what serde_json takes, and nothing else (but for two equal names and lone surrogates).
    #[test]
    fn the_scanner_agrees_with_serde_json(text in "[\\[\\]{}:,\" \n\\-0-9.eEtrufalsn\\\\]{0,12}") {
        let ours = Document::new("t", text.clone().into_bytes().into());
        let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        let twice = matches!(&ours, Err(e) if e.to_string().contains("twice"));
        let lone = text.to_lowercase().contains("\\ud");
        let huge = text.contains(['e', 'E']);
        prop_assert!(twice || lone || huge || ours.is_ok() == theirs, "{text:?} {ours:?}");
    }

    /// Wherever a piece of the file ends: what is found, and what is said of a broken text, is what it is of a text in memory.
    #[test]
    fn a_text_read_in_pieces_says_the_same(
        manner in manner(),
        object in any::<bool>(),
        gaps in vec("[ \r\n\t]{0,3}", 16),
        first in vec(record_fields(), 0..4),
        other in record_fields(),
        piece in 1..40usize,
        harm in proptest::option::of((any::<usize>(), any::<[u8; 2]>())),
        act in act(),
    ) {
        let table = table(object, "/rows");
        let model: Vec<Record> = first.into_iter().enumerate().map(|(i, f)| (format!("k/{i}"), f)).collect();
        let mut text = scatter(&manner.text(&document(object, &model)), &gaps).into_bytes();
        if let Some((at, bytes)) = harm {
            let at = at % text.len();
            if bytes[0] % 2 == 0 { text.truncate(at) } else { text[at] = bytes[1] }
        }
        let whole = Document::new("t", text.clone().into());
        let pieces = Document::new("t", Text::in_pieces(&text, piece));
        let (whole, pieces) = match (whole, pieces) {
            (Ok(a), Ok(b)) => (a, b),
            (a, b) => {
                prop_assert_eq!(a.map(|_| ()).map_err(|e| e.to_string()), b.map(|_| ()).map_err(|e| e.to_string()));
                return Ok(());
            }
        };
        prop_assert_eq!(format!("{:?}", whole.style), format!("{:?}", pieces.style));
        prop_assert_eq!(format!("{:?}", whole.schema().unwrap()), format!("{:?}", pieces.schema().unwrap()));
        let (a, b) = (rows_of(&whole, &table), rows_of(&pieces, &table));
        prop_assert_eq!(format!("{a:?}"), format!("{b:?}"));
        let Ok(rows) = a else { return Ok(()) };
        // one after the other, each begun where the one before ended
        let (c, mut at, mut each) = (pieces.collection(&table).unwrap(), None, Vec::new());
        for _ in &rows {
            let mut records = pieces.records(&c, at).unwrap();
            prop_assert!(records.more().unwrap());
            each.push(pieces.key(&table.key_names(), &records.next().unwrap().unwrap()).unwrap());
            at = Some(records.at);
        }
        prop_assert!(!pieces.records(&c, at).unwrap().more().unwrap());
        prop_assert_eq!(&each, &rows.iter().map(|r| Key::of_row(r, &[0])).collect::<Vec<_>>());
        let all: Vec<Option<Row>> = rows.iter().cloned().map(Some).chain([None]).collect();
        each.push(key("not there"));
        prop_assert_eq!(pieces.fetch(&table, &each).unwrap(), all);

        let n = rows.len();
        let writes = || match &act {
            Act::Set(i, _) if n > 0 => {
                let mut row = row(&("k".into(), other.clone()), &manner);
                row[0] = rows[usize::from(*i) % n][0].clone();
                vec![Write::Put { from: Some(Key::of_row(&row, &[0])), row }]
            }
            Act::Remove(i) if n > 0 => vec![
                Write::Delete { key: Key::of_row(&rows[usize::from(*i) % n], &[0]) },
                Write::Delete { key: Key::of_row(&rows[0], &[0]) },
            ],
            _ => vec![Write::Put { row: row(&("new".into(), other.clone()), &manner), from: None }],
        };
        let wanted = written(&whole, &table, writes());
        prop_assert_eq!(&written(&pieces, &table, writes()), &wanted);
        let mut spool = Spool::beside(&std::env::temp_dir().join("t"));
        splice(&pieces.text, &pieces.edit(&[&table], &[(0, writes())]).unwrap(), &mut spool).unwrap();
        let (spooled, digest) = spool.finish().unwrap();
        let mut out = Vec::new();
        spooled.pour(&mut out).unwrap();
        prop_assert_eq!(digest, super::files::digest(&out));
        prop_assert_eq!(out, wanted);
    }

    #[test]
    fn the_scanner_never_panics(text in vec(any::<u8>(), 0..40), mark in any::<bool>()) {
        let text = if mark { [&b"[\"\\u"[..], &text].concat() } else { text };
        let _ = check(&mut Reader::of(&text));
        let _ = minify(&text);
        let _ = decode(&text);
    }
}

/// The same document with space put around its structure.
fn scatter(text: &str, gaps: &[String]) -> String {
    let (mut out, mut inside, mut skip, mut n) = (String::new(), false, false, 0);
    for c in text.chars() {
        let mark = !inside && "{}[]:,".contains(c);
        let mut gap = |out: &mut String| {
            out.push_str(&gaps[n % gaps.len()]);
            n += 1;
        };
        if mark
            && (c != '}' && c != ']' || !out.trim_end().ends_with(['{', '[']))
            && !out.is_empty()
            && out != "\u{feff}"
        {
            gap(&mut out);
        }
        out.push(c);
        match c {
            _ if skip => skip = false,
            '\\' if inside => skip = true,
            '"' => inside = !inside,
            _ => {}
        }
    }
    out
}

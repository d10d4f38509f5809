//! Properties of reading and editing, without files.

use proptest::collection::vec;
use proptest::prelude::*;

use super::document::Document;
use super::text::{check, decode, field, minify};
use crate::plan::{Column, Details, Table};
use crate::store::{Error, Write};
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

fn table(object: bool, name: &str) -> Table {
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

fn key(k: &str) -> Key {
    Key::of(&[Value::text(k)])
}

fn read(text: &[u8], table: &Table) -> Vec<Row> {
    let d = Document::new("t", text.to_vec()).unwrap();
    let c = d.collection(table).unwrap();
    c.records.iter().map(|r| d.row(table, r).unwrap().into_iter().map(Value::into_owned).collect()).collect()
}

fn write(text: &[u8], table: &Table, writes: Vec<Write>) -> Vec<u8> {
    Document::new("t", text.to_vec()).unwrap().edit(&[table], &[(0, writes)]).unwrap()
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
        let ours = check(text.as_bytes());
        let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        let twice = matches!(&ours, Err(f) if f.what.contains("twice"));
        let lone = text.to_lowercase().contains("\\ud");
        let huge = text.contains(['e', 'E']);
        prop_assert!(twice || lone || huge || ours.is_ok() == theirs, "{text:?} {ours:?}");
    }

    #[test]
    fn the_scanner_never_panics(text in vec(any::<u8>(), 0..40), mark in any::<bool>()) {
        let text = if mark { [&b"[\"\\u"[..], &text].concat() } else { text };
        let _ = check(&text);
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

// ── examples ───────────────────────────────────────────────────────────────────────────────────────────────────────

fn edited(text: &str, object: bool, writes: Vec<Write>) -> String {
    String::from_utf8(write(text.as_bytes(), &table(object, ""), writes)).unwrap()
}

fn put(k: &str, a: Value<'static>, from: Option<&str>) -> Write {
    Write::Put { row: vec![Value::text(k), a, Value::Missing, Value::Missing], from: from.map(key) }
}

#[test]
fn b_numbers_and_strings_keep_their_spelling() {
    let text =
        r#"[{"id":"1","a":1E3},{"id":"2","a":"\u00e9\/"},{"id":"3","a":"\ud800"},{"id":"4","a":12345678901234567890}]"#;
    let rows = read(text.as_bytes(), &table(false, ""));
    let json = |t: &str| Value::Json(t.as_bytes().to_vec().into());
    assert_eq!(rows[0][1], json("1E3"));
    assert_eq!(rows[1][1], Value::text("é/"));
    assert_eq!(rows[2][1], json(r#""\ud800""#));
    assert_eq!(rows[3][1], json("12345678901234567890"));
    let writes = rows.iter().map(|r| Write::Put { row: r.clone(), from: Some(Key::of_row(r, &[0])) }).collect();
    assert_eq!(edited(text, false, writes), text);
    assert_eq!(field(b"-0"), json("-0"));
    assert_eq!(field(b"-9223372036854775808"), Value::Int(i64::MIN));
    assert_eq!(field(b"9223372036854775808"), json("9223372036854775808"));
    assert_eq!(field(b"[1, {\"a b\" : 1.0}]"), json("[1,{\"a b\":1.0}]"));
}

#[test]
fn records_one_per_line_stay_so() {
    let text = "[\n  {\"id\": \"1\", \"a\": [1, 2]},\n  {\"id\": \"2\", \"a\": []}\n]\n";
    let json = Value::Json(b"[3,4]".to_vec().into());
    let more = edited(text, false, vec![put("3", json.clone(), None), put("2", json, Some("2"))]);
    let wanted = "[\n  {\"id\": \"1\", \"a\": [1, 2]},\n  {\"id\": \"2\", \"a\": [3, 4]},\n  {\"id\": \"3\", \"a\": [3, 4]}\n]\n";
    assert_eq!(more, wanted);
}

#[test]
fn short_arrays_within_long_records_stay_short() {
    let text = "{\n  \"1\": {\n    \"a\": [1, 2]\n  }\n}";
    let more = edited(text, true, vec![put("2", Value::Json(b"[3,4]".to_vec().into()), None)]);
    assert_eq!(more, "{\n  \"1\": {\n    \"a\": [1, 2]\n  },\n  \"2\": {\n    \"a\": [3, 4]\n  }\n}");
}

#[test]
fn records_that_begin_where_the_list_does_are_followed_by_such() {
    let text = "[{\n  \"id\": \"1\",\n  \"a\": 1\n}, {\n  \"id\": \"2\",\n  \"a\": 2\n}]";
    let more = edited(text, false, vec![put("3", Value::Int(3), None)]);
    assert_eq!(more, text.strip_suffix(']').unwrap().to_owned() + ", {\n  \"id\": \"3\",\n  \"a\": 3\n}]");
}

#[test]
fn a_collection_can_be_emptied_and_filled_again() {
    let text = "{\n    \"1\": {\n        \"a\": 1\n    }\n}\n";
    let none = edited(text, true, vec![Write::Delete { key: key("1") }]);
    assert_eq!(none, "{}\n");
    assert_eq!(edited(&none, true, vec![put("1", Value::Int(1), None)]), "{\"1\": {\"a\": 1}}\n");
    assert_eq!(edited("[]", false, vec![put("1", Value::Int(1), None)]), "[{\"id\": \"1\", \"a\": 1}]");
}

#[test]
fn a_missing_member_is_not_a_null_one() {
    let text = r#"{"1": {"a": null, "c": 1}, "2": {"c": 1}}"#;
    let rows = read(text.as_bytes(), &table(true, ""));
    assert_eq!((&rows[0][1], &rows[1][1]), (&Value::Null, &Value::Missing));
    let swap =
        |k: &str, a| Write::Put { row: vec![Value::text(k), a, Value::Missing, Value::Int(1)], from: Some(key(k)) };
    let swapped = edited(text, true, vec![swap("1", Value::Missing), swap("2", Value::Null)]);
    assert_eq!(swapped, r#"{"1": {"c": 1}, "2": {"c": 1, "a": null}}"#);
}

#[test]
fn keys_may_be_exchanged_and_a_dead_record_gives_way() {
    let text = r#"{"1": {"a": 1}, "2": {"a": 2}, "3": {"a": 3}}"#;
    let writes = vec![put("2", Value::Int(1), Some("1")), put("1", Value::Int(2), Some("2"))];
    assert_eq!(edited(text, true, writes), r#"{"2": {"a": 1}, "1": {"a": 2}, "3": {"a": 3}}"#);
    let reborn = edited(text, true, vec![put("2", Value::Int(9), None)]);
    assert_eq!(reborn, r#"{"1": {"a": 1}, "3": {"a": 3}, "2": {"a": 9}}"#);
    let over = edited(text, true, vec![put("3", Value::Int(1), Some("1"))]);
    assert_eq!(over, r#"{"3": {"a": 1}, "2": {"a": 2}}"#);
    let gone = edited(text, true, vec![put("9", Value::Int(1), Some("1")), Write::Delete { key: key("1") }]);
    assert_eq!(gone, r#"{"9": {"a": 1}, "2": {"a": 2}, "3": {"a": 3}}"#);
}

#[test]
fn what_is_wrong_is_named_by_line_and_column() {
    let says = |text: &str, object: bool| {
        let d = match Document::new("f.json", text.as_bytes().to_vec()) {
            Err(e) => return e.to_string(),
            Ok(d) => d,
        };
        let table = table(object, "");
        let c = match d.collection(&table) {
            Err(e) => return e.to_string(),
            Ok(c) => c,
        };
        c.records.iter().find_map(|r| d.row(&table, r).err()).map(|e| e.to_string()).unwrap_or_default()
    };
    let cases = [
        ("", false, "is empty"),
        ("\u{feff} \n", false, "is empty"),
        ("[1,]", false, "line 1, column 4: there is `]` where the next entry"),
        ("[\n  {\"é\": NaN}]", false, "line 2, column 9: there is `NaN` where a value"),
        ("[01]", false, "begins with 0"),
        ("{\"a\": 1} x", false, "something after the end"),
        ("{\"a\": {}", false, "the file ends"),
        ("{\"a\": \"x\ny\"}", false, "a control character"),
        ("{\"a\": \"\\x\"}", false, "an escape that JSON does not know"),
        ("{\"1\": {},\n \"\\u0031\": {}}", true, "line 2, column 2: the member \"\\u0031\" is there twice"),
        ("[{\"id\": 1},\n{\"id\": 1}]", false, "line 2, column 1: the key 1 is already that of the record at line 1"),
        ("[{\"id\": 1}, {\"a\": 1}]", false, "line 1, column 13: a record has no `id`"),
        ("[{\"id\": 1}, 5]", false, "a record should be an object"),
        ("[{\"id\": 1, \"zz\": 1}]", false, "record 1 of the whole file: a new member `zz` the plan does not know"),
        ("{}", false, "the collection the whole file is not an array"),
        ("\u{feff}[1 2]", false, "line 1, column 4"),
    ];
    for (text, object, wanted) in cases {
        let said = says(text, object);
        assert!(said.contains(wanted) && said.starts_with("f.json"), "{text:?}: {said}");
    }
    assert!(Document::new("f", b"[\"\xff\"]".to_vec()).unwrap_err().to_string().contains("not UTF-8"));
    let deep = "[".repeat(5000);
    assert!(Document::new("f", deep.into_bytes()).unwrap_err().to_string().contains("nested too deeply"));
}

#[test]
fn values_that_json_cannot_hold_are_refused() {
    let d = Document::new("f", b"[]".to_vec()).unwrap();
    let t = table(false, "");
    for bad in [
        Value::Real(1.0),
        Value::Blob(vec![1].into()),
        Value::Text(vec![0xff].into()),
        Value::Json(b"{a}".to_vec().into()),
    ] {
        let e = d.edit(&[&t], &[(0, vec![put("1", bad, None)])]).unwrap_err();
        assert!(matches!(&e, Error::Refused { cause, .. } if cause.contains("member `a`")), "{e}");
    }
}

#[test]
fn the_schema_lists_collections_and_what_is_none() {
    let names = |text: &str| {
        let s = Document::new("f", text.as_bytes().to_vec()).unwrap().schema();
        let columns = |t: &Table| t.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(",");
        let tables: Vec<String> =
            s.tables.iter().map(|t| format!("{}:{}:{}", t.name, columns(t), t.details.json_object)).collect();
        (tables.join(" "), s.others.iter().map(|o| o.0.as_str()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(names(r#"[{"a":1},{"b":1,"a":2}]"#).0, ":a,b:false");
    assert_eq!(names(r#"{"x":{"a":1},"y":{"b":{}}}"#).0, ":key,a,b:true");
    let (tables, others) =
        names(r#"{"a/b":[{"a":1}],"users":{"1":{"n":1}},"version":1,"tags":[1],"deep":{"x":[],"n":2}}"#);
    assert_eq!(tables, "/a~1b:a:false /users:key,n:true /deep/x::false");
    assert_eq!(others, "member /version member /tags member /deep/n");
    assert_eq!(names(r#"{"g":{"u":{"n":1}}}"#).0, ":key,u:true /g:key,n:true");
    assert_eq!(names("3").1, "the whole file");
}

//! Reading and editing by example, without files.

use super::document::Document;
use super::tests::{key, read, rows_of, table, write};
use super::text::field;
use crate::plan::Table;
use crate::store::{Error, Write};
use crate::value::{Key, Value};

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
        let d = match Document::new("f.json", text.as_bytes().to_vec().into()) {
            Err(e) => return e.to_string(),
            Ok(d) => d,
        };
        let table = table(object, "");
        rows_of(&d, &table).err().map(|e| e.to_string()).unwrap_or_default()
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
    assert!(Document::new("f", b"[\"\xff\"]".to_vec().into()).unwrap_err().to_string().contains("not UTF-8"));
    let deep = "[".repeat(5000);
    assert!(Document::new("f", deep.into_bytes().into()).unwrap_err().to_string().contains("nested too deeply"));
}

/// What is held for each record, and while a text is checked for each name of an object.
#[test]
fn a_record_takes_forty_bytes_of_memory() {
    assert_eq!((size_of::<super::index::Place>(), size_of::<super::check::Name>()), (40, 24));
}

#[test]
fn values_that_json_cannot_hold_are_refused() {
    let d = Document::new("f", b"[]".to_vec().into()).unwrap();
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
        let s = Document::new("f", text.as_bytes().to_vec().into()).unwrap().schema().unwrap();
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

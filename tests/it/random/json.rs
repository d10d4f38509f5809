//! Random JSON files, in every style: to SQLite and to PostgreSQL, written there, and back.

use std::collections::BTreeMap;

use postgres::Client;
use proptest::prelude::*;
use serde_json::Value;

use super::cases;
use crate::scenarios::{Database, Home, ok, quoted, same_bytes};

/// How the file is written.
#[derive(Clone, Debug)]
struct Style {
    indent: Option<&'static str>,
    comma: &'static str,
    colon: &'static str,
    newline: &'static str,
    end: &'static str,
    before: &'static str,
}

#[derive(Clone, Debug)]
struct File {
    style: Style,
    /// An object keyed by id, or an array whose records have a member `id`.
    object: bool,
    below: bool,
    keys: Vec<String>,
    /// Members of each record: name and spelled value, in the order of that record.
    records: Vec<Vec<(String, String)>>,
}

const MEMBERS: &[&str] = &["name", "n", "at", "flag", "tags", "Größe", "a b", "select", "q\\\"q", "x/y~z", "deep", ""];

fn spelled() -> impl Strategy<Value = BoxedStrategy<String>> {
    let of = |list: &'static [&'static str]| proptest::sample::select(list).prop_map(str::to_owned).boxed();
    let text = of(&[
        "\"\"",
        "\"plain\"",
        "\"\\u00e9\"",
        "\"é\"",
        "\"\\/slash/\"",
        "\"tab\\tquote\\\"\"",
        "\"\\ud83d\\ude00\"",
        "\"😀\"",
        "\"null\"",
        "\"1\"",
        "\"\\u001f\"",
        "\" \"",
        "\"2024-01-01T00:00:00\"",
    ]);
    let int = of(&["0", "-1", "7", "9223372036854775807", "-9223372036854775808", "42"]);
    let big = of(&["9223372036854775808", "123456789012345678901234567890", "1", "-5"]);
    let real =
        of(&["10.0", "1E3", "1e-7", "0.1", "2.50", "-0.0", "1e3", "3", "-0", "1.7976931348623157e308", "12345678.9"]);
    let long = of(&["0.1000000000000000055511151231257827", "1e400", "5", "-0.5", "1.10"]);
    let truth = of(&["true", "false"]);
    let nested =
        of(&["[]", "{}", "[1, 2.0, \"x\"]", "{\"b\":1,\"a\":{ \"c\" : [null] }}", "[ 1E3 ]", "{\"\\u00e9\":1}"]);
    prop_oneof![
        4 => Just(text.clone()),
        3 => Just(int.clone()),
        1 => Just(big),
        2 => Just(real.clone()),
        1 => Just(long),
        2 => Just(truth.clone()),
        2 => Just(nested.clone()),
        1 => Just(prop_oneof![text, int, real, truth, nested].boxed()),
    ]
}

fn file() -> impl Strategy<Value = File> {
    let style = (
        proptest::sample::select(&[None, Some("  "), Some("    "), Some("\t")][..]),
        proptest::sample::select(&[",", ", "][..]),
        proptest::sample::select(&[":", ": ", " : "][..]),
        proptest::sample::select(&["\n", "\r\n"][..]),
        proptest::sample::select(&["", "\n", "\r\n", "\n\n"][..]),
        proptest::sample::select(&["", "\n", " "][..]),
    )
        .prop_map(|(indent, comma, colon, newline, end, before)| Style {
            indent,
            comma,
            colon,
            newline,
            end,
            before,
        });
    let member = (spelled(), 0..4u8).prop_flat_map(|(of, gaps)| {
        let one = prop_oneof![
            u32::from(gaps) => Just(None),
            u32::from(gaps % 2) => Just(Some("null".to_owned())),
            8 => of.prop_map(Some),
        ];
        proptest::collection::vec(one, 8)
    });
    let shuffles = proptest::collection::vec(proptest::collection::vec(any::<u16>(), 6), 8);
    (
        style,
        any::<bool>(),
        proptest::bool::weighted(0.3),
        1..8usize,
        proptest::collection::vec(member, 1..5),
        shuffles,
        proptest::bool::weighted(0.4),
    )
        .prop_map(|(style, object, below, rows, members, shuffles, shuffled)| {
            let keys: Vec<String> =
                (0..rows).map(|i| ["k", "Ä", "a\\\"b", "1", "\\u00e9", "x y", "10", "9"][i].to_owned()).collect();
            let records = (0..rows)
                .map(|r| {
                    let mut record: Vec<(String, String)> =
                        if object { vec![] } else { vec![("id".into(), format!("\"{}\"", keys[r]))] };
                    for (m, values) in members.iter().enumerate() {
                        if let Some(v) = &values[r] {
                            record.push((MEMBERS[(m * 5 + values.len()) % MEMBERS.len()].to_owned(), v.clone()));
                        }
                    }
                    if shuffled {
                        let order = &shuffles[r];
                        let mut all: Vec<_> = record.into_iter().enumerate().collect();
                        all.sort_by_key(|(i, _)| order[i % order.len()]);
                        record = all.into_iter().map(|(_, m)| m).collect();
                    }
                    record
                })
                .collect();
            File { style, object, below, keys, records }
        })
}

impl File {
    fn record(&self, at: usize) -> String {
        let s = &self.style;
        let depth = 2 + usize::from(self.below);
        let each: Vec<String> = self.records[at].iter().map(|(k, v)| format!("\"{k}\"{}{v}", s.colon)).collect();
        match s.indent {
            Some(i) if !each.is_empty() => {
                let inner = i.repeat(depth);
                let all = each.join(&format!(",{}{inner}", s.newline));
                format!("{{{0}{inner}{all}{0}{1}}}", s.newline, i.repeat(depth - 1))
            }
            _ => format!("{{{}}}", each.join(s.comma)),
        }
    }

    fn text(&self) -> String {
        let s = &self.style;
        let depth = 1 + usize::from(self.below);
        let each: Vec<String> = (0..self.records.len())
            .map(|r| {
                if self.object { format!("\"{}\"{}{}", self.keys[r], s.colon, self.record(r)) } else { self.record(r) }
            })
            .collect();
        let (open, close) = if self.object { ("{", "}") } else { ("[", "]") };
        let body = match s.indent {
            Some(i) => {
                let inner = i.repeat(depth);
                format!(
                    "{open}{0}{inner}{1}{0}{2}{close}",
                    s.newline,
                    each.join(&format!(",{}{inner}", s.newline)),
                    i.repeat(depth - 1)
                )
            }
            None => format!("{open}{}{close}", each.join(s.comma)),
        };
        if self.below {
            let i = s.indent.unwrap_or("");
            let line = if s.indent.is_some() { s.newline } else { "" };
            format!("{}{{{line}{i}\"version\"{}1E0,{line}{i}\"items\"{1}{body}{line}}}{}", s.before, s.colon, s.end)
        } else {
            format!("{}{body}{}", s.before, s.end)
        }
    }

    fn key(&self, at: usize) -> String {
        serde_json::from_str(&format!("\"{}\"", self.keys[at])).unwrap()
    }
}

/// What a value says: numbers by value, null and missing alike.
fn meaning(v: Option<&Value>) -> Option<String> {
    match v {
        None | Some(Value::Null) => None,
        Some(Value::Number(n)) => {
            Some(backout::mapping::convert::plain_number(&n.to_string()).unwrap_or_else(|| n.to_string()))
        }
        Some(Value::Array(a)) => Some(format!("{:?}", a.iter().map(|v| meaning(Some(v))).collect::<Vec<_>>())),
        Some(Value::Object(o)) => {
            Some(format!("{:?}", o.iter().map(|(k, v)| (k.clone(), meaning(Some(v)))).collect::<BTreeMap<_, _>>()))
        }
        Some(other) => Some(other.to_string()),
    }
}

type Records = BTreeMap<String, BTreeMap<String, String>>;

fn records(file: &File, text: &str) -> Records {
    let all: Value = serde_json::from_str(text).unwrap();
    let all = if file.below { &all["items"] } else { &all };
    let one = |r: &Value| -> BTreeMap<String, String> {
        r.as_object().unwrap().iter().filter_map(|(k, v)| Some((k.clone(), meaning(Some(v))?))).collect()
    };
    match all {
        Value::Object(o) => o.iter().map(|(k, r)| (k.clone(), one(r))).collect(),
        Value::Array(a) => a.iter().map(|r| (r["id"].as_str().unwrap().to_owned(), one(r))).collect(),
        _ => panic!("no records: {text}"),
    }
}

/// (kind, row, from, member)
type Act = (u8, usize, usize, usize);

/// Whoever runs SQL in the target.
enum Target {
    Sqlite(rusqlite::Connection),
    Postgres(Box<Client>),
}

impl Target {
    fn run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Target::Sqlite(db) => db.execute_batch(sql).map_err(|e| e.to_string()),
            Target::Postgres(c) => c.batch_execute(sql).map_err(|e| e.to_string()),
        }
    }
}

fn round(file: &File, acts: &[Act], postgres: bool) {
    let server = postgres.then(Database::new);
    let to = server.as_ref().map_or("sqlite:target.db".to_owned(), |s| s.url.clone());
    let home = Home::new(&[("files", "json:data.json"), ("to", &to)], "");
    let text = file.text();
    home.write("data.json", &text);
    let source = if file.below { "/items" } else { "$" };
    let key = if file.object { "key" } else { "id" };
    home.migration(
        "20250101000000_out",
        &format!("[transfer]\nfrom = \"files\"\nto = \"to\"\n[[transfer.table]]\nsource = \"{source}\"\nkey = \"{key}\"\ninto = \"things\"\n"),
    );
    let plan = match home.project().plan(None) {
        Ok(plan) => plan.unwrap().plan,
        Err(refused) => {
            same_bytes(&home.read("data.json"), text.as_bytes());
            let said = refused.to_string();
            let member = MEMBERS.iter().any(|m| !m.is_empty() && said.contains(*m));
            assert!(
                refused.exit == 4
                    && (member || said.contains("whole file") || said.contains("/items") || said.contains("things")),
                "{said}"
            );
            return;
        }
    };
    home.up();
    let mut target = match &server {
        Some(s) => Target::Postgres(Box::new(s.client())),
        None => Target::Sqlite(home.sqlite("target.db")),
    };
    let mut model = records(file, &text);
    let mut touched: Vec<usize> = Vec::new();
    let columns = &plan.tables[0].source.columns;
    let literal = |s: &str| format!("'{}'", s.replace('\'', "''"));
    let rows = file.records.len();
    for (n, (kind, row, from, member)) in acts.iter().enumerate() {
        let (row, from) = (row % rows, from % rows);
        let (a, b) = (file.key(row), file.key(from));
        if !model.contains_key(&a) {
            continue;
        }
        let k = quoted(key);
        match kind % 4 {
            0 | 1 => {
                let c = &columns[member % columns.len()].name;
                if c == key || !model.contains_key(&b) {
                    continue;
                }
                let set = format!(
                    "UPDATE things SET {0} = (SELECT {0} FROM things WHERE {k} = {1}) WHERE {k} = {2}",
                    quoted(c),
                    literal(&b),
                    literal(&a)
                );
                target.run(&set).unwrap();
                let value = model[&b].get(c).cloned();
                let record = model.get_mut(&a).unwrap();
                match value {
                    Some(v) => record.insert(c.clone(), v),
                    None => record.remove(c),
                };
                touched.push(row);
            }
            2 => {
                target.run(&format!("DELETE FROM things WHERE {k} = {}", literal(&a))).unwrap();
                model.remove(&a);
                touched.push(row);
            }
            _ => {
                let new = format!("new {n} é");
                let all: Vec<String> = columns.iter().map(|c| quoted(&c.name)).collect();
                let mine: Vec<String> =
                    columns.iter().map(|c| if c.name == key { literal(&new) } else { quoted(&c.name) }).collect();
                target
                    .run(&format!(
                        "INSERT INTO things ({}) SELECT {} FROM things WHERE {k} = {}",
                        all.join(", "),
                        mine.join(", "),
                        literal(&a)
                    ))
                    .unwrap();
                let mut record = model[&a].clone();
                if !file.object {
                    record.insert("id".into(), meaning(Some(&Value::String(new.clone()))).unwrap());
                }
                model.insert(new, record);
            }
        }
    }
    drop(target);
    let out = home.rollback();
    assert!(out.parked.is_empty(), "{:#?}", out.parked);
    let after = home.text("data.json");
    if touched.is_empty() && model.len() == rows {
        same_bytes(after.as_bytes(), text.as_bytes());
    }
    let found = records(file, &after);
    assert_eq!(found, model, "{text}\n→\n{after}");
    for row in (0..rows).filter(|r| !touched.contains(r)) {
        let whole = if file.object {
            format!("\"{}\"{}{}", file.keys[row], file.style.colon, file.record(row))
        } else {
            file.record(row)
        };
        assert!(after.contains(&whole), "an untouched record was rewritten: {whole}\n→\n{after}");
    }
    assert!(after.ends_with(file.style.end) && after.starts_with(file.style.before), "{after:?}");
    let _ = ok(home.project().status());
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    proptest::collection::vec((any::<u8>(), 0..64usize, 0..64usize, 0..64usize), 0..8)
}

proptest! {
    #![proptest_config(cases(20))]

    #[test]
    fn property_random_json_files_go_to_sqlite_and_back(file in file(), acts in acts()) {
        round(&file, &acts, false);
    }

    #[test]
    fn property_random_json_files_go_to_postgres_and_back(file in file(), acts in acts()) {
        round(&file, &acts, true);
    }
}

//! A JSON document as tables: collections, their records, rows; and edits that leave everything else as it is.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_128;

use super::style::{Place, Shape, Style};
use super::text::{self, Fault, Member, Span, Splice, decode, field, items, line_indent, members};
use crate::plan::{Column, Details, Table};
use crate::store::{Error, Result, Schema, Write};
use crate::value::{Key, Row, Value};

/// One record of a collection.
#[derive(Debug)]
pub struct Record {
    /// Its name (with quotes), when the collection is an object.
    name: Option<Span>,
    value: Span,
    pub key: Key,
}

impl Record {
    fn whole(&self) -> Span {
        Span { start: self.name.map_or(self.value.start, |n| n.start), end: self.value.end }
    }
}

/// A collection: where it is, its records in order, and by key.
#[derive(Debug)]
pub struct Collection {
    span: Span,
    /// How many lists it is in.
    depth: usize,
    shape: Shape,
    pub records: Vec<Record>,
    index: HashMap<Key, usize>,
}

/// Each record's key and the hash of its bytes, per collection, by pointer.
pub type Manifest = Vec<(String, HashMap<Key, u128>)>;

/// A JSON text that was found to be sound.
#[derive(Debug)]
pub struct Document {
    pub text: Vec<u8>,
    title: String,
    root: Span,
    style: Style,
    collections: Mutex<HashMap<String, Arc<Collection>>>,
}

impl Document {
    /// Reads a text; `title` is the file's name for messages.
    pub fn new(title: &str, text: Vec<u8>) -> Result<Document> {
        match text::check(&text) {
            Ok((root, style)) => {
                Ok(Document { text, title: title.to_owned(), root, style, collections: Mutex::default() })
            }
            Err(fault) => Err(broken(title, &text, &fault)),
        }
    }

    fn input(&self, at: usize, what: impl Into<String>) -> Error {
        broken(&self.title, &self.text, &Fault { at, what: what.into() })
    }

    fn changed(&self, at: usize, what: &str) -> Error {
        let (line, column) = text::place(&self.text, at);
        Error::Capture {
            store: self.title.clone(),
            cause: format!("line {line}, column {column}: {what}"),
            schema_changed: true,
            rewound: false,
        }
    }

    fn refused(&self, cause: String) -> Error {
        Error::Refused {
            store: self.title.clone(),
            cause,
            hint: "nothing was written; the mapping's codec for this column must yield what JSON can hold".into(),
        }
    }

    // ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// The value that a JSON Pointer names, and how many lists it is in.
    fn find(&self, pointer: &str) -> Option<(Span, usize)> {
        let (mut at, mut depth) = (self.root, 0);
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            at = match self.text.get(at.start)? {
                b'{' => members(&self.text, at).find(|m| decode(m.name.of(&self.text)).0 == token.as_bytes())?.value,
                b'[' => items(&self.text, at).nth(token.parse().ok()?)?,
                _ => return None,
            };
            depth += 1;
        }
        (pointer.is_empty() || pointer.starts_with('/')).then_some((at, depth))
    }

    /// The collection of a table, read once.
    pub fn collection(&self, table: &Table) -> Result<Arc<Collection>> {
        let id = format!("{}\n{}\n{}", table.name, table.details.json_object, table.key_names().join("\n"));
        let mut known = self.collections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(c) = known.get(&id) {
            return Ok(c.clone());
        }
        let c = Arc::new(self.read_collection(table)?);
        known.insert(id, c.clone());
        Ok(c)
    }

    fn read_collection(&self, table: &Table) -> Result<Collection> {
        let Some((span, depth)) = self.find(&table.name) else {
            return Err(
                self.changed(self.root.start, &format!("the collection {} is not there any more", table.title()))
            );
        };
        let shape = if table.details.json_object { Shape::Object } else { Shape::Array };
        if self.text[span.start] != shape.brackets().0 {
            let wanted = if shape == Shape::Object { "an object" } else { "an array" };
            return Err(self.changed(span.start, &format!("the collection {} is not {wanted}", table.title())));
        }
        let mut records = Vec::new();
        match shape {
            Shape::Object => {
                for m in members(&self.text, span) {
                    self.must_be_record(m.value)?;
                    let key = Key::of([&field(m.name.of(&self.text))]);
                    records.push(Record { name: Some(m.name), value: m.value, key });
                }
            }
            Shape::Array => {
                let names: Vec<&str> = table.key_names();
                for value in items(&self.text, span) {
                    self.must_be_record(value)?;
                    records.push(Record { name: None, value, key: self.array_key(&names, value)? });
                }
            }
        }
        let mut index = HashMap::with_capacity(records.len());
        for (i, r) in records.iter().enumerate() {
            if let Some(first) = index.insert(r.key.clone(), i) {
                let (line, _) = text::place(&self.text, records[first].value.start);
                let what = format!("the key {} is already that of the record at line {line}", r.key);
                return Err(self.input(r.value.start, what));
            }
        }
        Ok(Collection { span, depth, shape, records, index })
    }

    fn must_be_record(&self, value: Span) -> Result<()> {
        if self.text[value.start] == b'{' {
            return Ok(());
        }
        Err(self.input(value.start, "a record should be an object, `{…}`"))
    }

    fn array_key(&self, names: &[&str], value: Span) -> Result<Key> {
        let mut parts: Vec<Value<'_>> = vec![Value::Missing; names.len()];
        for m in members(&self.text, value) {
            let name = decode(m.name.of(&self.text)).0;
            if let Some(i) = names.iter().position(|n| n.as_bytes() == &*name) {
                parts[i] = field(m.value.of(&self.text));
            }
        }
        match parts.iter().position(Value::is_null) {
            Some(i) => Err(self.input(value.start, format!("a record has no `{}`, which is its key", names[i]))),
            None => Ok(Key::of(&parts)),
        }
    }

    /// Which member is which column; members that are no column are an error if `strict`.
    fn columns(&self, table: &Table, record: &Record, strict: bool) -> Result<Vec<Option<Member>>> {
        let mut out = vec![None; table.columns.len()];
        let key = if record.name.is_some() { table.key.first().copied() } else { None };
        let mut next = 0;
        for m in members(&self.text, record.value) {
            let name = decode(m.name.of(&self.text)).0;
            let is = |i: usize| Some(i) != key && table.columns[i].name.as_bytes() == &*name;
            let n = table.columns.len();
            match (next..n).chain(0..next).find(|&i| is(i)) {
                Some(i) => {
                    out[i] = Some(m);
                    next = i + 1;
                }
                None if strict => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    let what = format!(
                        "record {} of {}: a new member `{name}` the plan does not know",
                        record.key,
                        table.title()
                    );
                    return Err(self.changed(m.name.start, &what));
                }
                None => {}
            }
        }
        Ok(out)
    }

    /// A record as a row of its table.
    pub fn row(&self, table: &Table, record: &Record) -> Result<Vec<Value<'_>>> {
        let mut row: Vec<Value<'_>> = self
            .columns(table, record, true)?
            .into_iter()
            .map(|m| m.map_or(Value::Missing, |m| field(m.value.of(&self.text))))
            .collect();
        if let (Some(name), Some(&key)) = (record.name, table.key.first()) {
            row[key] = field(name.of(&self.text));
        }
        Ok(row)
    }

    /// The row under a key.
    pub fn fetch(&self, table: &Table, collection: &Collection, key: &Key) -> Result<Option<Row>> {
        match collection.index.get(key) {
            Some(&i) => {
                let row = self.row(table, &collection.records[i])?;
                Ok(Some(row.into_iter().map(Value::into_owned).collect()))
            }
            None => Ok(None),
        }
    }

    /// Every record's key and hash.
    pub fn manifest(&self, tables: &[&Table]) -> Result<Manifest> {
        let mut out = Manifest::new();
        for t in tables {
            let c = self.collection(t)?;
            let hash = |r: &Record| (r.key.clone(), xxh3_128(r.value.of(&self.text)));
            out.push((t.name.clone(), c.records.iter().map(hash).collect()));
        }
        Ok(out)
    }

    /// All collections, and what is there besides.
    pub fn schema(&self) -> Schema {
        let mut out = Schema::default();
        let root = self.is_collection(self.root);
        if root {
            out.tables.push(self.describe("", self.root));
        }
        // Records are not searched for collections within them, unless every one of a few is a collection itself.
        let entries: Vec<Member> = match self.text[self.root.start] {
            b'{' => members(&self.text, self.root).collect(),
            _ => Vec::new(),
        };
        let few = !entries.is_empty() && entries.len() <= 64;
        if !root || (few && entries.iter().all(|m| self.is_collection(m.value) && !self.is_empty(m.value))) {
            self.search("", &entries, &mut out);
        }
        if !root && self.text[self.root.start] != b'{' {
            out.others.push(("the whole file".into(), "it is neither an object nor an array of records".into()));
        }
        out.notes = vec![String::new(); out.tables.len()];
        out
    }

    fn search(&self, above: &str, entries: &[Member], out: &mut Schema) {
        for m in entries {
            let name = decode(m.name.of(&self.text)).0;
            let name = String::from_utf8_lossy(&name).replace('~', "~0").replace('/', "~1");
            let pointer = format!("{above}/{name}");
            if self.is_collection(m.value) {
                out.tables.push(self.describe(&pointer, m.value));
            } else if self.text[m.value.start] == b'{' {
                let inner: Vec<Member> = members(&self.text, m.value).collect();
                self.search(&pointer, &inner, out);
            } else {
                let what = if self.text[m.value.start] == b'[' {
                    "a list of values that are no records"
                } else {
                    "a single value"
                };
                out.others.push((format!("member {pointer}"), format!("{what}; it stays in the file")));
            }
        }
    }

    fn is_empty(&self, span: Span) -> bool {
        self.text[span.start + 1..span.end - 1].trim_ascii().is_empty()
    }

    fn is_collection(&self, span: Span) -> bool {
        match self.text[span.start] {
            b'{' => members(&self.text, span).all(|m| self.text[m.value.start] == b'{'),
            b'[' => items(&self.text, span).all(|s| self.text[s.start] == b'{'),
            _ => false,
        }
    }

    fn describe(&self, pointer: &str, span: Span) -> Table {
        let object = self.text[span.start] == b'{';
        let mut names: Vec<String> = Vec::new();
        let mut seen: HashSet<Cow<'_, [u8]>> = HashSet::new();
        let mut learn = |record: Span| {
            for m in members(&self.text, record) {
                let name = decode(m.name.of(&self.text)).0;
                if !seen.contains(&name) {
                    names.push(String::from_utf8_lossy(&name).into_owned());
                    seen.insert(name);
                }
            }
        };
        if object {
            members(&self.text, span).for_each(|m| learn(m.value));
        } else {
            items(&self.text, span).for_each(&mut learn);
        }
        let key = object.then(|| "key".to_owned());
        Table {
            name: pointer.to_owned(),
            columns: key.into_iter().chain(names).map(|name| Column { name, ..Column::default() }).collect(),
            key: if object { vec![0] } else { Vec::new() },
            details: Details { json_object: object, ..Details::default() },
            ..Table::default()
        }
    }

    // ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// The text after these writes.
    pub fn edit(&self, tables: &[&Table], writes: &[(usize, Vec<Write>)]) -> Result<Vec<u8>> {
        let mut by_table: BTreeMap<usize, Vec<&Write>> = BTreeMap::new();
        for (t, list) in writes {
            by_table.entry(*t).or_default().extend(list);
        }
        let mut splices = Vec::new();
        for (t, list) in by_table {
            let table = tables.get(t).ok_or_else(|| self.refused(format!("there is no table number {t}")))?;
            self.edit_table(table, &list, &mut splices)?;
        }
        text::splice(&self.text, splices).map_err(|f| self.input(f.at, f.what))
    }

    fn edit_table(&self, table: &Table, writes: &[&Write], out: &mut Vec<Splice>) -> Result<()> {
        let c = self.collection(table)?;
        // What becomes of records that are there (`None`: they go), and rows that are new.
        let mut fate: BTreeMap<usize, Option<&Row>> = BTreeMap::new();
        let mut new: Vec<&Row> = Vec::new();
        let mut keys: HashSet<Key> = HashSet::new();
        for write in writes {
            let Write::Put { row, from } = write else { continue };
            self.must_fit(table, row)?;
            let key = Key::of_row(row, &table.key);
            let twice = match from.as_ref().and_then(|k| c.index.get(k)) {
                Some(&i) => fate.insert(i, Some(row)).is_some(),
                None => {
                    new.push(row);
                    false
                }
            };
            if twice || keys.contains(&key) {
                return Err(self.refused(format!("two rows for one record of {}: {key}", table.title())));
            }
            keys.insert(key);
        }
        for write in writes {
            let dead = match write {
                Write::Put { row, .. } => Key::of_row(row, &table.key),
                Write::Delete { key } => key.clone(),
            };
            if let Some(&i) = c.index.get(&dead) {
                fate.entry(i).or_insert(None);
            }
        }
        let dead: BTreeSet<usize> = fate.iter().filter(|(_, row)| row.is_none()).map(|(&i, _)| i).collect();
        let flat = self.is_flat(c.span) && !self.style.broken(c.depth + 1);
        for (&i, row) in &fate {
            if let Some(row) = row {
                self.edit_record(table, &c, &c.records[i], row, flat, out);
            }
        }
        if dead.is_empty() && new.is_empty() {
            return Ok(());
        }
        let entries: Vec<Span> = c.records.iter().map(Record::whole).collect();
        let list = List { shape: c.shape, span: c.span, depth: c.depth, flat: false, entries };
        self.relist(&list, &dead, new.len(), |i, place, out| self.record(table, new[i], place, out), out);
        Ok(())
    }

    fn edit_record(
        &self,
        table: &Table,
        c: &Collection,
        record: &Record,
        row: &Row,
        flat: bool,
        out: &mut Vec<Splice>,
    ) {
        let here = self.columns(table, record, false).unwrap_or_default();
        let named = if record.name.is_some() { table.key.first().copied() } else { None };
        if let (Some(name), Some(key)) = (record.name, named)
            && field(name.of(&self.text)) != row[key]
        {
            let mut text = Vec::new();
            self.name(&row[key], &mut text);
            out.push(Splice { span: name, text });
        }
        let entries: Vec<Span> = members(&self.text, record.value).map(|m| m.whole()).collect();
        let depth = c.depth + 1;
        let inside_flat = self.is_flat(record.value) && !self.style.broken(depth + 1);
        let mut dead = BTreeSet::new();
        let mut new = Vec::new();
        for (i, given) in row.iter().enumerate() {
            match &here[i] {
                _ if Some(i) == named => {}
                None if *given == Value::Missing => {}
                None => new.push(i),
                Some(m) if *given == Value::Missing => {
                    dead.extend(entries.iter().position(|e| *e == m.whole()));
                }
                Some(m) if field(m.value.of(&self.text)) == *given => {}
                Some(m) => {
                    let indent = self.indent(m.name.start);
                    let mut text = Vec::new();
                    self.value(given, &Place { depth: depth + 1, indent, flat: inside_flat }, &mut text);
                    out.push(Splice { span: m.value, text });
                }
            }
        }
        let list = List { shape: Shape::Object, span: record.value, depth, flat, entries };
        let member = |i: usize, place: &Place, out: &mut Vec<u8>| self.member(table, row, new[i], place, out);
        self.relist(&list, &dead, new.len(), member, out);
    }

    /// The indentation of the line that `at` is in (not looked for in a file that has none and may be one long line).
    fn indent(&self, at: usize) -> Vec<u8> {
        if self.style.unit.is_none() { Vec::new() } else { line_indent(&self.text, at).to_vec() }
    }

    /// Whether the entries of a list begin in the line in which it begins.
    fn is_flat(&self, span: Span) -> bool {
        let inside = &self.text[span.start + 1..span.end];
        !inside.iter().take_while(|b| b.is_ascii_whitespace()).any(|&b| b == b'\n')
    }

    /// Takes the `dead` entries out of a list and appends `new` ones, so that it looks as if it had always been so.
    fn relist(
        &self,
        list: &List,
        dead: &BTreeSet<usize>,
        new: usize,
        mut entry: impl FnMut(usize, &Place, &mut Vec<u8>),
        out: &mut Vec<Splice>,
    ) {
        let (text, e) = (&self.text, &list.entries);
        let mut cut = |start, end, text| out.push(Splice { span: Span { start, end }, text });
        if dead.is_empty() && new == 0 {
            return;
        }
        let (Some(first), Some(last)) = (e.first(), e.last()) else {
            let indent = self.indent(list.span.start);
            let place = Place { depth: list.depth, indent, flat: list.flat };
            let mut piece = Vec::new();
            self.style.list(list.shape, &place, new, &mut piece, entry);
            return cut(list.span.start, list.span.end, piece);
        };
        if dead.len() == e.len() && new == 0 {
            return cut(list.span.start + 1, list.span.end - 1, Vec::new());
        }
        let flat = self.is_flat(list.span);
        let inner = Place {
            depth: list.depth + 1,
            indent: self.indent(last.start),
            flat: flat && !self.style.broken(list.depth + 1),
        };
        let between = match e.len().checked_sub(2) {
            Some(before) => text[e[before].end..last.start].to_vec(),
            None if flat => self.style.comma_flat.clone(),
            None => [&self.style.comma_line, &text[list.span.start + 1..first.start]].concat(),
        };
        let mut piece = Vec::new();
        for i in 0..new {
            if i > 0 || dead.len() < e.len() {
                piece.extend_from_slice(&between);
            }
            entry(i, &inner, &mut piece);
        }
        let mut previous: Option<usize> = None;
        for i in (0..e.len()).filter(|i| !dead.contains(i)) {
            match previous {
                None if i > 0 => cut(first.start, e[i].start, Vec::new()),
                Some(p) if i > p + 1 => cut(e[p].end, e[i - 1].end, Vec::new()),
                _ => {}
            }
            previous = Some(i);
        }
        match previous {
            None => cut(first.start, last.end, piece),
            Some(p) if p + 1 < e.len() || new > 0 => cut(e[p].end, last.end, piece),
            Some(_) => {}
        }
    }

    fn must_fit(&self, table: &Table, row: &Row) -> Result<()> {
        if row.len() != table.columns.len() {
            let (has, wants) = (row.len(), table.columns.len());
            return Err(self.refused(format!("a row of {} has {has} values instead of {wants}", table.title())));
        }
        for (i, (v, column)) in row.iter().zip(&table.columns).enumerate() {
            let is_key = table.key.contains(&i);
            let fits = match v {
                Value::Text(t) => std::str::from_utf8(t).is_ok(),
                Value::Json(j) if is_key && table.details.json_object => {
                    self.style.name(j, true).is_some() && text::check(j).is_ok()
                }
                Value::Json(j) => text::check(j).is_ok(),
                _ if is_key && table.details.json_object => false,
                Value::Null | Value::Missing => !is_key,
                Value::Bool(_) | Value::Int(_) => true,
                _ => false,
            };
            if !fits {
                let key = Key::of_row(row, &table.key);
                let (title, column) = (table.title(), &column.name);
                return Err(self.refused(format!("{title}, record {key}: {v} cannot be the JSON member `{column}`")));
            }
        }
        Ok(())
    }

    fn name(&self, key: &Value<'_>, out: &mut Vec<u8>) {
        match key {
            Value::Json(raw) => out.extend_from_slice(raw),
            Value::Text(t) => out.extend(self.style.name(t, false).unwrap_or_default()),
            _ => {}
        }
    }

    fn value(&self, value: &Value<'_>, place: &Place, out: &mut Vec<u8>) {
        match value {
            Value::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
            Value::Int(i) => out.extend_from_slice(i.to_string().as_bytes()),
            Value::Text(t) => self.style.string(std::str::from_utf8(t).unwrap_or_default(), out),
            Value::Json(raw) => self.style.json(raw, place, out),
            _ => out.extend_from_slice(b"null"),
        }
    }

    fn member(&self, table: &Table, row: &Row, column: usize, place: &Place, out: &mut Vec<u8>) {
        self.style.string(&table.columns[column].name, out);
        out.extend_from_slice(&self.style.colon);
        self.value(&row[column], place, out);
    }

    fn record(&self, table: &Table, row: &Row, place: &Place, out: &mut Vec<u8>) {
        let named = if table.details.json_object { table.key.first().copied() } else { None };
        if let Some(key) = named {
            self.name(&row[key], out);
            out.extend_from_slice(&self.style.colon);
        }
        let columns: Vec<usize> = (0..row.len()).filter(|&i| Some(i) != named && row[i] != Value::Missing).collect();
        self.style.list(Shape::Object, place, columns.len(), out, |i, inner, out| {
            self.member(table, row, columns[i], inner, out);
        });
    }
}

/// A list that entries go from or come to.
struct List {
    shape: Shape,
    span: Span,
    depth: usize,
    /// It is in a list on one line.
    flat: bool,
    entries: Vec<Span>,
}

/// What is wrong with a file, by line and column.
pub fn broken(title: &str, text: &[u8], fault: &Fault) -> Error {
    let (line, column) = text::place(text, fault.at);
    let cause = if text.strip_prefix(text::BOM).unwrap_or(text).trim_ascii().is_empty() {
        fault.what.clone()
    } else {
        format!("line {line}, column {column}: {}", fault.what)
    };
    let hint = "the file was left as it is; correct it, or restore it from a backup, and run the command again".into();
    Error::Input { store: title.to_owned(), cause, hint }
}

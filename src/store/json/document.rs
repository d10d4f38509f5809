//! A JSON document as tables: collections, their records, rows.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::check::{Stop, check};
use super::files::failed;
use super::index::{Index, Place};
use super::source::{Reader, Span, Text};
use super::style::{Shape, Style};
use super::text::{self, BOM, Entry, Fault, Member, decode, entry, field, inside, members};
use crate::plan::{Column, Details, Table};
use crate::store::{Error, Result, Schema};
use crate::value::{Key, Row, Value};

/// One record of a collection, with its text; the spans are in that.
#[derive(Debug)]
pub struct Record<'r> {
    /// Where its text begins in the document.
    pub at: usize,
    pub raw: &'r [u8],
    /// Its name (with quotes), when the collection is an object.
    pub name: Option<Span>,
    pub value: Span,
}

/// A collection: where it is, and where its records are.
#[derive(Debug)]
pub struct Collection {
    pub span: Span,
    /// How many lists it is in.
    pub depth: usize,
    pub shape: Shape,
    pub index: Index,
    /// The greatest key, if every key is one whole number.
    pub highest: Option<i64>,
}

/// A JSON text that was found to be sound.
#[derive(Debug)]
pub struct Document {
    pub text: Text,
    title: String,
    root: Span,
    pub style: Style,
    collections: Mutex<HashMap<String, Arc<Collection>>>,
}

/// The records of a collection, one after the other.
pub struct Records<'d> {
    document: &'d Document,
    reader: Reader<'d>,
    shape: Shape,
    /// Where the next one begins.
    pub at: usize,
}

impl Records<'_> {
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        let Some(found) = self.document.io(entry(&mut self.reader, self.shape, self.at))? else { return Ok(None) };
        let at = std::mem::replace(&mut self.at, found.next);
        self.document.record(&mut self.reader, at, &found).map(Some)
    }

    /// Whether there is another.
    pub fn more(&mut self) -> Result<bool> {
        let next = self.document.io(self.reader.get(self.at))?;
        Ok(!matches!(next, None | Some(b']' | b'}')))
    }
}

impl Document {
    /// Reads a text; `title` is the file's name for messages.
    pub fn new(title: &str, text: Text) -> Result<Document> {
        let checked = check(&mut text.reader());
        match checked {
            Ok((root, style)) => {
                Ok(Document { text, title: title.to_owned(), root, style, collections: Mutex::default() })
            }
            Err(Stop::Fault(fault)) => Err(broken(title, &text, &fault)),
            Err(Stop::Read(e)) => Err(unread(title, e)),
        }
    }

    pub fn io<T>(&self, read: io::Result<T>) -> Result<T> {
        read.map_err(|e| unread(&self.title, e))
    }

    pub fn input(&self, at: usize, what: impl Into<String>) -> Error {
        broken(&self.title, &self.text, &Fault { at, what: what.into() })
    }

    fn changed(&self, at: usize, what: &str) -> Error {
        let (line, column) = match text::place(&mut self.text.reader(), at) {
            Ok(place) => place,
            Err(e) => return unread(&self.title, e),
        };
        Error::Capture {
            store: self.title.clone(),
            cause: format!("line {line}, column {column}: {what}"),
            schema_changed: true,
            rewound: false,
        }
    }

    pub fn refused(&self, cause: String) -> Error {
        Error::Refused {
            store: self.title.clone(),
            cause,
            hint: "nothing was written; the mapping's codec for this column must yield what JSON can hold".into(),
        }
    }

    /// The bytes of `span`.
    pub fn bytes(&self, span: Span) -> Result<Vec<u8>> {
        self.io(self.text.here_and_there().slice(span).map(<[u8]>::to_vec))
    }

    fn first(&self, at: usize) -> Result<u8> {
        Ok(self.io(self.text.here_and_there().get(at))?.unwrap_or(0))
    }

    // ── collections ────────────────────────────────────────────────────────────────────────────────────────────────

    /// Calls `each` for the entries of the list at `span` until it says `false`; whether it never did.
    fn each(
        &self,
        shape: Shape,
        span: Span,
        mut each: impl FnMut(&mut Reader<'_>, &Entry) -> Result<bool>,
    ) -> Result<bool> {
        let mut reader = self.text.reader();
        let mut at = self.io(inside(&mut reader, span))?;
        while let Some(found) = self.io(entry(&mut reader, shape, at))? {
            if !each(&mut reader, &found)? {
                return Ok(false);
            }
            at = found.next;
        }
        Ok(true)
    }

    fn name(&self, reader: &mut Reader<'_>, entry: &Entry) -> Result<Vec<u8>> {
        let raw = self.io(reader.slice(entry.name.unwrap_or(Span { start: 0, end: 0 })))?;
        Ok(decode(raw).0.into_owned())
    }

    /// The value that a JSON Pointer names, and how many lists it is in.
    fn find(&self, pointer: &str) -> Result<Option<(Span, usize)>> {
        let (mut at, mut depth) = (self.root, 0);
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            let mut found = None;
            match self.first(at.start)? {
                b'{' => self.each(Shape::Object, at, |reader, e| {
                    let is = self.name(reader, e)? == token.as_bytes();
                    found = is.then_some(e.value);
                    Ok(!is)
                })?,
                b'[' => {
                    let Ok(mut left) = token.parse::<usize>() else { return Ok(None) };
                    self.each(Shape::Array, at, |_, e| {
                        found = (left == 0).then_some(e.value);
                        left = left.saturating_sub(1);
                        Ok(found.is_none())
                    })?
                }
                _ => return Ok(None),
            };
            let Some(value) = found else { return Ok(None) };
            at = value;
            depth += 1;
        }
        Ok((pointer.is_empty() || pointer.starts_with('/')).then_some((at, depth)))
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
        let Some((span, depth)) = self.find(&table.name)? else {
            return Err(
                self.changed(self.root.start, &format!("the collection {} is not there any more", table.title()))
            );
        };
        let shape = if table.details.json_object { Shape::Object } else { Shape::Array };
        if self.first(span.start)? != shape.brackets().0 {
            let wanted = if shape == Shape::Object { "an object" } else { "an array" };
            return Err(self.changed(span.start, &format!("the collection {} is not {wanted}", table.title())));
        }
        let (mut places, mut highest, mut numbers) = (Vec::new(), None, true);
        let names = table.key_names();
        let mut records = self.records_in(span, shape)?;
        while let Some(record) = records.next()? {
            if record.raw[record.value.start] != b'{' {
                let at = record.at + record.value.start;
                return Err(self.input(at, "a record should be an object, `{…}`"));
            }
            let parts = self.key_parts(&names, &record)?;
            match parts.as_slice() {
                [Value::Int(n)] => highest = highest.max(Some(*n)),
                _ => numbers = false,
            }
            places.push(Place::new(&Key::of(&parts), record.at, record.value.of(record.raw)));
        }
        let c = Collection { span, depth, shape, index: Index::new(places), highest: highest.filter(|_| numbers) };
        self.no_key_twice(&names, &c)?;
        Ok(c)
    }

    fn no_key_twice(&self, names: &[&str], c: &Collection) -> Result<()> {
        let mut reader = self.text.here_and_there();
        let mut twice: Option<(usize, usize, Key)> = None;
        for (place, before) in c.index.alike() {
            if twice.as_ref().is_some_and(|(at, ..)| *at < place.at) {
                continue;
            }
            let record = self.record_at(&mut reader, c.shape, place.at)?;
            let (key, at) = (self.key(names, &record)?, place.at);
            for other in before.iter().rev() {
                let first = self.record_at(&mut reader, c.shape, other.at)?;
                if self.key(names, &first)? == key {
                    twice = Some((at, other.at, key));
                    break;
                }
            }
        }
        let Some((at, first, key)) = twice else { return Ok(()) };
        let mut value = |at| self.record_at(&mut reader, c.shape, at).map(|r| at + r.value.start);
        let (line, _) = self.io(text::place(&mut self.text.reader(), value(first)?))?;
        Err(self.input(value(at)?, format!("the key {key} is already that of the record at line {line}")))
    }

    // ── records ────────────────────────────────────────────────────────────────────────────────────────────────────

    fn records_in(&self, span: Span, shape: Shape) -> Result<Records<'_>> {
        let mut reader = self.text.reader();
        let at = self.io(inside(&mut reader, span))?;
        Ok(Records { document: self, reader, shape, at })
    }

    /// The records of a collection, or those that begin at a place at which a reading ended before.
    pub fn records(&self, collection: &Collection, from: Option<usize>) -> Result<Records<'_>> {
        let all = self.records_in(collection.span, collection.shape)?;
        Ok(Records { at: from.unwrap_or(all.at), ..all })
    }

    fn record<'r>(&self, reader: &'r mut Reader<'_>, at: usize, found: &Entry) -> Result<Record<'r>> {
        let raw = self.io(reader.slice(Span { start: at, end: found.value.end }))?;
        let within = |s: Span| Span { start: s.start - at, end: s.end - at };
        Ok(Record { at, raw, name: found.name.map(within), value: within(found.value) })
    }

    /// The record that begins at `at`.
    pub fn record_at<'r>(&self, reader: &'r mut Reader<'_>, shape: Shape, at: usize) -> Result<Record<'r>> {
        match self.io(entry(reader, shape, at))? {
            Some(found) => self.record(reader, at, &found),
            None => Err(self.input(at, "a record is not where it was; this is a bug in Backout")),
        }
    }

    /// Where the record under a key begins.
    pub fn at(&self, reader: &mut Reader<'_>, table: &Table, c: &Collection, key: &Key) -> Result<Option<usize>> {
        for place in &c.index.places()[c.index.like(&key.0)] {
            let record = self.record_at(reader, c.shape, place.at)?;
            if self.key(&table.key_names(), &record)? == *key {
                return Ok(Some(place.at));
            }
        }
        Ok(None)
    }

    /// The key of a record, in a table with key columns of these names.
    pub fn key(&self, names: &[&str], record: &Record<'_>) -> Result<Key> {
        Ok(Key::of(&self.key_parts(names, record)?))
    }

    fn key_parts<'r>(&self, names: &[&str], record: &Record<'r>) -> Result<Vec<Value<'r>>> {
        if let Some(name) = record.name {
            return Ok(vec![field(name.of(record.raw))]);
        }
        let mut parts: Vec<Value<'_>> = vec![Value::Missing; names.len()];
        for m in members(record.raw, record.value) {
            let name = decode(m.name.of(record.raw)).0;
            if let Some(i) = names.iter().position(|n| n.as_bytes() == &*name) {
                parts[i] = field(m.value.of(record.raw));
            }
        }
        match parts.iter().position(Value::is_null) {
            Some(i) => {
                let at = record.at + record.value.start;
                Err(self.input(at, format!("a record has no `{}`, which is its key", names[i])))
            }
            None => Ok(parts),
        }
    }

    /// Which member is which column; members that are no column are an error if `strict`.
    pub fn columns(&self, table: &Table, record: &Record<'_>, strict: bool) -> Result<Vec<Option<Member>>> {
        let mut out = vec![None; table.columns.len()];
        let key = if record.name.is_some() { table.key.first().copied() } else { None };
        let mut next = 0;
        for m in members(record.raw, record.value) {
            let name = decode(m.name.of(record.raw)).0;
            let is = |i: usize| Some(i) != key && table.columns[i].name.as_bytes() == &*name;
            let n = table.columns.len();
            match (next..n).chain(0..next).find(|&i| is(i)) {
                Some(i) => {
                    out[i] = Some(m);
                    next = i + 1;
                }
                None if strict => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    let (key, title) = (self.key(&table.key_names(), record)?, table.title());
                    let what = format!("record {key} of {title}: a new member `{name}` the plan does not know");
                    return Err(self.changed(record.at + m.name.start, &what));
                }
                None => {}
            }
        }
        Ok(out)
    }

    /// A record as a row of its table.
    pub fn row<'r>(&self, table: &Table, record: &Record<'r>) -> Result<Vec<Value<'r>>> {
        let raw = record.raw;
        let mut row: Vec<Value<'_>> = self
            .columns(table, record, true)?
            .into_iter()
            .map(|m| m.map_or(Value::Missing, |m| field(m.value.of(raw))))
            .collect();
        if let (Some(name), Some(&key)) = (record.name, table.key.first()) {
            row[key] = field(name.of(raw));
        }
        Ok(row)
    }

    /// The rows under some keys.
    pub fn fetch(&self, table: &Table, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        let collection = self.collection(table)?;
        let mut reader = self.text.here_and_there();
        let mut one = |key: &Key| -> Result<Option<Row>> {
            let Some(at) = self.at(&mut reader, table, &collection, key)? else { return Ok(None) };
            let record = self.record_at(&mut reader, collection.shape, at)?;
            Ok(Some(self.row(table, &record)?.into_iter().map(Value::into_owned).collect()))
        };
        keys.iter().map(&mut one).collect()
    }

    // ── the schema ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// All collections, and what is there besides.
    pub fn schema(&self) -> Result<Schema> {
        let mut out = Schema::default();
        let root = self.is_collection(self.root)?;
        if root {
            out.tables.push(self.describe("", self.root)?);
        }
        let object = self.first(self.root.start)? == b'{';
        // Records are not searched for collections within them, unless every one of a few is a collection itself.
        let mut entries = 0;
        let inner = |n: &mut usize| {
            self.each(Shape::Object, self.root, |_, e| {
                *n += 1;
                Ok(*n <= 64 && self.is_collection(e.value)? && !self.is_empty(e.value)?)
            })
        };
        if object && (!root || (inner(&mut entries)? && entries > 0)) {
            self.search("", self.root, &mut out)?;
        }
        if !root && !object {
            out.others.push(("the whole file".into(), "it is neither an object nor an array of records".into()));
        }
        out.notes = vec![String::new(); out.tables.len()];
        Ok(out)
    }

    fn search(&self, above: &str, object: Span, out: &mut Schema) -> Result<()> {
        self.each(Shape::Object, object, |reader, e| {
            let name = self.name(reader, e)?;
            let name = String::from_utf8_lossy(&name).replace('~', "~0").replace('/', "~1");
            let pointer = format!("{above}/{name}");
            let first = self.first(e.value.start)?;
            if self.is_collection(e.value)? {
                out.tables.push(self.describe(&pointer, e.value)?);
            } else if first == b'{' {
                self.search(&pointer, e.value, out)?;
            } else {
                let what = if first == b'[' { "a list of values that are no records" } else { "a single value" };
                out.others.push((format!("member {pointer}"), format!("{what}; it stays in the file")));
            }
            Ok(true)
        })?;
        Ok(())
    }

    fn is_empty(&self, list: Span) -> Result<bool> {
        Ok(self.io(inside(&mut self.text.here_and_there(), list))? + 1 == list.end)
    }

    fn is_collection(&self, span: Span) -> Result<bool> {
        let shape = match self.first(span.start)? {
            b'{' => Shape::Object,
            b'[' => Shape::Array,
            _ => return Ok(false),
        };
        self.each(shape, span, |reader, e| Ok(self.io(reader.get(e.value.start))? == Some(b'{')))
    }

    fn describe(&self, pointer: &str, span: Span) -> Result<Table> {
        let object = self.first(span.start)? == b'{';
        let mut names: Vec<String> = Vec::new();
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        let mut records = self.records_in(span, if object { Shape::Object } else { Shape::Array })?;
        while let Some(record) = records.next()? {
            for m in members(record.raw, record.value) {
                let name: Cow<'_, [u8]> = decode(m.name.of(record.raw)).0;
                if !seen.contains(&*name) {
                    names.push(String::from_utf8_lossy(&name).into_owned());
                    seen.insert(name.into_owned());
                }
            }
        }
        let key = object.then(|| "key".to_owned());
        Ok(Table {
            name: pointer.to_owned(),
            columns: key.into_iter().chain(names).map(|name| Column { name, ..Column::default() }).collect(),
            key: if object { vec![0] } else { Vec::new() },
            details: Details { json_object: object, ..Details::default() },
            ..Table::default()
        })
    }
}

/// What is wrong with a file, by line and column.
fn broken(title: &str, text: &Text, fault: &Fault) -> Error {
    let mut reader = text.reader();
    let found = text::place(&mut reader, fault.at).and_then(|place| Ok((place, blank(&mut reader)?)));
    let cause = match found {
        Err(e) => return unread(title, e),
        Ok((_, true)) => fault.what.clone(),
        Ok(((line, column), false)) => format!("line {line}, column {column}: {}", fault.what),
    };
    let hint = "the file was left as it is; correct it, or restore it from a backup, and run the command again".into();
    Error::Input { store: title.to_owned(), cause, hint }
}

/// Nothing but space.
fn blank(text: &mut Reader<'_>) -> io::Result<bool> {
    let mut at = if text.fill(0, BOM.len())?.starts_with(BOM) { BOM.len() } else { 0 };
    while let Some(b) = text.get(at)? {
        if !b.is_ascii_whitespace() {
            return Ok(false);
        }
        at += 1;
    }
    Ok(true)
}

fn unread(title: &str, cause: io::Error) -> Error {
    failed("read a copy of", std::path::Path::new(title), cause)
}

//! Edits of a document that leave everything else as it is.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::check::check;
use super::document::{Collection, Document, Record};
use super::source::{Reader, Span};
use super::style::{Place, Shape};
use super::text::{Splice, entry, field, in_order, inside, line_indent};
use crate::plan::Table;
use crate::store::{Result, Write};
use crate::value::{Key, Row, Value};

impl Document {
    /// What these writes make of the text: pieces of it replaced, in its order.
    pub fn edit(&self, tables: &[&Table], writes: &[(usize, Vec<Write>)]) -> Result<Vec<Splice>> {
        let mut by_table: BTreeMap<usize, Vec<&Write>> = BTreeMap::new();
        for (t, list) in writes {
            by_table.entry(*t).or_default().extend(list);
        }
        let mut splices = Vec::new();
        for (t, list) in by_table {
            let table = tables.get(t).ok_or_else(|| self.refused(format!("there is no table number {t}")))?;
            self.edit_table(table, &list, &mut splices)?;
        }
        in_order(splices).map_err(|f| self.input(f.at, f.what))
    }

    fn edit_table(&self, table: &Table, writes: &[&Write], out: &mut Vec<Splice>) -> Result<()> {
        let c = self.collection(table)?;
        let mut reader = self.text.here_and_there();
        // What becomes of records that are there, by where they begin (`None`: they go), and rows that are new.
        let mut fate: BTreeMap<usize, Option<&Row>> = BTreeMap::new();
        let mut new: Vec<&Row> = Vec::new();
        let mut keys: HashSet<Key> = HashSet::new();
        for write in writes {
            let Write::Put { row, from } = write else { continue };
            self.must_fit(table, row)?;
            let key = Key::of_row(row, &table.key);
            let here = from.as_ref().map(|k| self.at(&mut reader, table, &c, k)).transpose()?.flatten();
            let twice = match here {
                Some(at) => fate.insert(at, Some(row)).is_some(),
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
            if let Some(at) = self.at(&mut reader, table, &c, &dead)? {
                fate.entry(at).or_insert(None);
            }
        }
        let dead: BTreeSet<usize> = fate.iter().filter(|(_, row)| row.is_none()).map(|(&at, _)| at).collect();
        let flat = self.is_flat(&mut reader, c.span)? && !self.style.broken(c.depth + 1);
        for (&at, row) in &fate {
            if let Some(row) = row {
                let record = self.record_at(&mut reader, c.shape, at)?;
                self.edit_record(table, &c, &record, row, flat, out)?;
            }
        }
        if dead.is_empty() && new.is_empty() {
            return Ok(());
        }
        let list = List { shape: c.shape, span: c.span, depth: c.depth, flat: false };
        let write = |i: usize, place: &Place, out: &mut Vec<u8>| self.put_record(table, new[i], place, out);
        self.relist(&list, &dead, new.len(), write, out)
    }

    fn edit_record(
        &self,
        table: &Table,
        c: &Collection,
        record: &Record<'_>,
        row: &Row,
        flat: bool,
        out: &mut Vec<Splice>,
    ) -> Result<()> {
        let (raw, at) = (record.raw, record.at);
        let here = self.columns(table, record, false)?;
        let named = if record.name.is_some() { table.key.first().copied() } else { None };
        if let (Some(name), Some(key)) = (record.name, named)
            && field(name.of(raw)) != row[key]
        {
            let mut text = Vec::new();
            self.put_name(&row[key], &mut text);
            out.push(Splice { span: name.beyond(at), text });
        }
        let depth = c.depth + 1;
        let inside_flat = self.is_flat(&mut Reader::of(raw), record.value)? && !self.style.broken(depth + 1);
        let mut dead = BTreeSet::new();
        let mut new = Vec::new();
        for (i, given) in row.iter().enumerate() {
            match &here[i] {
                _ if Some(i) == named => {}
                None if *given == Value::Missing => {}
                None => new.push(i),
                Some(m) if *given == Value::Missing => {
                    dead.insert(at + m.name.start);
                }
                Some(m) if field(m.value.of(raw)) == *given => {}
                Some(m) => {
                    let indent = self.indent(at + m.name.start)?;
                    let mut text = Vec::new();
                    self.value(given, &Place { depth: depth + 1, indent, flat: inside_flat }, &mut text);
                    out.push(Splice { span: m.value.beyond(at), text });
                }
            }
        }
        let list = List { shape: Shape::Object, span: record.value.beyond(at), depth, flat };
        let member = |i: usize, place: &Place, out: &mut Vec<u8>| self.member(table, row, new[i], place, out);
        self.relist(&list, &dead, new.len(), member, out)
    }

    /// The indentation of the line that `at` is in (not looked for in a file that has none and may be one long line).
    fn indent(&self, at: usize) -> Result<Vec<u8>> {
        if self.style.unit.is_none() {
            return Ok(Vec::new());
        }
        self.io(line_indent(&mut self.text.here_and_there(), at))
    }

    /// Whether the entries of a list begin in the line in which it begins.
    fn is_flat(&self, reader: &mut Reader<'_>, span: Span) -> Result<bool> {
        let mut at = span.start + 1;
        loop {
            match self.io(reader.get(at))? {
                Some(b'\n') => return Ok(false),
                Some(b) if b.is_ascii_whitespace() => at += 1,
                _ => return Ok(true),
            }
        }
    }

    /// Takes the `dead` entries out of a list and appends `new` ones, so that it looks as if it had always been so.
    fn relist(
        &self,
        list: &List,
        dead: &BTreeSet<usize>,
        new: usize,
        mut entry: impl FnMut(usize, &Place, &mut Vec<u8>),
        out: &mut Vec<Splice>,
    ) -> Result<()> {
        if dead.is_empty() && new == 0 {
            return Ok(());
        }
        let mut cut = |start, end, text| out.push(Splice { span: Span { start, end }, text });
        let found = self.look_over(list, dead)?;
        let Some((first, last)) = found.first.zip(found.last) else {
            let indent = self.indent(list.span.start)?;
            let place = Place { depth: list.depth, indent, flat: list.flat };
            let mut piece = Vec::new();
            self.style.list(list.shape, &place, new, &mut piece, entry);
            cut(list.span.start, list.span.end, piece);
            return Ok(());
        };
        if found.alive.is_none() && new == 0 {
            cut(list.span.start + 1, list.span.end - 1, Vec::new());
            return Ok(());
        }
        let flat = self.is_flat(&mut self.text.here_and_there(), list.span)?;
        let inner = Place {
            depth: list.depth + 1,
            indent: self.indent(last.start)?,
            flat: flat && !self.style.broken(list.depth + 1),
        };
        let between = match found.last_but_one {
            Some(before) => self.bytes(Span { start: before.end, end: last.start })?,
            None if flat => self.style.comma_flat.clone(),
            None => {
                let open = self.bytes(Span { start: list.span.start + 1, end: first.start })?;
                [&self.style.comma_line[..], &open].concat()
            }
        };
        let mut piece = Vec::new();
        for i in 0..new {
            if i > 0 || found.alive.is_some() {
                piece.extend_from_slice(&between);
            }
            entry(i, &inner, &mut piece);
        }
        for gap in found.gaps {
            cut(gap.start, gap.end, Vec::new());
        }
        match found.alive {
            None => cut(first.start, last.end, piece),
            Some(alive) if alive != last || new > 0 => cut(alive.end, last.end, piece),
            Some(_) => {}
        }
        Ok(())
    }

    /// Goes through the entries of a list.
    fn look_over(&self, list: &List, dead: &BTreeSet<usize>) -> Result<Entries> {
        let mut reader = self.text.reader();
        let mut at = self.io(inside(&mut reader, list.span))?;
        let mut out = Entries::default();
        while let Some(found) = self.io(entry(&mut reader, list.shape, at))? {
            let whole = Span { start: at, end: found.value.end };
            if !dead.contains(&at) {
                match (out.alive, out.first, out.last) {
                    (None, Some(first), _) => out.gaps.push(Span { start: first.start, end: at }),
                    (Some(alive), _, Some(last)) if alive != last => {
                        out.gaps.push(Span { start: alive.end, end: last.end });
                    }
                    _ => {}
                }
                out.alive = Some(whole);
            }
            out.first.get_or_insert(whole);
            out.last_but_one = out.last.replace(whole);
            at = found.next;
        }
        Ok(out)
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
                    self.style.name(j, true).is_some() && is_sound(j)
                }
                Value::Json(j) => is_sound(j),
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

    fn put_name(&self, key: &Value<'_>, out: &mut Vec<u8>) {
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

    fn put_record(&self, table: &Table, row: &Row, place: &Place, out: &mut Vec<u8>) {
        let named = if table.details.json_object { table.key.first().copied() } else { None };
        if let Some(key) = named {
            self.put_name(&row[key], out);
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
}

/// What there is to know of the entries of a list of which some go.
#[derive(Default)]
struct Entries {
    first: Option<Span>,
    last_but_one: Option<Span>,
    last: Option<Span>,
    /// The last one that stays.
    alive: Option<Span>,
    /// What goes before that, with the commas.
    gaps: Vec<Span>,
}

fn is_sound(json: &[u8]) -> bool {
    check(&mut Reader::of(json)).is_ok()
}

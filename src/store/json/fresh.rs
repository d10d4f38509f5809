//! A JSON file that was not there, of rows that come from elsewhere: indented by two spaces, one member to a line.

use std::fs;
use std::path::Path;

use super::document::Document;
use super::files::{self, failed, with_suffix};
use super::text::splice;
use crate::gate::Gate;
use crate::plan::Table;
use crate::store::{Result, Write};
use crate::value::Row;

/// Writes the file, durably and whole or not at all; an error if something of that name is there.
pub fn write(path: &Path, tables: &[&Table], rows: Vec<Vec<Row>>, gate: &Gate) -> Result<()> {
    let title = path.display().to_string();
    let empty = Document::new(&title, frame(tables).to_string().into_bytes().into())?;
    let puts = |rows: Vec<Row>| rows.into_iter().map(|row| Write::Put { row, from: None }).collect();
    let writes: Vec<(usize, Vec<Write>)> = rows.into_iter().map(puts).enumerate().collect();
    let mut text = Vec::new();
    let splices = empty.edit(tables, &writes)?;
    splice(&empty.text, &splices, &mut text).map_err(|e| failed("write", path, e))?;
    // reading it whole again is what shows that it is sound
    let sound = Document::new(&title, indented(&text).into())?;
    for table in tables {
        sound.collection(table)?;
    }
    let temporary = with_suffix(path, ".backout.tmp");
    gate.pass(&format!("write {title}"), || {
        files::write_new(&temporary, None, |out| sound.text.pour(out))?;
        // a link takes no place that is taken, whoever was quicker
        let linked = fs::hard_link(&temporary, path).map_err(|e| failed("write", path, e));
        let _ = files::remove(&temporary);
        linked.and_then(|()| files::sync(path))
    })
}

/// The document without a record in it.
fn frame(tables: &[&Table]) -> serde_json::Value {
    let mut root = serde_json::Value::Null;
    for table in tables {
        let mut at = &mut root;
        for token in table.name.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            if !at.is_object() {
                *at = serde_json::json!({});
            }
            at = &mut at[token];
        }
        if at.is_null() {
            *at = if table.details.json_object { serde_json::json!({}) } else { serde_json::json!([]) };
        }
    }
    root
}

/// The same tokens, indented.
fn indented(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 5 / 4);
    let (mut depth, mut in_text, mut escaped, mut just_opened) = (0usize, false, false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    for &b in text {
        if in_text {
            out.push(b);
            in_text = escaped || b != b'"';
            escaped = !escaped && b == b'\\';
            continue;
        }
        if b.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(b, b'}' | b']');
        if just_opened && !closes {
            line(&mut out, depth);
        }
        if closes {
            depth = depth.saturating_sub(1);
            if !just_opened {
                line(&mut out, depth);
            }
        }
        just_opened = false;
        out.push(b);
        match b {
            b'{' | b'[' => {
                depth += 1;
                just_opened = true;
            }
            b',' => line(&mut out, depth),
            b':' => out.push(b' '),
            b'"' => in_text = true,
            _ => {}
        }
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn a_text_is_indented_without_touching_a_token() {
        let text = br#"{"a":[1E3,"x{\"],\\",[],{}],"b" : {"c":-0.0}}"#;
        let wanted = "{\n  \"a\": [\n    1E3,\n    \"x{\\\"],\\\\\",\n    [],\n    {}\n  ],\n  \"b\": {\n    \"c\": -0.0\n  }\n}\n";
        assert_eq!(String::from_utf8(indented(text)).unwrap(), wanted);
        assert_eq!(indented(wanted.as_bytes()), wanted.as_bytes());
    }
}

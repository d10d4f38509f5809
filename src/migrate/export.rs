//! Rows that a way back leaves out, in a file for people and programs: one JSON object per line, readable by its owner alone.

use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use crate::gate::Gate;
use crate::plan::Table;
use crate::store;
use crate::value::{Key, Value};

use super::Result;

/// Such a file, in the project's folder.
pub(crate) struct Export {
    path: PathBuf,
    gate: Gate,
}

/// One row that is left out.
pub(crate) struct Left<'r> {
    /// The table that `key` is a key of.
    pub table: &'r Table,
    pub key: &'r Key,
    /// The source's table, and how the row is or was there; `None`: there was none.
    pub source: &'r Table,
    pub before: Option<&'r [Value<'r>]>,
    /// The table that `after` is a row of, and the row as the target had it; `None`: it was deleted there.
    pub after: Option<(&'r Table, &'r [Value<'r>])>,
    /// By the target's clock, where it is known.
    pub at: Option<&'r str>,
    pub why: &'r str,
}

impl Left<'_> {
    /// The line, with its end.
    pub(crate) fn line(&self) -> Vec<u8> {
        let key = self.table.key.iter().map(|&c| self.table.columns[c].name.as_str());
        let key: Map<String, Json> = key.zip(self.key.values()).map(|(n, v)| (n.to_owned(), plain(&v))).collect();
        let line = json!({
            "table": self.source.title(),
            "key": key,
            "before": self.before.map(|row| object(self.source, row)),
            "after": self.after.map(|(table, row)| object(table, row)),
            "at": self.at,
            "why": self.why,
        });
        format!("{line}\n").into_bytes()
    }
}

fn object(table: &Table, row: &[Value<'_>]) -> Json {
    let there = table.columns.iter().zip(row).filter(|(_, v)| !matches!(v, Value::Missing));
    there.map(|(c, v)| (c.name.clone(), plain(v))).collect::<Map<String, Json>>().into()
}

/// A value as JSON; bytes that are no text as `{"hex": …}`.
fn plain(value: &Value<'_>) -> Json {
    let hex = |bytes: &[u8]| json!({ "hex": bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() });
    match value {
        Value::Null | Value::Missing => Json::Null,
        Value::Bool(b) => json!(b),
        Value::Int(i) => json!(i),
        Value::Real(r) if r.is_finite() => json!(r),
        Value::Text(t) => std::str::from_utf8(t).map_or_else(|_| hex(t), |t| json!(t)),
        Value::Blob(b) => hex(b),
        Value::Decimal(d) => json!(d),
        Value::Json(j) => serde_json::from_slice(j).unwrap_or_else(|_| hex(j)),
        Value::Date(d) => crate::value::date_text(*d).map_or_else(|| json!(d), Json::from),
        Value::Timestamp(t) => crate::value::timestamp_text(*t).map_or_else(|| json!(t), Json::from),
        Value::TimestampTz(t) => {
            crate::value::timestamp_text(*t).map_or_else(|| json!(t), |t| json!(format!("{t}+00:00")))
        }
        Value::Uuid(u) => json!(uuid::Uuid::from_bytes(*u).to_string()),
        Value::Real(r) => json!(r.to_string()),
    }
}

impl Export {
    /// `backout-WHAT-RUN.jsonl` in the folder.
    pub(crate) fn of(folder: &Path, what: &str, run: &str, gate: &Gate) -> Export {
        Export { path: folder.join(format!("backout-{what}-{run}.jsonl")), gate: gate.clone() }
    }

    /// For people.
    pub(crate) fn title(&self) -> String {
        self.path.display().to_string()
    }

    /// Puts these lines after the first `from` bytes; what was beyond is of a step that never came to be. Returns the new
    /// length; it is durable then.
    pub(crate) fn add(&self, from: u64, lines: &[u8]) -> Result<u64> {
        let write = || -> io::Result<u64> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
            file.set_len(from)?;
            file.seek(SeekFrom::Start(from))?;
            file.write_all(lines)?;
            file.sync_all()?;
            Ok(from + lines.len() as u64)
        };
        let failed = |cause| store::Error::File { operation: "write".into(), path: self.title(), cause };
        Ok(self.gate.pass(&format!("write {}", self.title()), || write().map_err(failed))?)
    }
}

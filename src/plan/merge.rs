//! `[merge]`: several tables of one store become one; `[split]`: one becomes several.

use super::SoftReference;
use super::config::keys;
use super::document::{At, ConfigError, Section, did_you_mean};
use super::migration::KEYS;

/// `[merge]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// Where it stands.
    pub at: At,
    /// The table that they become.
    pub into: String,
    /// Its column that tells whose row each is.
    pub discriminator: String,
    /// `[[merge.from]]`: those that become it.
    pub from: Vec<Part>,
}

/// `[[merge.from]]`: one of the tables that become one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Where it stands.
    pub at: At,
    /// The table.
    pub table: String,
    /// What its rows have in the discriminator.
    pub value: String,
    /// Its columns that get another name: old, new.
    pub columns: Vec<(String, String)>,
    /// Columns of the merged table that it does not have, and what all of its rows hold there (SQL).
    pub constants: Vec<(String, String)>,
    /// What is added to its numbers.
    pub offset: Option<i64>,
}

/// What `[merge]` says, but for its store.
pub(super) fn merge(section: &Section<'_>) -> Result<Merge, ConfigError> {
    let doc = section.doc;
    let into = section.required("into", "the table that they become")?;
    let discriminator = section.required("discriminator", "its column that tells whose row each is")?;
    let mut from: Vec<Part> = Vec::new();
    for part in section.sections("from", "merge.from", keys(KEYS, "merge.from"))? {
        let table = part.required("table", "one of the tables that become one")?;
        let value = part.required("value", "what its rows have in the discriminator")?;
        if from.iter().any(|p| p.table == table.value) {
            return Err(doc.error(table.start, format!("table `{}` stands here twice", table.value), None));
        }
        if let Some(other) = from.iter().find(|p| p.value == value.value) {
            let message = format!("rows of `{}` have `{}` there already", other.table, value.value);
            return Err(doc.error(value.start, message, Some("each table needs a value of its own".into())));
        }
        let pairs = |key| Ok(part.pairs(key)?.into_iter().map(|(a, b)| (a.value, b.value)).collect());
        let (columns, constants) = (pairs("columns")?, pairs("constants")?);
        let offset = part.number("offset")?;
        let at = doc.at(part.start);
        from.push(Part { at, table: table.value, value: value.value, columns, constants, offset });
    }
    if from.len() < 2 {
        let hint = "[[merge.from]] table = \"images\", value = \"image\", columns = { image_url = \"url\" }";
        return Err(doc.error(section.start, "[merge] needs two tables at least", Some(hint.to_owned())));
    }
    Ok(Merge { at: doc.at(section.start), into: into.value, discriminator: discriminator.value, from })
}

/// `[split]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Where it stands.
    pub at: At,
    /// The table that becomes several.
    pub from: String,
    /// Its column that tells which of them a row goes to.
    pub discriminator: String,
    /// `[[split.into]]`: what it becomes.
    pub into: Vec<SplitPart>,
    /// `[[split.reference]]`: foreign keys of other tables, and which of the new ones each refers to.
    pub references: Vec<SoftReference>,
}

/// `[[split.into]]`: one of the tables that one becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitPart {
    /// Where it stands.
    pub at: At,
    /// The table.
    pub table: String,
    /// What its rows have in the discriminator.
    pub value: String,
    /// Its columns that get another name: old, new.
    pub columns: Vec<(String, String)>,
    /// Columns that it does not have; its rows hold NULL there.
    pub without: Vec<String>,
}

/// What `[split]` says, but for its store.
pub(super) fn split(section: &Section<'_>) -> Result<Split, ConfigError> {
    let doc = section.doc;
    let from = section.required("table", "the table that becomes several")?;
    let discriminator = section.required("discriminator", "its column that tells which of them a row goes to")?;
    let mut into: Vec<SplitPart> = Vec::new();
    for part in section.sections("into", "split.into", keys(KEYS, "split.into"))? {
        let table = part.required("table", "one of the tables that it becomes")?;
        let value = part.required("value", "what its rows have in the discriminator")?;
        if into.iter().any(|p| p.table == table.value) {
            return Err(doc.error(table.start, format!("table `{}` stands here twice", table.value), None));
        }
        if let Some(other) = into.iter().find(|p| p.value == value.value) {
            let message = format!("rows with `{}` go to `{}` already", value.value, other.table);
            return Err(doc.error(value.start, message, Some("each table needs a value of its own".into())));
        }
        let columns = part.pairs("columns")?.into_iter().map(|(a, b)| (a.value, b.value)).collect();
        let without = part.texts("without", false)?.into_iter().map(|t| t.value).collect();
        into.push(SplitPart { at: doc.at(part.start), table: table.value, value: value.value, columns, without });
    }
    if into.len() < 2 {
        let hint = "[[split.into]] table = \"images\", value = \"image\", columns = { url = \"image_url\" }, without = [\"pages\"]";
        return Err(doc.error(section.start, "[split] needs two tables at least", Some(hint.to_owned())));
    }
    let mut references: Vec<SoftReference> = Vec::new();
    for reference in section.sections("reference", "split.reference", keys(KEYS, "split.reference"))? {
        let table = reference.required("table", "the table that refers to the one that is split")?;
        let column = reference.required("column", "the column of its foreign key")?;
        let to = reference.required("to", "the new table that it refers to")?;
        if !into.iter().any(|p| p.table == to.value) {
            let hint = did_you_mean(&to.value, into.iter().map(|p| p.table.as_str()));
            return Err(doc.error(to.start, format!("`{}` is in no [[split.into]]", to.value), hint));
        }
        if references.iter().any(|r| r.table == table.value && r.column == column.value) {
            let message = format!("`{}.{}` stands here twice", table.value, column.value);
            return Err(doc.error(reference.start, message, None));
        }
        let at = doc.at(reference.start);
        references.push(SoftReference { at, table: table.value, column: column.value, to: to.value, carry: false });
    }
    Ok(Split { at: doc.at(section.start), from: from.value, discriminator: discriminator.value, into, references })
}

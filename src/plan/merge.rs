//! `[merge]`: several tables of one store become one.

use super::config::keys;
use super::document::{At, ConfigError, Section};
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
        let columns = part.pairs("columns")?.into_iter().map(|(a, b)| (a.value, b.value)).collect();
        from.push(Part { at: doc.at(part.start), table: table.value, value: value.value, columns });
    }
    if from.len() < 2 {
        let hint = "[[merge.from]] table = \"images\", value = \"image\", columns = { image_url = \"url\" }";
        return Err(doc.error(section.start, "[merge] needs two tables at least", Some(hint.to_owned())));
    }
    Ok(Merge { at: doc.at(section.start), into: into.value, discriminator: discriminator.value, from })
}

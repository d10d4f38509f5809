//! `[rekey]` and `[alter]`: the tables of one store change their shape where they are.

use super::config::{keys, kind_of};
use super::document::{At, ConfigError, Section, Text, did_you_mean};
use super::migration::{KEYS, values};
use super::{Config, Kind};
use crate::tokens::{Is, Scanner};

/// What becomes of the tables of one store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reshape {
    /// Where the first of the sections stands.
    pub at: At,
    /// Name of the store.
    pub store: String,
    /// `[rekey]`.
    pub rekey: Option<Rekey>,
    /// `[merge]`, which stands alone.
    pub merge: Option<super::Merge>,
    /// `[split]`, which stands alone.
    pub split: Option<super::Split>,
    /// `[[alter.table]]`.
    pub tables: Vec<AlterTable>,
    /// `[[alter.column]]`.
    pub columns: Vec<AlterColumn>,
}

/// `[rekey]`: primary keys change their type, and all that refers to them follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rekey {
    /// Where it stands.
    pub at: At,
    /// What the keys become: `uuid` or `bigint`.
    pub ty: String,
    /// Tables whose key it is.
    pub tables: Vec<String>,
    /// Values that are no UUIDs go along, each as one that is made of it.
    pub carry: bool,
    /// `[[rekey.reference]]`.
    pub references: Vec<SoftReference>,
}

/// `[[rekey.reference]]`: a column that holds such keys, though no foreign key says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SoftReference {
    /// Where it stands.
    pub at: At,
    /// Its table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The table whose keys it holds.
    pub to: String,
    /// As of [`Rekey`].
    pub carry: bool,
}

/// `[[alter.table]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlterTable {
    /// Where it stands.
    pub at: At,
    /// The table, as it is called now.
    pub table: String,
    /// Its new name.
    pub rename: String,
}

/// `[[alter.column]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlterColumn {
    /// Where it stands.
    pub at: At,
    /// The table, as it is called now.
    pub table: String,
    /// The column, as it is called now.
    pub column: String,
    /// What becomes of it.
    pub change: ColumnChange,
}

/// What becomes of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnChange {
    /// It is new.
    Add {
        /// Its type.
        ty: String,
        /// Its default, as SQL.
        default: Option<String>,
        /// NOT NULL.
        not_null: bool,
    },
    /// It goes.
    Drop,
    /// It becomes another; `None` is as it was.
    Alter {
        /// Its new name.
        rename: Option<String>,
        /// Its new type.
        ty: Option<String>,
        /// Its new default, as SQL.
        default: Option<String>,
        /// NOT NULL is set or dropped.
        not_null: Option<bool>,
        /// By what its values become those of the new type, if that does not tell.
        by: Option<By>,
    },
}

/// By what a column's values become those of its new type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// SQL of the store, and where it stands.
    Sql {
        /// Makes the new value of the old one.
        up: (String, At),
        /// Makes the old value of the new one.
        down: (String, At),
    },
    /// A codec, by its name.
    Codec {
        /// The name.
        name: String,
        /// Where it stands.
        at: At,
        /// Times without a zone are in UTC.
        utc: bool,
    },
}

impl Default for ColumnChange {
    fn default() -> ColumnChange {
        ColumnChange::Alter { rename: None, ty: None, default: None, not_null: None, by: None }
    }
}

/// What `[rekey]` and `[alter]` of a file say; `None` if there is neither.
pub(super) fn reshape(top: &Section<'_>, config: &Config) -> Result<Option<Reshape>, ConfigError> {
    let doc = top.doc;
    let rekeyed = top.section("rekey", keys(KEYS, "rekey"))?;
    let altered = top.section("alter", keys(KEYS, "alter"))?;
    let merged = top.section("merge", keys(KEYS, "merge"))?;
    let split = top.section("split", keys(KEYS, "split"))?;
    let said: Vec<&Section<'_>> = [&rekeyed, &altered, &merged, &split].into_iter().flatten().collect();
    let Some(first) = said.first() else { return Ok(None) };
    if top.has("transfer") {
        let hint = "move first, in a migration of its own, and change the shape in another".to_owned();
        let message = format!("{} and [transfer] do not go together", first.name);
        return Err(doc.error(first.start, message, Some(hint)));
    }
    let mut out = Reshape { at: doc.at(first.start), ..Reshape::default() };
    let mut kind = Kind::Sqlite;
    if let (Some(alone), true) = (merged.as_ref().or(split.as_ref()), said.len() > 1) {
        let other = said.iter().find(|s| s.start != alone.start).map_or("", |s| s.name.as_str());
        let message = format!("{} and {other} do not go together", alone.name);
        let hint = format!("{} stands in a migration of its own", alone.name);
        return Err(doc.error(alone.start, message, Some(hint)));
    }
    for section in &said {
        let store = section.required("store", "the name of a store in backout.toml")?;
        kind = match (config.store(&store.value), config.unset(&store.value)) {
            (Some(url), _) => kind_of(url),
            (None, Some(unset)) => unset.kind,
            (None, None) => return Err(config.no_such_store(doc, &store)),
        };
        if kind == Kind::Json {
            let message = format!("`{}` is a JSON file, which has no tables to change", store.value);
            let hint = "a store that changes its shape is a SQLite file or a PostgreSQL database".to_owned();
            return Err(doc.error(store.start, message, Some(hint)));
        }
        if !out.store.is_empty() && out.store != store.value {
            let message = format!("[rekey] is of `{}` and [alter] of `{}`", out.store, store.value);
            return Err(doc.error(store.start, message, Some("one migration changes one store".to_owned())));
        }
        out.store = store.value;
    }
    if let Some(section) = &rekeyed {
        out.rekey = Some(rekey(section)?);
    }
    if let Some(section) = &altered {
        alter(section, kind, &mut out)?;
    }
    if let Some(section) = &merged {
        out.merge = Some(super::merge::merge(section)?);
    }
    if let Some(section) = &split {
        out.split = Some(super::merge::split(section)?);
    }
    Ok(Some(out))
}

fn rekey(section: &Section<'_>) -> Result<Rekey, ConfigError> {
    let doc = section.doc;
    let ty = section.required("type", "what the keys become: \"uuid\" or \"bigint\"")?;
    if !["uuid", "bigint"].contains(&ty.value.as_str()) {
        let hint = did_you_mean(&ty.value, ["uuid", "bigint"])
            .unwrap_or_else(|| "\"uuid\" or \"bigint\"; other columns change their type in [[alter.column]]".into());
        return Err(doc.error(ty.start, format!("keys cannot become `{}`", ty.value), Some(hint)));
    }
    let tables = section.texts("tables", false)?;
    if tables.is_empty() {
        return Err(section.missing("tables", "the tables whose primary key changes its type: tables = [\"users\"]"));
    }
    let tables = values(tables);
    let carry = carries(section, &ty.value)?.unwrap_or(false);
    let mut references: Vec<SoftReference> = Vec::new();
    for soft in section.sections("reference", "rekey.reference", keys(KEYS, "rekey.reference"))? {
        let table = soft.required("table", "the table that holds such keys")?;
        let column = soft.required("column", "the column that holds them")?;
        let to = soft.required("to", "the table whose keys they are")?;
        if !tables.contains(&to.value) {
            let hint = did_you_mean(&to.value, tables.iter().map(String::as_str));
            let message = format!("`{}` is not among the `tables` of [rekey]", to.value);
            return Err(doc.error(to.start, message, hint));
        }
        if references.iter().any(|r| r.table == table.value && r.column == column.value) {
            let message = format!("`{}.{}` stands here twice", table.value, column.value);
            return Err(doc.error(soft.start, message, None));
        }
        references.push(SoftReference {
            at: doc.at(soft.start),
            table: table.value,
            column: column.value,
            to: to.value,
            carry: carries(&soft, &ty.value)?.unwrap_or(carry),
        });
    }
    Ok(Rekey { at: doc.at(section.start), ty: ty.value, tables, carry, references })
}

/// `invalid`: whether values that are no keys go along.
fn carries(section: &Section<'_>, ty: &str) -> Result<Option<bool>, ConfigError> {
    let Some(invalid) = section.text("invalid")? else { return Ok(None) };
    match invalid.value.as_str() {
        "refuse" => Ok(Some(false)),
        "carry" if ty == "uuid" => Ok(Some(true)),
        "carry" => {
            let hint = "a text that is no number cannot be told by one that was made up: mend those rows".to_owned();
            Err(section.doc.error(invalid.start, "`invalid = \"carry\"` is for type = \"uuid\"", Some(hint)))
        }
        other => {
            let hint =
                "\"refuse\", which is also what happens without it, or \"carry\": each as a UUID that is made of it";
            let message = format!("what to do with values that are no keys: not `{other}`");
            Err(section.doc.error(invalid.start, message, Some(hint.into())))
        }
    }
}

fn alter(section: &Section<'_>, kind: Kind, out: &mut Reshape) -> Result<(), ConfigError> {
    let doc = section.doc;
    for table in section.sections("table", "alter.table", keys(KEYS, "alter.table"))? {
        let name = table.required("table", "the table, as it is called now")?;
        let rename = table.required("rename", "its new name")?;
        if out.tables.iter().any(|t| t.table == name.value) {
            return Err(doc.error(table.start, format!("table `{}` stands here twice", name.value), None));
        }
        if let Some(other) = out.tables.iter().find(|t| t.rename == rename.value) {
            let message = format!("`{}` and `{}` are both renamed to `{}`", other.table, name.value, rename.value);
            return Err(doc.error(rename.start, message, None));
        }
        out.tables.push(AlterTable { at: doc.at(table.start), table: name.value, rename: rename.value });
    }
    for column in section.sections("column", "alter.column", keys(KEYS, "alter.column"))? {
        let (table, name) = (column.required("table", "its table")?, column.required("column", "its name")?);
        if out.columns.iter().any(|c| c.table == table.value && c.column == name.value) {
            let message = format!("`{}.{}` stands here twice", table.value, name.value);
            return Err(doc.error(column.start, message, Some("say all that changes of a column in one place".into())));
        }
        let change = change(&column, kind)?;
        out.columns.push(AlterColumn { at: doc.at(column.start), table: table.value, column: name.value, change });
    }
    if out.tables.is_empty() && out.columns.is_empty() {
        let hint = "[[alter.table]] renames one; [[alter.column]] renames, adds, drops, retypes";
        return Err(doc.error(section.start, "[alter] changes nothing", Some(hint.to_owned())));
    }
    Ok(())
}

fn change(column: &Section<'_>, kind: Kind) -> Result<ColumnChange, ConfigError> {
    let doc = column.doc;
    let only = |of: &str, others: &[&str]| match others.iter().find(|key| column.has(key)) {
        Some(key) => {
            let message = format!("`{of} = true` and `{key}` do not go together");
            Err(doc.error(column.start_of(key), message, None))
        }
        None => Ok(()),
    };
    let text = |text: Option<Text>| text.map(|t| t.value);
    let (add, drop) = (column.boolean("add", false)?, column.boolean("drop", false)?);
    if drop {
        only("drop", &["add", "rename", "type", "default", "not_null", "codec", "zone", "up", "down"])?;
        return Ok(ColumnChange::Drop);
    }
    let not_null = column.boolean("not_null", false)?;
    if add {
        only("add", &["rename", "codec", "zone", "up", "down"])?;
        let ty = column.required("type", "a new column needs its type")?.value;
        let default = text(column.text("default")?);
        if not_null && default.as_ref().is_none_or(|d| d.trim().eq_ignore_ascii_case("null")) {
            let hint = "say `default`, which the rows that are there get; or leave `not_null` out";
            let message = "a new column that is NOT NULL needs a default";
            return Err(doc.error(column.start_of("not_null"), message, Some(hint.to_owned())));
        }
        return Ok(ColumnChange::Add { ty, default, not_null });
    }
    let change = ColumnChange::Alter {
        rename: text(column.text("rename")?),
        ty: text(column.text("type")?),
        default: text(column.text("default")?),
        not_null: column.has("not_null").then_some(not_null),
        by: by(column, kind)?,
    };
    if change == ColumnChange::default() {
        return Err(
            column.missing("rename", "say `rename`, `type`, `not_null`, `default`, `add = true` or `drop = true`")
        );
    }
    Ok(change)
}

/// `up` and `down`, or `codec`.
fn by(column: &Section<'_>, kind: Kind) -> Result<Option<By>, ConfigError> {
    let doc = column.doc;
    let (up, down, codec) = (column.text("up")?, column.text("down")?, column.text("codec")?);
    let zone = column.text("zone")?;
    if let Some(first) = up.as_ref().or(down.as_ref()).or(codec.as_ref())
        && !column.has("type")
    {
        let message = "what its values become, but not of which type".to_owned();
        return Err(doc.error(first.start, message, Some("say `type`, too; it may be the one that it has".into())));
    }
    if let Some(zone) =
        zone.as_ref().filter(|z| z.value != "UTC" || codec.as_ref().is_none_or(|c| c.value != "timestamp"))
    {
        let hint = "zone = \"UTC\" says of codec = \"timestamp\" that times without a zone are meant so";
        return Err(doc.error(zone.start, format!("`zone = {:?}` means nothing here", zone.value), Some(hint.into())));
    }
    match (up, down, codec) {
        (None, None, None) => Ok(None),
        (None, None, Some(codec)) => {
            Ok(Some(By::Codec { name: codec.value, at: doc.at(codec.start), utc: zone.is_some() }))
        }
        (Some(up), Some(down), None) => {
            let said = |t: Text| {
                if let Err(why) = one_expression(&t.value, kind) {
                    return Err(doc.error(t.start, format!("this is no expression: {why}"), None));
                }
                Ok((t.value, doc.at(t.start)))
            };
            Ok(Some(By::Sql { up: said(up)?, down: said(down)? }))
        }
        (Some(one), None, None) | (None, Some(one), None) => {
            let hint = "`up` makes the new value of the old one, `down` the old one of the new: what is written after the cutover has to come back";
            Err(doc.error(one.start, "`up` and `down` go together", Some(hint.into())))
        }
        (_, _, Some(codec)) => {
            Err(doc.error(codec.start, "`codec` stands for `up` and `down`, so that they do not go together", None))
        }
    }
}

/// Whether a text stays one expression wherever brackets are put around it.
fn one_expression(sql: &str, kind: Kind) -> Result<(), String> {
    let (mut scanner, mut depth, mut any) = (Scanner { text: sql, kind, at: 0 }, 0usize, false);
    while let Some(token) = scanner.next() {
        let token = token.map_err(|open| format!("a {} that is never closed", open.what))?;
        any |= token.is != Is::Comment;
        match token.text {
            _ if token.is == Is::Parameter => return Err(format!("{} is no value", token.text)),
            _ if token.is != Is::Symbol => {}
            ";" => return Err("a semicolon ends it".into()),
            "(" => depth += 1,
            ")" => depth = depth.checked_sub(1).ok_or("a bracket is closed that was never opened")?,
            "," if depth == 0 => return Err("a comma makes several of it".into()),
            _ => {}
        }
    }
    match (any, depth) {
        (false, _) => Err("it is empty".into()),
        (_, 0) => Ok(()),
        _ => Err("a bracket that is never closed".into()),
    }
}

//! Which tables a script takes something from, told by its words alone.

use super::database::Database;
use super::keep::{text, words};
use super::look::{Alteration, Look};
use super::{Result, Statement, sql};
use crate::plan::Kind;

/// What a script takes things from, by its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Tables that it drops, as it names them.
    pub dropped: Vec<String>,
    /// Tables of which it drops or retypes columns, as it names them.
    pub narrowed: Vec<String>,
    /// It does what its words do not tell: a block of code, the drop of a schema.
    pub unknown: bool,
}

impl Taken {
    /// Reads a script.
    pub fn by(statements: &[Statement], kind: Kind) -> Taken {
        let mut taken = Taken::default();
        let add = |list: &mut Vec<String>, name: &str| {
            if !list.iter().any(|known| known == name) {
                list.push(name.to_owned());
            }
        };
        for statement in statements {
            let look = Look { kind, tokens: sql::tokens(&statement.sql, kind).collect() };
            match look.word(0).as_str() {
                "DO" | "CALL" | "EXECUTE" => taken.unknown = true,
                "DROP" if look.is(1, &["TABLE"]) => {
                    let mut i = look.skip(2, &["IF", "EXISTS"]);
                    while let Some((name, next)) = written(&look, &statement.sql, i) {
                        add(&mut taken.dropped, name);
                        if !look.symbol(next, ",") {
                            break;
                        }
                        i = next + 1;
                    }
                }
                "DROP" => taken.unknown |= look.is(1, &["SCHEMA"]) || look.is(1, &["OWNED"]) || look.has("CASCADE"),
                "ALTER" => {
                    let takes = look.actions().into_iter().any(|action| {
                        let what = (Look { kind, tokens: action.tokens }).alteration();
                        matches!(what, Alteration::DropColumn(_) | Alteration::Type(_))
                    });
                    if let (true, Some((name, _))) =
                        (takes, written(&look, &statement.sql, look.skip(2, &["IF", "EXISTS", "ONLY"])))
                    {
                        add(&mut taken.narrowed, name);
                    }
                }
                _ => {}
            }
        }
        taken
    }

    /// It takes nothing from anything.
    pub fn is_nothing(&self) -> bool {
        self.dropped.is_empty() && self.narrowed.is_empty() && !self.unknown
    }

    /// Whether rows may be hurt by it.
    pub fn holds_rows(&self, db: &mut dyn Database) -> Result<bool> {
        if self.unknown {
            return Ok(true);
        }
        for table in self.dropped.iter().chain(&self.narrowed) {
            if is_table(db, table)? && !db.query(&format!("SELECT 1 FROM {table} LIMIT 1"))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// How many rows each of these tables holds; those that are not there are left out.
pub fn rows_of(db: &mut dyn Database, tables: &[String]) -> Result<Vec<(String, u64)>> {
    let mut all = Vec::new();
    for table in tables {
        if is_table(db, table)? {
            let rows = db.query(&format!("SELECT count(*) FROM {table}"))?;
            let n = rows.first().and_then(|row| row.first()).map(words).and_then(|n| n.parse().ok());
            all.push((table.clone(), n.unwrap_or_default()));
        }
    }
    Ok(all)
}

fn is_table(db: &mut dyn Database, written: &str) -> Result<bool> {
    let asked = match db.kind() {
        Kind::Sqlite => {
            let look = Look { kind: Kind::Sqlite, tokens: sql::tokens(written, Kind::Sqlite).collect() };
            let name = look.tokens.last().map(|token| token.name(Kind::Sqlite)).unwrap_or_default();
            format!("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND lower(name) = {}", text(&name))
        }
        _ => format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", text(written)),
    };
    Ok(!db.query(&asked)?.is_empty())
}

/// A name as it is written, qualified or not, and the place after it.
fn written<'s>(look: &Look<'_>, sql: &'s str, at: usize) -> Option<(&'s str, usize)> {
    let (_, next) = look.name(at)?;
    let (first, last) = (look.tokens.get(at)?, look.tokens.get(next - 1)?);
    Some((sql.get(first.start..last.start + last.text.len())?, next))
}

//! Columns that change by SQL: what an expression makes of a value, as the server says it. The values are sent to it; no table is read.

use postgres::Statement;

use super::copy::{self, Wire};
use super::rows::{Array, cell, selected};
use super::{Postgres, code, connect, failed, literal, quoted, words};
use crate::plan::{Column, Kind, Made, Teller, base_type};
use crate::store::{Error, Result};
use crate::tokens::{Is, tokens};
use crate::value::Value;

/// Functions of the server that are marked as depending on the session, and depend on nothing of it but settings that each session of
/// ours sets alike.
const SETTLED: &[&str] = &[
    "to_char",
    "to_timestamp",
    "to_date",
    "to_number",
    "to_json",
    "to_jsonb",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "concat",
    "concat_ws",
    "format",
    "array_to_string",
    "quote_literal",
    "quote_nullable",
    "date_trunc",
    "date_part",
    "extract",
    "timezone",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "text",
    "make_timestamptz",
    "isfinite",
    "timestamptz_pl_interval",
    "timestamptz_mi_interval",
    "interval_pl_timestamptz",
    "money",
    "numeric",
    "cash_in",
    "texttoxml",
    "xml",
];

/// One way of a column.
struct Way {
    sql: String,
    wire: Wire,
    made: Wire,
}

/// The type that a value is cast to: without a length, by which a cast would cut it.
fn uncut(ty: &str) -> String {
    if base_type(ty) == "character varying" { "pg_catalog.varchar".into() } else { ty.to_owned() }
}

impl Way {
    fn of(expression: &str, from: &Column, to: &Column) -> Way {
        let wire = Wire::of_column(from);
        let made = Column { name: "backout_made".into(), ..to.clone() };
        let sql = format!(
            "SELECT {} FROM pg_catalog.unnest($1::pg_catalog.{}[]) WITH ORDINALITY AS backout_all(backout_value, backout_number) \
             CROSS JOIN LATERAL (SELECT backout_all.backout_value::{} AS {}) AS backout_given \
             CROSS JOIN LATERAL (SELECT (\n{expression}\n)::{} AS backout_made) AS backout_it ORDER BY backout_all.backout_number",
            selected("backout_it.", &made),
            wire.sent_as().0,
            copy::comparable(&from.ty),
            quoted(&from.name),
            uncut(&to.ty)
        );
        Way { sql, wire, made: Wire::of_column(&made) }
    }

    /// What becomes of each value; those for which it fails are found by halves.
    fn each(&self, session: &mut Postgres, statement: &Statement, values: &[Value<'static>]) -> Result<Vec<Made>> {
        let mut array = Array::new(self.wire);
        let sent = values.iter().try_for_each(|v| array.push(v));
        let why = match sent {
            Ok(()) => match session.client.query(statement, &[&array]) {
                Ok(lines) if lines.len() == values.len() => {
                    let value = |line| cell(line, 0, self.made).map(Value::into_owned);
                    let none = || Err("the server's answer cannot be read".to_owned());
                    return Ok(lines.iter().map(|line| value(line).map_or_else(none, Ok)).collect());
                }
                Ok(_) => "it makes several values of one, or none".to_owned(),
                // it is the value's fault: what it says is no number, a function refuses it …
                Err(e) if ["22", "23", "42", "54", "P0", "0A"].iter().any(|class| code(&e).starts_with(class)) => {
                    words(&e)
                }
                Err(e) => return Err(failed(&session.title, "asking what becomes of a value", &e)),
            },
            Err(why) => why,
        };
        if values.len() <= 1 {
            return Ok(values.iter().map(|_| Err(why.clone())).collect());
        }
        let (one, other) = values.split_at(values.len() / 2);
        let mut out = self.each(session, statement, one)?;
        out.extend(self.each(session, statement, other)?);
        Ok(out)
    }
}

/// A session that only reads, with the statement of each way.
struct Asked {
    session: Postgres,
    statements: [Option<Statement>; 2],
}

impl Asked {
    fn each(&mut self, ways: &[Way; 2], up: bool, values: &[Value<'static>]) -> Result<Vec<Made>> {
        let (at, way) = (usize::from(up), &ways[usize::from(up)]);
        let statement = match &self.statements[at] {
            Some(s) => s.clone(),
            None => {
                let made = self.session.client.prepare(&way.sql);
                made.map_err(|e| failed(&self.session.title, "asking what becomes of a value", &e))?
            }
        };
        self.statements[at] = Some(statement.clone());
        way.each(&mut self.session, &statement, values)
    }
}

impl Postgres {
    /// See [`crate::store::Store::teller`].
    pub(super) fn tells(&self, was: &Column, is: &Column, up: &str, down: &str) -> Teller {
        let ways = [Way::of(down, is, was), Way::of(up, was, is)];
        let (config, gate) = (self.config.clone(), self.gate.clone());
        let open = move || -> Result<Asked> {
            let mut session = Postgres::set_up(connect(&config)?, config.clone(), gate.clone())?;
            session.run("setting the session up", "SET default_transaction_read_only = on")?;
            Ok(Asked { session, statements: [None, None] })
        };
        let mut asked: Option<Asked> = None;
        Box::new(move |goes_up, values| {
            if let Some(mut there) = asked.take()
                && let Ok(made) = there.each(&ways, goes_up, values)
            {
                asked = Some(there);
                return Ok(made);
            }
            let mut fresh = open().map_err(|e| e.to_string())?;
            let made = fresh.each(&ways, goes_up, values).map_err(|e| e.to_string())?;
            asked = Some(fresh);
            Ok(made)
        })
    }

    pub(super) fn can_say(&mut self, expression: &str, from: &Column, to: &Column) -> Result<()> {
        let moment = |t: &str| {
            ["now", "today", "tomorrow", "yesterday"]
                .iter()
                .any(|w| t.trim_matches('\'').trim().eq_ignore_ascii_case(w))
        };
        if let Some(t) = tokens(expression, Kind::Postgres).find(|t| t.is == Is::Text && moment(t.text)) {
            let cause = format!("{} may mean another time at each time", t.text);
            return Err(self.refused(cause, "an expression says the same of a value at each time"));
        }
        let (title, own) = (self.title.clone(), quoted(&from.name));
        // a CHECK may speak of its own row alone, and keeps what the server took it to mean
        let sql = format!(
            "BEGIN; CREATE TEMPORARY TABLE backout_said ({own} {}, CHECK ((\n{expression}\n)::{} IS NOT NULL))",
            copy::comparable(&from.ty),
            uncut(&to.ty)
        );
        let asked = self.client.batch_execute(&sql).map_err(|e| match code(&e) {
            "42501" => failed(&title, "making a temporary table to try an expression", &e),
            c if c.starts_with("08") || c.starts_with("57") || c.is_empty() => {
                failed(&title, "trying an expression", &e)
            }
            _ => {
                let cause = words(&e)
                    .replace("check constraints", "such an expression")
                    .replace("check constraint", "such an expression");
                let hint = format!("an expression speaks of its own column, {}, and of nothing else", from.name);
                Error::Refused { store: title.clone(), cause, hint }
            }
        });
        let found = asked.and_then(|()| self.unsettled());
        let _ = self.client.batch_execute("ROLLBACK");
        match found? {
            None => Ok(()),
            Some(name) => {
                let cause = format!("{name} may say something else at each time");
                Err(self
                    .refused(cause, "an expression says the same of a value at each time: its functions are IMMUTABLE"))
            }
        }
    }

    /// What in the temporary table's CHECK does not always say the same.
    fn unsettled(&mut self) -> Result<Option<String>> {
        let settled: Vec<String> = SETTLED.iter().map(|s| literal(s)).collect();
        let sql = format!(
            "SELECT CASE WHEN c.conbin::text LIKE '%{{SQLVALUEFUNCTION%' THEN 'a word such as CURRENT_DATE or CURRENT_USER' ELSE ( \
                 SELECT min(p.proname || '()') FROM pg_catalog.regexp_matches(c.conbin::text, ':(?:opfuncid|funcid) ([0-9]+)', 'g') AS m(f) \
                 JOIN pg_catalog.pg_proc p ON p.oid = m.f[1]::oid \
                 WHERE p.provolatile = 'v' OR p.provolatile = 's' AND NOT (p.pronamespace = 'pg_catalog'::regnamespace \
                     AND (p.proname = ANY (ARRAY[{}]) OR p.oid IN (SELECT o.oprcode FROM pg_catalog.pg_operator o)))) END \
             FROM pg_catalog.pg_constraint c WHERE c.conrelid = 'pg_temp.backout_said'::regclass AND c.contype = 'c'",
            settled.join(", ")
        );
        let lines = self.query("looking at an expression", &sql, &[])?;
        Ok(lines.first().and_then(|l| l.get(0)))
    }
}

//! Which columns may go.

use crate::plan::Kind;

use super::{Changing, Result, refuse, same, words};

impl Changing {
    /// What goes is in nothing that stays.
    pub(super) fn may_drop(&self) -> Result<()> {
        let (t, kind) = (&self.table, self.fates.first().map_or(Kind::Postgres, |f| f.kind));
        let generated =
            t.generated.iter().zip(&self.generated).filter(|(_, n)| n.is_none()).map(|(g, _)| (&g.name, None));
        let columns = t.columns.iter().zip(&self.fates).enumerate().filter(|(_, (_, f))| f.dropped);
        for (name, at) in columns.map(|(i, (c, f))| (&c.name, Some((i, f)))).chain(generated) {
            let line = at.and_then(|(_, f)| f.at);
            let held = |by: String| {
                let hint = "drop that first, in a SQL revision; it comes back with it".to_owned();
                refuse(line, format!("{}.{name} cannot go: {by}", t.name), hint)
            };
            if at.is_some_and(|(i, _)| t.key.contains(&i)) {
                let cause = format!("{}.{name} cannot go: it is part of the key", t.name);
                return refuse(line, cause, "a table needs its key");
            }
            if let Some(f) = t.foreign_keys.iter().find(|f| f.columns.iter().any(|c| same(c, name, kind))) {
                return held(format!("it is in a foreign key to {}", f.table));
            }
            for index in &t.indexes {
                let said =
                    index.definition.as_ref().is_some_and(|d| words::mentions(words::indexed(d, kind), name, kind));
                let only = index.predicate.as_ref().is_some_and(|p| words::mentions(p, name, kind));
                if said || only || index.columns.iter().any(|c| c.name == *name) {
                    return held(format!(
                        "it is in the index {}",
                        index.name.as_deref().unwrap_or("that a UNIQUE makes")
                    ));
                }
            }
            if let Some(constraint) = t.constraints.iter().find(|c| words::mentions(&c.definition, name, kind)) {
                return held(format!("it is in the constraint {}", constraint.name));
            }
            if let Some(check) = t.checks.iter().find(|c| words::mentions(c, name, kind)) {
                return held(format!("it is in CHECK ({check})"));
            }
            for (g, _) in t.generated.iter().zip(&self.generated).filter(|(g, n)| n.is_some() && g.name != *name) {
                if g.expression.as_ref().is_none_or(|e| words::mentions(e, name, kind)) {
                    return held(format!("{} is computed from it", g.name));
                }
            }
            if let Some((i, _)) = at {
                let c = &t.columns[i];
                if c.not_null && c.default.is_none() && !c.identity {
                    let cause = format!(
                        "{}.{name} cannot go: it is NOT NULL without a default, so rows that are made after it went could not come back",
                        t.name
                    );
                    let hint = "give it one first, with `default` in a migration before this one; or drop its NOT NULL";
                    return refuse(line, cause, hint);
                }
            }
        }
        Ok(())
    }
}

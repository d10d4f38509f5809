//! A part of the history as SQL that someone else runs.

use crate::revision::{Revision, offline};

use super::project::{Done, Project};
use super::{Error, Failure, Result};

impl Project {
    /// The SQL of a part of the history, for someone else to run: `FROM:TO`, each `base`, `head` or a revision; upwards all that comes after
    /// FROM up to TO, downwards FROM and all down to TO, which stays. No database is asked.
    ///
    /// # Errors
    /// A place that is not there, or a revision that cannot be taken back.
    pub fn script(&self, range: &str, down: bool) -> Done<String> {
        let made = || -> Result<String> {
            self.readable()?;
            let (from, to) = range.split_once(':').unwrap_or(if down { (range, "base") } else { ("base", range) });
            let (low, high) = if down { (to, from) } else { (from, to) };
            let place = |goal: &str| -> Result<usize> {
                match goal {
                    "base" => Ok(0),
                    "head" => Ok(self.revisions.len()),
                    name => {
                        let stamp = self.find(name)?.stamp().to_owned();
                        let at = self.revisions.iter().position(|r| r.stamp == stamp);
                        at.map(|i| i + 1).ok_or_else(|| Error::Refused {
                            cause: format!("{stamp} moves data and has no SQL"),
                            hint: "a script is made of SQL revisions alone".into(),
                        })
                    }
                }
            };
            let (low, high) = (place(low)?, place(high)?);
            let mut chosen: Vec<(usize, &Revision)> = self.revisions.iter().enumerate().take(high).skip(low).collect();
            if down {
                chosen.reverse();
            }
            let mut out = String::new();
            for (i, revision) in chosen {
                let kind = self.kind_of(&self.home(revision)?);
                out.push_str(&offline::script(revision, i as u64 + 1, kind, down)?);
            }
            Ok(out)
        };
        made().map_err(Failure::untouched)
    }
}

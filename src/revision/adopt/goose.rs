//! goose: one file with `-- +goose Up` and `-- +goose Down`.

use std::path::Path;

use super::files::{entries, found, note_others, numbered, refuse_code, sorted, text};
use super::{Found, Result, Way, refused};

pub(super) fn read(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<Found>> {
    let (mut all, mut code, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (name, path) in entries(folder)? {
        let rest = numbered(&name).and_then(|(version, rest)| Some((version, rest.strip_prefix('_')?)));
        match rest {
            Some((version, rest)) if name.ends_with(".sql") => {
                let (up, down) = ways(&path, &crate::revision::sql::plain(&text(&path)?))?;
                all.push(found(version, rest.strip_suffix(".sql").unwrap_or(rest), up, down));
            }
            Some(_) if name.ends_with(".go") && !name.ends_with("_test.go") => code.push(name),
            _ => others.push(name),
        }
    }
    refuse_code(&code, "Go")?;
    note_others(&others, notes);
    Ok(sorted(all))
}

/// Both ways of a file. Its marks are taken out.
fn ways(path: &Path, whole: &str) -> Result<(Way, Option<Way>)> {
    let no = |line: usize, what: &str, hint: &str| Err(refused(format!("{}:{line}: {what}", path.display()), hint));
    let mut ways: [Option<Way>; 2] = [None, None];
    let (mut side, mut transaction, mut block) = (0, true, None);
    for (i, line) in whole.lines().enumerate() {
        let mark = line.trim().strip_prefix("--").map(str::trim).and_then(|rest| rest.strip_prefix("+goose"));
        let Some(mark) = mark.map(|mark| mark.trim().to_ascii_lowercase()) else {
            match &mut ways[side] {
                Some(way) => way.text += &format!("{line}\n"),
                None if line.trim().is_empty() || line.trim_start().starts_with("--") => {}
                None => return no(i + 1, "a statement before `-- +goose Up`", "is this a file of goose's?"),
            }
            continue;
        };
        let begin = || Some(Way { line: i + 2, ..Way::whole(path, String::new()) });
        // a mark leaves its line, so that an error names the right one
        let mut left = "\n";
        match (mark.as_str(), &ways) {
            ("up", [None, None]) => {
                ways[0] = begin();
                continue;
            }
            ("down", [Some(_), None]) => {
                (side, ways[1]) = (1, begin());
                continue;
            }
            ("no transaction", _) => transaction = false,
            ("statementbegin", _) => block = ways[side].as_ref().map(|way| way.text.len()),
            ("statementend", _) => {
                let (Some(way), Some(from)) = (&ways[side], block.take()) else {
                    return no(i + 1, "`StatementEnd` without its `StatementBegin`", "mend it in a copy of the folder");
                };
                // the mark ended the statement; here nothing but a `;` does
                if !way.text[from..].trim_end().ends_with(';') {
                    left = ";\n";
                }
            }
            _ => {
                let what = format!("`-- +goose {mark}` cannot be taken over");
                return no(i + 1, &what, "write the file without it in a copy of the folder, and import that");
            }
        }
        if let Some(way) = &mut ways[side] {
            way.text += left;
        }
    }
    let [Some(mut up), mut down] = ways else {
        return no(1, "there is no `-- +goose Up`", "is this a file of goose's?");
    };
    up.transaction = transaction;
    if let Some(down) = &mut down {
        down.transaction = transaction;
    }
    Ok((up, down))
}

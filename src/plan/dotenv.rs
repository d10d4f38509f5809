//! `.env` files, read so that one value can be changed and every other byte stays.

/// One assignment, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'b> {
    /// The variable's name.
    pub key: &'b str,
    /// Where its line begins.
    pub line: usize,
    /// Where its value stands, quotes included.
    pub value: std::ops::Range<usize>,
    /// Where the next line begins.
    pub end: usize,
}

/// All assignments of a file in order. Comments, blank and unreadable lines are passed over.
pub(crate) fn entries(bytes: &[u8]) -> Vec<Entry<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match entry(bytes, at) {
            Some(entry) => {
                at = entry.end;
                found.push(entry);
            }
            None => at = next_line(bytes, at),
        }
    }
    found
}

fn is_eol(b: u8) -> bool {
    b == b'\n' || b == b'\r'
}

fn next_line(bytes: &[u8], at: usize) -> usize {
    let Some(i) = bytes[at..].iter().position(|&b| is_eol(b)) else { return bytes.len() };
    let eol = at + i;
    if bytes[eol..].starts_with(b"\r\n") { eol + 2 } else { eol + 1 }
}

fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    at
}

fn entry(bytes: &[u8], line: usize) -> Option<Entry<'_>> {
    let mut at = line;
    if line == 0 && bytes.starts_with(b"\xef\xbb\xbf") {
        at = 3;
    }
    at = skip_blanks(bytes, at);
    if bytes[at..].starts_with(b"export") && matches!(bytes.get(at + 6), Some(b' ' | b'\t')) {
        at = skip_blanks(bytes, at + 6);
    }
    let name = at;
    while matches!(bytes.get(at), Some(b) if b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        at += 1;
    }
    let key = std::str::from_utf8(&bytes[name..at]).ok().filter(|key| !key.is_empty())?;
    at = skip_blanks(bytes, at);
    if bytes.get(at) != Some(&b'=') {
        return None;
    }
    let start = skip_blanks(bytes, at + 1);
    if let Some(close) = closing_quote(bytes, start) {
        return Some(Entry { key, line, value: start..close + 1, end: next_line(bytes, close + 1) });
    }
    let stop = bytes[start..].iter().position(|&b| is_eol(b)).map_or(bytes.len(), |i| start + i);
    let value = &bytes[start..stop];
    let blank = |i: usize| if i == 0 { start > at + 1 } else { matches!(value[i - 1], b' ' | b'\t') };
    let comment = (0..value.len()).find(|&i| value[i] == b'#' && blank(i));
    let mut end = start + comment.unwrap_or(value.len());
    while end > start && matches!(bytes[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    // `KEY= # comment`: the blanks belong to the comment
    let value = if end == start { at + 1..at + 1 } else { start..end };
    Some(Entry { key, line, value, end: next_line(bytes, stop) })
}

/// Where the quote that opens at `start` closes, if nothing but blanks and a comment follows on its line.
fn closing_quote(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = *bytes.get(start).filter(|b| matches!(b, b'"' | b'\''))?;
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => at += 2,
            b if b == quote => {
                let after = skip_blanks(bytes, at + 1);
                return match bytes.get(after) {
                    None | Some(b'#' | b'\n' | b'\r') => Some(at),
                    _ => None,
                };
            }
            _ => at += 1,
        }
    }
    None
}

/// The value that an assignment's bytes stand for.
pub(crate) fn decode(raw: &[u8]) -> Vec<u8> {
    match raw {
        [b'\'', inner @ .., b'\''] => inner.to_vec(),
        [b'"', inner @ .., b'"'] => {
            let mut value = Vec::with_capacity(inner.len());
            let mut bytes = inner.iter().copied();
            while let Some(b) = bytes.next() {
                match (b, b == b'\\') {
                    (_, true) => match bytes.next() {
                        Some(b'n') => value.push(b'\n'),
                        Some(b'r') => value.push(b'\r'),
                        Some(b't') => value.push(b'\t'),
                        Some(c @ (b'"' | b'\\' | b'$' | b'`' | b'\'')) => value.push(c),
                        Some(c) => value.extend([b'\\', c]),
                        None => value.push(b'\\'),
                    },
                    (b, false) => value.push(b),
                }
            }
            value
        }
        _ => raw.to_vec(),
    }
}

/// How `value` is written, in the style of `before` (the bytes it replaces) if that can hold it.
pub(crate) fn encode(value: &str, before: Option<&[u8]>) -> String {
    let single = !value.contains(['\'', '\n', '\r']);
    let double = || {
        let mut text = String::from("\"");
        for c in value.chars() {
            match c {
                '\n' => text += "\\n",
                '\r' => text += "\\r",
                '"' | '\\' | '$' | '`' => text.extend(['\\', c]),
                c => text.push(c),
            }
        }
        text + "\""
    };
    let shell = |c: char| matches!(c, '&' | ';' | '|' | '<' | '>' | '(' | ')');
    let plain = || {
        let bare = |c: char| !(c.is_whitespace() || c.is_control() || matches!(c, '#' | '\'' | '"' | '\\' | '$' | '`'));
        // whoever reads this file gets on with such characters unquoted if one was there before
        let seasoned = before.is_some_and(|raw| raw.iter().any(|&b| shell(char::from(b))));
        value.chars().all(|c| bare(c) && (seasoned || !shell(c)))
    };
    match before.and_then(|raw| raw.first()) {
        Some(b'\'') if single => format!("'{value}'"),
        Some(b'"') => double(),
        _ if plain() => value.to_owned(),
        _ if single => format!("'{value}'"),
        _ => double(),
    }
}

/// The file with each key set to its value: in every place where it stands, or on a line of its own at the end. What has
/// the value already is left as it is. `None` if that cannot be written without touching something else.
pub(crate) fn set(bytes: &[u8], wanted: &[(String, String)]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() + 64);
    let mut copied = 0;
    for entry in entries(bytes) {
        let Some((_, value)) = wanted.iter().find(|(key, _)| key == entry.key) else { continue };
        let raw = &bytes[entry.value.clone()];
        if decode(raw) != value.as_bytes() {
            text.extend_from_slice(&bytes[copied..entry.value.start]);
            text.extend_from_slice(encode(value, Some(raw)).as_bytes());
            copied = entry.value.end;
        }
    }
    text.extend_from_slice(&bytes[copied..]);
    let eol: &[u8] = if bytes.windows(2).any(|w| w == b"\r\n") { b"\r\n" } else { b"\n" };
    for (key, value) in wanted {
        if entries(bytes).iter().any(|e| e.key == key) {
            continue;
        }
        let ended = text.last().is_none_or(|&b| b == b'\n');
        if !ended {
            text.extend_from_slice(eol);
        }
        text.extend_from_slice(format!("{key}={}", encode(value, None)).as_bytes());
        if ended {
            text.extend_from_slice(eol);
        }
    }
    // what was written must read back as wanted, and nothing else may read differently
    let (before, after) = (entries(bytes), entries(&text));
    let ours = |e: &&Entry<'_>| wanted.iter().any(|(key, _)| key == e.key);
    let set = wanted.iter().all(|(key, value)| {
        let mut all = after.iter().filter(|e| e.key == key).peekable();
        all.peek().is_some() && all.all(|e| decode(&text[e.value.clone()]) == value.as_bytes())
    });
    let others = before
        .iter()
        .filter(|e| !ours(e))
        .map(|e| (e.key, &bytes[e.value.clone()]))
        .eq(after.iter().filter(|e| !ours(e)).map(|e| (e.key, &text[e.value.clone()])));
    (set && others).then_some(text)
}

/// What stands for a key in the file, in every place where it stands.
pub(crate) fn raws<'b>(bytes: &'b [u8], key: &str) -> Vec<&'b [u8]> {
    entries(bytes).into_iter().filter(|e| e.key == key).map(|e| &bytes[e.value]).collect()
}

/// The file with the places of `key` put back to `raws`, one for each; with none, their lines are taken out.
pub(crate) fn put_back(bytes: &[u8], key: &str, raws: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut copied = 0;
    for (i, entry) in entries(bytes).into_iter().filter(|e| e.key == key).enumerate() {
        let (cut, raw) = match raws.get(i) {
            Some(raw) => (entry.value, *raw),
            None => (entry.line..entry.end, &[][..]),
        };
        text.extend_from_slice(&bytes[copied..cut.start]);
        text.extend_from_slice(raw);
        copied = cut.end;
    }
    text.extend_from_slice(&bytes[copied..]);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        entries(text.as_bytes())
            .into_iter()
            .map(|e| {
                (e.key.to_owned(), String::from_utf8_lossy(&decode(&text.as_bytes()[e.value.clone()])).into_owned())
            })
            .collect()
    }

    #[test]
    fn what_people_write_is_read() {
        let text = "# a comment\nA=1\n  export B = 'two # 2' # c\nC=\"x\\\"y\\n\"\r\n\nD=a b  # c\nE=\nF= # nothing\n\
                    G=a#b\nH=\"un\nI='two\nlines'\n#J=1\nK L=1\nM.n-o=x=y";
        let wanted = [
            ("A", "1"),
            ("B", "two # 2"),
            ("C", "x\"y\n"),
            ("D", "a b"),
            ("E", ""),
            ("F", ""),
            ("G", "a#b"),
            ("H", "\"un"),
            ("I", "two\nlines"),
            ("M.n-o", "x=y"),
        ];
        assert_eq!(read(text), wanted.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    fn changed(text: &str, key: &str, value: &str) -> String {
        String::from_utf8(set(text.as_bytes(), &[(key.into(), value.into())]).unwrap()).unwrap()
    }

    #[test]
    fn only_the_value_changes_and_its_style_is_kept() {
        for (before, value, after) in [
            ("A=1\nX=false\nB=2", "true", "A=1\nX=true\nB=2"),
            ("export X = 'a' # why\r\n", "b", "export X = 'b' # why\r\n"),
            ("X=\"a\"", "b $c", "X=\"b \\$c\""),
            ("X='a'", "it's", "X=\"it's\""),
            ("X=a", "b c", "X='b c'"),
            ("X= # none\n", "b", "X=b # none\n"),
            ("X=1\nX=2\n", "3", "X=3\nX=3\n"),
            ("X=\"same\" # as is", "same", "X=\"same\" # as is"),
            ("X=u?a=1", "p://h/d?a=1&b=2", "X='p://h/d?a=1&b=2'"),
            ("X=u?a=1&b=2", "p://h/d?a=1&b=2", "X=p://h/d?a=1&b=2"),
            ("# only\r\nA=1\r\n", "2", "# only\r\nA=1\r\nX=2\r\n"),
            ("A=1", "2", "A=1\nX=2"),
            ("", "2", "X=2\n"),
            ("X=\n", "", "X=\n"),
            ("X=#1\n", "2", "X=2\n"),
        ] {
            assert_eq!(changed(before, "X", value), after, "{before:?}");
        }
    }

    #[test]
    fn a_line_added_is_taken_out_again() {
        assert_eq!(put_back(b"A=1\nX=2\nB=3\n", "X", &[]), b"A=1\nB=3\n");
        assert_eq!(put_back(b"A=1\nX=2\nX=3", "X", &[b"'q'", b""]), b"A=1\nX='q'\nX=");
    }

    proptest! {
        #[test]
        fn any_value_reads_back_from_any_file(
            file in "([A-Z]=[ -~]{0,8}(\r?\n)?|#[ -~]{0,6}\n|\n|\"|'|X=){0,6}",
            value in "[ -~\n\t\rä]{0,12}",
        ) {
            if let Some(text) = set(file.as_bytes(), &[("X".into(), value.clone())]) {
                for raw in raws(&text, "X") {
                    prop_assert_eq!(decode(raw), value.as_bytes());
                }
            } else {
                // an unclosed quote swallows what is added behind it: refused, not guessed
                prop_assert!(file.contains(['"', '\'']), "{:?} refused", file);
            }
        }

        #[test]
        fn any_bytes_are_cut_into_entries_in_order(file in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut at = 0;
            for entry in entries(&file) {
                prop_assert!(entry.line >= at && entry.line <= entry.value.start);
                prop_assert!(entry.value.start <= entry.value.end && entry.value.end <= entry.end);
                prop_assert!(entry.end > entry.line && entry.end <= file.len());
                at = entry.end;
            }
        }
    }
}

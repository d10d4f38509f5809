//! Other tools, run as their users run them, to be compared with.

use std::path::{Path, PathBuf};
use std::process::Command;

use backout::plan::Kind;

use crate::database::Database;

/// A program that `scripts/test` names in this variable. Without it the test passes over what needs it, but not in CI.
pub fn program(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    let needed = std::env::var("CI").is_ok_and(|ci| ci == "1" || ci == "true");
    assert!(found.is_some() || !needed, "{variable} is not set: start the tests with scripts/test");
    if found.is_none() {
        eprintln!("passed over: {variable} is not set");
    }
    found
}

/// Runs it, and gives what it printed.
pub fn run(command: &mut Command) -> String {
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A database that another tool works in.
pub enum Theirs {
    Sqlite(tempfile::TempDir),
    Postgres(Database),
}

impl Theirs {
    pub fn new(kind: Kind) -> Theirs {
        match kind {
            Kind::Sqlite => Theirs::Sqlite(tempfile::tempdir().unwrap()),
            _ => Theirs::Postgres(Database::new()),
        }
    }

    pub fn file(&self) -> PathBuf {
        match self {
            Theirs::Sqlite(folder) => folder.path().join("theirs.db"),
            Theirs::Postgres(_) => panic!("not a file"),
        }
    }

    /// As SQLAlchemy has it.
    pub fn sqlalchemy(&self) -> String {
        match self {
            Theirs::Sqlite(_) => format!("sqlite:///{}", self.file().display()),
            Theirs::Postgres(database) => database.url.replacen("postgres://", "postgresql+psycopg2://", 1),
        }
    }

    /// As dbmate has it.
    pub fn dbmate(&self) -> String {
        match self {
            Theirs::Sqlite(_) => format!("sqlite:{}", self.file().display()),
            Theirs::Postgres(database) => format!("{}?sslmode=disable", database.url),
        }
    }

    /// As a store of ours.
    pub fn store(&self) -> String {
        match self {
            Theirs::Sqlite(_) => format!("sqlite:{}", self.file().display()),
            Theirs::Postgres(database) => database.url.clone(),
        }
    }

    pub fn contents(&self) -> String {
        contents(&self.store())
    }
}

/// All of a database that is the application's, schema and rows, as the database itself writes it; without any tool's
/// history.
pub fn contents(store: &str) -> String {
    match store.strip_prefix("sqlite:") {
        Some(path) => sqlite(Path::new(path)),
        None => postgres(store),
    }
}

const HISTORIES: [&str; 4] = ["alembic_version", "schema_migrations", "_sqlx_migrations", "backout"];

fn sqlite(path: &Path) -> String {
    let conn = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name";
    let mut asked = conn.prepare(sql).unwrap();
    let all: Vec<(String, String, String)> =
        asked.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap().map(Result::unwrap).collect();
    let mut text = String::new();
    for (kind, name, sql) in all {
        let bare = name.trim_start_matches("sqlite_autoindex_");
        if HISTORIES.iter().any(|history| bare.starts_with(history)) || name.starts_with("migration_") {
            continue;
        }
        text += &format!("{kind} {name}: {}\n", defined(&sql));
        if kind == "table" {
            let mut rows = conn.prepare(&format!("SELECT * FROM \"{name}\"")).unwrap();
            let width = rows.column_count();
            let mut lines: Vec<String> = rows
                .query_map([], |r| Ok((0..width).map(|i| format!("{:?} ", r.get_ref(i).unwrap())).collect()))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            lines.sort();
            text.extend(lines.iter().map(|line| format!("{line}\n")));
        }
    }
    text
}

/// A definition without what Alembic does not decide: blanks, and the order of named constraints when batch mode makes
/// a table again.
fn defined(sql: &str) -> String {
    let words = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut depth, mut quoted, mut part) = (0, false, 0);
    let mut parts = Vec::new();
    for (i, c) in words.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 1 => {
                parts.push(words[part..i].trim());
                part = i + 1;
            }
            _ => {}
        }
    }
    let rest = words[part..].trim();
    let last = rest.strip_suffix(')').unwrap_or(rest).trim();
    parts.push(last);
    let constraint = |part: &&&str| part.starts_with("CONSTRAINT");
    let mut constraints: Vec<&str> = parts.iter().filter(constraint).copied().collect();
    constraints.sort_unstable();
    let others: Vec<&str> = parts.iter().filter(|part| !constraint(part)).copied().collect();
    [others, constraints].concat().join(", ")
}

/// Asserts that two databases hold the same, and shows the first line that differs.
#[track_caller]
pub fn same(ours: &str, theirs: &str) {
    let differs = ours.lines().zip(theirs.lines()).find(|(a, b)| a != b);
    assert!(ours == theirs, "{differs:?}, {} and {} lines", ours.lines().count(), theirs.lines().count());
}

fn postgres(url: &str) -> String {
    let programs = PathBuf::from(std::env::var_os("BACKOUT_TEST_PG_BIN").unwrap_or_default());
    let beside = programs.join("pg_dump");
    let program = if beside.is_file() { beside } else { PathBuf::from("pg_dump") };
    let mut command = Command::new(program);
    command.args([
        "--no-owner",
        "--no-privileges",
        "--inserts",
        "--dbname",
        url,
        "--exclude-schema=backout",
        "--exclude-schema=migration_backup",
    ]);
    command.args(HISTORIES.iter().map(|history| format!("--exclude-table={history}")));
    let dump = run(&mut command);
    // what names the tool's release, and a word that is another one each time
    dump.lines().filter(|line| !line.starts_with("--") && !line.starts_with('\\') && !line.is_empty()).fold(
        String::new(),
        |mut text, line| {
            text += line;
            text += "\n";
            text
        },
    )
}

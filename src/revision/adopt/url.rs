//! Where other tools say that their database is, as the URL of a store of ours.

use std::path::Path;

use super::{Result, Tool, refused};
use crate::plan::{Lookup, store_url as checked};

/// What `alembic.ini` says, of what is of use here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlembicSettings {
    /// `script_location`.
    pub script_location: Option<String>,
    /// `sqlalchemy.url`, unless it is the example that every new project has. It may hold a password.
    pub url: Option<String>,
}

/// Reads an `alembic.ini` that lies in `folder`.
pub fn settings_of(ini: &str, folder: &Path) -> AlembicSettings {
    let mut settings = AlembicSettings::default();
    let mut section = "";
    let mut last: Option<&str> = None;
    let mut values: Vec<(&str, String)> = Vec::new();
    for line in ini.lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            (section, last) = (name.trim(), None);
        } else if line.starts_with([' ', '\t']) {
            // goes on with the value of the line above
            if let (Some(_), Some((_, value))) = (last, values.last_mut()) {
                *value += &format!("\n{bare}");
            }
        } else if section == "alembic" {
            let (key, value) = bare.split_once(['=', ':']).unwrap_or((bare, ""));
            // of a URL the first `:` may come before the `=`, of a key never
            let (key, value) = if key.trim().contains(' ') { (bare, "") } else { (key.trim(), value.trim()) };
            values.push((key, value.to_owned()));
            last = Some(key);
        } else {
            last = None;
        }
    }
    let here = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    for (key, value) in values {
        let value = value.replace("%(here)s", &here.to_string_lossy()).replace("%%", "%");
        match key {
            "script_location" => settings.script_location = Some(value),
            "sqlalchemy.url" if !value.is_empty() && !value.starts_with("driver://") => settings.url = Some(value),
            _ => {}
        }
    }
    settings
}

/// The store's URL that a tool's own settings lead to: `alembic.ini` in `folder`, else the variable `DATABASE_URL`.
///
/// # Errors
/// A URL of a database that is no store of ours; it is not shown.
pub fn store_of(tool: Tool, folder: &Path, lookup: Lookup<'_>) -> Result<Option<String>> {
    let ini = if folder.is_dir() { folder.join("alembic.ini") } else { folder.to_owned() };
    let said = match tool {
        Tool::Alembic if ini.is_file() => {
            let beside = ini.parent().unwrap_or(folder);
            settings_of(&super::files::text(&ini)?, beside).url
        }
        _ => None,
    };
    match said.or_else(|| lookup("DATABASE_URL")).filter(|url| !url.trim().is_empty()) {
        Some(url) => store_url(tool, &url).map(Some),
        None => Ok(None),
    }
}

/// A URL as `tool` reads it, as a store's: `sqlite:PATH` or `postgres://…`. What SQLite paths mean differs: to
/// SQLAlchemy and yoyo `sqlite:///a.db` is relative, to the others it is absolute.
///
/// # Errors
/// A URL of a database that is no store of ours; it is not shown.
pub fn store_url(tool: Tool, url: &str) -> Result<String> {
    let url = url.trim();
    let url = url.strip_prefix("jdbc:").unwrap_or(url);
    let url = match url.split_once(':') {
        None if tool == Tool::Diesel && !url.is_empty() => format!("sqlite:{url}"),
        Some(("sqlite" | "sqlite3" | "file", rest)) if !matches!(tool, Tool::Alembic | Tool::Yoyo) => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            match path.trim_start_matches('/') {
                // dbmate knows no host: whatever begins with a slash is absolute
                bare if path.starts_with('/') || (tool == Tool::Dbmate && rest.starts_with('/')) => {
                    format!("sqlite:/{bare}")
                }
                bare => format!("sqlite:{bare}"),
            }
        }
        Some(("pgx" | "pgx4" | "pgx5" | "pg", rest)) => without_theirs(&format!("postgres:{rest}")),
        Some((scheme, _)) if scheme.starts_with("postgres") => without_theirs(url),
        _ => url.to_owned(),
    };
    checked(&url).map_err(|(cause, hint)| refused(cause, hint))
}

/// Without the parameters that only golang-migrate knows.
fn without_theirs(url: &str) -> String {
    let Some((base, query)) = url.split_once('?') else { return url.to_owned() };
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("x-")).collect();
    if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_reads_urls_its_own_way() {
        for (tool, url, wanted) in [
            (Tool::Alembic, "postgresql+psycopg2://a:p@h/d", "postgres://a:p@h/d"),
            (Tool::Alembic, "postgresql+asyncpg://a@h:5433/d?ssl=true", "postgres://a@h:5433/d?ssl=true"),
            (Tool::Alembic, "sqlite:///app.db", "sqlite:app.db"),
            (Tool::Alembic, "sqlite:////srv/app.db", "sqlite:/srv/app.db"),
            (Tool::Alembic, "sqlite+pysqlite:///a/b.db?timeout=5", "sqlite:a/b.db"),
            (Tool::Yoyo, "sqlite:///app.db", "sqlite:app.db"),
            (Tool::Sqlx, "sqlite:///srv/app.db", "sqlite:/srv/app.db"),
            (Tool::Sqlx, "sqlite://app.db?mode=rwc", "sqlite:app.db"),
            (Tool::Dbmate, "sqlite:db/app.db", "sqlite:db/app.db"),
            (Tool::Dbmate, "sqlite://srv/app.db", "sqlite:/srv/app.db"),
            (
                Tool::GolangMigrate,
                "pgx5://a@h/d?sslmode=disable&x-migrations-table=m",
                "postgres://a@h/d?sslmode=disable",
            ),
            (Tool::GolangMigrate, "sqlite3://app.db", "sqlite:app.db"),
            (Tool::Flyway, "jdbc:sqlite:app.db", "sqlite:app.db"),
            (Tool::Diesel, "app.db", "sqlite:app.db"),
        ] {
            assert_eq!(store_url(tool, url).unwrap(), wanted, "{tool:?} {url}");
        }
        for url in ["mysql://u:secret@h/d", "sqlite://", "secret", "sqlite+pysqlite:///:memory:"] {
            let said = store_url(Tool::Alembic, url).unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn what_alembic_ini_says() {
        let ini = "[alembic]\n# c\nscript_location = %(here)s/migrations\nprepend_sys_path = .\n\
            sqlalchemy.url = postgresql://u:p%%40q@h/d\n[loggers]\nkeys = root\n  more\nsqlalchemy.url = x\n";
        let settings = settings_of(ini, Path::new("/srv/app"));
        assert_eq!(settings.script_location.as_deref(), Some("/srv/app/migrations"));
        assert_eq!(settings.url.as_deref(), Some("postgresql://u:p%40q@h/d"));
        let example = settings_of("[alembic]\nsqlalchemy.url = driver://user:pass@localhost/dbname\n", Path::new("."));
        assert_eq!(example.url, None);
    }
}

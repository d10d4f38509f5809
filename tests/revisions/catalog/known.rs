//! Schemas that people know: Chinook, and the journaling application's.

use super::{Catalog, Place, Renames, built_again, changed, failing, text};

/// Chinook's own statements.
fn chinook() -> Option<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/chinook.sqlite");
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "the sample {} is not there", path.display());
        eprintln!("NOT TRIED: the sample {} is not there", path.display());
        return None;
    }
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(path, flags).unwrap();
    let mut asked = db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid").unwrap();
    let all: Vec<String> = asked.query_map([], |r| r.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    Some(all.join(";\n"))
}

const JOURNAL: &str = "
create table users (
  id varchar(36) primary key, email varchar(255) not null unique, hashed_password varchar(255) not null,
  is_active boolean default true, created_at timestamp, updated_at timestamp);
create table journal_entries (
  id varchar(36) primary key, user_id varchar(36) not null references users(id), title varchar(200), body text,
  mood integer, score real, tags json, payload BYTES, created_at timestamp);
create index ix_journal_entries_user_id on journal_entries (user_id);";

/// The same tables for PostgreSQL, from what was read of them.
fn in_postgres(catalog: &Catalog, sql: &str) -> String {
    let mut out = String::new();
    for table in catalog.tables() {
        let quoted = |names: &[String]| names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
        let mut lines: Vec<String> = Vec::new();
        for c in &table.columns {
            let ty = c.ty.replace("NVARCHAR", "varchar").replace("DATETIME", "timestamp");
            lines.push(format!("\"{}\" {ty}{}", c.name, if c.not_null { " NOT NULL" } else { "" }));
        }
        lines.push(format!("PRIMARY KEY ({})", quoted(&table.key)));
        out += &format!("CREATE TABLE \"{}\" ({});\n", table.name.name, lines.join(", "));
    }
    for table in catalog.tables() {
        for key in &table.foreign_keys {
            let list = |names: &[String]| names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
            out += &format!(
                "ALTER TABLE \"{}\" ADD FOREIGN KEY ({}) REFERENCES \"{}\" ({});\n",
                table.name.name,
                list(&key.columns),
                key.table.name,
                list(&key.references)
            );
        }
    }
    for index in sql.split(";\n").filter(|s| s.contains("CREATE INDEX") || s.contains("CREATE UNIQUE INDEX")) {
        out += &index.replace(['[', ']'], "\"");
        out += ";\n";
    }
    out
}

/// Built from nothing by what is generated, without a further difference, and taken back to nothing.
#[track_caller]
fn there_and_back(script: &str, empty: impl Fn() -> Place) -> Catalog {
    let mut wanted = empty();
    wanted.run(script);
    let catalog = built_again(&mut wanted, &empty);
    let mut place = empty();
    let nothing = place.read();
    changed(&mut place, &catalog, &Renames::default());
    changed(&mut place, &nothing, &Renames::default());
    let left = failing(&nothing, &place.read());
    assert!(left.is_empty(), "{}", text(&left));
    catalog
}

#[test]
fn chinook_is_built_again_on_both() {
    let Some(script) = chinook() else { return };
    let catalog = there_and_back(&script, Place::sqlite);
    assert_eq!(catalog.tables().len(), 11);
    let track = catalog.tables().iter().find(|t| t.name.name == "Track").unwrap();
    assert_eq!((track.key.as_slice(), track.foreign_keys.len()), (["TrackId".to_owned()].as_slice(), 3));
    let postgres = there_and_back(&in_postgres(&catalog, &script), Place::postgres);
    assert_eq!(postgres.tables().len(), 11);
    let keys: usize = postgres.tables().iter().map(|t| t.foreign_keys.len()).sum();
    assert_eq!(keys, 11);
}

#[test]
fn the_journal_is_built_again_on_both() {
    let sqlite = there_and_back(&JOURNAL.replace("BYTES", "blob"), Place::sqlite);
    let postgres = there_and_back(&JOURNAL.replace("BYTES", "bytea"), Place::postgres);
    for catalog in [sqlite, postgres] {
        let [entries, users] = catalog.tables() else { panic!("two tables") };
        assert_eq!((users.name.name.as_str(), &users.key), ("users", &vec!["id".to_owned()]));
        assert_eq!(users.unique, [["email"]]);
        let [key] = entries.foreign_keys.as_slice() else { panic!("one foreign key") };
        assert_eq!(
            (&key.columns, &key.references, &key.table),
            (&vec!["user_id".into()], &vec!["id".into()], &users.name)
        );
    }
}

//! What a schema holds: read, built again, compared, changed into another.

mod everything;
mod known;
mod random;
mod traps;

use backout::revision::catalog::{self, Catalog, Change, Difference, Renames, Statement, change, differences};
use backout::revision::database::{self, Database as Session};

use crate::database::Database;

/// A database and its server's, if it has one.
struct Place {
    session: Box<dyn Session>,
    _server: Option<Database>,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    fn sqlite() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let session = database::open("sqlite:a.db", folder.path(), true, &Default::default()).unwrap();
        Place { session, _server: None, _folder: Some(folder) }
    }

    fn postgres() -> Place {
        let server = Database::new();
        let session = database::open(&server.url, std::path::Path::new("."), true, &Default::default()).unwrap();
        Place { session, _server: Some(server), _folder: None }
    }

    /// Runs a script as one transaction.
    #[track_caller]
    fn run(&mut self, sql: &str) {
        self.session.begin().unwrap();
        if let Err(e) = self.session.run(sql) {
            panic!("{sql}\n{e}");
        }
        self.session.commit("a script").unwrap();
    }

    fn read(&mut self) -> Catalog {
        catalog::read(&mut *self.session).unwrap()
    }

    /// Runs statements in one transaction; those that only give rights are left out.
    #[track_caller]
    fn build(&mut self, statements: &[Statement]) {
        let plain: Vec<String> = statements.iter().filter(|s| !s.rights).map(|s| s.sql.clone()).collect();
        self.all(&plain);
    }

    #[track_caller]
    fn all(&mut self, statements: &[String]) {
        self.session.begin().unwrap();
        for sql in statements {
            if let Err(e) = self.session.run(sql) {
                panic!("of\n{}\n\nat\n{sql}\n\n{e}", statements.join(";\n"));
            }
        }
        self.session.commit("statements").unwrap();
    }

    /// What a query says, values joined by `|`.
    fn ask(&mut self, sql: &str) -> Vec<String> {
        let rows = self.session.query(sql).unwrap();
        let one = |v: &backout::value::Value<'_>| match v {
            backout::value::Value::Text(t) => String::from_utf8_lossy(t).into_owned(),
            backout::value::Value::Int(i) => i.to_string(),
            _ => "NULL".into(),
        };
        rows.iter().map(|r| r.iter().map(one).collect::<Vec<_>>().join("|")).collect()
    }
}

fn text(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What differs, but for the order of columns.
fn failing(before: &Catalog, after: &Catalog) -> Vec<Difference> {
    differences(before, after).into_iter().filter(|d| !d.order_only).collect()
}

#[track_caller]
fn same(before: &Catalog, after: &Catalog) {
    let found = failing(before, after);
    assert!(found.is_empty(), "{}", text(&found));
    assert_eq!(before.fingerprint(), after.fingerprint());
}

/// Built again from what was read, it reads the same.
#[track_caller]
fn built_again(place: &mut Place, empty: impl Fn() -> Place) -> Catalog {
    let catalog = place.read();
    let mut other = empty();
    assert!(other.read().is_empty());
    other.build(&catalog.create());
    same(&catalog, &other.read());
    assert_eq!(catalog.not_created(), Vec::<String>::new());
    catalog
}

#[track_caller]
fn changed(place: &mut Place, to: &Catalog, renames: &Renames) -> Change {
    let from = place.read();
    let change = change(&from, to, renames);
    place.all(&change.up);
    let found = failing(to, &place.read());
    assert!(found.is_empty(), "{}\n\nafter\n{}", text(&found), change.up.join(";\n"));
    change
}

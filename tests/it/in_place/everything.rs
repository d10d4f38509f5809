//! A schema that has everything, in PostgreSQL, through whole runs: beside it a twin, to which the application writes the same and Backout nothing.

use backout::migrate::{Project, RollbackOptions, UpOptions};
use backout::store::Phase;
use postgres::Client;

use super::postgres::{EVERYTHING, dump};
use crate::database::Database;
use crate::room::folder;

/// What speaks of it from elsewhere.
const BEYOND: &str = "
CREATE SCHEMA reports;
CREATE VIEW reports.words AS SELECT w.id, w.word, w.name FROM words w;
COMMENT ON VIEW reports.words IS 'of words';
CREATE FUNCTION reports.shout(parents) RETURNS text LANGUAGE sql AS 'SELECT upper($1.name)';
CREATE VIEW reports.shouts AS SELECT reports.shout(p) AS shout FROM parents p;
CREATE TABLE reports.held (id int PRIMARY KEY, by text);
CREATE POLICY of_parents ON reports.held USING (EXISTS (SELECT FROM parents p WHERE p.name = held.by));
CREATE RULE told AS ON INSERT TO reports.held DO ALSO INSERT INTO audit (what) SELECT 'held: ' || p.name FROM parents p WHERE p.name = NEW.by;
";

const MIGRATION: &str = r#"title = "wider"
[rekey]
store = "main"
type = "bigint"
tables = ["parents"]
[alter]
store = "main"
[[alter.column]]
table = "parents"
column = "code"
type = "bigint"
"#;

struct Both {
    database: Database,
    twin: Database,
    apps: [Client; 2],
}

impl Both {
    fn run(&mut self, sql: &str) {
        self.apps.iter_mut().for_each(|app| app.batch_execute(sql).unwrap());
    }

    /// Rows of one kind as they were, others, fewer; by its tables, its views and what is under its rules and triggers.
    fn write(&mut self, n: i32) {
        self.run(&format!(
            "INSERT INTO parents (id, name, code, note) VALUES ({id}, 'p{n}', {id}, 'new');
             INSERT INTO \"Odd \"\"Things\" (id, parent, self, number, other, word, feeling, \"where\", big, during)
                VALUES ({id}, {id}, {id}, {id}, {n}, 'w{n}', 'high', '(1,2)', repeat('y', 3000), '[2025-01-0{n},2025-01-0{n}]');
             INSERT INTO quick OVERRIDING SYSTEM VALUE VALUES ({id}, {id});
             UPDATE quick SET of = NULL WHERE id = {id};
             BEGIN; UPDATE parents SET code = 3 - code WHERE code IN (1, 2); COMMIT;
             UPDATE \"Odd \"\"Things\" SET word = word || '{n}', number = number + 1 WHERE id = {id};
             INSERT INTO reports.held VALUES ({id}, 'p{n}');
             INSERT INTO parents (id, name, code) VALUES ({id} + 1, 'gone {n}', {id} + 1); DELETE FROM parents WHERE id = {id} + 1",
            id = 200 + 10 * n
        ));
    }

    fn same(&mut self) {
        let [here, there] = self.apps.each_mut().map(|app| {
            let relations =
                ["parents", "\"Odd \"\"Things\"", "quick", "words", "reports.held", "reports.words", "reports.shouts"];
            let rows = relations.map(|r| format!("SELECT '{r}: ' || t::text FROM {r} t UNION ALL")).join(" ");
            let sql = format!("SELECT x FROM ({rows} SELECT what FROM audit) _(x) ORDER BY x COLLATE \"C\"");
            app.simple_query(&sql)
                .unwrap()
                .iter()
                .filter_map(|m| match m {
                    postgres::SimpleQueryMessage::Row(r) => Some(r.get(0).unwrap().to_owned()),
                    _ => None,
                })
                .collect::<Vec<_>>()
        });
        assert_eq!(here, there);
    }

    fn schemas(&mut self) -> Vec<String> {
        let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$|^public$|^reports$' ORDER BY 1";
        self.apps[0].query(sql, &[]).unwrap().iter().map(|l| l.get(0)).collect()
    }
}

#[test]
fn d03_everything_goes_up_and_back_and_is_completed() {
    let mut databases = [Database::new(), Database::new()];
    let (reader, _) = databases[0].role("secret");
    let sql = format!("{EVERYTHING}{BEYOND}").replace("$READER", &reader);
    let apps = databases.each_ref().map(Database::client);
    let [database, twin] = databases;
    let mut both = Both { database, twin, apps };
    both.run(&sql);
    both.write(1);
    let before = dump(&both.database.url);
    assert_eq!(before, dump(&both.twin.url));

    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("migrations")).unwrap();
    let config = format!("[project]\nname = \"everything\"\n[stores]\nmain = {:?}\n", both.database.url);
    std::fs::write(path("backout.toml"), config).unwrap();
    std::fs::write(path("migrations/20250301090000_wider.toml"), MIGRATION).unwrap();
    let project = || Project::open(folder.path(), &|_| None).unwrap();

    both.write(2);
    let out = project().up(&UpOptions::default()).unwrap();
    assert_eq!(out.phase, Some(Phase::Soaking));
    both.write(3);
    let home = |both: &Both| dump(&both.database.url);
    let wide = home(&both);
    both.same();
    let out = project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((out.phase, out.parked), (Some(Phase::RolledBack), vec![]));
    let back = home(&both);
    assert_eq!(apart(&before, &back), [""; 0]);
    assert_eq!(back, before);
    both.same();
    let kept = both.schemas();
    assert!(kept.len() == 3 && kept[0] == "backout" && kept[2] == format!("{}.reports", kept[1]), "{kept:?}");

    both.write(4);
    project().up(&UpOptions::default()).unwrap();
    both.write(5);
    project().complete(false).unwrap();
    both.same();
    let done = home(&both);
    assert_eq!(apart(&wide, &done), [""; 0]);
    assert_eq!(both.schemas(), kept, "something was left");
    // no line is another one but those of the types
    assert_eq!(before.lines().count(), done.lines().count());
    let changed: Vec<_> =
        before.lines().zip(done.lines()).filter(|(a, b)| a != b).map(|(a, b)| [a.trim(), b.trim()]).collect();
    let types = [
        ["id integer NOT NULL,", "id bigint NOT NULL,"],
        ["code integer NOT NULL,", "code bigint NOT NULL,"],
        ["parent integer,", "parent bigint,"],
        ["maybe integer,", "maybe bigint,"],
    ];
    assert_eq!(changed, types);
}

/// Lines that only one of them has.
fn apart(a: &str, b: &str) -> Vec<String> {
    let lacking = |a: &str, b: &str, sign: &str| {
        let there: Vec<&str> = b.lines().collect();
        a.lines().filter(|l| !there.contains(l)).map(|l| format!("{sign}{l}")).collect::<Vec<_>>()
    };
    [lacking(a, b, "-"), lacking(b, a, "+")].concat()
}

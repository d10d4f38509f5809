//! Numbers become UUIDs over a graph of foreign keys, and are numbers again.

use backout::migrate::{Project, RollbackOptions, UpOptions};
use backout::store::Phase;
use postgres::{Client, NoTls};

use super::house::Session;
use crate::database::Database;
use crate::room::folder;

const REKEY: &str = r#"title = "ids become UUIDs"
[rekey]
store = "main"
type = "uuid"
tables = ["users", "tags"]
[[rekey.reference]]
table = "audit"
column = "who"
to = "users"
"#;

const TABLES: &str = "
CREATE TABLE users (id bigserial PRIMARY KEY, name text, boss bigint REFERENCES users (id) ON DELETE SET NULL);
CREATE TABLE tags (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, label text NOT NULL UNIQUE);
CREATE TABLE profiles (user_id bigint PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE, bio text);
CREATE TABLE user_tags (user_id bigint REFERENCES users (id), tag_id integer REFERENCES tags (id), since date, PRIMARY KEY (user_id, tag_id));
CREATE TABLE audit (id bigserial PRIMARY KEY, who bigint, what text);
CREATE INDEX audit_who ON audit (who);
INSERT INTO users (name, boss) SELECT 'user ' || n, nullif(n / 2, 0) FROM generate_series(1, 20) n;
INSERT INTO tags (label) SELECT 'tag ' || n FROM generate_series(1, 5) n;
INSERT INTO profiles SELECT n, 'bio ' || n FROM generate_series(1, 10) n;
INSERT INTO user_tags SELECT n, n % 5 + 1, '2024-01-01' FROM generate_series(1, 20) n;
INSERT INTO users (name) SELECT 'gone' FROM generate_series(21, 25);
INSERT INTO audit (who, what) SELECT n, 'did ' || n FROM generate_series(1, 25) n;
DELETE FROM users WHERE name = 'gone';
";

fn everything(s: &mut Session) -> Vec<Vec<Vec<String>>> {
    ["users", "tags", "profiles", "user_tags", "audit"]
        .map(|t| s.rows(&format!("SELECT * FROM {t} ORDER BY 1, 2")))
        .into()
}

#[test]
fn p10_numbers_become_uuids_and_are_numbers_again() {
    let (folder, database) = (folder(), Database::new());
    let mut s = Session::Postgres(Client::connect(&database.url, NoTls).unwrap());
    s.run(TABLES).unwrap();
    std::fs::create_dir(folder.path().join("migrations")).unwrap();
    let config = format!("[project]\nname = \"numbers\"\n[stores]\nmain = {:?}\n", database.url);
    std::fs::write(folder.path().join("backout.toml"), config).unwrap();
    std::fs::write(folder.path().join("migrations/20250301090000_uuids.toml"), REKEY).unwrap();
    let project = || Project::open(folder.path(), &|_| None).unwrap();
    let before = everything(&mut s);

    s.run("INSERT INTO audit (who, what) VALUES (26, 'nobody')").unwrap();
    let refused = project().up(&UpOptions::default()).unwrap_err().error.to_string();
    assert!(refused.contains("audit.who, key 26, holds 26") && refused.contains("beyond 25"), "{refused}");
    s.run("DELETE FROM audit WHERE who = 26").unwrap();
    assert_eq!(project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    let types = "SELECT DISTINCT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attnum > 0 AND \
        (attrelid::regclass::text, attname) IN (('users', 'id'), ('users', 'boss'), ('tags', 'id'), ('profiles', 'user_id'), \
         ('user_tags', 'user_id'), ('user_tags', 'tag_id'), ('audit', 'who'))";
    assert_eq!(s.rows(types), [["uuid"]]);
    // they sort as the numbers did
    let names = s.rows("SELECT name FROM users ORDER BY id");
    assert_eq!(names, before[0].iter().map(|r| vec![r[1].clone()]).collect::<Vec<_>>());
    s.run("INSERT INTO users (name, boss) SELECT 'born', id FROM users WHERE name = 'user 3'").unwrap();
    s.run("INSERT INTO profiles SELECT id, 'of the born' FROM users WHERE name = 'born'").unwrap();
    s.run("INSERT INTO tags (label) VALUES ('new')").unwrap();
    s.run("INSERT INTO user_tags SELECT u.id, t.id, '2025-01-01' FROM users u, tags t WHERE u.name = 'born' AND t.label = 'new'").unwrap();
    s.run("INSERT INTO audit (who, what) SELECT id, 'was born' FROM users WHERE name = 'born'").unwrap();
    project().shadow().unwrap();
    s.run("INSERT INTO users (name, boss) SELECT 'child', id FROM users WHERE name = 'born'").unwrap();
    s.run("UPDATE users SET boss = (SELECT id FROM users WHERE name = 'child') WHERE name = 'user 4'").unwrap();
    s.run("UPDATE users SET name = 'user 5!' WHERE name = 'user 5'").unwrap();
    // gone and there again: it is the same number
    s.run("BEGIN; UPDATE users SET boss = NULL WHERE name IN ('user 10', 'user 11'); COMMIT").unwrap();

    let out = project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((out.phase, out.parked), (Some(Phase::RolledBack), Vec::new()));
    let after = everything(&mut s);
    assert_eq!(s.rows("SELECT id, boss FROM users WHERE name = 'born'"), [["26", "3"]]);
    assert_eq!(s.rows("SELECT id, boss FROM users WHERE name = 'child'"), [["27", "26"]]);
    assert_eq!(s.rows("SELECT boss FROM users WHERE name = 'user 4'"), [["27"]]);
    assert_eq!(s.rows("SELECT bio FROM profiles WHERE user_id = 26"), [["of the born"]]);
    assert_eq!(s.rows("SELECT tag_id FROM user_tags WHERE user_id = 26"), [["6"]]);
    assert_eq!(s.rows("SELECT what FROM audit WHERE who = 26 AND what = 'was born'"), [["was born"]]);
    assert_eq!(
        s.rows("SELECT name, boss FROM users WHERE id IN (5, 10) ORDER BY id"),
        [["user 5!", "2"], ["user 10", "∅"]]
    );
    let untouched = |t: usize| before[t].iter().filter(|r| after[t].contains(r)).count();
    assert_eq!([untouched(0), untouched(1), untouched(2), untouched(3), untouched(4)], [16, 5, 10, 20, 25]);
    s.run("INSERT INTO users (name) VALUES ('next'); INSERT INTO tags (label) VALUES ('next')").unwrap();
    assert_eq!(s.rows("SELECT id FROM users WHERE name = 'next'"), [["28"]]);
    assert_eq!(s.rows("SELECT id FROM tags WHERE label = 'next'"), [["7"]]);

    // a second time the row that was born there has the UUID that it had (P23)
    let pairs = s.rows("SELECT count(*) FROM backout.history");
    assert_eq!(pairs, [["1"]]);
    assert_eq!(project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert_eq!(s.rows("SELECT substr(id::text, 15, 1) FROM users WHERE name = 'born'"), [["4"]], "a random UUID");
    assert_eq!(
        s.rows("SELECT substr(id::text, 15, 1) FROM users WHERE name = 'user 5!'"),
        [["8"]],
        "one that tells its number"
    );
    assert_eq!(project().rollback(&RollbackOptions::default()).unwrap().phase, Some(Phase::RolledBack));
    assert_eq!(s.rows("SELECT id FROM users WHERE name = 'born'"), [["26"]]);
}

#[test]
fn p10_numbers_that_the_application_gives_become_uuids_and_it_goes_on_after_the_greatest() {
    let (folder, database) = (folder(), Database::new());
    let mut s = Session::Postgres(Client::connect(&database.url, NoTls).unwrap());
    s.run(
        "CREATE TABLE users (id integer PRIMARY KEY, name text); CREATE TABLE notes (id serial PRIMARY KEY, user_id integer REFERENCES users, body text);
         INSERT INTO users VALUES (1, 'one'), (40, 'forty'), (7, 'seven'); INSERT INTO notes (user_id, body) VALUES (40, 'a'), (NULL, 'b')",
    )
    .unwrap();
    std::fs::create_dir(folder.path().join("migrations")).unwrap();
    let config = format!("[project]\nname = \"numbers\"\n[stores]\nmain = {:?}\n", database.url);
    std::fs::write(folder.path().join("backout.toml"), config).unwrap();
    let rekey = "[rekey]\nstore = \"main\"\ntype = \"uuid\"\ntables = [\"users\"]\n";
    std::fs::write(folder.path().join("migrations/20250301090000_uuids.toml"), rekey).unwrap();
    let project = || Project::open(folder.path(), &|_| None).unwrap();
    let notes = project().plan(None).unwrap().unwrap().plan.notes.join("\n");
    assert!(notes.contains("the store gives these no numbers by itself") && notes.contains("users.id"), "{notes}");
    let before = s.rows("SELECT * FROM users ORDER BY id");
    assert_eq!(project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert!(s.run("INSERT INTO users (name) VALUES ('without')").is_err(), "nobody gives it a UUID");
    s.run("INSERT INTO users VALUES (gen_random_uuid(), 'born'); INSERT INTO notes (user_id, body) SELECT id, 'of the born' FROM users WHERE name = 'born'").unwrap();
    project().shadow().unwrap();
    s.run("INSERT INTO users VALUES (gen_random_uuid(), 'later'); DELETE FROM users WHERE name = 'seven'").unwrap();
    let out = project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((out.phase, out.parked), (Some(Phase::RolledBack), Vec::new()));
    let mut after = vec![before[0].clone(), before[2].clone()];
    after.extend([["41", "born"], ["42", "later"]].map(|r| r.map(str::to_owned).to_vec()));
    assert_eq!(s.rows("SELECT * FROM users ORDER BY id"), after);
    assert_eq!(s.rows("SELECT user_id FROM notes WHERE body = 'of the born'"), [["41"]]);
}

//! Tables that become one, or that one becomes, whose keys the application gives.

use backout::migrate::{RollbackOptions, Until, UpOptions};
use backout::store::Phase;

use super::merging::Media;
use crate::room::Kind;

const MERGE: &str = r#"[merge]
store = "main"
into = "media"
discriminator = "kind"
[[merge.from]]
table = "images"
value = "image"
[[merge.from]]
table = "docs"
value = "doc"
"#;

const SPLIT: &str = r#"[split]
store = "main"
table = "media"
discriminator = "kind"
[[split.into]]
table = "images"
value = "image"
without = ["pages"]
[[split.into]]
table = "docs"
value = "doc"
without = ["width"]
"#;

fn uuid(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// Images 1 to 9, each with a caption; documents from 11 on; by keys of this type.
fn media(kind: Kind, ty: &str) -> Media {
    let mut m = Media::bare(kind, MERGE);
    m.run(&format!(
        "CREATE TABLE images (id {ty} PRIMARY KEY, url text NOT NULL UNIQUE, width integer);
         CREATE TABLE docs (id {ty} PRIMARY KEY, url text NOT NULL, pages integer);
         CREATE TABLE captions (id integer PRIMARY KEY, of_image {ty} NOT NULL REFERENCES images (id) ON DELETE CASCADE, words text)"
    ));
    for n in 1..=9 {
        m.run(&format!("INSERT INTO images VALUES ('{}', 'i{n}', {n})", uuid(n)));
        m.run(&format!("INSERT INTO captions VALUES ({n}, '{}', 'of {n}')", uuid(n)));
        m.run(&format!("INSERT INTO docs VALUES ('{}', 'd{n}', {n})", uuid(n + 10)));
    }
    m
}

fn everything(m: &mut Media) -> Vec<Vec<String>> {
    ["images", "docs", "captions"].map(|t| m.rows(&format!("SELECT * FROM {t} ORDER BY id"))).concat()
}

fn names_stay(kind: Kind, ty: &str) {
    let mut m = media(kind, ty);
    m.run(&format!("INSERT INTO docs VALUES ('{}', 'twin', 1)", uuid(7)));
    let refused = m.project().up(&UpOptions::default()).unwrap_err().error.to_string();
    assert!(refused.contains(&uuid(7)) && refused.contains("images") && refused.contains("docs"), "{refused}");
    m.run("DELETE FROM docs WHERE url = 'twin'");
    let before = everything(&mut m);

    // one that comes later stops what is carried, and takes nobody's place
    m.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
    m.run(&format!("INSERT INTO docs VALUES ('{}', 'twin', 1)", uuid(7)));
    let refused = m.project().up(&UpOptions::default()).unwrap_err().error.to_string();
    assert!(refused.contains(&uuid(7)) && refused.contains("has this key"), "{refused}");
    assert_eq!(m.one("SELECT count(*) FROM docs"), "10");
    m.run("DELETE FROM docs WHERE url = 'twin'");
    assert_eq!(m.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert_eq!(m.one("SELECT count(*), count(DISTINCT id) FROM media"), "18|18");
    assert_eq!(m.one(&format!("SELECT kind, url FROM media WHERE id = '{}'", uuid(7))), "image|i7");
    assert_eq!(m.one(&format!("SELECT kind, url FROM media WHERE id = '{}'", uuid(17))), "doc|d7");

    let (image, doc, later) = (uuid(101), uuid(102), uuid(103));
    m.run(&format!("INSERT INTO media (id, kind, url, width) VALUES ('{image}', 'image', 'new', 500)"));
    m.run(&format!("INSERT INTO media (id, kind, url, pages) VALUES ('{doc}', 'doc', 'new', 6)"));
    m.run(&format!("INSERT INTO captions VALUES (100, '{image}', 'of the new one')"));
    m.run("UPDATE media SET width = 77 WHERE url = 'i3'; DELETE FROM media WHERE url = 'i4'");
    // a key that becomes another, and a row that becomes another's
    m.run(&format!("UPDATE media SET id = '{}' WHERE url = 'd5'", uuid(55)));
    m.run(&format!("DELETE FROM captions WHERE of_image = '{}'", uuid(9)));
    m.run("UPDATE media SET kind = 'doc', width = NULL, pages = 8 WHERE url = 'i9'");
    m.project().shadow().unwrap();
    m.run(&format!("INSERT INTO media (id, kind, url, width) VALUES ('{later}', 'image', 'later', 500)"));
    let out = m.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((out.phase, &out.parked), (Some(Phase::RolledBack), &Vec::new()));
    assert_eq!(out.verified.unwrap().problems, [""; 0]);
    assert_eq!(
        m.rows("SELECT id, width FROM images WHERE width IN (500, 77) ORDER BY id"),
        [[uuid(3), "77".into()], [image.clone(), "500".into()], [later, "500".into()]]
    );
    assert_eq!(
        m.rows("SELECT id FROM docs WHERE url IN ('new', 'd5', 'i9') ORDER BY id"),
        [[uuid(9)], [uuid(55)], [doc]]
    );
    assert_eq!(m.rows("SELECT of_image FROM captions WHERE id = 100"), [[image]]);
    let after = everything(&mut m);
    // i3, i4 with its caption, i9 with its caption, d5
    assert_eq!(before.iter().filter(|r| after.contains(r)).count(), before.len() - 6);
    assert_eq!(m.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert_eq!(m.one("SELECT count(*) FROM media"), (after.len() - 8).to_string());
}

#[test]
fn p10_sqlite_texts_stay_the_keys_of_tables_that_become_one() {
    names_stay(Kind::Sqlite, "TEXT NOT NULL");
}

#[test]
fn p10_postgres_uuids_stay_the_keys_of_tables_that_become_one() {
    names_stay(Kind::Postgres, "uuid");
}

/// Numbers that the application gives are moved where two tables have the same, and stay else.
fn numbers(kind: Kind, ty: &str) {
    let mut m = Media::bare(kind, MERGE);
    m.run(&format!(
        "CREATE TABLE images (id {ty} PRIMARY KEY, url text NOT NULL, width integer);
         CREATE TABLE docs (id {ty} PRIMARY KEY, url text NOT NULL, pages integer);
         CREATE TABLE captions (id integer PRIMARY KEY, of_doc {ty} NOT NULL REFERENCES docs (id), words text)"
    ));
    for n in 1..=5 {
        m.run(&format!("INSERT INTO images VALUES ({n}, 'i{n}', {n}); INSERT INTO docs VALUES ({n}, 'd{n}', {n})"));
        m.run(&format!("INSERT INTO captions VALUES ({n}, {n}, 'of {n}')"));
    }
    m.run("INSERT INTO docs VALUES (-1, 'below', 1)");
    let refused = m.project().up(&UpOptions::default()).unwrap_err().error.to_string();
    assert!(refused.contains("docs: id is -1"), "{refused}");
    m.run("DELETE FROM docs WHERE id = -1");
    let before = everything(&mut m);
    let plan = m.project().plan(None).unwrap().unwrap().plan;
    assert!(plan.notes.iter().any(|n| n.contains("cannot move them ahead")), "{:?}", plan.notes);
    assert_eq!(m.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert_eq!(m.rows("SELECT id FROM media WHERE url IN ('i2', 'd2') ORDER BY id"), [["2"], ["100002"]]);
    assert_eq!(m.one("SELECT count(*) FROM captions c JOIN media m ON m.id = c.of_doc AND m.kind = 'doc'"), "5");
    // one above the greatest of all, of each kind: the document's is free in its own table
    m.run("INSERT INTO media (id, kind, url, pages) VALUES (100006, 'doc', 'new', 6)");
    m.run("INSERT INTO media (id, kind, url, width) VALUES (100007, 'image', 'new', 7)");
    m.run("INSERT INTO captions VALUES (6, 100006, 'of the new one')");
    m.project().shadow().unwrap();
    m.run("INSERT INTO media (id, kind, url, pages) VALUES (200000, 'doc', 'far', 6)");
    m.run("INSERT INTO media (id, kind, url, pages) VALUES (17, 'doc', 'low', 6)");
    let out = m.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((out.phase, &out.parked), (Some(Phase::RolledBack), &Vec::new()));
    assert_eq!(out.verified.unwrap().problems, [""; 0]);
    assert_eq!(m.rows("SELECT id, url FROM images WHERE id > 5"), [["6", "new"]]);
    assert_eq!(
        m.rows("SELECT id, url FROM docs WHERE id > 5 ORDER BY id"),
        [["6", "new"], ["100000", "far"], ["100001", "low"]]
    );
    assert_eq!(m.one("SELECT of_doc FROM captions WHERE id = 6"), "6");
    assert!(before.iter().all(|r| everything(&mut m).contains(r)));

    // as long as no number is in two of them all stay
    std::fs::remove_file(m.folder.path().join("migrations/20250301090000_media.toml")).unwrap();
    std::fs::write(m.folder.path().join("migrations/20250401090000_media.toml"), MERGE).unwrap();
    m.run("DELETE FROM captions; DELETE FROM docs WHERE id < 7; UPDATE docs SET id = -2 WHERE url = 'low'");
    let before = everything(&mut m);
    assert_eq!(m.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert_eq!(m.rows("SELECT id FROM media WHERE kind = 'doc' ORDER BY id"), [["-2"], ["100000"]]);
    m.run("INSERT INTO media (id, kind, url, width) VALUES (30000, 'image', 'newer', 7)");
    assert_eq!(m.project().rollback(&RollbackOptions::default()).unwrap().phase, Some(Phase::RolledBack));
    assert_eq!(m.rows("SELECT id FROM images WHERE url = 'newer'"), [["30000"]]);
    assert!(before.iter().all(|r| everything(&mut m).contains(r)));
}

#[test]
fn p10_sqlite_numbers_of_the_application_s_own_are_moved_only_where_they_meet() {
    numbers(Kind::Sqlite, "INT NOT NULL");
}

#[test]
fn p10_postgres_numbers_of_the_application_s_own_are_moved_only_where_they_meet() {
    numbers(Kind::Postgres, "integer");
}

fn split_media(kind: Kind, ty: &str) -> Media {
    let mut m = Media::bare(kind, SPLIT);
    m.run(&format!(
        "CREATE TABLE media (id {ty} PRIMARY KEY, kind text NOT NULL, url text, width integer, pages integer)"
    ));
    m
}

/// Of two rows that were given one key only one can come back; the other is listed, and so is what refers to it.
fn texts_apart(kind: Kind) {
    let mut m = split_media(kind, "text NOT NULL");
    m.run(
        "CREATE TABLE quotes (id integer PRIMARY KEY, doc text REFERENCES media (id), words text);
         INSERT INTO media VALUES ('a', 'image', 'i1', 1, NULL), ('b', 'doc', 'd1', NULL, 1), ('c', 'image', 'i2', 2, NULL);
         INSERT INTO quotes VALUES (1, 'b', 'of d1'), (2, NULL, 'of nobody')",
    );
    let before = m.rows("SELECT * FROM media ORDER BY id");
    assert_eq!(m.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert!(m.session.run("INSERT INTO quotes VALUES (3, 'a', 'of an image')").is_err());
    m.run("INSERT INTO images (id, url, width) VALUES ('new', 'i3', 3)");
    m.run("UPDATE docs SET pages = 2 WHERE id = 'b'");
    m.project().shadow().unwrap();
    m.run("INSERT INTO docs (id, url, pages) VALUES ('new', 'twin', 3), ('other', 'd2', 3)");
    m.run("INSERT INTO quotes VALUES (4, 'new', 'of the twin'), (5, 'other', 'of d2')");
    let out = m.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((out.phase, out.parked.len()), (Some(Phase::RolledBack), 2), "{:?}", out.parked);
    let told = |a: &str, b: &str| out.parked.iter().any(|p| p.contains(a) && p.contains(b));
    assert!(told("key 'new'", "has this key") && told("quotes, key 4", "refers to 'new' of docs"), "{:?}", out.parked);
    assert_eq!(
        m.rows("SELECT id, kind, url FROM media WHERE id IN ('b', 'new', 'other') ORDER BY id"),
        [["b", "doc", "d1"], ["new", "image", "i3"], ["other", "doc", "d2"]]
    );
    assert_eq!(m.rows("SELECT id, doc FROM quotes ORDER BY id"), [["1", "b"], ["2", "∅"], ["5", "other"]]);
    let after = m.rows("SELECT * FROM media ORDER BY id");
    assert_eq!(before.iter().filter(|r| after.contains(r)).count(), 2);
}

#[test]
fn p10_sqlite_texts_stay_the_keys_of_tables_that_one_becomes() {
    texts_apart(Kind::Sqlite);
}

#[test]
fn p10_postgres_texts_stay_the_keys_of_tables_that_one_becomes() {
    texts_apart(Kind::Postgres);
}

/// Numbers of the application's own that two of the new tables give go on from the greatest of the one.
fn numbers_apart(kind: Kind) {
    let mut m = split_media(kind, if kind == Kind::Sqlite { "BIGINT NOT NULL" } else { "bigint" });
    m.run(
        "INSERT INTO media VALUES (1, 'image', 'i1', 1, NULL), (2, 'doc', 'd1', NULL, 1), (3, 'image', 'i2', 2, NULL)",
    );
    assert_eq!(m.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    m.run("INSERT INTO images (id, url, width) VALUES (4, 'i3', 3), (2, 'i4', 4)");
    m.run("INSERT INTO docs (id, url, pages) VALUES (4, 'd2', 3), (900, 'd3', 3)");
    m.project().shadow().unwrap();
    m.run("INSERT INTO docs (id, url, pages) VALUES (7, 'd4', 3); UPDATE docs SET pages = 30 WHERE id = 4");
    let out = m.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((out.phase, &out.parked), (Some(Phase::RolledBack), &Vec::new()));
    let ids: Vec<String> = m.rows("SELECT url, id FROM media ORDER BY url").into_iter().map(|r| r.join(" ")).collect();
    // 4 and 900 are the image's and the document's own; those of the others were taken
    assert_eq!(ids[0], "d1 2");
    assert_eq!(ids[2..4], ["d3 900", "d4 7"]);
    assert_eq!(ids[4..7], ["i1 1", "i2 3", "i3 4"]);
    let made_up = [&ids[1], &ids[7]].map(|r| r[3..].parse::<u32>().unwrap());
    assert!(made_up[0] != made_up[1] && made_up.iter().all(|n| *n > 4 && *n < 1000), "{ids:?}");
    assert_eq!(m.one("SELECT pages FROM media WHERE url = 'd2'"), "30");
    let numbers = ids.clone();
    assert_eq!(m.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert_eq!(m.rows("SELECT id FROM docs WHERE url = 'd2'"), [["4"]]);
    assert_eq!(m.project().rollback(&RollbackOptions::default()).unwrap().phase, Some(Phase::RolledBack));
    let ids: Vec<String> = m.rows("SELECT url, id FROM media ORDER BY url").into_iter().map(|r| r.join(" ")).collect();
    assert_eq!(ids, numbers);
}

#[test]
fn p10_sqlite_numbers_that_two_tables_gave_are_told_apart() {
    numbers_apart(Kind::Sqlite);
}

#[test]
fn p10_postgres_numbers_that_two_tables_gave_are_told_apart() {
    numbers_apart(Kind::Postgres);
}

const FIXED: &str = r#"[merge]
store = "main"
into = "media"
discriminator = "kind"
[[merge.from]]
table = "images"
value = "image"
constants = { origin = "'camera'", version = "1" }
[[merge.from]]
table = "docs"
value = "doc"
offset = 500
constants = { shelf = "7" }
columns = { source = "origin" }
"#;

/// What a table has nothing for is one value in all of its rows; a row with another has no way back.
fn constants(kind: Kind) {
    let (id, flag) = match kind {
        Kind::Sqlite => ("INTEGER PRIMARY KEY", "1"),
        _ => ("integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "true"),
    };
    let wanted = FIXED
        .replace("version = \"1\"", "version = \"1\", public = \"true\"")
        .replace("shelf = \"7\"", "shelf = \"7\", version = \"2\"");
    let mut m = Media::bare(kind, &wanted.replace("shelf = \"7\"", "shelf = \"many\""));
    let boolean = if kind == Kind::Sqlite { "INTEGER" } else { "boolean" };
    m.run(&format!(
        "CREATE TABLE images (id {id}, url text NOT NULL, shelf integer NOT NULL);
         CREATE TABLE docs (id {id}, url text NOT NULL, source text NOT NULL, public {boolean});
         INSERT INTO images (url, shelf) VALUES ('i1', 1), ('i2', 2);
         INSERT INTO docs (url, source, public) VALUES ('d1', 'scan', NULL), ('d2', 'mail', {flag})"
    ));
    let file = m.folder.path().join("migrations/20250301090000_media.toml");
    let refused = |m: &mut Media, text: &str| {
        std::fs::write(&file, text).unwrap();
        m.project().up(&UpOptions::default()).unwrap_err().error.to_string()
    };
    let why = refused(&mut m, &wanted.replace("shelf = \"7\"", "shelf = \"many\""));
    assert!(why.contains("many in `constants`"), "{why}");
    let why = refused(&mut m, &wanted.replace("shelf = \"7\"", "shelf = \"7.5\""));
    assert!(why.to_lowercase().contains("7.5 is no value of shelf, which is integer"), "{why}");
    let why = refused(&mut m, &wanted.replace("shelf = \"7\"", "url = \"'x'\""));
    assert!(why.contains("docs has a column url of its own"), "{why}");
    std::fs::write(&file, &wanted).unwrap();
    let before = [m.rows("SELECT * FROM images ORDER BY id"), m.rows("SELECT * FROM docs ORDER BY id")];
    assert_eq!(m.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    let yes = if kind == Kind::Sqlite { "1" } else { "t" };
    assert_eq!(
        m.rows("SELECT id, kind, url, shelf, origin, version, public FROM media ORDER BY id"),
        [
            ["1", "image", "i1", "1", "camera", "1", yes],
            ["2", "image", "i2", "2", "camera", "1", yes],
            ["501", "doc", "d1", "7", "scan", "2", "∅"],
            ["502", "doc", "d2", "7", "mail", "2", yes]
        ]
    );
    let flag = |v: bool| if kind == Kind::Sqlite { u8::from(v).to_string() } else { v.to_string() };
    m.run(&format!(
        "INSERT INTO media (kind, url, shelf, origin, version, public) VALUES ('image', 'i3', 3, 'camera', 1, {}), \
         ('image', 'i4', 4, 'phone', 1, {}), ('doc', 'd3', 8, 'scan', 2, {})",
        flag(true),
        flag(true),
        flag(false)
    ));
    assert!(m.session.run("INSERT INTO media (kind, url, shelf, origin) VALUES ('image', 'i5', 3, 'camera')").is_err());
    m.project().shadow().unwrap();
    m.run(&format!("UPDATE media SET public = {} WHERE url = 'i2'", flag(false)));
    let out = m.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((out.phase, out.parked.len()), (Some(Phase::RolledBack), 3), "{:?}", out.parked);
    for (column, value) in [("origin", "'phone'"), ("shelf", "8"), ("public", "")] {
        assert!(out.parked.iter().any(|p| p.contains(column) && p.contains(value)), "{column}: {:?}", out.parked);
    }
    assert_eq!(m.rows("SELECT url FROM images ORDER BY id"), [["i1"], ["i2"], ["i3"]]);
    assert_eq!(
        [m.rows("SELECT * FROM images WHERE id < 3 ORDER BY id"), m.rows("SELECT * FROM docs ORDER BY id")],
        before
    );
}

#[test]
fn sqlite_a_merged_table_holds_constants_for_rows_of_some() {
    constants(Kind::Sqlite);
}

#[test]
fn postgres_a_merged_table_holds_constants_for_rows_of_some() {
    constants(Kind::Postgres);
}

/// What is added to numbers stands in the file, and grows with no data.
#[test]
fn an_offset_is_what_the_file_says_or_is_refused() {
    let offset = |images: &str, docs: &str| {
        MERGE
            .replace("value = \"image\"", &format!("value = \"image\"\n{images}"))
            .replace("value = \"doc\"", &format!("value = \"doc\"\n{docs}"))
    };
    let mut m = Media::bare(Kind::Sqlite, &offset("", ""));
    m.run(
        "CREATE TABLE images (id INTEGER PRIMARY KEY AUTOINCREMENT, url text);
         CREATE TABLE docs (id INTEGER PRIMARY KEY AUTOINCREMENT, url text);
         INSERT INTO images VALUES (1, 'i1'), (2, 'i2'), (90, 'i90');
         INSERT INTO docs VALUES (1, 'd1'), (20, 'd20')",
    );
    let file = m.folder.path().join("migrations/20250301090000_media.toml");
    let notes = |m: &Media| m.project().plan(None).unwrap().unwrap().plan.notes.join("\n");
    assert!(notes(&m).contains("`offset = 100000`"), "{}", notes(&m));
    for (images, docs) in [
        ("", "offset = 90"),
        ("offset = 70", "offset = 70"),
        ("offset = 50", "offset = 40"),
        ("offset = 0", "offset = 0"),
    ] {
        std::fs::write(&file, offset(images, docs)).unwrap();
        let refused = m.project().plan(None).unwrap_err().error.to_string();
        assert!(refused.contains("would meet"), "{images} {docs}: {refused}");
    }
    std::fs::write(&file, offset("", "offset = 91")).unwrap();
    let hash = |m: &Media| m.project().plan(None).unwrap().unwrap().hash;
    let first = hash(&m);
    m.run("INSERT INTO docs VALUES (200000, 'd200000')");
    assert_eq!(hash(&m), first);
    std::fs::write(&file, offset("offset = 1000000", "")).unwrap();
    assert!(notes(&m).contains("images become 1000000 more"), "{}", notes(&m));
    std::fs::write(&file, offset("", "offset = 1000")).unwrap();
    assert_eq!(m.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert_eq!(m.rows("SELECT id FROM media ORDER BY id"), [["1"], ["2"], ["90"], ["1001"], ["1020"], ["201000"]]);
    m.run("INSERT INTO media (kind, url) VALUES ('image', 'new')");
    assert_eq!(m.project().rollback(&RollbackOptions::default()).unwrap().phase, Some(Phase::RolledBack));
    // its number in the merged table is not given to another
    std::fs::write(&file, offset("", "offset = 200990")).unwrap();
    let refused = m.project().plan(None).unwrap_err().error.to_string();
    assert!(refused.contains("have the numbers from 201001 to 201001"), "{refused}");
}

//! At random, in SQLite.

use proptest::strategy::Strategy;

use super::{Bench, COLUMNS, Dice, Place, all, dice, pairs, quoted};

fn script(d: &Dice) -> String {
    let mut out = String::new();
    for t in d.tables() {
        let name = quoted(&d.name(t));
        let strict = d.of(t, 42) % 5 == 1;
        let mut lines = vec![match d.of(t, 1) % 4 {
            1 => "id INTEGER PRIMARY KEY AUTOINCREMENT".to_owned(),
            2 => "id INTEGER CONSTRAINT \"the key\" PRIMARY KEY".into(),
            3 => "id INTEGER NOT NULL".into(),
            _ => "id INTEGER PRIMARY KEY".into(),
        }];
        let mut last = Vec::new();
        if d.of(t, 1) % 4 == 3 {
            last.push("PRIMARY KEY (id DESC)".to_owned());
        }
        for c in d.columns(t) {
            let column = quoted(&d.column_name(t, c));
            let types: &[&str] = if strict {
                &["INTEGER", "TEXT", "REAL", "BLOB", "ANY"]
            } else {
                &["INTEGER", "TEXT", "REAL", "BLOB", "", "VARCHAR(10)", "numeric", "Boolean", "TIMESTAMP"]
            };
            let mut line = format!("{column} {}", types[d.column(t, c, 1) % types.len()]);
            let extra = d.column(t, c, 4) % 8;
            if extra == 1 || extra == 2 {
                line += &format!(" GENERATED ALWAYS AS (id + {c}) {}", if extra == 1 { "STORED" } else { "VIRTUAL" });
            } else {
                match d.column(t, c, 3) % 6 {
                    1 => line += " DEFAULT 1",
                    2 => line += " DEFAULT 'x''y'",
                    3 => line += " DEFAULT (1 + 2)",
                    4 => line += " DEFAULT CURRENT_TIMESTAMP",
                    _ => {}
                }
                if d.column(t, c, 2) % 4 == 1 {
                    line += " NOT NULL";
                }
                match d.column(t, c, 5) % 6 {
                    1 => line += " UNIQUE",
                    2 => last.push(format!("CONSTRAINT u{c} UNIQUE ({column}, id)")),
                    _ => {}
                }
            }
            match extra {
                3 => line += " COLLATE nocase",
                4 => line += &format!(" CHECK ({column} <> 'no')"),
                5 => last.push(format!("CONSTRAINT k{c} CHECK ({column} IS NOT 5 AND id > 0)")),
                _ => {}
            }
            lines.push(line);
        }
        for k in 0..super::TABLES {
            match d.of(t, 32 + k) % 5 {
                1 => lines.push(format!("r{k} INTEGER REFERENCES {} (id) ON DELETE CASCADE", quoted(&d.name(k)))),
                2 => {
                    lines.push(format!("r{k} INTEGER"));
                    last.push(format!(
                        "FOREIGN KEY (r{k}) REFERENCES {} DEFERRABLE INITIALLY DEFERRED",
                        quoted(&d.name(k))
                    ));
                }
                _ => {}
            }
        }
        lines.extend(last);
        let options = match d.of(t, 42) % 5 {
            1 => " STRICT",
            2 if d.of(t, 1) % 4 != 1 => " WITHOUT ROWID",
            _ => "",
        };
        out += &format!("CREATE TABLE {name} ({}){options};\n", lines.join(", "));
    }
    for t in d.tables() {
        let name = quoted(&d.name(t));
        let first = d.columns(t).first().map_or("id".into(), |&c| quoted(&d.column_name(t, c)));
        for (i, kind) in [d.of(t, 37), d.of(t, 38)].into_iter().enumerate() {
            match kind % 6 {
                1 => out += &format!("CREATE INDEX i{t}_{i} ON {name} ({first});\n"),
                2 => out += &format!("CREATE UNIQUE INDEX i{t}_{i} ON {name} (id DESC, {first} COLLATE NOCASE);\n"),
                3 => out += &format!("CREATE INDEX i{t}_{i} ON {name} (id) WHERE {first} IS NOT NULL;\n"),
                4 => out += &format!("CREATE INDEX i{t}_{i} ON {name} (lower({first}));\n"),
                _ => {}
            }
        }
        match d.of(t, 40) % 5 {
            1 => out += &format!("CREATE VIEW v{t} AS SELECT id, {first} AS a FROM {name};\n"),
            2 => out += &format!("CREATE VIEW v{t} (id, a) AS SELECT x.id, count(*) FROM {name} AS x GROUP BY x.id;\n"),
            3 => out += &format!("CREATE VIEW v{t} AS SELECT * FROM {name};\n"),
            4 => out += &format!("CREATE VIEW v{t} AS SELECT gone FROM is_not_there;\n"),
            _ => {}
        }
        if !d.of(t, 40).is_multiple_of(5) && d.of(t, 44) % 3 == 1 {
            out += &format!("CREATE VIEW w{t} AS SELECT id FROM v{t};\n");
        }
        let other = d.tables().last().map_or(name.clone(), |o| quoted(&d.name(o)));
        match d.of(t, 39) % 5 {
            1 => {
                out += &format!(
                    "CREATE TRIGGER g{t} AFTER INSERT ON {name} BEGIN DELETE FROM {other} WHERE id = NEW.id; END;\n"
                )
            }
            2 => {
                out += &format!(
                    "CREATE TRIGGER g{t} BEFORE UPDATE OF {first} ON {name} WHEN OLD.{first} IS NULL BEGIN SELECT 1; END;\n"
                );
            }
            _ => {}
        }
    }
    out
}

fn empty(place: &mut Place) {
    *place = Place::sqlite();
}

fn bench() -> Bench {
    assert_eq!(COLUMNS, 5);
    Bench { one: Place::sqlite(), other: Place::sqlite(), empty, script }
}

#[test]
fn random_schemas_of_sqlite_are_built_again() {
    let mut bench = bench();
    all(200, dice(), |d| bench.built_again(&d));
}

#[test]
fn random_schemas_of_sqlite_become_one_another_and_go_back() {
    let mut bench = bench();
    all(200, pairs(), |(a, b)| bench.there_and_back(&a, &b));
}

#[test]
fn rows_stay_when_random_schemas_of_sqlite_change() {
    let mut bench = bench();
    let keep = pairs().prop_map(|(a, mut b)| {
        b.renamed = false;
        (a, b)
    });
    all(150, keep, |(a, b)| bench.with_rows(&a, &b, "INSERT INTO TABLE (id) VALUES (ID)"));
}

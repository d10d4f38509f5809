//! What a person gets for what they write.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const WHOLE: &str = r#"
[project]
name = "bot"
migrations = "moves"
default_store = "local"
scratch = "postgres://u:hidden1@h/scratch"

[stores]
files = "json:watched.json"
local = "sqlite:///bot.db"
main = "${DATABASE_URL}"

[rollback]
window = "7d"
timeout = "90s"
create_backup = false
verify = false
clean_target = true

[[service]]
name = "bot"
systemd = "discord-bot"

[[service]]
name = "api"
stop = "./stop ${PID}"
start = "./start &"
check = "curl -f localhost"
timeout = "1m30s"

[[switch]]
dotenv = ".env"
set = { USE_SQLITE = "true", A_URL = "${DATABASE_URL}", LITERAL = "$${NOT}" }

[[switch]]
file = "settings.py"
with = "settings_pg.py"

[[switch]]
flag = "sqlite_storage"
to = true

[backup]
dir = "backups"
[guard]
x = 1
[[probe]]
name = "api"
[[notify]]
slack = "${NOWHERE}"
[[hook]]
"#;

fn lookup(name: &str) -> Option<String> {
    (name == "DATABASE_URL").then(|| "postgresql+psycopg2://app:hidden2@db/app?password=hidden3".to_owned())
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/srv/shop/backout.toml"), &lookup)
}

fn stores(rest: &str) -> String {
    format!("[stores]\na = \"sqlite:a.db\"\nb = \"postgres://h/b\"\nj = \"json:j.json\"\n{rest}")
}

fn migration(text: &str) -> Result<Migration, ConfigError> {
    let config = parse(&stores("")).unwrap();
    Migration::parse(text, Path::new("m/20250301090000_to_main.toml"), &config)
}

#[test]
fn nothing_that_is_written_is_dropped() {
    let config = parse(WHOLE).unwrap();
    let folder = PathBuf::from("/srv/shop");
    let set = [("USE_SQLITE", "true"), ("A_URL", &lookup("DATABASE_URL").unwrap()), ("LITERAL", "${NOT}")];
    let wanted = Config {
        unset: Vec::new(),
        file: folder.join("backout.toml"),
        name: "bot".into(),
        migrations: folder.join("moves"),
        stores: [
            ("files", "json:watched.json"),
            ("local", "sqlite:bot.db"),
            ("main", "postgres://app:hidden2@db/app?password=hidden3"),
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .to_vec(),
        scratch: Some("postgres://u:hidden1@h/scratch".into()),
        default_store: Some("local".into()),
        rollback: RollbackConfig {
            window: Duration::from_secs(7 * 86_400),
            timeout: Duration::from_secs(90),
            create_backup: false,
            verify: false,
            clean_target: true,
            log_limit: 1_000_000,
        },
        services: vec![
            Service {
                name: "bot".into(),
                control: Control::Systemd("discord-bot".into()),
                timeout: Duration::from_secs(30),
            },
            Service {
                name: "api".into(),
                control: Control::Commands {
                    stop: "./stop ${PID}".into(),
                    start: "./start &".into(),
                    check: Some("curl -f localhost".into()),
                },
                timeout: Duration::from_secs(90),
            },
        ],
        switches: vec![
            SwitchConfig::Dotenv {
                path: folder.join(".env"),
                set: set.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec(),
                unset: None,
            },
            SwitchConfig::File { path: folder.join("settings.py"), with: folder.join("settings_pg.py") },
        ],
        unused: ["[backup]", "[guard]", "[[probe]]", "[[notify]]", "[[hook]]", "[[switch]] flag"]
            .map(str::to_owned)
            .to_vec(),
        folder,
    };
    assert_eq!(config, wanted);
    let shown = format!("{config:?}");
    assert!(!shown.contains("hidden"), "{shown}");
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse("stores.a = 'sqlite:a.db'").unwrap();
    assert_eq!((config.name.as_str(), config.migrations.to_str().unwrap()), ("shop", "/srv/shop/migrations"));
    assert_eq!(config.rollback, RollbackConfig::default());
    assert_eq!(config.rollback.window, Duration::from_secs(86_400));
    assert!(config.unused.is_empty() && config.services.is_empty() && config.switches.is_empty());
}

#[test]
fn an_environment_file_beside_helps_out_but_does_not_overrule() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backout.toml");
    std::fs::write(&file, "[stores]\na = \"sqlite:${A}\"\nb = \"sqlite:${B}\"\n").unwrap();
    std::fs::write(folder.path().join(".env"), "export A='x.db' # c\nB=no.db\n").unwrap();
    let config = Config::load(&file, &|name| (name == "B").then(|| "y.db".into())).unwrap();
    assert_eq!(config.store("a"), Some("sqlite:x.db"));
    assert_eq!(config.store("b"), Some("sqlite:y.db"));
}

#[test]
fn whatever_is_wrong_is_shown_where_it_stands() {
    // text below the stores, place, part of the message, part of the hint
    let cases = [
        ("[rollback]\nwindw = \"24h\"", "6:1", "unknown key `windw` in [rollback]", "did you mean `window`?"),
        ("[rollbak]\nwindow = \"1h\"", "5:2", "unknown key `rollbak`", "did you mean `rollback`?"),
        ("[project]\nx = 1", "6:1", "unknown key `x` in [project]", "name, migrations"),
        ("[rollback]\nwindow = 24", "6:10", "`window` in [rollback] is a number, not a duration", "24h"),
        ("[rollback]\nwindow = \"24x\"", "6:10", "\"24x\" is no duration", "90s"),
        ("[rollback]\ntimeout = \"0s\"", "6:11", "is no duration", ""),
        ("[rollback]\nverify = \"yes\"", "6:10", "is a text, not true or false", ""),
        ("rollback = 3", "5:12", "`rollback` in `[stores]` is a number, not a text", "quotes"),
        ("[project]\ndefault_store = \"aa\"", "6:17", "there is no store `aa`", "did you mean `a`?"),
        ("[service]\nname = \"bot\"", "5:1", "`service` is a table, not a list of tables", "[[service]]"),
        ("[[service]]\nsystemd = \"x\"", "5:1", "[[service]] lacks `name`", "name = "),
        ("[[service]]\nname = \"x\"", "5:1", "[[service]] lacks `stop`", "systemd"),
        ("[[service]]\nname = \"x\"\nstop = \"a\"", "5:1", "lacks `start`", ""),
        ("[[service]]\nname = \"x\"\nsystemd = \"u\"\nstop = \"a\"", "8:8", "has both `systemd` and `stop`", ""),
        ("[[service]]\nname = \"x\"\nsystemd = \"--now\"", "7:11", "not the name of a unit", ""),
        ("[[service]]\nname=\"x\"\nsystemd=\"u\"\n[[service]]\nname=\"x\"\nsystemd=\"v\"", "9:6", "two services", ""),
        ("[[switch]]\nset = { A = \"1\" }", "5:1", "one of `dotenv`, `file` and `flag`", "settings.py"),
        ("[[switch]]\ndotenv = \".env\"", "5:1", "lacks `set`", "set = {"),
        ("[[switch]]\ndotenv = \".env\"\nset = { A = 1 }", "7:13", "`A` in `set` is a number", "quotes"),
        ("[[switch]]\ndotenv = \".env\"\nset = { \"A B\" = \"1\" }", "7:9", "`A B` is not a variable's name", ""),
        ("[[switch]]\ndotenv = \".env\"\nwith = \"x\"", "7:8", "`with` does not belong", "dotenv, set"),
        ("[[switch]]\nfile = \"a\"\nwith = \"a\"", "7:8", "`with` is the file itself", ""),
        ("[[switch]]\nfile=\"a\"\nwith=\"b\"\n[[switch]]\nfile=\"a\"\nwith=\"c\"", "9:6", "two switches of `a`", "one"),
        ("[[switch]]\ndotenv = \".env\"\nset = { A = \"${NOPE\" }", "7:13", "without its `}`", "$${"),
        ("[[switch]]\ndotenv = \".env\"\nset = { A = \"\\u0000\" }", "7:13", "NUL", ""),
        ("[rollback", "5:10", "this is not TOML", ""),
        ("a = \"sqlite:b.db\"", "5:1", "this is not TOML: duplicate key", ""),
        ("c = \"\"", "5:5", "store `c`: its URL is empty", "json:FILE"),
        ("c = \"app.db\"", "5:5", "not a store's URL", "did you mean `sqlite:app.db`?"),
        ("c = \"mysql://u:pw@h/d\"", "5:5", "`mysql` is no kind of store", "postgres://"),
        ("c = \"postgrse://u:pw@h/d\"", "5:5", "`postgrse` is no kind of store", "did you mean `postgres`?"),
        ("c = \"sqlite::memory:\"", "5:5", "in memory", "sqlite:app.db"),
        ("c = \"${}\"", "5:5", "`` is not a variable's name", ""),
    ];
    for (text, place, message, hint) in cases {
        let error = parse(&stores(text)).expect_err(text);
        let shown = error.shown();
        assert!(error.to_string().starts_with(&format!("/srv/shop/backout.toml:{place}: ")), "{text}\n{shown}");
        assert!(error.to_string().contains(message), "{text}\n{shown}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{text}\n{shown}");
        assert!(!shown.contains("pw"), "{shown}");
        let line: usize = place.split(':').next().unwrap().parse().unwrap();
        let source = stores(text).lines().nth(line - 1).unwrap().to_owned();
        assert_eq!(error.place().unwrap().source.chars().count(), source.chars().count());
    }
    let error = parse("[project]\nname = \"x\"").unwrap_err();
    assert!(error.to_string().contains("lacks `stores`"), "{error}");
    assert!(parse("[stores]").unwrap_err().to_string().contains("[stores] is empty"));
}

#[test]
fn an_error_looks_like_this() {
    let error = parse(&stores("[rollback]\nwindw = \"24h\"")).unwrap_err();
    let wanted = "/srv/shop/backout.toml:6:1: unknown key `windw` in [rollback]\n   |\n 6 | windw = \"24h\"\n   | ^\n  \
                  hint: did you mean `window`?";
    assert_eq!(error.shown(), wanted);
}

#[test]
fn no_error_shows_a_secret() {
    for text in [
        "c = \"postgres://u:hidden@h/d\" x",
        "c = \"mysql://u:hidden@h/d\"",
        "c = \"mysql://u@h/d?PASSWORD=hidden\"",
        "[[switch]]\ndotenv = \".env\"\nset = { A = \"hidden\", B = 1 }",
        "[[switch]]\ndotenv = \".env\"\nset = { A = \"hidden",
        "[[switch]]\ndotenv = \".env\"\nset = { A = \"hidden${X\" }",
        "[[switch]]\ndotenv = \".env\"\n[switch.set]\nA = \"hidden\" x",
        "[[notify]]\nslack = \"https://hooks/hidden\" x",
    ] {
        let error = parse(&stores(text)).expect_err(text);
        assert!(!error.shown().contains("hidden"), "{}", error.shown());
        assert!(!format!("{error:?}").contains("hidden"), "{error:?}");
    }
    let error = Config::parse("[stores]\na=\"${P}\"", Path::new("b.toml"), &|_| Some("odd://u:hidden@h".into()));
    assert!(!error.unwrap_err().shown().contains("hidden"));
}

#[test]
fn the_spellings_of_urls_that_people_have() {
    for (given, wanted) in [
        ("sqlite:a.db", "sqlite:a.db"),
        ("sqlite:///a.db", "sqlite:a.db"),
        ("sqlite:////var/a.db", "sqlite:/var/a.db"),
        ("sqlite:/var/a.db", "sqlite:/var/a.db"),
        ("sqlite+aiosqlite:///x/a.db?timeout=5", "sqlite:x/a.db"),
        ("postgresql+psycopg2://u:p@h/d", "postgres://u:p@h/d"),
        ("postgresql+asyncpg://h/d?sslmode=require", "postgres://h/d?sslmode=require"),
        ("postgres://h/d", "postgres://h/d"),
        ("json:a b.json", "json:a b.json"),
    ] {
        let config = parse(&format!("[stores]\na = \"{given}\"")).unwrap();
        assert_eq!(config.store("a"), Some(wanted));
    }
}

#[test]
fn passwords_are_redacted_wherever_they_stand() {
    for (url, wanted) in [
        ("postgres://u:p@h/d", "postgres://u:***@h/d"),
        ("postgres://u:p@ss/w?rd@h/d", "postgres://u:***@h/d"),
        ("postgres://u@h:5432/d", "postgres://u@h:5432/d"),
        ("postgres://h:5432/d?user=u&password=p&x=1", "postgres://h:5432/d?user=u&password=***&x=1"),
        ("postgres://u:p@h/d?sslpassword=q", "postgres://u:***@h/d?sslpassword=***"),
        ("sqlite:a.db", "sqlite:a.db"),
        ("", ""),
    ] {
        assert_eq!(redact(url), wanted);
    }
}

#[test]
fn a_migration_is_read_whole() {
    let text = r#"
title = "Reminders"
irreversible = "numbers were rounded"
[transfer]
from = "j"
to = "a"
[[transfer.table]]
source = "$.guilds.x/y"
key = ["guild", "id"]
into = "events"
required = ["title"]
[[transfer.table]]
source = "/Genre"
key = "id"
[[transfer.column]]
table = "events"
column = "at"
type = "timestamp"
codec = "unix_ms"
"#;
    let migration = migration(text).unwrap();
    assert_eq!((migration.stamp.as_str(), migration.slug.as_str()), ("20250301090000", "to_main"));
    assert_eq!(migration.title, "Reminders");
    assert_eq!(migration.irreversible.as_deref(), Some("numbers were rounded"));
    let t = &migration.transfer;
    let wanted = Transfer {
        at: At { line: 4, column: 1 },
        from: "j".into(),
        to: "a".into(),
        tables: vec![
            TransferTable {
                at: At { line: 7, column: 1 },
                source: "/guilds/x~1y".into(),
                key: vec!["guild".into(), "id".into()],
                into: "events".into(),
                required: vec!["title".into()],
            },
            TransferTable {
                at: At { line: 12, column: 1 },
                source: "/Genre".into(),
                key: vec!["id".into()],
                into: "Genre".into(),
                required: vec![],
            },
        ],
        columns: vec![TransferColumn {
            at: At { line: 15, column: 1 },
            table: "events".into(),
            column: "at".into(),
            ty: Some("timestamp".into()),
            codec: Some("unix_ms".into()),
            utc: false,
        }],
        dangling: vec![],
        only: vec![],
        exclude: vec![],
        rename: vec![],
    };
    assert_eq!(*t, wanted);
    let refused = migration.refuse(t.columns[0].at, "no column `at`", None);
    assert!(refused.to_string().ends_with("to_main.toml:15:1: no column `at`"), "{refused}");

    let text = "[transfer]\nfrom='a'\nto='b'\ntables=['x','y']\nrename={x='z'}";
    let sql = super::tests::migration(text).unwrap();
    assert_eq!(sql.title, "to main");
    assert_eq!(sql.transfer.only, ["x", "y"]);
    assert_eq!(sql.transfer.rename, [("x".to_owned(), "z".to_owned())]);
    let text = "[transfer]\nfrom='a'\nto='b'\nexclude=['x']";
    assert_eq!(super::tests::migration(text).unwrap().transfer.exclude, ["x"]);
}

#[test]
fn what_is_wrong_in_a_migration_is_shown_where_it_stands() {
    let json = "[transfer]\nfrom = \"j\"\nto = \"a\"\n[[transfer.table]]\n";
    let sql = "[transfer]\nfrom = \"a\"\nto = \"b\"\n";
    for (text, place, message) in [
        (String::new(), "1:1", "this file lacks `transfer`"),
        ("[transfer]\nfrom = \"q\"\nto = \"a\"".into(), "2:8", "there is no store `q`"),
        ("[transfer]\nfrom = \"a\"".into(), "1:1", "[transfer] lacks `to`"),
        ("[transfer]\nfrom = \"a\"\nto = \"a\"".into(), "3:6", "both `a`"),
        ("[transfer]\nfrom = \"a\"\nto = \"j\"".into(), "3:6", "a JSON file cannot be the target"),
        ("[transfer]\nfrom = \"j\"\nto = \"a\"".into(), "1:1", "needs a [[transfer.table]]"),
        ("[split]\nstore = \"a\"".into(), "1:1", "[split] lacks `table`"),
        ("[merge]\nstore = \"a\"".into(), "1:1", "[merge] lacks `into`"),
        ("titel = \"x\"".into(), "1:1", "unknown key `titel`"),
        (format!("irreversible = \"\"\n{sql}"), "1:16", "`irreversible` is empty"),
        (format!("{json}key = \"id\""), "4:1", "lacks `source`"),
        (format!("{json}source = \"$\"\nkey = \"id\""), "4:1", "lacks `into`"),
        (format!("{json}source = \"$\"\ninto = \"x\""), "4:1", "lacks `key`"),
        (format!("{json}source = \"\"\ninto = \"x\"\nkey = [\"a\", \"a\"]"), "7:13", "`a` stands twice"),
        (format!("{json}source = \"a\"\nkey = \"id\""), "5:10", "did you mean `/a`?"),
        (format!("{json}source = \"$.a[0]\"\nkey = \"id\""), "5:10", "not a path of members"),
        (format!("{json}source = \"/a~2\"\nkey = \"id\""), "5:10", "after `~` comes 0 or 1"),
        (
            format!("{json}source = \"/a\"\nkey = \"id\"\n[[transfer.table]]\nsource = \"/a/b\"\nkey = \"id\""),
            "8:10",
            "overlap",
        ),
        (
            format!("{json}source=\"/a\"\nkey=\"id\"\n[[transfer.table]]\nsource=\"/b\"\nkey=\"i\"\ninto=\"a\""),
            "10:6",
            "two collections go into `a`",
        ),
        (
            format!("{json}source=\"/a\"\nkey=\"id\"\n[[transfer.column]]\ntable=\"b\"\ncolumn=\"c\"\ntype=\"x\""),
            "8:7",
            "no [[transfer.table]] goes into `b`",
        ),
        (
            "[transfer]\nfrom=\"j\"\nto=\"a\"\ntables=[\"x\"]\n[[transfer.table]]\nsource=\"/a\"\nkey=\"b\"".into(),
            "4:8",
            "`tables` is for a SQL source",
        ),
        (format!("{sql}[[transfer.table]]\nsource = \"$\""), "4:1", "is for a JSON source"),
        (format!("{sql}tables = []"), "4:10", "empty list"),
        (format!("{sql}tables = [\"x\"]\nexclude = [\"x\"]"), "5:12", "both in `tables` and in `exclude`"),
        (format!("{sql}exclude = [\"x\"]\nrename = {{ x = \"y\" }}"), "5:12", "does not move"),
        (format!("{sql}rename = {{ x = \"y\", z = \"y\" }}"), "4:25", "both renamed to `y`"),
        (format!("{sql}[[transfer.column]]\ntable = \"t\"\ncolumn = \"c\""), "4:1", "lacks `type`"),
    ] {
        let error = migration(&text).expect_err(&text);
        let shown = error.shown();
        assert!(error.to_string().starts_with(&format!("m/20250301090000_to_main.toml:{place}: ")), "{text}\n{shown}");
        assert!(error.to_string().contains(message), "{text}\n{shown}");
    }
}

#[test]
fn a_change_in_place_is_read_whole() {
    let text = r#"
title = "ids become UUIDs"
[rekey]
store = "a"
type = "uuid"
tables = ["users", "tags"]
[[rekey.reference]]
table = "audit"
column = "user_id"
to = "users"
invalid = "refuse"
[alter]
store = "a"
[[alter.table]]
table = "users"
rename = "people"
[[alter.column]]
table = "users"
column = "nick"
rename = "name"
type = "text"
default = "''"
not_null = false
[[alter.column]]
table = "users"
column = "fax"
drop = true
[[alter.column]]
table = "users"
column = "level"
add = true
type = "integer"
default = "1"
not_null = true
"#;
    let migration = migration(text).unwrap();
    let (a, t) = (|line| At { line, column: 1 }, &migration.transfer);
    assert_eq!((t.from.as_str(), t.to.as_str(), migration.in_place()), ("a", "a", true));
    let column =
        |line, column: &str, change| AlterColumn { at: a(line), table: "users".into(), column: column.into(), change };
    let wanted = Reshape {
        merge: None,
        split: None,
        at: a(3),
        store: "a".into(),
        rekey: Some(Rekey {
            at: a(3),
            ty: "uuid".into(),
            tables: vec!["users".into(), "tags".into()],
            references: vec![SoftReference {
                at: a(7),
                table: "audit".into(),
                column: "user_id".into(),
                to: "users".into(),
                carry: false,
            }],
            carry: false,
        }),
        tables: vec![AlterTable { at: a(14), table: "users".into(), rename: "people".into() }],
        columns: vec![
            column(
                17,
                "nick",
                ColumnChange::Alter {
                    rename: Some("name".into()),
                    ty: Some("text".into()),
                    default: Some("''".into()),
                    not_null: Some(false),
                    by: None,
                },
            ),
            column(24, "fax", ColumnChange::Drop),
            column(28, "level", ColumnChange::Add { ty: "integer".into(), default: Some("1".into()), not_null: true }),
        ],
    };
    assert_eq!(migration.reshape, Some(wanted));
}

#[test]
fn what_is_wrong_in_a_change_in_place_is_shown_where_it_stands() {
    let rekey = "[rekey]\nstore = \"a\"\ntype = \"uuid\"\ntables = [\"users\"]\n";
    let alter = "[alter]\nstore = \"a\"\n";
    let column = format!("{alter}[[alter.column]]\ntable = \"t\"\ncolumn = \"c\"\n");
    let soft = format!("{rekey}[[rekey.reference]]\ntable = \"t\"\ncolumn = \"c\"\n");
    for (text, place, message, hint) in [
        ("[rekey]\nstore = \"q\"".into(), "2:9", "there is no store `q`", ""),
        ("[rekey]\nstore = \"j\"".into(), "2:9", "`j` is a JSON file", "SQLite"),
        ("[rekey]\nstore = \"a\"\ntype = \"uid\"".into(), "3:8", "keys cannot become `uid`", "did you mean `uuid`?"),
        ("[rekey]\nstore = \"a\"\ntype = \"uuid\"".into(), "1:1", "[rekey] lacks `tables`", ""),
        (rekey.replace("tables", "table"), "4:1", "unknown key `table` in [rekey]", "did you mean `tables`?"),
        (format!("{soft}to = \"user\""), "8:6", "`user` is not among the `tables`", "did you mean `users`?"),
        (
            format!("{soft}to = \"users\"\ninvalid = \"null\""),
            "9:11",
            "what to do with values that are no keys: not `null`",
            "carry",
        ),
        (rekey.replace("uuid", "bigint") + "invalid = \"carry\"", "5:11", "is for type = \"uuid\"", ""),
        (alter.into(), "1:1", "[alter] changes nothing", ""),
        (format!("{rekey}[alter]\nstore = \"b\"\n"), "6:9", "[rekey] is of `a` and [alter] of `b`", ""),
        (format!("{rekey}[transfer]\nfrom = \"a\"\nto = \"b\""), "1:1", "[rekey] and [transfer] do not go", ""),
        (column.clone(), "3:1", "[[alter.column]] lacks `rename`", "drop = true"),
        (format!("{column}up = \"c + 1\""), "6:6", "but not of which type", "say `type`"),
        (format!("{column}type = \"text\"\nup = \"c + 1\""), "7:6", "`up` and `down` go together", "after the cutover"),
        (format!("{column}type = \"text\"\ncodec = \"a\"\nup = \"c\""), "7:9", "`codec` stands for", ""),
        (format!("{column}type = \"text\"\nup = \"c\"\ndown = \"c;\""), "8:8", "a semicolon ends it", ""),
        (
            format!("{column}type = \"text\"\ncodec = \"date\"\nzone = \"UTC\""),
            "8:8",
            "means nothing here",
            "timestamp",
        ),
        (format!("{column}drop = true\nup = \"c\""), "7:6", "`drop = true` and `up` do not go", ""),
        (format!("{column}drop = true\ntype = \"text\""), "7:8", "`drop = true` and `type` do not go", ""),
        (format!("{column}add = true"), "3:1", "lacks `type`", "a new column"),
        (format!("{column}add = true\ntype = \"int\"\nnot_null = true"), "8:12", "needs a default", "default"),
        (format!("{column}drop = true\n{}", &column[alter.len()..]), "7:1", "`t.c` stands here twice", "one place"),
    ] {
        let error = migration(&text).expect_err(&text);
        let shown = error.shown();
        assert!(error.to_string().starts_with(&format!("m/20250301090000_to_main.toml:{place}: ")), "{text}\n{shown}");
        assert!(error.to_string().contains(message), "{text}\n{shown}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{text}\n{shown}");
    }
}

#[test]
fn migrations_come_in_the_order_of_their_stamps() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backout.toml");
    std::fs::write(&file, stores("")).unwrap();
    let config = Config::load(&file, &lookup).unwrap();
    assert_eq!(config.migrations().unwrap().list, [], "no folder, no migrations");
    let moves = folder.path().join("migrations");
    std::fs::create_dir(&moves).unwrap();
    let write = |name: &str| std::fs::write(moves.join(name), "[transfer]\nfrom='a'\nto='b'").unwrap();
    write("20250301090000_second.toml");
    write("20240301090000_first.toml");
    for other in ["20230101000000_events.up.sql", "20230101000000_events.down.sql", ".hidden.toml", "README.md"] {
        write(other);
    }
    let all = config.migrations().unwrap();
    assert_eq!(all.list.iter().map(|m| m.slug.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(all.sql, ["20230101000000_events.down.sql", "20230101000000_events.up.sql"]);
    for name in ["20250301090000", "2025", "second", "20250301090000_second", "20250301090000_second.toml"] {
        assert_eq!(all.find(name).unwrap().slug, "second", "{name}");
    }
    let say = |name: &str| {
        let error = all.find(name).unwrap_err();
        format!("{error} / {}", error.hint().unwrap())
    };
    assert!(say("secnd").contains("did you mean `second`?"), "{}", say("secnd"));
    assert!(say("20").contains("may mean 2 migrations"), "{}", say("20"));
    assert!(say("events").contains("SQL revisions come with a later version"), "{}", say("events"));
    assert!(say("").contains("no migration"), "{}", say(""));

    write("20240301090000_twin.toml");
    let error = config.migrations().unwrap_err().to_string();
    assert!(error.contains("20240301090000_twin.toml") && error.contains("20240301090000_first.toml"), "{error}");
    std::fs::remove_file(moves.join("20240301090000_twin.toml")).unwrap();
    write("20240301090000_x.sql");
    assert!(config.migrations().unwrap_err().to_string().contains("20240301090000_x.sql"));
    std::fs::remove_file(moves.join("20240301090000_x.sql")).unwrap();
    write("00020240301090000_x.up.sql");
    let error = config.migrations().unwrap_err().to_string();
    assert!(error.contains("is also that of 00020240301090000_x.up.sql"), "versions are numbers: {error}");
    std::fs::remove_file(moves.join("00020240301090000_x.up.sql")).unwrap();
    write("202403010900001_x.sql");
    assert_eq!(config.migrations().unwrap().sql.len(), 3, "another number, though it begins like one");
    write("notes.toml");
    assert!(config.migrations().unwrap_err().shown().contains("14 digits"));
}

#[test]
fn a_variable_that_is_not_set_hinders_only_what_needs_it() {
    let text = "[stores]\na = \"sqlite:x.db\"\nb = \"${NOPE}\"\nc = \"sqlite:${NOPE}\"\n\
        [[switch]]\ndotenv = \".env\"\nset = { A = \"${NOPE}\" }";
    let config = parse(text).unwrap();
    assert_eq!((config.store("a"), config.store("b"), config.store("c")), (Some("sqlite:x.db"), None, None));
    assert!(["b", "c"].iter().all(|name| config.unset(name).is_some_and(|u| u.variable == "NOPE")));
    let from = |name: &str| format!("title = \"x\"\n[transfer]\nfrom = \"{name}\"\nto = \"a\"");
    let to = "title = \"x\"\n[transfer]\nfrom = \"a\"\nto = \"c\"";
    let migration = |text: &str| Migration::parse(text, Path::new("20250101000000_x.toml"), &config);
    assert_eq!(migration(to).unwrap().transfer.to, "c");
    let error = migration(&from("b")).unwrap_err();
    assert!(error.to_string().contains("needs the variable NOPE"), "{error}");
    assert!(error.hint().unwrap().contains("export NOPE"));
}

#[test]
fn a_file_that_is_missing_or_not_utf8() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backout.toml");
    let error = Config::load(&file, &lookup).unwrap_err();
    assert!(error.to_string().contains("cannot read") && error.hint().unwrap().contains("backout init"), "{error}");
    std::fs::write(&file, b"# a\n# \xff\n").unwrap();
    let error = Config::load(&file, &lookup).unwrap_err();
    assert!(error.to_string().ends_with("backout.toml:2:3: this is not UTF-8"), "{error}");
}

/// The keys of a schema, by section, as the parser names sections.
fn schema_keys(schema: &str, section: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let mut at = &schema;
    for part in section.split('.').filter(|part| !part.is_empty()) {
        at = &at["properties"][part];
        at = if at["type"] == "array" { &at["items"] } else { at };
    }
    assert_eq!(at["additionalProperties"], false, "{section}");
    at["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_schemas_know_the_keys_that_the_parser_knows() {
    let files = [
        (config::KEYS, include_str!("../../schema/backout.schema.json")),
        (migration::KEYS, include_str!("../../schema/migration.schema.json")),
    ];
    for (known, schema) in files {
        for (section, keys) in known {
            let mut of_schema = schema_keys(schema, section);
            let mut of_parser: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            of_schema.sort();
            of_parser.sort();
            assert_eq!(of_schema, of_parser, "[{section}]");
        }
    }
}

#[test]
fn each_known_key_is_what_a_misspelling_of_it_is_told() {
    for (section, keys) in config::KEYS {
        for key in *keys {
            let header = match *section {
                "" => String::new(),
                "service" | "switch" => format!("[[{section}]]\n"),
                _ => format!("[{section}]\n"),
            };
            let text = format!("{header}{key}x = 1\n");
            let error = parse(&if section.is_empty() { text } else { stores(&text) }).unwrap_err();
            assert_eq!(error.hint(), Some(format!("did you mean `{key}`?").as_str()), "{error}");
        }
    }
}

proptest! {
    /// Whatever is typed, there is a place, and no panic.
    #[test]
    fn any_text_is_either_read_or_has_a_place(text in "(\\[[a-z.]{1,9}\\]\n|[a-z]{1,6} = (\"[^\"\n]{0,9}\"|[0-9]|true)\n|[ -~é]){0,9}") {
        for text in [text.clone(), stores(&text)] {
            if let Err(error) = parse(&text) {
                let place = error.place().unwrap();
                prop_assert!(place.at.line >= 1 && place.at.line <= text.matches('\n').count() + 1);
                error.shown();
            }
            let _ = migration(&text).map_err(|error| error.shown());
        }
    }

    #[test]
    fn stores_keep_their_order(names in prop::collection::hash_set("[a-z]{1,8}", 1..9)) {
        let names: Vec<String> = names.into_iter().collect();
        let text: String = names.iter().map(|n| format!("{n} = \"sqlite:{n}.db\"\n")).collect();
        let config = parse(&format!("[stores]\n{text}")).unwrap();
        prop_assert_eq!(config.stores.into_iter().map(|(n, _)| n).collect::<Vec<_>>(), names);
    }
}

//! The JSON store, on real files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use backout::gate::Gate;
use backout::plan::{Column, Details, Table};
use backout::store::{
    Entry, Error, HistoryLine, Mode, Op, Parked, Phase, Position, Role, Side, State, Store, Write, open,
};
use backout::value::{Batch, Key, Row, Value};
use tempfile::TempDir;

const FILE: &str = "reminders.json";
const TEXT: &str = "{\n    \"1\": {\n        \"title\": \"Caf\\u00e9\",\n        \"at\": 1E3\n    },\n    \"2\": {\n        \"title\": \"two\",\n        \"at\": null\n    }\n}\n";

fn put_file(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

fn folder_with(text: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE);
    put_file(&path, text);
    (dir, path)
}

fn store(dir: &Path) -> Box<dyn Store> {
    open(&format!("json:{FILE}"), dir, false, &Gate::default()).unwrap()
}

fn table() -> Table {
    let column = |name: &str| Column { name: name.into(), ..Column::default() };
    Table {
        columns: ["event_id", "title", "at"].into_iter().map(column).collect(),
        key: vec![0],
        details: Details { json_object: true, ..Details::default() },
        ..Table::default()
    }
}

fn key(k: &str) -> Key {
    Key::of(&[Value::text(k)])
}

fn row(k: &str, title: &str) -> Row {
    vec![Value::text(k), Value::text(title), Value::Int(5)]
}

fn put(k: &str, title: &str) -> Write {
    Write::Put { row: row(k, title), from: Some(key(k)) }
}

fn state(phase: Phase) -> State {
    State {
        phase,
        side: Side::Drained { epoch: 7, position: Position(serde_json::json!({"digest": "d", "doubt": 3})) },
        epoch: 7,
        checkpoint: Some(Position(serde_json::json!({"n": 12345678901234567890u64, "of": [1, 2.5]}))),
        digests: vec![backout::value::Digest { rows: 2, sum: u128::MAX }],
        ..State::begun("0123456789ab", Role::Source, "20250301090000", "Reminders move", "h", "2025-01-01T00:00:00Z")
    }
}

fn commit(s: &mut dyn Store, work: impl FnOnce(&mut dyn Store)) {
    s.begin(Mode::Write, &[&table()]).unwrap();
    work(s);
    s.commit("work").unwrap();
}

fn scan(s: &mut dyn Store, t: &Table, limit: usize) -> Vec<Row> {
    let (mut out, mut after) = (Batch::default(), Vec::new());
    while let Some(next) = s.scan(t, &after, limit, &mut out).unwrap() {
        after = next;
    }
    out.rows().map(|r| r.into_iter().map(Value::into_owned).collect()).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

fn changes(s: &mut dyn Store, from: &Position) -> (Vec<(Op, String)>, Position) {
    let t = table();
    s.begin(Mode::Read, &[&t]).unwrap();
    s.look(&[&t]).unwrap();
    let (entries, position) = s.log_since(&[&t], from).unwrap();
    s.commit("read").unwrap();
    let show = |e: &Entry| (e.op, e.after.as_ref().or(e.before.as_ref()).unwrap().to_string());
    let mut list: Vec<(Op, String)> = entries.iter().map(show).collect();
    list.sort_by(|a, b| a.1.cmp(&b.1));
    (list, position)
}

#[test]
fn rows_are_read_in_chunks_and_written_in_the_files_own_style() {
    let (dir, path) = folder_with(TEXT);
    let mut s = store(dir.path());
    let t = table();
    let rows = scan(s.as_mut(), &t, 1);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0], vec![Value::text("1"), Value::text("Café"), Value::Json(b"1E3".to_vec().into())]);
    assert_eq!(s.count(&t).unwrap(), 2);
    assert!(s.self_check(&[&t], true).unwrap().is_empty());
    commit(s.as_mut(), |s| {
        s.write(&[&t], &[(0, vec![put("2", "zwölf"), Write::Put { row: row("3", "x"), from: None }])]).unwrap();
        let got = s.fetch(&t, &[key("3"), key("9"), key("2")]).unwrap();
        assert_eq!(got, vec![Some(row("3", "x")), None, Some(row("2", "zwölf"))]);
        assert_eq!(s.keys(&t).unwrap(), vec![key("1"), key("2"), key("3")]);
    });
    let text = fs::read_to_string(&path).unwrap();
    let wanted = TEXT
        .replace("\"two\"", "\"zw\\u00f6lf\"")
        .replace("null", "5")
        .replace("    }\n}\n", "    },\n    \"3\": {\n        \"title\": \"x\",\n        \"at\": 5\n    }\n}\n");
    assert_eq!(text, wanted);
}

/// Places found in a file mean nothing in what is written over it.
#[test]
fn p20_a_file_written_anew_in_place_is_still_read_as_it_was() {
    let big = |title: &str| {
        let all: serde_json::Map<String, serde_json::Value> =
            (0..500).map(|i| (format!("k{i}"), serde_json::json!({"title": title, "at": i}))).collect();
        serde_json::to_string_pretty(&all).unwrap()
    };
    let (dir, path) = folder_with(&big("as it was, at some length"));
    let t = table();
    let mut s = store(dir.path());
    s.begin(Mode::Read, &[&t]).unwrap();
    let mut out = Batch::default();
    let next = s.scan(&t, &[], 200, &mut out).unwrap().unwrap();
    // the same inode, and then another
    put_file(&path, &big("new"));
    let next = s.scan(&t, &next, 200, &mut out).unwrap().unwrap();
    put_file(&path.with_extension("new"), "{}");
    fs::rename(path.with_extension("new"), &path).unwrap();
    assert_eq!(s.scan(&t, &next, 200, &mut out).unwrap(), None);
    let was = |i: i64| vec![Value::text(format!("k{i}")), Value::text("as it was, at some length"), Value::Int(i)];
    assert_eq!(out.rows().collect::<Vec<_>>(), (0..500).map(was).collect::<Vec<_>>());
    assert_eq!(s.fetch(&t, &[key("k499"), key("k500")]).unwrap(), vec![Some(was(499)), None]);
    s.commit("read").unwrap();
    assert_eq!(s.count(&t).unwrap(), 0);
    drop(s);
    assert_eq!(names(dir.path()), [FILE], "nothing is left");
}

#[test]
fn b_a_write_and_its_records_are_true_together_whatever_effect_fails_or_dies() {
    let t = table();
    let mut failures = 0;
    for n in 1.. {
        let (dir, path) = folder_with(TEXT);
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        fs::rename(&path, work.join(FILE)).unwrap();
        let crash = dir.path().join("crash");
        let (from, to) = (work.clone(), crash.clone());
        // What a kill just before the effect would leave is kept aside.
        let gate = Gate::with_trap(n, move |_| copy(&from, &to));
        let run = || -> Result<(), Error> {
            let mut s = open(&format!("json:{FILE}"), &work, false, &gate)?;
            s.lock(Duration::ZERO)?;
            s.prepare()?;
            s.begin(Mode::Write, &[&t])?;
            s.capture_on(&[&t], "0123456789ab")?;
            s.put_state(&state(Phase::Ready), Some("plan"))?;
            s.commit("begin")?;
            s.begin(Mode::Write, &[&t])?;
            s.put_state(&State { drains: 1, ..state(Phase::Ready) }, None)?;
            s.keep_images("0123456789ab", 1, "now", &[(0, key("2"), None)])?;
            s.write(&[&t], &[(0, vec![put("2", "changed")])])?;
            s.commit("drain")?;
            s.begin(Mode::Write, &[&t])?;
            s.close(&[&t], &line("0123456789ab"))?;
            s.commit("close")
        };
        let outcome = run();
        let after = TEXT.replace("\"two\"", "\"changed\"").replace("null", "5");
        let mut places = vec![work.clone()];
        if crash.exists() {
            places.push(crash.clone());
        }
        for place in &places {
            let text = fs::read_to_string(place.join(FILE)).unwrap();
            assert!(text == TEXT || text == after, "effect {n}: {text}");
            let mut s = store(place);
            let closed = !s.history().unwrap().is_empty();
            let drains = s.state().unwrap().map(|s| s.drains);
            match drains {
                Some(1) => assert_eq!(text, after, "effect {n}"),
                Some(0) => assert_eq!(text, TEXT, "effect {n}"),
                _ => assert!(closed == (text == after), "effect {n}"),
            }
            if *place == work {
                assert!(!names(place).iter().any(|f| f.contains(".tmp")), "effect {n}: {:?}", names(place));
            }
            s.lock(Duration::ZERO).unwrap();
            assert!(!names(place).iter().any(|f| f.contains(".tmp")), "effect {n}: {:?}", names(place));
            drop(s);
            if closed {
                assert_eq!(names(&place.join("reminders.json.backout")), ["state.json"], "effect {n}");
            }
        }
        if !crash.exists() {
            outcome.unwrap();
            break;
        }
        failures += usize::from(outcome.is_err());
    }
    assert!(failures > 10, "only {failures} effects failed");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn line(run: &str) -> HistoryLine {
    HistoryLine {
        run: run.into(),
        migration: "m".into(),
        title: "t".into(),
        plan_hash: "h".into(),
        outcome: "rolled back".into(),
        started_at: "a".into(),
        ended_at: "b".into(),
        note: String::new(),
        remains: None,
    }
}

#[test]
fn records_come_back_as_they_were_written() {
    let (dir, path) = folder_with(TEXT);
    let mut s = store(dir.path());
    assert_eq!(s.state().unwrap(), None);
    assert_eq!(names(dir.path()), [FILE]);
    s.prepare().unwrap();
    assert_eq!(fs::metadata(dir.path().join("reminders.json.backout")).unwrap().mode() & 0o777, 0o700);
    let st = state(Phase::Soaking);
    let parked =
        |key: &str, reason: &str| Parked { table: 0, key: self::key(key), row: vec![0, 255, 7], reason: reason.into() };
    commit(s.as_mut(), |s| {
        s.put_state(&st, Some("the plan")).unwrap();
        s.put_parked(&st.run, &[parked("1", "a"), parked("2", "b")], &[]).unwrap();
    });
    commit(s.as_mut(), |s| s.put_parked(&st.run, &[parked("1", "c")], &[(0, key("2"))]).unwrap());
    s.begin(Mode::Write, &[]).unwrap();
    s.put_state(&state(Phase::Aborting), None).unwrap();
    s.rollback();
    let mut other = store(dir.path());
    assert_eq!(other.state().unwrap(), Some(st.clone()));
    assert_eq!(other.plan(&st.run).unwrap().as_deref(), Some("the plan"));
    assert_eq!(other.plan("another").unwrap(), None);
    assert_eq!(other.parked(&st.run).unwrap(), vec![parked("1", "c")]);
    assert!(other.chunks(&st.run).unwrap().is_empty());
    assert!(s.now().unwrap().ends_with('Z'));
    commit(s.as_mut(), |s| s.close(&[&table()], &line(&st.run)).unwrap());
    assert_eq!(other.state().unwrap(), None);
    assert_eq!(other.history().unwrap(), vec![line(&st.run)]);
    assert_eq!(names(&dir.path().join("reminders.json.backout")), ["state.json"]);
    assert_eq!(fs::read_to_string(path).unwrap(), TEXT);
}

#[test]
fn the_log_tells_what_changed_since_and_not_what_we_wrote() {
    let (dir, path) = folder_with(TEXT);
    let mut s = store(dir.path());
    let t = table();
    s.prepare().unwrap();
    let mut start = None;
    commit(s.as_mut(), |s| {
        s.put_state(&state(Phase::Backfilling), None).unwrap();
        start = Some(s.capture_on(&[&t], "0123456789ab").unwrap());
    });
    let start = start.unwrap();
    assert_eq!(s.lag(&[&t], &start).unwrap(), 0);
    // The application adds 3, changes 1, deletes 2, while the backfill reads what was there when it began.
    let after = "{\n    \"3\": {\"title\": \"new\", \"at\": 1},\n    \"1\": {\"title\": \"one\", \"at\": 1}\n}\n";
    put_file(&path, after);
    assert_eq!(scan(s.as_mut(), &t, 1).len(), 2);
    assert_eq!(scan(s.as_mut(), &t, 10)[1][1], Value::text("two"));
    assert_eq!(s.lag(&[&t], &start).unwrap(), 3);
    let (entries, position) = changes(s.as_mut(), &start);
    let wanted = [(Op::Update, "'1'".to_owned()), (Op::Delete, "'2'".to_owned()), (Op::Insert, "'3'".to_owned())];
    assert_eq!(entries, wanted);
    let position = s.mark(position).unwrap();
    commit(s.as_mut(), |s| s.put_state(&state(Phase::CatchingUp), None).unwrap());
    s.trim(&[&t], &position).unwrap();
    assert_eq!(scan(s.as_mut(), &t, 10).len(), 2);
    assert_eq!(scan(s.as_mut(), &t, 10)[0][0], Value::text("3"));
    let files = names(&dir.path().join("reminders.json.backout"));
    assert!(files.len() == 2 && files[0].starts_with("manifest-"), "{files:?}");
    assert!(changes(s.as_mut(), &position).0.is_empty());
    // What we write ourselves is not in the log; what the application had changed before is.
    put_file(&path, &after.replace("one", "uno"));
    commit(s.as_mut(), |s| s.write(&[&t], &[(0, vec![put("3", "ours")])]).unwrap());
    let (entries, next) = changes(s.as_mut(), &position);
    assert_eq!(entries, [(Op::Update, "'1'".to_owned())]);
    let next = s.mark(next).unwrap();
    for ours in [Write::Put { row: row("5", "added"), from: None }, Write::Delete { key: key("5") }] {
        commit(s.as_mut(), |s| s.write(&[&t], &[(0, vec![ours])]).unwrap());
        assert!(changes(s.as_mut(), &next).0.is_empty());
    }
    // Doubts are told until they are trimmed.
    s.doubt(&[], 0, &[key("1")]).unwrap();
    let (entries, doubted) = changes(s.as_mut(), &next);
    assert_eq!(entries, [(Op::Doubt, "'1'".to_owned())]);
    assert_eq!(changes(s.as_mut(), &next).0.len(), 1);
    let doubted = s.mark(doubted).unwrap();
    s.trim(&[&t], &doubted).unwrap();
    assert!(changes(s.as_mut(), &doubted).0.is_empty());
    // A position that nothing is known of.
    let lost = Position(serde_json::json!({"digest": "00", "doubt": 0}));
    s.begin(Mode::Read, &[&t]).unwrap();
    assert!(matches!(s.log_since(&[&t], &lost), Err(Error::Capture { schema_changed: false, .. })));
    s.rollback();
    // A file put back as it was is compared like any other.
    put_file(&path, after);
    let (entries, _) = changes(s.as_mut(), &doubted);
    assert_eq!(entries.len(), 2, "{entries:?}");
}

#[test]
fn a_new_member_or_another_shape_is_a_changed_schema() {
    let (dir, path) = folder_with(TEXT);
    let mut s = store(dir.path());
    put_file(&path, &TEXT.replace("\"at\": null", "\"at\": null, \"who\": 1"));
    let t = table();
    let e = s.scan(&t, &[], 10, &mut Batch::default()).unwrap_err();
    assert!(matches!(&e, Error::Capture { schema_changed: true, .. }), "{e}");
    assert!(e.to_string().contains("record '2'") && e.to_string().contains("`who`"), "{e}");
    assert_eq!(s.schema().unwrap().tables[0].columns[3].name, "who");
    put_file(&path, "[]");
    s.begin(Mode::Read, &[&t]).unwrap();
    assert!(matches!(s.look(&[&t]), Err(Error::Capture { schema_changed: true, .. })));
}

#[test]
fn p20_a_resting_file_that_someone_wrote_to_is_not_overwritten() {
    let (dir, path) = folder_with(TEXT);
    let mut s = store(dir.path());
    let t = table();
    commit(s.as_mut(), |s| {
        s.put_state(&state(Phase::Soaking), None).unwrap();
        s.write(&[&t], &[(0, vec![put("2", "first")])]).unwrap();
        s.seal(&[&t], "0123456789ab").unwrap();
    });
    // What we write, we know.
    commit(s.as_mut(), |s| {
        s.look(&[&t]).unwrap();
        s.write(&[&t], &[(0, vec![put("2", "second")])]).unwrap();
    });
    let ours = fs::read_to_string(&path).unwrap();
    let theirs = ours.replace("second", "theirs");
    put_file(&path, &theirs);
    s.begin(Mode::Write, &[&t]).unwrap();
    assert!(matches!(s.look(&[&t]), Err(Error::Capture { schema_changed: false, .. })));
    let e = s.write(&[&t], &[(0, vec![put("2", "third")])]).unwrap_err();
    assert!(
        matches!(&e, Error::Refused { cause, hint, .. } if cause.contains("someone wrote to it") && hint.contains("nothing was overwritten"))
    );
    s.rollback();
    // Sealing again does not accept it.
    commit(s.as_mut(), |s| s.seal(&[&t], "0123456789ab").unwrap());
    s.begin(Mode::Read, &[&t]).unwrap();
    assert!(s.look(&[&t]).is_err());
    s.rollback();
    assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
    put_file(&path, &ours);
    commit(s.as_mut(), |s| s.write(&[&t], &[(0, vec![put("2", "third")])]).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), ours.replace("second", "third"));
    put_file(&path, &theirs);
    commit(s.as_mut(), |s| s.unseal(&[&t]).unwrap());
    commit(s.as_mut(), |s| s.write(&[&t], &[(0, vec![put("2", "open")])]).unwrap());
}

#[test]
fn p20_a_file_that_changes_between_reading_and_writing_is_not_overwritten() {
    let (dir, path) = folder_with(TEXT);
    let mut s = store(dir.path());
    let t = table();
    s.begin(Mode::Write, &[&t]).unwrap();
    s.write(&[&t], &[(0, vec![put("2", "ours")])]).unwrap();
    s.put_state(&state(Phase::Ready), None).unwrap();
    let theirs = TEXT.replace("two", "theirs");
    put_file(&path, &theirs);
    assert!(matches!(s.commit("work"), Err(Error::Refused { cause, .. }) if cause.contains("changed by someone else")));
    assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
    assert_eq!(s.state().unwrap(), None);
    assert_eq!(names(dir.path()), [FILE]);
}

#[test]
fn an_intent_counts_only_for_the_file_it_was_made_for() {
    let (dir, path) = folder_with(TEXT);
    let t = table();
    for n in 1.. {
        put_file(&path, TEXT);
        let _ = fs::remove_dir_all(dir.path().join("reminders.json.backout"));
        let gate = Gate::with_trap(n, |what| assert!(!what.is_empty()));
        let mut s = open(&format!("json:{FILE}"), dir.path(), false, &gate).unwrap();
        if s.prepare().is_err() {
            continue;
        }
        s.begin(Mode::Write, &[&t]).unwrap();
        s.put_state(&State { drains: 1, ..state(Phase::Ready) }, None).unwrap();
        s.write(&[&t], &[(0, vec![put("2", "ours")])]).unwrap();
        let done = s.commit("drain");
        let renamed = fs::read_to_string(&path).unwrap() != TEXT;
        assert_eq!(done.is_ok(), renamed, "effect {n}");
        assert_eq!(store(dir.path()).state().unwrap().is_some(), renamed, "effect {n}");
        if gate.count() < n {
            break;
        }
    }
}

#[test]
fn the_lock_names_its_holder_and_goes_with_it() {
    let (dir, _) = folder_with(TEXT);
    let (mut a, mut b) = (store(dir.path()), store(dir.path()));
    a.lock(Duration::ZERO).unwrap();
    a.lock(Duration::ZERO).unwrap();
    let e = b.lock(Duration::from_millis(1)).unwrap_err();
    assert!(
        matches!(&e, Error::Locked { cause, .. } if cause.contains(&format!("process {}", std::process::id()))),
        "{e}"
    );
    let mut second = a.again().unwrap();
    second.lock(Duration::ZERO).unwrap();
    drop(second);
    assert!(b.lock(Duration::ZERO).is_err());
    drop(a);
    b.lock(Duration::ZERO).unwrap();
    drop(b);
    assert_eq!(names(dir.path()), [FILE]);
}

#[test]
fn two_writers_of_our_records_do_not_overwrite_each_other() {
    let (dir, _) = folder_with(TEXT);
    let (mut a, mut b) = (store(dir.path()), store(dir.path()));
    a.prepare().unwrap();
    a.begin(Mode::Write, &[]).unwrap();
    b.begin(Mode::Write, &[]).unwrap();
    a.put_state(&state(Phase::Ready), None).unwrap();
    b.put_state(&state(Phase::Aborting), None).unwrap();
    a.commit("a").unwrap();
    assert!(matches!(b.commit("b"), Err(Error::Refused { .. })));
    assert_eq!(b.state().unwrap().unwrap().phase, Phase::Ready);
}

#[test]
fn a_link_its_mode_and_its_owner_survive() {
    let (dir, _) = folder_with("[]");
    let real = dir.path().join("elsewhere");
    fs::create_dir(&real).unwrap();
    let real = real.join("real.json");
    put_file(&real, TEXT);
    fs::set_permissions(&real, fs::Permissions::from_mode(0o664)).unwrap();
    // Only root may give files away.
    let given = std::os::unix::fs::chown(&real, Some(12345), Some(54321)).is_ok();
    fs::remove_file(dir.path().join(FILE)).unwrap();
    symlink(&real, dir.path().join(FILE)).unwrap();
    let mut s = store(dir.path());
    let t = table();
    commit(s.as_mut(), |s| s.write(&[&t], &[(0, vec![Write::Delete { key: key("2") }])]).unwrap());
    assert!(fs::symlink_metadata(dir.path().join(FILE)).unwrap().is_symlink());
    let now = fs::metadata(&real).unwrap();
    assert_eq!(now.mode() & 0o7777, 0o664);
    assert!(!given || (now.uid(), now.gid()) == (12345, 54321));
    assert!(!fs::read_to_string(&real).unwrap().contains("\"2\""));
    assert_eq!(names(dir.path()), ["elsewhere", FILE]);
    assert_eq!(names(&dir.path().join("elsewhere")), ["real.json", "real.json.backout"]);
}

#[test]
fn p20_an_empty_or_broken_file_is_an_error() {
    let (dir, path) = folder_with("");
    let mut s = store(dir.path());
    let e = s.schema().unwrap_err();
    assert!(matches!(&e, Error::Input { cause, .. } if cause.starts_with("is empty")), "{e}");
    put_file(&path, "{\n  \"1\": {\"a\": 1,}\n}");
    let e = s.count(&table()).unwrap_err();
    assert!(e.to_string().contains("line 2, column 16"), "{e}");
    assert_eq!(s.self_check(&[&table()], true).unwrap().len(), 1);
    let missing = open("json:none.json", dir.path(), true, &Gate::default()).err().unwrap();
    assert!(matches!(missing, Error::Input { .. }));
}

#[test]
fn a_json_file_is_no_forward_target() {
    let (dir, _) = folder_with("[{\"id\": 3}, {\"id\": 12}, {\"id\": 7}]");
    let mut s = store(dir.path());
    let id =
        Table { columns: vec![Column { name: "id".into(), ..Column::default() }], key: vec![0], ..Table::default() };
    assert_eq!(s.high_water(&[&id]).unwrap(), [Some(12)]);
    s.begin(Mode::Write, &[&id]).unwrap();
    s.raise_high_water(&[&id], &[Some(99)]).unwrap();
    for e in [
        s.create(&[&id]),
        s.build_key(&id),
        s.build_rest(&[&id]),
        s.drop_tables(&[&id]),
        s.load(&id, &Batch::default()),
    ] {
        assert!(matches!(e, Err(Error::Refused { cause, .. }) if cause.contains("forward target")));
    }
}

#[test]
fn chinook_comes_back_byte_for_byte() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/chinook.json");
    let bytes = fs::read_to_string(&source)
        .unwrap_or_else(|e| panic!("{} is needed for this test and cannot be read: {e}", source.display()));
    let (dir, path) = folder_with(&bytes);
    let mut s = store(dir.path());
    let schema = s.schema().unwrap();
    assert_eq!(schema.tables.len(), 11);
    let mut tables = schema.tables.clone();
    for t in &mut tables {
        t.key = if t.name == "/PlaylistTrack" { vec![0, 1] } else { vec![0] };
    }
    let list: Vec<&Table> = tables.iter().collect();
    let total: usize = list.iter().map(|t| scan(s.as_mut(), t, 1000).len()).sum();
    assert_eq!(total, 15607);
    // Everything is written as it is: nothing changes.
    s.begin(Mode::Write, &list).unwrap();
    let mut all = Vec::new();
    let mut kept = Vec::new();
    for (i, t) in list.iter().enumerate() {
        let keys = s.keys(t).unwrap();
        let rows: Vec<Row> = s.fetch(t, &keys).unwrap().into_iter().flatten().collect();
        all.push((i, rows.iter().zip(keys).map(|(r, k)| Write::Put { row: r.clone(), from: Some(k) }).collect()));
        kept.push(rows);
    }
    s.write(&list, &all).unwrap();
    s.commit("nothing").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), bytes);
    // One row of each table is changed, its last one deleted, another added; then all taken back.
    let (mut there, mut back) = (Vec::new(), Vec::new());
    for (i, t) in list.iter().enumerate() {
        let rows = &kept[i];
        let key = |r: &Row| Key::of_row(r, &t.key);
        let (first, last) = (&rows[0], &rows[rows.len() - 1]);
        let plain = (0..first.len()).find(|c| !t.key.contains(c));
        let mut changed = first.clone();
        if let Some(c) = plain {
            changed[c] = Value::text("geändert \u{1F600}\n");
        }
        let mut new = last.clone();
        for &k in &t.key {
            new[k] = Value::Int(1_000_000);
        }
        let from = Some(key(first));
        there.push((
            i,
            vec![
                Write::Put { row: changed, from: from.clone() },
                Write::Put { row: new.clone(), from: None },
                Write::Delete { key: key(last) },
            ],
        ));
        back.push((
            i,
            vec![
                Write::Put { row: first.clone(), from },
                Write::Delete { key: key(&new) },
                Write::Put { row: last.clone(), from: None },
            ],
        ));
    }
    s.begin(Mode::Write, &list).unwrap();
    s.write(&list, &there).unwrap();
    s.commit("there").unwrap();
    let changed = fs::read_to_string(&path).unwrap();
    assert_ne!(changed, bytes);
    let parsed: serde_json::Value = serde_json::from_str(&changed).unwrap();
    assert_eq!(serde_json::to_string_pretty(&parsed).unwrap(), changed.trim_end());
    s.begin(Mode::Write, &list).unwrap();
    s.write(&list, &back).unwrap();
    s.commit("back").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), bytes);
}

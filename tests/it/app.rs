//! Services and switches against real commands and files.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backout::app::{App, Error, State};
use backout::gate::Gate;
use backout::plan::Config;
use proptest::prelude::*;
use tempfile::TempDir;

const RUN: &str = "0123456789ab";

struct Project {
    folder: TempDir,
    config: Config,
}

impl Project {
    fn new(text: &str) -> Project {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[stores]\na = \"sqlite:a.db\"\n{text}");
        let config = Config::parse(&text, &folder.path().join("backout.toml"), &|_| None).unwrap();
        Project { folder, config }
    }

    fn app(&self, gate: &Gate) -> App {
        App::new(&self.config, RUN, gate).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path(name)).ok()
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name).unwrap()).unwrap()
    }

    /// Files of ours beside switched ones.
    fn leftovers(&self) -> Vec<String> {
        names(self.folder.path()).into_iter().filter(|name| name.contains(".backout-")).collect()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn service(commands: &str) -> Project {
    Project::new(&format!("[[service]]\nname = \"bot\"\n{commands}\n"))
}

const DOTENV: &str = "[[switch]]\ndotenv = \".env\"\nset = { USE_SQLITE = \"true\", TOKEN = \"s3cret new\" }\n";
const WHOLE: &str = "[[switch]]\nfile = \"settings.py\"\nwith = \"settings_pg.py\"\n";

// ── services ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn services_stop_in_order_and_start_in_reverse() {
    let each = |name: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nstop = \"echo stop {name} >> log\"\nstart = \"echo start {name} >> log\"\n"
        )
    };
    let project = Project::new(&(each("a") + &each("b")));
    let gate = Gate::default();
    let app = project.app(&gate);
    app.stop().unwrap();
    app.start().unwrap();
    app.check().unwrap();
    assert_eq!(project.text("log"), "stop a\nstop b\nstart b\nstart a\n");
    assert_eq!(gate.count(), 4, "each call passes the gate; there is nothing to check");
}

#[test]
fn a_failing_command_shows_the_end_of_what_it_said() {
    let project = service("stop = \"seq 1000; echo oh no >&2; exit 3\"\nstart = \"true\"");
    let error = project.app(&Gate::default()).stop().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("cannot stop service `bot`: its command ended with exit status: 3"), "{text}");
    assert!(text.ends_with("1000\noh no"), "{text}");
    assert!(text.len() < 2500 && !text.contains("\n500\n"), "only the end: {text}");
    assert!(!error.hint().is_empty());
}

/// Whether nothing of that process group runs, and its leader is not even a zombie. (Its orphans are not ours to reap.)
fn gone(group: &str) -> bool {
    let group = group.trim();
    !Path::new("/proc").join(group).exists()
        && !fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // pid (name) state parent group …
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            fields.get(2) == Some(&group) && fields[0] != "Z"
        })
}

fn eventually(what: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if what() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

#[test]
fn a_command_that_does_not_end_is_killed_with_its_children() {
    let project =
        service("stop = \"echo $$ > pid; sleep 1000 & echo waiting; wait\"\nstart = \"true\"\ntimeout = \"300ms\"");
    let begun = Instant::now();
    let error = project.app(&Gate::default()).stop().unwrap_err().to_string();
    assert!(begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < Duration::from_secs(20));
    assert!(error.contains("had not ended after 300ms and was killed"), "{error}");
    assert!(error.ends_with("waiting"), "{error}");
    let group = project.text("pid");
    assert!(eventually(|| gone(&group)), "group {group} is still there");
}

#[test]
fn a_daemon_that_keeps_its_output_open_does_not_hold_us_up() {
    let project =
        service("stop = \"kill $(cat pid)\"\nstart = \"sleep 1000 & echo $! > pid; echo up\"\ntimeout = \"30s\"");
    let app = project.app(&Gate::default());
    let begun = Instant::now();
    app.start().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
    let pid = project.text("pid");
    assert!(Path::new("/proc").join(pid.trim()).exists(), "it goes on running");
    let log = || project.text(".backout/service-bot.start.log");
    assert_eq!(log(), "up\n");
    app.stop().unwrap();
    app.start().unwrap();
    assert_eq!(log(), "up\n", "only what it said this time");
    app.stop().unwrap();
}

#[test]
fn a_start_command_that_does_not_return_is_told_what_to_do() {
    let project = service("stop = \"true\"\nstart = \"sleep 1000\"\ntimeout = \"100ms\"");
    let error = project.app(&Gate::default()).start().unwrap_err();
    assert!(error.hint().contains("end it with `&`"), "{}", error.hint());
}

#[test]
fn a_check_is_tried_again_until_it_succeeds() {
    // succeeds the third time
    let check = "echo x >> tries; test $(wc -l < tries) -ge 3";
    let project = service(&format!("stop = \"true\"\nstart = \"true\"\ncheck = \"{check}\""));
    project.app(&Gate::default()).check().unwrap();
    assert_eq!(project.text("tries"), "x\nx\nx\n");
}

#[test]
fn a_check_that_never_succeeds_ends_with_its_reason() {
    let project = service("stop='true'\nstart='true'\ncheck='echo connection refused; false'\ntimeout='250ms'");
    let error = project.app(&Gate::default()).check().unwrap_err().to_string();
    assert!(error.contains("cannot check service `bot`: not well after 250ms"), "{error}");
    assert!(error.ends_with("connection refused"), "{error}");
    let project = service("stop='true'\nstart='true'\ncheck='sleep 1000'\ntimeout='250ms'");
    assert!(project.app(&Gate::default()).check().is_err(), "a check that hangs");
}

#[test]
fn a_stop_command_that_only_says_so_is_found_out() {
    let project = service("stop='true'\nstart='true'\ncheck='test -f up'\ntimeout='250ms'");
    project.write("up", "");
    let error = project.app(&Gate::default()).stop().unwrap_err().to_string();
    assert!(error.contains("its check does still"), "{error}");
    fs::remove_file(project.path("up")).unwrap();
    project.app(&Gate::default()).stop().unwrap();
}

#[test]
fn a_service_stops_even_where_its_output_cannot_be_kept() {
    let project = service("stop = \"echo gone; touch stopped\"\nstart = \"true\"");
    project.write(".backout", "in the way");
    project.app(&Gate::default()).stop().unwrap();
    assert!(project.path("stopped").exists());
}

#[test]
fn services_pass_the_gate() {
    let project = service("stop='touch stopped'\nstart='touch started'\ncheck='touch checked'");
    for (n, call) in [App::stop, App::start, App::check].into_iter().enumerate() {
        let app = project.app(&Gate::with_trap(1, |_| {}));
        assert!(matches!(call(&app), Err(Error::Gate(_))), "{n}");
    }
    assert_eq!(names(project.folder.path()), [""; 0]);
}

// ── switches ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_switch_of_an_environment_file_changes_values_only() {
    let project = Project::new(DOTENV);
    let before = "# bot\r\nexport USE_SQLITE='false' # later\r\nOTHER=1\r\nTOKEN=old";
    project.write(".env", before);
    let app = project.app(&Gate::default());
    let state = || app.switches()[0].check().unwrap();
    assert_eq!(state(), State::Untouched);
    app.apply().unwrap();
    assert_eq!(project.text(".env"), "# bot\r\nexport USE_SQLITE='true' # later\r\nOTHER=1\r\nTOKEN='s3cret new'");
    assert_eq!(state(), State::Applied);
    app.apply().unwrap();
    assert!(app.undo().unwrap().is_empty());
    assert_eq!(project.text(".env"), before);
    assert_eq!(state(), State::Untouched);
    assert!(app.undo().unwrap().is_empty(), "again");
    assert_eq!(names(project.folder.path()), [".env"]);
}

#[test]
fn what_undoes_a_switch_is_for_its_owner_alone() {
    let project = Project::new(DOTENV);
    project.write(".env", "TOKEN=old\n");
    fs::set_permissions(project.path(".env"), fs::Permissions::from_mode(0o640)).unwrap();
    // as root, a file of someone else's
    let _ = std::os::unix::fs::chown(project.path(".env"), Some(12345), Some(54321));
    let rights = |name: &str| {
        let meta = fs::metadata(project.path(name)).unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    };
    let (uid, gid, _) = rights(".env");
    let app = project.app(&Gate::default());
    app.apply().unwrap();
    assert_eq!(rights(".env"), (uid, gid, 0o640));
    assert_eq!(rights(&format!(".env.backout-{RUN}")), (uid, gid, 0o600));
    app.undo().unwrap();
    assert_eq!(rights(".env"), (uid, gid, 0o640));
}

#[test]
fn p23_only_what_is_still_ours_is_put_back() {
    let project = Project::new(DOTENV);
    project.write(".env", "USE_SQLITE=false\nTOKEN=old\n");
    let app = project.app(&Gate::default());
    app.apply().unwrap();
    project.write(".env", project.text(".env").replace("'s3cret new'", "s3cret3") + "ADDED=1\n");
    let State::Foreign(what) = app.switches()[0].check().unwrap() else { panic!("someone changed it") };
    assert!(what.contains("TOKEN") && !what.contains("USE_SQLITE"), "{what}");
    let notes = app.undo().unwrap();
    assert_eq!(project.text(".env"), "USE_SQLITE=false\nTOKEN=s3cret3\nADDED=1\n");
    assert!(notes[0].contains("TOKEN in .env was changed since"), "{notes:?}");
    assert!(!notes.concat().contains("s3cret"), "{notes:?}");
    assert!(notes[1].contains(&format!(".env.backout-{RUN}")), "{notes:?}");
    assert!(project.text(&format!(".env.backout-{RUN}")).ends_with("\nUSE_SQLITE=false\nTOKEN=old\n"));
    assert_eq!(app.undo().unwrap(), notes, "again");
    app.forget().unwrap();
    assert_eq!(names(project.folder.path()), [".env"]);
}

#[test]
fn what_someone_put_back_already_is_no_matter() {
    let project = Project::new(DOTENV);
    project.write(".env", "USE_SQLITE=false\nTOKEN=old\n");
    let app = project.app(&Gate::default());
    app.apply().unwrap();
    project.write(".env", project.text(".env").replace("true", "false") + "ADDED=1\n");
    assert_eq!(app.undo().unwrap(), [""; 0]);
    assert_eq!(project.text(".env"), "USE_SQLITE=false\nTOKEN=old\nADDED=1\n");
    assert_eq!(project.leftovers(), [""; 0]);
}

#[test]
fn an_edit_elsewhere_in_the_file_is_kept() {
    let project = Project::new(DOTENV);
    project.write(".env", "TOKEN=old\nA=1");
    let app = project.app(&Gate::default());
    app.apply().unwrap();
    project.write(".env", project.text(".env").replace("A=1", "A=2"));
    assert_eq!(app.switches()[0].check().unwrap(), State::Applied);
    app.apply().unwrap();
    assert_eq!(app.undo().unwrap(), [""; 0]);
    assert_eq!(project.text(".env"), "TOKEN=old\nA=2\n");
    assert_eq!(names(project.folder.path()), [".env"]);
}

#[test]
fn a_file_that_was_not_there_is_gone_again() {
    let project = Project::new(&format!("{DOTENV}{WHOLE}"));
    project.write("settings_pg.py", "pg");
    let app = project.app(&Gate::default());
    app.apply().unwrap();
    assert_eq!(project.text(".env"), "USE_SQLITE=true\nTOKEN='s3cret new'\n");
    assert_eq!(fs::metadata(project.path(".env")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(project.text("settings.py"), "pg");
    assert!(app.undo().unwrap().is_empty());
    assert_eq!(names(project.folder.path()), ["settings_pg.py"]);
}

#[test]
fn a_whole_file_is_switched_through_its_symlink() {
    let project = Project::new(WHOLE);
    fs::create_dir(project.path("etc")).unwrap();
    project.write("etc/real.py", b"sqlite \xff");
    symlink("etc/real.py", project.path("settings.py")).unwrap();
    project.write("settings_pg.py", "pg");
    let app = project.app(&Gate::default());
    app.apply().unwrap();
    assert_eq!(project.read("settings.py").unwrap(), b"pg");
    assert!(fs::symlink_metadata(project.path("settings.py")).unwrap().is_symlink());
    assert_eq!(names(&project.path("etc")), ["real.py".to_owned(), format!("real.py.backout-{RUN}")]);
    // another process, and `with` is gone meanwhile
    fs::remove_file(project.path("settings_pg.py")).unwrap();
    assert!(project.app(&Gate::default()).undo().unwrap().is_empty());
    assert_eq!(project.read("etc/real.py").unwrap(), b"sqlite \xff");
    assert_eq!(names(&project.path("etc")), ["real.py"]);
}

#[test]
fn a_whole_file_that_someone_changed_is_left_and_shown() {
    let project = Project::new(WHOLE);
    project.write("settings.py", "sqlite");
    project.write("settings_pg.py", "pg");
    let app = project.app(&Gate::default());
    app.apply().unwrap();
    project.write("settings.py", "mine");
    assert!(matches!(app.switches()[0].check().unwrap(), State::Foreign(_)));
    let error = app.apply().unwrap_err();
    assert!(error.to_string().contains("someone changed it"), "{error}");
    assert!(error.hint().contains(".backout-"), "{}", error.hint());
    let notes = app.undo().unwrap();
    assert!(notes[0].contains("settings.py was changed since"), "{notes:?}");
    assert_eq!(project.text("settings.py"), "mine");
    fs::remove_file(project.path("settings.py")).unwrap();
    assert!(app.undo().unwrap()[0].contains("is gone"));
    assert!(matches!(app.switches()[0].check().unwrap(), State::Foreign(_)));
    project.write("settings.py", "sqlite");
    assert!(app.undo().unwrap().is_empty());
    assert_eq!(project.leftovers(), [""; 0]);
}

#[test]
fn a_switch_that_cannot_be_set_changes_nothing() {
    let project = Project::new(WHOLE);
    project.write("settings.py", "sqlite");
    let error = project.app(&Gate::default()).apply().unwrap_err();
    assert!(error.to_string().contains("settings_pg.py, whose content it shall get, is not there"), "{error}");
    assert_eq!(names(project.folder.path()), ["settings.py"]);

    // the quote left open would close with ours, and swallow a line
    let project = Project::new("[[switch]]\ndotenv = '.env'\nset = { TOKEN = ' #s3cret' }\n");
    project.write(".env", "A='open\n");
    let error = project.app(&Gate::default()).apply().unwrap_err();
    assert!(
        error.to_string().contains("TOKEN cannot be set there") && !error.to_string().contains("s3cret"),
        "{error}"
    );
    assert_eq!(project.text(".env"), "A='open\n");
    assert_eq!(names(project.folder.path()), [".env"]);
}

#[test]
fn one_file_by_two_names_is_refused() {
    let project = Project::new("[[switch]]\ndotenv='.env'\nset={A='1'}\n[[switch]]\ndotenv='link'\nset={B='1'}\n");
    symlink(".env", project.path("link")).unwrap();
    let error = App::new(&project.config, RUN, &Gate::default()).err().unwrap();
    assert!(error.to_string().contains("two switches are of this one file"), "{error}");
}

#[test]
fn an_undo_file_that_is_not_ours_stops_everything() {
    let project = Project::new(DOTENV);
    project.write(".env", "TOKEN=old\n");
    project.write(&format!(".env.backout-{RUN}"), "TOKEN=s3cret older\n");
    let app = project.app(&Gate::default());
    for error in [app.apply().unwrap_err(), app.undo().unwrap_err()] {
        assert!(error.to_string().contains("not as Backout wrote it"), "{error}");
        assert!(!format!("{error}{error:?}").contains("s3cret"), "{error:?}");
    }
    assert_eq!(project.text(".env"), "TOKEN=old\n");
}

#[test]
fn what_undoes_a_switch_is_durable_before_the_file_is_touched() {
    let project = Project::new(DOTENV);
    project.write(".env", "TOKEN=old\n");
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = seen.clone();
    project.app(&Gate::watched(move |what| told.lock().unwrap().push(what.to_owned()))).apply().unwrap();
    let folder = project.folder.path().canonicalize().unwrap();
    let (folder, file) = (folder.display(), folder.join(".env").display().to_string());
    let once =
        |to: &str| [format!("write {file}.backout-{RUN}.new"), format!("rename to {to}"), format!("sync {folder}")];
    let wanted = [once(&format!("{file}.backout-{RUN}")), once(&file)].concat();
    assert_eq!(*seen.lock().unwrap(), wanted);
}

#[test]
fn what_was_edited_between_a_kill_and_the_next_run_is_kept() {
    let project = Project::new(DOTENV);
    project.write(".env", "TOKEN=old\n");
    // the undo file is there (three effects), the file is not switched yet
    assert!(project.app(&Gate::with_trap(4, |_| {})).apply().is_err());
    assert_eq!(project.leftovers().len(), 1);
    project.write(".env", "TOKEN=old\nNEW=1\n");
    let app = project.app(&Gate::default());
    app.apply().unwrap();
    assert!(app.undo().unwrap().is_empty());
    assert_eq!(project.text(".env"), "TOKEN=old\nNEW=1\n");

    assert!(project.app(&Gate::with_trap(4, |_| {})).apply().is_err());
    project.write(".env", "TOKEN=another\n");
    let error = project.app(&Gate::default()).apply().unwrap_err();
    assert!(error.to_string().contains("someone changed TOKEN"), "{error}");
    assert_eq!(project.text(".env"), "TOKEN=another\n");
}

/// Fails each effect in turn, then does it again: before and after are whole, and nothing is in between.
#[test]
fn a_switch_may_be_cut_off_anywhere() {
    for there in [true, false] {
        let mut n = 1;
        loop {
            let project = Project::new(&format!("{DOTENV}{WHOLE}"));
            project.write("settings_pg.py", "pg");
            if there {
                project.write(".env", "TOKEN=old");
                project.write("settings.py", "sqlite");
            }
            let look = || (project.read(".env"), project.read("settings.py"));
            let before = look();
            let whole = (
                Some(if there {
                    "TOKEN='s3cret new'\nUSE_SQLITE=true"
                } else {
                    "USE_SQLITE=true\nTOKEN='s3cret new'\n"
                }),
                Some("pg"),
            );
            let after = (whole.0.map(|t| t.as_bytes().to_vec()), whole.1.map(|t| t.as_bytes().to_vec()));
            let each_is_whole = |n: u64, when: &str| {
                let (env, settings) = look();
                assert!(env == before.0 || env == after.0, "{when} {n}: {env:?}");
                assert!(settings == before.1 || settings == after.1, "{when} {n}: {settings:?}");
            };

            let gate = Gate::with_trap(n, |_| {});
            let applied = project.app(&gate).apply();
            each_is_whole(n, "apply");
            if applied.is_err() {
                // the one way: taken back
                let aside = tempfile::tempdir().unwrap();
                copy(project.folder.path(), aside.path());
                assert!(project.app(&Gate::default()).undo().unwrap().is_empty());
                assert_eq!(look(), before, "apply failed at {n}, then undone");
                assert_eq!(project.leftovers(), [""; 0]);
                // the other: gone on with
                copy(aside.path(), project.folder.path());
            }
            project.app(&Gate::default()).apply().unwrap();
            assert_eq!(look(), after, "{n}");

            let undone = project.app(&Gate::with_trap(n, |_| {})).undo();
            each_is_whole(n, "undo");
            assert!(project.app(&Gate::default()).undo().unwrap().is_empty());
            assert_eq!(look(), before, "{n}");
            assert_eq!(project.leftovers(), [""; 0], "{n}");
            if applied.is_ok() && undone.is_ok() {
                break;
            }
            n += 1;
        }
        assert!(n > 8, "only {n} effects");
    }
}

fn copy(from: &Path, to: &Path) {
    for name in names(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn apply_then_undo_leaves_every_byte(
        file in prop::option::of(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            "(export )?(USE_SQLITE ?= ?['\"]?[a-z #]{0,5}['\"]?(\r?\n)|TOKEN=[ -~]{0,9}\n|#[ -~]{0,9}\n|[A-Z]{1,3}=['\"]?[ -~\n]{0,9}\r?\n){0,8}"
                .prop_map(String::into_bytes),
        ]),
    ) {
        let project = Project::new(DOTENV);
        if let Some(bytes) = &file {
            project.write(".env", bytes);
        }
        let app = project.app(&Gate::default());
        let applied = app.apply();
        if let Err(error) = &applied {
            prop_assert!(matches!(error, Error::Refused { .. }), "{}", error);
            prop_assert_eq!(project.read(".env"), file.clone());
        }
        prop_assert_eq!(app.undo().unwrap(), [""; 0]);
        prop_assert_eq!(project.read(".env"), file);
        prop_assert_eq!(project.leftovers(), [""; 0]);
    }
}

//! Servers that will not have us, or are not what they should be; and those that take their time.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};

use backout::gate::Gate;
use backout::migrate::{RollbackOptions, UpOptions};
use postgres::Client;

use super::super::scenarios::{ok, wait_until};
use super::*;

/// A server of its own, of another kind; ends with its input.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn new(kind: &str) -> Server {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/with-postgres");
        let mut child = Command::new(script)
            .args(["sh", "-c", "echo $BACKOUT_TEST_PG; cat"])
            .env("BACKOUT_TEST_PG_KIND", kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Server { child, url: url.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[track_caller]
fn refused(url: &str, exit: u8, words: &[&str]) {
    let home = shop(url, "");
    let before = rows(&home);
    for failure in [home.project().plan(None).map(drop), home.project().up(&UpOptions::default()).map(drop)] {
        let failure = failure.unwrap_err();
        assert_eq!((failure.exit, failure.state.as_str()), (exit, "nothing was changed"), "{failure:?}");
        says(&failure, words);
    }
    same(&rows(&home), &before);
}

#[test]
fn a_standby_is_refused_and_its_primary_asked_for() {
    let server = Server::new("standby");
    refused(&server.url, 4, &["it is a standby", "its primary"]);
}

#[test]
fn a_server_without_a_connection_left_is_told_as_such() {
    let mut database = Database::new();
    let (role, url) = database.role("secret");
    database.admin().batch_execute(&format!("ALTER ROLE {role} CONNECTION LIMIT 0")).unwrap();
    refused(&url, 1, &["too many connections for role", "no connection left"]);
}

#[test]
fn a_missing_database_and_a_missing_password_are_told_as_such() {
    let database = Database::new();
    refused(&format!("{}_not", database.url), 1, &["does not exist", "there is no such database"]);
    let (user, rest) = database.url.split_once('@').unwrap();
    refused(&format!("{}@{rest}", user.rsplit_once(':').unwrap().0), 1, &["password missing", "asks for a password"]);
}

/// A receiver may take long to commit; the lease is held until it has.
#[test]
fn p01_the_giver_hears_of_us_while_the_receiver_works() {
    let database = Database::new();
    let home = shop(&database.url, "");
    let before = rows(&home);
    home.up();
    sells(&mut database.client());
    let (told, heard) = mpsc::channel();
    let (done, go_on) = mpsc::channel();
    let go_on = Mutex::new(go_on);
    let gate = Gate::watched(move |what| {
        if what == "receiver: drained" && told.send(()).is_ok() {
            let _ = go_on.lock().unwrap().recv();
        }
    });
    let project = home.project().gated(gate);
    std::thread::scope(|threads| {
        // gone with this closure, so that a failure here ends the wait there
        let done = done;
        let back = threads.spawn(move || project.rollback(&RollbackOptions::default()));
        heard.recv().unwrap();
        let mut watcher = database.client();
        let lease = |watcher: &mut Client| -> Option<std::time::SystemTime> {
            let sql = "SELECT max(state_change) FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name = 'backout' AND state = 'idle in transaction'";
            watcher.query_one(sql, &[]).unwrap().get(0)
        };
        let mut last = lease(&mut watcher).expect("the lease is open");
        for _ in 0..2 {
            wait_until("the giver hears of us", || lease(&mut watcher).is_some_and(|t| t > last));
            last = lease(&mut watcher).unwrap();
        }
        done.send(()).unwrap();
        ok(back.join().unwrap());
    });
    same(&rows(&home), &sold(before));
}

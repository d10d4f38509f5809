//! A pooler before the server: pgbouncer, as it comes.

use std::process::{Child, Command, Stdio};

use backout::gate::Gate;
use backout::migrate::{RollbackOptions, UpOptions};
use postgres::{Client, NoTls};
use tempfile::TempDir;

use super::super::database::owner;
use super::super::scenarios::{ok, pg_rows, wait_until};
use super::*;

struct Pooler {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Pooler {
    /// Before the database of a test.
    fn new(database: &Database, mode: &str, more: &str) -> Pooler {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let parts: Vec<&str> = database.url.split(['/', ':', '@']).collect();
        let (password, server) = (parts[4], parts[6]);
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let owner = owner();
        std::fs::write(path("users"), format!("\"{owner}\" \"{password}\"\n")).unwrap();
        let ini = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\nlogfile =\n{more}\n",
            path("users")
        );
        std::fs::write(path("ini"), ini).unwrap();
        let mut command = Command::new("pgbouncer");
        command.env("PATH", "/usr/bin:/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin");
        if rustix::process::geteuid().is_root() {
            // it will not be root, and gives that up before it reads its files
            use std::os::unix::fs::PermissionsExt as _;
            for (name, mode) in [("", 0o755), ("ini", 0o644), ("users", 0o644)] {
                std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
            }
            command.args(["-u", "postgres"]);
        }
        let child = command.args(["-q", &path("ini")]).stderr(Stdio::null()).spawn().unwrap();
        let url = database.url.replace(&format!(":{server}/"), &format!(":{port}/"));
        wait_until("the pooler answers", || Client::connect(&url, NoTls).is_ok());
        Pooler { child, url, _folder: folder }
    }

    fn client(&self) -> Client {
        Client::connect(&self.url, NoTls).unwrap()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn p26_a_pool_of_transactions_or_statements_is_refused_before_anything_is_set_in_it() {
    let database = Database::new();
    for (mode, more) in [
        ("transaction", ""),
        ("transaction", "server_round_robin = 1\nmin_pool_size = 3"),
        ("transaction", "default_pool_size = 2"),
        ("statement", ""),
    ] {
        let pooler = Pooler::new(&database, mode, more);
        let home = shop(&pooler.url, "");
        let before = rows(&home);
        for failure in [home.project().plan(None).map(|_| ()), home.project().up(&UpOptions::default()).map(|_| ())] {
            let failure = failure.unwrap_err();
            assert_eq!((failure.exit, failure.code()), (4, "refused"), "{mode} {more}: {failure:?}");
            says(&failure, &["a pooler stands before it", mode, "give Backout a direct URL"]);
        }
        same(&rows(&home), &before);
        // what was asked left nothing in the sessions that the application shares
        let asked = pooler.client().simple_query("SHOW TimeZone").unwrap();
        let zone = asked.iter().find_map(|m| match m {
            postgres::SimpleQueryMessage::Row(r) => r.get(0).map(str::to_owned),
            _ => None,
        });
        let own: String = database.client().query_one("SELECT current_setting('TimeZone')", &[]).unwrap().get(0);
        assert_eq!(zone, Some(own));
    }
    assert_eq!(pg_rows(&mut database.client(), "SELECT 1 FROM pg_namespace WHERE nspname = 'backout'").len(), 0);
}

#[test]
fn p26_a_pool_of_sessions_is_as_good_as_none() {
    let database = Database::new();
    let pooler = Pooler::new(&database, "session", "");
    let home = shop(&pooler.url, "");
    let before = rows(&home);
    home.up();
    sells(&mut pooler.client());
    home.rollback();
    same(&rows(&home), &sold(before));
}

#[test]
fn p26_the_application_may_use_a_pool_of_transactions_while_backout_goes_direct() {
    let database = Database::new();
    // one session for everybody: whatever one transaction leaves behind meets the next
    let pooler = Pooler::new(&database, "transaction", "default_pool_size = 1");
    let home = shop(&database.url, "");
    let before = rows(&home);
    home.up();
    let (mut app, mut other) = (pooler.client(), pooler.client());
    app.batch_execute("SELECT set_config('application_name', 'one of many', false)").unwrap();
    sells(&mut app);
    ok(home.project().shadow());
    other.batch_execute("UPDATE orders SET what = 'tea, twice' WHERE id = 1").unwrap();
    // … and the seal holds there, too, at the moment the source is open again
    let seen = std::sync::Mutex::new(None);
    std::thread::scope(|threads| {
        let (told, heard) = std::sync::mpsc::channel();
        let (done, go_on) = std::sync::mpsc::channel::<()>();
        let go_on = std::sync::Mutex::new(go_on);
        let gate = Gate::watched(move |what| {
            if what.starts_with("receiver: open") && told.send(()).is_ok() {
                let _ = go_on.lock().unwrap().recv();
            }
        });
        let project = home.project().gated(gate);
        let back = threads.spawn(move || project.rollback(&RollbackOptions::default()));
        if heard.recv().is_ok() {
            let refused = app.batch_execute("INSERT INTO orders (person, what) VALUES (1, 'too late')");
            *seen.lock().unwrap() = refused.err().and_then(|e| e.code().map(|c| c.code().to_owned()));
            done.send(()).unwrap();
        }
        ok(back.join().unwrap());
    });
    assert_eq!(seen.into_inner().unwrap().as_deref(), Some("25006"));
    let mut after = sold(before);
    let orders = after.get_mut("orders").unwrap();
    orders[0] = orders[0].replace("text tea", "text tea, twice");
    same(&rows(&home), &after);
}

//! Servers that stop, sessions that are ended, connections that break, answers that are lost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use tempfile::TempDir;

use crate::database::{Database, owner};
use crate::room::{Kind, PAIRS, Pair, Room};
use crate::sweep::strike::{Act, meanwhile};
use crate::sweep::{after_rollback, after_up, full_grid, shown, sweep_each};

fn served() -> impl Iterator<Item = Pair> {
    PAIRS.into_iter().filter(|p| p.from == Kind::Postgres || p.to == Kind::Postgres)
}

fn prepared(pair: Pair, act: Act) -> Room {
    if matches!(act, Act::Up) { Room::new(pair) } else { Room::soaking(pair) }
}

fn afterwards(room: &mut Room, act: Act, n: u64, ahead: bool) {
    match act {
        Act::Up => after_up(room, n, ahead),
        _ => after_rollback(room, n),
    }
}

// ── sessions that an administrator ends ────────────────────────────────────────────────────────────────────────────

fn terminated(pair: Pair, act: Act) {
    sweep_each(4, &format!("{pair}: {act:?}, sessions terminated"), |n| {
        let mut room = prepared(pair, act);
        let urls: Vec<String> =
            [&room.source, &room.target].into_iter().filter(|p| p.kind == Kind::Postgres).map(|p| p.url()).collect();
        let ended = meanwhile(&room, act, n, move || {
            for url in &urls {
                let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'backout'";
                Client::connect(url, NoTls).unwrap().query(sql, &[]).unwrap();
            }
        });
        shown(n, ended.as_ref().map(|e| &e.0), || {
            if ended.is_some() {
                afterwards(&mut room, act, n, n % 2 == 0);
            }
        });
        room.leave();
        ended.map(|e| e.0)
    });
}

#[test]
fn sessions_terminated_at_any_effect() {
    for pair in served() {
        terminated(pair, Act::Up);
        terminated(pair, Act::Rollback);
    }
}

// ── connections that break around a COMMIT ─────────────────────────────────────────────────────────────────────────

/// Stands between us and the server. At the n-th COMMIT the connection breaks: before the server hears of it, or before we
/// hear of its answer.
struct Proxy {
    url: String,
    /// Commits that came through so far.
    commits: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    address: std::net::SocketAddr,
}

impl Proxy {
    fn new(url: &str, n: u64, heard: bool) -> Proxy {
        let (head, rest) = url.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("{head}@{address}/{database}");
        let (commits, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended, server) = (commits.clone(), stop.clone(), server.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else { continue };
                let count = count.clone();
                std::thread::spawn(move || drop(between(client, server, &count, n, heard)));
            }
        });
        Proxy { url, commits, stop, address }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

/// Passes messages on until the chosen COMMIT.
fn between(
    mut client: TcpStream,
    mut server: TcpStream,
    commits: &AtomicU64,
    n: u64,
    heard: bool,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // once this is raised, answers are swallowed
    let deaf = Arc::new(AtomicBool::new(false));
    let (mut answers, mut to, swallowed) = (server.try_clone()?, client.try_clone()?, deaf.clone());
    let back = std::thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = [0; 1 << 16];
        loop {
            let got = answers.read(&mut buffer)?;
            if got == 0 || swallowed.load(Ordering::SeqCst) {
                // the server has done it, and nobody is told
                return to.shutdown(Shutdown::Both);
            }
            to.write_all(&buffer[..got])?;
        }
    });
    // the first message has no type
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut body)?;
    server.write_all(&[&length[..], &body].concat())?;
    let mut head = [0; 5];
    while client.read_exact(&mut head).is_ok() {
        let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
        client.read_exact(&mut body)?;
        let commit = head[0] == b'Q' && body.windows(6).any(|w| w == b"COMMIT");
        if commit && commits.fetch_add(1, Ordering::SeqCst) + 1 == n {
            if !heard {
                client.shutdown(Shutdown::Both)?;
                return server.shutdown(Shutdown::Both);
            }
            deaf.store(true, Ordering::SeqCst);
        }
        server.write_all(&[&head[..], &body].concat())?;
    }
    server.shutdown(Shutdown::Write)?;
    drop(back.join());
    Ok(())
}

fn lost_answers(pair: Pair, act: Act, heard: bool) {
    let outcome = if heard { "done" } else { "not done" };
    sweep_each(4, &format!("{pair}: {act:?}, a COMMIT's answer is lost, {outcome}"), |n| {
        let mut room = prepared(pair, act);
        let (from, to) = (room.source.url(), room.target.url());
        let proxy = Proxy::new(if pair.to == Kind::Postgres { &to } else { &from }, n, heard);
        if pair.to == Kind::Postgres {
            room.configure(&from, &proxy.url)
        } else {
            room.configure(&proxy.url, &to)
        }
        let done = act.perform(&room.project());
        let struck = proxy.commits.load(Ordering::SeqCst) >= n;
        drop(proxy);
        room.configure(&from, &to);
        room.settle();
        shown(n, Some(&format!("{done:?}")), || {
            if struck {
                afterwards(&mut room, act, n, (n % 2 == 0) == heard);
            } else {
                assert!(done.is_ok(), "{done:?}");
            }
        });
        room.leave();
        struck.then(|| "COMMIT".into())
    });
}

#[test]
fn a_commit_whose_answer_is_lost_was_done() {
    for pair in served() {
        lost_answers(pair, Act::Up, true);
        lost_answers(pair, Act::Rollback, true);
    }
}

#[test]
fn a_commit_whose_answer_is_lost_was_not_done() {
    for pair in served() {
        lost_answers(pair, Act::Up, false);
        lost_answers(pair, Act::Rollback, false);
    }
}

// ── a server that stops at once ────────────────────────────────────────────────────────────────────────────────────

/// A server of the test's own.
pub struct Server {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Server {
    pub fn new() -> Server {
        let programs = PathBuf::from(std::env::var("BACKOUT_TEST_PG_BIN").expect("start the tests with scripts/test"));
        let folder = crate::room::folder();
        let server = Server { folder, programs, port: free_port() };
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(server.folder.path()).status().unwrap().success());
        }
        let data = server.data();
        server.runs("initdb", &["-D", &data, "-U", "postgres", "-E", "UTF8", "--auth=trust", "--no-sync"]);
        server.start();
        server
    }

    /// A database for the same plain role as on the other server.
    pub fn database(&self) -> Database {
        let url = format!("postgres://postgres:any@127.0.0.1:{}/postgres", self.port);
        let owner = owner();
        let role = format!(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{owner}') THEN CREATE ROLE {owner} LOGIN; END IF; END $$"
        );
        let mut admin = Client::connect(&url, NoTls).unwrap();
        admin.batch_execute("SELECT pg_advisory_lock(1)").unwrap();
        admin.batch_execute(&role).unwrap();
        let database = Database::on(&url);
        database.admin().batch_execute(&format!("GRANT USAGE, CREATE ON SCHEMA public TO {owner}")).unwrap();
        database
    }

    fn data(&self) -> String {
        self.folder.path().join("data").to_str().unwrap().to_owned()
    }

    fn runs(&self, program: &str, words: &[&str]) {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let done = command.args(words).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(done.success(), "{words:?}");
    }

    fn start(&self) {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={} -c fsync=off -c shared_buffers=16MB",
            self.port,
            self.folder.path().display()
        );
        self.runs(
            "pg_ctl",
            &["-D", &self.data(), "-w", "-l", &format!("{}.log", self.data()), "-o", &options, "start"],
        );
    }

    fn stop(&self) {
        self.runs("pg_ctl", &["-D", &self.data(), "-w", "-m", "immediate", "stop"]);
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.folder.path().join("data/postmaster.pid").exists() {
            self.stop();
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// At each effect (each `step`-th) the server stops as in a crash; it is up again at once, or when the command has ended.
#[test]
fn the_server_crashes_at_every_moment() {
    let server = Arc::new(Mutex::new(Server::new()));
    let begun = Instant::now();
    let (mut crashes, step) = (0, if full_grid() { 1 } else { 10 });
    for pair in served() {
        for act in [Act::Up, Act::Rollback] {
            for n in (1 + crashes % step..500).step_by(step as usize) {
                let url = |name: &str| server.lock().unwrap().url(name);
                let mut admin = Client::connect(&url("postgres"), NoTls).unwrap();
                for name in ["one", "two"] {
                    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).unwrap();
                    admin.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
                }
                drop(admin);
                let mut room = Room::on(pair, [&url("one"), &url("two")]);
                if matches!(act, Act::Rollback) {
                    room.write();
                    room.up();
                    room.write();
                }
                let (crash, at_once, since) = (server.clone(), n % 2 == 0, Instant::now());
                let ended = meanwhile(&room, act, n, move || {
                    let server = crash.lock().unwrap();
                    server.stop();
                    if at_once {
                        server.start();
                    }
                });
                // a server that is not there is no reason to hang
                assert!(since.elapsed() < Duration::from_secs(120), "{pair}: {act:?} at effect {n} hangs");
                let Some((what, done)) = ended else {
                    room.leave();
                    break;
                };
                if !at_once {
                    server.lock().unwrap().start();
                }
                room.source.reconnect();
                room.target.reconnect();
                shown(n, Some(&format!("{what}: {done:?}")), || afterwards(&mut room, act, n, n % 4 < 2));
                room.leave();
                crashes += 1;
            }
        }
    }
    println!("{crashes} crashes, {:.1} s", begun.elapsed().as_secs_f64());
    assert!(crashes >= 10);
}

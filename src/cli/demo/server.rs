//! A PostgreSQL server of the demo's own, where its programs are installed; nothing of it stays.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

/// Stopped and removed when this goes.
pub struct Server {
    folder: PathBuf,
    programs: PathBuf,
    child: Option<Child>,
    /// Of its empty database.
    pub url: String,
}

/// Should the demo be killed, the server ends by itself after so many seconds.
const AT_MOST: &str = "600";

impl Server {
    /// Makes a cluster in a temporary folder and starts it.
    pub fn start() -> Result<Server, String> {
        let programs = programs().ok_or("no PostgreSQL server programs are installed here")?;
        let folder = std::env::temp_dir().join(format!("backout-demo-server-{}", std::process::id()));
        fs::create_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut server = Server { folder, programs, child: None, url: String::new() };
        server.make()?;
        server.run()?;
        Ok(server)
    }

    /// A command that runs as someone whom PostgreSQL lets: never as root.
    fn command(&self, program: &Path) -> Command {
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn done(&self, mut command: Command) -> Result<(), String> {
        let shown = format!("{command:?}");
        let out = command.stderr(Stdio::piped()).output().map_err(|e| format!("{shown}: {e}"))?;
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        if out.status.success() { Ok(()) } else { Err(format!("{shown}: {said}")) }
    }

    fn make(&self) -> Result<(), String> {
        if rustix::process::geteuid().is_root() {
            let mut chown = Command::new("chown");
            chown.arg("postgres").arg(&self.folder);
            self.done(chown)?;
        }
        let mut initdb = self.command(&self.programs.join("initdb"));
        // reached through a socket in a folder that is its owner's alone
        initdb.args(["-D", "data", "-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"]);
        self.done(initdb)
    }

    fn run(&mut self) -> Result<(), String> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let port = free.map_err(|e| e.to_string())?.port();
        let mut postgres = self.command(Path::new("timeout"));
        postgres.arg("-s").arg("INT").arg(AT_MOST).arg(self.programs.join("postgres"));
        postgres.args(["-D", "data", "-c", "listen_addresses=", "-c", "fsync=off"]);
        postgres.arg("-c").arg(format!("port={port}"));
        postgres.arg("-c").arg(format!("unix_socket_directories={}", self.folder.display()));
        let log = fs::File::create(self.folder.join("log")).map_err(|e| e.to_string())?;
        self.child = Some(postgres.stderr(log).spawn().map_err(|e| format!("{postgres:?}: {e}"))?);
        let folder = self.folder.display().to_string().replace('/', "%2F");
        self.url = format!("postgres://postgres@{folder}:{port}/postgres");
        let until = Instant::now() + Duration::from_secs(30);
        while Client::connect(&self.url, NoTls).is_err() {
            if Instant::now() > until {
                let said = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("the server does not start; it said: {said}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let mut stop = self.command(&self.programs.join("pg_ctl"));
            stop.args(["-D", "data", "-m", "immediate", "-w", "stop"]).stderr(Stdio::null());
            if !stop.status().is_ok_and(|s| s.success()) {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Where `initdb` and `postgres` are: on the path, or the newest of Debian's.
fn programs() -> Option<PathBuf> {
    let has = |folder: &PathBuf| ["initdb", "postgres", "pg_ctl"].iter().all(|p| folder.join(p).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(has);
    let number = |p: &PathBuf| -> u32 {
        p.parent().and_then(Path::file_name).and_then(|n| n.to_str()?.parse().ok()).unwrap_or_default()
    };
    let debian = || {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        versions.filter_map(|v| Some(v.ok()?.path().join("bin"))).filter(has).max_by_key(number)
    };
    on_path.or_else(debian)
}

//! Stopping, starting and checking a service with commands of the user's own.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Error, Result};
use crate::gate::Gate;
use crate::plan::{Control, Service};

/// How often a check is tried again.
const POLL: Duration = Duration::from_millis(100);
/// How much of a command's output an error shows.
const TAIL: u64 = 2048;

/// How a command ended.
enum End {
    Exit(ExitStatus),
    TimedOut,
    NotRun(std::io::Error),
}

struct Ended {
    end: End,
    output: String,
}

impl Ended {
    fn well(&self) -> bool {
        matches!(&self.end, End::Exit(status) if status.success())
    }

    fn cause(&self, timeout: Duration) -> String {
        match &self.end {
            End::Exit(status) => format!("its command ended with {status}"),
            End::TimedOut => format!("its command had not ended after {timeout:?} and was killed"),
            End::NotRun(cause) => format!("its command could not be run: {cause}"),
        }
    }
}

pub(super) fn stop(service: &Service, folder: &Path, gate: &Gate) -> Result<()> {
    gate.pass(&format!("stop service {}", service.name), || {
        let begun = Instant::now();
        let ended = run(service, "stop", folder, service.timeout);
        if !ended.well() {
            let hint = "a stop command has to succeed, too when the service does not run; \
                        raise the service's `timeout` if it needs longer";
            return Err(error(service, "stop", ended.cause(service.timeout), ended.output, hint));
        }
        if !has_check(service) {
            return Ok(());
        }
        // nobody may be writing from here on, so that the command says it is done is not enough
        loop {
            let left = service.timeout.saturating_sub(begun.elapsed());
            if !run(service, "check", folder, left.max(POLL)).well() {
                return Ok(());
            }
            if left.is_zero() {
                let cause = "its stop command succeeded, but its check does still".to_owned();
                let hint = "stop the service by hand and see whether `check` fails then, as it has to";
                return Err(error(service, "stop", cause, ended.output, hint));
            }
            std::thread::sleep(POLL.min(left));
        }
    })
}

pub(super) fn start(service: &Service, folder: &Path, gate: &Gate) -> Result<()> {
    gate.pass(&format!("start service {}", service.name), || {
        let ended = run(service, "start", folder, service.timeout);
        if ended.well() {
            return Ok(());
        }
        let hint = match ended.end {
            End::TimedOut => {
                "a start command has to return and leave the service running: end it with `&`, or use systemd"
            }
            _ => "start it by hand to see what is wrong; a start command has to succeed, too when the service runs",
        };
        Err(error(service, "start", ended.cause(service.timeout), ended.output, hint))
    })
}

pub(super) fn check(service: &Service, folder: &Path, gate: &Gate) -> Result<()> {
    if !has_check(service) {
        return Ok(());
    }
    gate.pass(&format!("check service {}", service.name), || {
        let begun = Instant::now();
        loop {
            let left = service.timeout.saturating_sub(begun.elapsed());
            let ended = run(service, "check", folder, left.max(POLL));
            if ended.well() {
                return Ok(());
            }
            let left = service.timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let cause = format!("not well after {:?}: {}", service.timeout, ended.cause(service.timeout));
                let hint = "see its own log; raise the service's `timeout` if it needs longer";
                return Err(error(service, "check", cause, ended.output, hint));
            }
            std::thread::sleep(POLL.min(left));
        }
    })
}

fn has_check(service: &Service) -> bool {
    !matches!(&service.control, Control::Commands { check: None, .. })
}

fn error(service: &Service, operation: &'static str, cause: String, output: String, hint: &str) -> Error {
    Error::Service { operation, object: format!("service `{}`", service.name), cause, output, hint: hint.to_owned() }
}

/// Program and arguments for `stop`, `start` or `check`.
fn words<'s>(service: &'s Service, action: &'s str) -> (&'static str, Vec<&'s str>) {
    match &service.control {
        Control::Systemd(unit) => ("systemctl", vec![if action == "check" { "is-active" } else { action }, unit]),
        Control::Commands { stop, start, check } => {
            let command = match action {
                "stop" => stop,
                "start" => start,
                _ => check.as_ref().unwrap_or(stop),
            };
            ("sh", vec!["-c", command])
        }
    }
}

/// Runs a command in a process group of its own. Its output goes to a file, not to a pipe: a service that goes on
/// running keeps it open, and must neither hold us up nor break when we are gone.
fn run(service: &Service, action: &str, folder: &Path, timeout: Duration) -> Ended {
    let log = log_file(service, action, folder);
    let output =
        || -> Stdio { log.as_ref().and_then(|file| file.try_clone().ok()).map_or_else(Stdio::null, Stdio::from) };
    let (program, words) = words(service, action);
    let spawned = Command::new(program)
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .process_group(0)
        .spawn();
    let end = match spawned {
        Err(cause) => End::NotRun(cause),
        Ok(child) => wait(child, timeout),
    };
    Ended { end, output: log.map(last_words).unwrap_or_default() }
}

/// Waits for the child; kills its whole group when the time is over. Leaves no zombie either way.
fn wait(mut child: Child, timeout: Duration) -> End {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return End::Exit(status),
            Err(cause) => return End::NotRun(cause),
            Ok(None) if begun.elapsed() >= timeout => {
                if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    // its leader is our child and not yet waited for, so the number is still its own
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait();
                return End::TimedOut;
            }
            Ok(None) => {
                std::thread::sleep(pause.min(timeout.saturating_sub(begun.elapsed())));
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
    }
}

/// `.backout/service-NAME.ACTION.log`, emptied; `None` if it cannot be made, which must not keep a service from being
/// stopped.
fn log_file(service: &Service, action: &str, folder: &Path) -> Option<File> {
    let name: String =
        service.name.chars().map(|c| if c.is_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' }).collect();
    let folder = folder.join(".backout");
    std::fs::create_dir_all(&folder).ok()?;
    let path = folder.join(format!("service-{name}.{action}.log"));
    let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path).ok()?;
    file.set_len(0).ok()?;
    Some(file)
}

fn last_words(mut file: File) -> String {
    let end = file.seek(SeekFrom::End(0)).unwrap_or(0);
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(end.saturating_sub(TAIL))).is_err() || file.take(TAIL).read_to_end(&mut bytes).is_err()
    {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end();
    let printable = text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c });
    let text: String = printable.collect();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_asked_in_its_own_words() {
        let service = Service {
            name: "bot".into(),
            control: Control::Systemd("discord-bot".into()),
            timeout: Duration::from_secs(1),
        };
        let all: Vec<_> = ["stop", "start", "check"].iter().map(|action| words(&service, action)).collect();
        let wanted = ["stop", "start", "is-active"].map(|action| ("systemctl", vec![action, "discord-bot"]));
        assert_eq!(all, wanted);
    }
}

//! Commands that are cut off, and how.

use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use backout::gate::Gate;
use backout::migrate::{Failure, Outcome, Project, RollbackOptions, UpOptions};

use super::in_full;
use crate::room::{Kind, Pair, Room};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Effect n fails once.
    Fails,
    /// The command dies in place of effect n: nothing that it would do about it is done. Its files and connections are closed,
    /// as the system closes those of a program that was killed.
    Dies,
    /// Effect n happens, and is told to have failed.
    Loses,
    /// The real program is killed in place of effect n.
    Killed,
}

impl How {
    /// Which n of a command are struck so: the first, and how far apart; odd, because what is done afterwards alternates. Without a
    /// server, which costs most of the time, each n in every way; with one some of them, and `scripts/campaign` plays them all.
    pub fn which(self, pair: Pair) -> (u64, u64) {
        match self {
            _ if in_full(pair) => (1, 1),
            How::Dies if pair == (Pair { from: Kind::Sqlite, to: Kind::Postgres }) => (1, 3),
            How::Dies | How::Killed => (2, 5),
            How::Fails => (1, 13),
            How::Loses => (3, 13),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    Up,
    Resume,
    Rollback,
    Abort,
    Complete {
        delete: bool,
    },
    Emergency,
    Salvage,
    Discard,
    /// Back to what was carried by then.
    Until(jiff::Timestamp),
    Repair,
}

impl Act {
    pub fn perform(self, project: &Project) -> Result<Outcome, Failure> {
        match self {
            // whoever goes on has seen what was called off
            Act::Up => project.up(&UpOptions { acknowledge: true, ..UpOptions::default() }),
            Act::Resume => project.resume(None),
            Act::Rollback => project.rollback(&RollbackOptions::default()),
            Act::Abort => project.abort(),
            Act::Complete { delete } => project.complete(delete),
            Act::Emergency | Act::Salvage | Act::Discard | Act::Until(_) => self.part(project),
            Act::Repair => super::mend::mend(project),
        }
    }

    pub fn words(self) -> &'static [&'static str] {
        match self {
            Act::Up => &["up"],
            Act::Resume => &["resume"],
            Act::Rollback => &["rollback"],
            Act::Abort => &["abort"],
            Act::Emergency => &["rollback", "--emergency"],
            Act::Salvage => &["salvage"],
            Act::Discard => &["rollback", "--discard"],
            Act::Complete { delete: false } => &["complete", "--confirm", "sweep"],
            Act::Repair => &["repair"],
            Act::Until(_) => unreachable!("its words depend on the moment"),
            Act::Complete { delete: true } => &["complete", "--confirm", "sweep", "--delete-source"],
        }
    }
}

/// What is thrown in place of an effect at which the command dies.
struct Death;

/// Performs `act`, struck at effect `n`. `None`: it never came to that effect, and passed; else what the effect was.
pub fn strike(room: &Room, act: Act, how: How, n: u64) -> Option<String> {
    if how == How::Killed {
        return kill(room, act, n);
    }
    strike_at(room.project(), how, n, |project| act.perform(project).map(drop))
}

/// The same for any command.
pub fn strike_at(
    project: Project,
    how: How,
    n: u64,
    command: impl FnOnce(&Project) -> Result<(), Failure>,
) -> Option<String> {
    let hit = Arc::new(Mutex::new(None));
    let tell = {
        let hit = hit.clone();
        move |what: &str| *hit.lock().unwrap() = Some(what.to_owned())
    };
    let gate = match how {
        How::Fails => Gate::with_trap(n, tell),
        How::Loses => Gate::losing(n, tell),
        How::Dies => {
            let passed = AtomicU64::new(0);
            // in whichever thread: the others come no further than to their next effect
            Gate::watched(move |what| {
                let now = passed.fetch_add(1, Ordering::SeqCst) + 1;
                if now == n {
                    tell(what);
                }
                if now >= n {
                    resume_unwind(Box::new(Death));
                }
            })
        }
        How::Killed => unreachable!("only the real program is killed"),
    };
    let project = project.gated(gate);
    let done = match catch_unwind(AssertUnwindSafe(|| command(&project))) {
        Ok(done) => Some(done),
        Err(death) if death.is::<Death>() => None,
        Err(panic) => resume_unwind(panic),
    };
    let hit = hit.lock().unwrap().take();
    if hit.is_none() {
        done.unwrap().unwrap();
    }
    hit
}

/// Performs `act`; at effect `n`, before it happens, so does `mishap`. `None`: it never came to that effect. Else what the
/// effect was, and how the command ended.
pub fn meanwhile(
    room: &Room,
    act: Act,
    n: u64,
    mishap: impl Fn() + Send + Sync + 'static,
) -> Option<(String, Result<Outcome, Failure>)> {
    let hit = Arc::new(Mutex::new(None));
    let (tell, passed) = (hit.clone(), AtomicU64::new(0));
    let gate = Gate::watched(move |what| {
        if passed.fetch_add(1, Ordering::SeqCst) + 1 == n {
            *tell.lock().unwrap() = Some(what.to_owned());
            mishap();
        }
    });
    let done = act.perform(&room.project().gated(gate));
    let hit = hit.lock().unwrap().take();
    hit.map(|what| (what, done))
}

fn kill(room: &Room, act: Act, n: u64) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backout"));
    command.arg("-q").args(act.words()).current_dir(room.folder.path()).env("BACKOUT_GATE", format!("kill:{n}"));
    let out = command.output().unwrap();
    if out.status.signal() == Some(9) {
        return Some("killed".into());
    }
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    None
}

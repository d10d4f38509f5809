//! Disks that are full, and a state directory that disappears.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use backout::gate::Gate;
use tempfile::TempDir;

use crate::room::{Kind, PAIRS, Pair, Pool, Room, folder};
use crate::sweep::strike::{Act, meanwhile};
use crate::sweep::{after_rollback, after_up, full_grid, sweep};

/// A file system of one mebibyte.
struct Disk {
    at: TempDir,
}

impl Disk {
    fn mount() -> Disk {
        let at = folder();
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at.path()).output().unwrap();
        assert!(
            done.status.success(),
            "a small disk cannot be mounted here, which takes root: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Disk { at }
    }

    fn path(&self) -> &Path {
        self.at.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.at.path()).status();
    }
}

/// Not a byte is left.
fn fill(filler: &Path) {
    let mut file = File::create(filler).unwrap();
    for size in [1 << 16, 4096, 1] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
}

/// The disk with the file and everything of ours is full from effect n on, until the command has ended.
fn full(pair: Pair, act: Act) {
    sweep(&format!("{pair}: {act:?}, disk full"), |n| {
        let disk = Disk::mount();
        let place = tempfile::tempdir_in(disk.path()).unwrap();
        let mut room = Room::within(pair, place);
        if matches!(act, Act::Rollback) {
            room.write();
            room.up();
            room.write();
        }
        let filler: PathBuf = disk.path().join("filler");
        let fills = filler.clone();
        let ended = meanwhile(&room, act, n, move || fill(&fills));
        // emptied first: a child of another thread may hold it open for a moment
        if let Ok(file) = File::options().write(true).open(&filler) {
            file.set_len(0).unwrap();
            std::fs::remove_file(filler).unwrap();
        }
        if ended.is_some() {
            crate::sweep::shown(n, ended.as_ref().map(|e| &e.0), || match act {
                Act::Up => after_up(&mut room, n, n % 2 == 0),
                _ => after_rollback(&mut room, n),
            });
        }
        room.leave();
        ended.map(|e| e.0)
    });
}

const JSON_TO_SQLITE: Pair = Pair { from: Kind::Json, to: Kind::Sqlite };
const SQLITE_TO_POSTGRES: Pair = Pair { from: Kind::Sqlite, to: Kind::Postgres };

#[test]
fn disk_full_on_the_way_up() {
    full(JSON_TO_SQLITE, Act::Up);
}

#[test]
fn disk_full_on_the_way_back() {
    full(JSON_TO_SQLITE, Act::Rollback);
}

#[test]
fn disk_full_of_a_source_that_goes_to_postgres() {
    full(SQLITE_TO_POSTGRES, Act::Up);
    if full_grid() {
        full(SQLITE_TO_POSTGRES, Act::Rollback);
    }
}

/// It is deleted before every effect at once; in the whole grid before each one alone, too.
#[test]
fn p02_the_state_directory_is_deleted_at_every_effect() {
    let _pool = Pool::open();
    for pair in PAIRS {
        let mut room = Room::new(pair);
        let perform = |room: &Room, act: Act| {
            let gone = room.path(".backout");
            let gate = Gate::watched(move |_| drop(std::fs::remove_dir_all(&gone)));
            act.perform(&room.project().gated(gate)).unwrap();
        };
        room.write();
        perform(&room, Act::Up);
        room.is_soaking();
        perform(&room, Act::Rollback);
        room.is_home();
        perform(&room, Act::Up);
        perform(&room, Act::Complete { delete: false });
        room.is_completed(false);
        room.leave();
        if full_grid() {
            for act in [Act::Up, Act::Rollback] {
                sweep(&format!("{pair}: {act:?}, state directory deleted"), |n| {
                    let mut room = if matches!(act, Act::Up) { Room::new(pair) } else { Room::soaking(pair) };
                    let gone = room.path(".backout");
                    let ended = meanwhile(&room, act, n, move || drop(std::fs::remove_dir_all(&gone)));
                    if let Some((_, done)) = &ended {
                        assert!(done.is_ok(), "{done:?}");
                    }
                    if matches!(act, Act::Up) {
                        room.is_soaking()
                    } else {
                        room.is_home()
                    }
                    room.leave();
                    ended.map(|e| e.0)
                });
            }
        }
    }
}

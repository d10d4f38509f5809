//! Files that are replaced as a whole, durably, each step through the gate.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};

use super::{Error, Result};
use crate::gate::Gate;

/// Whose a file is and who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

/// A file's content and rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub bytes: Vec<u8>,
    pub rights: Rights,
}

/// The file itself, where `path` is a symlink to it; there need not be one.
pub(super) fn resolve(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..40 {
        let Ok(link) = std::fs::read_link(&path) else { break };
        path = folder_of(&path).join(link);
    }
    // the same file by whatever way it was named
    match (folder_of(&path).canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}

/// The file with an ending added to its name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |cause| {
        use std::io::ErrorKind as Kind;
        let hint = match cause.kind() {
            Kind::PermissionDenied => "run Backout as the owner of this file, or as root",
            Kind::NotFound => "see whether its folder is there",
            Kind::ResourceBusy => "a file that is mounted by itself cannot be replaced: mount its folder",
            Kind::StorageFull | Kind::QuotaExceeded => "make room on this disk and run it again",
            _ => "nothing was changed by this step; run it again",
        };
        Error::File { operation, path, cause, hint: hint.to_owned() }
    }
}

/// What a file holds; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Content>> {
    let read = || -> std::io::Result<Content> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok(Content { bytes, rights: Rights { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o7777 } })
    };
    match read() {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(failed("read", path)(cause)),
    }
}

/// Puts `bytes` in place of what `path` holds, if anything: a new file beside it, named `temp`, is written and made
/// durable, then renamed. Whoever looks sees the one or the other, whole. Without `rights` the file is ours alone.
pub(super) fn replace(path: &Path, temp: &Path, bytes: &[u8], rights: Option<Rights>, gate: &Gate) -> Result<()> {
    gate.pass(&format!("write {}", temp.display()), || {
        let write = || -> std::io::Result<()> {
            match std::fs::remove_file(temp) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temp)?;
            file.write_all(bytes)?;
            if let Some(rights) = rights {
                let meta = file.metadata()?;
                if (meta.uid(), meta.gid()) != (rights.uid, rights.gid) {
                    rustix::fs::fchown(&file, Some(Uid::from_raw(rights.uid)), Some(Gid::from_raw(rights.gid)))?;
                }
                file.set_permissions(std::fs::Permissions::from_mode(rights.mode))?;
            }
            file.sync_all()
        };
        write().map_err(|cause| {
            let _ = std::fs::remove_file(temp);
            failed("write", temp)(cause)
        })
    })?;
    gate.pass(&format!("rename to {}", path.display()), || {
        std::fs::rename(temp, path).map_err(failed("replace", path))
    })?;
    sync_folder(path, gate)
}

/// Removes a file, if it is there, durably.
pub(super) fn remove(path: &Path, gate: &Gate) -> Result<()> {
    if std::fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    gate.pass(&format!("remove {}", path.display()), || match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", path)(cause)),
        _ => Ok(()),
    })?;
    sync_folder(path, gate)
}

/// Makes a renaming or removal in the file's folder durable.
pub(super) fn sync_folder(path: &Path, gate: &Gate) -> Result<()> {
    let folder = folder_of(path);
    gate.pass(&format!("sync {}", folder.display()), || {
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder", &folder))
    })
}

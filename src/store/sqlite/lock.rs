//! The one lock for runs: an OS lock on a file beside the database, free at once when its holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::store::{Error, Result};

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    // unlocked by closing it, after the path is gone
    _file: File,
}

impl Lock {
    /// Takes it, asking again and again for at most `wait`.
    pub fn take(database: &Path, title: &str, wait: Duration) -> Result<Lock> {
        // the same lock by whichever link the file was reached
        let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
        let mut name = real.into_os_string();
        name.push("-backout-lock");
        let path = PathBuf::from(name);
        let failed = |operation: &str, cause| Error::File {
            operation: operation.into(),
            path: path.display().to_string(),
            cause,
        };
        let since = Instant::now();
        loop {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(
                |e| match e.kind() {
                    std::io::ErrorKind::PermissionDenied => Error::Refused {
                        store: title.into(),
                        cause: format!("the lock {} may not be made beside it", path.display()),
                        hint: "give the user who runs this the right to write in the database's folder".into(),
                    },
                    _ => failed("open", e),
                },
            )?;
            match file.try_lock() {
                Ok(()) => {
                    // the last holder may have removed the file between our open and our lock: then we hold nothing
                    let ours = file.metadata().map_err(|e| failed("look at", e))?.ino();
                    if std::fs::metadata(&path).is_ok_and(|m| m.ino() == ours) {
                        file.set_len(0)
                            .and_then(|()| file.rewind())
                            .and_then(|()| write!(file, "{}", std::process::id()))
                            .map_err(|e| failed("write", e))?;
                        return Ok(Lock { path, _file: file });
                    }
                }
                Err(TryLockError::WouldBlock) if since.elapsed() >= wait => {
                    let mut holder = String::new();
                    // only for the message
                    let _ = file.read_to_string(&mut holder);
                    let holder = if holder.is_empty() { "another process".into() } else { format!("process {holder}") };
                    return Err(Error::Locked {
                        store: title.into(),
                        cause: format!("{holder} is working on it; waited {:.1} s", since.elapsed().as_secs_f64()),
                    });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20).min(wait)),
                Err(TryLockError::Error(e)) => return Err(failed("lock", e)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // removed while still locked; whoever waits notices that the path is another file
        let _ = std::fs::remove_file(&self.path);
    }
}

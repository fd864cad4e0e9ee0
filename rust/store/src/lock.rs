//! One process per store: an advisory lock on `PATH.lock` that the kernel drops with its holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::{ErrorKind, StoreError};

/// Holds the lock until dropped. The file stays: removing it would race with the next holder, and a file
/// without a holder does not lock anyone out.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Said explicitly: a child that was just forked holds a copy of the descriptor until it executes.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Takes the lock at once or names who has it.
    pub(crate) fn acquire(path: &Path) -> Result<Self, StoreError> {
        let doing = |what: &str| format!("{what} {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| StoreError::io(&doing("open the lock file"), &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Best effort: the pid is for the operator, the lock is what counts.
                let _ = (&file).take(32).read_to_string(&mut holder);
                let holder = holder.trim();
                let who =
                    if holder.is_empty() { "another process".into() } else { format!("process {holder}") };
                return Err(StoreError::new(
                    ErrorKind::Locked,
                    format!("{who} uses this store (lock {}); stop it first", path.display()),
                ));
            }
            Err(TryLockError::Error(e)) => return Err(StoreError::io(&doing("lock"), &e)),
        }
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .and_then(|()| file.set_len(0))
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|e| StoreError::io(&doing("write"), &e))?;
        Ok(Self { file })
    }
}

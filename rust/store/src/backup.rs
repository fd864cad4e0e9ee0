//! A copy of the whole store while it is in use, and how a store is made of one.
//!
//! The copy is of one moment: a connection of its own holds a snapshot (WAL) and copies it page by page, so that neither
//! the writer nor the readers wait. It is written beside its place, synced, and renamed: a file under the name that was
//! asked for is a whole backup. A row of `meta` says what it is.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use crate::lock::Lock;
use crate::open::{connect, create_directory, with_suffix};
use crate::record::{Credentials, StoredRow};
use crate::schema::{APPLICATION_ID, STEPS, migrate};
use crate::secret::SecretBytes;
use crate::shared::now_unix_ms;
use crate::{ErrorKind, StoreError, sessions, signal_record};

type Result<T> = std::result::Result<T, StoreError>;

/// Pages copied at once, 1 MiB; between two slices the disk is the writer's.
const SLICE_PAGES: i32 = 256;

/// Between two slices.
const PAUSE: Duration = Duration::from_millis(2);

/// The row of `meta` that makes a file a backup.
const MANIFEST: &str = "backup";

/// A backup that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// Of the file.
    pub bytes: u64,
    /// Sessions in it.
    pub sessions: u64,
    /// Its moment, Unix milliseconds.
    pub at_unix_ms: u64,
    /// How long it took, seconds.
    pub took_s: f64,
}

/// A store that was made of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Sessions in it.
    pub sessions: u64,
    /// Signal records that were changed so that none is used twice.
    pub changed: u64,
    /// Sessions whose credentials cannot be read; they are quarantined when the store is opened.
    pub unreadable: Vec<String>,
    /// When the backup was made, Unix milliseconds.
    pub at_unix_ms: u64,
    /// Where the store that was there is now.
    pub moved_to: Option<PathBuf>,
}

/// What to do with a session's records, and a change of one: kind, id, and the record in our own form, or `None` to
/// remove it.
pub type Change = (String, String, Option<SecretBytes>);

/// Copies the store at `path` into `file`, which must not exist. `version` is that of the program.
///
/// Errors: `exists`, `disk_full`, `io`; nothing is left under the name of `file` then.
pub(crate) fn backup(path: &Path, file: &Path, version: &str) -> Result<Made> {
    let started = Instant::now();
    if file.exists() {
        return Err(StoreError::new(
            ErrorKind::Exists,
            format!("{} exists; name a new file", file.display()),
        ));
    }
    let partial = with_suffix(file, &format!(".partial-{}", std::process::id()));
    let made = copy(path, &partial, version).and_then(|(sessions, at_unix_ms)| {
        let bytes = sync(&partial)?;
        rename(&partial, file)?;
        Ok(Made { bytes, sessions, at_unix_ms, took_s: started.elapsed().as_secs_f64() })
    });
    if made.is_err() {
        // Best effort: the error is what counts.
        let _ = fs::remove_file(&partial);
        let _ = fs::remove_file(with_suffix(&partial, "-journal"));
    }
    made
}

fn copy(path: &Path, partial: &Path, version: &str) -> Result<(u64, u64)> {
    let source = connect(path)?;
    source.pragma_update(None, "query_only", true)?;
    // The snapshot begins with the first read, and lasts as long as the transaction.
    source.execute_batch("BEGIN")?;
    let sessions = source.query_row("SELECT count(*) FROM session", [], number)?;
    let at_unix_ms = now_unix_ms();
    new_file(partial)?;
    let mut target = connect(partial)?;
    {
        let backup = Backup::new(&source, &mut target)?;
        while backup.step(SLICE_PAGES)? == StepResult::More {
            std::thread::sleep(PAUSE);
        }
    }
    drop(source);
    // One file, without a log beside it.
    let _: String = target.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
    let manifest = format!(
        r#"{{"version":"{version}","schema":{},"atUnixMs":{at_unix_ms},"sessions":{sessions}}}"#,
        STEPS.len()
    );
    target
        .execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", params![MANIFEST, manifest])?;
    target.close().map_err(|(_, error)| error)?;
    Ok((sessions, at_unix_ms))
}

/// Makes a store at `path` of a backup. No process may hold that store. `stale` says how each session's records change.
///
/// Nothing is touched before the file was checked as a whole. A store that has sessions stays, unless `replace`: then it is
/// moved aside first.
///
/// Errors: `locked`; `exists` (the store has sessions); `damaged` (the file is no whole backup), `newer_schema`,
/// `disk_full`, `io`.
pub fn restore(
    path: &Path,
    file: &Path,
    replace: bool,
    stale: &mut dyn FnMut(&Credentials, Vec<StoredRow>) -> Vec<Change>,
) -> Result<Restored> {
    let at_unix_ms = check(file)?;
    create_directory(path)?;
    let _lock = Lock::acquire(&with_suffix(path, ".lock"))?;
    if !replace && let Some(what) = held(path) {
        return Err(StoreError::new(
            ErrorKind::Exists,
            format!("{} {what}; --replace moves it aside first", path.display()),
        ));
    }
    let making = with_suffix(path, ".restoring");
    for leftover in [making.clone(), with_suffix(&making, "-journal")] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io(&format!("remove {}", leftover.display()), &error));
            }
            _ => {}
        }
    }
    new_file(&making)?;
    fs::copy(file, &making).map_err(|e| StoreError::io(&format!("copy {}", file.display()), &e))?;
    fs::set_permissions(&making, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(|e| StoreError::io(&format!("restrict {}", making.display()), &e))?;
    let mut restored = make_stale(&making, stale)?;
    restored.at_unix_ms = at_unix_ms;
    sync(&making)?;
    restored.moved_to = move_aside(path)?;
    rename(&making, path)?;
    Ok(restored)
}

/// When the backup in `file` was made. Errors: it is none, or not whole.
fn check(file: &Path) -> Result<u64> {
    let no_backup = |why: &str| {
        StoreError::new(
            ErrorKind::Damaged,
            format!("{} is no backup that can be restored: {why}; name another file", file.display()),
        )
    };
    if !file.is_file() {
        return Err(no_backup("there is no such file"));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    let read = |error: rusqlite::Error| no_backup(&error.to_string());
    let application_id: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(read)?;
    if application_id != APPLICATION_ID {
        return Err(no_backup("it is no file of this program"));
    }
    let version: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .map_err(read)? as usize;
    if version > STEPS.len() {
        return Err(StoreError::new(
            ErrorKind::NewerSchema,
            format!(
                "{} has schema version {version}, this program knows up to {}; update the program",
                file.display(),
                STEPS.len()
            ),
        ));
    }
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(read)?;
    if verdict != "ok" {
        return Err(no_backup(&verdict));
    }
    let at = connection
        .query_row("SELECT value ->> 'atUnixMs' FROM meta WHERE key = ?1", [MANIFEST], number)
        .optional()
        .map_err(read)?;
    at.ok_or_else(|| no_backup("it has no manifest; `runner backup FILE` makes one, a copied store is none"))
}

/// What is in the way at `path`.
fn held(path: &Path) -> Option<String> {
    if !path.exists() {
        return None;
    }
    let count = || -> Result<u64> {
        let connection = connect(path)?;
        connection.pragma_update(None, "query_only", true)?;
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'session'";
        let tables = connection.query_row(sql, [], number)?;
        if tables == 0 {
            return Ok(0);
        }
        Ok(connection.query_row("SELECT count(*) FROM session", [], number)?)
    };
    match count() {
        Ok(0) => None,
        Ok(sessions) => Some(format!("has {sessions} sessions")),
        Err(error) => Some(format!("cannot be read ({error})")),
    }
}

fn make_stale(
    making: &Path,
    stale: &mut dyn FnMut(&Credentials, Vec<StoredRow>) -> Vec<Change>,
) -> Result<Restored> {
    let mut connection = connect(making)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", true)?;
    migrate(&mut connection, STEPS)?;
    let mut restored =
        Restored { sessions: 0, changed: 0, unreadable: Vec::new(), at_unix_ms: 0, moved_to: None };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for session in sessions::list(&transaction)? {
        restored.sessions += 1;
        let id = session.session_id;
        let credentials = match sessions::read_device(&transaction, &id)? {
            Some(Ok((credentials, _))) => Credentials { lid: session.lid, ..credentials },
            Some(Err(_)) => {
                restored.unreadable.push(id);
                continue;
            }
            None => continue,
        };
        let (rows, _) = sessions::rows(&transaction, &id)?;
        for (kind, key, value) in stale(&credentials, rows) {
            restored.changed += 1;
            match value {
                Some(value) => {
                    signal_record::put_named(&transaction, &id, &kind, &key, value.expose())?;
                }
                None => signal_record::remove_named(&transaction, &id, &kind, &key)?,
            }
        }
    }
    transaction.execute("DELETE FROM meta WHERE key = ?1", [MANIFEST])?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(restored)
}

/// Moves what is at `path`, its log included, to `PATH.replaced-<unix>`.
fn move_aside(path: &Path) -> Result<Option<PathBuf>> {
    if !path.exists() {
        return Ok(None);
    }
    let mut at_s = now_unix_ms() / 1000;
    let mut kept = with_suffix(path, &format!(".replaced-{at_s}"));
    while kept.exists() {
        at_s += 1;
        kept = with_suffix(path, &format!(".replaced-{at_s}"));
    }
    // The log first: SQLite must never replay it into the new file.
    for suffix in ["-wal", "-shm", ""] {
        let from = with_suffix(path, suffix);
        if from.exists() {
            rename(&from, &with_suffix(&kept, suffix))?;
        }
    }
    Ok(Some(kept))
}

fn new_file(path: &Path) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|e| StoreError::io(&format!("create {}", path.display()), &e))
}

/// Onto the disk; its size.
fn sync(path: &Path) -> Result<u64> {
    let synced = File::open(path).and_then(|file| {
        file.sync_all()?;
        Ok(file.metadata()?.len())
    });
    synced.map_err(|e| StoreError::io(&format!("sync {}", path.display()), &e))
}

/// Renames, and makes that durable.
fn rename(from: &Path, to: &Path) -> Result<()> {
    let directory = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::rename(from, to)
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(|e| StoreError::io(&format!("rename {} to {}", from.display(), to.display()), &e))
}

fn number(row: &rusqlite::Row<'_>) -> rusqlite::Result<u64> {
    row.get::<_, i64>(0).map(i64::cast_unsigned)
}

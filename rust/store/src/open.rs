//! Opening: the directory, the lock, the file's rights, its health, its schema, its credentials.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::lock::Lock;
use crate::record::OpenReport;
use crate::schema::{STEPS, migrate};
use crate::shared::now_unix_ms;
use crate::{ErrorKind, Options, StoreError, salvage, sessions};

type Result<T> = std::result::Result<T, StoreError>;

/// An open store before its thread is started.
pub(crate) struct Opened {
    pub(crate) writer: Connection,
    pub(crate) reader: Connection,
    pub(crate) lock: Lock,
    pub(crate) wal: PathBuf,
    pub(crate) report: OpenReport,
}

pub(crate) fn open(path: &Path, options: &Options) -> Result<Opened> {
    create_directory(path)?;
    let lock = Lock::acquire(&with_suffix(path, ".lock"))?;
    let mut report = OpenReport::default();
    if salvage::finish_interrupted(path)? {
        report.lines.push("an interrupted salvage was finished".into());
    }
    prepare_file(path, &mut report)?;
    if let Some(line) = salvage::keep_damaged_log(path)? {
        report.lines.push(line);
    }
    if let Some(why) = salvage::damage(path)? {
        report.lines.extend(salvage::salvage(path, &why)?);
    }
    let mut writer = connect(path)?;
    configure(&writer, options)?;
    let from = migrate(&mut writer, STEPS)?;
    if (1..STEPS.len()).contains(&from) {
        report.lines.push(format!("schema brought from version {from} to {}", STEPS.len()));
    }
    check_devices(&mut writer, &mut report)?;
    // From here on the writer waits for a lock in its own way (`Writer::begin`).
    writer.busy_timeout(LOCK_TRY)?;
    let reader = connect(path)?;
    reader.pragma_update(None, "query_only", true)?;
    reader.pragma_update(None, "cache_size", READER_CACHE_KIB)?;
    Ok(Opened { writer, reader, lock, wal: with_suffix(path, "-wal"), report })
}

/// How long SQLite waits for the write lock before the writer looks around: what is asked meanwhile waits that long.
const LOCK_TRY: Duration = Duration::from_millis(20);

/// Page caches; negative means KiB to SQLite.
const WRITER_CACHE_KIB: i64 = -8 * 1024;
const READER_CACHE_KIB: i64 = -2 * 1024;

/// `PATH` with something appended to its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

pub(crate) fn create_directory(path: &Path) -> Result<()> {
    let Some(directory) = path.parent().filter(|p| !p.as_os_str().is_empty()) else { return Ok(()) };
    if directory.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|e| StoreError::io(&format!("create {}", directory.display()), &e))
}

/// Makes sure that the file exists and that only its owner can read it; SQLite gives the same rights to the
/// log and the index beside it.
fn prepare_file(path: &Path, report: &mut OpenReport) -> Result<()> {
    let doing = |what: &str| format!("{what} {}", path.display());
    let was_there = path.exists();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| StoreError::io(&doing("open"), &e))?;
    let found = file.metadata().map_err(|e| StoreError::io(&doing("inspect"), &e))?;
    if was_there && found.len() == 0 {
        report.lines.push(format!(
            "{} was there and empty, and is made anew; if it had sessions, restore a backup",
            path.display()
        ));
    }
    let mode = found.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(|e| StoreError::io(&doing("restrict"), &e))?;
        report.lines.push(format!(
            "{} was readable by others (mode {:o}); now 600",
            path.display(),
            mode & 0o777
        ));
    }
    for suffix in ["-wal", "-shm"] {
        let beside = with_suffix(path, suffix);
        if beside.exists() {
            fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))
                .map_err(|e| StoreError::io(&format!("restrict {}", beside.display()), &e))?;
        }
    }
    Ok(())
}

pub(crate) fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // A plan does not depend on what is bound. Else SQLite (with STAT4) makes that of `seq > ?` anew for each number.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// The settings that durability rests on.
pub(crate) fn configure(connection: &Connection, options: &Options) -> Result<()> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::new(
            ErrorKind::Io,
            format!(
                "the file system does not support a write-ahead log (journal mode {mode}); use a local disk"
            ),
        ));
    }
    // FULL: a commit returns after its fsync. The checkpoint is called by the writer, after the answers.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", WRITER_CACHE_KIB)?;
    // Removed credentials do not stay in free pages.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    if let Some(bytes) = options.max_file_bytes {
        let page_size: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page_size.max(1);
        connection.pragma_update(None, "max_page_count", pages.max(1))?;
    }
    Ok(())
}

/// Verifies every row of credentials, so that a damaged one is known before anything is dialled.
fn check_devices(connection: &mut Connection, report: &mut OpenReport) -> Result<()> {
    let sessions = sessions::list(connection)?;
    let transaction = connection.transaction()?;
    for session in sessions.iter().filter(|s| s.quarantined.is_none()) {
        let id = &session.session_id;
        let why = match sessions::read_device(&transaction, id)? {
            Some(Ok(_)) => continue,
            Some(Err(why)) => why,
            // A session that was linked has its device's jid.
            None if session.jid.is_none() => continue,
            None => "the credentials are missing".into(),
        };
        sessions::quarantine_device(&transaction, id, &why, now_unix_ms())?;
        report.lines.push(format!("session {id} quarantined: {why}"));
    }
    transaction.commit()?;
    Ok(())
}

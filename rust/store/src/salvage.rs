//! A damaged file: keep it, read what can be read into a new one, say what is lost.
//!
//! The order of the steps makes a crash at any point harmless. The new file is built beside the old one under
//! `PATH.salvaging`, renamed to `PATH.salvaged` when it is complete and synced, and only then the old file
//! gives way; an interrupted change-over is finished by the next open. Until then `PATH` is untouched.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::open::with_suffix;
use crate::schema::{STEPS, migrate};
use crate::shared::now_unix_ms;
use crate::{ErrorKind, StoreError, sessions, wal};

type Result<T> = std::result::Result<T, StoreError>;

/// Consumers remember sequence numbers; when the counter is lost the new one starts this far behind the last.
const SEQ_GAP: i64 = 1_000_000;

/// Largest stretch of an inbox that is searched row by row between two damaged places.
const MAX_PROBED: i64 = 1_000_000;

/// What is wrong with the file at `path`, or `None`. Reads all of it.
pub(crate) fn damage(path: &Path) -> Result<Option<String>> {
    let check = || -> Result<Option<String>> {
        let connection = crate::open::connect(path)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        // Closing must not copy the log of a damaged file back.
        connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok((found != "ok").then_some(found))
    };
    match check() {
        Err(error) if error.kind == ErrorKind::Damaged => Ok(Some(error.message)),
        other => other,
    }
}

/// Finishes a change-over that a crash interrupted. Returns whether there was one.
pub(crate) fn finish_interrupted(path: &Path) -> Result<bool> {
    let interrupted = with_suffix(path, ".salvaged").exists();
    if interrupted {
        change_over(path)?;
    }
    Ok(interrupted)
}

/// Keeps a copy of file and log when transactions in the log are lost to damage; returns what to tell.
///
/// SQLite itself would end the replay before them without a word. What lies before the damage is replayed.
pub(crate) fn keep_damaged_log(path: &Path) -> Result<Option<String>> {
    let log = with_suffix(path, "-wal");
    let found = wal::find_break(&log).map_err(|e| StoreError::io(&format!("read {}", log.display()), &e))?;
    let Some(found) = found else { return Ok(None) };
    let kept = keep_aside(path)?;
    Ok(Some(format!(
        "{} was damaged at frame {}: {} transactions are lost; file and log are kept as {}",
        log.display(),
        found.frame,
        found.lost_commits,
        kept.display()
    )))
}

/// Replaces the damaged file at `path` with what can be read of it; returns what to tell the operator.
///
/// Errors: `damaged` when no session can be read (nothing is changed); `disk_full`, `io`.
pub(crate) fn salvage(path: &Path, why: &str) -> Result<Vec<String>> {
    let kept = keep_aside(path)?;
    let target = with_suffix(path, ".salvaging");
    remove(&target)?;
    remove(&with_suffix(path, ".salvaging-journal"))?;
    let lines = match copy_readable(&kept, &target) {
        Ok(lines) => lines,
        Err(error) => {
            // The original was not changed, so its copy is of no use.
            for leftover in [target, kept.clone(), with_suffix(&kept, "-wal"), with_suffix(&kept, "-shm")] {
                remove(&leftover)?;
            }
            return Err(if error.kind == ErrorKind::Damaged { nothing_readable(path, why) } else { error });
        }
    };
    let sync = |p: &Path| File::open(p).and_then(|f| f.sync_all());
    sync(&target).map_err(|e| StoreError::io("sync the salvaged file", &e))?;
    rename(&target, &with_suffix(path, ".salvaged"))?;
    change_over(path)?;
    remove(&with_suffix(&kept, "-shm"))?;
    if fs::metadata(with_suffix(&kept, "-wal")).is_ok_and(|m| m.len() == 0) {
        remove(&with_suffix(&kept, "-wal"))?;
    }
    let mut report = vec![format!(
        "{} was damaged ({why}); it is kept as {}; \
         what could not be read of it may still be found with `sqlite3 FILE .recover`",
        path.display(),
        kept.display()
    )];
    report.extend(lines);
    record(path, &report)?;
    Ok(report)
}

fn nothing_readable(path: &Path, why: &str) -> StoreError {
    StoreError::new(
        ErrorKind::Damaged,
        format!(
            "{} is damaged and no session in it can be read ({why}); it was not changed. Restore it from a \
             backup, or move it away and link or import the devices again",
            path.display()
        ),
    )
}

/// `PATH.damaged-<unix>` and its log, beside the original.
fn keep_aside(path: &Path) -> Result<PathBuf> {
    let mut at_s = now_unix_ms() / 1000;
    let mut kept = with_suffix(path, &format!(".damaged-{at_s}"));
    while kept.exists() {
        at_s += 1;
        kept = with_suffix(path, &format!(".damaged-{at_s}"));
    }
    let doing = |e: std::io::Error| StoreError::io("keep the damaged file", &e);
    fs::copy(path, &kept).map_err(doing)?;
    let log = with_suffix(path, "-wal");
    if fs::metadata(&log).is_ok_and(|m| m.len() > 0) {
        fs::copy(&log, with_suffix(&kept, "-wal")).map_err(doing)?;
    }
    Ok(kept)
}

fn change_over(path: &Path) -> Result<()> {
    // The old log goes before the new file comes: it must never be replayed into it.
    for suffix in ["-wal", "-shm"] {
        remove(&with_suffix(path, suffix))?;
    }
    rename(&with_suffix(path, ".salvaged"), path)?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(|e| StoreError::io(&format!("sync {}", directory.display()), &e))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(&format!("remove {}", path.display()), &e))
        }
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| StoreError::io(&format!("rename {}", from.display()), &e))
}

/// The report also goes into the quarantine table, so that it is still there after the start-up lines scrolled by.
fn record(path: &Path, report: &[String]) -> Result<()> {
    let connection = crate::open::connect(path)?;
    report.iter().try_for_each(|line| sessions::note(&connection, "file", None, line, None, now_unix_ms()))
}

/// Copies every row that can be read from `source` into a new file at `target`.
fn copy_readable(source: &Path, target: &Path) -> Result<Vec<String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let old = Connection::open_with_flags(source, flags)?;
    old.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    old.pragma_update(None, "query_only", true)?;
    File::create_new(target)
        .and_then(|f| f.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)))
        .map_err(|e| StoreError::io("create the salvaged file", &e))?;
    let mut new = crate::open::connect(target)?;
    // The same schema, so that rows fit; the open that follows brings it up to date.
    let version: usize = old.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    if version > STEPS.len() {
        return Err(StoreError::new(
            ErrorKind::NewerSchema,
            format!(
                "the store is damaged and has schema version {version}; update the program to salvage it"
            ),
        ));
    }
    migrate(&mut new, STEPS.get(..version).unwrap_or(STEPS))?;
    let mut copy = Copy { old: &old, new: &new, lines: Vec::new() };
    new.execute_batch("BEGIN")?;
    copy.all()?;
    new.execute_batch("COMMIT")?;
    Ok(copy.lines)
}

struct Copy<'a> {
    old: &'a Connection,
    new: &'a Connection,
    lines: Vec<String>,
}

/// How far a scan of a table came.
struct Scan {
    /// The values of the first column that were copied last before the damage.
    last: Option<Value>,
    damaged: bool,
}

impl Copy<'_> {
    fn all(&mut self) -> Result<()> {
        // `policy` and `connection_state` have one row a session; `session` and `device` name each other's.
        self.table("session", "session_id")?;
        let known = self.session_ids()?;
        self.table("device", "session_id")?;
        self.table("archive", "archive_id")?;
        self.table("archive_device", "archive_id")?;
        self.table("quarantine", "quarantine_id")?;
        self.table("meta", "key")?;
        self.table("policy", "session_id")?;
        self.table("connection_state", "session_id")?;
        let known = self.adopt_devices(known)?;
        if known.is_empty() {
            return Err(StoreError::new(ErrorKind::Damaged, "no session can be read"));
        }
        self.keys_of_sessions(&known)?;
        self.table("archive_key", "archive_id")?;
        // An older file has no such tables.
        for (table, key) in [
            ("dead_letter", "seq"),
            ("webhook", "webhook_id"),
            ("event", "event_seq"),
            ("delivery", "seq"),
            ("spent", "spent_unix_ms, event_seq"),
            ("undelivered", "seq"),
        ] {
            if self.has(table)? {
                self.table(table, key)?;
            }
        }
        self.inbox()
    }

    fn has(&self, table: &str) -> Result<bool> {
        let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        Ok(self.new.query_row(sql, [table], |row| row.get(0))?)
    }

    fn session_ids(&self) -> Result<BTreeSet<String>> {
        let mut statement = self.new.prepare("SELECT session_id FROM session")?;
        let ids = statement.query_map([], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// Copies a table in both directions up to the damage.
    fn table(&mut self, table: &str, key: &str) -> Result<()> {
        let forward = self.scan(table, &format!("SELECT * FROM {table} ORDER BY {key}"))?;
        if forward.damaged {
            let backwards = key.replace(',', " DESC,") + " DESC";
            self.scan(table, &format!("SELECT * FROM {table} ORDER BY {backwards}"))?;
            // One b-tree may be whole where the other, over the same rows, is not.
            self.scan(table, &format!("SELECT * FROM {table} NOT INDEXED"))?;
            self.lines.push(format!("table {table}: some rows could not be read"));
        }
        Ok(())
    }

    /// Sessions whose own row is lost and whose credentials are not get a row again; sessions without
    /// credentials are quarantined when the file is checked.
    fn adopt_devices(&mut self, known: BTreeSet<String>) -> Result<BTreeSet<String>> {
        self.new.execute(
            "INSERT OR IGNORE INTO session (session_id, jid, lid, imported_at_unix_ms)
             SELECT session_id, jid, lid, ?1 FROM device",
            [now_unix_ms().cast_signed()],
        )?;
        let all = self.session_ids()?;
        for id in all.difference(&known) {
            self.lines.push(format!("session {id}: only its credentials could be read"));
            // It may have been archived or quarantined; nothing is dialled on a guess.
            let why =
                "its session row was lost with the damaged file; whether it was logged out is not known";
            sessions::quarantine_device(self.new, id, why, now_unix_ms())?;
        }
        Ok(all)
    }

    fn keys_of_sessions(&mut self, ids: &BTreeSet<String>) -> Result<()> {
        for id in ids {
            let quoted = id.replace('\'', "''");
            let keys = |order: &str| {
                format!(
                    "SELECT * FROM signal_key WHERE session_id = '{quoted}' ORDER BY kind {order}, id {order}"
                )
            };
            if self.scan("signal_key", &keys("ASC"))?.damaged {
                self.scan("signal_key", &keys("DESC"))?;
                self.lines.push(format!("session {id}: some Signal keys could not be read"));
            }
        }
        Ok(())
    }

    /// From both ends to the damage, then row by row in between.
    fn inbox(&mut self) -> Result<()> {
        let forward = self.scan("inbox", "SELECT * FROM inbox NOT INDEXED ORDER BY seq")?;
        let mut counter =
            self.old.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'inbox'", [], |row| {
                row.get::<_, i64>(0)
            });
        self.table("confirmed", "done_unix_ms, seq")?;
        if forward.damaged {
            let backward = self.scan("inbox", "SELECT * FROM inbox NOT INDEXED ORDER BY seq DESC")?;
            let bound = |scan: &Scan, otherwise: i64| match scan.last {
                Some(Value::Integer(seq)) => seq,
                _ => otherwise,
            };
            let first = bound(&forward, 0) + 1;
            let last = bound(&backward, counter.as_ref().copied().unwrap_or(first + MAX_PROBED) + 1) - 1;
            let mut lost = 0_u64;
            for seq in first..=last.min(first.saturating_add(MAX_PROBED)) {
                let row =
                    self.scan("inbox", &format!("SELECT * FROM inbox NOT INDEXED WHERE seq = {seq}"))?;
                lost += u64::from(row.damaged);
            }
            self.lines
                .push(format!("inbox: up to {lost} messages between {first} and {last} could not be read"));
        } else if counter.is_err() {
            counter = Ok(0);
        }
        // What is not known to be confirmed, or given up, is handed out again.
        self.new.execute(
            "INSERT INTO pending (seq) SELECT seq FROM inbox WHERE seq NOT IN (SELECT seq FROM confirmed)
                 AND (content IS NULL OR length(content) > 0)",
            [],
        )?;
        if self.has("undelivered")? {
            let given_up = "DELETE FROM pending WHERE seq IN
                 (SELECT what FROM undelivered WHERE sink IN ('app', 'undecryptable'))";
            self.new.execute(given_up, [])?;
        }
        let newest: Option<i64> = self.new.query_row("SELECT max(seq) FROM inbox", [], |row| row.get(0))?;
        let counter = counter.unwrap_or_else(|_| newest.unwrap_or(0) + SEQ_GAP).max(newest.unwrap_or(0));
        self.new.execute("DELETE FROM sqlite_sequence WHERE name = 'inbox'", [])?;
        self.new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('inbox', ?1)", [counter])?;
        Ok(())
    }

    /// Copies the rows of one query until its end or until the damage.
    fn scan(&self, table: &str, sql: &str) -> Result<Scan> {
        let mut scan = Scan { last: None, damaged: false };
        let mut statement = match self.old.prepare_cached(sql) {
            Ok(statement) => statement,
            Err(error) => return damaged_or(error, scan),
        };
        let columns = statement.column_count();
        let places = vec!["?"; columns].join(", ");
        // A damaged page may show a row twice, or one that breaks a rule of its table: neither is taken.
        let mut insert =
            self.new.prepare_cached(&format!("INSERT OR IGNORE INTO {table} VALUES ({places})"))?;
        let mut rows = statement.query([])?;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(scan),
                Err(error) => return damaged_or(error, scan),
            };
            let values = (0..columns).map(|i| row.get::<_, Value>(i)).collect::<rusqlite::Result<Vec<_>>>();
            let Ok(values) = values else {
                scan.damaged = true; // text that is not UTF-8
                continue;
            };
            scan.last = values.first().cloned();
            match insert.execute(params_from_iter(values)) {
                Ok(_) => {}
                Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                    scan.damaged = true
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn damaged_or(error: rusqlite::Error, scan: Scan) -> Result<Scan> {
    let error = StoreError::from(error);
    match error.kind {
        ErrorKind::Damaged => Ok(Scan { damaged: true, ..scan }),
        // "no such table": the schema page itself is gone, which SQLite does not call corruption.
        _ if error.message.contains("no such table") => Ok(Scan { damaged: true, ..scan }),
        _ => Err(error),
    }
}

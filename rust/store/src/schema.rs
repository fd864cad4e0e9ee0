//! Tables, and how an older file becomes a current one.
//!
//! A step is never edited once released; a change is a new step. Each runs in a transaction of its own with
//! its version number, so that a crash in between leaves a whole older or a whole newer file.

use rusqlite::{Connection, TransactionBehavior};

use crate::{ErrorKind, StoreError};

/// Marks the file as ours (`PRAGMA application_id`): "rnnr".
pub(crate) const APPLICATION_ID: i32 = 0x726e_6e72;

/// Version n is reached by `STEPS[n - 1]`.
pub(crate) const STEPS: &[&str] = &[V1];

/// `device` never changes after import: what a connection learns is in `connection_state`, so that a routing
/// change does not rewrite keys. `inbox` outlives its session: an answered message is the consumer's.
const V1: &str = "
CREATE TABLE session (
    session_id TEXT PRIMARY KEY,
    jid TEXT,
    lid TEXT,
    imported_at_unix_ms INTEGER NOT NULL,
    archived_why TEXT,
    archived_at_unix_ms INTEGER,
    quarantined_why TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE device (
    session_id TEXT NOT NULL UNIQUE,
    jid TEXT NOT NULL,
    lid TEXT,
    push_name TEXT,
    platform TEXT,
    registration_id INTEGER NOT NULL,
    noise_secret BLOB NOT NULL,
    identity_secret BLOB NOT NULL,
    signed_pre_key_id INTEGER NOT NULL,
    signed_pre_key_secret BLOB NOT NULL,
    signed_pre_key_signature BLOB NOT NULL,
    adv_secret BLOB NOT NULL,
    account BLOB,
    source BLOB NOT NULL,
    checksum BLOB NOT NULL
) STRICT;

CREATE TABLE signal_key (
    session_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    value BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (session_id, kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE connection_state (
    session_id TEXT PRIMARY KEY,
    routing_info BLOB,
    chain_raw BLOB,
    chain_leaf_key BLOB,
    chain_not_before INTEGER,
    chain_not_after INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE policy (
    session_id TEXT PRIMARY KEY,
    json TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    chat TEXT NOT NULL,
    sender TEXT NOT NULL,
    message_id TEXT NOT NULL,
    stanza BLOB NOT NULL,
    received_unix_ms INTEGER NOT NULL,
    done_unix_ms INTEGER,
    name BLOB NOT NULL UNIQUE
) STRICT;
CREATE INDEX inbox_pending ON inbox (seq) WHERE done_unix_ms IS NULL;
CREATE INDEX inbox_done ON inbox (done_unix_ms) WHERE done_unix_ms IS NOT NULL;

CREATE TABLE archive (
    archive_id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    why TEXT NOT NULL,
    at_unix_ms INTEGER NOT NULL,
    jid TEXT,
    lid TEXT,
    policy TEXT
) STRICT;

CREATE TABLE archive_device (
    archive_id INTEGER PRIMARY KEY,
    session_id TEXT,
    jid TEXT,
    lid TEXT,
    push_name TEXT,
    platform TEXT,
    registration_id INTEGER,
    noise_secret BLOB,
    identity_secret BLOB,
    signed_pre_key_id INTEGER,
    signed_pre_key_secret BLOB,
    signed_pre_key_signature BLOB,
    adv_secret BLOB,
    account BLOB,
    source BLOB,
    checksum BLOB
) STRICT;

CREATE TABLE archive_key (
    archive_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    value BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (archive_id, kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE probe (
    id INTEGER PRIMARY KEY,
    filler BLOB NOT NULL
) STRICT;

CREATE TABLE quarantine (
    quarantine_id INTEGER PRIMARY KEY AUTOINCREMENT,
    what TEXT NOT NULL,
    session_id TEXT,
    why TEXT NOT NULL,
    at_unix_ms INTEGER NOT NULL,
    content BLOB
) STRICT;
";

/// Brings the file to the newest version.
///
/// Returns the version it had. Errors: `newer_schema` when it has steps this program does not know, `io` when
/// it is another program's file; nothing is changed then.
pub(crate) fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<usize, StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application_id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application_id != APPLICATION_ID && tables > 0 {
        return Err(StoreError::new(
            ErrorKind::Io,
            "the file is an SQLite database of another program; name another path",
        ));
    }
    let from = usize::try_from(found).unwrap_or(usize::MAX);
    if from > steps.len() {
        return Err(StoreError::new(
            ErrorKind::NewerSchema,
            format!(
                "the store has schema version {found}, this program knows up to {}; update the program",
                steps.len()
            ),
        ));
    }
    for (done, step) in steps.iter().enumerate().skip(from) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", i64::try_from(done + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(from)
}

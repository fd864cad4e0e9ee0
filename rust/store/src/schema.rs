//! Tables, and how an older file becomes a current one.
//!
//! A step is never edited once released; a change is a new step. Each runs in a transaction of its own with
//! its version number, so that a crash in between leaves a whole older or a whole newer file.

use rusqlite::{Connection, TransactionBehavior};

use crate::{ErrorKind, StoreError};

/// Marks the file as ours (`PRAGMA application_id`): "rnnr".
pub(crate) const APPLICATION_ID: i32 = 0x726e_6e72;

/// Version n is reached by `STEPS[n - 1]`.
pub(crate) const STEPS: &[&str] = &[V1, V2, V3, V4, OUTBOX, UNREAD];

/// `device` never changes after import: what a connection learns is in `connection_state`, so that a routing
/// change does not rewrite keys. `inbox` outlives its session: an answered message is the consumer's. Every inbox
/// row is in `pending` or in `confirmed`, so that confirming a message moves a number and does not rewrite it.
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
    received_unix_ms INTEGER NOT NULL,
    name BLOB NOT NULL UNIQUE,
    stanza BLOB NOT NULL
) STRICT;

CREATE TABLE pending (
    seq INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE confirmed (
    done_unix_ms INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (done_unix_ms, seq)
) STRICT, WITHOUT ROWID;

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

/// Each import asks who holds its device; without an index, ten thousand imports read fifty million rows.
const V2: &str = "CREATE INDEX session_jid ON session (jid);";

/// Messages that could not be read and were refused, as they came. No rows of `inbox`: should the server give one
/// again to a version that reads it, that is a message and nothing that was stored before.
const V3: &str = "
CREATE TABLE dead_letter (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    message_id TEXT NOT NULL,
    received_unix_ms INTEGER NOT NULL,
    frame BLOB NOT NULL,
    UNIQUE (session_id, sender, message_id)
) STRICT;
";

/// Decryption. A message's row has its content, or why there is none, or (written by an earlier version) neither: such
/// ciphertext is few and found by an index of its own. `attempts` counts how often a message failed.
///
/// A Signal record has the form of the program that it was imported from until it is first used (`format` 0), then
/// ours (1), under the same name.
const V4: &str = "
ALTER TABLE signal_key ADD COLUMN format INTEGER NOT NULL DEFAULT 0;
ALTER TABLE archive_key ADD COLUMN format INTEGER NOT NULL DEFAULT 0;
ALTER TABLE inbox ADD COLUMN content BLOB;
ALTER TABLE inbox ADD COLUMN failure TEXT;
ALTER TABLE inbox ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
CREATE INDEX inbox_ciphertext ON inbox (session_id, seq) WHERE content IS NULL AND failure IS NULL;
";

/// Events for webhooks and what could not be handed over. `delivery` repeats session and chat, so that one index gives
/// the next of a chat; `spent` is to `event` what `confirmed` is to `inbox`. `what` is a row of `event` or, for the
/// sink `app`, of `inbox`.
const OUTBOX: &str = "
CREATE TABLE webhook (
    webhook_id TEXT PRIMARY KEY,
    json TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    event_seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    session_id TEXT NOT NULL,
    chat TEXT NOT NULL,
    at_unix_ms INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE delivery (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    chat TEXT NOT NULL,
    event_seq INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    not_before_unix_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX delivery_webhook ON delivery (webhook_id, seq);
CREATE INDEX delivery_chat ON delivery (webhook_id, session_id, chat, seq);
CREATE INDEX delivery_event ON delivery (event_seq);

CREATE TABLE spent (
    spent_unix_ms INTEGER NOT NULL,
    event_seq INTEGER NOT NULL UNIQUE,
    PRIMARY KEY (spent_unix_ms, event_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE undelivered (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    sink TEXT NOT NULL,
    session_id TEXT NOT NULL,
    chat TEXT NOT NULL,
    what INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    why TEXT NOT NULL,
    died_unix_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX undelivered_died ON undelivered (died_unix_ms, seq);
CREATE INDEX undelivered_what ON undelivered (what);
";

/// Messages that could not be read and may come again: since when, or 0 when nobody expects them any more. NULL: it was
/// read, or given up.
const UNREAD: &str = "
ALTER TABLE inbox ADD COLUMN unread_since_unix_ms INTEGER;
UPDATE inbox SET unread_since_unix_ms = received_unix_ms
    WHERE content IS NULL AND failure IS NOT NULL AND seq IN (SELECT seq FROM pending);
CREATE INDEX inbox_unread ON inbox (unread_since_unix_ms) WHERE unread_since_unix_ms IS NOT NULL;
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

#[cfg(test)]
mod tests {
    use super::*;

    const STEP_1: &str = "CREATE TABLE t (a); INSERT INTO t VALUES (1);";
    const STEP_2: &str = "ALTER TABLE t ADD COLUMN b DEFAULT 2;";
    const BROKEN: &str = "UPDATE t SET a = 9; CREATE TABLE t (a);";

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    fn sum(connection: &Connection, column: &str) -> i64 {
        connection.query_row(&format!("SELECT sum({column}) FROM t"), [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn new_file_gets_all_steps_and_an_older_one_only_the_rest() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert_eq!(migrate(&mut connection, &[STEP_1]), Ok(0));
        assert_eq!(migrate(&mut connection, &[STEP_1, STEP_2]), Ok(1));
        assert_eq!(migrate(&mut connection, &[STEP_1, STEP_2]), Ok(2));
        assert_eq!((version(&connection), sum(&connection, "a + b")), (2, 3));
    }

    #[test]
    fn failing_step_is_undone_whole_and_earlier_ones_stay() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(migrate(&mut connection, &[STEP_1, STEP_2, BROKEN]).is_err());
        assert_eq!((version(&connection), sum(&connection, "a")), (2, 1));
    }

    #[test]
    fn newer_version_is_refused_at_the_first_unknown_step() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &[STEP_1, STEP_2]).unwrap();
        assert_eq!(migrate(&mut connection, &[STEP_1]).unwrap_err().kind, ErrorKind::NewerSchema);
    }
}

//! Messages that an earlier version kept as they came, because it could not decrypt.
//!
//! They are rows of the inbox with neither content nor failure. Decrypting one writes the message again under the same
//! name, which takes the place of such a row.

use rusqlite::{Connection, params};

use crate::StoreError;
use crate::record::Ciphertext;

type Result<T> = std::result::Result<T, StoreError>;

/// What a row must be, and be in `pending`: what the consumer has confirmed is not given to it again.
const CONDITION: &str = "session_id = ?1 AND content IS NULL AND failure IS NULL
    AND EXISTS (SELECT 1 FROM pending WHERE pending.seq = inbox.seq)";

/// Whether a session has any.
pub(crate) fn exists(connection: &Connection, session_id: &str) -> Result<bool> {
    let sql = format!("SELECT 1 FROM inbox INDEXED BY inbox_ciphertext WHERE {CONDITION} LIMIT 1");
    Ok(connection.prepare_cached(&sql)?.exists([session_id])?)
}

/// The oldest `n` after `after_seq`.
pub(crate) fn take(
    connection: &Connection,
    session_id: &str,
    after_seq: u64,
    n: usize,
) -> Result<Vec<Ciphertext>> {
    let sql = format!(
        "SELECT seq, stanza, received_unix_ms FROM inbox INDEXED BY inbox_ciphertext
         WHERE {CONDITION} AND seq > ?2 ORDER BY seq LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let (after_seq, n) = (i64::try_from(after_seq).unwrap_or(i64::MAX), i64::try_from(n).unwrap_or(i64::MAX));
    let rows = statement.query_map(params![session_id, after_seq, n], |row| {
        Ok(Ciphertext {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            stanza: row.get(1)?,
            received_unix_ms: row.get::<_, i64>(2)?.cast_unsigned(),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

//! Signal records in use: read and written one by one, by the name that their imported form had.
//!
//! A record is taken over lazily. Until it is first used it is as its source wrote it; whoever reads it converts it and
//! writes it back in our own form, in the same transaction as what it was used for.

use rusqlite::{Connection, OptionalExtension, params};

use crate::record::{RecordKey, SignalRecord};
use crate::secret::SecretBytes;
use crate::{StoreError, checksum};

type Result<T> = std::result::Result<T, StoreError>;

/// What is stored under a name.
pub(crate) enum Found {
    Nothing,
    Record(SignalRecord),
    /// Its checksum does not match.
    Damaged,
}

const IMPORTED: i64 = 0;
const OWN: i64 = 1;

/// Reads one record.
pub(crate) fn find(connection: &Connection, session_id: &str, key: &RecordKey) -> Result<Found> {
    find_named(connection, session_id, key.kind, &key.id)
}

/// The same by the words of a row.
pub(crate) fn find_named(connection: &Connection, session_id: &str, kind: &str, id: &str) -> Result<Found> {
    let row = connection
        .prepare_cached(
            "SELECT value, checksum, format FROM signal_key WHERE session_id = ?1 AND kind = ?2 AND id = ?3",
        )?
        .query_row(params![session_id, kind, id], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, i64>(2)?))
        })
        .optional()?;
    let Some((value, stored, format)) = row else { return Ok(Found::Nothing) };
    let value = SecretBytes::from(value);
    let sum = match format {
        IMPORTED => checksum::signal_key(session_id, kind, id, value.expose()),
        _ => checksum::own_record(session_id, kind, id, value.expose()),
    };
    if stored != sum {
        return Ok(Found::Damaged);
    }
    Ok(Found::Record(SignalRecord { value, is_imported: format == IMPORTED }))
}

/// Writes one record in our own form.
pub(crate) fn put(connection: &Connection, session_id: &str, key: &RecordKey, value: &[u8]) -> Result<()> {
    put_named(connection, session_id, key.kind, &key.id, value)
}

/// The same by the words of a row.
pub(crate) fn put_named(
    connection: &Connection,
    session_id: &str,
    kind: &str,
    id: &str,
    value: &[u8],
) -> Result<()> {
    let sum = checksum::own_record(session_id, kind, id, value);
    connection
        .prepare_cached(
            "INSERT INTO signal_key (session_id, kind, id, value, checksum, format) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET value = excluded.value, checksum = excluded.checksum, format = excluded.format",
        )?
        .execute(params![session_id, kind, id, value, sum, OWN])?;
    Ok(())
}

/// Removes one record.
pub(crate) fn remove(connection: &Connection, session_id: &str, key: &RecordKey) -> Result<()> {
    remove_named(connection, session_id, key.kind, &key.id)
}

/// The same by the words of a row.
pub(crate) fn remove_named(connection: &Connection, session_id: &str, kind: &str, id: &str) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM signal_key WHERE session_id = ?1 AND kind = ?2 AND id = ?3")?
        .execute(params![session_id, kind, id])?;
    Ok(())
}

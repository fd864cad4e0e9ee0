//! Dead letters: messages that this version could not read, refused and kept as they came.
//!
//! They wait for a version that can read them, or for a person. A peer can make any number of them, so they are
//! bounded; what comes when there is no room is refused all the same, and counted.

use rusqlite::{Connection, params};

use crate::StoreError;
use crate::record::DeadLetter;

type Result<T> = std::result::Result<T, StoreError>;

/// Most dead letters that are kept, in all. At the client's limit of 1 MiB each they fit on any disk.
pub const MAX_DEAD_LETTERS: u64 = 1_000;

/// Most of one session, so that one chat partner does not use up everybody's room.
pub const MAX_DEAD_LETTERS_OF_SESSION: u64 = 100;

/// Keeps one, if there is room and it is not kept already.
pub(crate) fn keep(
    connection: &Connection,
    session_id: &str,
    sender: &str,
    message_id: &str,
    frame: &[u8],
    received_unix_ms: u64,
) -> Result<()> {
    let of_session: i64 = connection
        .prepare_cached("SELECT count(*) FROM dead_letter WHERE session_id = ?1")?
        .query_row([session_id], |row| row.get(0))?;
    if of_session.cast_unsigned() >= MAX_DEAD_LETTERS_OF_SESSION || count(connection)? >= MAX_DEAD_LETTERS {
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO dead_letter (session_id, sender, message_id, frame, received_unix_ms)
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (session_id, sender, message_id) DO NOTHING",
        )?
        .execute(params![session_id, sender, message_id, frame, received_unix_ms.cast_signed()])?;
    Ok(())
}

/// Whether this one is kept.
pub(crate) fn is_kept(
    connection: &Connection,
    session_id: &str,
    sender: &str,
    message_id: &str,
) -> Result<bool> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM dead_letter WHERE (session_id, sender, message_id) = (?1, ?2, ?3)")?
        .exists([session_id, sender, message_id])?)
}

/// How many are kept.
pub(crate) fn count(connection: &Connection) -> Result<u64> {
    let count: i64 =
        connection.prepare_cached("SELECT count(*) FROM dead_letter")?.query_row([], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// The oldest after `after_seq`, at most `n`.
pub(crate) fn take(connection: &Connection, after_seq: u64, n: usize) -> Result<Vec<DeadLetter>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, session_id, sender, message_id, frame, received_unix_ms
         FROM dead_letter WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let after_seq = i64::try_from(after_seq).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![after_seq, i64::try_from(n).unwrap_or(i64::MAX)], |row| {
        Ok(DeadLetter {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            session_id: row.get(1)?,
            sender: row.get(2)?,
            message_id: row.get(3)?,
            frame: row.get(4)?,
            received_unix_ms: row.get::<_, i64>(5)?.cast_unsigned(),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Removes dead letters; returns how many there were.
pub(crate) fn remove(connection: &Connection, seqs: &[u64]) -> Result<u64> {
    let mut statement = connection.prepare_cached("DELETE FROM dead_letter WHERE seq = ?1")?;
    let mut removed = 0;
    for seq in seqs {
        let Ok(seq) = i64::try_from(*seq) else { continue };
        removed += statement.execute([seq])? as u64;
    }
    Ok(removed)
}

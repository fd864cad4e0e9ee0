//! Messages that could not be read: how long they are expected again, and how they are given up.
//!
//! They wait in the inbox, where nobody takes them: what is read later is a new row. A message that is given up is in
//! `undelivered` under a sink of its own, and still comes back from there when it can be read after all.

use rusqlite::{Connection, params};

use crate::{StoreError, record::Unread, shared::now_unix_ms};

type Result<T> = std::result::Result<T, StoreError>;

/// The sink of a message that could not be read.
pub const UNDECRYPTABLE: &str = "undecryptable";

/// A row without content has failed once more; how often by now. After more than `asks` it is not expected any more.
/// One that an earlier version kept is expected from now on: its sender is asked for the first time.
pub(crate) fn failed_again(connection: &Connection, seq: i64, why: &str, asks: u32) -> Result<u32> {
    Ok(connection
        .prepare_cached(
            "UPDATE inbox SET failure = ?2, attempts = attempts + 1,
                 unread_since_unix_ms = CASE
                     WHEN content IS NULL AND failure IS NULL THEN iif(?3 = 0, 0, ?4)
                     WHEN unread_since_unix_ms IS NOT NULL AND attempts >= ?3 THEN 0
                     ELSE unread_since_unix_ms
                 END
             WHERE seq = ?1 RETURNING attempts",
        )?
        .query_row(params![seq, why, asks, now_unix_ms().cast_signed()], |found| found.get(0))?)
}

/// Those that wait since before this time, or that nobody expects any more, at most `n`.
pub(crate) fn due(connection: &Connection, before_unix_ms: u64, n: usize) -> Result<Vec<Unread>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, session_id, chat, sender, message_id, received_unix_ms, failure, attempts
         FROM inbox INDEXED BY inbox_unread
         WHERE unread_since_unix_ms IS NOT NULL AND unread_since_unix_ms < ?1
             AND EXISTS (SELECT 1 FROM pending WHERE pending.seq = inbox.seq)
         ORDER BY unread_since_unix_ms LIMIT ?2",
    )?;
    let before = i64::try_from(before_unix_ms).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![before, i64::try_from(n).unwrap_or(i64::MAX)], |row| {
        Ok(Unread {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            session_id: row.get(1)?,
            chat: row.get(2)?,
            sender: row.get(3)?,
            message_id: row.get(4)?,
            received_unix_ms: row.get::<_, i64>(5)?.cast_unsigned(),
            failure: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
            attempts: row.get(7)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Gives up messages that have no content; how many waited. Those that were read meanwhile are not there any more.
pub(crate) fn give_up(connection: &Connection, seqs: &[u64], now_unix_ms: u64) -> Result<u64> {
    let mut leave = connection.prepare_cached(
        "DELETE FROM pending WHERE seq = (SELECT seq FROM inbox WHERE seq = ?1 AND failure IS NOT NULL)",
    )?;
    let mut enter = connection.prepare_cached(
        "INSERT INTO undelivered (sink, session_id, chat, what, attempts, why, died_unix_ms)
         SELECT ?2, session_id, chat, seq, attempts, failure, ?3 FROM inbox WHERE seq = ?1",
    )?;
    let mut mark =
        connection.prepare_cached("UPDATE inbox SET unread_since_unix_ms = NULL WHERE seq = ?1")?;
    let mut given_up = 0;
    for seq in seqs {
        let Ok(seq) = i64::try_from(*seq) else { continue };
        if leave.execute([seq])? > 0 {
            enter.execute(params![seq, UNDECRYPTABLE, now_unix_ms.cast_signed()])?;
            mark.execute([seq])?;
            given_up += 1;
        }
    }
    Ok(given_up)
}

/// The message in this row was read after all: whether it had been given up, and is not any more.
pub(crate) fn come_back(connection: &Connection, seq: i64) -> Result<bool> {
    let removed = connection
        .prepare_cached("DELETE FROM undelivered WHERE what = ?1 AND sink = ?2")?
        .execute(params![seq, UNDECRYPTABLE])?;
    Ok(removed > 0)
}

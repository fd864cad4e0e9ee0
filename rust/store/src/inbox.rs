//! The inbox: messages that were answered and wait for the consumer.
//!
//! A message is one row under (session, chat, sender, id). After a lost connection the server sends again what
//! it saw no answer for; such a message is found by that name, stored once, and answered. A confirmed row
//! stays for a while, so that this holds over `done` as well.

use rusqlite::{Connection, params};

use crate::checksum;
use crate::record::{InboxMessage, Write};
use crate::{StoreError, sessions};

type Result<T> = std::result::Result<T, StoreError>;

/// Most stanza bytes that one `take` returns (the first message always fits).
const TAKE_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Most rows that one `prune` removes, so that it does not hold up a group.
const PRUNE_MAX_ROWS: i64 = 2_000;

/// Applies one batch; returns the number of new inbox rows.
///
/// Errors: `unknown_session` before anything is written; else SQLite's, and the transaction must be rolled back.
pub(crate) fn apply(connection: &Connection, session_id: &str, writes: &[Write]) -> Result<u32> {
    if !sessions::exists(connection, session_id)? {
        return Err(StoreError::unknown_session(session_id));
    }
    let mut new_rows = 0;
    for write in writes {
        match write {
            Write::Inbox { chat, sender, message_id, stanza, received_unix_ms } => {
                let name = checksum::message(session_id, chat, sender, message_id);
                let inserted = connection
                    .prepare_cached(
                        "INSERT INTO inbox (session_id, chat, sender, message_id, stanza, received_unix_ms, name)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (name) DO NOTHING",
                    )?
                    .execute(params![
                        session_id,
                        chat,
                        sender,
                        message_id,
                        stanza,
                        received_unix_ms.cast_signed(),
                        name
                    ])?;
                new_rows += u32::from(inserted > 0);
            }
            Write::RoutingInfo(routing_info) => {
                sessions::set_routing_info(connection, session_id, routing_info)?;
            }
            Write::ServerChain(chain) => sessions::set_server_chain(connection, session_id, Some(chain))?,
            Write::ForgetServerChain => sessions::set_server_chain(connection, session_id, None)?,
            Write::Lid(lid) => sessions::set_lid(connection, session_id, lid)?,
        }
    }
    Ok(new_rows)
}

/// The oldest unconfirmed messages after `after_seq`, at most `n`.
pub(crate) fn take(connection: &Connection, after_seq: u64, n: usize) -> Result<Vec<InboxMessage>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, session_id, chat, sender, message_id, stanza, received_unix_ms
         FROM inbox INDEXED BY inbox_pending WHERE seq > ?1 AND done_unix_ms IS NULL ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = statement
        .query(params![i64::try_from(after_seq).unwrap_or(i64::MAX), i64::try_from(n).unwrap_or(i64::MAX)])?;
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let message = InboxMessage {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            session_id: row.get(1)?,
            chat: row.get(2)?,
            sender: row.get(3)?,
            message_id: row.get(4)?,
            stanza: row.get(5)?,
            received_unix_ms: row.get::<_, i64>(6)?.cast_unsigned(),
        };
        bytes += message.stanza.len();
        if bytes > TAKE_MAX_BYTES && !messages.is_empty() {
            break;
        }
        messages.push(message);
    }
    Ok(messages)
}

/// Confirms messages; returns how many were waiting. Unknown and confirmed ones count nothing.
pub(crate) fn done(connection: &Connection, seqs: &[u64], now_unix_ms: u64) -> Result<u64> {
    let mut statement = connection
        .prepare_cached("UPDATE inbox SET done_unix_ms = ?2 WHERE seq = ?1 AND done_unix_ms IS NULL")?;
    let mut confirmed = 0;
    for seq in seqs {
        let Ok(seq) = i64::try_from(*seq) else { continue };
        confirmed += statement.execute(params![seq, now_unix_ms.cast_signed()])? as u64;
    }
    Ok(confirmed)
}

/// Removes rows confirmed before `before_unix_ms`, oldest first, a bounded number; returns how many.
pub(crate) fn prune(connection: &Connection, before_unix_ms: u64) -> Result<usize> {
    Ok(connection
        .prepare_cached(
            "DELETE FROM inbox WHERE seq IN (SELECT seq FROM inbox INDEXED BY inbox_done
             WHERE done_unix_ms IS NOT NULL AND done_unix_ms < ?1 ORDER BY done_unix_ms LIMIT ?2)",
        )?
        .execute(params![before_unix_ms.cast_signed(), PRUNE_MAX_ROWS])?)
}

/// Unconfirmed messages.
pub(crate) fn pending(connection: &Connection) -> Result<u64> {
    let count: i64 = connection.query_row(
        "SELECT count(*) FROM inbox INDEXED BY inbox_pending WHERE done_unix_ms IS NULL",
        [],
        |row| row.get(0),
    )?;
    Ok(count.cast_unsigned())
}

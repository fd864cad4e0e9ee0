//! The inbox: messages that were answered and wait for the consumer.
//!
//! A message is one row under (session, chat, sender, id). After a lost connection the server sends again what
//! it saw no answer for; such a message is found by that name, stored once, and answered. A confirmed row
//! stays for a while, so that this holds over `done` as well.

use rusqlite::{Connection, params};

use crate::checksum;
use crate::record::{InboxMessage, Write};
use crate::{StoreError, dead_letter, sessions};

type Result<T> = std::result::Result<T, StoreError>;

/// Most stanza bytes that one `take` returns (the first message always fits).
const TAKE_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Most rows that one `prune` removes, so that it does not hold up a group.
pub(crate) const PRUNE_MAX_ROWS: usize = 2_000;

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
                if inserted > 0 {
                    connection
                        .prepare_cached("INSERT INTO pending (seq) VALUES (?1)")?
                        .execute([connection.last_insert_rowid()])?;
                    new_rows += 1;
                }
            }
            Write::DeadLetter { sender, message_id, frame, received_unix_ms } => {
                dead_letter::keep(connection, session_id, sender, message_id, frame, *received_unix_ms)?;
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
         FROM pending CROSS JOIN inbox USING (seq) WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    read(statement.query(params![signed(after_seq), signed(n as u64)])?)
}

/// The same, of one session and chat. Reads through all that wait: for the few chats that are behind.
pub(crate) fn take_of_chat(
    connection: &Connection,
    session_id: &str,
    chat: &str,
    after_seq: u64,
    n: usize,
) -> Result<Vec<InboxMessage>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, session_id, chat, sender, message_id, stanza, received_unix_ms
         FROM pending CROSS JOIN inbox USING (seq)
         WHERE seq > ?1 AND chat = ?4 AND session_id = ?3 ORDER BY seq LIMIT ?2",
    )?;
    read(statement.query(params![signed(after_seq), signed(n as u64), session_id, chat])?)
}

fn read(mut rows: rusqlite::Rows<'_>) -> Result<Vec<InboxMessage>> {
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

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Confirms messages; returns how many were waiting. Unknown and confirmed ones count nothing.
pub(crate) fn done(connection: &Connection, seqs: &[u64], now_unix_ms: u64) -> Result<u64> {
    let mut leave = connection.prepare_cached("DELETE FROM pending WHERE seq = ?1")?;
    let mut confirmed = 0;
    for seq in seqs {
        let Ok(seq) = i64::try_from(*seq) else { continue };
        if leave.execute([seq])? > 0 {
            confirm(connection, seq, now_unix_ms)?;
            confirmed += 1;
        }
    }
    Ok(confirmed)
}

/// A message that waits no longer is remembered as confirmed.
pub(crate) fn confirm(connection: &Connection, seq: i64, now_unix_ms: u64) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO confirmed (done_unix_ms, seq) VALUES (?1, ?2)")?
        .execute([now_unix_ms.cast_signed(), seq])?;
    Ok(())
}

/// Removes messages confirmed before `before_unix_ms`, oldest first, a bounded number; returns how many.
pub(crate) fn prune(connection: &Connection, before_unix_ms: u64) -> Result<usize> {
    let old: Vec<(i64, i64)> = connection
        .prepare_cached(
            "SELECT done_unix_ms, seq FROM confirmed WHERE done_unix_ms < ?1
             ORDER BY done_unix_ms, seq LIMIT ?2",
        )?
        .query_map([before_unix_ms.cast_signed(), PRUNE_MAX_ROWS as i64], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut message = connection.prepare_cached("DELETE FROM inbox WHERE seq = ?1")?;
    let mut mark = connection.prepare_cached("DELETE FROM confirmed WHERE done_unix_ms = ?1 AND seq = ?2")?;
    for (done_unix_ms, seq) in &old {
        message.execute([seq])?;
        mark.execute([done_unix_ms, seq])?;
    }
    Ok(old.len())
}

/// Unconfirmed messages.
pub(crate) fn pending(connection: &Connection) -> Result<u64> {
    let count: i64 = connection.query_row("SELECT count(*) FROM pending", [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

//! The inbox: messages that were answered and wait for the consumer.
//!
//! A message is one row under (session, chat, sender, id). After a lost connection the server sends again what
//! it saw no answer for; such a message is found by that name, stored once, and answered. A confirmed row
//! stays for a while, so that this holds over `done` as well. Only a row with content stands for a message in this way:
//! one that could not be decrypted gives way to the same message, sent again and decrypted, also when it was given up by
//! then (`unread`). A row with an empty content, of a message with nothing in it for the consumer, stands for all but
//! the same message with something in it.

use rusqlite::{Connection, params};

use crate::checksum;
use crate::record::{Applied, Content, InboxMessage, Write};
use crate::writer::in_savepoint;
use crate::{StoreError, dead_letter, sessions, signal_record, unread};

type Result<T> = std::result::Result<T, StoreError>;

/// Most bytes that one `take` returns (the first message always fits).
const TAKE_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Most rows that one `prune` removes, so that it does not hold up a group.
pub(crate) const PRUNE_MAX_ROWS: usize = 2_000;

/// Applies one batch; returns what it changed here.
///
/// Errors: `unknown_session` before anything is written; `exists` for a [`Write::Device`], which is alone; else
/// SQLite's, and the transaction must be rolled back.
pub(crate) fn apply(connection: &Connection, session_id: &str, writes: &[Write]) -> Result<Applied> {
    if !sessions::exists(connection, session_id)? {
        return Err(StoreError::unknown_session(session_id));
    }
    let mut applied = Applied::default();
    for write in writes {
        match write {
            Write::Inbox { chat, sender, message_id, stanza, content, received_unix_ms } => {
                let row = Row {
                    session_id,
                    chat,
                    sender,
                    message_id,
                    stanza,
                    content,
                    received_unix_ms: *received_unix_ms,
                    name: checksum::message(session_id, chat, sender, message_id),
                };
                keep(connection, &row, &mut applied)?;
            }
            Write::PutRecord { key, value } => {
                signal_record::put(connection, session_id, key, value.expose())?;
            }
            Write::RemoveRecord(key) => signal_record::remove(connection, session_id, key)?,
            Write::DeadLetter { sender, message_id, frame, received_unix_ms } => {
                dead_letter::keep(connection, session_id, sender, message_id, frame, *received_unix_ms)?;
            }
            Write::RoutingInfo(routing_info) => {
                sessions::set_routing_info(connection, session_id, routing_info)?;
            }
            Write::ServerChain(chain) => sessions::set_server_chain(connection, session_id, Some(chain))?,
            Write::ForgetServerChain => sessions::set_server_chain(connection, session_id, None)?,
            Write::Lid(lid) => sessions::set_lid(connection, session_id, lid)?,
            Write::Device(linked) => {
                in_savepoint(connection, |connection| sessions::link(connection, session_id, linked))?;
            }
        }
    }
    Ok(applied)
}

/// A message on its way into the inbox.
struct Row<'a> {
    session_id: &'a str,
    chat: &'a str,
    sender: &'a str,
    message_id: &'a str,
    stanza: &'a [u8],
    content: &'a Content,
    received_unix_ms: u64,
    name: checksum::Checksum,
}

/// Keeps a message, unless its content is kept already.
fn keep(connection: &Connection, row: &Row<'_>, applied: &mut Applied) -> Result<()> {
    if insert(connection, row)? {
        applied.inbox_rows += u32::from(*row.content != Content::Nothing);
        applied.attempts = u32::from(matches!(row.content, Content::Failed { .. }));
        return Ok(());
    }
    let (seq, kept_bytes): (i64, Option<i64>) = connection
        .prepare_cached("SELECT seq, length(content) FROM inbox WHERE name = ?1")?
        .query_row([row.name], |found| Ok((found.get(0)?, found.get(1)?)))?;
    let says_more =
        kept_bytes == Some(0) && matches!(row.content, Content::Plain(bytes) if !bytes.is_empty());
    match row.content {
        _ if kept_bytes.is_some() && !says_more => {
            applied.attempts = 0;
            Ok(())
        }
        Content::Failed { why, asks } => {
            applied.attempts = unread::failed_again(connection, seq, why, *asks)?;
            Ok(())
        }
        Content::Plain(_) | Content::Nothing => {
            applied.superseded += supersede(connection, seq)?;
            insert(connection, row)?;
            applied.inbox_rows += u32::from(*row.content != Content::Nothing);
            Ok(())
        }
    }
}

/// False when a message of that name is there.
fn insert(connection: &Connection, row: &Row<'_>) -> Result<bool> {
    let received_unix_ms = row.received_unix_ms.cast_signed();
    let (content, failure, unread_since) = match row.content {
        Content::Plain(bytes) => (Some(bytes.as_slice()), None, None),
        Content::Nothing => (Some(&[][..]), None, None),
        Content::Failed { why, asks } => {
            (None, Some(why), Some(if *asks == 0 { 0 } else { received_unix_ms }))
        }
    };
    let inserted = connection
        .prepare_cached(
            "INSERT INTO inbox (session_id, chat, sender, message_id, stanza, received_unix_ms, name, content, failure,
                 attempts, unread_since_unix_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (name) DO NOTHING",
        )?
        .execute(params![
            row.session_id,
            row.chat,
            row.sender,
            row.message_id,
            row.stanza,
            received_unix_ms,
            row.name,
            content,
            failure,
            i64::from(failure.is_some()),
            unread_since,
        ])?;
    if inserted == 0 {
        return Ok(false);
    }
    let seq = connection.last_insert_rowid();
    if *row.content == Content::Nothing {
        confirm(connection, seq, row.received_unix_ms)?;
    } else {
        connection.prepare_cached("INSERT INTO pending (seq) VALUES (?1)")?.execute([seq])?;
    }
    Ok(true)
}

/// A message without content gives its name to the same message with content; returns how many fewer wait.
///
/// One that was given up comes back from there. One that waits for nobody stays under another name, for `confirmed` to
/// be whole.
fn supersede(connection: &Connection, seq: i64) -> Result<u32> {
    if connection.prepare_cached("DELETE FROM pending WHERE seq = ?1")?.execute([seq])? > 0 {
        connection.prepare_cached("DELETE FROM inbox WHERE seq = ?1")?.execute([seq])?;
        return Ok(1);
    }
    if unread::come_back(connection, seq)? {
        connection.prepare_cached("DELETE FROM inbox WHERE seq = ?1")?.execute([seq])?;
        return Ok(0);
    }
    connection.prepare_cached("UPDATE inbox SET name = randomblob(16) WHERE seq = ?1")?.execute([seq])?;
    Ok(0)
}

/// The oldest unconfirmed messages after `after_seq`, at most `n`.
pub(crate) fn take(connection: &Connection, after_seq: u64, n: usize) -> Result<Vec<InboxMessage>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, session_id, chat, sender, message_id, stanza, received_unix_ms, content, failure
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
        "SELECT seq, session_id, chat, sender, message_id, stanza, received_unix_ms, content, failure
         FROM pending CROSS JOIN inbox USING (seq)
         WHERE seq > ?1 AND chat = ?4 AND session_id = ?3 ORDER BY seq LIMIT ?2",
    )?;
    read(statement.query(params![signed(after_seq), signed(n as u64), session_id, chat])?)
}

/// The message that one of `senders` wrote in a chat under this id, while it is remembered and was read.
pub(crate) fn find(
    connection: &Connection,
    session_id: &str,
    chat: &str,
    senders: &[String],
    message_id: &str,
) -> Result<Option<InboxMessage>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, session_id, chat, sender, message_id, stanza, received_unix_ms, content, failure
         FROM inbox WHERE name = ?1 AND content IS NOT NULL",
    )?;
    for sender in senders {
        let name = checksum::message(session_id, chat, sender, message_id);
        if let Some(found) = read(statement.query(params![name])?)?.pop() {
            return Ok(Some(found));
        }
    }
    Ok(None)
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
            content: row.get(7)?,
            failure: row.get(8)?,
        };
        bytes += message.stanza.len() + message.content.as_ref().map_or(0, Vec::len);
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

//! The outbox: events on their way to webhooks, and what could not be handed over.
//!
//! An event is one row under its id, so that one that is posted twice goes out once. Each webhook it is for has a
//! row in `delivery` until it took the event; the event itself stays for a while after the last of them, to
//! recognise it. What is given up is in `undelivered`, whoever it was for: a webhook, or the application, whose
//! messages are the rows of `inbox`, or nobody, since it could not be read (`unread`).

use rusqlite::{Connection, Row, params};

use crate::{StoreError, inbox, unread::UNDECRYPTABLE};

type Result<T> = std::result::Result<T, StoreError>;

/// The sink of a message that the application's handlers could not take.
pub const APP: &str = "app";

/// Most body bytes that one read returns (the first event always fits).
const READ_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Most rows that one `prune` removes, so that it does not hold up a group.
pub(crate) const PRUNE_MAX_ROWS: usize = 2_000;

/// An event to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The same at every attempt; one that is known is not posted again.
    pub event_id: String,
    /// e.g. `message`.
    pub name: String,
    /// Empty: of the whole runner.
    pub session_id: String,
    /// Empty: of no chat. Deliveries of one session and chat keep their order.
    pub chat: String,
    /// What is sent.
    pub body: Vec<u8>,
    /// When it happened, Unix milliseconds.
    pub at_unix_ms: u64,
    /// To whom.
    pub webhooks: Vec<String>,
}

/// One event for one webhook that has not taken it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Grows; never used twice.
    pub seq: u64,
    /// As posted.
    pub event_id: String,
    /// As posted.
    pub name: String,
    /// As posted.
    pub session_id: String,
    /// As posted.
    pub chat: String,
    /// As posted.
    pub body: Vec<u8>,
    /// As posted.
    pub at_unix_ms: u64,
    /// Attempts that failed.
    pub attempts: u32,
    /// Not tried again before, Unix milliseconds.
    pub not_before_unix_ms: u64,
}

/// What became of attempts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// These were taken.
    pub delivered: Vec<u64>,
    /// These failed: attempts so far, and when to try again (Unix milliseconds).
    pub failed: Vec<(u64, u32, u64)>,
    /// These are given up: attempts, and why.
    pub dead: Vec<(u64, u32, String)>,
}

/// Something that was given up and is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// Grows; never used twice.
    pub seq: u64,
    /// A webhook's id, [`APP`] or [`UNDECRYPTABLE`].
    pub sink: String,
    /// The event's name; `message` for the application, `message.undecryptable` for what could not be read.
    pub name: String,
    /// The event's id; the message's for those two.
    pub id: String,
    /// Empty: of the whole runner.
    pub session_id: String,
    /// Empty: of no chat.
    pub chat: String,
    /// When it happened, Unix milliseconds.
    pub at_unix_ms: u64,
    /// When it was given up, Unix milliseconds.
    pub died_unix_ms: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// The last failure, in words without personal data.
    pub why: String,
}

/// How much waits for one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// A webhook's id, [`APP`] or [`UNDECRYPTABLE`].
    pub sink: String,
    /// Deliveries that wait; for the application see `Health::inbox_pending`.
    pub waiting: u64,
    /// What was given up.
    pub undelivered: u64,
}

/// Posts events; returns how many were new.
pub(crate) fn post(connection: &Connection, events: &[NewEvent]) -> Result<u64> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO event (event_id, name, session_id, chat, at_unix_ms, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (event_id) DO NOTHING",
    )?;
    let mut address = connection.prepare_cached(
        "INSERT INTO delivery (webhook_id, session_id, chat, event_seq, attempts, not_before_unix_ms)
         VALUES (?1, ?2, ?3, ?4, 0, 0)",
    )?;
    let mut posted = 0;
    for it in events.iter().filter(|it| !it.webhooks.is_empty()) {
        let at = it.at_unix_ms.cast_signed();
        if insert.execute(params![it.event_id, it.name, it.session_id, it.chat, at, it.body])? == 0 {
            continue;
        }
        let event_seq = connection.last_insert_rowid();
        for webhook_id in &it.webhooks {
            address.execute(params![webhook_id, it.session_id, it.chat, event_seq])?;
        }
        posted += 1;
    }
    Ok(posted)
}

const DELIVERY: &str = "SELECT d.seq, event_id, name, d.session_id, d.chat, body, at_unix_ms, attempts,
    not_before_unix_ms FROM delivery d CROSS JOIN event USING (event_seq)";

/// The oldest deliveries of a webhook after `after_seq`, at most `n`.
pub(crate) fn deliveries(
    connection: &Connection,
    webhook_id: &str,
    after_seq: u64,
    n: usize,
) -> Result<Vec<Delivery>> {
    let sql = format!("{DELIVERY} WHERE webhook_id = ?1 AND d.seq > ?2 ORDER BY d.seq LIMIT ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    read(statement.query(params![webhook_id, signed(after_seq), signed(n as u64)])?)
}

/// The same, of one session and chat.
pub(crate) fn deliveries_of(
    connection: &Connection,
    webhook_id: &str,
    (session_id, chat): (&str, &str),
    after_seq: u64,
    n: usize,
) -> Result<Vec<Delivery>> {
    let sql = format!(
        "{DELIVERY} WHERE (webhook_id, d.session_id, d.chat) = (?1, ?2, ?3) AND d.seq > ?4 ORDER BY d.seq LIMIT ?5"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    read(statement.query(params![webhook_id, session_id, chat, signed(after_seq), signed(n as u64)])?)
}

fn read(mut rows: rusqlite::Rows<'_>) -> Result<Vec<Delivery>> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let delivery = delivery(row)?;
        bytes += delivery.body.len();
        if bytes > READ_MAX_BYTES && !found.is_empty() {
            break;
        }
        found.push(delivery);
    }
    Ok(found)
}

fn delivery(row: &Row<'_>) -> Result<Delivery> {
    Ok(Delivery {
        seq: unsigned(row, 0)?,
        event_id: row.get(1)?,
        name: row.get(2)?,
        session_id: row.get(3)?,
        chat: row.get(4)?,
        body: row.get(5)?,
        at_unix_ms: unsigned(row, 6)?,
        attempts: row.get(7)?,
        not_before_unix_ms: unsigned(row, 8)?,
    })
}

/// Writes down what became of attempts. What is not there (any more) is left alone.
pub(crate) fn settle(connection: &Connection, settled: &Settled, now_unix_ms: u64) -> Result<()> {
    for seq in &settled.delivered {
        if let Some(event_seq) = remove(connection, *seq)? {
            spend(connection, event_seq, now_unix_ms)?;
        }
    }
    for (seq, attempts, not_before_unix_ms) in &settled.failed {
        connection
            .prepare_cached("UPDATE delivery SET attempts = ?2, not_before_unix_ms = ?3 WHERE seq = ?1")?
            .execute(params![signed(*seq), attempts, signed(*not_before_unix_ms)])?;
    }
    for (seq, attempts, why) in &settled.dead {
        connection
            .prepare_cached(
                "INSERT INTO undelivered (sink, session_id, chat, what, attempts, why, died_unix_ms)
                 SELECT webhook_id, session_id, chat, event_seq, ?2, ?3, ?4 FROM delivery WHERE seq = ?1",
            )?
            .execute(params![signed(*seq), attempts, why, signed(now_unix_ms)])?;
        remove(connection, *seq)?;
    }
    Ok(())
}

/// Removes a delivery; the event that it was for.
fn remove(connection: &Connection, seq: u64) -> Result<Option<i64>> {
    let mut statement =
        connection.prepare_cached("DELETE FROM delivery WHERE seq = ?1 RETURNING event_seq")?;
    let mut rows = statement.query([signed(seq)])?;
    Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
}

/// Nobody may need this event any more: when that is so, it goes after its time.
fn spend(connection: &Connection, event_seq: i64, now_unix_ms: u64) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO spent (spent_unix_ms, event_seq) SELECT ?2, ?1
             WHERE NOT EXISTS (SELECT 1 FROM delivery WHERE event_seq = ?1)
             AND NOT EXISTS (SELECT 1 FROM undelivered WHERE what = ?1 AND sink NOT IN ('app', 'undecryptable'))",
        )?
        .execute([event_seq, signed(now_unix_ms)])?;
    Ok(())
}

/// Gives up messages of the inbox that the application could not take: `(seq, attempts, why)`; how many waited.
pub(crate) fn bury(
    connection: &Connection,
    messages: &[(u64, u32, String)],
    now_unix_ms: u64,
) -> Result<u64> {
    let mut leave = connection.prepare_cached("DELETE FROM pending WHERE seq = ?1")?;
    let mut enter = connection.prepare_cached(
        "INSERT INTO undelivered (sink, session_id, chat, what, attempts, why, died_unix_ms)
         SELECT 'app', session_id, chat, seq, ?2, ?3, ?4 FROM inbox WHERE seq = ?1",
    )?;
    let mut buried = 0;
    for (seq, attempts, why) in messages {
        if leave.execute([signed(*seq)])? > 0 {
            enter.execute(params![signed(*seq), attempts, why, signed(now_unix_ms)])?;
            buried += 1;
        }
    }
    Ok(buried)
}

/// What was given up, oldest first, after `after_seq`, at most `n`; of one sink, or of all.
pub(crate) fn undelivered(
    connection: &Connection,
    sink: Option<&str>,
    after_seq: u64,
    n: usize,
) -> Result<Vec<Undelivered>> {
    let mut statement = connection.prepare_cached(
        "SELECT u.seq, sink,
             coalesce(e.name, CASE sink WHEN 'app' THEN 'message' ELSE 'message.undecryptable' END), coalesce(event_id, message_id, ''), u.session_id, u.chat,
             coalesce(at_unix_ms, received_unix_ms, 0), died_unix_ms, u.attempts, why
         FROM undelivered u
         LEFT JOIN event e ON sink NOT IN ('app', 'undecryptable') AND e.event_seq = what
         LEFT JOIN inbox i ON sink IN ('app', 'undecryptable') AND i.seq = what
         WHERE u.seq > ?1 AND (?2 IS NULL OR sink = ?2) ORDER BY u.seq LIMIT ?3",
    )?;
    let mut rows = statement.query(params![signed(after_seq), sink, signed(n as u64)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Undelivered {
            seq: unsigned(row, 0)?,
            sink: row.get(1)?,
            name: row.get(2)?,
            id: row.get(3)?,
            session_id: row.get(4)?,
            chat: row.get(5)?,
            at_unix_ms: unsigned(row, 6)?,
            died_unix_ms: unsigned(row, 7)?,
            attempts: row.get(8)?,
            why: row.get(9)?,
        });
    }
    Ok(found)
}

/// Puts what was given up behind all that waits, with its attempts forgotten; `(messages, deliveries)` put back.
/// What could not be read stays: there is nothing to hand over.
pub(crate) fn redrive(connection: &Connection, seqs: &[u64]) -> Result<(u64, u64)> {
    let (mut messages, mut deliveries) = (0, 0);
    for seq in seqs {
        let Some((sink, what)) = exhume(connection, *seq, UNDECRYPTABLE)? else { continue };
        if sink == APP {
            messages += connection
                .prepare_cached("INSERT INTO pending (seq) SELECT seq FROM inbox WHERE seq = ?1")?
                .execute([what])? as u64;
        } else {
            deliveries += connection
                .prepare_cached(
                    "INSERT INTO delivery (webhook_id, session_id, chat, event_seq, attempts, not_before_unix_ms)
                     SELECT ?2, session_id, chat, event_seq, 0, 0 FROM event WHERE event_seq = ?1",
                )?
                .execute(params![what, sink])? as u64;
        }
    }
    Ok((messages, deliveries))
}

/// Lets go of what was given up; how many there were.
pub(crate) fn discard(connection: &Connection, seqs: &[u64], now_unix_ms: u64) -> Result<u64> {
    let mut discarded = 0;
    for seq in seqs {
        let Some((sink, what)) = exhume(connection, *seq, "")? else { continue };
        if sink == APP || sink == UNDECRYPTABLE {
            inbox::confirm(connection, what, now_unix_ms)?;
        } else {
            spend(connection, what, now_unix_ms)?;
        }
        discarded += 1;
    }
    Ok(discarded)
}

/// Takes one out, unless it is of the sink `but`.
fn exhume(connection: &Connection, seq: u64, but: &str) -> Result<Option<(String, i64)>> {
    let mut statement = connection
        .prepare_cached("DELETE FROM undelivered WHERE seq = ?1 AND sink <> ?2 RETURNING sink, what")?;
    let mut rows = statement.query(params![signed(seq), but])?;
    Ok(rows.next()?.map(|row| Ok::<_, rusqlite::Error>((row.get(0)?, row.get(1)?))).transpose()?)
}

/// Every webhook's id and configuration, by id.
pub(crate) fn webhooks(connection: &Connection) -> Result<Vec<(String, String)>> {
    crate::sessions::pairs(connection, "SELECT webhook_id, json FROM webhook ORDER BY webhook_id")
}

/// Keeps the configuration of a webhook; the newest wins.
pub(crate) fn put_webhook(connection: &Connection, webhook_id: &str, json: &str) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO webhook (webhook_id, json) VALUES (?1, ?2)
             ON CONFLICT (webhook_id) DO UPDATE SET json = excluded.json",
        )?
        .execute([webhook_id, json])?;
    Ok(())
}

/// Forgets a webhook; what waits for it is given up. Returns how much that was.
pub(crate) fn remove_webhook(connection: &Connection, webhook_id: &str, why: &str, now: u64) -> Result<u64> {
    connection.prepare_cached("DELETE FROM webhook WHERE webhook_id = ?1")?.execute([webhook_id])?;
    give_up(connection, webhook_id, why, now)
}

/// Gives up what waits for webhooks that are none of `known`; how much that was.
pub(crate) fn give_up_unknown(
    connection: &Connection,
    known: &[String],
    why: &str,
    now_unix_ms: u64,
) -> Result<u64> {
    let mut given_up = 0;
    for it in backlog(connection)? {
        if it.sink != APP && it.waiting > 0 && !known.contains(&it.sink) {
            given_up += give_up(connection, &it.sink, why, now_unix_ms)?;
        }
    }
    Ok(given_up)
}

fn give_up(connection: &Connection, webhook_id: &str, why: &str, now_unix_ms: u64) -> Result<u64> {
    connection
        .prepare_cached(
            "INSERT INTO undelivered (sink, session_id, chat, what, attempts, why, died_unix_ms)
             SELECT webhook_id, session_id, chat, event_seq, attempts, ?2, ?3 FROM delivery
             WHERE webhook_id = ?1 ORDER BY seq",
        )?
        .execute(params![webhook_id, why, signed(now_unix_ms)])?;
    let removed =
        connection.prepare_cached("DELETE FROM delivery WHERE webhook_id = ?1")?.execute([webhook_id])?;
    Ok(removed as u64)
}

/// How much waits and was given up, for each sink that has any.
pub(crate) fn backlog(connection: &Connection) -> Result<Vec<Backlog>> {
    let mut statement = connection.prepare_cached(
        "SELECT sink, sum(waiting), sum(dead) FROM (
             SELECT webhook_id AS sink, count(*) AS waiting, 0 AS dead FROM delivery GROUP BY webhook_id
             UNION ALL SELECT sink, 0, count(*) FROM undelivered GROUP BY sink
         ) GROUP BY sink ORDER BY sink",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Backlog { sink: row.get(0)?, waiting: unsigned(row, 1)?, undelivered: unsigned(row, 2)? });
    }
    Ok(found)
}

/// Removes events spent, and lets go of what was given up, before these times; a bounded number, and how many.
pub(crate) fn prune(
    connection: &Connection,
    spent_before: u64,
    died_before: u64,
    now_unix_ms: u64,
) -> Result<usize> {
    let limit = PRUNE_MAX_ROWS as u64;
    let old: Vec<u64> = column(
        connection,
        "SELECT seq FROM undelivered WHERE died_unix_ms < ?1 ORDER BY died_unix_ms, seq LIMIT ?2",
        [died_before, limit],
    )?;
    discard(connection, &old, now_unix_ms)?;
    let spent: Vec<u64> = column(
        connection,
        "SELECT event_seq FROM spent WHERE spent_unix_ms < ?1 ORDER BY spent_unix_ms, event_seq LIMIT ?2",
        [spent_before, limit],
    )?;
    for event_seq in &spent {
        connection.prepare_cached("DELETE FROM event WHERE event_seq = ?1")?.execute([signed(*event_seq)])?;
        connection.prepare_cached("DELETE FROM spent WHERE event_seq = ?1")?.execute([signed(*event_seq)])?;
    }
    Ok(old.len().max(spent.len()))
}

fn column(connection: &Connection, sql: &str, [before, limit]: [u64; 2]) -> Result<Vec<u64>> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([signed(before), signed(limit)], |row| row.get::<_, i64>(0))?;
    Ok(found.map(|seq| seq.map(i64::cast_unsigned)).collect::<rusqlite::Result<_>>()?)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

//! Sessions, devices and Signal keys: the statements and the row checks. No threads, no policy.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::record::{
    Credentials, Device, Exported, Import, Linked, Quarantined, ServerChain, SessionRow, SignalKey, StoredRow,
};
use crate::secret::{Secret32, SecretBytes};
use crate::writer::in_savepoint;
use crate::{DeviceError, ErrorKind, StoreError, checksum, ciphertext, signal_record};

type Result<T> = std::result::Result<T, StoreError>;

pub(crate) fn exists(connection: &Connection, session_id: &str) -> Result<bool> {
    Ok(connection.prepare_cached("SELECT 1 FROM session WHERE session_id = ?1")?.exists([session_id])?)
}

/// All sessions, by id.
pub(crate) fn list(connection: &Connection) -> Result<Vec<SessionRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT s.session_id, s.jid, s.lid, p.json, s.archived_why, s.quarantined_why, s.imported_at_unix_ms
         FROM session AS s LEFT JOIN policy AS p USING (session_id) ORDER BY s.session_id",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(SessionRow {
            session_id: row.get(0)?,
            jid: row.get(1)?,
            lid: row.get(2)?,
            policy: row.get(3)?,
            archived: row.get(4)?,
            quarantined: row.get(5)?,
            imported_at_unix_ms: row.get::<_, i64>(6)?.cast_unsigned(),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Stores a new session that has no device yet: a phone is to link one. Errors: `exists`.
pub(crate) fn create(connection: &Connection, id: &str, now_unix_ms: u64) -> Result<()> {
    if exists(connection, id)? {
        return Err(taken(id));
    }
    connection
        .prepare_cached("INSERT INTO session (session_id, imported_at_unix_ms) VALUES (?1, ?2)")?
        .execute(params![id, now_unix_ms.cast_signed()])?;
    Ok(())
}

/// Gives a session without a device the one that a phone has linked. Errors: `unknown_session`; `exists`, and the caller
/// rolls back: what is there is never replaced.
pub(crate) fn link(connection: &Connection, id: &str, linked: &Linked) -> Result<()> {
    let c = &linked.credentials;
    let held: Option<Option<String>> = connection
        .prepare_cached("SELECT jid FROM session WHERE session_id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    match held {
        None => return Err(StoreError::unknown_session(id)),
        Some(Some(_)) => {
            return Err(StoreError::new(ErrorKind::Exists, format!("session {id} has a device already")));
        }
        Some(None) => {}
    }
    check_owner(connection, &c.jid)?;
    connection
        .prepare_cached("UPDATE session SET jid = ?2, lid = ?3 WHERE session_id = ?1")?
        .execute(params![id, c.jid, c.lid])?;
    insert_device(connection, id, c, &SecretBytes::default())?;
    insert_keys(connection, id, &linked.keys)
}

/// Moves an unlinked device and its keys to the archive, so that a phone can link another. Errors: `unknown_session`;
/// `exists` when the device is in use, or not known to be unlinked.
pub(crate) fn set_aside(connection: &Connection, id: &str, now_unix_ms: u64) -> Result<()> {
    let state: Option<(Option<String>, Option<String>)> = connection
        .query_row("SELECT jid, archived_why FROM session WHERE session_id = ?1", [id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    match state {
        None => return Err(StoreError::unknown_session(id)),
        Some((None, _)) => return Ok(()),
        Some((Some(_), None)) => {
            return Err(StoreError::new(
                ErrorKind::Exists,
                format!("session {id} has a device that is in use"),
            ));
        }
        Some((Some(_), Some(_))) => {}
    }
    to_archive(connection, id, now_unix_ms)?;
    for table in ["device", "signal_key", "connection_state"] {
        connection.execute(&format!("DELETE FROM {table} WHERE session_id = ?1"), [id])?;
    }
    connection.execute(
        "UPDATE session SET jid = NULL, lid = NULL, archived_why = NULL, archived_at_unix_ms = NULL,
                quarantined_why = NULL WHERE session_id = ?1",
        [id],
    )?;
    Ok(())
}

/// Errors: `exists` when a session in use holds this device.
fn check_owner(connection: &Connection, jid: &str) -> Result<()> {
    let owner = connection
        .prepare_cached("SELECT session_id FROM session WHERE jid = ?1 AND archived_why IS NULL")?
        .query_row([jid], |row| row.get::<_, String>(0))
        .optional()?;
    match owner {
        // Two sessions of one device would replace each other on the server for ever.
        Some(other) => {
            Err(StoreError::new(ErrorKind::Exists, format!("session {other} holds this device already")))
        }
        None => Ok(()),
    }
}

fn taken(id: &str) -> StoreError {
    StoreError::new(ErrorKind::Exists, format!("session {id} exists; choose another id"))
}

/// Stores a new session with everything it has. Errors: `exists`; the caller rolls back.
pub(crate) fn import(connection: &Connection, import: &Import, now_unix_ms: u64) -> Result<()> {
    let id = import.session_id.as_str();
    if exists(connection, id)? {
        return Err(taken(id));
    }
    let c = &import.credentials;
    check_owner(connection, &c.jid)?;
    connection
        .prepare_cached(
            "INSERT INTO session (session_id, jid, lid, imported_at_unix_ms) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![id, c.jid, c.lid, now_unix_ms.cast_signed()])?;
    insert_device(connection, id, c, &import.source)?;
    if let Some(routing_info) = &import.routing_info {
        set_routing_info(connection, id, routing_info)?;
    }
    insert_keys(connection, id, &import.keys)
}

fn insert_keys(connection: &Connection, id: &str, keys: &[SignalKey]) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO signal_key (session_id, kind, id, value, checksum) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for key in keys {
        let value = key.value.expose();
        let sum = checksum::signal_key(id, &key.kind, &key.id, value);
        statement.execute(params![id, key.kind, key.id, value, sum]).map_err(|error| {
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) {
                // The import's own fault: it must not take down what is committed with it.
                StoreError::new(
                    ErrorKind::Exists,
                    format!("the Signal key {} {} comes twice", key.kind, key.id),
                )
            } else {
                error.into()
            }
        })?;
    }
    Ok(())
}

/// Stores many sessions, each whole or not at all; says for each whether it was refused.
///
/// Errors: what ends the transaction (disk full, damage); the caller rolls back, and none is stored.
pub(crate) fn import_all(
    connection: &Connection,
    imports: &[Import],
    now_unix_ms: u64,
) -> Result<Vec<Result<()>>> {
    let mut outcomes = Vec::with_capacity(imports.len());
    for one in imports {
        let outcome = in_savepoint(connection, |connection| import(connection, one, now_unix_ms));
        match outcome {
            Err(error) if error.kind.ends_the_group() => return Err(error),
            outcome => outcomes.push(outcome),
        }
    }
    Ok(outcomes)
}

pub(crate) fn insert_device(
    connection: &Connection,
    id: &str,
    c: &Credentials,
    source: &SecretBytes,
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO device VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    statement.execute(params![
        id,
        c.jid,
        c.lid,
        c.push_name,
        c.platform,
        c.registration_id,
        c.noise_secret.expose(),
        c.identity_secret.expose(),
        c.signed_pre_key_id,
        c.signed_pre_key_secret.expose(),
        c.signed_pre_key_signature,
        c.adv_secret.expose(),
        c.account,
        source.expose(),
        checksum::device(id, c, source),
    ])?;
    Ok(())
}

/// The stored credentials when their checksum holds, or what is wrong with the row. `None`: no row.
pub(crate) fn read_device(
    connection: &Connection,
    session_id: &str,
) -> Result<Option<std::result::Result<(Credentials, SecretBytes), String>>> {
    let mut statement = connection.prepare_cached("SELECT * FROM device WHERE session_id = ?1")?;
    let mut rows = statement.query([session_id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(parse_device(session_id, row)))
}

fn parse_device(session_id: &str, row: &Row<'_>) -> std::result::Result<(Credentials, SecretBytes), String> {
    let secret = |column: &str| row.get::<_, [u8; 32]>(column).map(Secret32::from);
    let read = || -> rusqlite::Result<(Credentials, SecretBytes, checksum::Checksum)> {
        let credentials = Credentials {
            jid: row.get("jid")?,
            lid: row.get("lid")?,
            push_name: row.get("push_name")?,
            platform: row.get("platform")?,
            registration_id: row.get("registration_id")?,
            noise_secret: secret("noise_secret")?,
            identity_secret: secret("identity_secret")?,
            signed_pre_key_id: row.get("signed_pre_key_id")?,
            signed_pre_key_secret: secret("signed_pre_key_secret")?,
            signed_pre_key_signature: row.get("signed_pre_key_signature")?,
            adv_secret: secret("adv_secret")?,
            account: row.get("account")?,
        };
        Ok((credentials, SecretBytes::from(row.get::<_, Vec<u8>>("source")?), row.get("checksum")?))
    };
    let (credentials, source, stored) =
        read().map_err(|e| format!("a field of the credentials is damaged: {e}"))?;
    if checksum::device(session_id, &credentials, &source) != stored {
        return Err("the checksum of the credentials does not match".into());
    }
    Ok((credentials, source))
}

/// What a dial needs. A row found damaged is reported as an inner `Err(why)`, for the writer to quarantine.
pub(crate) fn device(
    connection: &Connection,
    session_id: &str,
) -> std::result::Result<std::result::Result<Device, String>, DeviceError> {
    let sql = |e: rusqlite::Error| DeviceError::Store(e.into());
    let row = connection
        .prepare_cached("SELECT jid IS NULL, lid, quarantined_why FROM session WHERE session_id = ?1")
        .map_err(sql)?
        .query_row([session_id], |row| {
            Ok((row.get::<_, bool>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, Option<String>>(2)?))
        })
        .optional()
        .map_err(sql)?;
    let Some((is_unlinked, lid, quarantined)) = row else { return Err(DeviceError::Missing) };
    if let Some(why) = quarantined {
        return Err(DeviceError::Quarantined(why));
    }
    let credentials = match read_device(connection, session_id)? {
        None if is_unlinked => return Err(DeviceError::NotLinked),
        None => return Err(DeviceError::Missing),
        Some(Err(why)) => return Ok(Err(why)),
        Some(Ok((credentials, _source))) => Credentials { lid, ..credentials },
    };
    let (routing_info, server_chain) = connection_state(connection, session_id)?;
    let has_ciphertexts = ciphertext::exists(connection, session_id)?;
    let session_id = session_id.into();
    Ok(Ok(Device { session_id, credentials, routing_info, server_chain, has_ciphertexts }))
}

type ConnectionState = (Option<Vec<u8>>, Option<ServerChain>);

fn connection_state(connection: &Connection, session_id: &str) -> Result<ConnectionState> {
    let state = connection
        .prepare_cached(
            "SELECT routing_info, chain_raw, chain_leaf_key, chain_not_before, chain_not_after
             FROM connection_state WHERE session_id = ?1",
        )?
        .query_row([session_id], |row| {
            let chain = match (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?) {
                (Some(raw), Some(leaf_key), Some(from), Some(until)) => Some(ServerChain {
                    raw,
                    leaf_key,
                    not_before: i64::cast_unsigned(from),
                    not_after: i64::cast_unsigned(until),
                }),
                _ => None,
            };
            Ok((row.get(0)?, chain))
        })
        .optional()?;
    Ok(state.unwrap_or_default())
}

pub(crate) fn set_routing_info(connection: &Connection, session_id: &str, routing_info: &[u8]) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO connection_state (session_id, routing_info) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET routing_info = excluded.routing_info",
        )?
        .execute(params![session_id, routing_info])?;
    Ok(())
}

pub(crate) fn set_server_chain(
    connection: &Connection,
    session_id: &str,
    chain: Option<&ServerChain>,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO connection_state (session_id, chain_raw, chain_leaf_key, chain_not_before, chain_not_after)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET chain_raw = excluded.chain_raw, chain_leaf_key = excluded.chain_leaf_key,
                 chain_not_before = excluded.chain_not_before, chain_not_after = excluded.chain_not_after",
        )?
        .execute(params![
            session_id,
            chain.map(|c| &c.raw),
            chain.map(|c| c.leaf_key),
            chain.map(|c| c.not_before.cast_signed()),
            chain.map(|c| c.not_after.cast_signed()),
        ])?;
    Ok(())
}

pub(crate) fn set_lid(connection: &Connection, session_id: &str, lid: &str) -> Result<()> {
    connection
        .prepare_cached("UPDATE session SET lid = ?2 WHERE session_id = ?1")?
        .execute([session_id, lid])?;
    Ok(())
}

/// All Signal records of a session whose checksum holds, and the names of those that are damaged, as `kind id`.
pub(crate) fn rows(connection: &Connection, session_id: &str) -> Result<(Vec<StoredRow>, Vec<String>)> {
    let mut statement = connection
        .prepare_cached("SELECT kind, id FROM signal_key WHERE session_id = ?1 ORDER BY kind, id")?;
    let names = statement.query_map([session_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let names: Vec<(String, String)> = names.collect::<rusqlite::Result<_>>()?;
    let (mut rows, mut damaged) = (Vec::with_capacity(names.len()), Vec::new());
    for (kind, id) in names {
        match signal_record::find_named(connection, session_id, &kind, &id)? {
            signal_record::Found::Record(record) => rows.push(StoredRow { kind, id, record }),
            signal_record::Found::Damaged => damaged.push(format!("{kind} {id}")),
            signal_record::Found::Nothing => {}
        }
    }
    Ok((rows, damaged))
}

/// All that a session's device is. Errors: `unknown_session`; `exists` when it has no device; `damaged`.
pub(crate) fn export(connection: &Connection, session_id: &str) -> Result<Exported> {
    let lid: Option<Option<String>> = connection
        .prepare_cached("SELECT lid FROM session WHERE session_id = ?1")?
        .query_row([session_id], |row| row.get(0))
        .optional()?;
    let Some(lid) = lid else { return Err(StoreError::unknown_session(session_id)) };
    let (credentials, source) = match read_device(connection, session_id)? {
        Some(Ok(device)) => device,
        Some(Err(why)) => {
            let why = format!("session {session_id} cannot be exported: {why}");
            return Err(StoreError::new(ErrorKind::Quarantined, why));
        }
        None => {
            let why = format!("session {session_id} has no device: no phone has linked one");
            return Err(StoreError::new(ErrorKind::NotLinked, why));
        }
    };
    let (routing_info, _) = connection_state(connection, session_id)?;
    let (records, damaged) = rows(connection, session_id)?;
    Ok(Exported { credentials: Credentials { lid, ..credentials }, routing_info, source, records, damaged })
}

/// The Signal keys of a session in their imported form whose checksum holds, and the names of those that are damaged.
#[derive(Debug, Default)]
pub(crate) struct KeyScan {
    pub(crate) good: Vec<SignalKey>,
    pub(crate) damaged: Vec<(String, String)>,
}

pub(crate) fn signal_keys(connection: &Connection, session_id: &str) -> Result<KeyScan> {
    if !exists(connection, session_id)? {
        return Err(StoreError::unknown_session(session_id));
    }
    let mut statement = connection.prepare_cached(
        "SELECT kind, id, value, checksum FROM signal_key WHERE session_id = ?1 AND format = 0
         ORDER BY kind, id",
    )?;
    let mut rows = statement.query([session_id])?;
    let mut scan = KeyScan::default();
    while let Some(row) = rows.next()? {
        let (kind, id): (String, String) = (row.get(0)?, row.get(1)?);
        let value = SecretBytes::from(row.get::<_, Vec<u8>>(2)?);
        if row.get::<_, Vec<u8>>(3)? == checksum::signal_key(session_id, &kind, &id, value.expose()) {
            scan.good.push(SignalKey { kind, id, value });
        } else {
            scan.damaged.push((kind, id));
        }
    }
    Ok(scan)
}

/// Sets a damaged Signal key aside: copied, then taken out of use.
pub(crate) fn quarantine_key(
    connection: &Connection,
    session_id: &str,
    (kind, id): &(String, String),
    now_unix_ms: u64,
) -> Result<()> {
    connection.execute(
        "INSERT INTO quarantine (what, session_id, why, at_unix_ms, content)
         SELECT 'signal_key', session_id, 'the checksum of ' || kind || ' ' || id || ' does not match', ?4,
                CAST(quote(kind) || ',' || quote(id) || ',' || quote(value) || ',' || quote(checksum) || ',' || format
                     AS BLOB)
         FROM signal_key WHERE session_id = ?1 AND kind = ?2 AND id = ?3",
        params![session_id, kind, id, now_unix_ms.cast_signed()],
    )?;
    signal_record::remove_named(connection, session_id, kind, id)
}

/// Marks a session's credentials as unusable and keeps a copy. The row itself stays: nothing may take its place.
pub(crate) fn quarantine_device(
    connection: &Connection,
    session_id: &str,
    why: &str,
    now_unix_ms: u64,
) -> Result<()> {
    let marked = connection.execute(
        "UPDATE session SET quarantined_why = ?2 WHERE session_id = ?1 AND quarantined_why IS NULL",
        [session_id, why],
    )?;
    if marked == 0 {
        return Ok(());
    }
    let copy: Option<String> = connection
        .query_row(
            "SELECT concat_ws(',', quote(jid), quote(lid), quote(push_name), quote(platform),
                    quote(registration_id), quote(noise_secret), quote(identity_secret), quote(signed_pre_key_id),
                    quote(signed_pre_key_secret), quote(signed_pre_key_signature), quote(adv_secret),
                    quote(account), quote(source), quote(checksum))
             FROM device WHERE session_id = ?1",
            [session_id],
            |row| row.get(0),
        )
        .optional()?;
    note(connection, "device", Some(session_id), why, copy.map(String::into_bytes).as_deref(), now_unix_ms)
}

/// Adds a line to the quarantine table.
pub(crate) fn note(
    connection: &Connection,
    what: &str,
    session_id: Option<&str>,
    why: &str,
    content: Option<&[u8]>,
    now_unix_ms: u64,
) -> Result<()> {
    connection.execute(
        "INSERT INTO quarantine (what, session_id, why, at_unix_ms, content) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![what, session_id, why, now_unix_ms.cast_signed(), content],
    )?;
    Ok(())
}

pub(crate) fn quarantined(connection: &Connection) -> Result<Vec<Quarantined>> {
    let mut statement = connection
        .prepare_cached("SELECT what, session_id, why, at_unix_ms FROM quarantine ORDER BY quarantine_id")?;
    let rows = statement.query_map([], |row| {
        Ok(Quarantined {
            what: row.get(0)?,
            session_id: row.get(1)?,
            why: row.get(2)?,
            at_unix_ms: row.get::<_, i64>(3)?.cast_unsigned(),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Marks the credentials as logged out; they are kept. A session without a device has none to mark: they may have been
/// set aside meanwhile.
pub(crate) fn archive(connection: &Connection, session_id: &str, why: &str, now_unix_ms: u64) -> Result<()> {
    let marked = connection.execute(
        "UPDATE session SET archived_why = ?2, archived_at_unix_ms = ?3
         WHERE session_id = ?1 AND jid IS NOT NULL",
        params![session_id, why, now_unix_ms.cast_signed()],
    )?;
    if marked > 0 || exists(connection, session_id)? {
        Ok(())
    } else {
        Err(StoreError::unknown_session(session_id))
    }
}

/// Takes the mark of [`archive`] back.
pub(crate) fn unarchive(connection: &Connection, session_id: &str) -> Result<()> {
    let marked = connection.execute(
        "UPDATE session SET archived_why = NULL, archived_at_unix_ms = NULL WHERE session_id = ?1",
        params![session_id],
    )?;
    if marked == 0 { Err(StoreError::unknown_session(session_id)) } else { Ok(()) }
}

/// Removes a session; its credentials and keys move to the archive tables.
pub(crate) fn delete(connection: &Connection, session_id: &str, now_unix_ms: u64) -> Result<()> {
    to_archive(connection, session_id, now_unix_ms)?;
    for table in ["session", "device", "signal_key", "connection_state", "policy"] {
        connection.execute(&format!("DELETE FROM {table} WHERE session_id = ?1"), [session_id])?;
    }
    Ok(())
}

/// Copies a session's credentials and keys to the archive tables.
fn to_archive(connection: &Connection, session_id: &str, now_unix_ms: u64) -> Result<()> {
    let moved = connection.execute(
        "INSERT INTO archive (session_id, why, at_unix_ms, jid, lid, policy)
         SELECT s.session_id, coalesce(s.archived_why, 'deleted'), ?2, s.jid, s.lid, p.json
         FROM session AS s LEFT JOIN policy AS p USING (session_id) WHERE s.session_id = ?1",
        params![session_id, now_unix_ms.cast_signed()],
    )?;
    if moved == 0 {
        return Err(StoreError::unknown_session(session_id));
    }
    let archive_id = connection.last_insert_rowid();
    connection.execute(
        "INSERT INTO archive_device SELECT ?2, * FROM device WHERE session_id = ?1",
        params![session_id, archive_id],
    )?;
    connection.execute(
        "INSERT INTO archive_key SELECT ?2, kind, id, value, checksum, format FROM signal_key WHERE session_id = ?1",
        params![session_id, archive_id],
    )?;
    Ok(())
}

/// Keeps the policy of a session that exists; a late write does not bring back a deleted one.
pub(crate) fn set_policy(connection: &Connection, session_id: &str, json: &str) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO policy (session_id, json) SELECT session_id, ?2 FROM session WHERE session_id = ?1
             ON CONFLICT DO UPDATE SET json = excluded.json",
        )?
        .execute([session_id, json])?;
    Ok(())
}

pub(crate) fn set_meta(connection: &Connection, key: &str, value: &str) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
        )?
        .execute([key, value])?;
    Ok(())
}

/// The pairs of a two-column text query.
pub(crate) fn pairs(connection: &Connection, sql: &str) -> Result<Vec<(String, String)>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

//! What the own devices tell each other, `category="peer"`: nothing for the consumer, and keys among it.
//!
//! The keys of the app state and the notices of history are kept for who reads app state and history; the rest is
//! answered and forgotten. docs/protocol.md, "Messages".

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use crate::{
    protobuf::{Fields, Malformed, Value, find},
    record::{RecordBytes, RecordKey, RecordKind},
};

/// `Message.protocolMessage`, its `type`, and what its types hold.
mod field {
    pub(super) const PROTOCOL: u32 = 12;
    pub(super) const TYPE: u32 = 2;
    pub(super) const HISTORY_NOTICE: u32 = 6;
    pub(super) const KEY_SHARE: u32 = 7;
}

/// `HISTORY_SYNC_NOTIFICATION` and `APP_STATE_SYNC_KEY_SHARE`.
const HISTORY: u64 = 5;
const KEY_SHARE: u64 = 6;

/// Keys of one message that are kept; the phone sends a handful.
const MOST_KEYS: usize = 64;

/// The longest id of a key; they have six bytes.
const MAX_KEY_ID_BYTES: usize = 32;

/// The records that a message between own devices leaves. One that is malformed leaves none.
pub(super) fn kept(message_id: &str, message: &[u8]) -> Vec<(RecordKey, Option<RecordBytes>)> {
    read(message_id, message).unwrap_or_default()
}

fn read(message_id: &str, message: &[u8]) -> Result<Vec<(RecordKey, Option<RecordBytes>)>, Malformed> {
    let Some(protocol) = find(message, field::PROTOCOL)?.and_then(Value::bytes) else {
        return Ok(Vec::new());
    };
    match find(protocol, field::TYPE)?.and_then(Value::varint) {
        Some(HISTORY) => {
            let notice = find(protocol, field::HISTORY_NOTICE)?.and_then(Value::bytes);
            let key = RecordKey::new(RecordKind::HistoryNotice, message_id);
            Ok(notice.map(|notice| (key, Some(notice.to_vec().into()))).into_iter().collect())
        }
        Some(KEY_SHARE) => {
            let share = find(protocol, field::KEY_SHARE)?.and_then(Value::bytes).unwrap_or_default();
            let mut found = Vec::new();
            for key in Fields::new(share) {
                let (1, Value::Bytes(key)) = key? else { continue };
                let id = find(key, 1)?.and_then(Value::bytes).map_or(Ok(None), |id| find(id, 1))?;
                let data = find(key, 2)?.and_then(Value::bytes);
                if let Some((id, data)) = id.and_then(Value::bytes).zip(data)
                    && (1..=MAX_KEY_ID_BYTES).contains(&id.len())
                    && found.len() < MOST_KEYS
                {
                    let key = RecordKey::new(RecordKind::AppStateKey, BASE64.encode(id));
                    found.push((key, Some(data.to_vec().into())));
                }
            }
            Ok(found)
        }
        _ => Ok(Vec::new()),
    }
}

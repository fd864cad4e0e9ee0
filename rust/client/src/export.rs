//! Records of a session in the form of Baileys' files, for a device that moves there.
//!
//! Whoever exports a device must not go on with it: two programs on one device push each other off, and their ratchets
//! drift apart. Pure.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use runner_proto::entropy::Entropy;
use runner_signal::{SignedPreKey, baileys};

use crate::{
    key_state::KeyState,
    pre_keys::Ids,
    protobuf::{self, Fields, Value},
    record::{RecordBytes, RecordKind, StoredRecord},
    restored::SENDER_KEY_MEMORY,
};

/// A record by the slug of its kind and its id.
pub type Named = (String, String, StoredRecord);

/// What goes into the other program's files.
#[derive(Debug, Default)]
pub struct Export {
    /// Kind, id and content of each file, beside the credentials.
    pub files: Vec<(String, String, RecordBytes)>,
    /// The signed pre-key in use, when it is not that of the credentials: id, secret, signature.
    pub signed_pre_key: Option<(u32, [u8; 32], [u8; 64])>,
    /// The next id of a one-time pre-key, and the first that may not be at the server; `None`: we made none.
    pub pre_key_ids: Option<(u32, u32)>,
    /// Records that cannot be read, as `kind id`.
    pub left_out: Vec<String>,
}

/// Everything that a session's records say, in Baileys' form.
///
/// `entropy` is for the half turn of the ratchet that Baileys has done before it sends.
#[must_use]
pub fn export(records: Vec<Named>, now_unix_ms: u64, entropy: &mut dyn Entropy) -> Export {
    let find = |kind: RecordKind, id: &str| {
        records
            .iter()
            .find(|(of, name, _)| of == kind.slug() && name == id)
            .map(|(.., record)| record.clone())
    };
    let state = KeyState::read(find(RecordKind::SignedPreKeyState, ""));
    let signed = state.and_then(|state| find(RecordKind::SignedPreKey, &state.current?.to_string()));
    let signed = signed.and_then(|record| SignedPreKey::from_record(record.value.expose()).ok());
    let ids = find(RecordKind::PreKeyIds, "").map(|record| Ids::read(Some(record)));
    let mut export = Export {
        signed_pre_key: signed.map(|key| (key.id, *key.pair.expose(), key.signature)),
        pre_key_ids: ids.map(Ids::numbers),
        ..Export::default()
    };
    let has_own_key: HashSet<String> = records
        .iter()
        .filter(|(kind, ..)| kind == RecordKind::Holders.slug())
        .map(|(_, group, _)| group.clone())
        .collect();
    for (kind, id, record) in records {
        // Of whom it says that they have our sender key, they have an older one: Baileys is to tell all of them anew.
        if kind == SENDER_KEY_MEMORY && has_own_key.contains(&id) {
            continue;
        }
        match file(&kind, record, now_unix_ms, entropy) {
            File::Content(content) => export.files.push((kind, id, content)),
            File::Ours => {}
            File::Unreadable => export.left_out.push(format!("{kind} {id}")),
        }
    }
    export
}

enum File {
    Content(RecordBytes),
    /// Baileys has no such thing.
    Ours,
    Unreadable,
}

fn file(kind: &str, record: StoredRecord, now_unix_ms: u64, entropy: &mut dyn Entropy) -> File {
    let is = |known: RecordKind| known.slug() == kind;
    if record.is_imported {
        // As it came; an id that we were given to go on from is in the credentials.
        return if is(RecordKind::PreKeyIds) { File::Ours } else { File::Content(record.value) };
    }
    let own = record.value.expose();
    let content = if is(RecordKind::Session) {
        baileys::session_json(own, now_unix_ms, &mut |bytes: &mut [u8]| entropy.fill(bytes)).ok()
    } else if is(RecordKind::SenderKey) {
        baileys::sender_key_json(own).ok()
    } else if is(RecordKind::PreKey) {
        baileys::pre_key_json(own).ok().map(|(_, json)| json)
    } else if is(RecordKind::Identity) {
        baileys::identity_json(own).ok()
    } else if is(RecordKind::AppStateKey) {
        app_state_key_json(own).map(String::into_bytes)
    } else if is(RecordKind::LidMapping) {
        return File::Content(record.value);
    } else {
        return File::Ours;
    };
    content.map_or(File::Unreadable, |content| File::Content(content.into()))
}

/// `AppStateSyncKeyData` as protobuf's JSON has it.
fn app_state_key_json(encoded: &[u8]) -> Option<String> {
    let of = |message, number| protobuf::find(message, number).ok().flatten();
    let key = of(encoded, 1)?.bytes()?;
    let fingerprint = of(encoded, 2).and_then(Value::bytes).unwrap_or_default();
    let number = |field| of(fingerprint, field).and_then(Value::varint).unwrap_or(0);
    let mut indexes = Vec::new();
    for field in Fields::new(fingerprint) {
        let (field, value) = field.ok()?;
        match (field, value.varint(), value.bytes()) {
            (3, Some(index), _) => indexes.push(index.to_string()),
            (3, None, Some(packed)) => indexes.extend(varints(packed)?.iter().map(u64::to_string)),
            _ => {}
        }
    }
    let timestamp = of(encoded, 3).and_then(Value::varint).unwrap_or(0);
    Some(format!(
        r#"{{"keyData":"{}","fingerprint":{{"rawId":{},"currentIndex":{},"deviceIndexes":[{}]}},"timestamp":"{timestamp}"}}"#,
        BASE64.encode(key),
        number(1),
        number(2),
        indexes.join(","),
    ))
}

fn varints(packed: &[u8]) -> Option<Vec<u64>> {
    let (mut numbers, mut number, mut shift) = (Vec::new(), 0_u64, 0_u32);
    for byte in packed {
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(number);
            (number, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zeros;

    impl Entropy for Zeros {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    #[test]
    fn an_app_state_key_is_written_as_protobufs_json_has_it() {
        let encoded = [
            &[0x0a, 2, 0xff, 0x01][..],
            &[0x12, 8, 0x08, 5, 0x10, 7, 0x1a, 2, 0x00, 0x03],
            &[0x18, 0x96, 0x01],
        ]
        .concat();
        assert_eq!(
            app_state_key_json(&encoded).as_deref(),
            Some(
                r#"{"keyData":"/wE=","fingerprint":{"rawId":5,"currentIndex":7,"deviceIndexes":[0,3]},"timestamp":"150"}"#
            )
        );
        assert_eq!(app_state_key_json(&[0x0a, 9]), None);
    }

    #[test]
    fn who_has_a_sender_key_of_baileys_is_forgotten_where_there_is_one_of_ours() {
        let record = |kind: &str, id: &str, is_imported| {
            let record = StoredRecord { value: b"{}".to_vec().into(), is_imported };
            (kind.to_owned(), id.to_owned(), record)
        };
        let records = vec![
            record(SENDER_KEY_MEMORY, "1@g.us", true),
            record(SENDER_KEY_MEMORY, "2@g.us", true),
            record("sender-key-holders", "1@g.us", false),
        ];
        let exported = export(records, 0, &mut Zeros);
        let names: Vec<_> = exported.files.iter().map(|(_, id, _)| id.as_str()).collect();
        assert_eq!(names, ["2@g.us"]);
    }

    #[test]
    fn only_what_baileys_has_goes_out() {
        let own = |kind: &str, value: &[u8]| {
            let record = StoredRecord { value: value.to_vec().into(), is_imported: false };
            (kind.to_owned(), "1".to_owned(), record)
        };
        let exported = export(
            vec![own("session", b"damaged"), own("lid-mapping", b"\"7\""), own("history-notice", b"x")],
            0,
            &mut Zeros,
        );
        assert_eq!(exported.left_out, ["session 1"]);
        let names: Vec<_> = exported.files.iter().map(|(kind, ..)| kind.as_str()).collect();
        assert_eq!(names, ["lid-mapping"]);
    }
}

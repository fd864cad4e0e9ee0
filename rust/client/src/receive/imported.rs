//! Records that another program wrote, as Baileys' files have them, in our own form.

use runner_signal::{KeyPair, PreKey};

use crate::record::{RecordBytes, RecordKey, RecordKind, StoredRecord};

/// A record in our own form; `None` when it cannot be read.
pub(crate) fn own_form(key: &RecordKey, stored: StoredRecord) -> Option<RecordBytes> {
    if !stored.is_imported {
        return Some(stored.value);
    }
    let imported = stored.value.expose();
    match key.kind {
        RecordKind::LidMapping => Some(stored.value),
        RecordKind::PreKey => pre_key(&key.id, imported),
        _ => None,
    }
}

fn pre_key(id: &str, imported: &[u8]) -> Option<RecordBytes> {
    let id = id.parse().ok()?;
    let json: serde_json::Value = serde_json::from_slice(imported).ok()?;
    let secret = buffer(json.get("private")?)?;
    let key = PreKey { id, pair: KeyPair::from_secret(secret.try_into().ok()?) };
    Some(key.to_record().into_bytes().into())
}

/// Bytes as Baileys' `BufferJSON` writes them.
fn buffer(value: &serde_json::Value) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let data = value.get("data")?.as_str()?;
    base64::engine::general_purpose::STANDARD.decode(data).ok()
}

//! Records that another program wrote, as Baileys' files have them, in our own form.
//!
//! A record that cannot be read is as good as none: what was made with it cannot be read either, and its sender is asked
//! again, as for a session that is missing. It is counted, and said once a connection, since a contact may have written
//! what nobody can read any more. It stays in the store until one of ours takes its place.

use runner_signal::baileys;

use crate::{
    pre_keys::Ids,
    record::{RecordBytes, RecordKey, RecordKind, StoredRecord},
};

/// A record in our own form; `None` when it cannot be read.
pub(crate) fn own_form(key: &RecordKey, stored: StoredRecord) -> Option<RecordBytes> {
    if !stored.is_imported {
        return Some(stored.value);
    }
    let json = stored.value.expose();
    let record = match key.kind {
        // Both programs keep it in the same form.
        RecordKind::LidMapping => return Some(stored.value),
        RecordKind::Session => baileys::session_record(json).ok()?.record,
        RecordKind::SenderKey => baileys::sender_key_record(json).ok()?.record,
        RecordKind::PreKey => baileys::pre_key_record(key.id.parse().ok()?, json).ok()?,
        RecordKind::Identity => baileys::identity_record(json).ok()?,
        // Kept for later, as they came.
        RecordKind::AppStateKey | RecordKind::HistoryNotice => return Some(stored.value),
        // What the other program would give next, in digits.
        RecordKind::PreKeyIds => {
            return Some(Ids::from(std::str::from_utf8(json).ok()?.parse().ok()?).record().1);
        }
        // Only we have these.
        RecordKind::SignedPreKey
        | RecordKind::SignedPreKeyState
        | RecordKind::Devices
        | RecordKind::Sent
        | RecordKind::SentIndex
        | RecordKind::Group
        | RecordKind::Holders => return None,
    };
    Some(record.into_bytes().into())
}

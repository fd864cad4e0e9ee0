//! Any bytes, given to everything that reads bytes.

use crate::group::keys::SenderKeys;
use crate::record::{Kind, sealed};
use crate::session::sessions::Sessions;
use crate::{
    PreKey, PreKeySignalMessage, SenderKeyDistribution, SenderKeyMessage, SignalMessage, SignedPreKey,
    baileys, identity,
};

/// Records: what is read is written again as it was, with the checksum that `data` has or with the right one.
pub fn records(data: &[u8]) {
    check_record(data);
    for kind in [Kind::Session, Kind::SenderKey, Kind::PreKey, Kind::SignedPreKey, Kind::Identity] {
        check_record(sealed(kind, data).as_bytes());
    }
}

fn check_record(record: &[u8]) {
    let again = [
        Sessions::decode(record).map(|sessions| sessions.encode()),
        SenderKeys::decode(record).map(|keys| keys.encode()),
        PreKey::from_record(record).map(|key| key.to_record()),
        SignedPreKey::from_record(record).map(|key| key.to_record()),
        identity::from_record(record).map(|key| identity::to_record(&key)),
    ];
    for again in again.into_iter().flatten() {
        assert_eq!(again.as_bytes(), record, "a record has one encoding");
    }
}

/// Messages: nothing is read outside of them.
pub fn messages(data: &[u8]) {
    if let Ok(message) = SignalMessage::parse(data) {
        assert_eq!(message.authenticated.len() + message.mac.len(), data.len());
        assert!(!message.ciphertext.is_empty());
    }
    if let Ok(message) = PreKeySignalMessage::parse(data) {
        assert!(message.message.authenticated.len() < data.len());
    }
    if let Ok(message) = SenderKeyMessage::parse(data) {
        assert_eq!(message.signed.len() + message.signature.len(), data.len());
    }
    let _ = SenderKeyDistribution::parse(data);
}

/// Baileys' files: what is taken over can be given back and taken over again.
pub fn baileys_files(data: &[u8]) {
    let random = &mut |bytes: &mut [u8]| bytes.fill(9);
    if let Ok(imported) = baileys::session_record(data)
        && let Ok(json) = baileys::session_json(imported.record.as_bytes(), 1_800_000_000_000, random)
    {
        // A session that cannot send is none to Baileys, so nothing may be left.
        let _ = baileys::session_record(&json);
    }
    if let Ok(imported) = baileys::sender_key_record(data) {
        let json = baileys::sender_key_json(imported.record.as_bytes()).expect("just made");
        let again = baileys::sender_key_record(&json).expect("just written");
        assert_eq!(again.record, imported.record);
    }
    if let Ok(record) = baileys::pre_key_record(7, data) {
        let (id, json) = baileys::pre_key_json(record.as_bytes()).expect("just made");
        assert_eq!(baileys::pre_key_record(id, &json), Ok(record));
    }
    if let Ok(record) = baileys::identity_record(data) {
        let json = baileys::identity_json(record.as_bytes()).expect("just made");
        assert_eq!(baileys::identity_record(&json), Ok(record));
    }
}

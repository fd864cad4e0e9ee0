//! Replays messages that real Baileys and whatsmeow's library made; tests/vectors/make_signal.py says how.

use std::collections::HashMap;

use runner_signal::session::{self, NamedPreKeys};
use runner_signal::{
    Identity, KeyPair, PreKey, PreKeySignalMessage, SenderKeyMessage, SignalMessage, SignedPreKey, group,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Document {
    baileys: Vec<Moment>,
    whatsmeow: Vec<Moment>,
}

/// What our device held, and what it must read from there.
#[derive(Deserialize)]
struct Moment {
    name: String,
    peer: String,
    group: String,
    device: Records,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Records {
    identity: String,
    registration_id: u32,
    signed_pre_key: String,
    pre_keys: HashMap<String, String>,
    sessions: HashMap<String, String>,
    sender_keys: HashMap<String, String>,
}

#[derive(Deserialize)]
pub(crate) struct Message {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) bytes: String,
    pub(crate) plaintext: String,
}

pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn document() -> Document {
    serde_json::from_str(include_str!("../../../../tests/vectors/signal.json")).unwrap()
}

/// Reads all messages of a moment, one after the other.
fn replay(moment: &Moment) {
    let device = &moment.device;
    let secret = unhex(&device.identity).try_into().unwrap();
    let own = Identity::new(KeyPair::from_secret(secret), device.registration_id);
    let signed = SignedPreKey::from_record(&unhex(&device.signed_pre_key)).unwrap();
    let mut pre_keys: HashMap<u32, Vec<u8>> =
        device.pre_keys.iter().map(|(id, record)| (id.parse().unwrap(), unhex(record))).collect();
    let mut session = device.sessions.get(&moment.peer).map(|record| unhex(record));
    let sender_key = format!("{} {}", moment.group, moment.peer);
    let mut sender_key = device.sender_keys.get(&sender_key).map(|record| unhex(record));
    for message in &moment.messages {
        let bytes = unhex(&message.bytes);
        let plaintext = match message.kind.as_str() {
            "skmsg" => {
                let parsed = SenderKeyMessage::parse(&bytes).unwrap();
                let opened = group::decrypt(sender_key.as_deref(), &parsed).unwrap();
                sender_key = Some(opened.record.into_bytes());
                opened.plaintext
            }
            kind => {
                let opened = if kind == "msg" {
                    session::decrypt(&own, session.as_deref(), &SignalMessage::parse(&bytes).unwrap())
                } else {
                    let parsed = PreKeySignalMessage::parse(&bytes).unwrap();
                    let one_time = parsed.pre_key_id.and_then(|id| pre_keys.get(&id));
                    let one_time = one_time.map(|record| PreKey::from_record(record).unwrap());
                    let keys = NamedPreKeys { signed: Some(&signed), one_time: one_time.as_ref() };
                    session::decrypt_pre_key(&own, session.as_deref(), keys, &parsed)
                }
                .unwrap_or_else(|error| panic!("{}: {error}", moment.name));
                if let Some(id) = opened.used_pre_key {
                    pre_keys.remove(&id).unwrap();
                }
                session = Some(opened.record.into_bytes());
                opened.plaintext
            }
        };
        assert_eq!(plaintext, unhex(&message.plaintext), "{}", moment.name);
    }
}

#[test]
fn messages_of_baileys_are_read() {
    let moments = document().baileys;
    assert_eq!(moments.len(), 5);
    moments.iter().for_each(replay);
}

#[test]
fn messages_of_whatsmeow_are_read() {
    let moments = document().whatsmeow;
    assert_eq!(moments.len(), 5);
    moments.iter().for_each(replay);
}

//! Baileys' files become records and files again, and read the same messages.

use runner_signal::baileys::{self, ImportError};
use runner_signal::fuzz::{Commit, Device, baileys_files};
use runner_signal::session::{self, MAX_ARCHIVED, Summary};
use runner_signal::{Identity, KeyPair, PreKey, Record, SenderKeyMessage, SignalMessage, group, identity};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::vectors::{Message, unhex};
use crate::{acquainted, read, send};

#[derive(Deserialize)]
struct Document {
    files: Files,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Files {
    creds: Value,
    session: String,
    sender_key: String,
    own_sender_key: String,
    pre_key: String,
    identity_key: String,
    messages: Vec<Message>,
}

fn files() -> Files {
    let document: Document =
        serde_json::from_str(include_str!("../../../../tests/vectors/signal.json")).unwrap();
    document.files
}

fn own(files: &Files) -> Identity {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let secret = files.creds["signedIdentityKey"]["private"]["data"].as_str().unwrap();
    let secret = STANDARD.decode(secret).unwrap().try_into().unwrap();
    Identity::new(KeyPair::from_secret(secret), 1)
}

fn session_record(json: &str) -> Record {
    let imported = baileys::session_record(json.as_bytes()).unwrap();
    assert_eq!(imported.left_out, 0);
    imported.record
}

fn sender_key_record(json: &str) -> Record {
    let imported = baileys::sender_key_record(json.as_bytes()).unwrap();
    assert_eq!(imported.left_out, 0);
    imported.record
}

fn session_json(record: &Record) -> String {
    let mut random = |bytes: &mut [u8]| bytes.fill(3);
    String::from_utf8(baileys::session_json(record.as_bytes(), 1_800_000_000_000, &mut random).unwrap())
        .unwrap()
}

fn summary(record: &Record) -> Summary {
    session::summary(record.as_bytes()).unwrap()
}

/// Reads all messages of the files from these records.
fn read_all(files: &Files, mut session: Record, mut sender_key: Record) {
    let own = own(files);
    for message in &files.messages {
        let bytes = unhex(&message.bytes);
        let plaintext = match message.kind.as_str() {
            "skmsg" => {
                let parsed = SenderKeyMessage::parse(&bytes).unwrap();
                let opened = group::decrypt(Some(sender_key.as_bytes()), &parsed).unwrap();
                sender_key = opened.record;
                opened.plaintext
            }
            "msg" => {
                let parsed = SignalMessage::parse(&bytes).unwrap();
                let opened = session::decrypt(&own, Some(session.as_bytes()), &parsed).unwrap();
                session = opened.record;
                opened.plaintext
            }
            _ => {
                let parsed = runner_signal::PreKeySignalMessage::parse(&bytes).unwrap();
                let keys = session::NamedPreKeys::default();
                let opened = session::decrypt_pre_key(&own, Some(session.as_bytes()), keys, &parsed).unwrap();
                session = opened.record;
                opened.plaintext
            }
        };
        assert_eq!(plaintext, unhex(&message.plaintext));
    }
}

#[test]
fn what_baileys_left_is_read_on() {
    let files = files();
    read_all(&files, session_record(&files.session), sender_key_record(&files.sender_key));
}

#[test]
fn what_was_given_back_to_baileys_is_read_on() {
    let files = files();
    let session = session_json(&session_record(&files.session));
    let sender_key = sender_key_record(&files.sender_key);
    let sender_key = String::from_utf8(baileys::sender_key_json(sender_key.as_bytes()).unwrap()).unwrap();
    assert_eq!(sender_key, files.sender_key, "as Baileys wrote it");
    read_all(&files, session_record(&session), sender_key_record(&sender_key));
}

#[test]
fn a_session_file_goes_in_and_out_unchanged_but_for_its_times() {
    let files = files();
    let times = ["closed", "used", "created"];
    let without_times = |json: &str| {
        let mut file: Value = serde_json::from_str(json).unwrap();
        for session in file["_sessions"].as_object_mut().unwrap().values_mut() {
            let is_open = session["indexInfo"]["closed"] == -1;
            times.iter().for_each(|time| session["indexInfo"][time] = json!(is_open));
        }
        file
    };
    let again = session_json(&session_record(&files.session));
    assert_eq!(without_times(&again), without_times(&files.session));
    assert_eq!(summary(&session_record(&again)), summary(&session_record(&files.session)));
}

#[test]
fn an_own_sender_key_goes_on_where_baileys_stopped() {
    let own = sender_key_record(&files().own_sender_key);
    let told = group::distribution(own.as_bytes()).unwrap();
    let told = runner_signal::SenderKeyDistribution::parse(&told).unwrap();
    // Baileys uses every other number, so two messages took three.
    assert_eq!(told.iteration, 3);
    let sent = group::encrypt(Some(own.as_bytes()), b"x", &mut |bytes| bytes.fill(1)).unwrap();
    assert_eq!(SenderKeyMessage::parse(&sent.message).unwrap().iteration, 3);
}

#[test]
fn pre_keys_and_identity_keys_go_in_and_out() {
    let files = files();
    let record = baileys::pre_key_record(9, files.pre_key.as_bytes()).unwrap();
    assert_eq!(PreKey::from_record(record.as_bytes()).unwrap().id, 9);
    let (id, json) = baileys::pre_key_json(record.as_bytes()).unwrap();
    assert_eq!((id, String::from_utf8(json).unwrap()), (9, files.pre_key));
    let record = baileys::identity_record(files.identity_key.as_bytes()).unwrap();
    let json = baileys::identity_json(record.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(json).unwrap(), files.identity_key);
    let current = summary(&session_record(&files.session)).current.unwrap();
    assert_eq!(identity::from_record(record.as_bytes()).unwrap(), current.remote_identity);
}

#[test]
fn bytes_are_read_in_every_form_that_baileys_has_written() {
    let expected = baileys::identity_record(br#""BQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g""#).unwrap();
    let numbers: Vec<u8> = std::iter::once(5).chain(1..=32).collect();
    let indexed: serde_json::Map<_, _> =
        numbers.iter().enumerate().map(|(at, byte)| (format!("{at:02}"), json!(byte))).collect();
    let indexed = serde_json::to_string(&indexed).unwrap().replace("\"0", "\"").replace("\"\"", "\"0\"");
    for form in [
        json!({"type": "Buffer", "data": "BQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"}).to_string(),
        json!({"type": "Buffer", "data": numbers}).to_string(),
        json!(numbers).to_string(),
        indexed,
        // Without the type byte.
        json!(numbers[1..]).to_string(),
    ] {
        assert_eq!(baileys::identity_record(form.as_bytes()).as_ref(), Ok(&expected), "{form}");
    }
    for wrong in ["{}", "[]", "[256]", "7", "null", r#""%%""#, r#"{"1": 5}"#, r#"{"type": "Buffer"}"#] {
        assert!(baileys::identity_record(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_damaged_session_costs_only_itself() {
    let files = files();
    let mut file: Value = serde_json::from_str(&files.session).unwrap();
    let whole = summary(&session_record(&files.session));
    assert_eq!((whole.current.is_some(), whole.archived), (true, 1));
    let is_open = |session: &Value| session["indexInfo"]["closed"] == -1;
    for session in file["_sessions"].as_object_mut().unwrap().values_mut().filter(|one| is_open(one)) {
        session["currentRatchet"]["rootKey"] = json!("AAAA");
    }
    let imported = baileys::session_record(file.to_string().as_bytes()).unwrap();
    assert_eq!(imported.left_out, 1);
    assert_eq!((summary(&imported.record).current, summary(&imported.record).archived), (None, 1));
    for session in file["_sessions"].as_object_mut().unwrap().values_mut() {
        session["currentRatchet"]["rootKey"] = json!("AAAA");
    }
    let refused = baileys::session_record(file.to_string().as_bytes()).unwrap_err();
    assert_eq!(refused, ImportError::Field { what: "session", field: "rootKey" });
    assert_eq!(refused.to_string(), "`rootKey` of a session is missing or wrong");
}

#[test]
fn a_file_that_is_none_is_refused_with_its_reason() {
    let session = |json: &str| baileys::session_record(json.as_bytes()).unwrap_err();
    assert_eq!(session(r#"{"_sessions": {}, "version": "v1"}"#), ImportError::Empty { what: "session" });
    let version = ImportError::Field { what: "session", field: "version" };
    assert_eq!(session(r#"{"_sessions": {}, "version": "v2"}"#), version);
    for other in ["", "{}", "[]", "null", r#"{"type": "Buffer", "data": "AAAA"}"#] {
        assert_eq!(session(other), ImportError::Json { what: "session" });
    }
    let sender_key = |json: &str| baileys::sender_key_record(json.as_bytes()).unwrap_err();
    assert_eq!(sender_key("[91, 93]"), ImportError::Empty { what: "sender key" });
    assert_eq!(sender_key("{}"), ImportError::Json { what: "sender key" });
}

#[test]
fn every_truncation_is_refused() {
    let files = files();
    for len in 0..files.session.len() {
        assert!(baileys::session_record(&files.session.as_bytes()[..len]).is_err(), "{len} bytes");
    }
    for len in 0..files.sender_key.len() {
        assert!(baileys::sender_key_record(&files.sender_key.as_bytes()[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn no_damaged_byte_makes_reading_a_file_panic() {
    let files = files();
    for file in [&files.session, &files.sender_key, &files.pre_key, &files.identity_key] {
        for at in 0..file.len() {
            for byte in [b'0', b'"', b'-', b'}', b'A', 0xff] {
                let mut damaged = file.clone().into_bytes();
                damaged[at] = byte;
                baileys_files(&damaged);
            }
        }
    }
}

#[test]
fn more_sessions_than_are_kept_are_left_out_oldest_first() {
    let files = files();
    let file: Value = serde_json::from_str(&files.session).unwrap();
    let closed = file["_sessions"].as_object().unwrap().values().find(|one| one["indexInfo"]["closed"] != -1);
    let mut many = serde_json::Map::new();
    for n in 0..=MAX_ARCHIVED {
        let mut session = closed.unwrap().clone();
        session["indexInfo"]["closed"] = json!(1_700_000_000_000_u64 + n as u64);
        many.insert(n.to_string(), session);
    }
    let json = json!({"_sessions": many, "version": "v1"}).to_string();
    let imported = baileys::session_record(json.as_bytes()).unwrap();
    assert_eq!((imported.left_out, summary(&imported.record).archived), (1, MAX_ARCHIVED));
}

#[test]
fn a_ratchet_that_has_half_turned_is_given_back_turned() {
    let (mut a, mut b) = acquainted();
    read(&mut b, &send(&mut a, b"x")).unwrap();
    // B has not answered: its next key is not made yet, and Baileys would have made it.
    let json = session_json(b.session.as_ref().unwrap());
    b.session = Some(session_record(&json));
    let answer = send(&mut b, b"y");
    assert_eq!(read(&mut a, &answer).unwrap(), b"y");
}

#[test]
fn a_session_that_may_not_send_is_given_back_closed() {
    let (a, _) = acquainted();
    let retired = session::retire(a.record().unwrap()).unwrap();
    let record = session_record(&session_json(&retired));
    assert_eq!((summary(&record).current, summary(&record).archived), (None, 1));
}

#[test]
fn a_first_message_that_waits_for_its_answer_is_given_back_waiting() {
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    a.start(&b.bundle(true));
    a.session = Some(session_record(&session_json(a.session.as_ref().unwrap())));
    let first = a.encrypt(b"x", 1, Commit::Done).unwrap();
    assert_eq!(first.kind, session::MessageKind::PreKey);
    assert_eq!(read(&mut b, &first).unwrap(), b"x");
}

#[test]
fn a_key_that_stands_twice_in_a_file_is_one() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let files = files();
    let file: Value = serde_json::from_str(&files.sender_key).unwrap();
    let inner = STANDARD.decode(file["data"].as_str().unwrap()).unwrap();
    let keys: Vec<Value> = serde_json::from_slice(&inner).unwrap();
    let mut told_again = keys[0].clone();
    told_again["senderMessageKeys"] = json!([]);
    let twice = json!([keys[0], told_again]).to_string();
    let record = sender_key_record(&json!({"type": "Buffer", "data": STANDARD.encode(twice)}).to_string());
    assert_eq!(record, sender_key_record(&files.sender_key));
}

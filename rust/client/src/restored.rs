//! What becomes of a session's records when they come out of a backup: nothing that may have been used since is used again.
//!
//! - Sessions are retired: they still decrypt, and never send. The next message to a contact begins a session anew.
//! - Our own sender keys are dropped, with the memory of who has them: the next message to a group makes a new one.
//! - Who is in a group, and who has which devices, is asked for anew: that somebody left may have been told meanwhile.
//! - Ids of pre-keys leap: those that were given after the backup are given to no other key. What the server has of ours is
//!   compared at the next login, and uploaded anew, since it may list keys that the backup does not hold.
//! - One-time pre-keys stay. One that was used since the backup was made opens that first message once more, if the
//!   server gives it again, and is no key of ours to send with.
//!
//! Pure.

use runner_signal::session;

use crate::{
    export::Named,
    key_state::KeyState,
    pre_keys::Ids,
    receive::own_form,
    record::{RecordBytes, RecordKey, RecordKind, StoredRecord},
};

/// The kind of Baileys that says who has our sender key of a group.
pub(crate) const SENDER_KEY_MEMORY: &str = "sender-key-memory";

/// What is true only for as long as the server says so, and who has a key that goes.
const ASKED_ANEW: [RecordKind; 3] = [RecordKind::Holders, RecordKind::Group, RecordKind::Devices];

/// A change to a record, by the slug of its kind and its id. `None`: it goes.
pub type Change = (String, String, Option<RecordBytes>);

/// Whose records they are.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The own phone-number JID with device.
    pub jid: String,
    /// The own LID with device.
    pub lid: Option<String>,
    /// The id of the credentials' signed pre-key.
    pub signed_pre_key_id: u32,
}

/// The changes that make a session's records safe to go on with. `now_unix_ms` is when they are restored.
#[must_use]
pub fn restored(owner: &Owner, records: Vec<Named>, now_unix_ms: u64) -> Vec<Change> {
    let own = [Some(&owner.jid), owner.lid.as_ref()];
    let own: Vec<_> = own.into_iter().flatten().filter_map(|jid| sender_suffix(jid)).collect();
    let (mut ids, mut state) = (None, None);
    let mut changes = Vec::new();
    for (kind, id, record) in records {
        if kind == RecordKind::Session.slug() {
            // One that cannot be read sends nothing either.
            let retired = own_form(&RecordKey::new(RecordKind::Session, &id), record)
                .and_then(|record| session::retire(record.expose()).ok());
            changes.extend(retired.map(|record| (kind, id, Some(record.into_bytes().into()))));
        } else if kind == RecordKind::SenderKey.slug() {
            if own.iter().any(|own| id.ends_with(own)) {
                changes.push((kind, id, None));
            }
        } else if kind == SENDER_KEY_MEMORY || ASKED_ANEW.iter().any(|known| known.slug() == kind) {
            changes.push((kind, id, None));
        } else if kind == RecordKind::PreKeyIds.slug() {
            ids = Some(record);
        } else if kind == RecordKind::SignedPreKeyState.slug() {
            state = Some(record);
        }
    }
    // Also where the backup has none: the device may have made its first since.
    let ids = own_ids(ids).leapt();
    let state = KeyState::read(state)
        .unwrap_or_else(|| KeyState::new(owner.signed_pre_key_id, now_unix_ms / 1000, 0))
        .leapt();
    changes.extend(
        [ids.record(), state.record()].map(|(key, value)| (key.kind.slug().into(), key.id, Some(value))),
    );
    changes
}

fn own_ids(record: Option<StoredRecord>) -> Ids {
    let key = RecordKey::new(RecordKind::PreKeyIds, "");
    let record = record.and_then(|record| own_form(&key, record));
    Ids::read(record.map(|value| StoredRecord { value, is_imported: false }))
}

/// How the name of one of our own sender keys ends: `--user--device`, as `receive::address` writes it.
fn sender_suffix(jid: &str) -> Option<String> {
    let address = crate::receive::address(&jid.parse().ok()?);
    let (user, device) = address.rsplit_once('.')?;
    Some(format!("--{user}--{device}"))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use runner_signal::{
        Bundle, Identity, KeyPair, PreKeySignalMessage, SignalMessage, SignedPreKey, group,
        session::{Ciphertext, MessageKind, NamedPreKeys},
    };

    use super::*;

    fn owner() -> Owner {
        Owner {
            jid: "15550001111:3@s.whatsapp.net".into(),
            lid: Some("700000000001:3@lid".into()),
            signed_pre_key_id: 1,
        }
    }

    fn own(kind: RecordKind, id: &str, value: Vec<u8>) -> Named {
        (kind.slug().into(), id.into(), StoredRecord { value: value.into(), is_imported: false })
    }

    fn apply(records: Vec<Named>) -> HashMap<(String, String), Vec<u8>> {
        let changes = restored(&owner(), records.clone(), 1_000_000);
        let mut all: HashMap<_, _> = records
            .into_iter()
            .map(|(kind, id, record)| ((kind, id), record.value.expose().to_vec()))
            .collect();
        for (kind, id, value) in changes {
            match value {
                Some(value) => all.insert((kind, id), value.expose().to_vec()),
                None => all.remove(&(kind, id)),
            };
        }
        all
    }

    struct Party {
        identity: Identity,
        signed: SignedPreKey,
        record: Option<Vec<u8>>,
    }

    struct Steps(u64);

    impl Steps {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 =
                    self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (self.0 >> 33) as u8;
            }
        }
    }

    fn party(random: &mut Steps) -> Party {
        let identity = Identity::generate(&mut |bytes| random.fill(bytes));
        let signed = SignedPreKey::generate(&identity, 1, &mut |bytes| random.fill(bytes));
        Party { identity, signed, record: None }
    }

    impl Party {
        fn bundle(&self) -> Bundle {
            Bundle {
                registration_id: self.identity.registration_id(),
                identity: *self.identity.public(),
                signed_pre_key_id: self.signed.id,
                signed_pre_key: *self.signed.pair.public(),
                signature: self.signed.signature,
                pre_key: None,
            }
        }

        fn send(&mut self, to: &Self, random: &mut Steps) -> Ciphertext {
            let random = &mut |bytes: &mut [u8]| random.fill(bytes);
            let may_send = self
                .record
                .as_deref()
                .is_some_and(|record| session::summary(record).expect("a record").current.is_some());
            if !may_send {
                let record = session::start(&self.identity, self.record.as_deref(), &to.bundle(), random);
                self.record = Some(record.expect("a bundle").into_bytes());
            }
            let sealed =
                session::encrypt(&self.identity, self.record.as_deref(), b"x", random).expect("may send");
            self.record = Some(sealed.record.into_bytes());
            sealed.message
        }

        fn read(&mut self, message: &Ciphertext) -> bool {
            let record = self.record.as_deref();
            let read = match message.kind {
                MessageKind::PreKey => {
                    let message = PreKeySignalMessage::parse(&message.bytes).expect("a message");
                    let keys = NamedPreKeys { signed: Some(&self.signed), one_time: None };
                    session::decrypt_pre_key(&self.identity, record, keys, &message)
                }
                MessageKind::Signal => {
                    let message = SignalMessage::parse(&message.bytes).expect("a message");
                    session::decrypt(&self.identity, record, &message)
                }
            };
            let Ok(read) = read else { return false };
            self.record = Some(read.record.into_bytes());
            true
        }
    }

    /// The key that a message was encrypted with: its ratchet key and its counter.
    fn used(message: &Ciphertext) -> (Vec<u8>, u32) {
        let inner = match message.kind {
            MessageKind::PreKey => PreKeySignalMessage::parse(&message.bytes).expect("a message").message,
            MessageKind::Signal => SignalMessage::parse(&message.bytes).expect("a message"),
        };
        (inner.ratchet_key.as_bytes().to_vec(), inner.counter)
    }

    /// A conversation, in the order of who speaks that the seed says; each key of ours is new to `seen`.
    fn talk(
        seed: u64,
        turns: u64,
        (ours, contact): (&mut Party, &mut Party),
        seen: &mut HashSet<(Vec<u8>, u32)>,
        random: &mut Steps,
    ) {
        for turn in 0..turns {
            if (seed >> (turn % 7)) & 1 == 0 {
                let message = ours.send(contact, random);
                assert!(seen.insert(used(&message)), "seed {seed}: a key is used twice");
                assert!(contact.read(&message), "seed {seed}, turn {turn}");
            } else {
                let message = contact.send(ours, random);
                assert!(ours.read(&message), "seed {seed}, turn {turn}");
            }
        }
    }

    const NAME: &str = "15550002222.0";

    /// Conversations that go on after the backup in every way that a few choices make, over many seeds.
    #[test]
    fn no_key_of_before_the_restore_is_used_after_it_and_both_sides_go_on() {
        for seed in 0..400_u64 {
            let mut random = Steps(seed);
            let (mut ours, mut contact) = (party(&mut random), party(&mut random));
            let mut seen = HashSet::new();
            talk(seed, seed % 9, (&mut ours, &mut contact), &mut seen, &mut random);
            let backup = ours.record.clone();
            talk(seed / 3, seed % 5, (&mut ours, &mut contact), &mut seen, &mut random);

            let late = contact.record.is_some().then(|| contact.send(&ours, &mut random));
            let named = backup.clone().map(|record| own(RecordKind::Session, NAME, record));
            let after = apply(named.into_iter().collect());
            ours.record = after.get(&("session".into(), NAME.into())).cloned();
            if seed % 5 == 0
                && let (Some(late), true) = (late, backup.is_some())
            {
                assert!(ours.read(&late), "seed {seed}: nothing happened since the backup");
            }
            let first = ours.send(&contact, &mut random);
            assert_eq!(first.kind, MessageKind::PreKey, "seed {seed}: a session of its own");
            assert!(seen.insert(used(&first)) && contact.read(&first), "seed {seed}");
            talk(seed / 7, 10, (&mut ours, &mut contact), &mut seen, &mut random);
        }
    }

    #[test]
    fn our_own_sender_keys_go_and_those_of_others_stay() {
        let mut random = Steps(1);
        let mut key = || group::create(&mut |bytes: &mut [u8]| random.fill(bytes)).into_bytes();
        let group = "123@g.us";
        let ours = [format!("{group}--15550001111--3"), format!("{group}--700000000001_1--3")];
        let theirs = [format!("{group}--15550001111--4"), format!("{group}--15550002222--3")];
        let records = ours.iter().chain(&theirs).map(|id| own(RecordKind::SenderKey, id, key())).collect();
        let after = apply(records);
        let left: HashSet<_> =
            after.keys().filter(|(kind, _)| kind == "sender-key").map(|(_, id)| id.clone()).collect();
        assert_eq!(left, theirs.into());
        let memory = own(RecordKind::SenderKey, group, vec![]);
        let memory = (SENDER_KEY_MEMORY.to_owned(), memory.1, memory.2);
        assert!(!apply(vec![memory]).contains_key(&(SENDER_KEY_MEMORY.into(), group.into())));
        let asked_anew = [RecordKind::Holders, RecordKind::Group, RecordKind::Devices];
        let after = apply(asked_anew.iter().map(|kind| own(*kind, group, vec![1])).collect());
        assert!(!after.keys().any(|(_, id)| id == group));
    }

    #[test]
    fn what_was_sent_can_be_asked_for_after_a_restore() {
        let kinds = [RecordKind::Sent, RecordKind::SentIndex];
        let records: Vec<_> = kinds.iter().map(|kind| own(*kind, "3", vec![1])).collect();
        let after = apply(records);
        for kind in kinds {
            assert_eq!(after.get(&(kind.slug().to_owned(), "3".to_owned())), Some(&vec![1]));
        }
    }

    #[test]
    fn ids_leap_also_when_the_backup_has_none_and_the_server_is_asked_what_it_has() {
        let ids = |records| {
            let after = apply(records);
            let value = after[&("pre-key-ids".to_owned(), String::new())].clone();
            Ids::read(Some(StoredRecord { value: value.into(), is_imported: false })).numbers()
        };
        let before = Ids::read(None);
        let (first, _) = ids(vec![]);
        assert!(first > before.numbers().0 + 60_000);
        let (key, value) = before.leapt().record();
        let (second, unconfirmed) =
            ids(vec![(key.kind.slug().into(), key.id, StoredRecord { value, is_imported: false })]);
        assert!(second > first + 60_000);
        assert_eq!(second, unconfirmed, "nothing of before is uploaded again");
        let state = |records| {
            let value = apply(records)[&("signed-pre-key-state".to_owned(), String::new())].clone();
            KeyState::read(Some(StoredRecord { value: value.into(), is_imported: false })).expect("a state")
        };
        let mut after = state(vec![]);
        assert_eq!(after.check_at_s, 0, "at the next login");
        assert!(after.take_id(1) > 1000);
    }

    #[test]
    fn an_imported_session_is_retired_too() {
        let signed = KeyPair::from_secret([5; 32]);
        let mut random = Steps(3);
        let (mut ours, contact) = (party(&mut random), party(&mut random));
        let _ = (signed, ours.send(&contact, &mut random));
        let record = ours.record.expect("a session");
        let json =
            runner_signal::baileys::session_json(&record, 0, &mut |bytes: &mut [u8]| random.fill(bytes));
        let value = json.expect("a record").into();
        let named =
            ("session".to_owned(), "15550002222.0".to_owned(), StoredRecord { value, is_imported: true });
        let after = apply(vec![named]);
        let record = &after[&("session".to_owned(), "15550002222.0".to_owned())];
        assert!(session::summary(record).expect("ours").current.is_none());
    }
}

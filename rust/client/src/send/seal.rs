//! The ciphertexts of a message, the records that they change, and the stanza.

mod group;

use runner_proto::{entropy::Entropy, jid::Jid, node::Writer, session::Session};
use runner_signal::{
    identity::{self, Seen},
    session::{self, Ciphertext, MessageKind},
};

pub(super) use group::{again_in_group, in_group, tell};

use super::{Again, Job, Purpose, SendFailure, body, plan::Target, ring::RING, sent::Kept};
use crate::{
    Write,
    receive::OwnKeys,
    record::{RecordBytes, RecordKey, RecordKind, Records},
};

/// A message, encrypted.
#[derive(Debug)]
pub(super) struct Sealed {
    /// The stanza, encoded, flag byte in front. It may leave when `writes` are durable.
    pub(super) stanza: Vec<u8>,
    /// In order.
    pub(super) writes: Vec<Write>,
    /// Devices whose identity key is another one than before.
    pub(super) new_identities: Vec<Jid>,
}

/// What one device gets.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) device: Jid,
    /// The name of its records.
    name: String,
    message: Ciphertext,
}

/// Encrypts a message for its targets; the changed records are in `records` afterwards.
///
/// Errors: `UnknownUser` when there is no copy for anybody but ourselves, or for nobody; `TooLong` when all copies
/// together fit no frame. Then nothing has changed.
pub(super) fn seal(
    job: &Job,
    targets: &[Target],
    kept: Option<&Kept>,
    keys: &OwnKeys,
    records: &mut Records,
    entropy: &mut dyn Entropy,
) -> Result<Sealed, SendFailure> {
    let mut sealing = Sealing::new(job, keys, records, entropy);
    let chat = kept.map_or(&job.chat, |kept| &kept.chat);
    let content = kept.map_or(&job.content[..], |kept| &kept.content);
    let for_own = body::device_sent(chat, content);
    let copies: Vec<_> = targets
        .iter()
        .filter_map(|target| {
            let plain = if target.is_own { &for_own } else { content };
            let message = sealing.copy(target, plain)?;
            Some(Copy { device: target.device.clone(), name: target.name.clone(), message })
        })
        .collect();
    let is_for_peer = |copy: &Copy| {
        let is_own = targets.iter().any(|target| target.device == copy.device && target.is_own);
        !is_own || chat.is_same_user(&copy.device) || job.is_again()
    };
    if !copies.iter().any(is_for_peer) {
        return Err(SendFailure::UnknownUser);
    }
    let stanza = match (&job.purpose, copies.first().zip(targets.first())) {
        (Purpose::New { .. }, _) => fan_out(job, &copies, keys),
        (Purpose::Again(again), Some((copy, target))) => again_stanza(job, again, chat, copy, target, keys),
        (Purpose::Again(_), None) => return Err(SendFailure::UnknownUser),
    };
    if !Session::fits(stanza.len()) {
        return Err(SendFailure::TooLong);
    }
    if let Some(kept) = kept {
        sealing.keep(kept);
    }
    let (writes, new_identities) = sealing.finish();
    Ok(Sealed { stanza, writes, new_identities })
}

struct Sealing<'a> {
    job: &'a Job,
    keys: &'a OwnKeys,
    records: &'a mut Records,
    entropy: &'a mut dyn Entropy,
    writes: Vec<Write>,
    new_identities: Vec<Jid>,
}

impl<'a> Sealing<'a> {
    fn new(job: &'a Job, keys: &'a OwnKeys, records: &'a mut Records, entropy: &'a mut dyn Entropy) -> Self {
        Self { job, keys, records, entropy, writes: Vec::new(), new_identities: Vec::new() }
    }

    /// What is to be committed, which is in the records from now on, and whose identity is a new one.
    fn finish(self) -> (Vec<Write>, Vec<Jid>) {
        for write in &self.writes {
            match write {
                Write::PutRecord { key, value } => {
                    self.records.set(key.clone(), Some(value.clone()), self.job.number);
                }
                Write::RemoveRecord(key) => self.records.set(key.clone(), None, self.job.number),
                _ => {}
            }
        }
        (self.writes, self.new_identities)
    }

    /// The copy for one device. `None`: it gets none, and nothing has changed.
    fn copy(&mut self, target: &Target, plain: &[u8]) -> Option<Ciphertext> {
        let padded = body::padded(plain, self.entropy);
        let own = &self.keys.identity;
        let mut found = None;
        for key in target.session_keys() {
            let record = self.records.peek(&key).map(<[u8]>::to_vec);
            let can_send =
                |record: &Vec<u8>| session::summary(record).is_ok_and(|summary| summary.current.is_some());
            if record.as_ref().is_some_and(can_send) {
                found = Some((key, record));
                break;
            }
        }
        let bundle = self.job.bundle(&target.device).filter(|_| target.is_to_begin || found.is_none());
        let (key, mut record) = match found {
            Some((key, record)) => (key, record),
            None => {
                // Older sessions of it still read what is under way.
                let key = target.session_keys().next()?;
                let record = self.records.peek(&key).map(<[u8]>::to_vec);
                (key, record.filter(|record| session::summary(record).is_ok()))
            }
        };
        let mut begun_with = None;
        if let Some(bundle) = bundle {
            let random = &mut |bytes: &mut [u8]| self.entropy.fill(bytes);
            match session::start(own, record.as_deref(), bundle, random) {
                Ok(started) => {
                    record = Some(started.into_bytes());
                    begun_with = Some(bundle.identity);
                }
                // A bundle that nobody signed; with a session from before, the device is still reached.
                Err(_) if record.is_some() => {}
                Err(_) => return None,
            }
        }
        let random = &mut |bytes: &mut [u8]| self.entropy.fill(bytes);
        let encrypted = session::encrypt(own, record.as_deref(), &padded, random).ok()?;
        let main = RecordKey::new(RecordKind::Session, &target.name);
        // Those under the main name have ended, and still read what is under way: then each stays where it is.
        let has_main = self.records.peek(&main).is_some_and(|record| session::summary(record).is_ok());
        let place = if has_main { key.clone() } else { main };
        if key != place {
            self.remove(key);
        }
        self.put(place, encrypted.record.into_bytes().into());
        if let Some(identity) = begun_with {
            self.observe(target, &identity);
        }
        Some(encrypted.message)
    }

    /// Notes whose key the device now has.
    fn observe(&mut self, target: &Target, identity: &runner_signal::PublicKey) {
        let before = target.identity_keys().find_map(|key| self.records.peek(&key).map(<[u8]>::to_vec));
        // A damaged record says nothing of the key before.
        let observed =
            identity::observe(before.as_deref(), identity).or_else(|_| identity::observe(None, identity));
        let Ok((seen, record)) = observed else { return };
        if matches!(seen, Seen::Changed { .. }) {
            self.new_identities.push(target.device.clone());
        }
        if let Some(record) = record {
            self.put(RecordKey::new(RecordKind::Identity, &target.name), record.into_bytes().into());
        }
    }

    fn put(&mut self, key: RecordKey, value: RecordBytes) {
        self.writes.push(Write::PutRecord { key, value });
    }

    /// Keeps what is sent for those who ask for it again; one that is sent again stays where it is.
    fn keep(&mut self, kept: &Kept) {
        let at = |key: &RecordKey| self.records.peek(key);
        if self.job.is_again() {
            if let Some((place, _)) = RING.find(&self.job.id, at) {
                self.put(place, kept.to_record());
            }
        } else {
            for (key, value) in RING.put(kept, at) {
                self.put(key, value);
            }
        }
    }

    fn remove(&mut self, key: RecordKey) {
        self.writes.push(Write::RemoveRecord(key));
    }
}

/// `<message>` with a copy for each device.
fn fan_out(job: &Job, copies: &[Copy], keys: &OwnKeys) -> Vec<u8> {
    let identity = identity_for(copies, keys);
    let ciphertexts: usize = copies.iter().map(|copy| copy.message.bytes.len() + 64).sum();
    let mut out = Vec::with_capacity(ciphertexts + identity.map_or(0, <[u8]>::len) + 128);
    let writer = &mut Writer::new(&mut out);
    writer.node("message", 3, true);
    writer.attr("id", &job.id);
    writer.attr("type", "text");
    writer.attr_jid("to", &job.chat);
    writer.children(1 + usize::from(identity.is_some()));
    write_participants(writer, copies.iter());
    write_device_identity(writer, identity);
    out
}

/// `<message>` for the one device that asked for it.
fn again_stanza(
    job: &Job,
    again: &Again,
    chat: &Jid,
    copy: &Copy,
    target: &Target,
    keys: &OwnKeys,
) -> Vec<u8> {
    let identity = identity_for([copy], keys);
    let mut out = Vec::with_capacity(copy.message.bytes.len() + 512);
    let writer = &mut Writer::new(&mut out);
    writer.node("message", 3 + usize::from(target.is_own), true);
    writer.attr("id", &job.id);
    writer.attr("type", "text");
    writer.attr_jid("to", &copy.device);
    if target.is_own {
        writer.attr_jid("recipient", chat);
    }
    writer.children(1 + usize::from(identity.is_some()));
    write_enc(writer, &copy.message, Some(again.count));
    write_device_identity(writer, identity);
    out
}

/// `<participants>`: a copy for each device.
fn write_participants<'a>(writer: &mut Writer<'_>, copies: impl ExactSizeIterator<Item = &'a Copy>) {
    writer.node("participants", 0, true);
    writer.children(copies.len());
    for copy in copies {
        writer.node("to", 1, true);
        writer.attr_jid("jid", &copy.device);
        writer.children(1);
        write_enc(writer, &copy.message, None);
    }
}

fn write_enc(writer: &mut Writer<'_>, message: &Ciphertext, count: Option<u64>) {
    writer.node("enc", 2 + usize::from(count.is_some()), true);
    writer.attr("v", "2");
    writer.attr(
        "type",
        match message.kind {
            MessageKind::PreKey => "pkmsg",
            MessageKind::Signal => "msg",
        },
    );
    if let Some(count) = count {
        writer.attr_u64("count", count);
    }
    writer.bytes(&message.bytes);
}

/// Whoever gets our identity key for the first time is shown that our account has signed it.
fn identity_for<'a, 'b>(copies: impl IntoIterator<Item = &'b Copy>, keys: &'a OwnKeys) -> Option<&'a [u8]> {
    let is_first = copies.into_iter().any(|copy| copy.message.kind == MessageKind::PreKey);
    keys.account.as_deref().filter(|_| is_first)
}

fn write_device_identity(writer: &mut Writer<'_>, identity: Option<&[u8]>) {
    if let Some(identity) = identity {
        writer.node("device-identity", 0, true);
        writer.bytes(identity);
    }
}

//! A device for conversations and tests: what is on its disk, and what is lost when it crashes.

use std::collections::BTreeMap;

use crate::session::{self, Ciphertext, DecryptError, Lease, MessageKind, NamedPreKeys};
use crate::{Bundle, Identity, PreKey, PreKeySignalMessage, PublicKey, Record, SignalMessage, SignedPreKey};

/// Repeatable "randomness" (splitmix64): the same input, the same run.
#[derive(Debug)]
pub struct Steps(pub u64);

impl Steps {
    /// Overwrites `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// One device with one peer.
#[derive(Debug)]
pub struct Device {
    /// Who it is.
    pub identity: Identity,
    /// Its only signed pre-key.
    pub signed: SignedPreKey,
    next_pre_key: u32,
    /// One-time pre-keys that nobody has used yet.
    pub pre_keys: BTreeMap<u32, Record>,
    /// The session record of its peer.
    pub session: Option<Record>,
    /// What it sends by without a commit.
    pub lease: Option<Lease>,
    /// What of the above is durable.
    saved: (BTreeMap<u32, Record>, Option<Record>),
    /// Its randomness.
    pub steps: Steps,
}

/// When the new record of a step becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// At once, and everything before it.
    Done,
    /// With the next one that is, unless the device crashes first.
    Later,
}

impl Device {
    /// A device; the same for the same seed.
    pub fn new(seed: u64) -> Self {
        let mut steps = Steps(seed);
        let identity = Identity::generate(&mut |bytes| steps.fill(bytes));
        let signed = SignedPreKey::generate(&identity, 1, &mut |bytes| steps.fill(bytes));
        Self {
            identity,
            signed,
            next_pre_key: 1,
            pre_keys: BTreeMap::new(),
            session: None,
            lease: None,
            saved: (BTreeMap::new(), None),
            steps,
        }
    }

    /// All that is known becomes durable.
    pub fn save(&mut self) {
        self.saved = (self.pre_keys.clone(), self.session.clone());
    }

    /// kill -9: what is not durable is gone.
    pub fn crash(&mut self) {
        (self.pre_keys, self.session) = self.saved.clone();
        self.lease = None;
    }

    /// The session record's bytes.
    pub fn record(&self) -> Option<&[u8]> {
        self.session.as_ref().map(Record::as_bytes)
    }

    /// What a peer is told of it, with a one-time pre-key or without.
    pub fn bundle(&mut self, with_pre_key: bool) -> Bundle {
        let pre_key = with_pre_key.then(|| {
            let key = PreKey::generate(self.next_pre_key, &mut |bytes| self.steps.fill(bytes));
            self.next_pre_key += 1;
            self.pre_keys.insert(key.id, key.to_record());
            self.saved.0.insert(key.id, key.to_record());
            (key.id, *key.pair.public())
        });
        Bundle {
            registration_id: self.identity.registration_id(),
            identity: *self.identity.public(),
            signed_pre_key_id: self.signed.id,
            signed_pre_key: *self.signed.pair.public(),
            signature: self.signed.signature,
            pre_key,
        }
    }

    /// Begins a session, and commits it.
    pub fn start(&mut self, bundle: &Bundle) {
        let record = self.session.as_ref().map(Record::as_bytes);
        let record = session::start(&self.identity, record, bundle, &mut |bytes| self.steps.fill(bytes));
        self.take_over(record.expect("a good bundle"));
        self.save();
    }

    /// Goes on with a record that no lease came with.
    pub fn take_over(&mut self, record: Record) {
        let is_current = |lease: &Lease| lease.is_current(record.as_bytes()).expect("just made");
        self.lease = self.lease.take().filter(is_current);
        self.session = Some(record);
    }

    /// A message, or `None` without a session. It may leave when its record is durable: at once when its key is of a
    /// lease taken before.
    pub fn encrypt(&mut self, plaintext: &[u8], lease: u32, commit: Commit) -> Option<Ciphertext> {
        if self.lease.as_ref().is_none_or(|lease| lease.left() == 0) {
            let record = self.session.as_ref().map(Record::as_bytes);
            let random = &mut |bytes: &mut [u8]| self.steps.fill(bytes);
            let leased = session::lease(&self.identity, record, lease, random).ok()?;
            self.session = Some(leased.record);
            self.lease = Some(leased.lease);
            if commit == Commit::Done {
                self.save();
            }
        }
        self.lease.as_mut()?.encrypt(plaintext).ok()
    }

    /// The content of a message.
    pub fn decrypt(&mut self, message: &Ciphertext, commit: Commit) -> Result<Vec<u8>, DecryptError> {
        let opened = match message.kind {
            MessageKind::Signal => {
                session::decrypt(&self.identity, self.record(), &SignalMessage::parse(&message.bytes)?)?
            }
            MessageKind::PreKey => {
                let message = PreKeySignalMessage::parse(&message.bytes)?;
                let one_time = message.pre_key_id.and_then(|id| self.pre_keys.get(&id));
                let one_time =
                    one_time.map(|record| PreKey::from_record(record.as_bytes()).expect("as written"));
                let is_ours = message.signed_pre_key_id == self.signed.id;
                let keys =
                    NamedPreKeys { signed: is_ours.then_some(&self.signed), one_time: one_time.as_ref() };
                session::decrypt_pre_key(&self.identity, self.record(), keys, &message)?
            }
        };
        if let Some(id) = opened.used_pre_key {
            self.pre_keys.remove(&id).expect("a used pre-key is one that we had");
        }
        self.take_over(opened.record);
        if commit == Commit::Done {
            self.save();
        }
        Ok(opened.plaintext)
    }
}

/// The ratchet key and the number of a message.
pub fn place(message: &Ciphertext) -> (PublicKey, u32) {
    let inner = match message.kind {
        MessageKind::Signal => SignalMessage::parse(&message.bytes),
        MessageKind::PreKey => PreKeySignalMessage::parse(&message.bytes).map(|message| message.message),
    };
    let inner = inner.expect("our own message");
    (inner.ratchet_key, inner.counter)
}

//! A device with a store of its own, for tests that play several.

use std::collections::BTreeMap;

use runner_signal::session::{self, DecryptError, Decrypted, MessageKind, NamedPreKeys};
use runner_signal::{Bundle, Identity, PreKey, PreKeySignalMessage, SignalMessage, SignedPreKey, identity};

/// Repeatable "randomness" (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Steps(pub(crate) u64);

impl Steps {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn fill(&mut self) -> impl FnMut(&mut [u8]) {
        |bytes| {
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
            }
        }
    }
}

/// What a device has on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) sessions: BTreeMap<String, Vec<u8>>,
    pub(crate) pre_keys: BTreeMap<u32, Vec<u8>>,
    pub(crate) identities: BTreeMap<String, Vec<u8>>,
    pub(crate) sender_keys: BTreeMap<String, Vec<u8>>,
}

/// One device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) identity: Identity,
    pub(crate) signed: Vec<u8>,
    pub(crate) signed_id: u32,
    pub(crate) next_pre_key: u32,
    pub(crate) disk: Disk,
    pub(crate) steps: Steps,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) kind: MessageKind,
    pub(crate) bytes: Vec<u8>,
}

impl Device {
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        let mut steps = Steps(seed);
        let identity = Identity::generate(&mut steps.fill());
        let signed = SignedPreKey::generate(&identity, 1, &mut steps.fill());
        Self {
            name: name.into(),
            signed_id: signed.id,
            signed: signed.to_record().into_bytes(),
            identity,
            next_pre_key: 1,
            disk: Disk::default(),
            steps,
        }
    }

    /// A bundle of this device, with a one-time pre-key or without.
    pub(crate) fn bundle(&mut self, with_pre_key: bool) -> Bundle {
        let signed = SignedPreKey::from_record(&self.signed).unwrap();
        let pre_key = with_pre_key.then(|| {
            let key = PreKey::generate(self.next_pre_key, &mut self.steps.fill());
            self.next_pre_key += 1;
            self.disk.pre_keys.insert(key.id, key.to_record().into_bytes());
            (key.id, *key.pair.public())
        });
        Bundle {
            registration_id: self.identity.registration_id(),
            identity: *self.identity.public(),
            signed_pre_key_id: signed.id,
            signed_pre_key: *signed.pair.public(),
            signature: signed.signature,
            pre_key,
        }
    }

    pub(crate) fn record(&self, peer: &str) -> Option<&[u8]> {
        self.disk.sessions.get(peer).map(Vec::as_slice)
    }

    pub(crate) fn start(&mut self, peer: &str, bundle: &Bundle) {
        let record = session::start(
            &self.identity,
            self.record(peer).map(<[u8]>::to_vec).as_deref(),
            bundle,
            &mut self.steps.fill(),
        )
        .unwrap();
        self.disk.sessions.insert(peer.into(), record.into_bytes());
    }

    /// Encrypts and commits.
    pub(crate) fn encrypt(&mut self, peer: &str, plaintext: &[u8]) -> Sent {
        let record = self.record(peer).map(<[u8]>::to_vec);
        let out =
            session::encrypt(&self.identity, record.as_deref(), plaintext, &mut self.steps.fill()).unwrap();
        self.disk.sessions.insert(peer.into(), out.record.into_bytes());
        Sent { kind: out.message.kind, bytes: out.message.bytes }
    }

    /// Decrypts; commits nothing.
    pub(crate) fn open(&self, peer: &str, sent: &Sent) -> Result<Decrypted, DecryptError> {
        match sent.kind {
            MessageKind::Signal => {
                session::decrypt(&self.identity, self.record(peer), &SignalMessage::parse(&sent.bytes)?)
            }
            MessageKind::PreKey => {
                let message = PreKeySignalMessage::parse(&sent.bytes)?;
                let signed = SignedPreKey::from_record(&self.signed).unwrap();
                let one_time = message
                    .pre_key_id
                    .and_then(|id| self.disk.pre_keys.get(&id))
                    .map(|record| PreKey::from_record(record).unwrap());
                let keys = NamedPreKeys {
                    signed: (message.signed_pre_key_id == signed.id).then_some(&signed),
                    one_time: one_time.as_ref(),
                };
                session::decrypt_pre_key(&self.identity, self.record(peer), keys, &message)
            }
        }
    }

    /// Decrypts and commits, as one transaction.
    pub(crate) fn decrypt(&mut self, peer: &str, sent: &Sent) -> Result<Vec<u8>, DecryptError> {
        let out = self.open(peer, sent)?;
        self.disk.sessions.insert(peer.into(), out.record.into_bytes());
        if let Some(id) = out.used_pre_key {
            self.disk.pre_keys.remove(&id).unwrap();
        }
        if let Some(key) = out.new_identity {
            let known = self.disk.identities.get(peer).map(Vec::as_slice);
            if let (_, Some(record)) = identity::observe(known, &key).unwrap() {
                self.disk.identities.insert(peer.into(), record.into_bytes());
            }
        }
        Ok(out.plaintext)
    }
}

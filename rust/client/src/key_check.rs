//! Whether the server has the keys that we have: its digest of them, compared. docs/protocol.md, "Pre-keys".

use runner_proto::node::NodeRef;
use runner_signal::{PreKey, SignedPreKey};
use sha1::{Digest as _, Sha1};

use crate::receive::OwnKeys;

/// One-time pre-keys that are compared one by one. A server that lists more is not asked which they are.
const MAX_LISTED: usize = 2_000;

/// What the server has of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    registration_id: u32,
    identity: Vec<u8>,
    signed_id: u32,
    signed_value: Vec<u8>,
    signature: Vec<u8>,
    /// Ids of its one-time pre-keys, in its order.
    pub(crate) ids: Vec<u32>,
    hash: Option<Vec<u8>>,
}

impl Digest {
    /// Reads `<digest>`. `None`: it says nothing that could be compared.
    pub(crate) fn read(digest: NodeRef<'_>) -> Option<Self> {
        let bytes = |tag| digest.child(tag).and_then(|child| child.bytes()).map(<[u8]>::to_vec);
        let signed = digest.child("skey")?;
        let of_signed = |tag| signed.child(tag).and_then(|child| child.bytes());
        let list = digest.child("list");
        let listed = list.iter().flat_map(|list| list.children());
        Some(Self {
            registration_id: number(&bytes("registration")?)?,
            identity: bytes("identity")?,
            signed_id: number(of_signed("id")?)?,
            signed_value: of_signed("value")?.to_vec(),
            signature: of_signed("signature")?.to_vec(),
            ids: listed
                .filter_map(|id| id.bytes().or_else(|| id.child("id")?.bytes()).and_then(number))
                .collect(),
            hash: bytes("hash"),
        })
    }

    /// What is not ours of what is no one-time pre-key.
    pub(crate) fn differs(&self, keys: &OwnKeys) -> Option<&'static str> {
        let signed = keys.current();
        if self.registration_id != keys.identity.registration_id() {
            Some("another registration id")
        } else if self.identity != keys.identity.public().as_bytes() {
            Some("another identity key")
        } else if !self.has_signed(signed) {
            Some("another signed pre-key")
        } else {
            None
        }
    }

    /// Whether this is the signed pre-key that it has.
    pub(crate) fn has_signed(&self, key: &SignedPreKey) -> bool {
        self.signed_id == key.id
            && self.signed_value == key.pair.public().as_bytes()
            && self.signature == key.signature
    }

    /// The ids of which the keys are to be [compared](Self::differs_in).
    pub(crate) fn comparable(&self) -> &[u32] {
        if self.ids.len() <= MAX_LISTED { &self.ids } else { &[] }
    }

    /// What is not ours of the one-time pre-keys; `ours` are those that we have under [`comparable`](Self::comparable),
    /// in its order.
    pub(crate) fn differs_in(&self, ours: &[Option<PreKey>]) -> Option<&'static str> {
        let known: Vec<_> = ours.iter().flatten().collect();
        if known.len() < ours.len() {
            return Some("one-time pre-keys that are not here");
        }
        if known.len() < self.ids.len() {
            return None;
        }
        let mut hash = Sha1::new();
        for part in [&self.identity, &self.signed_value, &self.signature] {
            hash.update(part);
        }
        known.iter().for_each(|key| hash.update(key.pair.public().as_bytes()));
        let is_same = self.hash.as_ref().is_none_or(|told| told[..] == hash.finalize()[..]);
        (!is_same).then_some("other one-time pre-keys under the same ids")
    }
}

/// A big-endian number of up to four bytes.
fn number(bytes: &[u8]) -> Option<u32> {
    (bytes.len() <= 4).then(|| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

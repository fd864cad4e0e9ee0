//! Pre-keys: what a peer needs to write to us first, and a peer's own, by which we write first.

use runner_xeddsa::SIGNATURE_LEN;

use crate::{Identity, KeyPair, PublicKey, Random, Record, RecordError};

/// Largest id of a pre-key: stanzas carry three bytes.
pub const MAX_ID: u32 = 0xff_ff_ff;

/// A one-time pre-key.
#[derive(Clone, Debug)]
pub struct PreKey {
    /// In `1..=MAX_ID`.
    pub id: u32,
    /// The key.
    pub pair: KeyPair,
}

impl PreKey {
    /// A new key under `id`. Ids are never given twice: the caller persists the next one with the keys.
    pub fn generate(id: u32, random: &mut Random<'_>) -> Self {
        Self { id, pair: KeyPair::generate(random) }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It is damaged, or none of a pre-key.
    pub fn from_record(record: &[u8]) -> Result<Self, RecordError> {
        let _ = record;
        unimplemented!()
    }

    /// The record to commit before the key is uploaded.
    #[must_use]
    pub fn to_record(&self) -> Record {
        unimplemented!()
    }
}

/// A signed pre-key: used by whoever finds no one-time pre-key of ours, replaced from time to time.
#[derive(Clone, Debug)]
pub struct SignedPreKey {
    /// In `1..=MAX_ID`.
    pub id: u32,
    /// The key.
    pub pair: KeyPair,
    /// Our identity's XEdDSA signature of the public key's wire form.
    pub signature: [u8; SIGNATURE_LEN],
}

impl SignedPreKey {
    /// A new key under `id`, signed.
    pub fn generate(identity: &Identity, id: u32, random: &mut Random<'_>) -> Self {
        let _ = (identity, id, random);
        unimplemented!()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It is damaged, or none of a signed pre-key.
    pub fn from_record(record: &[u8]) -> Result<Self, RecordError> {
        let _ = record;
        unimplemented!()
    }

    /// The record to commit before the key is uploaded. Old ones are kept a while: messages made with them are on
    /// their way.
    #[must_use]
    pub fn to_record(&self) -> Record {
        unimplemented!()
    }
}

/// What the server knows of a peer's device, for the first message to it.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The device's registration id.
    pub registration_id: u32,
    /// The device's identity key.
    pub identity: PublicKey,
    /// Id of the signed pre-key.
    pub signed_pre_key_id: u32,
    /// The signed pre-key.
    pub signed_pre_key: PublicKey,
    /// The identity's signature of the signed pre-key's wire form.
    pub signature: [u8; SIGNATURE_LEN],
    /// Id and key of the one-time pre-key that the server handed out, when it had one left.
    pub pre_key: Option<(u32, PublicKey)>,
}

/// A bundle that must not be used; the peer's or the server's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The signed pre-key is not signed by the identity key.
    #[error("the signed pre-key of the bundle is not signed by its identity key")]
    Signature,
    /// A key is of small order, so that the secret would be none.
    #[error("a key of the bundle is of small order")]
    WeakKey,
    /// An id does not fit into three bytes.
    #[error("pre-key id {id} of the bundle is above {MAX_ID}")]
    Id {
        /// The id.
        id: u32,
    },
    /// The session record to which the new session was to be added is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Bundle {
    /// Checks ids and signature; [`session::start`](crate::session::start) does so itself.
    ///
    /// # Errors
    /// What is wrong.
    pub fn verify(&self) -> Result<(), BundleError> {
        unimplemented!()
    }
}

//! Pre-keys: what a peer needs to write to us first, and a peer's own, by which we write first.

use runner_xeddsa::SIGNATURE_LEN;

use crate::record::{self, Kind, Reader, Writer};
use crate::{Identity, KeyPair, PublicKey, Random, Record, RecordError};

/// Largest id of a pre-key: stanzas carry three bytes.
pub const MAX_ID: u32 = 0xff_ff_ff;

/// A one-time pre-key.
#[derive(Clone, Debug)]
pub struct PreKey {
    /// In `0..=MAX_ID`; ours begin at 1.
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
        record::read(Kind::PreKey, record, |reader| {
            Some(Self { id: read_id(reader)?, pair: read_pair(reader)? })
        })
    }

    /// The record to commit before the key is uploaded.
    #[must_use]
    pub fn to_record(&self) -> Record {
        let mut writer = Writer::new(Kind::PreKey, 4 + 64);
        write_pair(&mut writer, self.id, &self.pair);
        writer.finish()
    }
}

/// A signed pre-key: used by whoever finds no one-time pre-key of ours, replaced from time to time.
#[derive(Clone, Debug)]
pub struct SignedPreKey {
    /// In `0..=MAX_ID`; ours begin at 1.
    pub id: u32,
    /// The key.
    pub pair: KeyPair,
    /// Our identity's XEdDSA signature of the public key's wire form.
    pub signature: [u8; SIGNATURE_LEN],
}

impl SignedPreKey {
    /// A new key under `id`, signed.
    pub fn generate(identity: &Identity, id: u32, random: &mut Random<'_>) -> Self {
        let pair = KeyPair::generate(random);
        let signature = identity.pair().secret().sign(&pair.public().to_wire(), random);
        Self { id, pair, signature }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It is damaged, or none of a signed pre-key.
    pub fn from_record(record: &[u8]) -> Result<Self, RecordError> {
        record::read(Kind::SignedPreKey, record, |reader| {
            Some(Self { id: read_id(reader)?, pair: read_pair(reader)?, signature: reader.array()? })
        })
    }

    /// The record to commit before the key is uploaded. Old ones are kept a while: messages made with them are on
    /// their way.
    #[must_use]
    pub fn to_record(&self) -> Record {
        let mut writer = Writer::new(Kind::SignedPreKey, 4 + 64 + SIGNATURE_LEN);
        write_pair(&mut writer, self.id, &self.pair);
        writer.bytes(&self.signature);
        writer.finish()
    }
}

fn read_id(reader: &mut Reader<'_>) -> Option<u32> {
    reader.u32().filter(|id| *id <= MAX_ID)
}

fn read_pair(reader: &mut Reader<'_>) -> Option<KeyPair> {
    Some(KeyPair::stored(reader.secret()?, reader.public()?))
}

fn write_pair(writer: &mut Writer, id: u32, pair: &KeyPair) {
    writer.u32(id);
    writer.secret(pair.secret());
    writer.public(pair.public());
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
    /// The session record to which the new session was to be added is damaged; the store's fault.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Bundle {
    /// Checks the signature; [`session::start`](crate::session::start) does so itself.
    ///
    /// # Errors
    /// [`BundleError::Signature`].
    pub fn verify(&self) -> Result<(), BundleError> {
        if self.identity.verifies(&self.signed_pre_key.to_wire(), &self.signature) {
            Ok(())
        } else {
            Err(BundleError::Signature)
        }
    }
}

//! Sender keys: one chain that a device shares with all devices of a group.
//!
//! A sender-key record is of one device in one group: a peer's, with which we read, or our own, with which we write.

pub(crate) mod keys;
mod lease;

pub use lease::{Lease, Leased, lease};

use std::fmt;

use keys::{SenderKey, SenderKeys};

use crate::chain::{self, NotFound, Receiving};
use crate::kdf::{ChainKey, GroupKeys};
use crate::key::Secret;
use crate::{
    KeyPair, Random, Record, RecordError, SenderKeyDistribution, SenderKeyMessage, WireError, cipher,
};

/// Message keys of messages that have not come, kept over all keys of a record; beyond it the oldest go.
pub const MAX_SKIPPED: usize = chain::MAX_SKIPPED;

/// How far ahead of its chain a message may be.
pub const MAX_JUMP: u32 = chain::MAX_JUMP;

/// Sender keys of one device in one group that are kept, the newest included.
pub const MAX_KEYS: usize = 5;

/// Longest lease.
pub const MAX_LEASE: u32 = 256;

/// A message that was not decrypted. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// The peer sent something that is no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The sender has not told us this key: ask for it by a retry receipt.
    #[error("unknown sender key {id}")]
    NoSenderKey {
        /// Its id.
        id: u32,
    },
    /// Not signed by the sender: forged or damaged.
    #[error("wrong signature")]
    BadSignature,
    /// It is the sender's, and its content is not what its sender key opens: the sender's program is broken.
    #[error("the message is authentic and its content is not")]
    Padding,
    /// It was decrypted before, or its key was not kept; as
    /// [`session::DecryptError::Duplicate`](crate::session::DecryptError::Duplicate).
    #[error("message {iteration} of sender key {id} was decrypted before, or its key is not kept any more")]
    Duplicate {
        /// Names the sender key.
        id: u32,
        /// Its number.
        iteration: u32,
    },
    /// More than [`MAX_JUMP`] messages before it are missing.
    #[error("message {iteration} is too far ahead: sender key {id} is at {next}")]
    TooFarAhead {
        /// Names the sender key.
        id: u32,
        /// Its number.
        iteration: u32,
        /// Where the chain is.
        next: u32,
    },
    /// The record cannot be read; the store's fault.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A message that was not encrypted. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// We have no sender key of our own here: [`create`] one and distribute it.
    #[error("no sender key of our own")]
    NoSenderKey,
    /// The chain is at its end after 2^32 messages, or the lease is used up.
    #[error("the lease or the chain is used up")]
    Spent,
    /// The plaintext does not fit into a message; the caller's fault.
    #[error("{len} bytes do not fit into a message")]
    TooLong {
        /// Its bytes.
        len: usize,
    },
    /// The record cannot be read; the store's fault.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A read message, and the record that goes into the same transaction as it. The content is never printed.
pub struct Decrypted {
    /// The sender-key record.
    pub record: Record,
    /// The content, still padded.
    pub plaintext: Vec<u8>,
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decrypted")
            .field("record", &self.record)
            .field("plaintext", &format_args!("{} bytes", self.plaintext.len()))
            .finish()
    }
}

/// A message for the wire, and the record that must be durable before it leaves.
#[derive(Debug)]
pub struct Encrypted {
    /// The sender-key record; commit it first.
    pub record: Record,
    /// Content of `<enc type=skmsg>`; send it after the commit, and not if that fails.
    pub message: Vec<u8>,
}

/// A new sender key of our own; it takes the place of an older record (rotation). Every device of the group needs its
/// [`distribution`].
pub fn create(random: &mut Random<'_>) -> Record {
    let signing = KeyPair::generate(random);
    let mut id = [0; 4];
    random(&mut id);
    let chain = ChainKey { key: Secret::random(random), index: 0 };
    let key = SenderKey {
        // Some peers hold it as a signed number.
        id: u32::from_be_bytes(id) >> 1,
        signing_key: *signing.public(),
        signing_secret: Some(signing.secret().clone()),
        chain: Receiving::new(chain),
    };
    SenderKeys { keys: vec![key] }.encode()
}

/// What a device needs to read our messages from here on, as `SenderKeyDistribution` on the wire. While a lease is
/// in use, [`Lease::distribution`] is the one that covers its messages.
///
/// # Errors
/// See [`EncryptError`].
pub fn distribution(record: &[u8]) -> Result<Vec<u8>, EncryptError> {
    let keys = SenderKeys::decode(record)?;
    let key = keys.keys.first().ok_or(EncryptError::NoSenderKey)?;
    Ok(Lease::at(key)?.distribution())
}

/// The id of our own sender key, by which it is told from those before it; `None`: there is none with which to write.
#[must_use]
pub fn own_key_id(record: &[u8]) -> Option<u32> {
    let keys = SenderKeys::decode(record).ok()?;
    keys.keys.first().filter(|key| key.signing_secret.is_some()).map(|key| key.id)
}

/// Encrypts one message. Commit the record, then send; if the commit fails, forget both.
///
/// # Errors
/// See [`EncryptError`].
pub fn encrypt(
    record: Option<&[u8]>,
    plaintext: &[u8],
    random: &mut Random<'_>,
) -> Result<Encrypted, EncryptError> {
    let Leased { record, mut lease } = lease(record, 1)?;
    Ok(Encrypted { message: lease.encrypt(plaintext, random)?, record })
}

/// Adds a peer's sender key to the record of that device in that group. `None`: nothing to commit, we had it.
///
/// # Errors
/// The record is damaged; the store's fault.
pub fn accept(
    record: Option<&[u8]>,
    distribution: &SenderKeyDistribution<'_>,
) -> Result<Option<Record>, RecordError> {
    let mut keys = record.map_or_else(|| Ok(SenderKeys::default()), SenderKeys::decode)?;
    Ok(keys.accept(distribution).then(|| {
        keys.trim();
        keys.encode()
    }))
}

/// Decrypts a `skmsg`.
///
/// # Errors
/// See [`DecryptError`].
pub fn decrypt(record: Option<&[u8]>, message: &SenderKeyMessage<'_>) -> Result<Decrypted, DecryptError> {
    let id = message.key_id;
    let mut keys = SenderKeys::decode(record.ok_or(DecryptError::NoSenderKey { id })?)?;
    let key = keys.keys.iter_mut().find(|key| key.id == id).ok_or(DecryptError::NoSenderKey { id })?;
    if !key.signing_key.verifies(message.signed, message.signature) {
        return Err(DecryptError::BadSignature);
    }
    let iteration = message.iteration;
    let found = key.chain.find(iteration, &mut MAX_JUMP.clone()).map_err(|not_found| match not_found {
        NotFound::Used => DecryptError::Duplicate { id, iteration },
        NotFound::TooFarAhead { next } => DecryptError::TooFarAhead { id, iteration, next },
    })?;
    let seeds = GroupKeys::from_seed(&found.seed());
    let plaintext =
        cipher::open(&seeds.cipher, &seeds.iv, message.ciphertext).ok_or(DecryptError::Padding)?;
    let next = key.chain.next;
    if !key.chain.take(found) {
        return Err(DecryptError::TooFarAhead { id, iteration, next });
    }
    keys.trim();
    Ok(Decrypted { record: keys.encode(), plaintext })
}

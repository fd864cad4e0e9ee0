//! Sender keys: one chain that a device shares with all devices of a group.
//!
//! A sender-key record is of one device in one group: a peer's, with which we read, or our own, with which we write.

use crate::{Random, Record, RecordError, SenderKeyDistribution, SenderKeyMessage, WireError};

/// Message keys of messages that have not come, kept over all keys of a record; beyond it the oldest go.
pub const MAX_SKIPPED: usize = 2_000;

/// How far ahead of its chain a message may be.
pub const MAX_JUMP: u32 = 2_000;

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
    /// It was decrypted before, or its key is too old to be kept. Nothing is missing: no retry is due.
    #[error("message {iteration} of sender key {id} was decrypted before")]
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

/// A read message, and the record that goes into the same transaction as it.
#[derive(Debug)]
pub struct Decrypted {
    /// The sender-key record.
    pub record: Record,
    /// The content, still padded.
    pub plaintext: Vec<u8>,
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
    let _ = random;
    unimplemented!()
}

/// What a device needs to read our messages from here on, as `SenderKeyDistribution` on the wire. While a lease is
/// in use, [`Lease::distribution`] is the one that covers its messages.
///
/// # Errors
/// See [`EncryptError`].
pub fn distribution(record: &[u8]) -> Result<Vec<u8>, EncryptError> {
    let _ = record;
    unimplemented!()
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
    let _ = (record, plaintext, random);
    unimplemented!()
}

/// A block of message keys of our own sender key that the record has already given away; as
/// [`session::Lease`](crate::session::Lease).
#[derive(Debug)]
pub struct Lease {
    _private: (),
}

impl Lease {
    /// Encrypts one message with the next key of the block.
    ///
    /// # Errors
    /// [`EncryptError::Spent`], [`EncryptError::TooLong`].
    pub fn encrypt(&mut self, plaintext: &[u8], random: &mut Random<'_>) -> Result<Vec<u8>, EncryptError> {
        let _ = (plaintext, random);
        unimplemented!()
    }

    /// What a device needs to read this block's messages from here on, and all after it.
    #[must_use]
    pub fn distribution(&self) -> Vec<u8> {
        unimplemented!()
    }

    /// Keys that are left.
    #[must_use]
    pub const fn left(&self) -> u32 {
        unimplemented!()
    }
}

/// A lease, and the record that must be durable before it is used.
#[derive(Debug)]
pub struct Leased {
    /// The sender-key record; commit it first.
    pub record: Record,
    /// Use it after the commit, and drop it if that fails.
    pub lease: Lease,
}

/// Takes `count` message keys out of our own chain, `1..=MAX_LEASE`.
///
/// # Errors
/// See [`EncryptError`].
pub fn lease(record: Option<&[u8]>, count: u32) -> Result<Leased, EncryptError> {
    let _ = (record, count);
    unimplemented!()
}

/// Adds a peer's sender key to the record of that device in that group. `None`: nothing to commit, we had it.
///
/// # Errors
/// The record is damaged; the store's fault.
pub fn accept(
    record: Option<&[u8]>,
    distribution: &SenderKeyDistribution<'_>,
) -> Result<Option<Record>, RecordError> {
    let _ = (record, distribution);
    unimplemented!()
}

/// Decrypts a `skmsg`.
///
/// # Errors
/// See [`DecryptError`].
pub fn decrypt(record: Option<&[u8]>, message: &SenderKeyMessage<'_>) -> Result<Decrypted, DecryptError> {
    let _ = (record, message);
    unimplemented!()
}

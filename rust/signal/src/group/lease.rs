//! Encrypting to a group: message keys are taken out of the record in blocks, before any of them is used.

use super::keys::{SenderKey, SenderKeys};
use super::{EncryptError, MAX_LEASE};
use crate::kdf::{ChainKey, GroupKeys};
use crate::key::Secret;
use crate::wire::{self, MAX_PLAINTEXT};
use crate::{PublicKey, Random, Record, cipher};

/// A block of message keys of our own sender key that the record has already given away; as
/// [`session::Lease`](crate::session::Lease).
#[derive(Debug)]
pub struct Lease {
    id: u32,
    signing_key: PublicKey,
    signing_secret: Secret,
    chain: ChainKey,
    left: u32,
}

/// A lease, and the record that must be durable before it is used.
#[derive(Debug)]
pub struct Leased {
    /// The sender-key record; commit it first.
    pub record: Record,
    /// Use it after the commit, and drop it if that fails.
    pub lease: Lease,
}

/// Takes `count` message keys out of our own chain; a count outside of `1..=MAX_LEASE` is taken to the nearer end.
///
/// # Errors
/// See [`EncryptError`].
pub fn lease(record: Option<&[u8]>, count: u32) -> Result<Leased, EncryptError> {
    let mut keys = SenderKeys::decode(record.ok_or(EncryptError::NoSenderKey)?)?;
    let key = keys.keys.first_mut().ok_or(EncryptError::NoSenderKey)?;
    let mut lease = Lease::at(key)?;
    lease.left = count.clamp(1, MAX_LEASE);
    let after = lease.chain.advanced(lease.left).ok_or(EncryptError::Spent)?;
    key.chain.restart(after);
    Ok(Leased { record: keys.encode(), lease })
}

impl Lease {
    /// One of no keys, at where our own sender key is.
    pub(crate) fn at(key: &SenderKey) -> Result<Self, EncryptError> {
        Ok(Self {
            id: key.id,
            signing_key: key.signing_key,
            signing_secret: key.signing_secret.clone().ok_or(EncryptError::NoSenderKey)?,
            chain: key.chain.head().ok_or(EncryptError::NoSenderKey)?,
            left: 0,
        })
    }

    /// Encrypts one message with the next key of the block.
    ///
    /// # Errors
    /// [`EncryptError::Spent`], [`EncryptError::TooLong`]; the lease is as before.
    pub fn encrypt(&mut self, plaintext: &[u8], random: &mut Random<'_>) -> Result<Vec<u8>, EncryptError> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(EncryptError::TooLong { len: plaintext.len() });
        }
        let left = self.left.checked_sub(1).ok_or(EncryptError::Spent)?;
        let after = self.chain.next().ok_or(EncryptError::Spent)?;
        let keys = GroupKeys::from_seed(&self.chain.seed());
        let len = cipher::sealed_len(plaintext.len());
        let mut message = Vec::with_capacity(len + 96);
        let seal = |out: &mut Vec<u8>| cipher::seal(out, &keys.cipher, &keys.iv, plaintext);
        wire::write_sender_key(&mut message, self.id, self.chain.index, len, seal);
        let signature = self.signing_secret.sign(&message, random);
        message.extend_from_slice(&signature);
        self.chain = after;
        self.left = left;
        Ok(message)
    }

    /// What a device needs to read this block's messages from here on, and all after it.
    #[must_use]
    pub fn distribution(&self) -> Vec<u8> {
        wire::write_distribution(self.id, self.chain.index, &self.chain.key, &self.signing_key)
    }

    /// Keys that are left.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }
}

//! Encrypting: message keys are taken out of the record in blocks, before any of them is used.

use super::state::State;
use super::{Ciphertext, EncryptError, MAX_LEASE, MessageKind, sessions::Sessions};
use crate::kdf::{ChainKey, MessageKeys};
use crate::wire::{self, MAC_LEN, MAX_PLAINTEXT, PreKeyHeader};
use crate::{Identity, PublicKey, Random, Record, RecordError, cipher};

/// A block of message keys of one session that the record has already given away.
///
/// What it encrypts may leave at once, without a commit of its own: after a crash the record begins behind the block.
/// Keys that are never used cost the receiver nothing but a gap. Drop it when [`is_current`](Self::is_current) says no;
/// using it on is safe all the same.
#[derive(Debug)]
pub struct Lease {
    own: PublicKey,
    own_registration_id: u32,
    remote_identity: PublicKey,
    base_key: PublicKey,
    pending: Option<PreKeyHeader>,
    ratchet_key: PublicKey,
    previous_counter: u32,
    chain: ChainKey,
    left: u32,
}

/// A lease, and the record that must be durable before it is used.
#[derive(Debug)]
pub struct Leased {
    /// The session record; commit it first.
    pub record: Record,
    /// Use it after the commit, and drop it if that fails.
    pub lease: Lease,
}

/// Takes `count` message keys out of the session's sending chain; a count outside of `1..=MAX_LEASE` is taken to the
/// nearer end.
///
/// # Errors
/// See [`EncryptError`].
pub fn lease(
    own: &Identity,
    record: Option<&[u8]>,
    count: u32,
    random: &mut Random<'_>,
) -> Result<Leased, EncryptError> {
    let mut sessions = Sessions::decode(record.ok_or(EncryptError::NoSession)?)?;
    let state = sessions.current.as_mut().ok_or(EncryptError::NoSession)?;
    let lease = Lease::take(own, state, count.clamp(1, MAX_LEASE), random)?;
    Ok(Leased { record: sessions.encode(), lease })
}

impl Lease {
    fn take(
        own: &Identity,
        state: &mut State,
        count: u32,
        random: &mut Random<'_>,
    ) -> Result<Self, EncryptError> {
        let (remote_identity, base_key) = (state.remote_identity, state.base_key);
        let (pending, previous_counter) = (state.pending, state.previous_counter);
        let (ratchet, chain) = state.sending(random).ok_or(EncryptError::NoSession)?;
        let after = chain.advanced(count).ok_or(EncryptError::Spent)?;
        Ok(Self {
            own: *own.public(),
            own_registration_id: own.registration_id(),
            remote_identity,
            base_key,
            pending,
            ratchet_key: *ratchet.public(),
            previous_counter,
            chain: std::mem::replace(chain, after),
            left: count,
        })
    }

    /// Encrypts one message with the next key of the block.
    ///
    /// # Errors
    /// [`EncryptError::Spent`], [`EncryptError::TooLong`]; the lease is as before.
    pub fn encrypt(&mut self, plaintext: &[u8]) -> Result<Ciphertext, EncryptError> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(EncryptError::TooLong { len: plaintext.len() });
        }
        let left = self.left.checked_sub(1).ok_or(EncryptError::Spent)?;
        let after = self.chain.next().ok_or(EncryptError::Spent)?;
        let message = self.seal(plaintext);
        self.chain = after;
        self.left = left;
        Ok(match self.pending {
            None => Ciphertext { kind: MessageKind::Signal, bytes: message },
            Some(header) => Ciphertext {
                kind: MessageKind::PreKey,
                bytes: wire::write_pre_key(
                    &self.own,
                    self.own_registration_id,
                    header,
                    &self.base_key,
                    &message,
                ),
            },
        })
    }

    fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let keys = MessageKeys::from_seed(&self.chain.seed());
        let len = cipher::sealed_len(plaintext.len());
        let mut message = Vec::with_capacity(len + 64 + MAC_LEN);
        let seal = |out: &mut Vec<u8>| cipher::seal(out, &keys.cipher, &keys.iv, plaintext);
        wire::write_signal(
            &mut message,
            &self.ratchet_key,
            self.chain.index,
            self.previous_counter,
            len,
            seal,
        );
        let mac = cipher::mac(&keys.mac, &self.own, &self.remote_identity, &message);
        message.extend_from_slice(&mac);
        message
    }

    /// Keys that are left.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// Whether the block is of the chain with which `record` sends now. Ask after each commit of the session's record
    /// that was not made by taking a lease.
    ///
    /// # Errors
    /// The record is damaged; the store's fault.
    pub fn is_current(&self, record: &[u8]) -> Result<bool, RecordError> {
        Ok(Sessions::decode(record)?.current.is_some_and(|state| {
            !state.is_retired
                && matches!(&state.sending, super::state::Sending::Chain { ratchet, .. }
                    if *ratchet.public() == self.ratchet_key)
        }))
    }
}

//! The state that both sides of a handshake keep.

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{KEY_LEN, NoiseError, TAG_LEN, Transport, cipher};
use crate::frame::PROLOGUE;

/// The handshakes that WhatsApp speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// The full handshake, for a client that does not know the server's key.
    Xx,
    /// The resume: the login payload travels in the first message.
    Ik,
    /// XX, begun by a server that cannot read an IK hello.
    XxFallback,
}

impl Pattern {
    /// The protocol name that the transcript begins with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xx => "Noise_XX_25519_AESGCM_SHA256",
            Self::Ik => "Noise_IK_25519_AESGCM_SHA256",
            Self::XxFallback => "Noise_XXfallback_25519_AESGCM_SHA256",
        }
    }

    /// The name in logs, metrics and events.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Xx => "xx",
            Self::Ik => "ik",
            Self::XxFallback => "xxfallback",
        }
    }
}

/// Who speaks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The client.
    Initiator,
    /// The server.
    Responder,
}

/// A handshake in progress: the transcript hash, the chaining key, and the current key with its nonce.
///
/// The steps are those of Noise §5.2, under their names there. Nothing here knows a pattern's order of
/// steps, so a responder (the simulator) is built on it as well as [`Initiator`](super::Initiator).
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SymmetricState {
    hash: [u8; KEY_LEN],
    chaining_key: [u8; KEY_LEN],
    key: [u8; KEY_LEN],
    /// Nonce of the next encryption or decryption; back to 0 with every new key.
    counter: u32,
}

impl SymmetricState {
    /// The state before the first message: the pattern's name, then WhatsApp's prologue.
    #[must_use]
    pub fn new(pattern: Pattern) -> Self {
        let name = pattern.name().as_bytes();
        let mut hash = [0; KEY_LEN];
        match hash.get_mut(..name.len()) {
            Some(start) => start.copy_from_slice(name),
            None => hash = Sha256::digest(name).into(),
        }
        let mut state = Self { hash, chaining_key: hash, key: hash, counter: 0 };
        state.mix_hash(&PROLOGUE);
        state
    }

    /// Binds `data`, said in the clear or known to both sides, to all that follows.
    pub fn mix_hash(&mut self, data: &[u8]) {
        self.hash = Sha256::new().chain_update(self.hash).chain_update(data).finalize().into();
    }

    /// Turns a shared secret into the next key.
    pub fn mix_key(&mut self, shared: &[u8; KEY_LEN]) {
        let (chaining_key, key) = self.derive(shared);
        self.chaining_key = *chaining_key;
        self.key = *key;
        self.counter = 0;
    }

    /// Encrypts one part of a message, bound to the transcript, and adds it to that.
    ///
    /// # Errors
    /// [`NoiseError::NonceExhausted`] after 2^32 - 1 parts under one key.
    pub fn encrypt_and_hash(&mut self, plain: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let counter = self.take_counter()?;
        let mut sealed = Vec::with_capacity(plain.len() + TAG_LEN);
        sealed.extend_from_slice(plain);
        let tag = cipher::seal(&self.key, counter, &self.hash, &mut sealed).ok_or(NoiseError::Open)?;
        sealed.extend_from_slice(&tag);
        self.mix_hash(&sealed);
        Ok(sealed)
    }

    /// Decrypts one part of a message, which must be bound to the same transcript, and adds it to that.
    ///
    /// # Errors
    /// [`NoiseError::Open`] when the tag is wrong or missing. The state is of no further use then.
    pub fn decrypt_and_hash(&mut self, sealed: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let counter = self.take_counter()?;
        let mut plain = sealed.to_vec();
        let len = cipher::open(&self.key, counter, &self.hash, &mut plain).ok_or(NoiseError::Open)?.len();
        plain.truncate(len);
        self.mix_hash(sealed);
        Ok(plain)
    }

    /// The end of the handshake: one key for each direction.
    #[must_use]
    pub fn split(self, role: Role) -> Transport {
        let (from_initiator, from_responder) = self.derive(&[]);
        match role {
            Role::Initiator => Transport::new(*from_initiator, *from_responder),
            Role::Responder => Transport::new(*from_responder, *from_initiator),
        }
    }

    /// The hash of everything said so far.
    #[must_use]
    pub const fn hash(&self) -> &[u8; KEY_LEN] {
        &self.hash
    }

    /// HKDF-SHA256 of the chaining key and `input`: two keys.
    fn derive(&self, input: &[u8]) -> (Zeroizing<[u8; KEY_LEN]>, Zeroizing<[u8; KEY_LEN]>) {
        let mut okm = Zeroizing::new([0; 2 * KEY_LEN]);
        let (mut first, mut second) = (Zeroizing::new([0; KEY_LEN]), Zeroizing::new([0; KEY_LEN]));
        Hkdf::<Sha256>::new(Some(&self.chaining_key), input)
            .expand(&[], okm.as_mut_slice())
            .expect("64 bytes are within HKDF's 8,160");
        let (left, right) = okm.split_at(KEY_LEN);
        first.copy_from_slice(left);
        second.copy_from_slice(right);
        (first, second)
    }

    fn take_counter(&mut self) -> Result<u32, NoiseError> {
        let counter = self.counter;
        self.counter = counter.checked_add(1).ok_or(NoiseError::NonceExhausted)?;
        Ok(counter)
    }

    #[cfg(test)]
    pub(super) const fn set_counter(&mut self, counter: u32) {
        self.counter = counter;
    }

    #[cfg(test)]
    pub(super) const fn key(&self) -> &[u8; KEY_LEN] {
        &self.key
    }
}

impl std::fmt::Debug for SymmetricState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SymmetricState").finish_non_exhaustive()
    }
}

//! Who we are, and who a peer has proved to be.

use crate::{KeyPair, PublicKey, Random, Record, RecordError};

/// Our own device as its peers know it.
#[derive(Clone, Debug)]
pub struct Identity {
    pair: KeyPair,
    registration_id: u32,
}

impl Identity {
    /// A device's identity from its stored key.
    #[must_use]
    pub const fn new(pair: KeyPair, registration_id: u32) -> Self {
        Self { pair, registration_id }
    }

    /// The identity of a device that is being linked; the registration id is in `1..=16380`.
    pub fn generate(random: &mut Random<'_>) -> Self {
        let pair = KeyPair::generate(random);
        let _ = random;
        unimplemented!("{pair:?}")
    }

    /// The key pair.
    #[must_use]
    pub const fn pair(&self) -> &KeyPair {
        &self.pair
    }

    /// The public identity key.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        self.pair.public()
    }

    /// The number by which peers notice that a device was linked anew.
    #[must_use]
    pub const fn registration_id(&self) -> u32 {
        self.registration_id
    }
}

/// What a peer's identity key is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The first of this address: trust on first use.
    First,
    /// The one that we know.
    Same,
    /// Another one than before: the device was linked anew, or somebody stands between. What to do about it is the
    /// caller's policy.
    Changed {
        /// The key until now.
        before: PublicKey,
    },
}

/// Compares a peer's `identity` with the identity record of its address.
///
/// Returns what it is, and the record to commit unless it is [`Seen::Same`]. Call it where a session begins:
/// [`session::Decrypted::new_identity`](crate::session::Decrypted::new_identity), and the bundle of
/// [`session::start`](crate::session::start).
///
/// # Errors
/// The record is damaged; the store's fault.
pub fn observe(record: Option<&[u8]>, identity: &PublicKey) -> Result<(Seen, Option<Record>), RecordError> {
    let _ = (record, identity);
    unimplemented!()
}

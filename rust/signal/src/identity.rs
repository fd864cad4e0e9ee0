//! Who we are, and who a peer has proved to be.

use crate::record::{self, Kind, Writer};
use crate::{KeyPair, PublicKey, Random, Record, RecordError};

/// Registration ids are in `1..=MAX_REGISTRATION_ID`.
const MAX_REGISTRATION_ID: u32 = 16_380;

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
        let mut bytes = [0; 4];
        random(&mut bytes);
        // The bias of the remainder is below 1 in 250,000, and the number is no secret.
        Self { pair, registration_id: u32::from_be_bytes(bytes) % MAX_REGISTRATION_ID + 1 }
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
    let seen = match record.map(from_record).transpose()? {
        None => Seen::First,
        Some(known) if known == *identity => return Ok((Seen::Same, None)),
        Some(before) => Seen::Changed { before },
    };
    Ok((seen, Some(to_record(identity))))
}

/// The identity key that a record holds.
///
/// # Errors
/// The record is damaged; the store's fault.
pub fn from_record(record: &[u8]) -> Result<PublicKey, RecordError> {
    record::read(Kind::Identity, record, |reader| reader.public())
}

/// The record of a peer's identity key.
#[must_use]
pub fn to_record(identity: &PublicKey) -> Record {
    let mut writer = Writer::new(Kind::Identity, 32);
    writer.public(identity);
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_new_then_known_then_another() {
        let (one, two) = (PublicKey::new([1; 32]), PublicKey::new([2; 32]));
        let (seen, record) = observe(None, &one).expect("no record");
        assert_eq!(seen, Seen::First);
        let record = record.expect("to be committed");
        assert_eq!(observe(Some(record.as_bytes()), &one), Ok((Seen::Same, None)));
        let (seen, other) = observe(Some(record.as_bytes()), &two).expect("whole");
        assert_eq!(seen, Seen::Changed { before: one });
        assert_eq!(other, Some(to_record(&two)));
    }

    #[test]
    fn a_damaged_record_is_no_first_use() {
        let error = Err(RecordError::Damaged { kind: Kind::Identity });
        assert_eq!(observe(Some(&[]), &PublicKey::new([1; 32])), error);
    }

    #[test]
    fn registration_ids_are_in_their_range() {
        for byte in 0..=255 {
            let identity = Identity::generate(&mut |bytes: &mut [u8]| bytes.fill(byte));
            assert!((1..=MAX_REGISTRATION_ID).contains(&identity.registration_id()));
        }
    }
}

//! Records: what the caller stores for us, and reads back to us.
//!
//! Layout: kind (1 byte), version (1 byte), body, checksum (8 bytes: the first of the SHA-256 of all before it).
//! Numbers are big-endian and of fixed width, so that a state has one encoding and what decodes encodes to the same
//! bytes. The checksum is against damage, not against tampering: whoever can write records has the keys.
//! Kind, version and checksum stay where they are in every later version. Bodies: docs/decisions/0014-signal-records.md.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::PublicKey;
use crate::chain::{MAX_SKIPPED, Receiving, Skipped};
use crate::key::Secret;

const CHECKSUM_LEN: usize = 8;

/// The only version there is.
const VERSION: u8 = 1;

/// A record of this crate, to be stored as it is: opaque, versioned, checksummed, wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Record(Vec<u8>);

impl Record {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, for a store that wipes them itself.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} bytes)", self.0.len())
    }
}

/// A record that cannot be used; the store's fault, never the peer's. The caller quarantines it: it is not to be
/// overwritten by a fresh one without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not those that were stored.
    #[error("the {kind} record is damaged")]
    Damaged {
        /// What it was to be.
        kind: Kind,
    },
    /// It is a record of another kind.
    #[error("not a {kind} record")]
    Kind {
        /// What it was to be.
        kind: Kind,
    },
    /// A newer version of this program wrote it.
    #[error("{kind} record of version {version}, which this program does not know")]
    Version {
        /// What it was to be.
        kind: Kind,
        /// What it says.
        version: u8,
    },
}

/// Kinds of records. The numbers are the first bytes of their records, and are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// All sessions with one device.
    Session = 1,
    /// The sender keys of one device in one group.
    SenderKey = 2,
    /// A one-time pre-key of ours.
    PreKey = 3,
    /// A signed pre-key of ours.
    SignedPreKey = 4,
    /// The identity key of a peer's device.
    Identity = 5,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::SenderKey => "sender-key",
            Self::PreKey => "pre-key",
            Self::SignedPreKey => "signed pre-key",
            Self::Identity => "identity",
        })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut short = [0; CHECKSUM_LEN];
    short.copy_from_slice(&Sha256::digest(bytes)[..CHECKSUM_LEN]);
    short
}

/// A record with this body, whatever it is; for fuzzing.
pub(crate) fn sealed(kind: Kind, body: &[u8]) -> Record {
    let mut writer = Writer::new(kind, body.len());
    writer.bytes(body);
    writer.finish()
}

/// The body of a record of `kind`, read to its end by `body`.
pub(crate) fn read<T>(
    kind: Kind,
    record: &[u8],
    body: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Result<T, RecordError> {
    let damaged = RecordError::Damaged { kind };
    let (content, stored) = record.split_last_chunk().ok_or(damaged)?;
    if checksum(content) != *stored {
        return Err(damaged);
    }
    let &[found, version, ref rest @ ..] = content else { return Err(damaged) };
    if found != kind as u8 {
        return Err(RecordError::Kind { kind });
    }
    if version != VERSION {
        return Err(RecordError::Version { kind, version });
    }
    let mut reader = Reader { rest };
    body(&mut reader).filter(|_| reader.rest.is_empty()).ok_or(damaged)
}

/// Reads the fields of a body; `None` where it ends too early or holds what no record holds.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn secret(&mut self) -> Option<Secret> {
        self.array().map(Secret::new)
    }

    pub(crate) fn public(&mut self) -> Option<PublicKey> {
        self.array().map(PublicKey::new)
    }

    /// As many as a count of one byte says, at most `most`.
    pub(crate) fn list<T>(
        &mut self,
        most: usize,
        mut one: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = usize::from(self.u8()?);
        (count <= most).then_some(())?;
        (0..count).map(|_| one(self)).collect()
    }

    /// A chain that we receive by.
    pub(crate) fn receiving(&mut self) -> Option<Receiving> {
        let key = match self.u8()? {
            0 => None,
            1 => Some(self.secret()?),
            _ => return None,
        };
        let next = self.u32()?;
        let count = usize::from(self.u16()?);
        (count <= MAX_SKIPPED).then_some(())?;
        let mut skipped = Vec::<Skipped>::with_capacity(count);
        for _ in 0..count {
            let one = Skipped { index: self.u32()?, seed: self.secret()? };
            let is_above = skipped.last().is_none_or(|last| last.index < one.index);
            (is_above && one.index < next).then_some(())?;
            skipped.push(one);
        }
        Some(Receiving { next, key, skipped })
    }
}

/// Writes a record.
#[derive(Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Begins a record of `kind`; `room` is about what its body will take, so that secrets are not left behind in
    /// memory by growing.
    pub(crate) fn new(kind: Kind, room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room + 2 + CHECKSUM_LEN);
        bytes.extend_from_slice(&[kind as u8, VERSION]);
        Self { bytes }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, number: u8) {
        self.bytes.push(number);
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.bytes(&number.to_be_bytes());
    }

    pub(crate) fn secret(&mut self, secret: &Secret) {
        self.bytes(secret.expose());
    }

    pub(crate) fn public(&mut self, key: &PublicKey) {
        self.bytes(key.as_bytes());
    }

    /// A count of one byte; what is counted is bounded far below.
    pub(crate) fn count(&mut self, count: usize) {
        debug_assert!(u8::try_from(count).is_ok());
        self.u8(count as u8);
    }

    /// A chain that we receive by.
    pub(crate) fn receiving(&mut self, chain: &Receiving) {
        self.u8(u8::from(chain.key.is_some()));
        if let Some(key) = &chain.key {
            self.secret(key);
        }
        self.u32(chain.next);
        debug_assert!(u16::try_from(chain.skipped.len()).is_ok());
        self.bytes(&(chain.skipped.len() as u16).to_be_bytes());
        for one in &chain.skipped {
            self.u32(one.index);
            self.secret(&one.seed);
        }
    }

    /// Bytes of a chain that we receive by, for `room`.
    pub(crate) fn receiving_len(chain: &Receiving) -> usize {
        1 + 32 + 4 + 2 + chain.skipped.len() * 36
    }

    pub(crate) fn finish(mut self) -> Record {
        let sum = checksum(&self.bytes);
        self.bytes(&sum);
        Record(self.bytes)
    }
}

//! Records: what the caller stores for us, and reads back to us.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

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

/// Kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// All sessions with one device.
    Session,
    /// The sender keys of one device in one group.
    SenderKey,
    /// A one-time pre-key of ours.
    PreKey,
    /// A signed pre-key of ours.
    SignedPreKey,
    /// The identity key of a peer's device.
    Identity,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::SenderKey => "sender key",
            Self::PreKey => "pre-key",
            Self::SignedPreKey => "signed pre-key",
            Self::Identity => "identity",
        })
    }
}

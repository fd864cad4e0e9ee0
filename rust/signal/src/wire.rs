//! The four messages on the wire: a version byte, a protobuf, and (two of them) a MAC or a signature.

use runner_xeddsa::SIGNATURE_LEN;

use crate::PublicKey;

/// Bytes of the MAC at the end of a [`SignalMessage`].
pub const MAC_LEN: usize = 8;

/// Longest message accepted, in bytes; ours, that of a frame.
pub const MAX_MESSAGE: usize = 8 * 1024 * 1024;

/// A message that does not parse; the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It is cut off, or no protobuf.
    #[error("the message is cut off or malformed")]
    Malformed,
    /// It is of another version of the protocol.
    #[error("the message is of version {version:#04x}, not 0x33")]
    Version {
        /// Its first byte.
        version: u8,
    },
    /// A field that it must have is missing.
    #[error("the message lacks its {field}")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A public key is not `05` and 32 bytes.
    #[error("a public key of the message is not 05 and 32 bytes")]
    Key,
    /// It is longer than [`MAX_MESSAGE`].
    #[error("the message has {len} bytes, more than {MAX_MESSAGE}")]
    TooLong {
        /// Its bytes.
        len: usize,
    },
}

/// `<enc type=msg>`: a message within a session.
#[derive(Clone, Copy, Debug)]
pub struct SignalMessage<'a> {
    /// The sender's ratchet key.
    pub ratchet_key: PublicKey,
    /// The message's number in the chain of that key, from 0.
    pub counter: u32,
    /// How far the sender's chain before went.
    pub previous_counter: u32,
    /// AES-256-CBC.
    pub ciphertext: &'a [u8],
    /// What the MAC is over, after the identities.
    pub authenticated: &'a [u8],
    /// The first bytes of the HMAC-SHA256.
    pub mac: [u8; MAC_LEN],
}

impl<'a> SignalMessage<'a> {
    /// Reads a message; nothing of it is proved yet.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let _ = bytes;
        unimplemented!()
    }
}

/// `<enc type=pkmsg>`: a message and what its receiver needs to make the session that it is in.
#[derive(Clone, Copy, Debug)]
pub struct PreKeySignalMessage<'a> {
    /// The sender's registration id.
    pub registration_id: u32,
    /// The one-time pre-key of ours that it used: load it. `None`: the server had none left.
    pub pre_key_id: Option<u32>,
    /// The signed pre-key of ours that it used: load it.
    pub signed_pre_key_id: u32,
    /// The sender's ephemeral key of X3DH; it names the session.
    pub base_key: PublicKey,
    /// The sender's identity key.
    pub identity: PublicKey,
    /// The message within.
    pub message: SignalMessage<'a>,
}

impl<'a> PreKeySignalMessage<'a> {
    /// Reads a message; nothing of it is proved yet.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let _ = bytes;
        unimplemented!()
    }
}

/// `<enc type=skmsg>`: a message to a group.
#[derive(Clone, Copy, Debug)]
pub struct SenderKeyMessage<'a> {
    /// Names the sender key.
    pub key_id: u32,
    /// The message's number in the chain, from 0.
    pub iteration: u32,
    /// AES-256-CBC.
    pub ciphertext: &'a [u8],
    /// What the signature is over.
    pub signed: &'a [u8],
    /// XEdDSA by the sender key's signing key.
    pub signature: &'a [u8; SIGNATURE_LEN],
}

impl<'a> SenderKeyMessage<'a> {
    /// Reads a message; nothing of it is proved yet.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let _ = bytes;
        unimplemented!()
    }
}

/// A sender key as its owner hands it out, inside a pairwise message.
#[derive(Clone, Copy, Debug)]
pub struct SenderKeyDistribution<'a> {
    /// Names the sender key.
    pub key_id: u32,
    /// Where in its chain it begins.
    pub iteration: u32,
    /// The chain key at `iteration`; secret.
    pub chain_key: &'a [u8; 32],
    /// The key that verifies its messages.
    pub signing_key: PublicKey,
}

impl<'a> SenderKeyDistribution<'a> {
    /// Reads one; the pairwise message around it has proved it.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let _ = bytes;
        unimplemented!()
    }
}

//! The Noise channel: handshakes XX, IK and XXfallback, then the transport cipher.
//!
//! Theory. Both sides keep a hash `h` of everything said and a chaining key `ck` into which every
//! Diffie-Hellman result goes; each encrypted part is bound to `h`. WhatsApp speaks the Noise framework,
//! revision 34, with the prologue `WA`, protocol, dictionary, and two differences: the parts of a message
//! travel as protobuf fields rather than concatenated, and the hello of XX, which has no payload, does
//! not hash an empty one.
//!
//! - `symmetric`: `h`, `ck` and the cipher of the handshake; both roles are built on it.
//! - `initiator`: our side of the three patterns.
//! - `transport`: the cipher of the frames that follow.
//!
//! Source: docs/protocol.md, "Noise".

mod cipher;
mod initiator;
mod key;
mod symmetric;
#[cfg(test)]
mod tests;
mod transport;

pub use cipher::TAG_LEN;
pub use initiator::{Established, Initiator};
pub use key::{KEY_LEN, KeyPair, dh};
pub use symmetric::{Pattern, Role, SymmetricState};
pub use transport::Transport;

use crate::cert::CertError;

/// Why the channel cannot be trusted, or no longer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// The server's answer does not fit; after an IK hello it may only mean that the server does not
    /// resume, and XX is worth a try ([`HandshakeError`]).
    #[error("noise handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
    /// The handshake is sound but the server cannot prove who it is.
    #[error("certificate chain refused: {0}")]
    Certificate(#[from] CertError),
    /// A frame's tag is wrong. Nothing was decrypted; the two counters no longer agree, so this is final.
    #[error("frame does not decrypt")]
    Open,
    /// One direction has used all its nonces. Nothing was encrypted or decrypted; a new connection has new keys.
    #[error("nonces are used up")]
    NonceExhausted,
}

/// What is wrong with a handshake message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// It is no handshake message.
    #[error("message does not parse")]
    Malformed,
    /// It is a handshake message but not the server's hello.
    #[error("message is not a server hello")]
    NotServerHello,
    /// The ephemeral key is absent or not 32 bytes.
    #[error("ephemeral key has a wrong length")]
    EphemeralLength,
    /// The encrypted static key is not 48 bytes.
    #[error("static key has a wrong length")]
    StaticLength,
    /// XX was asked for and the hello names no static key.
    #[error("static key is missing")]
    StaticMissing,
    /// The payload is absent.
    #[error("payload is missing")]
    PayloadMissing,
    /// A key of small order: the shared secret would be known to everybody.
    #[error("key is of small order")]
    WeakKey,
    /// The static key's tag is wrong: the server ran another pattern, or somebody is in between.
    #[error("static key does not decrypt")]
    StaticTag,
    /// The payload's tag is wrong: the server has another static key, or somebody is in between.
    #[error("payload does not decrypt")]
    PayloadTag,
    /// The cached server key is not a usable key.
    #[error("server key is of small order")]
    CachedKey,
}

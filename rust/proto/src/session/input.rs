//! Bytes on their way in, and the buffers they may need on it.

use crate::node::Scratch;

/// Bytes from the transport, decoded in place as the session works through them.
#[derive(Debug, Default)]
pub struct Input<'b> {
    /// Not yet seen by the WebSocket decoder.
    pub(super) raw: &'b mut [u8],
    /// What is left of the last piece of payload that it found.
    pub(super) piece: &'b mut [u8],
}

impl<'b> Input<'b> {
    pub(super) const fn new(bytes: &'b mut [u8]) -> Self {
        Self { raw: bytes, piece: &mut [] }
    }
}

/// Decoding buffers, shared by all sessions of a thread; nothing in them outlives a stanza.
#[derive(Debug, Default)]
pub struct Buffers {
    /// A frame that came in pieces.
    pub(super) joined: Vec<u8>,
    /// What decoding a stanza takes.
    pub(super) scratch: Scratch,
}

impl Buffers {
    /// Empty buffers; they grow to the largest stanza seen.
    #[must_use]
    pub const fn new() -> Self {
        Self { joined: Vec::new(), scratch: Scratch::new() }
    }
}

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
    /// Empty buffers; they grow with the stanzas until they are [trimmed](Self::trim).
    #[must_use]
    pub const fn new() -> Self {
        Self { joined: Vec::new(), scratch: Scratch::new() }
    }

    /// What decoding a stanza takes, for one that was kept.
    pub const fn scratch(&mut self) -> &mut Scratch {
        &mut self.scratch
    }

    /// Gives back what a large stanza made them grow to; costs nothing after small ones.
    pub fn trim(&mut self) {
        if self.joined.capacity() > MAX_KEPT {
            self.joined = Vec::new();
        }
        if self.scratch.capacity_bytes() > MAX_KEPT {
            self.scratch = Scratch::new();
        }
    }

    /// Bytes of heap that they hold.
    #[must_use]
    pub const fn reserved_bytes(&self) -> usize {
        self.joined.capacity() + self.scratch.capacity_bytes()
    }
}

/// Larger buffers are not kept between two inputs; a stanza that needs one is rare.
const MAX_KEPT: usize = 256 * 1024;

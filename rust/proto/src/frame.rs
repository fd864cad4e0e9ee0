//! Frames: a 3-byte big-endian length, then that many bytes.
//!
//! Theory. WhatsApp's frames know nothing of WebSocket messages: a message may hold several frames and
//! a frame may be cut over messages at any byte (docs/protocol.md, "Frame"). The decoder therefore
//! takes bytes as they come. A frame that lies whole in one input is handed out where it lies; only a
//! cut frame is copied, into a buffer that leaves with it, so an idle decoder owns no heap.
//!
//! Source: docs/protocol.md, "Intro" and "Frame".

use std::ops::{Deref, DerefMut};

/// The intro of a connection, and the only bytes of it that Noise hashes: `WA`, protocol 6, dictionary 3.
pub const PROLOGUE: [u8; 4] = *b"WA\x06\x03";

/// What stands in front of the routing info in an intro with edge routing: `ED`, 0, 1.
pub const EDGE_ROUTING: [u8; 4] = *b"ED\x00\x01";

/// Bytes of a frame's length prefix.
pub const HEADER_LEN: usize = 3;

/// Largest payload accepted, in bytes; ours, below the 2^24 - 1 that the prefix can say.
pub const MAX_FRAME: usize = 8 * 1024 * 1024;

/// Largest payload that the length prefix can announce.
pub const MAX_SENT: usize = 0xff_ff_ff;

/// Bytes reserved before they have arrived, so that a length alone cannot take memory.
const RESERVE: usize = 64 * 1024;

/// Appends what goes in front of a connection's first frame, in the same WebSocket message.
///
/// `routing_info` is what the last connection was told in `<ib><edge_routing>`. Empty means none, and
/// so does one that the 3-byte length cannot say.
pub fn write_intro(out: &mut Vec<u8>, routing_info: Option<&[u8]>) {
    if let Some((info, header)) = routing_info
        .filter(|info| !info.is_empty())
        .and_then(|info| header(info.len()).map(|header| (info, header)))
    {
        out.extend_from_slice(&EDGE_ROUTING);
        out.extend_from_slice(&header);
        out.extend_from_slice(info);
    }
    out.extend_from_slice(&PROLOGUE);
}

/// The length prefix of a payload, or `None` above [`MAX_SENT`].
#[must_use]
pub fn header(len: usize) -> Option<[u8; HEADER_LEN]> {
    let &[high @ .., a, b, c] = &u64::try_from(len).ok()?.to_be_bytes();
    (high == [0; 5]).then_some([a, b, c])
}

/// Appends one frame.
///
/// # Errors
/// [`FrameError::TooLong`] above [`MAX_SENT`] bytes, nothing written; our bug.
pub fn write(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), FrameError> {
    let header = header(payload.len()).ok_or(FrameError::TooLong { len: payload.len() })?;
    out.reserve(HEADER_LEN + payload.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    Ok(())
}

/// Splits a byte stream into frames.
///
/// Call [`next`](Self::next) until it returns `Ok(None)`; the input is then used up.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// The payload bytes of the frame in progress that have arrived: fewer than its length.
    partial: Vec<u8>,
    /// The first `header_have` bytes of the length prefix in progress.
    header: [u8; HEADER_LEN],
    /// How much of `header` has arrived; `HEADER_LEN` while a payload is awaited.
    header_have: u8,
}

impl FrameDecoder {
    /// A decoder at the start of a frame.
    #[must_use]
    pub const fn new() -> Self {
        Self { partial: Vec::new(), header: [0; HEADER_LEN], header_have: 0 }
    }

    /// Takes the next frame from the front of `input`, or everything when no frame ends in it.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] as soon as the length is known; the peer's fault, and final.
    pub fn next<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let bytes = std::mem::take(input);
        // The common case, a frame that lies whole in front of us, touches no state at all.
        if self.header_have == 0
            && let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>()
            && length(*header)? <= rest.len()
        {
            let len = length(*header)?;
            let (_, rest) = bytes.split_at_mut(HEADER_LEN);
            let (frame, rest) = rest.split_at_mut(len);
            *input = rest;
            return Ok(Some(Frame::Whole(frame)));
        }
        self.assemble(bytes, input)
    }

    /// Whether the bytes so far end between two frames.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        self.header_have == 0
    }

    /// Payload bytes of the frame in progress that have arrived.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Bytes of heap held for a frame in progress; none between frames.
    #[must_use]
    pub const fn reserved_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// The slow path of [`next`](Self::next): a frame that began in an earlier input or ends in a later one.
    #[cold]
    fn assemble<'a>(
        &mut self,
        bytes: &'a mut [u8],
        input: &mut &'a mut [u8],
    ) -> Result<Option<Frame<'a>>, FrameError> {
        let have = usize::from(self.header_have);
        let taken = bytes.len().min(HEADER_LEN - have);
        let (head, bytes) = bytes.split_at_mut(taken);
        for (slot, byte) in self.header.iter_mut().skip(have).zip(head) {
            *slot = *byte;
        }
        self.header_have += taken as u8; // at most HEADER_LEN
        if usize::from(self.header_have) < HEADER_LEN {
            return Ok(None);
        }

        let len = length(self.header)?;
        let wanted = len - self.partial.len();
        if self.partial.is_empty() && bytes.len() >= wanted {
            // Only the prefix was cut off.
            self.header_have = 0;
            let (frame, rest) = bytes.split_at_mut(len);
            *input = rest;
            return Ok(Some(Frame::Whole(frame)));
        }
        let (piece, rest) = bytes.split_at_mut(bytes.len().min(wanted));
        if self.partial.capacity() == 0 && !piece.is_empty() {
            self.partial.reserve_exact(len.min(RESERVE.max(piece.len())));
        }
        self.partial.extend_from_slice(piece);
        if piece.len() < wanted {
            return Ok(None);
        }
        self.header_have = 0;
        *input = rest;
        Ok(Some(Frame::Joined(std::mem::take(&mut self.partial))))
    }
}

/// The length that a prefix announces.
fn length([a, b, c]: [u8; HEADER_LEN]) -> Result<usize, FrameError> {
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    if len > MAX_FRAME { Err(FrameError::TooLong { len }) } else { Ok(len) }
}

/// The payload of one frame; dereferences to its bytes.
#[derive(Debug)]
pub enum Frame<'a> {
    /// It lay whole in the input, and still does.
    Whole(&'a mut [u8]),
    /// It came in pieces.
    Joined(Vec<u8>),
}

impl Deref for Frame<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Joined(bytes) => bytes,
        }
    }
}

impl DerefMut for Frame<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Joined(bytes) => bytes,
        }
    }
}

/// Why a byte stream is not a sequence of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced payload is larger than [`MAX_FRAME`], or one to be sent larger than [`MAX_SENT`].
    #[error("frame of {len} bytes is too long")]
    TooLong {
        /// The payload's length in bytes.
        len: usize,
    },
}

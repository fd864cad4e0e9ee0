//! Headers, masks and control frames to send.

use super::{ControlPayload, Opcode};

/// Bytes of the longest header: a masked frame of 64 KiB or more.
pub const MAX_HEADER: usize = 14;

/// Bytes to leave in front of a payload for [`finish_message`]: the header of a masked frame of 126 to
/// 65,535 bytes. Shorter payloads are moved forwards by 2 bytes, longer ones backwards by 6.
pub const HEADER_ROOM: usize = 8;

/// Set in a frame that ends its message.
const FIN: u8 = 0x80;

/// Set in the length byte of a masked frame.
const MASKED: u8 = 0x80;

/// A frame header, 2 to 14 bytes; dereferences to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; MAX_HEADER],
    len: u8,
}

impl Header {
    /// The header of an unfragmented message of `len` bytes.
    #[must_use]
    pub fn new(opcode: Opcode, len: usize, mask: Option<[u8; 4]>) -> Self {
        let mut header = Self { bytes: [0; MAX_HEADER], len: 0 };
        let masked = if mask.is_some() { MASKED } else { 0 };
        header.push(&[FIN | opcode as u8]);
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(len @ 0..=125), _) => header.push(&[masked | len]),
            (_, Ok(len)) => {
                header.push(&[masked | 126]);
                header.push(&len.to_be_bytes());
            }
            _ => {
                header.push(&[masked | 127]);
                header.push(&(len as u64).to_be_bytes());
            }
        }
        if let Some(key) = mask {
            header.push(&key);
        }
        header
    }

    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8; // at most MAX_HEADER
    }
}

impl std::ops::Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Appends the header of an unfragmented message of `len` bytes, whose payload is still to follow.
pub fn write_header(out: &mut Vec<u8>, opcode: Opcode, len: usize, mask: Option<[u8; 4]>) {
    out.extend_from_slice(&Header::new(opcode, len, mask));
}

/// Appends a whole message, masked when a key is given.
pub fn write_message(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) {
    write_header(out, opcode, payload.len(), key);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask(&mut out[start..], key);
    }
}

/// Makes `out[start + HEADER_ROOM..]` one message: puts the header in the room in front and masks the
/// payload in place, so that a payload built in the output buffer is sent without a copy.
///
/// # Panics
/// When `out` ends before the room does: a bug of the caller.
pub fn finish_message(out: &mut Vec<u8>, start: usize, opcode: Opcode, key: Option<[u8; 4]>) {
    let len = out.len() - start - HEADER_ROOM;
    let header = Header::new(opcode, len, key);
    if let Some(key) = key {
        mask(&mut out[start + HEADER_ROOM..], key);
    }
    match header.len() {
        HEADER_ROOM => {}
        shorter @ 0..HEADER_ROOM => {
            out.copy_within(start + HEADER_ROOM.., start + shorter);
            out.truncate(start + shorter + len);
        }
        longer => {
            out.resize(start + longer + len, 0);
            out.copy_within(start + HEADER_ROOM..start + HEADER_ROOM + len, start + longer);
        }
    }
    out[start..start + header.len()].copy_from_slice(&header);
}

/// Appends a control frame. A longer payload than a control frame can hold is cut.
pub fn write_control(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) {
    let payload = payload.get(..ControlPayload::MAX).unwrap_or(payload);
    write_message(out, opcode, payload, key);
}

/// Appends the answer to a ping.
pub fn write_pong(out: &mut Vec<u8>, ping: &ControlPayload, key: Option<[u8; 4]>) {
    write_control(out, Opcode::Pong, ping, key);
}

/// Appends a close frame, with a code and a reason (cut to 123 bytes at a character) or with neither.
pub fn write_close(out: &mut Vec<u8>, status: Option<(u16, &str)>, key: Option<[u8; 4]>) {
    let mut payload = ControlPayload::default();
    if let Some((code, reason)) = status {
        let mut end = reason.len().min(ControlPayload::MAX - 2);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        payload.push(&code.to_be_bytes());
        payload.push(&reason.as_bytes()[..end]);
    }
    write_control(out, Opcode::Close, &payload, key);
}

/// Masks or unmasks a payload from its first byte (RFC 6455 §5.3).
pub fn mask(payload: &mut [u8], key: [u8; 4]) {
    let (blocks, rest) = payload.as_chunks_mut::<8>();
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    for block in blocks {
        *block = (u64::from_ne_bytes(*block) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

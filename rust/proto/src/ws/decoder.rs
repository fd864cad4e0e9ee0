//! Bytes in, pieces of messages out.

use super::{Opcode, Role, close_code, encoder::MAX_HEADER, mask};

/// Largest message accepted, over all its fragments, in bytes.
pub const MAX_MESSAGE: u32 = 16 * 1024 * 1024;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// What the decoder finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A piece of binary payload, unmasked, where it lay in the input; never empty. Where messages
    /// begin and end is not told.
    Data(&'a mut [u8]),
    /// A text message has begun. Its payload is skipped: WhatsApp sends none.
    Text,
    /// Answer with a pong of the same payload.
    Ping(ControlPayload),
    /// The answer to a ping, or a sign of life.
    Pong(ControlPayload),
    /// The end: code, if any, and a reason that is UTF-8. Whatever follows is discarded.
    Close(Option<u16>, ControlPayload),
}

/// Splits a byte stream into the pieces of its messages.
///
/// Call [`next`](Self::next) until it returns `Ok(None)`; the input is then used up. An error is final.
#[derive(Debug)]
pub struct Decoder {
    /// A control frame whose payload is in progress.
    control: Option<Box<Control>>,
    /// Payload bytes of the current frame still to come.
    remaining: u32,
    /// Payload bytes that the message in progress has announced so far.
    message_len: u32,
    /// The mask, turned so that its first byte is for the next payload byte; zero when there is none.
    key: [u8; 4],
    /// The first `have` bytes of a header in progress.
    header: [u8; MAX_HEADER],
    have: u8,
    role: Role,
    phase: Phase,
    message: Kind,
    /// Whether the frame in progress is its message's last.
    is_last: bool,
}

// A decoder rests in every idle session.
const _: () = assert!(size_of::<Decoder>() <= 40);

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Header,
    Data,
    Control,
    Closed,
}

/// The message in progress, which control frames may interrupt and data frames may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Binary,
    Text,
}

#[derive(Debug)]
struct Control {
    opcode: Opcode,
    payload: ControlPayload,
}

impl Decoder {
    /// A decoder behind the upgrade, for what `role`'s peer sends.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self {
            control: None,
            remaining: 0,
            message_len: 0,
            key: [0; 4],
            header: [0; MAX_HEADER],
            have: 0,
            role,
            phase: Phase::Header,
            message: Kind::None,
            is_last: false,
        }
    }

    /// Takes the next piece from the front of `input`, or everything when there is none.
    ///
    /// # Errors
    /// The peer broke RFC 6455; [`WsError::close_code`] is what to tell it.
    pub fn next<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Message<'a>>, WsError> {
        loop {
            let found = match self.phase {
                Phase::Header => {
                    if !self.take_header(input) {
                        return Ok(None);
                    }
                    self.begin_frame()?
                }
                Phase::Data => self.take_data(input),
                Phase::Control => self.take_control(input)?,
                Phase::Closed => {
                    *input = &mut [];
                    None
                }
            };
            if found.is_some() {
                return Ok(found);
            }
            if input.is_empty() && self.needs_input() {
                return Ok(None);
            }
        }
    }

    /// Whether nothing can happen without another byte.
    const fn needs_input(&self) -> bool {
        match self.phase {
            Phase::Data | Phase::Control => self.remaining > 0,
            Phase::Header | Phase::Closed => true,
        }
    }

    /// Moves header bytes from `input`; true when the header is complete.
    fn take_header(&mut self, input: &mut &mut [u8]) -> bool {
        loop {
            let have = usize::from(self.have);
            let wanted = if have < 2 { 2 } else { header_len(self.header[1]) };
            if have == wanted {
                return true;
            }
            let piece = take(input, wanted - have);
            if piece.is_empty() {
                return false;
            }
            self.header[have..have + piece.len()].copy_from_slice(piece);
            self.have += piece.len() as u8; // at most MAX_HEADER
        }
    }

    /// Checks the complete header and enters its frame.
    fn begin_frame<'a>(&mut self) -> Result<Option<Message<'a>>, WsError> {
        self.have = 0;
        let [first, second, ..] = self.header;
        if first & RESERVED != 0 {
            return Err(WsError::ReservedBits);
        }
        let is_masked = second & MASKED != 0;
        match self.role {
            Role::Client if is_masked => return Err(WsError::Masked),
            Role::Server if !is_masked => return Err(WsError::NotMasked),
            _ => {}
        }
        let (len, mask_at) = self.length(second & LENGTH)?;
        self.key = [0; 4];
        if let (true, Some(key)) = (is_masked, self.header.get(mask_at..mask_at + 4)) {
            self.key.copy_from_slice(key);
        }
        let is_last = first & FIN != 0;
        match first & OPCODE {
            0x0 if self.message == Kind::None => Err(WsError::NothingToContinue),
            0x0 => self.begin_data(len, is_last).map(|()| None),
            0x1 | 0x2 if self.message != Kind::None => Err(WsError::MessageInterrupted),
            0x1 => {
                self.message = Kind::Text;
                self.begin_data(len, is_last).map(|()| Some(Message::Text))
            }
            0x2 => {
                self.message = Kind::Binary;
                self.begin_data(len, is_last).map(|()| None)
            }
            0x8 => self.begin_control(Opcode::Close, len, is_last).map(|()| None),
            0x9 => self.begin_control(Opcode::Ping, len, is_last).map(|()| None),
            0xa => self.begin_control(Opcode::Pong, len, is_last).map(|()| None),
            opcode => Err(WsError::ReservedOpcode(opcode)),
        }
    }

    /// The payload length that the header says, and where in the header the mask begins.
    fn length(&self, short: u8) -> Result<(u64, usize), WsError> {
        let [_, _, a, b, c, d, e, f, g, h, ..] = self.header;
        let (len, mask_at, least) = match short {
            126 => (u64::from(u16::from_be_bytes([a, b])), 4, 126),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10, 1 << 16),
            short => (u64::from(short), 2, 0),
        };
        if len < least { Err(WsError::LengthNotMinimal) } else { Ok((len, mask_at)) }
    }

    fn begin_data(&mut self, len: u64, is_last: bool) -> Result<(), WsError> {
        let total = len.saturating_add(u64::from(self.message_len));
        let (Ok(len), Ok(total @ ..=MAX_MESSAGE)) = (u32::try_from(len), u32::try_from(total)) else {
            return Err(WsError::TooLong { len: total });
        };
        self.message_len = total;
        self.remaining = len;
        self.is_last = is_last;
        self.phase = Phase::Data;
        Ok(())
    }

    fn begin_control(&mut self, opcode: Opcode, len: u64, is_last: bool) -> Result<(), WsError> {
        if !is_last {
            return Err(WsError::ControlFragmented);
        }
        self.remaining = match u32::try_from(len) {
            Ok(len) if len as usize <= ControlPayload::MAX => len,
            _ => return Err(WsError::ControlTooLong),
        };
        self.control = Some(Box::new(Control { opcode, payload: ControlPayload::default() }));
        self.phase = Phase::Control;
        Ok(())
    }

    fn take_data<'a>(&mut self, input: &mut &'a mut [u8]) -> Option<Message<'a>> {
        let piece = self.take_payload(input);
        let kind = self.message;
        if self.remaining == 0 {
            self.phase = Phase::Header;
            if self.is_last {
                self.message = Kind::None;
                self.message_len = 0;
            }
        }
        (kind == Kind::Binary && !piece.is_empty()).then_some(Message::Data(piece))
    }

    fn take_control<'a>(&mut self, input: &mut &mut [u8]) -> Result<Option<Message<'a>>, WsError> {
        let piece = self.take_payload(input);
        if let Some(control) = &mut self.control {
            control.payload.push(piece);
        }
        if self.remaining > 0 {
            return Ok(None);
        }
        self.phase = Phase::Header;
        let Some(control) = self.control.take() else { return Ok(None) };
        Ok(Some(match control.opcode {
            Opcode::Ping => Message::Ping(control.payload),
            Opcode::Pong => Message::Pong(control.payload),
            _ => {
                self.phase = Phase::Closed;
                close(&control.payload)?
            }
        }))
    }

    /// Takes payload of the frame in progress, and unmasks it.
    fn take_payload<'a>(&mut self, input: &mut &'a mut [u8]) -> &'a mut [u8] {
        let piece = take(input, self.remaining as usize);
        self.remaining -= piece.len() as u32; // at most remaining
        if self.role == Role::Server {
            mask(piece, self.key);
            self.key.rotate_left(piece.len() % 4);
        }
        piece
    }
}

/// Bytes of the header whose second byte this is.
const fn header_len(second: u8) -> usize {
    let length = match second & LENGTH {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & MASKED != 0 { 4 } else { 0 }
}

/// Splits up to `most` bytes off the front of `input`.
fn take<'a>(input: &mut &'a mut [u8], most: usize) -> &'a mut [u8] {
    let bytes = std::mem::take(input);
    let (piece, rest) = bytes.split_at_mut(bytes.len().min(most));
    *input = rest;
    piece
}

/// Reads the payload of a close frame (RFC 6455 §5.5.1 and §7.4).
fn close<'a>(payload: &[u8]) -> Result<Message<'a>, WsError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(Message::Close(None, ControlPayload::default())),
            _ => Err(WsError::CloseTooShort),
        };
    };
    let code = u16::from_be_bytes(*code);
    // 1004 is reserved; 1005, 1006 and 1015 say what no frame said.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(WsError::CloseCode(code));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(WsError::CloseReason);
    }
    let mut text = ControlPayload::default();
    text.push(reason);
    Ok(Message::Close(Some(code), text))
}

/// The payload of a control frame; dereferences to its bytes.
#[derive(Clone, Copy)]
pub struct ControlPayload {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl ControlPayload {
    /// Most bytes that a control frame may carry.
    pub const MAX: usize = 125;

    /// Appends as much of `bytes` as there is room for.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        let taken = bytes.len().min(Self::MAX - start);
        self.bytes[start..start + taken].copy_from_slice(&bytes[..taken]);
        self.len += taken as u8; // at most MAX
    }
}

impl Default for ControlPayload {
    fn default() -> Self {
        Self { bytes: [0; Self::MAX], len: 0 }
    }
}

impl std::ops::Deref for ControlPayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl PartialEq for ControlPayload {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ControlPayload {}

impl std::fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.escape_ascii().to_string())
    }
}

/// How the peer broke RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    /// A bit for extensions is set; none was agreed on (§5.2).
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode without a meaning (§5.2).
    #[error("reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    /// The server masks (§5.1).
    #[error("frame of a server is masked")]
    Masked,
    /// The client does not mask (§5.1).
    #[error("frame of a client is not masked")]
    NotMasked,
    /// The length is written in more bytes than it needs (§5.2).
    #[error("length is not written in the fewest bytes")]
    LengthNotMinimal,
    /// A message larger than [`MAX_MESSAGE`]; a limit of ours.
    #[error("message of {len} bytes is too long")]
    TooLong {
        /// What the message's frames announce so far, in bytes.
        len: u64,
    },
    /// A continuation with no message in progress (§5.4).
    #[error("continuation without a message")]
    NothingToContinue,
    /// A new message inside another (§5.4).
    #[error("message begins inside another")]
    MessageInterrupted,
    /// A control frame in fragments (§5.5).
    #[error("control frame is fragmented")]
    ControlFragmented,
    /// A control frame above 125 bytes (§5.5).
    #[error("control frame is too long")]
    ControlTooLong,
    /// A close frame with half a code (§5.5.1).
    #[error("close frame of one byte")]
    CloseTooShort,
    /// A close code that must not be sent (§7.4).
    #[error("close code {0} is not allowed")]
    CloseCode(u16),
    /// A close reason that is no UTF-8 (§5.5.1).
    #[error("close reason is not utf-8")]
    CloseReason,
}

impl WsError {
    /// The close code that tells the peer (§7.4.1).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::TooLong { .. } => close_code::TOO_LARGE,
            Self::CloseReason => close_code::INVALID_DATA,
            _ => close_code::PROTOCOL_ERROR,
        }
    }
}

//! WebSocket, RFC 6455: the client's role for us, the server's for the simulator.
//!
//! Theory. A session needs no message boundaries, since WhatsApp's frames carry their own lengths. So
//! nothing here buffers a message: the decoder hands out payload where it lies in the input, piece by
//! piece, and keeps a header in progress at most; an idle connection owns no heap.
//!
//! - `upgrade`: the HTTP exchange at the start, from both sides.
//! - `decoder`: bytes in, pieces of messages out.
//! - `encoder`: headers, masks and control frames out.
//!
//! No extension and no sub-protocol is ever offered or accepted.

mod decoder;
mod encoder;
mod upgrade;

pub use decoder::{ControlPayload, Decoder, MAX_MESSAGE, Message, WsError};
pub use encoder::{
    HEADER_ROOM, Header, MAX_HEADER, finish_message, mask, write_close, write_control, write_header,
    write_message, write_pong,
};
pub use upgrade::{
    ACCEPT_LEN, InvalidUpgrade, MAX_HEAD, Request, RequestError, RequestTarget, UpgradeError, UpgradeRequest,
    UpgradeResponse, accept_value, parse_request, parse_response, write_response, write_switching_protocols,
};

/// Which side of a connection we are: a client masks what it sends, a server does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We dialled.
    Client,
    /// We were dialled.
    Server,
}

/// What a frame is (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message before it.
    Continuation = 0x0,
    /// UTF-8 text.
    Text = 0x1,
    /// Bytes.
    Binary = 0x2,
    /// The end of the connection.
    Close = 0x8,
    /// A question to be answered with a pong.
    Ping = 0x9,
    /// The answer to a ping.
    Pong = 0xa,
}

/// Close codes of RFC 6455 §7.4.1 that we send.
pub mod close_code {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The endpoint goes away.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Text that is no UTF-8.
    pub const INVALID_DATA: u16 = 1007;
    /// A message too large to process.
    pub const TOO_LARGE: u16 = 1009;
}

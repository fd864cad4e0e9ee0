//! Binary nodes: the elements that everything after the handshake is made of.
//!
//! A node has a tag, attributes, and content: children, bytes, or a text. Source: docs/protocol.md, "Node".
//!
//! * [`decode`] looks at every byte once, under [`Limits`], notes in [`Scratch`] where the nodes lie, and gives a
//!   [`NodeRef`] that reads parts on demand. What the first pass refused cannot turn up later, so nothing behind it
//!   fails; with scratch space that was used before, nothing allocates.
//! * [`Writer`] streams a node straight into the caller's buffer; [`encode`] does so for an owned [`Node`].
//! * A string becomes a JID on the wire only where the caller says so ([`Writer::attr_jid`]).
//! * Malformed UTF-8 never fails: the bytes are kept, shown lossily, and copied as they were.
//!
//! Contents that are written as a string come back as bytes when the encoder finds no shorter form for them:
//! the wire has one form for both.

pub(crate) mod cursor;
mod decode;
mod error;
mod head;
mod inflate;
mod outline;
pub(crate) mod packed;
mod tag;
pub(crate) mod text;
mod tree;
mod value;
mod view;
mod writer;

pub use decode::{Limits, MAX_DEPTH, decode};
pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use head::decode_head;
pub use outline::Scratch;
pub use packed::Packed;
pub use text::Str;
pub use tree::{AttrValue, Node, NodeContent, encode};
pub use value::Value;
pub use view::{Attrs, Children, Content, NodeRef};
pub use writer::{MAX_ATTRS, MAX_CHILDREN, Writer};

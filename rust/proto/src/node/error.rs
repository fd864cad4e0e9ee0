//! Why a node does not decode or cannot be written.

/// The peer's bytes are not a node, or not one within the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {at}")]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Where, in bytes from the flag byte; after a deflated node's header, in bytes of the inflated node.
    pub at: usize,
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeErrorKind {
    /// They end inside the node.
    #[error("the node is cut off")]
    Truncated,
    /// More bytes behind the node.
    #[error("bytes behind the node")]
    Trailing,
    /// A byte that starts no string, JID or list where one of them must stand.
    #[error("unexpected tag byte {0:#04x}")]
    BadTag(u8),
    /// A node without a tag.
    #[error("a node without a tag")]
    BadNode,
    /// A nibble outside the alphabet.
    #[error("a packed string with an invalid nibble")]
    BadPacked,
    /// A JID without a server, or with a JID inside.
    #[error("a malformed jid")]
    BadJid,
    /// Nested deeper than [`Limits::max_depth`](super::Limits::max_depth).
    #[error("nested too deeply")]
    TooDeep,
    /// A list longer than [`Limits::max_list`](super::Limits::max_list).
    #[error("a list of {0} entries is too long")]
    ListTooLong(usize),
    /// More nodes than [`Limits::max_nodes`](super::Limits::max_nodes).
    #[error("too many nodes")]
    TooManyNodes,
    /// More attributes in all than [`Limits::max_attrs`](super::Limits::max_attrs).
    #[error("too many attributes")]
    TooManyAttrs,
    /// Longer than [`Limits::max_bytes`](super::Limits::max_bytes).
    #[error("the node is too long")]
    TooLong,
    /// Not a zlib stream.
    #[error("the deflated node does not inflate")]
    Inflate,
    /// Inflates to more than [`Limits::max_inflated_bytes`](super::Limits::max_inflated_bytes).
    #[error("the node inflates to too much")]
    InflatedTooLong,
}

/// A node that the wire form cannot hold: our caller's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// More than [`MAX_ATTRS`](super::MAX_ATTRS).
    #[error("{0} attributes on one node are too many")]
    TooManyAttrs(usize),
    /// More than [`MAX_CHILDREN`](super::MAX_CHILDREN).
    #[error("{0} children in one node are too many")]
    TooManyChildren(usize),
    /// Text or bytes of 4 GiB or more.
    #[error("{0} bytes in one string are too many")]
    TooLong(usize),
    /// A tag that is empty.
    #[error("a node without a tag")]
    NoTag,
    /// Nested more deeply than anyone decodes.
    #[error("nested more than {} deep", super::MAX_DEPTH)]
    TooDeep,
}

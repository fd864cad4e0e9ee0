//! Where the nodes of a stanza lie, written down while they are checked.
//!
//! Nodes carry no length, so the way to a child's sibling leads through the child. Noting each node's place once makes
//! that way one step, at any depth (docs/decisions/0011-an-outline-beside-the-bytes.md).

/// Room that decoding needs beside the bytes, to be used again for one node after the other.
///
/// Grows to the largest node seen: 16 bytes for each node of a tree, and what a deflated one inflates to, both
/// under [`Limits`](super::Limits).
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) inflated: Vec<u8>,
    pub(super) places: Vec<Place>,
}

impl Scratch {
    /// Empty; nothing is allocated yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { inflated: Vec::new(), places: Vec::new() }
    }

    /// The bytes that the buffers take, used or not.
    #[must_use]
    pub const fn capacity_bytes(&self) -> usize {
        self.inflated.capacity() + self.places.capacity() * size_of::<Place>()
    }
}

/// The place of one node. Those below it follow directly, in the order of the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where the node begins.
    pub(super) start: u32,
    /// Where its content begins; 0, where the root begins, when it has none.
    pub(super) content: u32,
    /// Nodes from this one to the last below it, at least 1. Until they are known: the index of the parent.
    pub(super) nodes: u32,
    /// Only until they are known: the parent's children that follow this one.
    pub(super) siblings: u16,
}

//! The one pass that decides whether bytes are a node.

use super::cursor::Cursor;
use super::error::{DecodeError, DecodeErrorKind};
use super::inflate::inflate_into;
use super::outline::{Place, Scratch};
use super::view::NodeRef;

/// What is accepted from a peer. Everything is finite even where the wire form is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nesting; a node without children is 1 deep. Never more than [`MAX_DEPTH`].
    pub max_depth: usize,
    /// Entries of one list: children, or tag, keys, values and content of a node.
    pub max_list: usize,
    /// Nodes in all.
    pub max_nodes: usize,
    /// Attributes in all.
    pub max_attrs: usize,
    /// Bytes as received, the flag byte included.
    pub max_bytes: usize,
    /// Bytes after inflating.
    pub max_inflated_bytes: usize,
}

impl Default for Limits {
    /// Room for anything seen in the wild; a tree built from it stays below 100 MiB.
    fn default() -> Self {
        Self {
            max_depth: MAX_DEPTH,
            max_list: u16::MAX as usize,
            max_nodes: 1 << 18,
            max_attrs: 1 << 19,
            max_bytes: 16 * 1024 * 1024,
            max_inflated_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Nesting that no peer exceeds.
pub const MAX_DEPTH: usize = 128;

/// Bit of the flag byte: the rest is a zlib stream.
const DEFLATED: u8 = 0x02;

/// Decodes one node: a flag byte and the node, deflated when the flag says so.
///
/// Allocates nothing once the scratch space is as large as the node needs; what was in there is gone.
/// Errors are the peer's fault; bytes behind the node are one.
/// Source: docs/protocol.md, "Node".
pub fn decode<'a>(
    plain: &'a [u8],
    scratch: &'a mut Scratch,
    limits: &Limits,
) -> Result<NodeRef<'a>, DecodeError> {
    let fail = |kind, at| Err(DecodeError { kind, at });
    if plain.len() > limits.max_bytes {
        return fail(DecodeErrorKind::TooLong, limits.max_bytes);
    }
    let Some((flag, data)) = plain.split_first() else {
        return fail(DecodeErrorKind::Truncated, 0);
    };
    let Scratch { inflated, places } = scratch;
    if flag & DEFLATED == 0 {
        // The offset counts from the flag byte.
        return validate(data, places, limits).map_err(|error| DecodeError { at: error.at + 1, ..error });
    }
    if let Err(kind) = inflate_into(data, inflated, limits.max_inflated_bytes) {
        return fail(kind, 1);
    }
    validate(inflated, places, limits)
}

fn validate<'a>(
    bytes: &'a [u8],
    places: &'a mut Vec<Place>,
    limits: &Limits,
) -> Result<NodeRef<'a>, DecodeError> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(DecodeError { kind: DecodeErrorKind::TooLong, at: u32::MAX as usize });
    }
    let mut cursor = Cursor::new(bytes);
    let checked = walk(&mut cursor, places, limits);
    let at = bytes.len() - cursor.rest().len();
    match checked {
        Ok(()) if cursor.rest().is_empty() => Ok(NodeRef::new(bytes, places)),
        Ok(()) => Err(DecodeError { kind: DecodeErrorKind::Trailing, at }),
        Err(kind) => Err(DecodeError { kind, at }),
    }
}

/// Walks over one node and all below it, and notes their places. No recursion: depth costs the peer's bytes and never
/// ours; what is open is a list through the places themselves.
fn walk(cursor: &mut Cursor<'_>, places: &mut Vec<Place>, limits: &Limits) -> Result<(), DecodeErrorKind> {
    let max_depth = limits.max_depth.min(MAX_DEPTH);
    let mut nodes_left = limits.max_nodes;
    let mut attrs_left = limits.max_attrs;
    // The innermost node that is open, how many are, and its children still to come.
    let (mut parent, mut depth, mut due) = (0, 0, 0);
    // Positions fit: `validate` looked at the length.
    let end = cursor.rest().len();
    let position = |cursor: &Cursor<'_>| (end - cursor.rest().len()) as u32;
    places.clear();
    if max_depth == 0 {
        return Err(DecodeErrorKind::TooDeep);
    }
    loop {
        nodes_left = nodes_left.checked_sub(1).ok_or(DecodeErrorKind::TooManyNodes)?;
        let mut place = Place { start: position(cursor), content: 0, nodes: 1, siblings: 0 };
        let size = cursor.list_size()?;
        if size > limits.max_list {
            return Err(DecodeErrorKind::ListTooLong(size));
        }
        if size == 0 || !cursor.check_filled_str()? {
            return Err(DecodeErrorKind::BadNode);
        }
        let attrs = (size - 1) / 2;
        attrs_left = attrs_left.checked_sub(attrs).ok_or(DecodeErrorKind::TooManyAttrs)?;
        for _ in 0..attrs {
            cursor.check_str()?;
            cursor.check_value()?;
        }
        if size % 2 == 0 {
            place.content = position(cursor);
            if cursor.at_list() {
                let children = cursor.list_size()?;
                if children > limits.max_list {
                    return Err(DecodeErrorKind::ListTooLong(children));
                }
                if children > 0 {
                    // The root is 1 deep, so its children need room for 2.
                    depth += 1;
                    if depth >= max_depth {
                        return Err(DecodeErrorKind::TooDeep);
                    }
                    let index = places.len() as u32;
                    places.push(Place { nodes: parent, siblings: due, ..place });
                    // `list_size` reads at most 16 bits.
                    (parent, due) = (index, children as u16);
                    continue;
                }
            } else {
                cursor.check_value()?;
            }
        }
        places.push(place);
        // The node is complete, and with it every parent whose last child it was.
        loop {
            if depth == 0 {
                return Ok(());
            }
            due -= 1;
            if due > 0 {
                break;
            }
            let nodes = places.len() as u32 - parent;
            let Some(place) = places.get_mut(parent as usize) else { return Ok(()) };
            (parent, due) = (place.nodes, place.siblings);
            place.nodes = nodes;
            depth -= 1;
        }
    }
}

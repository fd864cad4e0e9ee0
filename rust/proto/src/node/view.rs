//! Reads a validated node on demand.

use std::fmt;

use super::cursor::Cursor;
use super::outline::Place;
use super::tag::*;
use super::text::Str;
use super::tree::{AttrValue, Node, NodeContent};
use super::value::Value;
use crate::jid::JidRef;

/// A decoded node: a place in validated bytes. Copying it is free; every access reads the bytes again.
#[derive(Clone, Copy)]
pub struct NodeRef<'a> {
    /// The whole stanza, which `decode` has walked over without error.
    bytes: &'a [u8],
    /// Begins with the place of this node and of all below it; others may follow.
    places: &'a [Place],
}

impl<'a> NodeRef<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8], places: &'a [Place]) -> Self {
        Self { bytes, places }
    }

    /// At the beginning of the node.
    #[inline]
    fn cursor(&self) -> Cursor<'a> {
        Cursor::starting(self.bytes, self.places.first().map_or(0, |place| place.start))
    }

    /// The tag.
    #[inline]
    pub fn tag(&self) -> Str<'a> {
        let mut cursor = self.cursor();
        let _size = cursor.list_size();
        cursor.str().unwrap_or(NOTHING)
    }

    /// The attributes in the order of the wire. A key can come twice.
    #[inline]
    pub fn attrs(&self) -> Attrs<'a> {
        let mut cursor = self.cursor();
        let size = cursor.list_size().unwrap_or(0);
        cursor.skip(1);
        Attrs { cursor, left: size.saturating_sub(1) / 2 }
    }

    /// The first attribute of that name.
    pub fn attr(&self, key: &str) -> Option<Value<'a>> {
        self.attrs().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The number of attributes.
    pub fn attr_count(&self) -> usize {
        self.attrs().left
    }

    /// The content.
    #[inline]
    pub fn content(&self) -> Content<'a> {
        let Some((place, below)) = self.places.split_first().filter(|(place, _)| place.content > 0) else {
            return Content::None;
        };
        let mut cursor = Cursor::starting(self.bytes, place.content);
        match cursor.peek() {
            // The commonest in the fewest steps.
            Some(BINARY_8) => cursor
                .array()
                .and_then(|[_tag, len]| cursor.take(len.into()))
                .map_or(Content::None, Content::Bytes),
            Some(LIST_EMPTY | LIST_8 | LIST_16) => Content::Nodes(Children {
                bytes: self.bytes,
                places: below,
                left: cursor.list_size().unwrap_or(0),
            }),
            _ => match cursor.value() {
                Some(Value::Str(Str::Raw(bytes))) => Content::Bytes(bytes),
                Some(text) => Content::Text(text),
                None => Content::None,
            },
        }
    }

    /// The children; none when the content is something else.
    pub fn children(&self) -> Children<'a> {
        match self.content() {
            Content::Nodes(children) => children,
            _ => Children { bytes: &[], places: &[], left: 0 },
        }
    }

    /// The first child with that tag.
    pub fn child(&self, tag: &str) -> Option<Self> {
        self.children().find(|child| child.tag() == tag)
    }

    /// The content, when it is bytes. What a peer wrote as text is not.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self.content() {
            Content::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The bytes of this node, without flag byte.
    pub fn encoded(&self) -> &'a [u8] {
        let mut cursor = self.cursor();
        cursor.skip(1);
        cursor.since(self.cursor())
    }

    /// The node as an owned tree, made in one walk. Malformed UTF-8 becomes U+FFFD, except in byte contents.
    pub fn to_node(&self) -> Node {
        build(&mut self.cursor())
    }
}

/// What stands where validated bytes hold nothing; unreachable.
const NOTHING: Str<'static> = Str::Token("");

/// Builds the tree of the node at the cursor. As deep as `Limits::max_depth` let it be.
fn build(cursor: &mut Cursor<'_>) -> Node {
    let size = cursor.list_size().unwrap_or(0);
    let tag = cursor.str().unwrap_or(NOTHING).to_cow().into_owned();
    let attrs = (0..size.saturating_sub(1) / 2)
        .map_while(|_| Some((cursor.str()?.to_cow().into_owned(), AttrValue::from(cursor.value()?))))
        .collect();
    let content = if size == 0 || size % 2 == 1 {
        NodeContent::None
    } else if cursor.at_list() {
        let children = cursor.list_size().unwrap_or(0);
        NodeContent::Nodes((0..children).map(|_| build(cursor)).collect())
    } else {
        match cursor.value() {
            Some(Value::Str(Str::Raw(bytes))) => NodeContent::Bytes(bytes.to_vec()),
            Some(Value::Str(text)) => NodeContent::Text(text.to_cow().into_owned()),
            Some(Value::Jid(jid)) => NodeContent::Jid(jid.to_jid()),
            None => NodeContent::None,
        }
    };
    Node { tag, attrs, content }
}

/// What a node holds.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// Nothing.
    None,
    /// Children, perhaps an empty list of them.
    Nodes(Children<'a>),
    /// Bytes, which is also how text is written when no shorter form exists.
    Bytes(&'a [u8]),
    /// A token, a packed string or a JID. Some peers write short byte contents this way.
    Text(Value<'a>),
}

impl<'a> Content<'a> {
    /// The content as text, whichever way it was written; none for children and for no content.
    pub fn as_text(&self) -> Option<Value<'a>> {
        match *self {
            Self::Bytes(bytes) => Some(Value::Str(Str::Raw(bytes))),
            Self::Text(text) => Some(text),
            Self::None | Self::Nodes(_) => None,
        }
    }
}

/// The attributes of a node.
#[derive(Clone, Copy)]
pub struct Attrs<'a> {
    cursor: Cursor<'a>,
    left: usize,
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (Str<'a>, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some((self.cursor.str()?, self.cursor.value()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Attrs<'_> {}

/// The children of a node.
#[derive(Clone, Copy)]
pub struct Children<'a> {
    bytes: &'a [u8],
    /// Begins with the place of the next child.
    places: &'a [Place],
    left: usize,
}

impl<'a> Iterator for Children<'a> {
    type Item = NodeRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let child = NodeRef { bytes: self.bytes, places: self.places };
        let nodes = self.places.first()?.nodes as usize;
        self.places = self.places.get(nodes..).unwrap_or_default();
        Some(child)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Children<'_> {}

impl fmt::Debug for NodeRef<'_> {
    /// The way a person would write it: `<iq id="1" to="@s.whatsapp.net"><ping/></iq>`, byte contents as their length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.tag();
        write!(f, "<{tag}")?;
        for (key, value) in self.attrs() {
            write!(f, " {key}={:?}", value.as_str_cow())?;
        }
        match self.content() {
            Content::None => f.write_str("/>"),
            Content::Bytes(bytes) => write!(f, ">{} bytes</{tag}>", bytes.len()),
            Content::Text(text) => write!(f, ">{text}</{tag}>"),
            Content::Nodes(children) => {
                f.write_str(">")?;
                children.into_iter().try_for_each(|child| fmt::Debug::fmt(&child, f))?;
                write!(f, "</{tag}>")
            }
        }
    }
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Nodes(children) => f.debug_list().entries(*children).finish(),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Text(text) => fmt::Debug::fmt(text, f),
        }
    }
}

impl From<Value<'_>> for AttrValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Str(text) => Self::Str(text.to_cow().into_owned()),
            Value::Jid(jid) => Self::Jid(JidRef::to_jid(&jid)),
        }
    }
}

//! Nodes as owned trees, for building and for tests; the hot paths use `NodeRef` and `Writer`.

use std::fmt;

use super::decode::MAX_DEPTH;
use super::error::EncodeError;
use super::writer::{MAX_ATTRS, MAX_CHILDREN, Writer};
use crate::jid::Jid;

/// A node, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The tag, never empty.
    pub tag: String,
    /// The attributes in the order of the wire.
    pub attrs: Vec<(String, AttrValue)>,
    /// The content.
    pub content: NodeContent,
}

/// The value of an attribute.
#[derive(Clone, PartialEq, Eq)]
pub enum AttrValue {
    /// A string, written as one whatever it looks like.
    Str(String),
    /// A JID, written as one.
    Jid(Jid),
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeContent {
    /// Nothing.
    None,
    /// Children.
    Nodes(Vec<Node>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A text. Comes back as `Bytes` when it is neither a token nor digits.
    Text(String),
    /// A JID.
    Jid(Jid),
}

impl Node {
    /// A node without attributes and content.
    pub fn new(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), attrs: Vec::new(), content: NodeContent::None }
    }

    /// Adds an attribute: a string, or a JID.
    #[must_use]
    pub fn attr(mut self, key: impl Into<String>, value: impl Into<AttrValue>) -> Self {
        self.attrs.push((key.into(), value.into()));
        self
    }

    /// Adds an attribute that is a JID.
    #[must_use]
    pub fn attr_jid(self, key: impl Into<String>, jid: Jid) -> Self {
        self.attr(key, jid)
    }

    /// Makes bytes the content.
    #[must_use]
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.content = NodeContent::Bytes(bytes.into());
        self
    }

    /// Makes a text the content.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.content = NodeContent::Text(text.into());
        self
    }

    /// Adds a child; replaces a content that is not children.
    #[must_use]
    pub fn child(mut self, child: Self) -> Self {
        if let NodeContent::Nodes(children) = &mut self.content {
            children.push(child);
        } else {
            self.content = NodeContent::Nodes(vec![child]);
        }
        self
    }

    /// Makes these children the content.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.content = NodeContent::Nodes(children.into_iter().collect());
        self
    }

    /// The first attribute of that name.
    pub fn find_attr(&self, key: &str) -> Option<&AttrValue> {
        self.attrs.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The children; none when the content is something else.
    pub fn nodes(&self) -> &[Self] {
        match &self.content {
            NodeContent::Nodes(children) => children,
            _ => &[],
        }
    }

    /// The first child with that tag.
    pub fn find_child(&self, tag: &str) -> Option<&Self> {
        self.nodes().iter().find(|child| child.tag == tag)
    }

    /// Whether [`encode`] can write all of it and [`decode`](super::decode) can read it back.
    pub fn check(&self) -> Result<(), EncodeError> {
        self.check_at(1)
    }

    fn check_at(&self, depth: usize) -> Result<(), EncodeError> {
        if depth > MAX_DEPTH {
            return Err(EncodeError::TooDeep);
        }
        if self.tag.is_empty() {
            return Err(EncodeError::NoTag);
        }
        if self.attrs.len() > MAX_ATTRS {
            return Err(EncodeError::TooManyAttrs(self.attrs.len()));
        }
        let fits = |len: usize| u32::try_from(len).map(|_| ()).map_err(|_| EncodeError::TooLong(len));
        for (key, value) in &self.attrs {
            fits(key.len())?;
            fits(match value {
                AttrValue::Str(text) => text.len(),
                AttrValue::Jid(jid) => jid.user.len(),
            })?;
        }
        match &self.content {
            NodeContent::None => Ok(()),
            NodeContent::Bytes(bytes) => fits(bytes.len()),
            NodeContent::Text(text) => fits(text.len()),
            NodeContent::Jid(jid) => fits(jid.user.len()),
            NodeContent::Nodes(children) if children.len() > MAX_CHILDREN => {
                Err(EncodeError::TooManyChildren(children.len()))
            }
            NodeContent::Nodes(children) => children.iter().try_for_each(|child| child.check_at(depth + 1)),
        }
    }
}

/// Appends the node to `out`, the flag byte 0 in front.
///
/// A node that [`Node::check`] refuses is a bug of the caller; what does not fit a list is left out then.
pub fn encode(node: &Node, out: &mut Vec<u8>) {
    write(node, &mut Writer::new(out));
}

fn write(node: &Node, writer: &mut Writer<'_>) {
    let attrs = node.attrs.get(..MAX_ATTRS).unwrap_or(&node.attrs);
    writer.node(&node.tag, attrs.len(), node.content != NodeContent::None);
    for (key, value) in attrs {
        match value {
            AttrValue::Str(text) => writer.attr(key, text),
            AttrValue::Jid(jid) => writer.attr_jid(key, jid),
        }
    }
    match &node.content {
        NodeContent::None => {}
        NodeContent::Bytes(bytes) => writer.bytes(bytes),
        NodeContent::Text(text) => writer.text(text),
        NodeContent::Jid(jid) => writer.jid(jid),
        NodeContent::Nodes(children) => {
            let children = children.get(..MAX_CHILDREN).unwrap_or(children);
            writer.children(children.len());
            children.iter().for_each(|child| write(child, writer));
        }
    }
}

impl From<&str> for AttrValue {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<String> for AttrValue {
    fn from(text: String) -> Self {
        Self::Str(text)
    }
}

impl From<Jid> for AttrValue {
    fn from(jid: Jid) -> Self {
        Self::Jid(jid)
    }
}

impl PartialEq<str> for AttrValue {
    fn eq(&self, other: &str) -> bool {
        match self {
            Self::Str(text) => text == other,
            Self::Jid(jid) => jid.to_string() == other,
        }
    }
}

impl PartialEq<&str> for AttrValue {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl fmt::Display for AttrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(text) => f.write_str(text),
            Self::Jid(jid) => fmt::Display::fmt(jid, f),
        }
    }
}

impl fmt::Debug for AttrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(text) => fmt::Debug::fmt(text, f),
            Self::Jid(jid) => fmt::Debug::fmt(jid, f),
        }
    }
}

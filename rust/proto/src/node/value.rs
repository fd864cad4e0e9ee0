//! What an attribute or a text content holds: a string or a JID.

use std::borrow::Cow;
use std::fmt;

use super::text::Str;
use crate::jid::{Jid, JidRef};

/// The value of an attribute in a decoded node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string.
    Str(Str<'a>),
    /// A JID, written as one.
    Jid(JidRef<'a>),
}

impl<'a> Value<'a> {
    /// The text; allocates unless it lies in one piece.
    pub fn as_str_cow(&self) -> Cow<'a, str> {
        match self {
            Self::Str(text) => text.to_cow(),
            Self::Jid(jid) => Cow::Owned(jid.to_string()),
        }
    }

    /// The text when it lies in one piece: none for JIDs, packed strings and malformed UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Str(text) => text.as_str(),
            Self::Jid(_) => None,
        }
    }

    /// The JID, when the value was written as one.
    pub fn as_jid(&self) -> Option<JidRef<'a>> {
        match self {
            Self::Str(_) => None,
            Self::Jid(jid) => Some(*jid),
        }
    }

    /// The JID that this value is, written as one or as its text.
    pub fn to_jid(&self) -> Option<Jid> {
        match self {
            Self::Str(text) => text.to_cow().parse().ok(),
            Self::Jid(jid) => Some(jid.to_jid()),
        }
    }

    /// The number that the text is, in decimal digits and nothing else.
    pub fn parse_u64(&self) -> Option<u64> {
        match self {
            Self::Str(text) => text.parse_u64(),
            Self::Jid(_) => None,
        }
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        match self {
            Self::Str(text) => text == other,
            Self::Jid(jid) => jid == other,
        }
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(text) => fmt::Display::fmt(text, f),
            Self::Jid(jid) => fmt::Display::fmt(jid, f),
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(text) => fmt::Debug::fmt(text, f),
            Self::Jid(jid) => fmt::Debug::fmt(jid, f),
        }
    }
}

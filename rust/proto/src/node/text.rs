//! Strings as the wire holds them, compared and shown without unpacking them first.

use std::borrow::Cow;
use std::fmt;

use super::packed::Packed;

/// A string inside a decoded node.
///
/// How it was written stays visible, because a copy of it must be written the same way and because content
/// in the form `Raw` is bytes. Peers do send malformed UTF-8: the bytes are kept and only shown lossily.
#[derive(Clone, Copy)]
pub enum Str<'a> {
    /// A dictionary token, the empty string of byte 0, or a server that a JID form implies.
    Token(&'static str),
    /// Bytes in UTF-8, if the peer is well behaved.
    Raw(&'a [u8]),
    /// Digits, two to a byte.
    Packed(Packed<'a>),
}

impl<'a> Str<'a> {
    /// Length in bytes of the text.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Token(text) => text.len(),
            Self::Raw(bytes) => bytes.len(),
            Self::Packed(packed) => packed.len(),
        }
    }

    /// Whether the text is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text when it lies in one piece: none for packed strings and malformed UTF-8.
    ///
    /// Enough for a `match` over tag names, none of which consists of digits.
    #[inline]
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Self::Token(text) => Some(text),
            Self::Raw(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Packed(_) => None,
        }
    }

    /// The text; allocates for packed strings and for malformed UTF-8, whose bad bytes become U+FFFD.
    pub fn to_cow(&self) -> Cow<'a, str> {
        match *self {
            Self::Token(text) => Cow::Borrowed(text),
            Self::Raw(bytes) => String::from_utf8_lossy(bytes),
            Self::Packed(packed) => Cow::Owned(packed.unpack(&mut Packed::buffer()).to_owned()),
        }
    }

    /// The number that the text is, in decimal digits and nothing else.
    pub fn parse_u64(&self) -> Option<u64> {
        match *self {
            Self::Token(text) => parse_u64(text.as_bytes()),
            Self::Raw(bytes) => parse_u64(bytes),
            Self::Packed(packed) => parse_u64(packed.unpack(&mut Packed::buffer()).as_bytes()),
        }
    }

    /// Whether the text is these bytes.
    #[inline]
    pub fn eq_bytes(&self, other: &[u8]) -> bool {
        match self {
            Self::Token(text) => text.as_bytes() == other,
            Self::Raw(bytes) => *bytes == other,
            Self::Packed(packed) => packed.eq_bytes(other),
        }
    }

    /// What remains of `text` behind this string; none when it does not start with it.
    pub(crate) fn strip_from<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let (head, rest) = text.split_at_checked(self.len())?;
        self.eq_bytes(head).then_some(rest)
    }
}

/// A decimal number without sign or blanks.
pub(crate) fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

impl PartialEq<str> for Str<'_> {
    #[inline]
    fn eq(&self, other: &str) -> bool {
        self.eq_bytes(other.as_bytes())
    }
}

impl PartialEq<&str> for Str<'_> {
    #[inline]
    fn eq(&self, other: &&str) -> bool {
        self.eq_bytes(other.as_bytes())
    }
}

impl PartialEq for Str<'_> {
    /// Whether both are the same text, however written.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(text), other) | (other, Self::Token(text)) => other.eq_bytes(text.as_bytes()),
            (Self::Raw(bytes), other) | (other, Self::Raw(bytes)) => other.eq_bytes(bytes),
            (Self::Packed(a), Self::Packed(b)) => a.eq_bytes(b.unpack(&mut Packed::buffer()).as_bytes()),
        }
    }
}

impl Eq for Str<'_> {}

impl fmt::Display for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(text) => f.write_str(text),
            Self::Raw(bytes) => bytes.utf8_chunks().try_for_each(|chunk| {
                f.write_str(chunk.valid())?;
                if chunk.invalid().is_empty() { Ok(()) } else { f.write_str("\u{FFFD}") }
            }),
            Self::Packed(packed) => f.write_str(packed.unpack(&mut Packed::buffer())),
        }
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_cow(), f)
    }
}

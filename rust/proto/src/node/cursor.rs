//! Reads the pieces of the wire form, one after the other.
//!
//! `check_*` decide whether the bytes are a node at all; they run once over everything. `str`, `value` and `skip`
//! serve the lazy access of `NodeRef` afterwards: they cannot fail any more, and find nothing where they would.
//! All of them are bounds-checked; only the alphabet of packed strings is looked at in the first pass alone.

use super::error::DecodeErrorKind::{self, BadJid, BadPacked, BadTag, Truncated};
use super::packed::Packed;
use super::tag::*;
use super::text::Str;
use super::value::Value;
use crate::jid::{Form, JidRef, Parts, Server};
use crate::token;

type Result<T> = std::result::Result<T, DecodeErrorKind>;

/// How to pass over a piece by its first two bytes.
#[derive(Clone, Copy)]
struct Step {
    /// Bytes of the piece itself; 0 when two bytes do not tell.
    own: u8,
    /// What of the second byte is a number of bytes that follow.
    bytes: u8,
    /// What of the second byte is a number of pieces that follow.
    pieces: u8,
}

/// Steps over what was checked.
static STEPS: [Step; 256] = {
    let mut steps = STRINGS;
    steps[LIST_8 as usize] = Step { own: 2, bytes: 0, pieces: 0xFF };
    steps[NIBBLE_8 as usize] = Step { own: 2, bytes: 0x7F, pieces: 0 };
    steps
};

/// Steps over strings that need no more than their end checked.
static STRINGS: [Step; 256] = {
    let mut steps = [Step { own: 0, bytes: 0, pieces: 0 }; 256];
    let mut tag = LIST_EMPTY as usize;
    while tag <= SINGLE_LAST as usize {
        steps[tag].own = 1;
        tag += 1;
    }
    while tag <= DICTIONARY_3 as usize {
        steps[tag].own = 2;
        tag += 1;
    }
    steps[BINARY_8 as usize] = Step { own: 2, bytes: 0xFF, pieces: 0 };
    steps[HEX_8 as usize] = Step { own: 2, bytes: 0x7F, pieces: 0 };
    steps
};

#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    /// From the next piece on.
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(crate) fn starting(bytes: &'a [u8], at: u32) -> Self {
        Self { rest: bytes.get(at as usize..).unwrap_or_default() }
    }

    /// The bytes from the next piece on.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The bytes between an earlier position and this one.
    #[inline]
    pub(crate) fn since(&self, earlier: Self) -> &'a [u8] {
        let passed = earlier.rest.len().saturating_sub(self.rest.len());
        earlier.rest.get(..passed).unwrap_or_default()
    }

    #[inline]
    fn u8(&mut self) -> Result<u8> {
        let (&byte, rest) = self.rest.split_first().ok_or(Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (&bytes, rest) = self.rest.split_first_chunk().ok_or(Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn pass(&mut self, len: usize) -> Result<()> {
        self.rest = self.rest.get(len..).ok_or(Truncated)?;
        Ok(())
    }

    /// The first byte of the next piece, and the second one or 0: a piece of one byte can end the node.
    #[inline]
    fn two(&self) -> Result<(u8, u8)> {
        match *self.rest {
            [first, second, ..] => Ok((first, second)),
            [first] => Ok((first, 0)),
            [] => Err(Truncated),
        }
    }

    /// The size of a list: of a node's parts, or of its children.
    #[inline]
    pub(crate) fn list_size(&mut self) -> Result<usize> {
        match self.u8()? {
            LIST_8 => Ok(self.u8()?.into()),
            LIST_16 => Ok(u16::from_be_bytes(self.array()?).into()),
            LIST_EMPTY => Ok(0),
            other => Err(BadTag(other)),
        }
    }

    /// Whether a list of children comes next.
    #[inline]
    pub(crate) fn at_list(&self) -> bool {
        matches!(self.peek(), Some(LIST_EMPTY | LIST_8 | LIST_16))
    }

    /// Passes over a string.
    #[inline]
    pub(crate) fn check_str(&mut self) -> Result<()> {
        let (tag, next) = self.two()?;
        let Step { own, bytes, .. } = STRINGS[usize::from(tag)];
        if own == 0 {
            return self.check_rare_str();
        }
        self.pass(usize::from(own) + usize::from(next & bytes))
    }

    /// Passes over a string and tells whether there was anything in it.
    #[inline]
    pub(crate) fn check_filled_str(&mut self) -> Result<bool> {
        let start = *self;
        self.check_str()?;
        Ok(match start.peek() {
            Some(LIST_EMPTY) => false,
            Some(1..=DICTIONARY_3) => true,
            Some(BINARY_20) => self.since(start).len() > 4,
            Some(BINARY_32) => self.since(start).len() > 5,
            _ => self.since(start).len() > 2,
        })
    }

    /// Passes over a string or a JID.
    #[inline]
    pub(crate) fn check_value(&mut self) -> Result<()> {
        let (tag, next) = self.two()?;
        let Step { own, bytes, .. } = STRINGS[usize::from(tag)];
        if own == 0 {
            return self.check_rare_value();
        }
        self.pass(usize::from(own) + usize::from(next & bytes))
    }

    /// The values that are not in `STRINGS`.
    fn check_rare_value(&mut self) -> Result<()> {
        match self.peek() {
            Some(tag @ (INTEROP_JID..=AD_JID | JID_PAIR)) => {
                self.pass(1)?;
                self.pass_jid::<true>(tag)
            }
            _ => self.check_rare_str(),
        }
    }

    /// The strings that are not in `STRINGS`.
    fn check_rare_str(&mut self) -> Result<()> {
        match self.u8()? {
            NIBBLE_8 => {
                let head = self.u8()?;
                let behind = self.rest;
                let bytes = self.take(Packed::bytes_behind(head))?;
                if Packed::are_nibbles(head, bytes, behind) { Ok(()) } else { Err(BadPacked) }
            }
            tag => self.pass_str(tag),
        }
    }

    /// Passes over so many strings, JIDs and whole nodes that were checked.
    ///
    /// A list is passed over as what it holds, so nesting costs nothing: nodes within nodes are one run of pieces.
    #[inline]
    pub(crate) fn skip(&mut self, pieces: usize) {
        let mut left = pieces;
        while left > 0 {
            let Ok((tag, next)) = self.two() else { return };
            let Step { own, bytes, pieces } = STEPS[usize::from(tag)];
            left -= 1;
            if own == 0 {
                let Ok(inside) = self.skip_rare(tag) else { return };
                left += inside;
            } else {
                left += usize::from(next & pieces);
                self.rest = self.rest.get(usize::from(own) + usize::from(next & bytes)..).unwrap_or_default();
            }
        }
    }

    /// The pieces that are not in `STEPS`; gives how many more they hold.
    fn skip_rare(&mut self, tag: u8) -> Result<usize> {
        match tag {
            LIST_16 => self.list_size(),
            INTEROP_JID..=AD_JID | JID_PAIR => {
                self.pass(1)?;
                self.pass_jid::<false>(tag).map(|()| 0)
            }
            _ => {
                self.pass(1)?;
                self.pass_str(tag).map(|()| 0)
            }
        }
    }

    /// Reads a string.
    #[inline]
    pub(crate) fn str(&mut self) -> Option<Str<'a>> {
        let (&tag, rest) = self.rest.split_first()?;
        if let Some(text) = token::single_or_empty(tag) {
            self.rest = rest;
            return Some(Str::Token(text));
        }
        self.rare_str(tag)
    }

    /// Reads a string or a JID.
    #[inline]
    pub(crate) fn value(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.rest.split_first()?;
        if let Some(text) = token::single_or_empty(tag) {
            self.rest = rest;
            return Some(Value::Str(Str::Token(text)));
        }
        self.rare_value(tag)
    }

    /// The values that are more than a byte.
    fn rare_value(&mut self, tag: u8) -> Option<Value<'a>> {
        if !matches!(tag, INTEROP_JID..=AD_JID | JID_PAIR) {
            return self.rare_str(tag).map(Value::Str);
        }
        let start = *self;
        self.skip(1);
        Some(Value::Jid(JidRef::new(self.since(start))))
    }

    /// The strings that are more than a byte.
    fn rare_str(&mut self, tag: u8) -> Option<Str<'a>> {
        let (_tag, next) = self.two().ok()?;
        Some(match tag {
            DICTIONARY_0..=DICTIONARY_3 => {
                self.pass(2).ok()?;
                Str::Token(token::double(tag - DICTIONARY_0, next)?)
            }
            NIBBLE_8 | HEX_8 => Str::Packed(Packed::new(self.take(2 + Packed::bytes_behind(next)).ok()?)),
            BINARY_8 => Str::Raw(self.take(2 + usize::from(next)).ok()?.get(2..)?),
            BINARY_20 | BINARY_32 => {
                self.pass(1).ok()?;
                let len = self.long_length(tag).ok()?;
                Str::Raw(self.take(len).ok()?)
            }
            _ => return None,
        })
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Reads the parts of a JID.
    pub(crate) fn jid(&mut self) -> Option<Parts<'a>> {
        Some(match self.u8().ok()? {
            JID_PAIR => {
                let user = self.str()?;
                Parts { form: Form::Pair, user, device: 0, server: self.server()? }
            }
            AD_JID => {
                let [domain, device] = self.array().ok()?;
                let server = Server::of_domain(domain).unwrap_or(Server::Pn);
                Parts { form: Form::Ad { domain }, user: self.str()?, device: device.into(), server }
            }
            MESSENGER_JID => {
                let user = self.str()?;
                let device = u16::from_be_bytes(self.array().ok()?);
                Parts { form: Form::Messenger, user, device, server: self.server()? }
            }
            INTEROP_JID => {
                let user = self.str()?;
                let device = u16::from_be_bytes(self.array().ok()?);
                let integrator = u16::from_be_bytes(self.array().ok()?);
                Parts { form: Form::Interop { integrator }, user, device, server: Server::Interop }
            }
            _ => return None,
        })
    }

    /// Passes over a string of that tag, which was read, whatever is in it.
    fn pass_str(&mut self, tag: u8) -> Result<()> {
        match tag {
            LIST_EMPTY..=SINGLE_LAST => Ok(()),
            DICTIONARY_0..=DICTIONARY_3 => self.pass(1),
            BINARY_8 => {
                let len = self.u8()?.into();
                self.pass(len)
            }
            NIBBLE_8 | HEX_8 => {
                let len = Packed::bytes_behind(self.u8()?);
                self.pass(len)
            }
            BINARY_20 | BINARY_32 => {
                let len = self.long_length(tag)?;
                self.pass(len)
            }
            other => Err(BadTag(other)),
        }
    }

    fn long_length(&mut self, tag: u8) -> Result<usize> {
        if tag == BINARY_32 {
            return Ok(u32::from_be_bytes(self.array()?) as usize);
        }
        let [high, middle, low] = self.array()?;
        // Only 20 of the 24 bits are the length.
        Ok(u32::from_be_bytes([0, high & 0x0F, middle, low]) as usize)
    }

    #[inline]
    fn pass_jid<const CHECK: bool>(&mut self, tag: u8) -> Result<()> {
        match tag {
            JID_PAIR => {
                self.pass_jid_user::<CHECK>()?;
                self.pass_jid_server::<CHECK>()
            }
            AD_JID => {
                self.pass(2)?;
                self.pass_jid_user::<CHECK>()
            }
            MESSENGER_JID => {
                self.pass_jid_user::<CHECK>()?;
                self.pass(2)?;
                self.pass_jid_server::<CHECK>()
            }
            _ => {
                self.pass_jid_user::<CHECK>()?;
                self.pass(4)?;
                self.pass_interop_name();
                Ok(())
            }
        }
    }

    #[inline]
    fn pass_jid_user<const CHECK: bool>(&mut self) -> Result<()> {
        if !CHECK {
            self.skip(1);
            return Ok(());
        }
        if matches!(self.peek(), Some(INTEROP_JID..=AD_JID | JID_PAIR)) {
            return Err(BadJid);
        }
        self.check_str()
    }

    #[inline]
    fn pass_jid_server<const CHECK: bool>(&mut self) -> Result<()> {
        if !CHECK {
            self.skip(1);
            return Ok(());
        }
        if matches!(self.peek(), Some(INTEROP_JID..=AD_JID | JID_PAIR)) || !self.check_filled_str()? {
            return Err(BadJid);
        }
        Ok(())
    }

    /// Some writers leave the server of an interop JID out. Whatever else follows belongs to the node.
    fn pass_interop_name(&mut self) {
        let mut ahead = *self;
        if let Some(Str::Raw(b"interop")) = ahead.str() {
            *self = ahead;
        }
    }

    #[inline]
    fn server(&mut self) -> Option<Server<Str<'a>>> {
        // The commonest one, without a look at its name.
        if self.peek() == Some(TOKEN_S_WHATSAPP_NET) {
            self.pass(1).ok()?;
            return Some(Server::Pn);
        }
        let name = self.str()?;
        let known = match name {
            Str::Token(text) => Server::known(text.as_bytes()),
            Str::Raw(bytes) => Server::known(bytes),
            Str::Packed(_) => None,
        };
        Some(known.unwrap_or(Server::Other(name)))
    }
}

//! Reads the pieces of the wire form, one after the other.
//!
//! `check_*` decide whether the bytes are a node at all; they run once over everything. `str`, `value` and `skip`
//! serve the lazy access of `NodeRef` afterwards: they cannot fail any more, and map an error to "nothing there".
//! All of them are bounds-checked; only the alphabet of packed strings is looked at in the first pass alone.

use super::error::DecodeErrorKind::{self, BadJid, BadPacked, BadTag, Truncated};
use super::packed::{Alphabet, Packed};
use super::tag::*;
use super::text::Str;
use super::value::Value;
use super::view::{Children, Content};
use crate::jid::{Form, JidRef, Parts, Server};
use crate::token;

type Result<T> = std::result::Result<T, DecodeErrorKind>;

/// How to pass over a piece by its first two bytes.
#[derive(Clone, Copy)]
struct Step {
    /// Bytes of the piece itself; 0 when two bytes do not tell.
    own: u16,
    /// What of the second byte is a number of bytes that follow.
    bytes: u16,
    /// What of the second byte is a number of pieces that follow.
    pieces: u16,
}

static STEPS: [Step; 256] = {
    let mut steps = [Step { own: 1, bytes: 0, pieces: 0 }; 256];
    let mut tag = SINGLE_LAST as usize + 1;
    while tag < 256 {
        steps[tag].own = 0;
        tag += 1;
    }
    tag = DICTIONARY_0 as usize;
    while tag <= DICTIONARY_3 as usize {
        steps[tag].own = 2;
        tag += 1;
    }
    steps[LIST_8 as usize] = Step { own: 2, bytes: 0, pieces: 0xFF };
    steps[BINARY_8 as usize] = Step { own: 2, bytes: 0xFF, pieces: 0 };
    steps[NIBBLE_8 as usize] = Step { own: 2, bytes: 0x7F, pieces: 0 };
    steps[HEX_8 as usize] = Step { own: 2, bytes: 0x7F, pieces: 0 };
    steps
};

#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    /// Where the next piece begins. Never behind the end in the first pass, nor later while the bytes are what it saw.
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The bytes from the current piece on.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn u8(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = *self.rest().first_chunk().ok_or(Truncated)?;
        self.at += N;
        Ok(bytes)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let bytes = self.rest().get(..len).ok_or(Truncated)?;
        self.at += len;
        Ok(bytes)
    }

    #[inline]
    fn pass(&mut self, len: usize) -> Result<()> {
        if len > self.bytes.len().saturating_sub(self.at) {
            return Err(Truncated);
        }
        self.at += len;
        Ok(())
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
        let tag = self.u8()?;
        self.pass_str::<true>(tag)
    }

    /// Passes over a string and tells whether there was anything in it.
    #[inline]
    pub(crate) fn check_filled_str(&mut self) -> Result<bool> {
        let tag = self.u8()?;
        let start = self.at;
        self.pass_str::<true>(tag)?;
        let passed = self.at - start;
        Ok(match tag {
            LIST_EMPTY => false,
            1..=DICTIONARY_3 => true,
            BINARY_20 => passed > 3,
            BINARY_32 => passed > 4,
            _ => passed > 1,
        })
    }

    /// Passes over a string or a JID.
    #[inline]
    pub(crate) fn check_value(&mut self) -> Result<()> {
        self.pass_value::<true>()
    }

    /// Passes over so many strings, JIDs and whole nodes that were checked.
    ///
    /// A list is passed over as what it holds, so nesting costs nothing: nodes within nodes are one run of pieces.
    #[inline]
    pub(crate) fn skip(&mut self, pieces: usize) {
        let mut left = pieces;
        let mut at = self.at;
        while left > 0 {
            let Some(&tag) = self.bytes.get(at) else { break };
            // A piece of one byte can end the node; then the masks make nothing of what is not there.
            let next = usize::from(self.bytes.get(at + 1).copied().unwrap_or(0));
            let Step { own, bytes, pieces } = STEPS[usize::from(tag)];
            left -= 1;
            if own == 0 {
                self.at = at;
                let Ok(inside) = self.skip_rare(tag) else { return };
                at = self.at;
                left += inside;
            } else {
                left += next & usize::from(pieces);
                at += usize::from(own) + (next & usize::from(bytes));
            }
        }
        self.at = at;
    }

    /// The pieces that are not in `STEPS`; gives how many more they hold.
    fn skip_rare(&mut self, tag: u8) -> Result<usize> {
        if tag == LIST_16 {
            return self.list_size();
        }
        self.pass_value::<false>().map(|()| 0)
    }

    /// Reads a string.
    #[inline]
    pub(crate) fn str(&mut self) -> Result<Str<'a>> {
        let tag = self.u8()?;
        self.str_with(tag)
    }

    /// Reads a string or a JID.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Value<'a>> {
        let tag = self.u8()?;
        match tag {
            INTEROP_JID..=AD_JID | JID_PAIR => {
                let start = self.at - 1;
                self.pass_jid::<false>(tag)?;
                Ok(Value::Jid(JidRef::new(self.bytes.get(start..self.at).ok_or(Truncated)?)))
            }
            _ => Ok(Value::Str(self.str_with(tag)?)),
        }
    }

    /// Reads the content of a node.
    #[inline]
    pub(crate) fn content(&mut self) -> Result<Content<'a>> {
        match self.peek() {
            Some(LIST_EMPTY | LIST_8 | LIST_16) => {
                let left = self.list_size()?;
                Ok(Content::Nodes(Children::new(*self, left)))
            }
            // The commonest in the fewest steps.
            Some(BINARY_8) => {
                let [_tag, len] = self.array()?;
                Ok(Content::Bytes(self.take(len.into())?))
            }
            _ => Ok(match self.value()? {
                Value::Str(Str::Raw(bytes)) => Content::Bytes(bytes),
                text => Content::Text(text),
            }),
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Reads the parts of a JID.
    pub(crate) fn jid(&mut self) -> Result<Parts<'a>> {
        match self.u8()? {
            JID_PAIR => {
                let user = self.str()?;
                Ok(Parts { form: Form::Pair, user, device: 0, server: self.server()? })
            }
            AD_JID => {
                let [domain, device] = self.array()?;
                let server = Server::of_domain(domain).unwrap_or(Server::Pn);
                Ok(Parts { form: Form::Ad { domain }, user: self.str()?, device: device.into(), server })
            }
            MESSENGER_JID => {
                let user = self.str()?;
                let device = u16::from_be_bytes(self.array()?);
                Ok(Parts { form: Form::Messenger, user, device, server: self.server()? })
            }
            INTEROP_JID => {
                let user = self.str()?;
                let device = u16::from_be_bytes(self.array()?);
                let integrator = u16::from_be_bytes(self.array()?);
                Ok(Parts { form: Form::Interop { integrator }, user, device, server: Server::Interop })
            }
            other => Err(BadTag(other)),
        }
    }

    #[inline]
    fn pass_value<const CHECK: bool>(&mut self) -> Result<()> {
        let tag = self.u8()?;
        match tag {
            INTEROP_JID..=AD_JID | JID_PAIR => self.pass_jid::<CHECK>(tag),
            _ => self.pass_str::<CHECK>(tag),
        }
    }

    #[inline]
    fn pass_str<const CHECK: bool>(&mut self, tag: u8) -> Result<()> {
        match tag {
            LIST_EMPTY..=SINGLE_LAST => Ok(()),
            DICTIONARY_0..=DICTIONARY_3 => self.pass(1),
            BINARY_8 => {
                let len = self.u8()?.into();
                self.pass(len)
            }
            NIBBLE_8 if CHECK => {
                let head = self.u8()?;
                let bytes = self.take(Packed::bytes_behind(head))?;
                Packed::new(Alphabet::Nibble, head, bytes).map(|_| ()).ok_or(BadPacked)
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
        let tag = self.u8()?;
        if matches!(tag, INTEROP_JID..=AD_JID | JID_PAIR) {
            return Err(BadJid);
        }
        self.pass_str::<CHECK>(tag)
    }

    #[inline]
    fn pass_jid_server<const CHECK: bool>(&mut self) -> Result<()> {
        if !CHECK {
            return self.pass_jid_user::<false>();
        }
        if matches!(self.peek(), Some(INTEROP_JID..=AD_JID | JID_PAIR)) || !self.check_filled_str()? {
            return Err(BadJid);
        }
        Ok(())
    }

    /// Some writers leave the server of an interop JID out. Whatever else follows belongs to the node.
    fn pass_interop_name(&mut self) {
        let mut ahead = *self;
        if ahead.str().is_ok_and(|server| matches!(server, Str::Raw(b"interop"))) {
            *self = ahead;
        }
    }

    #[inline]
    fn str_with(&mut self, tag: u8) -> Result<Str<'a>> {
        match tag {
            LIST_EMPTY => Ok(Str::Token("")),
            1..=SINGLE_LAST => Ok(Str::Token(token::single(tag).ok_or(BadTag(tag))?)),
            DICTIONARY_0..=DICTIONARY_3 => {
                let index = self.u8()?;
                Ok(Str::Token(token::double(tag - DICTIONARY_0, index).ok_or(BadTag(tag))?))
            }
            BINARY_8 => {
                let len = self.u8()?.into();
                Ok(Str::Raw(self.take(len)?))
            }
            NIBBLE_8 => self.packed(Alphabet::Nibble),
            HEX_8 => self.packed(Alphabet::Hex),
            BINARY_20 | BINARY_32 => {
                let len = self.long_length(tag)?;
                Ok(Str::Raw(self.take(len)?))
            }
            other => Err(BadTag(other)),
        }
    }

    #[inline]
    fn packed(&mut self, alphabet: Alphabet) -> Result<Str<'a>> {
        let head = self.u8()?;
        Ok(Str::Packed(Packed::trusted(alphabet, head, self.take(Packed::bytes_behind(head))?)))
    }

    #[inline]
    fn server(&mut self) -> Result<Server<Str<'a>>> {
        // The commonest one, without a look at its name.
        if self.peek() == Some(TOKEN_S_WHATSAPP_NET) {
            self.at += 1;
            return Ok(Server::Pn);
        }
        let name = self.str()?;
        let known = match name {
            Str::Token(text) => Server::known(text.as_bytes()),
            Str::Raw(bytes) => Server::known(bytes),
            Str::Packed(_) => None,
        };
        Ok(known.unwrap_or(Server::Other(name)))
    }
}

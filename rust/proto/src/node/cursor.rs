//! Reads the pieces of the wire form from the front of a slice.
//!
//! Every read is checked, in both passes: the first decides whether the bytes are a node at all, the later
//! ones (the lazy access of `NodeRef`) cannot fail any more and map an error to "nothing there". Only the
//! alphabet of packed strings is looked at in the first pass alone (`check_*`).

use super::error::DecodeErrorKind::{self, BadJid, BadPacked, BadTag, Truncated};
use super::packed::{Alphabet, Packed};
use super::tag::*;
use super::text::Str;
use super::value::Value;
use crate::jid::{Form, JidRef, Server};
use crate::token;

type Result<T> = std::result::Result<T, DecodeErrorKind>;

#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8> {
        let (&byte, rest) = self.rest.split_first().ok_or(Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (&bytes, rest) = self.rest.split_first_chunk().ok_or(Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// The size of a list: of a node's parts, or of its children.
    #[inline]
    pub(super) fn list_size(&mut self) -> Result<usize> {
        match self.u8()? {
            LIST_8 => Ok(self.u8()?.into()),
            LIST_16 => Ok(u16::from_be_bytes(self.array()?).into()),
            LIST_EMPTY => Ok(0),
            other => Err(BadTag(other)),
        }
    }

    /// Whether a list of children comes next.
    #[inline]
    pub(super) fn at_list(&self) -> bool {
        matches!(self.peek(), Some(LIST_EMPTY | LIST_8 | LIST_16))
    }

    #[inline]
    pub(super) fn check_str(&mut self) -> Result<Str<'a>> {
        let tag = self.u8()?;
        self.str_with::<true>(tag)
    }

    #[inline]
    pub(super) fn str(&mut self) -> Result<Str<'a>> {
        let tag = self.u8()?;
        self.str_with::<false>(tag)
    }

    #[inline]
    pub(super) fn check_value(&mut self) -> Result<()> {
        self.value_with::<true>().map(|_| ())
    }

    #[inline]
    pub(super) fn value(&mut self) -> Result<Value<'a>> {
        self.value_with::<false>()
    }

    #[inline]
    fn value_with<const CHECK: bool>(&mut self) -> Result<Value<'a>> {
        let tag = self.u8()?;
        match tag {
            INTEROP_JID..=AD_JID | JID_PAIR => Ok(Value::Jid(self.jid_with::<CHECK>(tag)?)),
            _ => Ok(Value::Str(self.str_with::<CHECK>(tag)?)),
        }
    }

    #[inline]
    fn str_with<const CHECK: bool>(&mut self, tag: u8) -> Result<Str<'a>> {
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
            BINARY_20 => {
                let [high, middle, low] = self.array()?;
                // Only 20 of the 24 bits are the length.
                let len = u32::from_be_bytes([0, high & 0x0F, middle, low]);
                Ok(Str::Raw(self.take(len as usize)?))
            }
            BINARY_32 => {
                let len = u32::from_be_bytes(self.array()?);
                Ok(Str::Raw(self.take(len as usize)?))
            }
            NIBBLE_8 => self.packed::<CHECK>(Alphabet::Nibble),
            HEX_8 => self.packed::<CHECK>(Alphabet::Hex),
            other => Err(BadTag(other)),
        }
    }

    #[inline]
    fn packed<const CHECK: bool>(&mut self, alphabet: Alphabet) -> Result<Str<'a>> {
        let head = self.u8()?;
        let bytes = self.take(Packed::bytes_behind(head))?;
        Ok(Str::Packed(if CHECK {
            Packed::new(alphabet, head, bytes).ok_or(BadPacked)?
        } else {
            Packed::trusted(alphabet, head, bytes)
        }))
    }

    #[inline]
    fn jid_with<const CHECK: bool>(&mut self, tag: u8) -> Result<JidRef<'a>> {
        match tag {
            JID_PAIR => {
                let user = self.jid_str::<CHECK>()?;
                let server = self.jid_server::<CHECK>()?;
                Ok(JidRef { form: Form::Pair, user, device: 0, server })
            }
            AD_JID => {
                let [domain, device] = self.array()?;
                let user = self.jid_str::<CHECK>()?;
                let server = Server::of_domain(domain).unwrap_or(Server::Pn);
                Ok(JidRef { form: Form::Ad { domain }, user, device: device.into(), server })
            }
            MESSENGER_JID => {
                let user = self.jid_str::<CHECK>()?;
                let device = u16::from_be_bytes(self.array()?);
                let server = self.jid_server::<CHECK>()?;
                Ok(JidRef { form: Form::Messenger, user, device, server })
            }
            _ => {
                let user = self.jid_str::<CHECK>()?;
                let device = u16::from_be_bytes(self.array()?);
                let integrator = u16::from_be_bytes(self.array()?);
                // Some writers leave the server out. Whatever else follows belongs to the node.
                let mut ahead = *self;
                let named = ahead.str().is_ok_and(|server| server == "interop");
                if named {
                    *self = ahead;
                }
                Ok(JidRef { form: Form::Interop { integrator, named }, user, device, server: Server::Interop })
            }
        }
    }

    #[inline]
    fn jid_str<const CHECK: bool>(&mut self) -> Result<Str<'a>> {
        let tag = self.u8()?;
        if matches!(tag, INTEROP_JID..=AD_JID | JID_PAIR) {
            return Err(BadJid);
        }
        self.str_with::<CHECK>(tag)
    }

    #[inline]
    fn jid_server<const CHECK: bool>(&mut self) -> Result<Server<Str<'a>>> {
        let name = self.jid_str::<CHECK>()?;
        let known = match name {
            Str::Token(text) => Server::known(text.as_bytes()),
            Str::Raw(bytes) => Server::known(bytes),
            Str::Packed(_) => None,
        };
        match known {
            Some(server) => Ok(server),
            None if name.is_empty() => Err(BadJid),
            None => Ok(Server::Other(name)),
        }
    }
}

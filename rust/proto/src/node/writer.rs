//! Writes nodes straight into the caller's buffer.
//!
//! Strings take the shortest form: one-byte token, two-byte token, nibbles (`0-9 - .`), hex (`0-9 A-F`), raw.
//! That is the order of every other client (docs/protocol.md, "Node"), so equal nodes give equal bytes.

use super::packed::{LONGEST_PACKED, pack};
use super::tag::*;
use super::text::Str;
use super::value::Value;
use crate::jid::{Jid, Server};
use crate::token::{self, Token};

/// Most attributes that one node can have; tag and content are entries of the same list.
pub const MAX_ATTRS: usize = (u16::MAX as usize - 2) / 2;
/// Most children that one node can have.
pub const MAX_CHILDREN: usize = u16::MAX as usize;

/// Streams one node into a buffer. Into a warm buffer it allocates nothing.
///
/// The caller announces counts first, as the wire does: [`node`](Self::node), then as many attributes as it said,
/// then the content if it said so; after [`children`](Self::children) as many nodes. Anything else is a bug of the
/// caller: debug builds stop, and [`is_complete`](Self::is_complete) tells.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Nodes that were announced and not begun.
    nodes_due: usize,
    attrs_due: usize,
    content_due: bool,
}

impl<'a> Writer<'a> {
    /// A writer for one node at the end of `out`; puts the flag byte 0 there.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(NOT_DEFLATED);
        Self { out, nodes_due: 1, attrs_due: 0, content_due: false }
    }

    /// Begins a node with that many attributes.
    #[inline]
    pub fn node(&mut self, tag: &str, attrs: usize, content: bool) {
        debug_assert!(self.nodes_due > 0 && self.is_between_nodes(), "node {tag} was not announced");
        debug_assert!(!tag.is_empty() && attrs <= MAX_ATTRS, "a node that cannot be written");
        self.nodes_due = self.nodes_due.saturating_sub(1);
        self.attrs_due = attrs;
        self.content_due = content;
        self.list(1 + 2 * attrs + usize::from(content));
        self.string(tag.as_bytes());
    }

    /// Writes an attribute that is a string.
    #[inline]
    pub fn attr(&mut self, key: &str, value: &str) {
        self.key(key);
        self.string(value.as_bytes());
    }

    /// Writes an attribute that is a number.
    pub fn attr_u64(&mut self, key: &str, value: u64) {
        self.key(key);
        let mut digits = [0; MAX_DIGITS];
        self.string(decimal(value, &mut digits));
    }

    /// Writes an attribute that is a JID.
    pub fn attr_jid(&mut self, key: &str, jid: &Jid) {
        self.key(key);
        self.write_jid(jid);
    }

    /// Writes an attribute that was decoded, the way it was written there.
    pub fn attr_value(&mut self, key: &str, value: Value<'_>) {
        self.key(key);
        self.copy_value(value);
    }

    /// Announces that many children as the content.
    pub fn children(&mut self, count: usize) {
        debug_assert!(count <= MAX_CHILDREN, "too many children");
        self.begin_content();
        self.nodes_due += count;
        self.list(count);
    }

    /// Writes bytes as the content.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.begin_content();
        self.raw(bytes);
    }

    /// Writes a text as the content. A text without shorter form is written as bytes.
    pub fn text(&mut self, text: &str) {
        self.begin_content();
        self.string(text.as_bytes());
    }

    /// Writes a JID as the content.
    pub fn jid(&mut self, jid: &Jid) {
        self.begin_content();
        self.write_jid(jid);
    }

    /// Writes a text or a JID that was decoded as the content, the way it was written there.
    pub fn value(&mut self, value: Value<'_>) {
        self.begin_content();
        self.copy_value(value);
    }

    /// Whether all that was announced has been written.
    pub fn is_complete(&self) -> bool {
        self.nodes_due == 0 && self.is_between_nodes()
    }

    fn is_between_nodes(&self) -> bool {
        self.attrs_due == 0 && !self.content_due
    }

    #[inline]
    fn key(&mut self, key: &str) {
        debug_assert!(self.attrs_due > 0, "attribute {key} was not announced");
        self.attrs_due = self.attrs_due.saturating_sub(1);
        self.string(key.as_bytes());
    }

    fn begin_content(&mut self) {
        debug_assert!(
            self.attrs_due == 0 && self.content_due,
            "content was not announced, or comes too early"
        );
        self.content_due = false;
    }

    #[inline]
    fn list(&mut self, size: usize) {
        match u8::try_from(size) {
            Ok(0) => self.out.push(LIST_EMPTY),
            Ok(size) => self.out.extend_from_slice(&[LIST_8, size]),
            Err(_) => {
                let [high, low] = u16::try_from(size).unwrap_or(u16::MAX).to_be_bytes();
                self.out.extend_from_slice(&[LIST_16, high, low]);
            }
        }
    }

    #[inline]
    fn string(&mut self, text: &[u8]) {
        match token::find(text) {
            Some(Token::Single(index)) => self.out.push(index),
            Some(Token::Double(dictionary, index)) => {
                self.out.extend_from_slice(&[DICTIONARY_0 + dictionary, index]);
            }
            None if pack(text, self.out) => {}
            None => self.raw(text),
        }
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        if len < 1 << 8 {
            self.out.extend_from_slice(&[BINARY_8, len as u8]);
        } else if len < 1 << 20 {
            let [_, high, middle, low] = (len as u32).to_be_bytes();
            self.out.extend_from_slice(&[BINARY_20, high, middle, low]);
        } else {
            debug_assert!(u32::try_from(len).is_ok(), "4 GiB in one string");
            self.out.push(BINARY_32);
            self.out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        self.out.extend_from_slice(bytes);
    }

    /// The empty string has a byte of its own inside JIDs.
    fn jid_part(&mut self, text: &[u8]) {
        if text.is_empty() { self.out.push(LIST_EMPTY) } else { self.string(text) }
    }

    fn write_jid(&mut self, jid: &Jid) {
        let short_device = u8::try_from(jid.device).ok();
        match (&jid.server, jid.server.domain(), short_device) {
            (_, _, Some(0)) => self.jid_pair(jid.user.as_bytes(), &jid.server),
            (_, Some(domain), Some(device)) => {
                self.out.extend_from_slice(&[AD_JID, domain, device]);
                self.jid_part(jid.user.as_bytes());
            }
            (Server::Messenger, ..) => {
                self.out.push(MESSENGER_JID);
                self.jid_part(jid.user.as_bytes());
                self.out.extend_from_slice(&jid.device.to_be_bytes());
                self.server(&jid.server);
            }
            (Server::Interop, ..) if jid.integrator().is_some() => {
                let (integrator, user) = jid.integrator().unwrap_or_default();
                self.out.push(INTEROP_JID);
                self.jid_part(user.as_bytes());
                self.out.extend_from_slice(&jid.device.to_be_bytes());
                self.out.extend_from_slice(&integrator.to_be_bytes());
                // Every known reader but Baileys' wants the name; Baileys' takes it.
                self.server(&jid.server);
            }
            // No form has room for this device: it stays in the text.
            _ => self.jid_pair(format!("{}:{}", jid.user, jid.device).as_bytes(), &jid.server),
        }
    }

    fn jid_pair(&mut self, user: &[u8], server: &Server<Box<str>>) {
        self.out.push(JID_PAIR);
        self.jid_part(user);
        self.server(server);
    }

    fn server(&mut self, server: &Server<Box<str>>) {
        // The commonest one without a lookup.
        if *server == Server::Pn {
            return self.out.push(TOKEN_S_WHATSAPP_NET);
        }
        self.string(server.name().unwrap_or_else(|name| name).as_bytes());
    }

    fn copy_value(&mut self, value: Value<'_>) {
        match value {
            Value::Str(text) => self.copy_str(text),
            Value::Jid(jid) => self.out.extend_from_slice(jid.encoded()),
        }
    }

    fn copy_str(&mut self, text: Str<'_>) {
        match text {
            Str::Token("") => self.out.push(LIST_EMPTY),
            Str::Token(text) => self.string(text.as_bytes()),
            Str::Raw(bytes) => self.raw(bytes),
            Str::Packed(packed) => self.out.extend_from_slice(packed.encoded()),
        }
    }
}

const NOT_DEFLATED: u8 = 0;
const MAX_DIGITS: usize = 20;
const _: () = assert!(LONGEST_PACKED < 128, "the head byte holds seven bits");

/// The decimal digits, at the end of the buffer.
fn decimal(mut value: u64, digits: &mut [u8; MAX_DIGITS]) -> &[u8] {
    let mut at = MAX_DIGITS;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
        at -= 1;
        if value == 0 {
            break;
        }
    }
    digits.get(at..).unwrap_or_default()
}

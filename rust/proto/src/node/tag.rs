//! The tag bytes of the wire form. Source: docs/protocol.md, "Node".

pub(super) const LIST_EMPTY: u8 = 0;
/// The token of the server itself.
pub(super) const TOKEN_S_WHATSAPP_NET: u8 = 3;
pub(super) const SINGLE_LAST: u8 = 235;
pub(super) const DICTIONARY_0: u8 = 236;
pub(super) const DICTIONARY_3: u8 = 239;
pub(super) const INTEROP_JID: u8 = 245;
pub(super) const MESSENGER_JID: u8 = 246;
pub(super) const AD_JID: u8 = 247;
pub(super) const LIST_8: u8 = 248;
pub(super) const LIST_16: u8 = 249;
pub(super) const JID_PAIR: u8 = 250;
pub(super) const HEX_8: u8 = 251;
pub(super) const BINARY_8: u8 = 252;
pub(super) const BINARY_20: u8 = 253;
pub(super) const BINARY_32: u8 = 254;
pub(super) const NIBBLE_8: u8 = 255;

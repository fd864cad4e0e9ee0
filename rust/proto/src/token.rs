//! The token dictionaries of binary nodes, version 3: strings that the wire writes as one or two bytes.
//!
//! Source: docs/protocol.md, "Node". The table is generated (`examples/gen_tokens.rs`) and checked in;
//! string → token goes through a perfect hash made at generation time, so a lookup is one hash, two loads
//! and one comparison.

use crate::token_hash::{bucket, hash, slot};
use crate::token_table::{DISPLACEMENTS, DOUBLE, SINGLE, SLOTS};

/// Version of the dictionaries, the last byte of the connection prologue.
pub const DICTIONARY_VERSION: u8 = crate::token_table::VERSION;

/// A place in the dictionaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// One byte, in `1..=235`.
    Single(u8),
    /// A dictionary in `0..=3` and an index in it.
    Double(u8, u8),
}

/// The string of a one-byte token; none for 0 and from 236 on.
#[inline]
pub fn single(index: u8) -> Option<&'static str> {
    match index {
        0 => None,
        _ => SINGLE.get(usize::from(index)).copied(),
    }
}

/// The string of a byte up to 235, 0 being the empty one.
#[inline]
pub(crate) fn single_or_empty(index: u8) -> Option<&'static str> {
    SINGLE.get(usize::from(index)).copied()
}

/// The string of a two-byte token; none when there is no such dictionary.
#[inline]
pub fn double(dictionary: u8, index: u8) -> Option<&'static str> {
    DOUBLE.get(usize::from(dictionary))?.get(usize::from(index)).copied()
}

/// The token of a string, when it has one.
#[inline]
pub fn find(text: &[u8]) -> Option<Token> {
    if text.len() > LONGEST {
        return None;
    }
    let hash = hash(text);
    let displacement = *DISPLACEMENTS.get(bucket(hash))?;
    let [table, index] = SLOTS.get(slot(hash, displacement))?.to_be_bytes();
    let (token, found) = match table.checked_sub(1) {
        None => (Token::Single(index), single(index)?),
        Some(dictionary) => (Token::Double(dictionary, index), double(dictionary, index)?),
    };
    (found.as_bytes() == text).then_some(token)
}

/// Length of the longest token, in bytes.
const LONGEST: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_found_under_its_own_string() {
        for index in 1..=235 {
            assert_eq!(find(single(index).unwrap().as_bytes()), Some(Token::Single(index)));
        }
        for dictionary in 0..4 {
            for index in 0..=255 {
                let text = double(dictionary, index).unwrap();
                assert_eq!(find(text.as_bytes()), Some(Token::Double(dictionary, index)), "{text}");
            }
        }
    }

    #[test]
    fn strings_that_are_no_tokens_are_not_found() {
        let others: [&[u8]; 14] = [
            b"",
            b"ib",
            b"bot",
            b"newsletter",
            b"hosted",
            b"hosted.lid",
            b"interop",
            b"c.us",
            b"unified_session",
            b"constructor",
            b"S.whatsapp.net",
            b"s.whatsapp.net ",
            b"\0",
            &[b'a'; 4096],
        ];
        for text in others {
            assert_eq!(find(text), None, "{}", text.escape_ascii());
        }
        // Near misses of every token: what the hash finds must be compared in full.
        for token in SINGLE.iter().skip(1).chain(DOUBLE.iter().flatten()) {
            for at in 0..token.len() {
                let mut text = token.as_bytes().to_vec();
                text[at] ^= 0x80;
                assert_eq!(find(&text), None, "{token}, byte {at}");
            }
        }
    }

    #[test]
    fn indices_outside_the_dictionaries_have_no_string() {
        assert_eq!((single(0), single(236), single(255), double(4, 0)), (None, None, None, None));
    }

    #[test]
    fn the_anchors_of_the_protocol_page_hold() {
        let anchors =
            [(1, "xmlstreamstart"), (2, "xmlstreamend"), (3, "s.whatsapp.net"), (25, "iq"), (204, "msgr")];
        for (index, text) in anchors {
            assert_eq!(single(index), Some(text));
        }
        assert_eq!(double(1, 238), Some("pair-device"));
        assert_eq!(DICTIONARY_VERSION, 3);
    }

    #[test]
    fn the_longest_token_is_as_long_as_the_lookup_believes() {
        let tokens = SINGLE.iter().chain(DOUBLE.iter().flatten());
        assert_eq!(tokens.map(|text| text.len()).max(), Some(LONGEST));
    }
}

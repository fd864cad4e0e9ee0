//! Strings of digits, two characters to a byte. Source: docs/protocol.md, "Node".

use super::tag::{HEX_8, NIBBLE_8};

/// A packed string: the nibble alphabet `0-9 - .` or the hex alphabet `0-9 A-F`.
///
/// Wire form: a tag, a byte with the number of packed bytes (0x80 added when the last one holds a single
/// character), the bytes, high nibble first.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    /// The wire form, tag in front, so that a [`Str`](super::Str) is three words: a flag beside the slice made it
    /// words and odd bytes, copied in overlapping pieces. At most 127 bytes are packed; no nibble is outside the
    /// alphabet, the padding apart.
    encoded: &'a [u8],
}

/// Longest text that fits, in characters. The head byte could say 254; no encoder writes more than this.
pub(crate) const LONGEST_PACKED: usize = 127;
/// Longest text that can be received, in characters.
const LONGEST_UNPACKED: usize = 254;
const ODD: u8 = 0x80;

impl<'a> Packed<'a> {
    /// Whether these bytes behind that head byte are nibbles of the alphabet, the padding apart.
    ///
    /// `more` begins with the same bytes: where others follow, whole words are looked at and the rest masked.
    #[inline]
    pub(crate) fn are_nibbles(head: u8, bytes: &[u8], more: &[u8]) -> bool {
        let Some((&last, whole)) = bytes.split_last() else { return true };
        let last = if head & ODD != 0 { last & 0xF0 } else { last };
        let (words, rest) = whole.as_chunks();
        let mut bad =
            words.iter().fold(above_11(last.into()), |bad, &word| bad | above_11(u64::from_le_bytes(word)));
        let behind = more.get(words.len() * 8..).unwrap_or_default();
        bad |= match behind.first_chunk() {
            // At most seven bytes remain.
            Some(&word) => above_11(u64::from_le_bytes(word) & !(u64::MAX << (rest.len() * 8))),
            None => rest.iter().fold(0, |bad, &byte| bad | above_11(byte.into())),
        };
        bad == 0
    }

    /// A packed string in its wire form, which was checked.
    #[inline]
    pub(crate) fn new(encoded: &'a [u8]) -> Self {
        Self { encoded }
    }

    /// How many packed bytes follow this head byte.
    #[inline]
    pub(crate) fn bytes_behind(head: u8) -> usize {
        usize::from(head & !ODD)
    }

    /// The number of characters.
    #[inline]
    pub fn len(&self) -> usize {
        let is_odd = self.encoded.get(1).is_some_and(|head| head & ODD != 0);
        (self.bytes().len() * 2).saturating_sub(usize::from(is_odd))
    }

    /// Whether there is no character.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The wire form, tag in front.
    #[inline]
    pub(crate) fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    #[inline]
    fn bytes(&self) -> &'a [u8] {
        self.encoded.get(2..).unwrap_or_default()
    }

    /// Room for any unpacked string.
    #[inline]
    pub(crate) fn buffer() -> [u8; LONGEST_UNPACKED] {
        [0; LONGEST_UNPACKED]
    }

    /// The text, unpacked into the buffer.
    #[inline]
    pub(crate) fn unpack<'b>(&self, buffer: &'b mut [u8; LONGEST_UNPACKED]) -> &'b str {
        let pairs = self.pairs();
        for (place, &byte) in buffer.chunks_exact_mut(2).zip(self.bytes()) {
            place.copy_from_slice(&pairs[usize::from(byte)]);
        }
        let text = buffer.get(..self.len()).unwrap_or_default();
        // The tables hold ASCII only, so this never fails.
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// Whether the text is these bytes.
    #[inline]
    pub(crate) fn eq_bytes(&self, other: &[u8]) -> bool {
        let pairs = self.pairs();
        self.len() == other.len()
            && other
                .chunks(2)
                .zip(self.bytes())
                .all(|(text, &byte)| pairs[usize::from(byte)].starts_with(text))
    }

    #[inline]
    fn pairs(&self) -> &'static [[u8; 2]; 256] {
        if self.encoded.first() == Some(&HEX_8) { &HEX_PAIRS } else { &NIBBLE_PAIRS }
    }
}

/// Non-zero when one of the sixteen nibbles is above 11: both of its upper bits are set.
#[inline]
fn above_11(word: u64) -> u64 {
    word & (word << 1) & 0x8888_8888_8888_8888
}

static NIBBLE_PAIRS: [[u8; 2]; 256] = pairs(b"0123456789-.\0\0\0\0");
static HEX_PAIRS: [[u8; 2]; 256] = pairs(b"0123456789ABCDEF");

const fn pairs(alphabet: &[u8; 16]) -> [[u8; 2]; 256] {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [alphabet[byte >> 4], alphabet[byte & 15]];
        byte += 1;
    }
    pairs
}

/// Appends the text packed in the tightest alphabet that holds all of it, tag in front. False, and nothing is appended,
/// when neither does, or when the text is empty or too long.
#[inline]
pub(crate) fn pack(text: &[u8], out: &mut Vec<u8>) -> bool {
    if text.is_empty() || text.len() > LONGEST_PACKED {
        return false;
    }
    // Packed aside while it is being found out whether it can be: one look at each character.
    let mut packed = [0; 2 + LONGEST_PACKED.div_ceil(2)];
    let [tag, head, places @ ..] = &mut packed;
    let (pairs, last) = text.as_chunks();
    let mut either = 0;
    for (place, &[high, low]) in places.iter_mut().zip(pairs) {
        let (high, low) = (NIBBLES[usize::from(high)], NIBBLES[usize::from(low)]);
        either |= high | low;
        if either >= NEITHER {
            return false;
        }
        *place = (high << 4) | (low & 15);
    }
    let len = text.len().div_ceil(2);
    // At most 127 characters, so at most 64 bytes.
    *head = len as u8;
    if let ([last], Some(place)) = (last, places.get_mut(pairs.len())) {
        let last = NIBBLES[usize::from(*last)];
        either |= last;
        *place = (last << 4) | PADDING;
        *head |= ODD;
    }
    *tag = if either & (NOT_NIBBLE | NEITHER) == 0 {
        NIBBLE_8
    } else if either & (NOT_HEX | NEITHER) == 0 {
        HEX_8
    } else {
        return false;
    };
    out.extend_from_slice(packed.get(..2 + len).unwrap_or_default());
    true
}

const PADDING: u8 = 15;
/// Flags beside the nibble in `NIBBLES`.
const NOT_NIBBLE: u8 = 0x10;
const NOT_HEX: u8 = 0x20;
const NEITHER: u8 = 0x40;

/// The nibble of each character with the flags of the alphabets that lack it.
static NIBBLES: [u8; 256] = {
    let mut table = [NEITHER; 256];
    let mut value = 0;
    while value < 10 {
        table[b'0' as usize + value as usize] = value;
        value += 1;
    }
    table[b'-' as usize] = 10 | NOT_HEX;
    table[b'.' as usize] = 11 | NOT_HEX;
    while value < 16 {
        table[b'A' as usize + value as usize - 10] = value | NOT_NIBBLE;
        value += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nibble_outside_the_alphabet_is_found_wherever_it_is_and_never_behind_the_end() {
        for len in 1..=24 {
            // Behind the string: nothing, part of a word, whole words, all of it outside the alphabet.
            for behind in [0, 1, 7, 8, 20] {
                let mut bytes = vec![0x1B; len];
                bytes.extend(vec![0xFF; behind]);
                let check = |bytes: &[u8], head| Packed::are_nibbles(head, &bytes[..len], bytes);
                let (even, odd) = (len as u8, len as u8 | ODD);
                assert!(check(&bytes, even) && check(&bytes, odd), "{len} {behind}");
                for nibble in 0..len * 2 {
                    let mut bad = bytes.clone();
                    bad[nibble / 2] = if nibble % 2 == 0 { 0xC1 } else { 0x1C };
                    assert!(!check(&bad, even), "{len} {behind} {nibble}");
                    assert_eq!(check(&bad, odd), nibble == len * 2 - 1, "{len} {behind} {nibble}");
                }
            }
        }
    }

    #[test]
    fn one_character_of_neither_alphabet_keeps_a_text_from_being_packed() {
        for len in 1..=LONGEST_PACKED {
            for at in 0..len {
                let mut text = vec![b'7'; len];
                text[at] = b'a';
                let mut out = vec![1];
                assert!(!pack(&text, &mut out), "{len} {at}");
                assert_eq!(out, [1], "{len} {at}");
            }
        }
        for mixed in [&b"-A"[..], b"A-", b"7.F", b"F77."] {
            assert!(!pack(mixed, &mut Vec::new()), "{}", mixed.escape_ascii());
        }
    }
}

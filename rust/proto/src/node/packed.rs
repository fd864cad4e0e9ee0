//! Strings of digits, two characters to a byte. Source: docs/protocol.md, "Node".

use super::tag::HEX_8;

/// A packed string: the nibble alphabet `0-9 - .` or the hex alphabet `0-9 A-F`.
///
/// Wire form: a tag, a byte with the number of packed bytes (0x80 added when the last one holds a single
/// character), the bytes, high nibble first.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    /// The wire form, tag in front: one slice, so that a [`Str`](super::Str) is three words without padding, which
    /// are copied as such (a flag beside the slice cost 10 % of a visit). At most 127 bytes are packed, no nibble
    /// is outside the alphabet, the padding apart.
    encoded: &'a [u8],
}

/// Which characters the nibbles stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// `0-9 - .`
    Nibble,
    /// `0-9 A-F`
    Hex,
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

/// The tightest alphabet that holds all of the text; none when neither does, or when it is empty or too long.
#[inline]
pub(crate) fn alphabet_of(text: &[u8]) -> Option<Alphabet> {
    if text.is_empty() || text.len() > LONGEST_PACKED {
        return None;
    }
    let mut either = 0;
    for &byte in text {
        either |= NIBBLES[usize::from(byte)];
        if either >= NEITHER {
            return None;
        }
    }
    Some(if either & NOT_NIBBLE == 0 {
        Alphabet::Nibble
    } else if either & NOT_HEX == 0 {
        Alphabet::Hex
    } else {
        return None;
    })
}

/// Appends tag-less wire form: the head byte and the packed bytes. `alphabet_of` must have chosen the alphabet.
#[inline]
pub(crate) fn pack(text: &[u8], out: &mut Vec<u8>) {
    let odd = if text.len() % 2 == 1 { ODD } else { 0 };
    // At most 127 characters, so at most 64 bytes.
    out.push(text.len().div_ceil(2) as u8 | odd);
    let pairs = text.chunks_exact(2);
    let last = pairs.remainder().first();
    out.extend(pairs.map(|pair| match pair {
        &[high, low] => (nibble(high) << 4) | nibble(low),
        _ => 0,
    }));
    if let Some(&last) = last {
        out.push((nibble(last) << 4) | PADDING);
    }
}

#[inline]
fn nibble(character: u8) -> u8 {
    NIBBLES[usize::from(character)] & 15
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

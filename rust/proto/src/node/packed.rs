//! Strings of digits, two characters to a byte. Source: docs/protocol.md, "Node".

/// A packed string: the nibble alphabet `0-9 - .` or the hex alphabet `0-9 A-F`.
///
/// Wire form: a tag, a byte with the number of packed bytes (0x80 added when the last one holds a single
/// character), the bytes, high nibble first.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    /// At most 127 bytes; no nibble outside the alphabet, the padding apart.
    bytes: &'a [u8],
    alphabet: Alphabet,
    /// The last low nibble is padding.
    odd: bool,
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
    /// A packed string from its head byte and the bytes behind; none when a nibble is outside the alphabet.
    #[inline]
    pub(crate) fn new(alphabet: Alphabet, head: u8, bytes: &'a [u8]) -> Option<Self> {
        let packed = Self { bytes, alphabet, odd: head & ODD != 0 };
        packed.is_valid().then_some(packed)
    }

    /// The same without the check, for bytes that passed it.
    #[inline]
    pub(crate) fn trusted(alphabet: Alphabet, head: u8, bytes: &'a [u8]) -> Self {
        Self { bytes, alphabet, odd: head & ODD != 0 }
    }

    /// How many packed bytes follow this head byte.
    #[inline]
    pub(crate) fn bytes_behind(head: u8) -> usize {
        usize::from(head & !ODD)
    }

    /// The number of characters.
    #[inline]
    pub fn len(&self) -> usize {
        (self.bytes.len() * 2).saturating_sub(usize::from(self.odd))
    }

    /// Whether there is no character.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn alphabet(&self) -> Alphabet {
        self.alphabet
    }

    /// The head byte and the bytes behind, as they were received.
    pub(crate) fn parts(&self) -> (u8, &'a [u8]) {
        // `bytes_behind` made the length; it fits seven bits.
        (self.bytes.len() as u8 | if self.odd { ODD } else { 0 }, self.bytes)
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
        for (place, &byte) in buffer.chunks_exact_mut(2).zip(self.bytes) {
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
            && other.chunks(2).zip(self.bytes).all(|(text, &byte)| pairs[usize::from(byte)].starts_with(text))
    }

    #[inline]
    fn pairs(&self) -> &'static [[u8; 2]; 256] {
        match self.alphabet {
            Alphabet::Nibble => &NIBBLE_PAIRS,
            Alphabet::Hex => &HEX_PAIRS,
        }
    }

    #[inline]
    fn is_valid(&self) -> bool {
        if self.alphabet == Alphabet::Hex {
            return true;
        }
        let (whole, last) = match self.bytes.split_last() {
            Some((last, whole)) if self.odd => (whole, last & 0xF0),
            _ => (self.bytes, 0),
        };
        let chunks = whole.chunks_exact(8);
        let mut bad = above_11(u64::from(last));
        for &byte in chunks.remainder() {
            bad |= above_11(byte.into());
        }
        for chunk in chunks {
            bad |= above_11(chunk.iter().fold(0, |word, &byte| (word << 8) | u64::from(byte)));
        }
        bad == 0
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

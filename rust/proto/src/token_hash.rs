//! The hash behind the string → token lookup, shared by the generator of the table and its reader.
//!
//! Three overlapping loads tell all 1259 tokens apart; the generator fails when they do not.

/// Hash of a string of any length; equal inputs give equal hashes on every machine.
#[inline]
pub(crate) fn hash(text: &[u8]) -> u64 {
    let (head, middle, tail) = loads(text);
    let mixed = (head ^ middle.rotate_left(23) ^ text.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29) ^ tail).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 32)
}

/// Which displacement a hash uses.
#[inline]
pub(crate) fn bucket(hash: u64) -> usize {
    (hash >> 52) as usize % BUCKETS
}

/// Where a hash with that displacement lands in the slot table.
#[inline]
pub(crate) fn slot(hash: u64, displacement: u16) -> usize {
    let step = (hash >> 32) as u32 | 1;
    (hash as u32).wrapping_add(step.wrapping_mul(displacement.into())) as usize % SLOTS
}

/// Entries of the displacement table; a power of two.
pub(crate) const BUCKETS: usize = 512;
/// Entries of the slot table; a power of two above the number of tokens.
pub(crate) const SLOTS: usize = 2048;

#[inline]
fn loads(text: &[u8]) -> (u64, u64, u64) {
    if let (Some(head), Some(tail)) = (text.first_chunk(), text.last_chunk()) {
        // From 8 bytes on, the window around the middle is always inside.
        let at = text.len() / 2 - 4;
        let middle = text.get(at..).and_then(|rest| rest.first_chunk()).unwrap_or(head);
        return (u64::from_le_bytes(*head), u64::from_le_bytes(*middle), u64::from_le_bytes(*tail));
    }
    if let (Some(head), Some(tail)) = (text.first_chunk(), text.last_chunk()) {
        return (u32::from_le_bytes(*head).into(), 0, u32::from_le_bytes(*tail).into());
    }
    match *text {
        [a] => (a.into(), 0, 0),
        [a, b] => (a.into(), 0, b.into()),
        [a, b, c] => (a.into(), b.into(), c.into()),
        _ => (0, 0, 0),
    }
}

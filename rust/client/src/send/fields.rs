//! What the records of sending are made of: bytes, numbers, and texts with their length (1) in front.

/// Appends a text; one that does not fit is cut, and then names nothing.
pub(super) fn put_text(record: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes().get(..usize::from(u8::MAX)).unwrap_or(text.as_bytes());
    record.push(text.len() as u8);
    record.extend_from_slice(text);
}

/// The next byte.
pub(super) fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (&byte, behind) = rest.split_first()?;
    *rest = behind;
    Some(byte)
}

/// The next so many bytes, of which big-endian numbers are made.
pub(super) fn bytes<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*bytes)
}

/// The next text.
pub(super) fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::from(byte(rest)?);
    let (text, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    std::str::from_utf8(text).ok()
}

/// FNV-1a, where an even spread is needed and no secret.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

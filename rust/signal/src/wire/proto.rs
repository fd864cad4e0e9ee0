//! The part of protobuf that the messages need.
//!
//! Fields that are not known, or known with another wire type, are passed over, as protobuf asks; of a repeated one the
//! last counts. Stricter than protobuf: a number that does not fit into its field is refused, not cut off.

use super::WireError;

/// Groups within groups that are passed over before giving up; nothing that is sent has any.
const MAX_DEPTH: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A fixed-width number or a group.
    Other,
}

/// The fields of one message.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.field().map(Some).ok_or(WireError::Malformed)
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let (number, wire_type) = self.tag()?;
        Some((number, self.value(number, wire_type)?))
    }

    fn tag(&mut self) -> Option<(u32, u8)> {
        let tag = u32::try_from(self.varint()?).ok()?;
        let number = tag >> 3;
        (number != 0).then_some((number, (tag & 7) as u8))
    }

    fn value(&mut self, number: u32, wire_type: u8) -> Option<Value<'a>> {
        Some(match wire_type {
            0 => Value::Number(self.varint()?),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            1 => self.take(8).map(|_| Value::Other)?,
            5 => self.take(4).map(|_| Value::Other)?,
            3 => self.pass_group(number).map(|()| Value::Other)?,
            _ => return None,
        })
    }

    /// Passes over a group to its end, and the groups within it.
    fn pass_group(&mut self, number: u32) -> Option<()> {
        let mut open = [0; MAX_DEPTH];
        let mut depth = 1;
        open[0] = number;
        while depth > 0 {
            match self.tag()? {
                (number, 3) => {
                    *open.get_mut(depth)? = number;
                    depth += 1;
                }
                (number, 4) => {
                    depth -= 1;
                    if open.get(depth) != Some(&number) {
                        return None;
                    }
                }
                (number, wire_type) => {
                    self.value(number, wire_type)?;
                }
            }
        }
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }
}

/// A number of 32 bits.
pub(crate) fn narrow(number: u64) -> Result<u32, WireError> {
    u32::try_from(number).map_err(|_| WireError::Malformed)
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a number, zero included, as every known sender does.
pub(crate) fn put_number(out: &mut Vec<u8>, field: u32, number: u32) {
    put_varint(out, u64::from(field << 3));
    put_varint(out, u64::from(number));
}

/// Appends the head of a field of `len` bytes, which are to follow.
pub(crate) fn put_len(out: &mut Vec<u8>, field: u32, len: usize) {
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, len as u64);
}

/// Appends bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_len(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

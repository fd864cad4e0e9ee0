//! Protobuf, as much of it as messages take: fields one after the other, borrowed, nothing allocated.
//!
//! A generated decoder would build all of a message to read three fields of it, and would drop those that it does not
//! know; here what is not asked for is skipped, and the bytes stay as they came.

/// The bytes are no protobuf; the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf")]
pub struct Malformed;

/// The value of a field, as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Integers, enums, booleans.
    Varint(u64),
    /// Doubles and fixed integers.
    Fixed64([u8; 8]),
    /// Texts, bytes, messages.
    Bytes(&'a [u8]),
    /// Floats and fixed integers.
    Fixed32([u8; 4]),
}

impl<'a> Value<'a> {
    /// The bytes of a length-delimited field.
    pub(crate) const fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A text; one that is not UTF-8 is none.
    pub(crate) fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) const fn varint(self) -> Option<u64> {
        match self {
            Self::Varint(number) => Some(number),
            _ => None,
        }
    }

    pub(crate) const fn double(self) -> Option<f64> {
        match self {
            Self::Fixed64(bytes) => Some(f64::from_le_bytes(bytes)),
            _ => None,
        }
    }
}

/// The fields of a message in the order of the wire; after an error there is nothing more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|&number| number > 0)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(*self.array()?),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(*self.array()?),
            // Groups are older than this protocol.
            _ => return None,
        };
        Some((number, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
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

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(array)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read().ok_or(Malformed);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Appends a text, bytes or message.
pub(crate) fn write_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    write_varint(out, u64::from(number) << 3 | 2);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The last value of a field, which is the one that counts.
pub(crate) fn find(message: &[u8], number: u32) -> Result<Option<Value<'_>>, Malformed> {
    let mut found = None;
    for field in Fields::new(message) {
        let (key, value) = field?;
        if key == number {
            found = Some(value);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        Fields::new(bytes).collect()
    }

    #[test]
    fn each_wire_type_is_read() {
        let mut bytes = vec![0x08, 0x96, 0x01];
        bytes.extend([0x11, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend([0x1a, 2, b'h', b'i']);
        bytes.extend([0x25, 1, 2, 3, 4]);
        let expected = [
            (1, Value::Varint(150)),
            (2, Value::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])),
            (3, Value::Bytes(b"hi")),
            (4, Value::Fixed32([1, 2, 3, 4])),
        ];
        assert_eq!(all(&bytes).as_deref(), Ok(&expected[..]));
        for end in 1..bytes.len() {
            let whole = [3, 12, 16].contains(&end);
            assert_eq!(all(&bytes[..end]).is_ok(), whole, "cut at {end}");
        }
    }

    #[test]
    fn what_no_encoder_writes_is_refused() {
        assert_eq!(all(&[0x0b]), Err(Malformed), "a group");
        assert_eq!(all(&[0x00, 0x01]), Err(Malformed), "field 0");
        assert_eq!(all(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), Err(Malformed), "a length beyond the end");
        let mut longest = vec![0x08];
        longest.extend([0xff; 9]);
        longest.push(0x01);
        assert_eq!(all(&longest), Ok(vec![(1, Value::Varint(u64::MAX))]));
        *longest.last_mut().unwrap() = 0x02;
        assert_eq!(all(&longest), Err(Malformed), "a number of 65 bits");
    }

    #[test]
    fn what_is_written_is_read() {
        let long = vec![7; 300];
        let mut bytes = Vec::new();
        write_bytes(&mut bytes, 1, b"hi");
        write_bytes(&mut bytes, 31, &long);
        assert_eq!(all(&bytes), Ok(vec![(1, Value::Bytes(b"hi")), (31, Value::Bytes(&long))]));
    }

    #[test]
    fn the_last_value_counts() {
        assert_eq!(find(&[0x08, 1, 0x10, 2, 0x08, 3], 1), Ok(Some(Value::Varint(3))));
        assert_eq!(find(&[0x08, 1], 2), Ok(None));
    }
}

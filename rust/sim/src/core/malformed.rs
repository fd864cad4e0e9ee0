//! Bytes that a client must survive.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::command::Malformed;

/// What a zip bomb inflates to, in bytes.
const BOMB: usize = 64 * 1024 * 1024;

/// How much of an unfinished frame is sent, in bytes.
const UNFINISHED: usize = 1024 * 1024;

/// At which layer something is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// A plaintext that is sealed and framed in order.
    Plain(Vec<u8>),
    /// The payload of a frame, not sealed.
    Sealed(Vec<u8>),
    /// The payload of a WebSocket message, not framed.
    Framed(Vec<u8>),
    /// Bytes behind the upgrade, no WebSocket message.
    Raw(Vec<u8>),
}

/// The bytes of a fault.
pub(super) fn bytes(kind: Malformed) -> Wrong {
    match kind {
        // A list of one whose tag is a byte that means nothing.
        Malformed::Token => Wrong::Plain(vec![0, 0xf8, 0x01, 0xf1]),
        // A list of nine, of which one is there.
        Malformed::Truncated => Wrong::Plain(vec![0, 0xf8, 0x09, 0x13]),
        Malformed::Deep => {
            // `<ib><ib>…`: each level is a list of two, the tag and a list of one child.
            let mut plain = vec![0];
            for _ in 0..100_000 {
                plain.extend_from_slice(&[0xf8, 0x02, 0x04, 0xf8, 0x01]);
            }
            plain.extend_from_slice(&[0xf8, 0x01, 0x04]);
            Wrong::Plain(plain)
        }
        Malformed::Zlib => Wrong::Plain(vec![2, 0x78, 0x9c, 0xff, 0xff, 0xff, 0xff]),
        Malformed::ZipBomb => {
            let mut plain = vec![2];
            plain.extend_from_slice(&deflate(&vec![0; BOMB]));
            Wrong::Plain(plain)
        }
        Malformed::Empty => Wrong::Plain(Vec::new()),
        Malformed::Undecryptable => Wrong::Sealed(vec![0xaa; 48]),
        Malformed::FrameTooLong => Wrong::Framed(vec![0xff, 0xff, 0xff, 0, 0, 0, 0]),
        Malformed::Unfinished => {
            let mut framed = vec![0x40, 0, 0];
            framed.resize(3 + UNFINISHED, 0xaa);
            Wrong::Framed(framed)
        }
        Malformed::Text => Wrong::Raw(vec![0x81, 5, b'h', b'e', b'l', b'l', b'o']),
        Malformed::Opcode => Wrong::Raw(vec![0x83, 0]),
        Malformed::Masked => Wrong::Raw(vec![0x82, 0x81, 1, 2, 3, 4, 5]),
    }
}

/// RFC 1950.
pub(super) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    // Writing into a vector does not fail.
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

//! The four messages on the wire: a version byte, a protobuf, and (two of them) a MAC or a signature.

mod group;
mod pairwise;
mod proto;

pub use group::{SenderKeyDistribution, SenderKeyMessage};
pub(crate) use group::{write_distribution, write_sender_key};
pub(crate) use pairwise::{PreKeyHeader, write_pre_key, write_signal};
pub use pairwise::{PreKeySignalMessage, SignalMessage};

/// What every message begins with: version 3 of the protocol, of which the sender knows no newer one.
const VERSION: u8 = 0x33;

/// Bytes of the MAC at the end of a [`SignalMessage`].
pub const MAC_LEN: usize = 8;

/// Longest message accepted, in bytes; ours, that of a frame.
pub const MAX_MESSAGE: usize = 8 * 1024 * 1024;

/// Longest content of a message, in bytes: what fits below [`MAX_MESSAGE`] with room for all headers.
pub const MAX_PLAINTEXT: usize = MAX_MESSAGE - 1024;

/// A message that does not parse; the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It is cut off, or no protobuf, or encrypted into no whole blocks.
    #[error("the message is cut off or malformed")]
    Malformed,
    /// It is of another version of the protocol.
    #[error("the message is of version {version:#04x}, not 0x33")]
    Version {
        /// Its first byte.
        version: u8,
    },
    /// A field that it must have is missing.
    #[error("the message lacks its {field}")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A public key is not `05` and 32 bytes.
    #[error("a public key of the message is not 05 and 32 bytes")]
    Key,
    /// It is longer than [`MAX_MESSAGE`].
    #[error("the message has {len} bytes, more than {MAX_MESSAGE}")]
    TooLong {
        /// Its bytes.
        len: usize,
    },
}

/// What follows the version byte.
///
/// The high half is the version that the message is in, the low half the newest that its sender knows.
fn check_version(bytes: &[u8]) -> Result<&[u8], WireError> {
    let (&version, rest) = bytes.split_first().ok_or(WireError::Malformed)?;
    if version >> 4 != VERSION >> 4 || version & 0x0f < VERSION & 0x0f {
        return Err(WireError::Version { version });
    }
    if bytes.len() > MAX_MESSAGE {
        return Err(WireError::TooLong { len: bytes.len() });
    }
    Ok(rest)
}

/// The ciphertext of a message, when it is one of whole blocks.
fn ciphertext(field: Option<&[u8]>) -> Result<&[u8], WireError> {
    let ciphertext = required(field, "ciphertext")?;
    if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(16) {
        return Err(WireError::Malformed);
    }
    Ok(ciphertext)
}

fn required<T>(value: Option<T>, field: &'static str) -> Result<T, WireError> {
    value.ok_or(WireError::Missing { field })
}

//! The cipher of the frames after the handshake.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{KEY_LEN, NoiseError, TAG_LEN, cipher};

/// The two directions of an established channel.
///
/// Shape: two keys and two counters, 72 bytes. No key schedule is kept: an expanded AES-GCM key is
/// several times as large, and an idle session uses one every 20 seconds. The schedule is built anew
/// for each frame (bench `noise/key_schedule`).
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Transport {
    send_key: [u8; KEY_LEN],
    receive_key: [u8; KEY_LEN],
    /// Nonce of the next frame out; the last one, 2^32 - 1, is never used.
    sent: u32,
    /// Nonce of the next frame in, likewise.
    received: u32,
}

const _: () = assert!(size_of::<Transport>() <= 80);

impl Transport {
    /// Bytes that [`seal`](Self::seal) adds.
    pub const OVERHEAD: usize = TAG_LEN;

    /// A channel at its start.
    #[must_use]
    pub const fn new(send_key: [u8; KEY_LEN], receive_key: [u8; KEY_LEN]) -> Self {
        Self { send_key, receive_key, sent: 0, received: 0 }
    }

    /// Encrypts `buf[start..]` in place and appends the tag: the payload of the next frame.
    ///
    /// # Errors
    /// [`NoiseError::NonceExhausted`] before a nonce would repeat; `buf` is left as it was.
    ///
    /// # Panics
    /// When `start` is behind the end of `buf`: a bug of the caller.
    pub fn seal(&mut self, buf: &mut Vec<u8>, start: usize) -> Result<(), NoiseError> {
        let next = self.sent.checked_add(1).ok_or(NoiseError::NonceExhausted)?;
        let tag = cipher::seal(&self.send_key, self.sent, &[], &mut buf[start..]).ok_or(NoiseError::Open)?;
        buf.extend_from_slice(&tag);
        self.sent = next;
        Ok(())
    }

    /// Decrypts the payload of the next frame in place.
    ///
    /// # Errors
    /// [`NoiseError::Open`] when the frame is not the next one that the peer sealed; nothing is
    /// decrypted and the channel is of no further use. [`NoiseError::NonceExhausted`] before a nonce
    /// would repeat.
    pub fn open<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a mut [u8], NoiseError> {
        let next = self.received.checked_add(1).ok_or(NoiseError::NonceExhausted)?;
        let plain = cipher::open(&self.receive_key, self.received, &[], frame).ok_or(NoiseError::Open)?;
        self.received = next;
        Ok(plain)
    }

    #[cfg(test)]
    pub(super) const fn set_counters(&mut self, counter: u32) {
        self.sent = counter;
        self.received = counter;
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("sent", &self.sent)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

//! AES-256-GCM as Noise uses it: a counter for a nonce, the tag behind the ciphertext.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{AesGcm, KeyInit, Nonce, Tag, aes::Aes256Enc, aes::cipher::consts::U12};

use super::KEY_LEN;

/// Bytes that encryption adds.
pub const TAG_LEN: usize = 16;

/// GCM never runs the block cipher backwards, so the half of the key schedule for that is not built.
type Gcm = AesGcm<Aes256Enc, U12>;

/// Encrypts `bytes` in place and returns the tag.
///
/// `None` when GCM cannot take that much (64 GiB).
pub(super) fn seal(
    key: &[u8; KEY_LEN],
    counter: u32,
    hash: &[u8],
    bytes: &mut [u8],
) -> Option<[u8; TAG_LEN]> {
    let cipher = Gcm::new(key.into());
    cipher.encrypt_inout_detached(&nonce(counter), hash, bytes.into()).ok().map(Into::into)
}

/// Decrypts ciphertext and tag in place and returns the plaintext; `None`, with nothing decrypted, when
/// the tag is wrong or missing.
pub(super) fn open<'a>(
    key: &[u8; KEY_LEN],
    counter: u32,
    hash: &[u8],
    sealed: &'a mut [u8],
) -> Option<&'a mut [u8]> {
    let (bytes, tag) = sealed.split_last_chunk_mut::<TAG_LEN>()?;
    let cipher = Gcm::new(key.into());
    let tag = Tag::from(*tag);
    cipher.decrypt_inout_detached(&nonce(counter), hash, (&mut *bytes).into(), &tag).ok()?;
    Some(bytes)
}

/// 8 zero bytes, then the counter, big-endian. Noise says 4 zero bytes and 64 bits; as long as the
/// counter stays below 2^32 these are the same bytes.
fn nonce(counter: u32) -> Nonce<U12> {
    let mut bytes = [0; 12];
    bytes[8..].copy_from_slice(&counter.to_be_bytes());
    bytes.into()
}

//! AES-256-CBC with PKCS #7, and the MAC of a session's message.

use aes::Aes256;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use hmac::Mac;
use subtle::ConstantTimeEq;

use crate::key::Secret;
use crate::wire::MAC_LEN;
use crate::{PublicKey, kdf};

/// Bytes of a cipher block.
const BLOCK: usize = 16;

/// Bytes of the ciphertext of `len` bytes.
pub(crate) const fn sealed_len(len: usize) -> usize {
    (len / BLOCK + 1) * BLOCK
}

/// Appends the ciphertext of `plaintext`.
pub(crate) fn seal(out: &mut Vec<u8>, key: &Secret, iv: &[u8; BLOCK], plaintext: &[u8]) {
    let start = out.len();
    out.resize(start + sealed_len(plaintext.len()), 0);
    let sealed = cbc::Encryptor::<Aes256>::new(key.expose().into(), iv.into())
        .encrypt_padded_b2b::<Pkcs7>(plaintext, &mut out[start..])
        .is_ok();
    debug_assert!(sealed, "the room is what PKCS #7 takes");
}

/// The plaintext; `None` when `ciphertext` is no whole number of blocks or not padded so. To be called only after the
/// message was proved to be the peer's: what this says about a forged one would be an oracle.
pub(crate) fn open(key: &Secret, iv: &[u8; BLOCK], ciphertext: &[u8]) -> Option<Vec<u8>> {
    let mut plaintext = ciphertext.to_vec();
    let len = cbc::Decryptor::<Aes256>::new(key.expose().into(), iv.into())
        .decrypt_padded::<Pkcs7>(&mut plaintext)
        .ok()?
        .len();
    plaintext.truncate(len);
    Some(plaintext)
}

/// The MAC of a session's message, from one identity to another.
pub(crate) fn mac(key: &Secret, from: &PublicKey, to: &PublicKey, message: &[u8]) -> [u8; MAC_LEN] {
    let full = kdf::hmac(key)
        .chain_update(from.to_wire())
        .chain_update(to.to_wire())
        .chain_update(message)
        .finalize()
        .into_bytes();
    let mut short = [0; MAC_LEN];
    short.copy_from_slice(&full[..MAC_LEN]);
    short
}

/// Whether two MACs are the same, in constant time.
pub(crate) fn is_same_mac(one: &[u8; MAC_LEN], other: &[u8; MAC_LEN]) -> bool {
    one.ct_eq(other).into()
}

//! X25519 key pairs and agreement.

use curve25519_dalek::montgomery::MontgomeryPoint;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::HandshakeError;

/// Bytes of a key, secret, public or shared.
pub const KEY_LEN: usize = 32;

/// An X25519 key pair; the secret half is wiped on drop and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeyPair {
    secret: [u8; KEY_LEN],
    /// Raw 32 bytes, as Noise writes them; Signal puts a `05` in front.
    public: [u8; KEY_LEN],
}

impl KeyPair {
    /// The pair of a secret key; any 32 bytes are one.
    #[must_use]
    pub fn from_secret(secret: [u8; KEY_LEN]) -> Self {
        Self { public: runner_xeddsa::public_from_secret(&secret), secret }
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> &[u8; KEY_LEN] {
        &self.public
    }

    /// The secret key, for whoever stores it.
    #[must_use]
    pub const fn secret(&self) -> &[u8; KEY_LEN] {
        &self.secret
    }
}

/// Two pairs are the same when their public halves are.
impl PartialEq for KeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for KeyPair {}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").finish_non_exhaustive()
    }
}

/// The X25519 shared secret of our pair and the peer's public key (RFC 7748 §6.1).
///
/// # Errors
/// [`HandshakeError::WeakKey`] when the peer's key is of small order, so that the result is all zeros.
pub fn dh(pair: &KeyPair, public: &[u8; KEY_LEN]) -> Result<Zeroizing<[u8; KEY_LEN]>, HandshakeError> {
    let shared = Zeroizing::new(MontgomeryPoint(*public).mul_clamped(pair.secret).to_bytes());
    // Folded rather than compared: no branch on the secret before the verdict.
    if shared.iter().fold(0, |seen, byte| seen | byte) == 0 {
        return Err(HandshakeError::WeakKey);
    }
    Ok(shared)
}

//! X25519 keys and their agreement (RFC 7748).

use std::fmt;

use curve25519_dalek::montgomery::MontgomeryPoint;
use runner_xeddsa::{KEY_LEN, RANDOM_LEN, SIGNATURE_LEN};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Random, wire::WireError};

/// What stands in front of a public key inside Signal messages: the type "Curve25519".
const TYPE: u8 = 5;

/// An X25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// Bytes of the wire form.
    pub const WIRE_LEN: usize = KEY_LEN + 1;

    /// A key without its type byte, as pre-key stanzas and records carry it.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Reads `05` and 32 bytes.
    ///
    /// # Errors
    /// [`WireError::Key`]: another length or another type; the peer's fault.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, WireError> {
        match bytes.split_first() {
            Some((&TYPE, key)) => key.try_into().map(Self).map_err(|_| WireError::Key),
            _ => Err(WireError::Key),
        }
    }

    /// `05` and the 32 bytes.
    #[must_use]
    pub fn to_wire(self) -> [u8; Self::WIRE_LEN] {
        let mut wire = [TYPE; Self::WIRE_LEN];
        wire[1..].copy_from_slice(&self.0);
        wire
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Whether `signature` is this key's XEdDSA signature of `message`. Variable time: all of it is public.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        runner_xeddsa::verify(&self.0, message, signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        for byte in &self.0[..4] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("..)")
    }
}

/// 32 secret bytes: wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret([u8; KEY_LEN]);

impl Secret {
    pub(crate) const fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    pub(crate) fn random(random: &mut Random<'_>) -> Self {
        let mut secret = Self([0; KEY_LEN]);
        random(&mut secret.0);
        secret
    }

    pub(crate) const fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The public key that belongs to it.
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(runner_xeddsa::public_from_secret(&self.0))
    }

    /// The X25519 shared secret with the peer's `public`; `None` when the peer's key is of small order, so that
    /// anybody could know it.
    pub(crate) fn agree(&self, public: &PublicKey) -> Option<Self> {
        let shared = Self(MontgomeryPoint(public.0).mul_clamped(self.0).to_bytes());
        // Folded rather than compared: no branch on the secret before the verdict.
        (shared.0.iter().fold(0, |seen, byte| seen | byte) != 0).then_some(shared)
    }

    /// Whether two secrets are the same, in constant time.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The XEdDSA signature of `message`.
    pub(crate) fn sign(&self, message: &[u8], random: &mut Random<'_>) -> [u8; SIGNATURE_LEN] {
        let mut nonce = Zeroizing::new([0; RANDOM_LEN]);
        random(&mut *nonce);
        runner_xeddsa::sign(&self.0, message, &nonce)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An X25519 key pair; the secret half is wiped on drop and never printed.
#[derive(Clone)]
pub struct KeyPair {
    secret: Secret,
    public: PublicKey,
}

impl KeyPair {
    /// The pair of a secret key; any 32 bytes are one.
    #[must_use]
    pub fn from_secret(secret: [u8; KEY_LEN]) -> Self {
        Self::of(Secret::new(secret))
    }

    /// A new pair.
    pub fn generate(random: &mut Random<'_>) -> Self {
        Self::of(Secret::random(random))
    }

    pub(crate) fn of(secret: Secret) -> Self {
        Self { public: secret.public(), secret }
    }

    /// A pair out of a record, whose checksum vouches for the halves' belonging together.
    pub(crate) const fn stored(secret: Secret, public: PublicKey) -> Self {
        Self { secret, public }
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The secret key, for whoever stores it.
    #[must_use]
    pub const fn expose(&self) -> &[u8; KEY_LEN] {
        self.secret.expose()
    }

    pub(crate) const fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

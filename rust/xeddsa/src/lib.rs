//! XEdDSA: signatures made and checked with X25519 keys.
//!
//! An X25519 public key is the u-coordinate of a point on Curve25519 and says nothing about the sign
//! of the matching point on Edwards25519. The specification settles that by negating the secret until
//! the sign is 0. Signal's software, and so WhatsApp, instead leaves the secret alone and carries the
//! sign of the Edwards point in the top bit of the signature, which is free because the scalar there
//! is below 2^253. A signer here follows that convention; a verifier accepts both, as signatures of
//! the specification are those whose carried sign is 0.
//!
//! Source: "The XEdDSA and VXEdDSA Signature Schemes", revision 1 (2016), §2.2–2.4 and §3;
//! docs/protocol.md, "Certificate chain". Primitives are curve25519-dalek's and sha2's.

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key, secret or public.
pub const KEY_LEN: usize = 32;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// Bytes of randomness that one signature takes.
pub const RANDOM_LEN: usize = 64;

/// Where the sign of the public Edwards point travels: the top bit of the last byte.
const SIGN_BIT: u8 = 0x80;

/// The X25519 public key of `secret`.
///
/// Shape: `secret` is any 32 bytes, clamped as RFC 7748 §5 says; the result is a little-endian
/// u-coordinate without the `05` that Signal writes in front.
#[must_use]
pub fn public_from_secret(secret: &[u8; KEY_LEN]) -> [u8; KEY_LEN] {
    MontgomeryPoint::mul_base_clamped(*secret).to_bytes()
}

/// Signs `message` with an X25519 secret key, in constant time with regard to the key.
///
/// `random` must be fresh bytes of a cryptographic generator. They are mixed with the key and the
/// message, so repeating them weakens a signature only if the message is repeated too.
#[must_use]
pub fn sign(secret: &[u8; KEY_LEN], message: &[u8], random: &[u8; RANDOM_LEN]) -> [u8; SIGNATURE_LEN] {
    let clamped = Zeroizing::new(clamp_integer(*secret));
    let scalar = Zeroizing::new(Scalar::from_bytes_mod_order(*clamped));
    let public = EdwardsPoint::mul_base(&scalar).compress().to_bytes();

    // hash_1 of §2.5: the prefix 2^256 - 2, in little-endian, separates nonces from challenges.
    let mut prefix = [0xff; KEY_LEN];
    prefix[0] = 0xfe;
    let nonce = Zeroizing::new(reduce([&prefix[..], &clamped[..], message, random]));

    let commitment = EdwardsPoint::mul_base(&nonce).compress().to_bytes();
    let challenge = reduce([&commitment[..], &public[..], message]);
    let response = *nonce + challenge * *scalar;

    let mut signature = [0; SIGNATURE_LEN];
    let (r, s) = signature.split_at_mut(KEY_LEN);
    r.copy_from_slice(&commitment);
    s.copy_from_slice(response.as_bytes());
    signature[SIGNATURE_LEN - 1] |= public[KEY_LEN - 1] & SIGN_BIT;
    signature
}

/// Whether `signature` is `public`'s signature of `message`. Variable time: all of it is public.
///
/// Refused without looking at the message: a key that is not the canonical u-coordinate of a point,
/// a key of small order (anyone can sign for it), and a scalar that is not reduced (a second encoding
/// of the same signature).
#[must_use]
pub fn verify(public: &[u8; KEY_LEN], message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
    let (mut commitment, mut response) = ([0; KEY_LEN], [0; KEY_LEN]);
    commitment.copy_from_slice(&signature[..KEY_LEN]);
    response.copy_from_slice(&signature[KEY_LEN..]);
    let sign = (response[KEY_LEN - 1] & SIGN_BIT) >> 7;
    response[KEY_LEN - 1] &= !SIGN_BIT;

    let Some(response) = Option::<Scalar>::from(Scalar::from_canonical_bytes(response)) else {
        return false;
    };
    let Some(point) = MontgomeryPoint(*public).to_edwards(sign) else { return false };
    if point.to_montgomery().as_bytes() != public || point.is_small_order() {
        return false;
    }
    let challenge = reduce([&commitment[..], point.compress().as_bytes(), message]);
    let expected = EdwardsPoint::vartime_double_scalar_mul_basepoint(&challenge, &-point, &response);
    expected.compress().as_bytes() == &commitment
}

/// SHA-512 of the concatenated parts, as a scalar.
fn reduce<const N: usize>(parts: [&[u8]; N]) -> Scalar {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    let mut wide: [u8; 64] = hash.finalize().into();
    let scalar = Scalar::from_bytes_mod_order_wide(&wide);
    wide.zeroize();
    scalar
}

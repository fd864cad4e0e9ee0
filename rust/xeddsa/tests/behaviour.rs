//! What a signature is worth: it verifies, and nothing near it does.

use proptest::prelude::*;
use runner_xeddsa::{public_from_secret, sign, verify};

/// Test vector of RFC 7748 §6.1: Alice's keys.
#[test]
fn public_key_is_that_of_rfc_7748() {
    let secret = [
        0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf,
        0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
    ];
    let public = [
        0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e, 0xf7, 0x5a, 0x0d,
        0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e, 0xaa, 0x9b, 0x4e, 0x6a,
    ];
    assert_eq!(public_from_secret(&secret), public);
}

#[test]
fn every_single_bit_of_a_signature_counts() {
    for secret in [[1; 32], [2; 32], [3; 32], [4; 32]] {
        let public = public_from_secret(&secret);
        let signature = sign(&secret, b"message", &[7; 64]);
        assert!(verify(&public, b"message", &signature));
        for bit in 0..512 {
            let mut other = signature;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(&public, b"message", &other), "bit {bit}");
        }
    }
}

#[test]
fn signing_twice_with_other_randomness_gives_other_signatures() {
    let secret = [9; 32];
    let (one, two) = (sign(&secret, b"m", &[1; 64]), sign(&secret, b"m", &[2; 64]));
    assert_ne!(one[..32], two[..32]);
    assert!(verify(&public_from_secret(&secret), b"m", &two));
}

/// The order of the base point, little-endian (RFC 8032 §5.1).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[test]
fn a_scalar_that_is_not_reduced_is_refused() {
    let secret = [5; 32];
    let mut signature = sign(&secret, b"m", &[1; 64]);
    let sign_bit = signature[63] & 0x80;
    signature[63] &= 0x7f;
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0, "the sum is below 2^256 and, here, below 2^255");
    assert_eq!(signature[63] & 0x80, 0);
    signature[63] |= sign_bit;
    assert!(!verify(&public_from_secret(&secret), b"m", &signature));
}

#[test]
fn keys_of_small_order_verify_nothing() {
    // With the identity as key every challenge vanishes, so this "signature" would fit any message:
    // R is the identity (y = 1) and s is 0.
    let mut signature = [0; 64];
    signature[0] = 1;
    let minus_one = {
        let mut bytes = [0xff; 32];
        bytes[0] = 0xec;
        bytes[31] = 0x7f;
        bytes
    };
    let mut one = [0; 32];
    one[0] = 1;
    for public in [[0; 32], one, minus_one] {
        for message in [&b"a"[..], b"b", b"c", b"d", b"e", b"f", b"g", b"h", b"i"] {
            assert!(!verify(&public, message, &signature), "{public:02x?}");
        }
    }
}

#[test]
fn a_second_encoding_of_a_key_is_refused() {
    // The top bit of a u-coordinate means nothing to X25519 (RFC 7748 §5); as a name of a key it would.
    let secret = [6; 32];
    let mut public = public_from_secret(&secret);
    let signature = sign(&secret, b"m", &[1; 64]);
    assert!(verify(&public, b"m", &signature));
    public[31] |= 0x80;
    assert!(!verify(&public, b"m", &signature));
}

proptest! {
    #[test]
    fn a_signature_verifies_and_is_for_one_key_and_one_message(
        secret: [u8; 32],
        other: [u8; 32],
        message in proptest::collection::vec(any::<u8>(), 0..200),
        random in proptest::collection::vec(any::<u8>(), 64),
    ) {
        let random: [u8; 64] = random.try_into().unwrap();
        let public = public_from_secret(&secret);
        let signature = sign(&secret, &message, &random);
        prop_assert!(verify(&public, &message, &signature));
        prop_assume!(public_from_secret(&other) != public);
        prop_assert!(!verify(&public_from_secret(&other), &message, &signature));
        let mut longer = message;
        longer.push(0);
        prop_assert!(!verify(&public, &longer, &signature));
    }

    #[test]
    fn no_bytes_make_verify_panic(public: [u8; 32], message: Vec<u8>, r: [u8; 32], s: [u8; 32]) {
        let signature: [u8; 64] = [r, s].concat().try_into().unwrap();
        prop_assert!(!verify(&public, &message, &signature));
    }
}

//! Replays signatures that PyPI `xeddsa` (libxeddsa) made; tests/vectors/make_xeddsa.py says how.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are part of it")]

use serde::Deserialize;

#[derive(Deserialize)]
struct Document {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    secret: String,
    public: String,
    message: String,
    random: String,
    sign: u8,
    signature: String,
    spec_signature: String,
}

fn vectors() -> Vec<Vector> {
    let json = include_str!("../../../tests/vectors/xeddsa.json");
    let document: Document = serde_json::from_str(json).unwrap();
    assert!(document.vectors.len() >= 16);
    assert!(document.vectors.iter().any(|vector| vector.sign == 0));
    assert!(document.vectors.iter().any(|vector| vector.sign == 1));
    document.vectors
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    unhex(hex).try_into().unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn public_keys_are_those_of_libxeddsa() {
    for vector in vectors() {
        assert_eq!(runner_xeddsa::public_from_secret(&bytes(&vector.secret)), bytes(&vector.public));
    }
}

#[test]
fn signatures_are_byte_for_byte_those_of_libxeddsa() {
    for vector in vectors() {
        let signature =
            runner_xeddsa::sign(&bytes(&vector.secret), &unhex(&vector.message), &bytes(&vector.random));
        assert_eq!(signature, bytes(&vector.signature), "sign {}", vector.sign);
    }
}

#[test]
fn both_conventions_of_the_sign_verify() {
    for vector in vectors() {
        let (public, message) = (bytes(&vector.public), unhex(&vector.message));
        assert!(runner_xeddsa::verify(&public, &message, &bytes(&vector.signature)));
        assert!(runner_xeddsa::verify(&public, &message, &bytes(&vector.spec_signature)));
    }
}

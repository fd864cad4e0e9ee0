//! Each rule of the certificate chain bites, alone.

use proptest::prelude::*;
use prost::Message;
use runner_proto::cert::{CachedServerKey, CertError, Link, VerifiedChain, verify};
use runner_proto::handshake::CertChain;

use crate::responder::{Chain, NOW, pair};

/// The chain for the key of 0x51 with `spoil` applied before signing.
fn verified(spoil: impl FnOnce(&mut Chain)) -> Result<VerifiedChain, CertError> {
    let mut chain = Chain::new(&pair(0x51));
    let root = *chain.root.public();
    spoil(&mut chain);
    verify(&chain.encode(), &root, pair(0x51).public(), NOW)
}

/// The same with `spoil` applied to what was signed.
fn after_signing(spoil: impl FnOnce(&mut CertChain)) -> Result<VerifiedChain, CertError> {
    let chain = Chain::new(&pair(0x51));
    let mut signed = chain.sign();
    spoil(&mut signed);
    verify(&signed.encode_to_vec(), chain.root.public(), pair(0x51).public(), NOW)
}

fn at(now: u64) -> Result<VerifiedChain, CertError> {
    let chain = Chain::new(&pair(0x51));
    verify(&chain.encode(), chain.root.public(), pair(0x51).public(), now)
}

#[test]
fn a_sound_chain_is_verified() {
    assert_eq!(verified(|_| {}).unwrap().leaf_key, *pair(0x51).public());
}

#[test]
fn the_root_must_have_signed_the_intermediate() {
    assert_eq!(verified(|chain| chain.root = pair(1)), Err(CertError::Signature(Link::Intermediate)));
    let error = after_signing(|chain| {
        chain.intermediate.as_mut().unwrap().signature.as_mut().unwrap()[0] ^= 1;
    });
    assert_eq!(error, Err(CertError::Signature(Link::Intermediate)));
}

#[test]
fn the_intermediate_must_have_signed_the_leaf() {
    assert_eq!(verified(|chain| chain.issuer = pair(1)), Err(CertError::Signature(Link::Leaf)));
    // Signed by the root itself, which is not how the chain goes.
    assert_eq!(verified(|chain| chain.issuer = chain.root.clone()), Err(CertError::Signature(Link::Leaf)));
    let error = after_signing(|chain| {
        chain.leaf.as_mut().unwrap().signature.as_mut().unwrap()[63] ^= 0x80;
    });
    assert_eq!(error, Err(CertError::Signature(Link::Leaf)));
}

#[test]
fn the_intermediate_must_name_the_root() {
    assert_eq!(
        verified(|chain| chain.intermediate.issuer_serial = Some(1)),
        Err(CertError::Issuer(Link::Intermediate))
    );
}

#[test]
fn the_leaf_must_name_the_intermediate() {
    assert_eq!(verified(|chain| chain.leaf.issuer_serial = Some(8)), Err(CertError::Issuer(Link::Leaf)));
    assert_eq!(verified(|chain| chain.leaf.issuer_serial = None), Err(CertError::Issuer(Link::Leaf)));
}

#[test]
fn an_absent_serial_is_zero() {
    verified(|chain| chain.intermediate.issuer_serial = None).unwrap();
    verified(|chain| {
        chain.intermediate.serial = None;
        chain.leaf.issuer_serial = Some(0);
    })
    .unwrap();
}

#[test]
fn the_leaf_must_be_for_the_static_key() {
    assert_eq!(
        verified(|chain| chain.leaf.key = Some(pair(0x53).public().to_vec())),
        Err(CertError::WrongKey)
    );
}

#[test]
fn keys_must_be_32_bytes() {
    for len in [0, 31, 33] {
        let key = vec![5; len];
        assert_eq!(
            verified(|chain| chain.leaf.key = Some(key.clone())),
            Err(CertError::KeyLength(Link::Leaf)),
            "{len}"
        );
        assert_eq!(
            verified(|chain| chain.intermediate.key = Some(key)),
            Err(CertError::KeyLength(Link::Intermediate)),
            "{len}"
        );
    }
    assert_eq!(verified(|chain| chain.leaf.key = None), Err(CertError::KeyLength(Link::Leaf)));
}

#[test]
fn signatures_must_be_64_bytes() {
    for len in [0, 63, 65] {
        let resized = |signature: &mut Option<Vec<u8>>| signature.as_mut().unwrap().resize(len, 0);
        assert_eq!(
            after_signing(|chain| resized(&mut chain.leaf.as_mut().unwrap().signature)),
            Err(CertError::SignatureLength(Link::Leaf))
        );
        assert_eq!(
            after_signing(|chain| resized(&mut chain.intermediate.as_mut().unwrap().signature)),
            Err(CertError::SignatureLength(Link::Intermediate))
        );
    }
}

#[test]
fn everything_must_be_there() {
    assert_eq!(after_signing(|chain| chain.leaf = None), Err(CertError::Missing(Link::Leaf)));
    assert_eq!(after_signing(|chain| chain.intermediate = None), Err(CertError::Missing(Link::Intermediate)));
    let error = after_signing(|chain| chain.leaf.as_mut().unwrap().details = None);
    assert_eq!(error, Err(CertError::Missing(Link::Leaf)));
    let error = after_signing(|chain| chain.intermediate.as_mut().unwrap().signature = None);
    assert_eq!(error, Err(CertError::Missing(Link::Intermediate)));
    assert_eq!(verify(&[], &[1; 32], &[2; 32], NOW), Err(CertError::Missing(Link::Intermediate)));
}

#[test]
fn bytes_that_are_no_certificate_are_malformed() {
    assert_eq!(verify(b"CERT", &[1; 32], &[2; 32], NOW), Err(CertError::Malformed));
    let error = after_signing(|chain| chain.leaf.as_mut().unwrap().details = Some(b"CERT".to_vec()));
    assert_eq!(error, Err(CertError::Malformed));
}

#[test]
fn both_windows_include_their_first_second_and_not_their_last() {
    at(NOW - 86_400).unwrap();
    at(NOW + 86_399).unwrap();
    assert_eq!(at(NOW - 86_401), Err(CertError::NotYetValid(Link::Intermediate)));
    assert_eq!(at(NOW + 86_400), Err(CertError::Expired(Link::Intermediate)));

    verified(|chain| chain.leaf.not_before = Some(NOW)).unwrap();
    verified(|chain| chain.leaf.not_after = Some(NOW + 1)).unwrap();
    assert_eq!(
        verified(|chain| chain.leaf.not_before = Some(NOW + 1)),
        Err(CertError::NotYetValid(Link::Leaf))
    );
    assert_eq!(verified(|chain| chain.leaf.not_after = Some(NOW)), Err(CertError::Expired(Link::Leaf)));
    assert_eq!(verified(|chain| chain.leaf.not_after = None), Err(CertError::Expired(Link::Leaf)));
    assert_eq!(
        verified(|chain| chain.intermediate.not_after = None),
        Err(CertError::Expired(Link::Intermediate))
    );
}

#[test]
fn the_window_of_a_chain_is_what_both_certificates_share() {
    let chain = verified(|chain| {
        chain.leaf.not_before = Some(NOW - 5);
        chain.intermediate.not_after = Some(NOW + 7);
    })
    .unwrap();
    let cached = CachedServerKey::from(&chain);
    assert_eq!((cached.not_before, cached.not_after), (NOW - 5, NOW + 7));
    assert_eq!(cached.key, *pair(0x51).public());
    assert!(!cached.is_usable(NOW - 6) && cached.is_usable(NOW - 5));
    assert!(cached.is_usable(NOW + 6) && !cached.is_usable(NOW + 7));
}

#[test]
fn a_chain_cut_at_any_byte_is_refused() {
    let chain = Chain::new(&pair(0x51));
    let raw = chain.encode();
    for len in 0..raw.len() {
        verify(&raw[..len], chain.root.public(), pair(0x51).public(), NOW).unwrap_err();
    }
}

#[test]
fn a_bit_flipped_anywhere_is_noticed() {
    let chain = Chain::new(&pair(0x51));
    let raw = chain.encode();
    for bit in 0..raw.len() * 8 {
        let mut other = raw.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&other, chain.root.public(), pair(0x51).public(), NOW).is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn garbage_is_refused(garbage: Vec<u8>) {
        prop_assert!(verify(&garbage, &[1; 32], &[2; 32], NOW).is_err());
    }
}

//! Forged, damaged and cut-off messages of a session: refused, and nothing changes.

use runner_signal::fuzz::Device;
use runner_signal::session::{Ciphertext, DecryptError, MessageKind};
use runner_signal::{BundleError, PublicKey, WireError, session};

use crate::{acquainted, pair, read, send};

fn refuse(device: &mut Device, message: &Ciphertext, what: &str) -> DecryptError {
    let before = device.session.clone();
    let error = read(device, message).expect_err(what);
    assert_eq!(device.session, before);
    error
}

fn flip(message: &Ciphertext, bit: usize) -> Ciphertext {
    let mut bytes = message.bytes.clone();
    bytes[bit / 8] ^= 1 << (bit % 8);
    Ciphertext { kind: message.kind, bytes }
}

#[test]
fn every_bit_of_a_message_is_authenticated() {
    let (mut a, mut b) = acquainted();
    let message = send(&mut a, b"authentic");
    for bit in 0..message.bytes.len() * 8 {
        refuse(&mut b, &flip(&message, bit), &format!("bit {bit}"));
    }
    assert_eq!(read(&mut b, &message).unwrap(), b"authentic");
}

#[test]
fn a_damaged_first_message_is_refused_or_says_the_same() {
    let (mut a, fresh) = pair(true);
    let message = send(&mut a, b"authentic");
    let (session, pre_keys) = (fresh.session.clone(), fresh.pre_keys.clone());
    let mut b = fresh;
    let mut read_anyway = 0;
    for bit in 0..message.bytes.len() * 8 {
        (b.session, b.pre_keys) = (session.clone(), pre_keys.clone());
        if let Ok(plaintext) = read(&mut b, &flip(&message, bit)) {
            assert_eq!(plaintext, b"authentic", "bit {bit}");
            read_anyway += 1;
        }
    }
    // What nobody authenticates: the registration id, the lower half of the outer version, and field numbers that turn
    // something optional into something unknown.
    assert!((1..60).contains(&read_anyway), "{read_anyway} bits");
}

#[test]
fn every_truncation_is_refused() {
    let (mut a, mut b) = pair(true);
    let first = send(&mut a, b"first");
    for len in 0..first.bytes.len() {
        let cut = Ciphertext { kind: MessageKind::PreKey, bytes: first.bytes[..len].to_vec() };
        refuse(&mut b, &cut, &format!("{len} bytes"));
    }
    read(&mut b, &first).unwrap();
    let second = send(&mut b, b"second");
    for len in 0..second.bytes.len() {
        let cut = Ciphertext { kind: MessageKind::Signal, bytes: second.bytes[..len].to_vec() };
        refuse(&mut a, &cut, &format!("{len} bytes"));
    }
}

#[test]
fn a_message_is_for_one_receiver_from_one_sender() {
    let (mut a, mut b) = acquainted();
    let message = send(&mut a, b"for b");
    let (identity, session) = (b.identity.clone(), b.session.clone());
    b.identity = Device::new(9).identity;
    assert_eq!(refuse(&mut b, &message, "another receiver"), DecryptError::BadMac);
    (b.identity, b.session) = (identity, session);
    assert_eq!(read(&mut b, &message).unwrap(), b"for b");
}

/// A u-coordinate of small order.
const WEAK: [u8; 32] = [0; 32];

#[test]
fn keys_of_small_order_are_refused() {
    let (mut a, mut b) = acquainted();
    // After the version byte: tag, length and type of the ratchet key.
    let mut message = send(&mut a, b"x");
    message.bytes[4..36].copy_from_slice(&WEAK);
    assert_eq!(refuse(&mut b, &message, "ratchet key"), DecryptError::WeakKey);

    let (mut a, mut b) = pair(false);
    // Without a one-time pre-key the base key comes first, then the identity key.
    let first = send(&mut a, b"x");
    for start in [4, 39] {
        let mut message = first.clone();
        message.bytes[start..start + 32].copy_from_slice(&WEAK);
        assert_eq!(refuse(&mut b, &message, "X3DH key"), DecryptError::WeakKey);
    }

    let mut bundle = b.bundle(true);
    let id = bundle.pre_key.unwrap().0;
    bundle.pre_key = Some((id, PublicKey::new(WEAK)));
    let refused = session::start(&a.identity, None, &bundle, &mut |bytes| bytes.fill(1)).unwrap_err();
    assert_eq!(refused, BundleError::WeakKey);
}

#[test]
fn a_new_ratchet_key_without_a_new_one_of_ours_is_not_even_tried() {
    let (mut a, mut b) = acquainted();
    read(&mut b, &send(&mut a, b"x")).unwrap();
    // B has not written since, so that A has nothing to turn its ratchet by.
    let mut message = send(&mut a, b"y");
    message.bytes[4..36].copy_from_slice(Device::new(9).identity.public().as_bytes());
    assert_eq!(refuse(&mut b, &message, "a key out of nowhere"), DecryptError::BadMac);
}

#[test]
fn other_versions_are_named() {
    let (mut a, mut b) = acquainted();
    for version in [0x00, 0x22, 0x23, 0x32, 0x43, 0xff] {
        let mut message = send(&mut a, b"x");
        message.bytes[0] = version;
        let error = refuse(&mut b, &message, "version");
        assert_eq!(error, DecryptError::Wire(WireError::Version { version }));
    }
}

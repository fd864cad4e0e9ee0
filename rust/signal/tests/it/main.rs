//! Tests of the crate as its user sees it.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are part of it")]

mod baileys;
mod corpora;
mod group;
mod hostile;
mod lease;
mod model;
mod overlap;
mod record;
mod session;
mod vectors;
mod wire;

use runner_signal::fuzz::{Commit, Device};
use runner_signal::session::{Ciphertext, DecryptError};

/// Two devices, of which the first has a session from the second's bundle.
fn pair(with_pre_key: bool) -> (Device, Device) {
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    a.start(&b.bundle(with_pre_key));
    (a, b)
}

/// Two devices that have written to each other.
fn acquainted() -> (Device, Device) {
    let (mut a, mut b) = pair(true);
    assert_eq!(read(&mut b, &send(&mut a, b"hello")).unwrap(), b"hello");
    assert_eq!(read(&mut a, &send(&mut b, b"hello to you")).unwrap(), b"hello to you");
    (a, b)
}

/// Encrypts with a commit for each message.
fn send(device: &mut Device, plaintext: &[u8]) -> Ciphertext {
    device.encrypt(plaintext, 1, Commit::Done).expect("a session")
}

/// Decrypts and commits.
fn read(device: &mut Device, message: &Ciphertext) -> Result<Vec<u8>, DecryptError> {
    device.decrypt(message, Commit::Done)
}

//! The phone's consent to a new device: messages, the HMAC and the two signatures.
//!
//! The phone wraps who the device is (`ADVDeviceIdentity`) in its signature, and that in an HMAC under a secret that
//! only it and the device know: from the QR code, or agreed with a pairing code. The device adds its own signature.
//! Source: docs/protocol.md, "Device identity".

// The derive's accessors carry no docs of their own.
#![allow(missing_docs)]

use hmac::{Hmac, KeyInit as _, Mac as _};
use prost::Message;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

/// An account that is hosted by a business partner, in `accountType` and `deviceType`.
pub const HOSTED: i32 = 1;

/// In front of what the account signs.
const BY_ACCOUNT: [u8; 2] = [6, 0];
/// The same for a hosted account, also in front of what the HMAC covers.
const BY_HOSTED_ACCOUNT: [u8; 2] = [6, 5];
/// In front of what the device signs.
const BY_DEVICE: [u8; 2] = [6, 1];

/// Why a consent is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AdvError {
    /// It does not parse, or lacks something.
    #[error("the device identity cannot be read")]
    Unreadable,
    /// It was not made by the phone that was shown our secret.
    #[error("the HMAC of the device identity does not match")]
    HmacMismatch,
    /// It was not signed by the account that it names.
    #[error("the account's signature of the device identity does not match")]
    SignatureMismatch,
}

/// A consent that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// `ADVDeviceIdentity`, encoded: what both signatures cover.
    pub details: Vec<u8>,
    /// Which of the account's devices this is; the answer names it.
    pub key_index: u32,
    /// The account's identity key.
    pub account_key: [u8; 32],
    /// Its signature.
    pub account_signature: [u8; 64],
}

/// Opens and verifies what came as `<device-identity>` with `<pair-success>`; `identity` is the device's public key.
pub fn verify(bytes: &[u8], adv_secret: &[u8; 32], identity: &[u8; 32]) -> Result<Consent, AdvError> {
    let container = SignedDeviceIdentityHmac::decode(bytes).map_err(|_| AdvError::Unreadable)?;
    let (Some(signed), Some(tag)) = (container.details, container.hmac) else {
        return Err(AdvError::Unreadable);
    };
    let prefix: &[u8] = if container.account_type == Some(HOSTED) { &BY_HOSTED_ACCOUNT } else { &[] };
    if hmac(adv_secret, prefix, &signed).verify_slice(&tag).is_err() {
        return Err(AdvError::HmacMismatch);
    }
    let signed = SignedDeviceIdentity::decode(signed.as_slice()).map_err(|_| AdvError::Unreadable)?;
    let (Some(details), Some(key), Some(signature)) =
        (signed.details, signed.account_signature_key, signed.account_signature)
    else {
        return Err(AdvError::Unreadable);
    };
    let inner = DeviceIdentity::decode(details.as_slice()).map_err(|_| AdvError::Unreadable)?;
    let (Some(key_index), Ok(account_key), Ok(account_signature)) =
        (inner.key_index, <[u8; 32]>::try_from(key), <[u8; 64]>::try_from(signature))
    else {
        return Err(AdvError::Unreadable);
    };
    let prefix = if inner.device_type == Some(HOSTED) { BY_HOSTED_ACCOUNT } else { BY_ACCOUNT };
    let message = [&prefix[..], &details, identity].concat();
    if !runner_xeddsa::verify(&account_key, &message, &account_signature) {
        return Err(AdvError::SignatureMismatch);
    }
    Ok(Consent { details, key_index, account_key, account_signature })
}

impl Consent {
    /// The device's signature, which completes it; `secret` is the device's identity key, `random` 64 fresh bytes.
    #[must_use]
    pub fn sign(&self, secret: &[u8; 32], random: &[u8; 64]) -> [u8; 64] {
        let identity = runner_xeddsa::public_from_secret(secret);
        let message = [&BY_DEVICE[..], &self.details, &identity, &self.account_key].concat();
        runner_xeddsa::sign(secret, &message, random)
    }

    /// The encoded `ADVSignedDeviceIdentity`, whole, as it goes into every message of the device; or, without the
    /// account's key, as the server wants it in the answer.
    #[must_use]
    pub fn encode(&self, device_signature: &[u8; 64], with_account_key: bool) -> Vec<u8> {
        SignedDeviceIdentity {
            details: Some(self.details.clone()),
            account_signature_key: with_account_key.then(|| self.account_key.to_vec()),
            account_signature: Some(self.account_signature.to_vec()),
            device_signature: Some(device_signature.to_vec()),
        }
        .encode_to_vec()
    }

    /// Whether the device signed it: the server's check of our answer.
    #[must_use]
    pub fn is_signed_by(&self, identity: &[u8; 32], device_signature: &[u8; 64]) -> bool {
        let message = [&BY_DEVICE[..], &self.details, identity, &self.account_key].concat();
        runner_xeddsa::verify(identity, &message, device_signature)
    }
}

/// A phone's consent: what it sends for a device whose public identity key is `identity`.
///
/// `account` is the account's secret key; `random` are 64 fresh bytes. For servers and their tests.
#[must_use]
pub fn consent(
    inner: &DeviceIdentity,
    account: &[u8; 32],
    identity: &[u8; 32],
    adv_secret: &[u8; 32],
    random: &[u8; 64],
) -> (Vec<u8>, Consent) {
    let details = inner.encode_to_vec();
    let message = [&BY_ACCOUNT[..], &details, identity].concat();
    let consent = Consent {
        key_index: inner.key_index(),
        account_key: runner_xeddsa::public_from_secret(account),
        account_signature: runner_xeddsa::sign(account, &message, random),
        details,
    };
    let signed = SignedDeviceIdentity {
        details: Some(consent.details.clone()),
        account_signature_key: Some(consent.account_key.to_vec()),
        account_signature: Some(consent.account_signature.to_vec()),
        device_signature: None,
    }
    .encode_to_vec();
    let tag = hmac(adv_secret, &[], &signed).finalize().into_bytes().to_vec();
    let container = SignedDeviceIdentityHmac { details: Some(signed), hmac: Some(tag), account_type: None }
        .encode_to_vec();
    (container, consent)
}

fn hmac(key: &[u8; 32], prefix: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut mac = keyed(key);
    mac.update(prefix);
    mac.update(message);
    mac
}

/// HMAC-SHA256 under a key of at most one block (64 bytes), which becomes the block as it is (RFC 2104 §2).
pub(crate) fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    Hmac::new((&*block).into())
}

/// `ADVSignedDeviceIdentityHMAC`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SignedDeviceIdentityHmac {
    /// An encoded [`SignedDeviceIdentity`].
    #[prost(bytes = "vec", optional, tag = "1")]
    pub details: Option<Vec<u8>>,
    /// 32 bytes.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub hmac: Option<Vec<u8>>,
    /// [`HOSTED`], or 0.
    #[prost(int32, optional, tag = "3")]
    pub account_type: Option<i32>,
}

/// `ADVSignedDeviceIdentity`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SignedDeviceIdentity {
    /// An encoded [`DeviceIdentity`].
    #[prost(bytes = "vec", optional, tag = "1")]
    pub details: Option<Vec<u8>>,
    /// 32 bytes.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub account_signature_key: Option<Vec<u8>>,
    /// 64 bytes.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub account_signature: Option<Vec<u8>>,
    /// 64 bytes.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub device_signature: Option<Vec<u8>>,
}

/// `ADVDeviceIdentity`: which device of the account this is.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct DeviceIdentity {
    /// The account's number of its device list.
    #[prost(uint32, optional, tag = "1")]
    pub raw_id: Option<u32>,
    /// Unix seconds.
    #[prost(uint64, optional, tag = "2")]
    pub timestamp: Option<u64>,
    /// The device's place in the list.
    #[prost(uint32, optional, tag = "3")]
    pub key_index: Option<u32>,
    /// [`HOSTED`], or 0.
    #[prost(int32, optional, tag = "4")]
    pub account_type: Option<i32>,
    /// [`HOSTED`], or 0.
    #[prost(int32, optional, tag = "5")]
    pub device_type: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADV: [u8; 32] = [5; 32];
    const ACCOUNT: [u8; 32] = [6; 32];
    const DEVICE: [u8; 32] = [7; 32];

    fn identity() -> [u8; 32] {
        runner_xeddsa::public_from_secret(&DEVICE)
    }

    fn given() -> (Vec<u8>, Consent) {
        let inner = DeviceIdentity {
            raw_id: Some(1),
            timestamp: Some(1_767_225_600),
            key_index: Some(3),
            ..DeviceIdentity::default()
        };
        consent(&inner, &ACCOUNT, &identity(), &ADV, &[9; 64])
    }

    #[test]
    fn a_consent_is_read_verified_and_signed() {
        let (bytes, made) = given();
        let read = verify(&bytes, &ADV, &identity()).unwrap();
        assert_eq!((&read, read.key_index), (&made, 3));
        let signature = read.sign(&DEVICE, &[8; 64]);
        assert!(read.is_signed_by(&identity(), &signature));
        assert!(!read.is_signed_by(&made.account_key, &signature));
        let whole = SignedDeviceIdentity::decode(read.encode(&signature, true).as_slice()).unwrap();
        let short = SignedDeviceIdentity::decode(read.encode(&signature, false).as_slice()).unwrap();
        assert_eq!(whole.account_signature_key.as_deref(), Some(&made.account_key[..]));
        assert_eq!(short, SignedDeviceIdentity { account_signature_key: None, ..whole });
    }

    #[test]
    fn what_another_phone_made_or_somebody_changed_is_refused() {
        let (bytes, _) = given();
        assert_eq!(verify(&bytes, &[0; 32], &identity()), Err(AdvError::HmacMismatch));
        assert_eq!(verify(&bytes, &ADV, &[9; 32]), Err(AdvError::SignatureMismatch), "for another device");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(verify(&changed, &ADV, &identity()).is_err(), "byte {at}");
            assert!(verify(&bytes[..at], &ADV, &identity()).is_err(), "cut at {at}");
        }
    }

    /// A server that knows the secret but not the account's key: the HMAC alone is not enough.
    #[test]
    fn a_right_hmac_over_a_wrong_signature_is_refused() {
        let (bytes, _) = given();
        let mut container = SignedDeviceIdentityHmac::decode(bytes.as_slice()).unwrap();
        let mut signed = SignedDeviceIdentity::decode(container.details.unwrap().as_slice()).unwrap();
        signed.account_signature.as_mut().unwrap()[0] ^= 1;
        let signed = signed.encode_to_vec();
        container.hmac = Some(hmac(&ADV, &[], &signed).finalize().into_bytes().to_vec());
        container.details = Some(signed);
        let result = verify(&container.encode_to_vec(), &ADV, &identity());
        assert_eq!(result, Err(AdvError::SignatureMismatch));
    }

    #[test]
    fn a_hosted_account_signs_and_authenticates_under_its_own_prefix() {
        let inner =
            DeviceIdentity { key_index: Some(1), device_type: Some(HOSTED), ..DeviceIdentity::default() };
        let details = inner.encode_to_vec();
        let message = [&BY_HOSTED_ACCOUNT[..], &details, &identity()].concat();
        let signed = SignedDeviceIdentity {
            details: Some(details),
            account_signature_key: Some(runner_xeddsa::public_from_secret(&ACCOUNT).to_vec()),
            account_signature: Some(runner_xeddsa::sign(&ACCOUNT, &message, &[1; 64]).to_vec()),
            device_signature: None,
        }
        .encode_to_vec();
        let tag = hmac(&ADV, &BY_HOSTED_ACCOUNT, &signed).finalize().into_bytes().to_vec();
        let container =
            SignedDeviceIdentityHmac { details: Some(signed), hmac: Some(tag), account_type: Some(HOSTED) };
        assert!(verify(&container.encode_to_vec(), &ADV, &identity()).is_ok());
        let unnamed = SignedDeviceIdentityHmac { account_type: None, ..container };
        let result = verify(&unnamed.encode_to_vec(), &ADV, &identity());
        assert_eq!(result, Err(AdvError::HmacMismatch));
    }
}

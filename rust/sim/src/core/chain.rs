//! The server's own keys and the Noise certificate chain that they sign (docs/protocol.md, "Certificate chain").

use prost::Message as _;
use runner_proto::handshake::{CertChain, CertDetails, NoiseCertificate};
use sha2::{Digest, Sha256};

use super::fleet::Keys;

/// A chain is valid from one day ago, in seconds, so that a client's clock may be a little behind.
const VALID_BEFORE_S: u64 = 86_400;
/// … until a year from now.
const VALID_AFTER_S: u64 = 365 * 86_400;

/// What is wrong with a chain on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainFault {
    /// The intermediate is signed by somebody who is not the root.
    BadRootSignature,
    /// The leaf is signed by somebody who is not the intermediate.
    BadLeafSignature,
    /// Both certificates ended an hour ago.
    Expired,
    /// Both certificates begin in an hour.
    NotYetValid,
    /// The leaf names another key than the server proves to hold.
    WrongKey,
    /// The leaf names another issuer than the intermediate.
    WrongIssuer,
    /// The bytes are no chain at all.
    Garbage,
}

/// The server's three key pairs. Fixed, so that a client can pin the root over restarts.
#[derive(Clone, Debug)]
pub struct ServerKeys {
    root: Keys,
    intermediate: Keys,
    /// The Noise static key pair of the server.
    pub noise: Keys,
}

impl ServerKeys {
    /// The keys that `seed` makes.
    pub fn new(seed: u64) -> Self {
        let keys = |label: &str| {
            let mut hash = Sha256::new();
            hash.update(b"runner-sim server\0");
            hash.update(seed.to_be_bytes());
            hash.update(label.as_bytes());
            Keys::from_secret(hash.finalize().into())
        };
        Self { root: keys("root"), intermediate: keys("intermediate"), noise: keys("noise") }
    }

    /// The key that a client must trust instead of WhatsApp's.
    pub fn root_public(&self) -> [u8; 32] {
        self.root.public
    }

    /// The encoded chain at `now_unix_s`, wrong in one way if a fault is given.
    pub fn chain(&self, now_unix_s: u64, fault: Option<ChainFault>) -> Vec<u8> {
        if fault == Some(ChainFault::Garbage) {
            return vec![0xff; 64];
        }
        let (not_before, not_after) = match fault {
            Some(ChainFault::Expired) => {
                (now_unix_s.saturating_sub(VALID_BEFORE_S), now_unix_s.saturating_sub(3600))
            }
            Some(ChainFault::NotYetValid) => (now_unix_s + 3600, now_unix_s + VALID_AFTER_S),
            _ => (now_unix_s.saturating_sub(VALID_BEFORE_S), now_unix_s + VALID_AFTER_S),
        };
        let details = |serial, issuer_serial, key: [u8; 32]| {
            // Every field is written even when it is zero: an absent issuerSerial is not a zero to every client.
            CertDetails {
                serial: Some(serial),
                issuer_serial: Some(issuer_serial),
                key: Some(key.to_vec()),
                not_before: Some(not_before),
                not_after: Some(not_after),
            }
            .encode_to_vec()
        };
        let leaf_key = if fault == Some(ChainFault::WrongKey) { self.root.public } else { self.noise.public };
        let leaf_issuer = if fault == Some(ChainFault::WrongIssuer) { 8 } else { 7 };
        let signer = if fault == Some(ChainFault::BadRootSignature) { &self.noise } else { &self.root };
        let leaf_signer =
            if fault == Some(ChainFault::BadLeafSignature) { &self.noise } else { &self.intermediate };
        CertChain {
            leaf: Some(certificate(leaf_signer, details(9, leaf_issuer, leaf_key))),
            intermediate: Some(certificate(signer, details(7, 0, self.intermediate.public))),
        }
        .encode_to_vec()
    }
}

fn certificate(signer: &Keys, details: Vec<u8>) -> NoiseCertificate {
    // The nonce of a signature must differ for every message; a hash of key and message does that without a clock.
    let low: [u8; 32] = Sha256::new().chain_update(signer.secret).chain_update(&details).finalize().into();
    let high: [u8; 32] = Sha256::new().chain_update(low).finalize().into();
    let mut nonce = [0; 64];
    nonce[..32].copy_from_slice(&low);
    nonce[32..].copy_from_slice(&high);
    let signature = runner_xeddsa::sign(&signer.secret, &details, &nonce);
    NoiseCertificate { details: Some(details), signature: Some(signature.to_vec()) }
}

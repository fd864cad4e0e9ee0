//! The certificate chain that proves a Noise server's static key.
//!
//! Rules, all of them checked, in this order, from the root down:
//!
//! 1. both certificates are there, with a 32-byte key and a 64-byte signature each;
//! 2. the root key signed the intermediate, and the intermediate names the root (serial 0) as its issuer;
//! 3. the intermediate's key signed the leaf, and the leaf names the intermediate's serial as its issuer;
//! 4. the leaf's key is the static key that the handshake proved;
//! 5. now is inside both validity windows, `not_before <= now < not_after`.
//!
//! An absent serial counts as 0, the default that protobuf gives it. Known clients differ: one compares
//! the presence too. Presence adds no security, as only the root's own signature gets that far, and
//! relying on it would lock every session out the day the service stops writing zeros. An absent
//! `not_after` counts as 0 as well, and so has expired.
//!
//! Source: docs/protocol.md, "Certificate chain".

use prost::Message;
use runner_xeddsa::{KEY_LEN, SIGNATURE_LEN};

use crate::handshake::{CertChain, CertDetails, NoiseCertificate};

/// WhatsApp's root, "WhatsAppLongTerm1": an X25519 key used as XEdDSA verifier. docs/protocol.md,
/// "Server certificate chain".
pub const WHATSAPP_ROOT: [u8; KEY_LEN] = [
    0x14, 0x23, 0x75, 0x57, 0x4d, 0x0a, 0x58, 0x71, 0x66, 0xaa, 0xe7, 0x1e, 0xbe, 0x51, 0x64, 0x37, 0xc4,
    0xa2, 0x8b, 0x73, 0xe3, 0x69, 0x5c, 0x6c, 0xe1, 0xf7, 0xf9, 0x54, 0x5d, 0xa8, 0xee, 0x6b,
];

/// The serial by which an intermediate certificate names the root.
const ROOT_SERIAL: u32 = 0;

/// A chain that passed every check; what a later resume (IK) needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedChain {
    /// The server's static key.
    pub leaf_key: [u8; KEY_LEN],
    /// First second at which both certificates are valid, Unix time.
    pub not_before: u64,
    /// First second at which one of them is no longer valid, Unix time.
    pub not_after: u64,
    /// The chain as it came.
    pub raw: Vec<u8>,
}

/// A server key remembered from an earlier connection, with the time in which it may be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedServerKey {
    /// The server's static key.
    pub key: [u8; KEY_LEN],
    /// First second of use, Unix time.
    pub not_before: u64,
    /// First second after use, Unix time.
    pub not_after: u64,
}

impl CachedServerKey {
    /// Whether a resume may be tried now. Source: docs/protocol.md, "Noise".
    #[must_use]
    pub const fn is_usable(&self, now_unix_s: u64) -> bool {
        self.not_before <= now_unix_s && now_unix_s < self.not_after
    }
}

impl From<&VerifiedChain> for CachedServerKey {
    fn from(chain: &VerifiedChain) -> Self {
        Self { key: chain.leaf_key, not_before: chain.not_before, not_after: chain.not_after }
    }
}

/// Checks the chain in `raw` against `root` and the handshake's `server_static`.
///
/// # Errors
/// The first broken rule of the module's list; the server's fault, except that a wrong clock of ours
/// shows as [`CertError::Expired`] or [`CertError::NotYetValid`].
pub fn verify(
    raw: &[u8],
    root: &[u8; KEY_LEN],
    server_static: &[u8; KEY_LEN],
    now_unix_s: u64,
) -> Result<VerifiedChain, CertError> {
    let chain = CertChain::decode(raw).map_err(|_| CertError::Malformed)?;
    let intermediate = Certificate::parse(chain.intermediate, Link::Intermediate)?;
    let leaf = Certificate::parse(chain.leaf, Link::Leaf)?;

    intermediate.check_signature(root)?;
    intermediate.check_issuer(ROOT_SERIAL)?;
    leaf.check_signature(&intermediate.key)?;
    leaf.check_issuer(intermediate.details.serial())?;
    if leaf.key != *server_static {
        return Err(CertError::WrongKey);
    }
    intermediate.check_window(now_unix_s)?;
    leaf.check_window(now_unix_s)?;

    Ok(VerifiedChain {
        leaf_key: leaf.key,
        not_before: intermediate.details.not_before().max(leaf.details.not_before()),
        not_after: intermediate.details.not_after().min(leaf.details.not_after()),
        raw: raw.to_vec(),
    })
}

/// One certificate with the lengths checked.
struct Certificate {
    link: Link,
    /// What was signed.
    signed: Vec<u8>,
    signature: [u8; SIGNATURE_LEN],
    details: CertDetails,
    key: [u8; KEY_LEN],
}

impl Certificate {
    fn parse(certificate: Option<NoiseCertificate>, link: Link) -> Result<Self, CertError> {
        let NoiseCertificate { details: Some(signed), signature: Some(signature) } =
            certificate.ok_or(CertError::Missing(link))?
        else {
            return Err(CertError::Missing(link));
        };
        let details = CertDetails::decode(signed.as_slice()).map_err(|_| CertError::Malformed)?;
        let key = details.key().try_into().map_err(|_| CertError::KeyLength(link))?;
        let signature = signature.try_into().map_err(|_| CertError::SignatureLength(link))?;
        Ok(Self { link, signed, signature, details, key })
    }

    fn check_signature(&self, signer: &[u8; KEY_LEN]) -> Result<(), CertError> {
        if runner_xeddsa::verify(signer, &self.signed, &self.signature) {
            Ok(())
        } else {
            Err(CertError::Signature(self.link))
        }
    }

    fn check_issuer(&self, serial: u32) -> Result<(), CertError> {
        if self.details.issuer_serial() == serial { Ok(()) } else { Err(CertError::Issuer(self.link)) }
    }

    fn check_window(&self, now_unix_s: u64) -> Result<(), CertError> {
        if now_unix_s < self.details.not_before() {
            Err(CertError::NotYetValid(self.link))
        } else if now_unix_s >= self.details.not_after() {
            Err(CertError::Expired(self.link))
        } else {
            Ok(())
        }
    }
}

/// Which certificate of the chain an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The one that the root signed.
    Intermediate,
    /// The one that names the server's key.
    Leaf,
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Intermediate => "intermediate",
            Self::Leaf => "leaf",
        })
    }
}

/// Why a certificate chain is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// The chain, or a certificate's details, is no such protobuf message.
    #[error("certificate chain does not parse")]
    Malformed,
    /// A certificate, its details or its signature is absent.
    #[error("{0} certificate is missing")]
    Missing(Link),
    /// A key is not 32 bytes.
    #[error("{0} certificate's key has a wrong length")]
    KeyLength(Link),
    /// A signature is not 64 bytes.
    #[error("{0} certificate's signature has a wrong length")]
    SignatureLength(Link),
    /// The signature is not the issuer's.
    #[error("{0} certificate's signature is wrong")]
    Signature(Link),
    /// The certificate names another issuer.
    #[error("{0} certificate names another issuer")]
    Issuer(Link),
    /// The chain vouches for another key than the handshake's.
    #[error("leaf certificate is for another key")]
    WrongKey,
    /// Its validity has not begun: a bad chain, or our clock is slow.
    #[error("{0} certificate is not valid yet")]
    NotYetValid(Link),
    /// Its validity is over: a bad chain, or our clock is fast.
    #[error("{0} certificate has expired")]
    Expired(Link),
}

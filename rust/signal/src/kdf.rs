//! HKDF and the chain of message seeds. Source: docs/protocol.md, "Signal"; RFC 5869; Double Ratchet §5.2.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::key::Secret;

const SESSION: &[u8] = b"WhisperText";
const RATCHET: &[u8] = b"WhisperRatchet";
const MESSAGE: &[u8] = b"WhisperMessageKeys";
const GROUP: &[u8] = b"WhisperGroup";

/// The constants that a chain key is hashed with.
const SEED: &[u8] = &[1];
const NEXT: &[u8] = &[2];

/// `N` bytes of HKDF-SHA256. An absent salt is 32 zeros, which HMAC does not tell from none.
fn expand<const N: usize>(salt: Option<&[u8]>, ikm: &[u8], info: &[u8]) -> Zeroizing<[u8; N]> {
    let mut okm = Zeroizing::new([0; N]);
    // Fails only above 255 * 32 bytes.
    let done = Hkdf::<Sha256>::new(salt, ikm).expand(info, &mut *okm);
    debug_assert!(done.is_ok());
    okm
}

/// `N` bytes from the front of `bytes`, which has them.
fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(part) = bytes.get(at..at + N) {
        out.copy_from_slice(part);
    }
    out
}

/// HMAC-SHA256 under a 32-byte key.
pub(crate) fn hmac(key: &Secret) -> Hmac<Sha256> {
    // RFC 2104 pads a short key with zeros to a block; doing so here leaves no length that could be refused.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key.expose());
    Hmac::new((&*block).into())
}

fn root_and_chain(okm: &[u8; 64]) -> (Secret, ChainKey) {
    let chain = ChainKey { key: Secret::new(take(okm, 32)), index: 0 };
    (Secret::new(take(okm, 0)), chain)
}

/// Root and first chain of a session, from the concatenated agreements of X3DH.
pub(crate) fn session(agreements: &[u8]) -> (Secret, ChainKey) {
    root_and_chain(&expand(None, agreements, SESSION))
}

/// The next root and a new chain, from one agreement of ratchet keys.
pub(crate) fn ratchet(root: &Secret, agreement: &Secret) -> (Secret, ChainKey) {
    root_and_chain(&expand(Some(root.expose()), agreement.expose(), RATCHET))
}

/// What one message of a session is encrypted with.
pub(crate) struct MessageKeys {
    pub(crate) cipher: Secret,
    pub(crate) mac: Secret,
    pub(crate) iv: [u8; 16],
}

impl MessageKeys {
    pub(crate) fn from_seed(seed: &Secret) -> Self {
        let okm = expand::<80>(None, seed.expose(), MESSAGE);
        Self { cipher: Secret::new(take(&*okm, 0)), mac: Secret::new(take(&*okm, 32)), iv: take(&*okm, 64) }
    }
}

/// What one message of a sender key is encrypted with.
pub(crate) struct GroupKeys {
    pub(crate) iv: [u8; 16],
    pub(crate) cipher: Secret,
}

impl GroupKeys {
    pub(crate) fn from_seed(seed: &Secret) -> Self {
        let okm = expand::<48>(None, seed.expose(), GROUP);
        Self { iv: take(&*okm, 0), cipher: Secret::new(take(&*okm, 16)) }
    }
}

/// A chain at one of its steps: gives the seed of that step's message, and the chain at the next step.
#[derive(Clone, Debug)]
pub(crate) struct ChainKey {
    pub(crate) key: Secret,
    /// The number of the message that this step is for.
    pub(crate) index: u32,
}

impl ChainKey {
    fn hash(&self, constant: &[u8]) -> Secret {
        Secret::new(hmac(&self.key).chain_update(constant).finalize().into_bytes().into())
    }

    /// The seed of this step's message.
    pub(crate) fn seed(&self) -> Secret {
        self.hash(SEED)
    }

    /// The next step; `None` after 2^32 messages.
    pub(crate) fn next(&self) -> Option<Self> {
        Some(Self { index: self.index.checked_add(1)?, key: self.hash(NEXT) })
    }

    /// `steps` further; `None` beyond 2^32 messages.
    pub(crate) fn advanced(&self, steps: u32) -> Option<Self> {
        self.index.checked_add(steps)?;
        let mut chain = self.clone();
        for _ in 0..steps {
            chain = chain.next()?;
        }
        Some(chain)
    }
}

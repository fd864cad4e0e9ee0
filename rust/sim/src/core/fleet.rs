//! The devices that this server knows, all of them computed from one seed.
//!
//! Nothing is stored: a simulator that is started again with the same seed knows the same devices, so credentials
//! written by an earlier run still log in.

use curve25519_dalek::MontgomeryPoint;
use sha2::{Digest, Sha256};

/// Username of the first device; the others follow by one.
pub const FIRST_USERNAME: u64 = 15_550_000_000;
/// The first number of a phone that is asked to link a device and told no number of its own.
pub(super) const FIRST_STRANGER: u64 = 15_551_000_000;
/// Device number of every device of the fleet: the first companion of its account.
pub const DEVICE: u32 = 1;

/// A Curve25519 key pair, both halves 32 bytes.
#[derive(Clone, Copy)]
pub struct Keys {
    /// Clamped, so that every library agrees what the signing key is.
    pub secret: [u8; 32],
    /// The Montgomery u-coordinate.
    pub public: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Keys {
    /// The pair of a 32-byte secret, which is clamped first.
    pub fn from_secret(mut secret: [u8; 32]) -> Self {
        secret[0] &= 248;
        secret[31] = (secret[31] & 127) | 64;
        Self { secret, public: MontgomeryPoint::mul_base_clamped(secret).to_bytes() }
    }
}

/// What a seed makes: devices `0..len`, and the keys of the server itself.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    seed: u64,
    len: u32,
}

impl Fleet {
    /// A fleet of `len` devices.
    pub fn new(seed: u64, len: u32) -> Self {
        Self { seed, len }
    }

    /// Number of devices.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// True for a fleet without devices.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The username that device `index` logs in with.
    pub fn username(index: u32) -> u64 {
        FIRST_USERNAME + u64::from(index)
    }

    /// 32 bytes that depend on the seed, `label` and `index` and on nothing else.
    pub fn bytes(&self, label: &str, index: u32) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"runner-sim device\0");
        hash.update(self.seed.to_be_bytes());
        hash.update(index.to_be_bytes());
        hash.update(label.as_bytes());
        hash.finalize().into()
    }

    /// 64 bytes for a deterministic signature.
    pub fn nonce(&self, label: &str, index: u32) -> [u8; 64] {
        let mut nonce = [0; 64];
        let (low, high) = nonce.split_at_mut(32);
        low.copy_from_slice(&self.bytes(label, index));
        high.copy_from_slice(&self.bytes(&format!("{label} high"), index));
        nonce
    }

    /// The key pair `label` of device `index`.
    pub fn keys(&self, label: &str, index: u32) -> Keys {
        Keys::from_secret(self.bytes(label, index))
    }

    /// The account key of a phone, which signs for its devices.
    pub fn phone_keys(&self, username: u64) -> Keys {
        self.keys(&format!("phone {username}"), 0)
    }

    /// The Noise static key pair, by which a device is known at login.
    pub fn noise_keys(&self, index: u32) -> Keys {
        self.keys("noise", index)
    }
}

/// The LID user of a username: ours to choose, the reference server's habit.
pub fn lid_user(username: u64) -> String {
    format!("9{username}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_devices_and_another_seed_makes_others() {
        let (a, b, c) = (Fleet::new(1, 2), Fleet::new(1, 9), Fleet::new(2, 2));
        assert_eq!(a.noise_keys(1).public, b.noise_keys(1).public);
        assert_ne!(a.noise_keys(1).public, c.noise_keys(1).public);
        assert_ne!(a.noise_keys(0).public, a.noise_keys(1).public);
        assert_ne!(a.keys("identity", 0).public, a.noise_keys(0).public);
    }
}

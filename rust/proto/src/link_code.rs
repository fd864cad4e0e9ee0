//! The cryptography of linking with a phone number: the code, what is wrapped under it, and the secret that comes of it.
//!
//! Both sides stretch the eight characters that a person carries from one screen to the other ([`Stretch`]), and wrap
//! their ephemeral keys under the result ([`wrap`], [`unwrap`]). Then the device sends its identity and its share of
//! the new ADV secret under the ephemeral agreement ([`seal_bundle`], [`open_bundle`]), and both compute that secret
//! ([`adv_secret`]). Source: docs/protocol.md, "Pairing code".

use aes_gcm::aead::AeadInOut;
use aes_gcm::aes::Aes256Enc;
use aes_gcm::aes::cipher::{BlockCipherEncrypt as _, consts::U12};
use aes_gcm::{AesGcm, KeyInit, Nonce, Tag};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{adv::keyed, entropy::Entropy};

/// What a code is written with: no 0, I, O, U.
const ALPHABET: &[u8; 32] = b"123456789ABCDEFGHJKLMNPQRSTVWXYZ";

/// Characters of a code.
pub const CODE_LEN: usize = 8;

/// PBKDF2's rounds: 131,072 of them make a guess at a code cost tens of milliseconds.
pub const ROUNDS: u32 = 1 << 17;

/// Bytes of a salt.
pub const SALT_LEN: usize = 32;

const IV_LEN: usize = 16;
const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// Bytes of a wrapped ephemeral key: salt, iv, key.
pub const WRAPPED_LEN: usize = SALT_LEN + IV_LEN + KEY_LEN;

/// Bytes of a bundle: salt, iv, two identities and the device's share, tag.
pub const BUNDLE_LEN: usize = SALT_LEN + NONCE_LEN + 3 * KEY_LEN + TAG_LEN;

const BUNDLE_INFO: &[u8] = b"link_code_pairing_key_bundle_encryption_key";
const SECRET_INFO: &[u8] = b"adv_secret";

/// A code of 40 random bits.
pub fn code(entropy: &mut dyn Entropy) -> [u8; CODE_LEN] {
    let mut random = [0; 8];
    entropy.fill(&mut random[3..]);
    let bits = u64::from_be_bytes(random);
    std::array::from_fn(|place| {
        let shift = 5 * (CODE_LEN - 1 - place);
        ALPHABET.get((bits >> shift & 31) as usize).copied().unwrap_or(b'1')
    })
}

/// Reads a code as a person types it: `abcd-efgh` is `ABCDEFGH`. `None` when it cannot be one.
#[must_use]
pub fn parse_code(text: &str) -> Option<[u8; CODE_LEN]> {
    let typed =
        text.bytes().filter(|byte| !matches!(byte, b'-' | b' ')).map(|byte| byte.to_ascii_uppercase());
    let code: Vec<u8> = typed.collect();
    let code: [u8; CODE_LEN] = code.try_into().ok()?;
    code.iter().all(|character| ALPHABET.contains(character)).then_some(code)
}

/// PBKDF2-HMAC-SHA256 of a code, in slices: the driver's thread serves other connections in between.
pub struct Stretch {
    keyed: Hmac<Sha256>,
    last: Zeroizing<[u8; KEY_LEN]>,
    sum: Zeroizing<[u8; KEY_LEN]>,
    left: u32,
}

impl std::fmt::Debug for Stretch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stretch").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Stretch {
    /// Begins; `rounds` is [`ROUNDS`] outside of tests.
    #[must_use]
    pub fn new(code: &[u8], salt: &[u8; SALT_LEN], rounds: u32) -> Self {
        let keyed = keyed(code);
        let mut mac = keyed.clone();
        mac.update(salt);
        mac.update(&1_u32.to_be_bytes());
        let first: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new(mac.finalize().into_bytes().into());
        Self { keyed, sum: first.clone(), last: first, left: rounds.saturating_sub(1) }
    }

    /// Does at most `rounds` more; the key when that was all.
    pub fn advance(&mut self, rounds: u32) -> Option<Zeroizing<[u8; KEY_LEN]>> {
        for _ in 0..rounds.min(self.left) {
            let mut mac = self.keyed.clone();
            mac.update(&*self.last);
            *self.last = mac.finalize().into_bytes().into();
            for (sum, byte) in self.sum.iter_mut().zip(*self.last) {
                *sum ^= byte;
            }
        }
        self.left -= rounds.min(self.left);
        (self.left == 0).then(|| self.sum.clone())
    }
}

/// Wraps an ephemeral public key under a stretched code. `salt` is the one that the code was stretched with.
#[must_use]
pub fn wrap(
    code_key: &[u8; KEY_LEN],
    salt: &[u8; SALT_LEN],
    iv: [u8; IV_LEN],
    public: &[u8; KEY_LEN],
) -> [u8; WRAPPED_LEN] {
    let mut sealed = *public;
    count_over(code_key, iv, &mut sealed);
    joined([salt, &iv[..], &sealed])
}

/// The salt of a wrapped key: what the code must be stretched with to open it.
#[must_use]
pub fn salt_of(wrapped: &[u8; WRAPPED_LEN]) -> [u8; SALT_LEN] {
    part(wrapped, 0)
}

/// Opens a wrapped ephemeral key. A wrong code opens it as well, as some other key.
#[must_use]
pub fn unwrap(code_key: &[u8; KEY_LEN], wrapped: &[u8; WRAPPED_LEN]) -> [u8; KEY_LEN] {
    let mut public = part(wrapped, SALT_LEN + IV_LEN);
    count_over(code_key, part(wrapped, SALT_LEN), &mut public);
    public
}

/// What the device sends sealed: both identities, and its share of the ADV secret.
#[derive(Clone, Copy)]
pub struct Bundle {
    /// The device's public identity key.
    pub companion: [u8; KEY_LEN],
    /// The account's.
    pub primary: [u8; KEY_LEN],
    /// 32 fresh random bytes.
    pub share: [u8; KEY_LEN],
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").finish_non_exhaustive()
    }
}

/// Seals a bundle under the ephemeral agreement; `None` never happens (GCM takes far more than 96 bytes).
#[must_use]
pub fn seal_bundle(
    agreement: &[u8; KEY_LEN],
    salt: &[u8; SALT_LEN],
    iv: [u8; NONCE_LEN],
    bundle: &Bundle,
) -> Option<[u8; BUNDLE_LEN]> {
    let mut sealed: [u8; 3 * KEY_LEN] = joined([&bundle.companion, &bundle.primary, &bundle.share]);
    let cipher = bundle_cipher(agreement, salt);
    let tag = cipher.encrypt_inout_detached(&iv.into(), &[], sealed.as_mut_slice().into()).ok()?;
    Some(joined([salt, &iv[..], &sealed, &tag[..]]))
}

/// Opens a bundle; `None` when it was not sealed under this agreement: a wrong code.
#[must_use]
pub fn open_bundle(agreement: &[u8; KEY_LEN], sealed: &[u8; BUNDLE_LEN]) -> Option<Bundle> {
    let nonce: [u8; NONCE_LEN] = part(sealed, SALT_LEN);
    let mut plain: [u8; 3 * KEY_LEN] = part(sealed, SALT_LEN + NONCE_LEN);
    let tag: [u8; TAG_LEN] = part(sealed, SALT_LEN + NONCE_LEN + 3 * KEY_LEN);
    let cipher = bundle_cipher(agreement, &part(sealed, 0));
    let nonce = Nonce::<U12>::from(nonce);
    cipher.decrypt_inout_detached(&nonce, &[], plain.as_mut_slice().into(), &Tag::from(tag)).ok()?;
    Some(Bundle {
        companion: part(&plain, 0),
        primary: part(&plain, KEY_LEN),
        share: part(&plain, 2 * KEY_LEN),
    })
}

/// The ADV secret that both sides now share.
#[must_use]
pub fn adv_secret(
    ephemeral_agreement: &[u8; KEY_LEN],
    identity_agreement: &[u8; KEY_LEN],
    share: &[u8; KEY_LEN],
) -> Zeroizing<[u8; KEY_LEN]> {
    let input = Zeroizing::new([&ephemeral_agreement[..], identity_agreement, share].concat());
    expand(None, &input, SECRET_INFO)
}

fn bundle_cipher(agreement: &[u8; KEY_LEN], salt: &[u8; SALT_LEN]) -> AesGcm<Aes256Enc, U12> {
    AesGcm::new((&*expand(Some(salt), agreement, BUNDLE_INFO)).into())
}

fn expand(salt: Option<&[u8]>, input: &[u8], info: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    // 32 bytes are within what HKDF-SHA256 gives.
    let _ = Hkdf::<Sha256>::new(salt, input).expand(info, &mut *key);
    key
}

/// AES-256-CTR over two blocks, the counter being all of the iv, big-endian.
fn count_over(key: &[u8; KEY_LEN], iv: [u8; IV_LEN], bytes: &mut [u8; KEY_LEN]) {
    let cipher = Aes256Enc::new(key.into());
    let first = u128::from_be_bytes(iv);
    for (index, block) in bytes.chunks_mut(IV_LEN).enumerate() {
        let mut stream = first.wrapping_add(index as u128).to_be_bytes().into();
        cipher.encrypt_block(&mut stream);
        for (byte, mask) in block.iter_mut().zip(stream) {
            *byte ^= mask;
        }
    }
}

/// `N` bytes from `at`; what is not there reads as 0, and callers leave nothing out.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut found = [0; N];
    for (to, from) in found.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    found
}

fn joined<const PARTS: usize, const N: usize>(parts: [&[u8]; PARTS]) -> [u8; N] {
    part(&parts.concat(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(u8);

    impl Entropy for Counting {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_mul(5).wrapping_add(17);
                *byte = self.0;
            }
        }
    }

    #[test]
    fn a_code_is_eight_characters_that_nobody_mistakes_and_is_read_as_people_type_it() {
        let made = code(&mut Counting(3));
        let text = str::from_utf8(&made).unwrap();
        assert_eq!(parse_code(text), Some(made));
        let typed = format!("{}-{}", &text[..4].to_lowercase(), &text[4..]);
        assert_eq!(parse_code(&typed), Some(made));
        for wrong in ["", "ABCD-EFG", "ABCD-EFGHJ", "ABCDEFG0", "ABCDEFGI", "ÄBCDEFGH"] {
            assert_eq!(parse_code(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_bit_of_the_randomness_is_in_the_code() {
        struct One(usize);
        impl Entropy for One {
            fn fill(&mut self, bytes: &mut [u8]) {
                bytes.fill(0);
                bytes[self.0 / 8] = 0x80 >> (self.0 % 8);
            }
        }
        let codes: std::collections::BTreeSet<_> = (0..40).map(|bit| code(&mut One(bit))).collect();
        assert_eq!(codes.len(), 40);
        assert_eq!(code(&mut One(39)), *b"11111112");
    }

    /// Computed with Python's `hashlib.pbkdf2_hmac`.
    #[test]
    fn stretching_is_pbkdf2_however_it_is_sliced() {
        let salt = *b"0123456789abcdefghijklmnopqrstuv";
        let expected = hex("6e865aedc7e0c8c9d4a911616a4872cdc8dbfe6592a2aa1f269b09f54a16293e");
        for slice in [1, 7, 4095, 4096, 10_000] {
            let mut stretch = Stretch::new(b"ABCDEFGH", &salt, 4096);
            let mut turns = 0;
            let key = loop {
                turns += 1;
                assert!(turns < 5000);
                if let Some(key) = stretch.advance(slice) {
                    break key;
                }
            };
            assert_eq!(*key, expected, "slices of {slice}");
        }
        let one = Stretch::new(b"ABCDEFGH", &salt, 1).advance(0).unwrap();
        assert_eq!(*one, hex("c88955604a8ab1882d7c2a4d0267f342e27e02b36e62b333fda97d8df546ab6c"));
    }

    /// Computed with Node's `crypto`: AES-256-CTR, a counter that carries over all 16 bytes.
    #[test]
    fn a_wrapped_key_is_what_others_write_and_opens_again() {
        let key: [u8; 32] = std::array::from_fn(|at| at as u8);
        let public: [u8; 32] = std::array::from_fn(|at| 0x40 + at as u8);
        let wrapped = wrap(&key, &[0xAA; 32], [0xFF; 16], &public);
        assert_eq!(salt_of(&wrapped), [0xAA; 32]);
        assert_eq!(
            part::<32>(&wrapped, 48),
            hex("a9d8a65e08e2369d1bce5b3011c219a1a2c152e57e1cc987f1aac031817329df")
        );
        assert_eq!(unwrap(&key, &wrapped), public);
        assert_ne!(unwrap(&[9; 32], &wrapped), public, "a wrong code opens it as something else");
    }

    /// Computed with Node's `crypto`: HKDF, then AES-256-GCM without further data.
    #[test]
    fn a_bundle_is_what_others_write_and_opens_under_the_same_agreement_only() {
        let bundle = Bundle { companion: [1; 32], primary: [2; 32], share: [3; 32] };
        let sealed = seal_bundle(&[7; 32], &[8; 32], [9; 12], &bundle).unwrap();
        assert_eq!(sealed.len(), 156);
        assert_eq!(
            part::<32>(&sealed, 124),
            hex("0bd18548b502e6a57347261595d6c63df12e6383d2e1cd4cbffde38cc88d7d42"),
            "the end, with the tag"
        );
        let opened = open_bundle(&[7; 32], &sealed).unwrap();
        assert_eq!((opened.companion, opened.primary, opened.share), ([1; 32], [2; 32], [3; 32]));
        assert!(open_bundle(&[6; 32], &sealed).is_none());
        let mut changed = sealed;
        changed[60] ^= 1;
        assert!(open_bundle(&[7; 32], &changed).is_none());
        assert_eq!(
            *adv_secret(&[1; 32], &[2; 32], &[3; 32]),
            hex("8a82f12de8f65571e0a25b79095ae8a5dc09a1bd72e0a886e25d5c9818087c4d")
        );
    }

    fn hex(text: &str) -> [u8; 32] {
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
    }
}

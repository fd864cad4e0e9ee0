//! Messages of a sender key.

use runner_xeddsa::SIGNATURE_LEN;

use super::proto::{Fields, Value, narrow, put_bytes, put_len, put_number};
use super::{VERSION, WireError, check_version, ciphertext, required};
use crate::PublicKey;
use crate::key::Secret;

/// `<enc type=skmsg>`: a message to a group.
#[derive(Clone, Copy, Debug)]
pub struct SenderKeyMessage<'a> {
    /// Names the sender key.
    pub key_id: u32,
    /// The message's number in the chain, from 0.
    pub iteration: u32,
    /// AES-256-CBC.
    pub ciphertext: &'a [u8],
    /// What the signature is over.
    pub signed: &'a [u8],
    /// XEdDSA by the sender key's signing key.
    pub signature: &'a [u8; SIGNATURE_LEN],
}

impl<'a> SenderKeyMessage<'a> {
    /// Reads a message; nothing of it is proved yet.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        check_version(bytes)?;
        let (signed, signature) = bytes.split_last_chunk().ok_or(WireError::Malformed)?;
        let mut fields = Fields::new(check_version(signed)?);
        let (mut key_id, mut iteration, mut sealed) = (None, 0, None);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Number(number)) => key_id = Some(narrow(number)?),
                (2, Value::Number(number)) => iteration = narrow(number)?,
                (3, Value::Bytes(bytes)) => sealed = Some(bytes),
                _ => {}
            }
        }
        Ok(Self {
            key_id: required(key_id, "key id")?,
            iteration,
            ciphertext: ciphertext(sealed)?,
            signed,
            signature,
        })
    }
}

/// Appends a [`SenderKeyMessage`] up to its signature; `seal` appends the ciphertext, which has `len` bytes.
pub(crate) fn write_sender_key(
    out: &mut Vec<u8>,
    key_id: u32,
    iteration: u32,
    len: usize,
    seal: impl FnOnce(&mut Vec<u8>),
) {
    out.push(VERSION);
    put_number(out, 1, key_id);
    put_number(out, 2, iteration);
    put_len(out, 3, len);
    seal(out);
}

/// A sender key as its owner hands it out, inside a pairwise message.
#[derive(Clone, Copy)]
pub struct SenderKeyDistribution<'a> {
    /// Names the sender key.
    pub key_id: u32,
    /// Where in its chain it begins.
    pub iteration: u32,
    /// The chain key at `iteration`; secret.
    pub chain_key: &'a [u8; 32],
    /// The key that verifies its messages.
    pub signing_key: PublicKey,
}

impl<'a> SenderKeyDistribution<'a> {
    /// Reads one; the pairwise message around it has proved it.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(check_version(bytes)?);
        let (mut key_id, mut iteration, mut chain_key, mut signing_key) = (None, 0, None, None);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Number(number)) => key_id = Some(narrow(number)?),
                (2, Value::Number(number)) => iteration = narrow(number)?,
                (3, Value::Bytes(key)) => chain_key = Some(key),
                (4, Value::Bytes(key)) => signing_key = Some(key),
                _ => {}
            }
        }
        let chain_key = required(chain_key, "chain key")?;
        Ok(Self {
            key_id: required(key_id, "key id")?,
            iteration,
            chain_key: chain_key.try_into().map_err(|_| WireError::Malformed)?,
            signing_key: PublicKey::from_wire(required(signing_key, "signing key")?)?,
        })
    }
}

impl std::fmt::Debug for SenderKeyDistribution<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SenderKeyDistribution")
            .field("key_id", &self.key_id)
            .field("iteration", &self.iteration)
            .field("signing_key", &self.signing_key)
            .finish_non_exhaustive()
    }
}

/// A [`SenderKeyDistribution`] on the wire.
pub(crate) fn write_distribution(
    key_id: u32,
    iteration: u32,
    chain_key: &Secret,
    signing_key: &PublicKey,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    out.push(VERSION);
    put_number(&mut out, 1, key_id);
    put_number(&mut out, 2, iteration);
    put_bytes(&mut out, 3, chain_key.expose());
    put_bytes(&mut out, 4, &signing_key.to_wire());
    out
}

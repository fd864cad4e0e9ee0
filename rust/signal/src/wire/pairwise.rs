//! Messages of a session.

use super::proto::{Fields, Value, narrow, put_bytes, put_len, put_number};
use super::{MAC_LEN, VERSION, WireError, check_version, ciphertext, required};
use crate::PublicKey;

/// `<enc type=msg>`: a message within a session.
#[derive(Clone, Copy, Debug)]
pub struct SignalMessage<'a> {
    /// The sender's ratchet key.
    pub ratchet_key: PublicKey,
    /// The message's number in the chain of that key, from 0.
    pub counter: u32,
    /// The number of the last message of the sender's chain before. Nothing here depends on it: a chain is kept until
    /// [`MAX_RECEIVING`](crate::session::MAX_RECEIVING) newer ones have come.
    pub previous_counter: u32,
    /// AES-256-CBC.
    pub ciphertext: &'a [u8],
    /// What the MAC is over, after the identities.
    pub authenticated: &'a [u8],
    /// The first bytes of the HMAC-SHA256.
    pub mac: [u8; MAC_LEN],
}

impl<'a> SignalMessage<'a> {
    /// Reads a message; nothing of it is proved yet.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        check_version(bytes)?;
        let (authenticated, mac) = bytes.split_last_chunk().ok_or(WireError::Malformed)?;
        let mut fields = Fields::new(check_version(authenticated)?);
        let (mut ratchet_key, mut counter, mut previous_counter, mut sealed) = (None, 0, 0, None);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(key)) => ratchet_key = Some(key),
                (2, Value::Number(number)) => counter = narrow(number)?,
                (3, Value::Number(number)) => previous_counter = narrow(number)?,
                (4, Value::Bytes(bytes)) => sealed = Some(bytes),
                _ => {}
            }
        }
        let ratchet_key = required(ratchet_key, "ratchet key")?;
        Ok(Self {
            ratchet_key: PublicKey::from_wire(ratchet_key)?,
            counter,
            previous_counter,
            ciphertext: ciphertext(sealed)?,
            authenticated,
            mac: *mac,
        })
    }
}

/// Appends a [`SignalMessage`] up to its MAC; `seal` appends the ciphertext, which has `len` bytes.
pub(crate) fn write_signal(
    out: &mut Vec<u8>,
    ratchet_key: &PublicKey,
    counter: u32,
    previous_counter: u32,
    len: usize,
    seal: impl FnOnce(&mut Vec<u8>),
) {
    out.push(VERSION);
    put_bytes(out, 1, &ratchet_key.to_wire());
    put_number(out, 2, counter);
    put_number(out, 3, previous_counter);
    put_len(out, 4, len);
    seal(out);
}

/// `<enc type=pkmsg>`: a message and what its receiver needs to make the session that it is in.
#[derive(Clone, Copy, Debug)]
pub struct PreKeySignalMessage<'a> {
    /// The sender's registration id.
    pub registration_id: u32,
    /// The one-time pre-key of ours that it used: load it. `None`: the server had none left.
    pub pre_key_id: Option<u32>,
    /// The signed pre-key of ours that it used: load it.
    pub signed_pre_key_id: u32,
    /// The sender's ephemeral key of X3DH; it names the session.
    pub base_key: PublicKey,
    /// The sender's identity key.
    pub identity: PublicKey,
    /// The message within.
    pub message: SignalMessage<'a>,
}

impl<'a> PreKeySignalMessage<'a> {
    /// Reads a message; nothing of it is proved yet.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(check_version(bytes)?);
        let (mut pre_key_id, mut base_key, mut identity, mut message) = (None, None, None, None);
        let (mut registration_id, mut signed_pre_key_id) = (0, None);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Number(number)) => pre_key_id = Some(narrow(number)?),
                (2, Value::Bytes(key)) => base_key = Some(key),
                (3, Value::Bytes(key)) => identity = Some(key),
                (4, Value::Bytes(bytes)) => message = Some(bytes),
                (5, Value::Number(number)) => registration_id = narrow(number)?,
                (6, Value::Number(number)) => signed_pre_key_id = Some(narrow(number)?),
                _ => {}
            }
        }
        Ok(Self {
            registration_id,
            pre_key_id,
            signed_pre_key_id: required(signed_pre_key_id, "signed pre-key's id")?,
            base_key: PublicKey::from_wire(required(base_key, "base key")?)?,
            identity: PublicKey::from_wire(required(identity, "identity key")?)?,
            message: SignalMessage::parse(required(message, "inner message")?)?,
        })
    }
}

/// What stands around a message until the peer has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PreKeyHeader {
    pub(crate) pre_key_id: Option<u32>,
    pub(crate) signed_pre_key_id: u32,
}

/// A [`PreKeySignalMessage`] around `message`.
pub(crate) fn write_pre_key(
    own: &PublicKey,
    registration_id: u32,
    header: PreKeyHeader,
    base_key: &PublicKey,
    message: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 96);
    out.push(VERSION);
    if let Some(id) = header.pre_key_id {
        put_number(&mut out, 1, id);
    }
    put_bytes(&mut out, 2, &base_key.to_wire());
    put_bytes(&mut out, 3, &own.to_wire());
    put_bytes(&mut out, 4, message);
    put_number(&mut out, 5, registration_id);
    put_number(&mut out, 6, header.signed_pre_key_id);
    out
}

//! Sessions with one device: X3DH makes them, the Double Ratchet carries them.
//!
//! A session record holds the current session of a device and up to [`MAX_ARCHIVED`] that were current before: a peer
//! goes on with an older one until it has heard of the newer, and when both sides begin at once each does.

use crate::{Bundle, Identity, PreKey, PreKeySignalMessage, PublicKey, Random, Record, RecordError, SignalMessage,
    SignedPreKey, WireError, pre_key::BundleError};

/// Message keys of messages that have not come, kept over all sessions of a record; beyond it the oldest go.
pub const MAX_SKIPPED: usize = 2_000;

/// How far ahead of its chain a message may be.
pub const MAX_JUMP: u32 = 2_000;

/// Chains of the peer that a session keeps, the newest included.
pub const MAX_RECEIVING: usize = 5;

/// Sessions kept beside the current one.
pub const MAX_ARCHIVED: usize = 40;

/// Longest lease. Two that a crash leaves unused, one after the other, stay far below a receiver's [`MAX_JUMP`].
pub const MAX_LEASE: u32 = 256;

/// What kind of `<enc>` a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// `pkmsg`: the peer has not answered in this session yet.
    PreKey,
    /// `msg`.
    Signal,
}

/// A message for the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ciphertext {
    /// The `type` of its `<enc>`.
    pub kind: MessageKind,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A message for the wire, and the record that must be durable before it leaves.
#[derive(Debug)]
pub struct Encrypted {
    /// The session record; commit it first.
    pub record: Record,
    /// Send it after the commit, and not if that fails.
    pub message: Ciphertext,
}

/// A read message, and the record that goes into the same transaction as it.
#[derive(Debug)]
pub struct Decrypted {
    /// The session record.
    pub record: Record,
    /// The content, still padded.
    pub plaintext: Vec<u8>,
    /// The one-time pre-key that is used up: delete it in the same transaction.
    pub used_pre_key: Option<u32>,
    /// The sender's identity key when the message began a session: pass it to
    /// [`identity::observe`](crate::identity::observe).
    pub new_identity: Option<PublicKey>,
}

/// The pre-keys of ours that a [`PreKeySignalMessage`] names, as far as the store has them. They are needed only when
/// the message begins a session that the record does not know.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamedPreKeys<'a> {
    /// The one under `signed_pre_key_id`.
    pub signed: Option<&'a SignedPreKey>,
    /// The one under `pre_key_id`.
    pub one_time: Option<&'a PreKey>,
}

/// A message that was not decrypted. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// The peer sent something that is no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It was decrypted before, or its key is too old to be kept. Nothing is missing: no retry is due.
    #[error("message {counter} of its chain was decrypted before")]
    Duplicate {
        /// Its number.
        counter: u32,
    },
    /// More than [`MAX_JUMP`] messages before it are missing; the peer's fault, or many were lost.
    #[error("message {counter} is too far ahead: its chain is at {next}")]
    TooFarAhead {
        /// Its number.
        counter: u32,
        /// Where the chain is.
        next: u32,
    },
    /// No session with this device is known.
    #[error("no session with the sender")]
    NoSession,
    /// No session opens it: forged, damaged, or the two sides have drifted apart.
    #[error("no session opens the message: wrong MAC")]
    BadMac,
    /// A key in it is of small order; the peer's fault.
    #[error("a key of the message is of small order")]
    WeakKey,
    /// The one-time pre-key is used up, or never was.
    #[error("unknown one-time pre-key {id}")]
    UnknownPreKey {
        /// Its id.
        id: u32,
    },
    /// The signed pre-key was rotated away, or never was.
    #[error("unknown signed pre-key {id}")]
    UnknownSignedPreKey {
        /// Its id.
        id: u32,
    },
    /// The session record cannot be read; the store's fault.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A message that was not encrypted. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// No session, or none that may still send: fetch the device's bundle and [`start`] one.
    #[error("no session with the receiver")]
    NoSession,
    /// The chain is at its end after 2^32 messages, or the lease is used up: the caller takes a new one.
    #[error("the lease or the chain is used up")]
    Spent,
    /// The plaintext does not fit into a message; the caller's fault.
    #[error("{len} bytes do not fit into a message")]
    TooLong {
        /// Its bytes.
        len: usize,
    },
    /// The session record cannot be read; the store's fault.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Makes a session from a peer's bundle (X3DH, initiator). The one that was current is archived.
///
/// # Errors
/// The bundle is bad (the peer's or the server's fault), or the record (the store's).
pub fn start(
    own: &Identity,
    record: Option<&[u8]>,
    bundle: &Bundle,
    random: &mut Random<'_>,
) -> Result<Record, BundleError> {
    let _ = (own, record, bundle, random);
    unimplemented!()
}

/// Encrypts one message.
///
/// Commit the record, then send; if the commit fails, forget both.
///
/// # Errors
/// See [`EncryptError`].
pub fn encrypt(
    own: &Identity,
    record: Option<&[u8]>,
    plaintext: &[u8],
    random: &mut Random<'_>,
) -> Result<Encrypted, EncryptError> {
    let _ = (own, record, plaintext, random);
    unimplemented!()
}

/// A block of message keys of one session that the record has already given away.
///
/// What it encrypts may leave at once, without a commit of its own: after a crash the record begins behind the block.
/// Keys that are never used cost the receiver nothing but a gap. Drop it when a message of the same session was
/// decrypted and the next one is to follow the ratchet (`Lease::is_current`); using it on is safe all the same.
#[derive(Debug)]
pub struct Lease {
    _private: (),
}

impl Lease {
    /// Encrypts one message with the next key of the block. `own` is the identity that took the lease.
    ///
    /// # Errors
    /// [`EncryptError::Spent`], [`EncryptError::TooLong`].
    pub fn encrypt(&mut self, own: &Identity, plaintext: &[u8]) -> Result<Ciphertext, EncryptError> {
        let _ = (own, plaintext);
        unimplemented!()
    }

    /// Keys that are left.
    #[must_use]
    pub const fn left(&self) -> u32 {
        unimplemented!()
    }

    /// Whether the block is of the chain with which `record` sends now.
    ///
    /// # Errors
    /// The record is damaged.
    pub fn is_current(&self, record: &[u8]) -> Result<bool, RecordError> {
        let _ = record;
        unimplemented!()
    }
}

/// A lease, and the record that must be durable before it is used.
#[derive(Debug)]
pub struct Leased {
    /// The session record; commit it first.
    pub record: Record,
    /// Use it after the commit, and drop it if that fails.
    pub lease: Lease,
}

/// Takes `count` message keys out of the session's sending chain, `1..=MAX_LEASE`.
///
/// # Errors
/// See [`EncryptError`].
pub fn lease(
    record: Option<&[u8]>,
    count: u32,
    random: &mut Random<'_>,
) -> Result<Leased, EncryptError> {
    let _ = (record, count, random);
    unimplemented!()
}

/// Decrypts a `msg`, with the current session or an archived one, which then becomes current.
///
/// # Errors
/// See [`DecryptError`].
pub fn decrypt(
    own: &Identity,
    record: Option<&[u8]>,
    message: &SignalMessage<'_>,
) -> Result<Decrypted, DecryptError> {
    let _ = (own, record, message);
    unimplemented!()
}

/// Decrypts a `pkmsg`: with the session that its base key names, else with a new one (X3DH, responder).
///
/// # Errors
/// See [`DecryptError`].
pub fn decrypt_pre_key(
    own: &Identity,
    record: Option<&[u8]>,
    pre_keys: NamedPreKeys<'_>,
    message: &PreKeySignalMessage<'_>,
) -> Result<Decrypted, DecryptError> {
    let _ = (own, record, pre_keys, message);
    unimplemented!()
}

/// What a session record says of itself, without secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The current session, when there is one that may send.
    pub current: Option<CurrentSession>,
    /// Sessions beside the current one.
    pub archived: usize,
    /// Message keys of messages that have not come.
    pub skipped: usize,
}

/// The current session, for the retry rules of docs/protocol.md, "Retry receipts".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentSession {
    /// The peer's identity key.
    pub remote_identity: PublicKey,
    /// The peer's registration id; another one in a retry receipt means that the device was linked anew.
    pub remote_registration_id: u32,
    /// The initiator's ephemeral key of X3DH; names the session.
    pub base_key: PublicKey,
    /// Whether the peer has not answered yet, so that we send `pkmsg`.
    pub is_pending: bool,
}

/// Reads a record for its caller's decisions.
///
/// # Errors
/// The record is damaged.
pub fn summary(record: &[u8]) -> Result<Summary, RecordError> {
    let _ = record;
    unimplemented!()
}

/// Archives the current session, so that the next message needs a new one; it still decrypts.
///
/// # Errors
/// The record is damaged.
pub fn archive(record: &[u8]) -> Result<Record, RecordError> {
    let _ = record;
    unimplemented!()
}

/// Makes every session of the record one that never sends again, since its sending chain may have been used after the
/// record was written: for records out of a backup. They still decrypt.
///
/// # Errors
/// The record is damaged.
pub fn retire(record: &[u8]) -> Result<Record, RecordError> {
    let _ = record;
    unimplemented!()
}

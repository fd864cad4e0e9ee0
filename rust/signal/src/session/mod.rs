//! Sessions with one device: X3DH makes them, the Double Ratchet carries them.
//!
//! A session record holds the current session of a device and up to [`MAX_ARCHIVED`] that were current before: a peer
//! goes on with an older one until it has heard of the newer, and when both sides begin at once each does.

mod decrypt;
mod lease;
pub(crate) mod sessions;
pub(crate) mod state;

pub use decrypt::{DecryptError, Decrypted, NamedPreKeys, decrypt, decrypt_pre_key};
pub use lease::{Lease, Leased, lease};

use sessions::Sessions;
use state::State;

use crate::pre_key::{Bundle, BundleError};
use crate::{Identity, PublicKey, Random, Record, RecordError, chain};

/// Message keys of messages that have not come, kept over all sessions of a record; beyond it the oldest go.
pub const MAX_SKIPPED: usize = chain::MAX_SKIPPED;

/// How far ahead of its chain a message may be.
pub const MAX_JUMP: u32 = chain::MAX_JUMP;

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
    bundle.verify()?;
    let mut sessions = decode(record)?;
    sessions.begin(State::initiate(own, bundle, random).ok_or(BundleError::WeakKey)?);
    sessions.trim();
    Ok(sessions.encode())
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
    let Leased { record, mut lease } = lease(own, record, 1, random)?;
    Ok(Encrypted { message: lease.encrypt(plaintext)?, record })
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

/// The current session, for whoever decides about retries and new sessions.
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
    let sessions = Sessions::decode(record)?;
    Ok(Summary {
        current: sessions.current.as_ref().filter(|state| !state.is_retired).map(State::summary),
        archived: sessions.archived.len(),
        skipped: sessions.skipped(),
    })
}

/// Archives the current session, so that the next message needs a new one; it still decrypts.
///
/// # Errors
/// The record is damaged.
pub fn archive(record: &[u8]) -> Result<Record, RecordError> {
    let mut sessions = Sessions::decode(record)?;
    sessions.archive();
    Ok(sessions.encode())
}

/// Makes every session of the record one that never sends again, since its sending chain may have been used after the
/// record was written: for records out of a backup. They still decrypt.
///
/// # Errors
/// The record is damaged.
pub fn retire(record: &[u8]) -> Result<Record, RecordError> {
    let mut sessions = Sessions::decode(record)?;
    for state in sessions.all_mut() {
        state.is_retired = true;
    }
    Ok(sessions.encode())
}

/// The sessions of a record, none when there is no record yet.
fn decode(record: Option<&[u8]>) -> Result<Sessions, RecordError> {
    record.map_or_else(|| Ok(Sessions::default()), Sessions::decode)
}

//! Sessions with one device: X3DH makes them, the Double Ratchet carries them.
//!
//! A session record holds the current session of a device and up to [`MAX_ARCHIVED`] that were current before: a peer
//! goes on with an older one until it has heard of the newer, and when both sides begin at once each does.

mod lease;
pub(crate) mod sessions;
pub(crate) mod state;

pub use lease::{Lease, Leased, lease};

use sessions::Sessions;
use state::{NotOpened, State};

use crate::{
    Bundle, Identity, PreKey, PreKeySignalMessage, PublicKey, Random, Record, RecordError, SignalMessage,
    SignedPreKey, WireError, chain, pre_key::BundleError,
};

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

/// Steps of chains that are hashed for one message, over all sessions that are tried: what a forged message can cost.
const MAX_WORK: u32 = 2 * MAX_JUMP;

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
    /// It is the peer's, and its content is not padded as it must be: the peer's program is broken.
    #[error("the message is authentic and not padded as PKCS #7 says")]
    Padding,
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

/// Decrypts a `msg`, with the current session or an archived one, which then becomes current.
///
/// # Errors
/// See [`DecryptError`].
pub fn decrypt(
    own: &Identity,
    record: Option<&[u8]>,
    message: &SignalMessage<'_>,
) -> Result<Decrypted, DecryptError> {
    let mut sessions = decode(record)?;
    let mut work = MAX_WORK;
    let mut verdict = DecryptError::NoSession;
    let mut opened = None;
    for (place, state) in sessions.all_mut().enumerate() {
        match state.open(own, message, &mut work) {
            Ok(plaintext) => {
                opened = Some((place, plaintext));
                break;
            }
            Err(NotOpened::Ours(error)) => return Err(error),
            // The newest session's verdict is the one that says most.
            Err(NotOpened::NotOurs(error)) if verdict == DecryptError::NoSession => verdict = error,
            Err(NotOpened::NotOurs(_)) => {}
        }
    }
    let (place, plaintext) = opened.ok_or(verdict)?;
    Ok(sessions.decrypted(place, plaintext))
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
    let mut sessions = decode(record)?;
    let mut work = MAX_WORK;
    let is_named = |state: &State| {
        state.base_key == message.base_key && state.remote_identity == message.identity && !state.is_initiator
    };
    let named = sessions.all_mut().enumerate().find(|(_, state)| is_named(state));
    if let Some((place, state)) = named {
        let plaintext = state.open(own, &message.message, &mut work).map_err(NotOpened::verdict)?;
        return Ok(sessions.decrypted(place, plaintext));
    }
    let signed =
        pre_keys.signed.ok_or(DecryptError::UnknownSignedPreKey { id: message.signed_pre_key_id })?;
    let one_time = match message.pre_key_id {
        None => None,
        Some(id) => Some(&pre_keys.one_time.ok_or(DecryptError::UnknownPreKey { id })?.pair),
    };
    let mut state = State::respond(own, signed, one_time, message).ok_or(DecryptError::WeakKey)?;
    let plaintext = state.open(own, &message.message, &mut work).map_err(NotOpened::verdict)?;
    sessions.begin(state);
    Ok(Decrypted {
        used_pre_key: message.pre_key_id,
        new_identity: Some(message.identity),
        ..sessions.decrypted(0, plaintext)
    })
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

impl Sessions {
    /// The outcome of a message that the session at `place` opened.
    fn decrypted(mut self, place: usize, plaintext: Vec<u8>) -> Decrypted {
        self.promote(place);
        self.trim();
        Decrypted { record: self.encode(), plaintext, used_pre_key: None, new_identity: None }
    }
}

impl NotOpened {
    const fn verdict(self) -> DecryptError {
        match self {
            Self::Ours(error) | Self::NotOurs(error) => error,
        }
    }
}

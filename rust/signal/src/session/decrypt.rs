//! Decrypting: which session a message is for, and what it makes of the record.

use std::fmt;

use super::sessions::Sessions;
use super::state::{NotOpened, State};
use super::{MAX_JUMP, decode};
use crate::{
    Identity, PreKey, PreKeySignalMessage, PublicKey, Record, RecordError, SignalMessage, SignedPreKey,
    WireError,
};

/// Steps of chains that are hashed for one message, over all sessions that are tried: what a forged message can cost.
const MAX_WORK: u32 = 2 * MAX_JUMP;

/// A read message, and the record that goes into the same transaction as it. The content, which may be somebody's sender
/// key, is never printed.
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

impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decrypted")
            .field("record", &self.record)
            .field("plaintext", &format_args!("{} bytes", self.plaintext.len()))
            .field("used_pre_key", &self.used_pre_key)
            .field("new_identity", &self.new_identity)
            .finish()
    }
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
    /// It was decrypted before: nothing is missing, no retry is due. Or its key was not kept, after so many others had
    /// come; whether it is missing then says the caller's own memory of message ids.
    #[error("message {counter} of its chain was decrypted before, or its key is not kept any more")]
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
    let (place, plaintext) = sessions.open(own, message, &mut MAX_WORK.clone())?;
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

impl Sessions {
    /// The content of a message, and the place of the session that opened it.
    fn open(
        &mut self,
        own: &Identity,
        message: &SignalMessage<'_>,
        work: &mut u32,
    ) -> Result<(usize, Vec<u8>), DecryptError> {
        // A ratchet key that a session knows says which one it is. Only without one are the newest tried first, each at
        // the cost of a turn of the ratchet and of the way to the message's number.
        let known = self.all_mut().enumerate().find(|(_, state)| state.knows(&message.ratchet_key));
        if let Some((place, state)) = known {
            let plaintext = state.open(own, message, work).map_err(NotOpened::verdict)?;
            return Ok((place, plaintext));
        }
        let mut verdict = DecryptError::NoSession;
        for (place, state) in self.all_mut().enumerate() {
            match state.open(own, message, work) {
                Ok(plaintext) => return Ok((place, plaintext)),
                Err(NotOpened::Ours(error)) => return Err(error),
                // The newest session's verdict is the one that says most.
                Err(NotOpened::NotOurs(error)) if verdict == DecryptError::NoSession => verdict = error,
                Err(NotOpened::NotOurs(_)) => {}
            }
        }
        Err(verdict)
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Commit, Device};

    #[test]
    fn a_forged_message_costs_no_more_with_many_sessions() {
        let (mut a, mut b) = (Device::new(1), Device::new(2));
        for _ in 0..10 {
            a.start(&b.bundle(false));
        }
        let forged = a.encrypt(b"x", 1, Commit::Done).expect("a session").bytes;
        let forged = PreKeySignalMessage::parse(&forged).expect("whole").message;
        let forged = SignalMessage { ratchet_key: *b.identity.public(), counter: 1_500, ..forged };
        let mut sessions = Sessions::decode(a.record().expect("started")).expect("whole");
        let mut work = MAX_WORK;
        assert_eq!(sessions.open(&a.identity, &forged, &mut work), Err(DecryptError::BadMac));
        assert_eq!(work, MAX_WORK - 2 * 1_500, "two sessions were tried, no third");
    }
}

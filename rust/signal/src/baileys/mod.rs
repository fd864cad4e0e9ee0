//! Records of Baileys, as `useMultiFileAuthState` writes them, into ours and back.
//!
//! It is here because only this crate knows what is in its records: anywhere else, the secrets of a session would have to
//! leave it in some open form. What a file is called and to whom it belongs is not known here; the caller pairs file names
//! with addresses. The layouts were learned from files that real Baileys wrote, and are proved by its going on with ours
//! (tests/interop/test_signal_baileys_files.py).
//!
//! Whoever exports a session must not go on with it: two programs on one ratchet drift apart.

mod bytes;
mod sender_key;
mod session;

use serde::{Deserialize, Serialize};

use self::bytes::{Buffer, Bytes};
use crate::{KeyPair, PreKey, Record, RecordError, identity};

pub use sender_key::{sender_key_json, sender_key_record};
pub use session::{session_json, session_record};

/// A file that is no such record; the fault of the program that wrote it, or of what happened to the file since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It is cut off, not JSON, or JSON of another shape.
    #[error("not the JSON of a {what}")]
    Json {
        /// What it was to be.
        what: &'static str,
    },
    /// A field does not hold what it must.
    #[error("`{field}` of a {what} is missing or wrong")]
    Field {
        /// What it was to be.
        what: &'static str,
        /// The field, as the file names it.
        field: &'static str,
    },
    /// It holds no session, or no sender key.
    #[error("the {what} is empty")]
    Empty {
        /// What it was to be.
        what: &'static str,
    },
}

/// A record, and how much of its source could not be taken over.
#[derive(Debug)]
pub struct Imported {
    /// Our record.
    pub record: Record,
    /// Sessions or sender keys of the file that are damaged or too many, beside the one that is in use.
    pub left_out: usize,
}

/// `pre-key-ID.json`.
///
/// # Errors
/// See [`ImportError`].
pub fn pre_key_record(id: u32, json: &[u8]) -> Result<Record, ImportError> {
    const WHAT: &str = "pre-key";
    let pair: Pair<Bytes> = serde_json::from_slice(json).map_err(|_| ImportError::Json { what: WHAT })?;
    let secret = pair.private.secret().ok_or(ImportError::Field { what: WHAT, field: "private" })?;
    Ok(PreKey { id, pair: KeyPair::of(secret) }.to_record())
}

/// The content of `pre-key-ID.json`, and the id.
///
/// # Errors
/// The record is damaged.
pub fn pre_key_json(record: &[u8]) -> Result<(u32, Vec<u8>), RecordError> {
    let PreKey { id, pair } = PreKey::from_record(record)?;
    Ok((
        id,
        json(&Pair {
            private: Buffer::base64(pair.expose()),
            public: Buffer::base64(pair.public().as_bytes()),
        }),
    ))
}

/// `identity-key-ADDRESS.json`.
///
/// # Errors
/// See [`ImportError`].
pub fn identity_record(json: &[u8]) -> Result<Record, ImportError> {
    const WHAT: &str = "identity key";
    let key: Bytes = serde_json::from_slice(json).map_err(|_| ImportError::Json { what: WHAT })?;
    let key = key.public().ok_or(ImportError::Field { what: WHAT, field: "data" })?;
    Ok(identity::to_record(&key))
}

/// The content of `identity-key-ADDRESS.json`.
///
/// # Errors
/// The record is damaged.
pub fn identity_json(record: &[u8]) -> Result<Vec<u8>, RecordError> {
    Ok(json(&Buffer::base64(&identity::from_record(record)?.to_wire())))
}

/// A key pair with halves of some form.
#[derive(Deserialize, Serialize)]
struct Pair<T> {
    private: T,
    public: T,
}

/// JSON of what has only text, numbers and lists in it, which cannot fail.
fn json(value: &impl Serialize) -> Vec<u8> {
    let out = serde_json::to_vec(value);
    debug_assert!(out.is_ok());
    out.unwrap_or_default()
}

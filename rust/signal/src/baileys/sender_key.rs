//! `sender-key-GROUP--USER--DEVICE.json`: a buffer that is itself JSON, a list of keys, oldest first.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::bytes::{Buffer, Bytes};
use super::{ImportError, Imported, json};
use crate::RecordError;
use crate::chain::{Receiving, Skipped};
use crate::group::MAX_KEYS;
use crate::group::keys::{SenderKey, SenderKeys};
use crate::key::Secret;

const WHAT: &str = "sender key";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[serde(bound(deserialize = "T: Deserialize<'de> + Default"))]
struct Key<T> {
    sender_key_id: u32,
    sender_chain_key: Step<T>,
    sender_signing_key: Signing<T>,
    sender_message_keys: Vec<Step<T>>,
}

#[derive(Deserialize, Serialize)]
#[serde(bound(deserialize = "T: Deserialize<'de> + Default"))]
struct Signing<T> {
    public: T,
    /// Empty, or not there at all, in the keys of others.
    #[serde(default)]
    private: T,
}

/// A chain key, or a message's seed, and its number.
#[derive(Deserialize, Serialize)]
struct Step<T> {
    iteration: u32,
    seed: T,
}

/// Our record of a sender-key file. A device's own sender key comes with what it signs by, so it can go on sending.
///
/// # Errors
/// See [`ImportError`].
pub fn sender_key_record(json: &[u8]) -> Result<Imported, ImportError> {
    let malformed = |_| ImportError::Json { what: WHAT };
    let inner: Bytes = serde_json::from_slice(json).map_err(malformed)?;
    let listed: Vec<&RawValue> = serde_json::from_slice(inner.as_slice()).map_err(malformed)?;
    let newest = listed.len().checked_sub(1).ok_or(ImportError::Empty { what: WHAT })?;
    let (mut keys, mut left_out) = (SenderKeys::default(), 0);
    for (at, key) in listed.into_iter().enumerate() {
        match from_json(key) {
            Ok(key) => keys.merge(key),
            Err(error) if at == newest => return Err(error),
            Err(_) => left_out += 1,
        }
    }
    left_out += keys.keys.len().saturating_sub(MAX_KEYS);
    keys.keys.truncate(MAX_KEYS);
    keys.trim();
    Ok(Imported { record: keys.encode(), left_out })
}

fn from_json(json: &RawValue) -> Result<SenderKey, ImportError> {
    let key: Key<Bytes> = serde_json::from_str(json.get()).map_err(|_| ImportError::Json { what: WHAT })?;
    let signing = key.sender_signing_key;
    let next = key.sender_chain_key.iteration;
    let mut skipped = Vec::with_capacity(key.sender_message_keys.len());
    for one in key.sender_message_keys {
        let seed = field(one.seed.secret(), "senderMessageKeys")?;
        skipped.push(Skipped { index: one.iteration, seed });
    }
    let mut chain = Receiving {
        next,
        key: Some(field(key.sender_chain_key.seed.secret(), "senderChainKey")?),
        skipped: Vec::new(),
    };
    chain.add_skipped(skipped);
    Ok(SenderKey {
        id: key.sender_key_id,
        signing_key: field(signing.public.public(), "senderSigningKey.public")?,
        signing_secret: match signing.private.as_slice() {
            [] => None,
            _ => Some(field(signing.private.secret(), "senderSigningKey.private")?),
        },
        chain,
    })
}

impl SenderKeys {
    /// Adds a key that is newer than those that are there. One that Baileys was told twice stands in its file twice: the
    /// longer chain counts, and what either had skipped.
    fn merge(&mut self, mut key: SenderKey) {
        let is_same = |known: &SenderKey| known.id == key.id && known.signing_key == key.signing_key;
        if let Some(at) = self.keys.iter().position(is_same) {
            let mut known = self.keys.remove(at);
            if known.chain.next > key.chain.next {
                std::mem::swap(&mut known.chain, &mut key.chain);
            }
            key.chain.add_skipped(known.chain.skipped);
            key.signing_secret = key.signing_secret.or(known.signing_secret);
        }
        self.keys.insert(0, key);
    }
}

/// The content of a sender-key file.
///
/// # Errors
/// The record is damaged.
pub fn sender_key_json(record: &[u8]) -> Result<Vec<u8>, RecordError> {
    let keys = SenderKeys::decode(record)?;
    let list: Vec<_> = keys.keys.iter().rev().map(to_json).collect();
    Ok(json(&Buffer::base64(&json(&list))))
}

fn to_json(key: &SenderKey) -> Key<Buffer> {
    let private = key.signing_secret.as_ref().map_or(&[][..], |secret| secret.expose());
    let step = |iteration, seed: &Secret| Step { iteration, seed: Buffer::numbers(seed.expose()) };
    let chain =
        key.chain.key.as_ref().map_or_else(|| Buffer::numbers(&[]), |key| Buffer::numbers(key.expose()));
    Key {
        sender_key_id: key.id,
        sender_chain_key: Step { iteration: key.chain.next, seed: chain },
        sender_signing_key: Signing {
            public: Buffer::numbers(&key.signing_key.to_wire()),
            private: Buffer::numbers(private),
        },
        sender_message_keys: key.chain.skipped.iter().map(|one| step(one.index, &one.seed)).collect(),
    }
}

fn field<T>(value: Option<T>, field: &'static str) -> Result<T, ImportError> {
    value.ok_or(ImportError::Field { what: WHAT, field })
}

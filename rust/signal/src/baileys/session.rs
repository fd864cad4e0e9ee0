//! `session-USER.DEVICE.json`: sessions by their base keys, in base64 with the type byte.
//!
//! One that is not `closed` is in use; Baileys sends with that, and reads with all. Its chains count the last number
//! that was used, from -1; ours the next. A receiving chain without its chain key is closed: Baileys closes one as soon
//! as a newer comes, ours stay open, and both read what was skipped. Baileys turns the whole ratchet when a new key
//! comes, we do the sending half when there is something to send, so it is done for the export.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::bytes::{Bytes, to_base64};
use super::{ImportError, Imported, json};
use crate::chain::{Receiving, Skipped};
use crate::session::sessions::Sessions;
use crate::session::state::{Sending, State};
use crate::session::{MAX_ARCHIVED, MAX_RECEIVING};
use crate::wire::PreKeyHeader;
use crate::{KeyPair, PublicKey, Random, RecordError};

const WHAT: &str = "session";
const VERSION: &str = "v1";

/// `indexInfo.closed` of the session in use.
const OPEN: i64 = -1;

const OURS: u8 = 1;
const THEIRS: u8 = 2;
const SENDING: u8 = 1;
const RECEIVING: u8 = 2;

/// A JSON object in the order in which it is written.
struct Ordered<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Deserialize)]
struct Written<'a> {
    /// Read one by one, so that a damaged one costs only itself.
    #[serde(rename = "_sessions", borrow)]
    sessions: Ordered<&'a RawValue>,
    #[serde(borrow)]
    version: Cow<'a, str>,
}

#[derive(Serialize)]
struct ToWrite {
    #[serde(rename = "_sessions")]
    sessions: Ordered<Session<String>>,
    version: &'static str,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Session<T> {
    registration_id: u32,
    current_ratchet: Ratchet<T>,
    index_info: Index<T>,
    #[serde(rename = "_chains")]
    chains: Ordered<Chain<T>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_pre_key: Option<Pending<T>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ratchet<T> {
    ephemeral_key_pair: Pair<T>,
    last_remote_ephemeral_key: T,
    previous_counter: i64,
    root_key: T,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pair<T> {
    pub_key: T,
    priv_key: T,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<T> {
    base_key: T,
    base_key_type: u8,
    /// Unix milliseconds, or [`OPEN`].
    closed: i64,
    used: i64,
    created: i64,
    remote_identity_key: T,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Chain<T> {
    chain_key: Step<T>,
    chain_type: u8,
    message_keys: BTreeMap<u32, T>,
}

#[derive(Deserialize, Serialize)]
struct Step<T> {
    counter: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<T>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pending<T> {
    signed_key_id: u32,
    base_key: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pre_key_id: Option<u32>,
}

/// Our record of a session file. Damaged sessions that were not in use are left out.
///
/// # Errors
/// See [`ImportError`].
pub fn session_record(json: &[u8]) -> Result<Imported, ImportError> {
    let malformed = ImportError::Json { what: WHAT };
    let file: Written<'_> = serde_json::from_slice(json).map_err(|_| malformed)?;
    if file.version != VERSION {
        return Err(ImportError::Field { what: WHAT, field: "version" });
    }
    let (mut read, mut damaged, mut left_out) = (Vec::new(), None, 0);
    for (_, session) in file.sessions.0 {
        let session = serde_json::from_str::<Session<Bytes>>(session.get())
            .map_err(|_| malformed)
            .and_then(|session| Ok((session.index_info.closed, session.index_info.used, state(session)?)));
        match session {
            Ok(session) => read.push(session),
            Err(error) => {
                damaged = Some(error);
                left_out += 1;
            }
        }
    }
    // The newest first: of those that are open the one that was used last, then by when they were closed.
    read.sort_by_key(|&(closed, used, _)| Reverse((closed == OPEN, closed, used)));
    let is_in_use = read.first().is_some_and(|&(closed, ..)| closed == OPEN);
    let mut states = read.into_iter().map(|(_, _, state)| state);
    let current = if is_in_use { states.next() } else { None };
    let mut archived: Vec<State> = states.collect();
    left_out += archived.len().saturating_sub(MAX_ARCHIVED);
    archived.truncate(MAX_ARCHIVED);
    let mut sessions = Sessions { current, archived };
    if sessions.all().next().is_none() {
        return Err(damaged.unwrap_or(ImportError::Empty { what: WHAT }));
    }
    sessions.trim();
    Ok(Imported { record: sessions.encode(), left_out })
}

fn state(session: Session<Bytes>) -> Result<State, ImportError> {
    let public = |key: &Bytes, name| field(key.public(), name);
    let (ratchet, index) = (session.current_ratchet, session.index_info);
    let pair = KeyPair::of(field(ratchet.ephemeral_key_pair.priv_key.secret(), "privKey")?);
    let (mut sending, mut receiving) = (Sending::Step, Vec::new());
    for (name, chain) in session.chains.0 {
        let name = field(Bytes::from_base64(&name).as_ref().and_then(Bytes::public), "_chains")?;
        let chain_type = chain.chain_type;
        let chain = field(receiving_chain(chain), "chainKey")?;
        match (chain_type, chain.head()) {
            (RECEIVING, _) => receiving.push((name, chain)),
            (SENDING, Some(chain)) if name == *pair.public() => {
                sending = Sending::Chain { ratchet: pair.clone(), chain };
            }
            _ => {}
        }
    }
    receiving.drain(..receiving.len().saturating_sub(MAX_RECEIVING));
    Ok(State {
        remote_identity: public(&index.remote_identity_key, "remoteIdentityKey")?,
        remote_registration_id: session.registration_id,
        base_key: public(&index.base_key, "baseKey")?,
        is_initiator: index.base_key_type == OURS,
        is_retired: false,
        root: field(ratchet.root_key.secret(), "rootKey")?,
        remote_ratchet: public(&ratchet.last_remote_ephemeral_key, "lastRemoteEphemeralKey")?,
        sending,
        previous_counter: u32::try_from(ratchet.previous_counter).unwrap_or(0),
        pending: session.pending_pre_key.map(|pending| PreKeyHeader {
            pre_key_id: pending.pre_key_id,
            signed_pre_key_id: pending.signed_key_id,
        }),
        receiving,
    })
}

/// A chain, whichever its direction.
fn receiving_chain(chain: Chain<Bytes>) -> Option<Receiving> {
    let key = match chain.chain_key.key {
        None => None,
        Some(key) => Some(key.secret()?),
    };
    let mut skipped = Vec::with_capacity(chain.message_keys.len());
    for (index, seed) in chain.message_keys {
        skipped.push(Skipped { index, seed: seed.secret()? });
    }
    let next = u32::try_from(chain.chain_key.counter.checked_add(1)?).ok()?;
    let mut chain = Receiving { next, key, skipped: Vec::new() };
    chain.add_skipped(skipped);
    Some(chain)
}

/// The content of a session file. `random` is for the half turn of the ratchet that Baileys has done before it sends.
///
/// # Errors
/// The record is damaged.
pub fn session_json(
    record: &[u8],
    now_unix_ms: u64,
    random: &mut Random<'_>,
) -> Result<Vec<u8>, RecordError> {
    let Sessions { current, archived } = Sessions::decode(record)?;
    let now = i64::try_from(now_unix_ms).unwrap_or(i64::MAX);
    let mut sessions = Vec::with_capacity(1 + archived.len());
    // Oldest first, as Baileys has them, each closed a little later than the one before.
    for (age, state) in (1_i64..).zip(archived).collect::<Vec<_>>().into_iter().rev() {
        sessions.extend(from_state(state, now.saturating_sub(age), false, random));
    }
    if let Some(state) = current {
        let is_open = !state.is_retired;
        sessions.extend(from_state(state, now, is_open, random));
    }
    let sessions =
        sessions.into_iter().map(|session| (session.index_info.base_key.clone(), session)).collect();
    Ok(json(&ToWrite { sessions: Ordered(sessions), version: VERSION }))
}

/// `None`: a session that could not send, which is none to Baileys.
fn from_state(
    mut state: State,
    used: i64,
    is_open: bool,
    random: &mut Random<'_>,
) -> Option<Session<String>> {
    let key = |key: &PublicKey| to_base64(&key.to_wire());
    state.step(random)?;
    let Sending::Chain { ratchet, chain } = &state.sending else { return None };
    let mut chains: Vec<_> =
        state.receiving.iter().map(|(name, chain)| (key(name), from_chain(chain, RECEIVING))).collect();
    chains.push((key(ratchet.public()), from_chain(&Receiving::new(chain.clone()), SENDING)));
    let base_key = key(&state.base_key);
    Some(Session {
        registration_id: state.remote_registration_id,
        current_ratchet: Ratchet {
            ephemeral_key_pair: Pair {
                pub_key: key(ratchet.public()),
                priv_key: to_base64(ratchet.expose()),
            },
            last_remote_ephemeral_key: key(&state.remote_ratchet),
            previous_counter: state.previous_counter.into(),
            root_key: to_base64(state.root.expose()),
        },
        index_info: Index {
            base_key: base_key.clone(),
            base_key_type: if state.is_initiator { OURS } else { THEIRS },
            closed: if is_open { OPEN } else { used },
            used,
            created: used,
            remote_identity_key: key(&state.remote_identity),
        },
        chains: Ordered(chains),
        pending_pre_key: state.pending.map(|pending| Pending {
            signed_key_id: pending.signed_pre_key_id,
            base_key,
            pre_key_id: pending.pre_key_id,
        }),
    })
}

fn from_chain(chain: &Receiving, chain_type: u8) -> Chain<String> {
    Chain {
        chain_key: Step {
            counter: i64::from(chain.next) - 1,
            key: chain.key.as_ref().map(|key| to_base64(key.expose())),
        },
        chain_type,
        message_keys: chain.skipped.iter().map(|one| (one.index, to_base64(one.seed.expose()))).collect(),
    }
}

fn field<T>(value: Option<T>, field: &'static str) -> Result<T, ImportError> {
    value.ok_or(ImportError::Field { what: WHAT, field })
}

//! All sessions with one device, as their record holds them.

use super::state::{Sending, State};
use super::{MAX_ARCHIVED, MAX_RECEIVING, MAX_SKIPPED};
use crate::kdf::ChainKey;
use crate::record::{self, Kind, Reader, Writer};
use crate::wire::PreKeyHeader;
use crate::{KeyPair, Record, RecordError};

/// The current session and those that were current before, newest first.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) current: Option<State>,
    pub(crate) archived: Vec<State>,
}

impl Sessions {
    pub(crate) fn decode(record: &[u8]) -> Result<Self, RecordError> {
        record::read(Kind::Session, record, |reader| {
            let current = match reader.u8()? {
                0 => None,
                1 => Some(read_state(reader)?),
                _ => return None,
            };
            let archived = reader.list(MAX_ARCHIVED, read_state)?;
            let sessions = Self { current, archived };
            (sessions.all().next().is_some() && sessions.skipped() <= MAX_SKIPPED).then_some(sessions)
        })
    }

    pub(crate) fn encode(&self) -> Record {
        let room = 2 + self.all().map(state_len).sum::<usize>();
        let mut writer = Writer::new(Kind::Session, room);
        writer.count(usize::from(self.current.is_some()));
        if let Some(state) = &self.current {
            write_state(&mut writer, state);
        }
        writer.count(self.archived.len());
        for state in &self.archived {
            write_state(&mut writer, state);
        }
        writer.finish()
    }

    /// Newest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &State> {
        self.current.iter().chain(&self.archived)
    }

    /// Newest first.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut State> {
        self.current.iter_mut().chain(&mut self.archived)
    }

    /// Makes `state` the current session and archives the one that was.
    pub(crate) fn begin(&mut self, state: State) {
        self.archive();
        self.current = Some(state);
    }

    /// Archives the current session, if there is one.
    pub(crate) fn archive(&mut self) {
        if let Some(state) = self.current.take() {
            self.archived.insert(0, state);
            self.archived.truncate(MAX_ARCHIVED);
        }
    }

    /// The peer uses the session at `place` (as [`all`](Self::all) counts): so will we.
    ///
    /// Not when it is of another identity than the current one: the peer's device was linked anew, and this message
    /// was under way. Nor when it may not send.
    pub(crate) fn promote(&mut self, place: usize) {
        let Some(at) = place.checked_sub(usize::from(self.current.is_some())) else { return };
        let Some(state) = self.archived.get(at) else { return };
        let is_of_peer =
            self.current.as_ref().is_none_or(|current| current.remote_identity == state.remote_identity);
        if is_of_peer && !state.is_retired {
            let state = self.archived.remove(at);
            self.begin(state);
        }
    }

    pub(crate) fn skipped(&self) -> usize {
        self.all().map(State::skipped).sum()
    }

    /// Keeps the seeds of messages that have not come within their limit: the oldest session's oldest go first.
    pub(crate) fn trim(&mut self) {
        let mut excess = self.skipped().saturating_sub(MAX_SKIPPED);
        for state in self.archived.iter_mut().rev().chain(&mut self.current) {
            excess = state.drop_oldest(excess);
        }
    }
}

const IS_INITIATOR: u8 = 1;
const IS_RETIRED: u8 = 1 << 1;
const HAS_CHAIN: u8 = 1 << 2;
const IS_PENDING: u8 = 1 << 3;
const HAS_PRE_KEY: u8 = 1 << 4;

fn read_state(reader: &mut Reader<'_>) -> Option<State> {
    let flags = reader.u8()?;
    let has = |flag| flags & flag != 0;
    let is_known = flags < HAS_PRE_KEY << 1 && (has(IS_PENDING) || !has(HAS_PRE_KEY));
    is_known.then_some(())?;
    let (remote_identity, remote_registration_id) = (reader.public()?, reader.u32()?);
    let (base_key, root, remote_ratchet) = (reader.public()?, reader.secret()?, reader.public()?);
    let previous_counter = reader.u32()?;
    let sending = if has(HAS_CHAIN) {
        Sending::Chain {
            ratchet: KeyPair::stored(reader.secret()?, reader.public()?),
            chain: ChainKey { key: reader.secret()?, index: reader.u32()? },
        }
    } else {
        Sending::Step
    };
    let pending = if has(IS_PENDING) {
        let signed_pre_key_id = reader.u32()?;
        let pre_key_id = if has(HAS_PRE_KEY) { Some(reader.u32()?) } else { None };
        Some(PreKeyHeader { pre_key_id, signed_pre_key_id })
    } else {
        None
    };
    let receiving = reader.list(MAX_RECEIVING, |reader| Some((reader.public()?, reader.receiving()?)))?;
    Some(State {
        remote_identity,
        remote_registration_id,
        base_key,
        is_initiator: has(IS_INITIATOR),
        is_retired: has(IS_RETIRED),
        root,
        remote_ratchet,
        sending,
        previous_counter,
        pending,
        receiving,
    })
}

fn write_state(writer: &mut Writer, state: &State) {
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    let pre_key_id = state.pending.and_then(|pending| pending.pre_key_id);
    writer.u8(flag(state.is_initiator, IS_INITIATOR)
        | flag(state.is_retired, IS_RETIRED)
        | flag(matches!(state.sending, Sending::Chain { .. }), HAS_CHAIN)
        | flag(state.pending.is_some(), IS_PENDING)
        | flag(pre_key_id.is_some(), HAS_PRE_KEY));
    writer.public(&state.remote_identity);
    writer.u32(state.remote_registration_id);
    writer.public(&state.base_key);
    writer.secret(&state.root);
    writer.public(&state.remote_ratchet);
    writer.u32(state.previous_counter);
    if let Sending::Chain { ratchet, chain } = &state.sending {
        writer.secret(ratchet.secret());
        writer.public(ratchet.public());
        writer.secret(&chain.key);
        writer.u32(chain.index);
    }
    if let Some(pending) = state.pending {
        writer.u32(pending.signed_pre_key_id);
    }
    if let Some(id) = pre_key_id {
        writer.u32(id);
    }
    writer.count(state.receiving.len());
    for (key, chain) in &state.receiving {
        writer.public(key);
        writer.receiving(chain);
    }
}

/// Bytes of a state, or a few more.
fn state_len(state: &State) -> usize {
    const FIXED: usize = 1 + 3 * 32 + 32 + 2 * 4 + (3 * 32 + 4) + 2 * 4 + 1;
    FIXED + state.receiving.iter().map(|(_, chain)| 32 + Writer::receiving_len(chain)).sum::<usize>()
}

//! The upkeep of our own keys at the server: what it has of ours is compared once a day, and the signed pre-key is
//! replaced in time. docs/protocol.md, "Pre-keys".
//!
//! A new signed pre-key is durable before the server hears of it, and stays `pending` until the server has answered.
//! After a crash in between the same key is offered again, so whatever peers were given, we have. The one before goes
//! on decrypting for as long as `key_state` says.

use runner_proto::{
    node::NodeRef,
    session::{Io, Request},
};
use runner_signal::{PreKey, SignedPreKey};

use crate::{
    Client, Cx, Effect, Event, StoredRecord, Write,
    client::{Ask, commit, split},
    key_check::Digest,
    key_state::KeyState,
    receive::{self, LoadFor},
    record::{RecordKey, RecordKind},
};

/// The server refuses the key itself: it is not a good one, or does not fit what it has of ours. docs/protocol.md,
/// "Pre-keys".
const REFUSED: [u64; 2] = [406, 409];

/// Where the upkeep of one connection stands. The state is here only while something is done, so that an idle session
/// owns no heap.
#[derive(Debug, Default)]
pub(crate) enum Upkeep {
    /// The state was not asked for, or could not be read.
    #[default]
    Unknown,
    /// It is being loaded.
    Loading {
        /// Because something is due that is in no record yet.
        is_due: bool,
    },
    /// The rotated keys that it names are being loaded.
    LoadingKeys(Box<KeyState>),
    /// It is here.
    Ready(Box<Ready>),
    /// It was, and nothing is due before then, Unix seconds.
    Resting { due_at_s: u64 },
}

/// The state, and what is under way.
#[derive(Debug)]
pub(crate) struct Ready {
    state: KeyState,
    /// The key with the pending id.
    pending: Option<SignedPreKey>,
    step: Step,
}

/// What is under way.
#[derive(Debug)]
enum Step {
    Nothing,
    /// The pending key becomes durable under this token.
    Committing {
        token: u64,
    },
    /// The server was told of it.
    Rotating,
    /// The server was asked what it has.
    Asking,
    /// Its one-time pre-keys are being loaded.
    Comparing(Box<Digest>),
}

impl Upkeep {
    /// Whether the signed pre-key in use is known, so that it can be uploaded.
    pub(crate) const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::Resting { .. })
    }

    /// The store cannot be read; the next probe asks again.
    pub(crate) fn give_up(&mut self) {
        match self {
            Self::Ready(ready) => ready.step = Step::Nothing,
            Self::Resting { .. } => {}
            _ => *self = Self::Unknown,
        }
    }
}

impl Client {
    /// Loads the state, unless it is here or on its way.
    pub(crate) fn load_upkeep(&mut self, effects: &mut Vec<Effect>) {
        if matches!(self.upkeep, Upkeep::Unknown | Upkeep::Resting { .. })
            && let Some((token, keys)) = self.receiver.load(LoadFor::Upkeep, vec![KeyState::key()])
        {
            self.upkeep = Upkeep::Loading { is_due: matches!(self.upkeep, Upkeep::Resting { .. }) };
            effects.push(Effect::Load { token, keys });
        }
    }

    pub(crate) fn on_upkeep_loaded(
        &mut self,
        keys: &[RecordKey],
        mut records: Vec<Option<StoredRecord>>,
        cx: &mut Cx<'_>,
    ) {
        match std::mem::take(&mut self.upkeep) {
            Upkeep::Loading { is_due } => {
                let state = KeyState::read(records.pop().flatten()).unwrap_or_else(|| {
                    // Written when the first comparison is over: a fleet that logs in for the first time writes nothing.
                    let spread = cx.entropy.below(u32::MAX);
                    let mut state = KeyState::new(self.keys.signed_pre_key.id, cx.unix_ms / 1000, spread);
                    state.begin_checks(is_due, cx.unix_ms / 1000, spread);
                    state
                });
                let named = [state.current, state.pending].into_iter().flatten().map(signed_key).collect();
                match self.receiver.load(LoadFor::Upkeep, named) {
                    Some((token, keys)) => {
                        self.upkeep = Upkeep::LoadingKeys(Box::new(state));
                        cx.effects.push(Effect::Load { token, keys });
                    }
                    None => self.begin_upkeep(state, None, cx),
                }
            }
            Upkeep::LoadingKeys(mut state) => {
                let mut rotated: Vec<_> = keys
                    .iter()
                    .zip(records)
                    .filter_map(|(key, record)| receive::own_form(key, record?))
                    .filter_map(|record| SignedPreKey::from_record(record.expose()).ok())
                    .collect();
                let mut take = |id: Option<u32>| {
                    let at = rotated.iter().position(|key| Some(key.id) == id)?;
                    Some(rotated.swap_remove(at))
                };
                // A key that was lost with its record is the server's for as long as it is not told of another.
                let (current, pending) = (take(state.current), take(state.pending));
                state.current = current.as_ref().map(|key| key.id);
                state.pending = pending.as_ref().map(|key| key.id);
                self.keys.rotated = current.map(Box::new);
                self.begin_upkeep(*state, pending, cx);
            }
            Upkeep::Ready(mut ready) => {
                if let Step::Comparing(digest) = std::mem::replace(&mut ready.step, Step::Nothing) {
                    let ours: Vec<_> = keys
                        .iter()
                        .zip(records)
                        .map(|(key, record)| {
                            PreKey::from_record(receive::own_form(key, record?)?.expose()).ok()
                        })
                        .collect();
                    self.upkeep = Upkeep::Ready(ready);
                    let (mut io, effects) = split(cx);
                    self.on_compared(digest.differs_in(&ours), &mut io, effects);
                } else {
                    self.upkeep = Upkeep::Ready(ready);
                }
            }
            other @ (Upkeep::Unknown | Upkeep::Resting { .. }) => self.upkeep = other,
        }
    }

    fn begin_upkeep(&mut self, state: KeyState, pending: Option<SignedPreKey>, cx: &mut Cx<'_>) {
        self.upkeep = Upkeep::Ready(Box::new(Ready { state, pending, step: Step::Nothing }));
        let (mut io, effects) = split(cx);
        self.resume_pre_keys(effects);
        if self.is_counted {
            self.tend_keys(&mut io, effects);
        } else {
            self.rest();
        }
    }

    /// Does what is due, one thing at a time. Not before the server has said how many pre-keys it has, and not while it is
    /// given some: a new device's are not missing.
    pub(crate) fn tend_keys(&mut self, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        let now_s = io.unix_ms / 1000;
        let ready = match &mut self.upkeep {
            Upkeep::Ready(ready) if matches!(ready.step, Step::Nothing) => ready,
            Upkeep::Resting { due_at_s } if now_s < *due_at_s => return,
            Upkeep::Unknown | Upkeep::Resting { .. } => return self.load_upkeep(effects),
            _ => return,
        };
        if now_s >= ready.state.rotate_at_s {
            if ready.pending.is_some() {
                self.rotate(io);
            } else {
                self.make_signed_pre_key(io, effects);
            }
        } else if now_s < ready.state.check_at_s {
            self.rest();
        } else if self.pre_keys.is_idle() {
            ready.step = Step::Asking;
            self.ask(Ask::Digest, io);
        }
    }

    /// Nothing is under way: the state is loaded again when something is due.
    fn rest(&mut self) {
        if let Upkeep::Ready(ready) = &self.upkeep {
            self.upkeep = Upkeep::Resting { due_at_s: ready.state.rotate_at_s.min(ready.state.check_at_s) };
        }
    }

    fn make_signed_pre_key(&mut self, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        let token = self.inbox.next_token();
        let Upkeep::Ready(ready) = &mut self.upkeep else { return };
        let id = ready.state.take_id(self.keys.signed_pre_key.id);
        let key =
            SignedPreKey::generate(&self.keys.identity, id, &mut |bytes: &mut [u8]| io.entropy.fill(bytes));
        ready.state.pending = Some(id);
        let put = Write::PutRecord { key: signed_key(id), value: key.to_record().into_bytes().into() };
        let writes = vec![put, ready.state.write()];
        ready.pending = Some(key);
        ready.step = Step::Committing { token };
        effects.push(Effect::Commit { token, writes });
    }

    /// True when the commit was that of a new signed pre-key.
    pub(crate) fn on_upkeep_committed(&mut self, token: u64, is_durable: bool, io: &mut Io<'_>) -> bool {
        let Upkeep::Ready(ready) = &mut self.upkeep else { return false };
        if !matches!(ready.step, Step::Committing { token: own } if own == token) {
            return false;
        }
        ready.step = Step::Nothing;
        if is_durable {
            self.rotate(io);
        } else {
            // Its id stays used up; the next probe makes another key.
            (ready.pending, ready.state.pending) = (None, None);
        }
        true
    }

    /// Tells the server of the pending key.
    fn rotate(&mut self, io: &mut Io<'_>) {
        let Upkeep::Ready(ready) = &mut self.upkeep else { return };
        let Some(key) = &ready.pending else { return };
        ready.step = Step::Rotating;
        let request = Request { xmlns: "encrypt", is_set: true, purpose: Ask::Rotate as u8 };
        self.session.request(io, request, 1, |writer| {
            writer.node("rotate", 0, true);
            writer.children(1);
            receive::write_signed_pre_key(writer, key);
        });
    }

    /// The server's answer to a new signed pre-key; `error` is its number when it said no.
    pub(crate) fn on_rotated(&mut self, error: Option<u64>, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        let Upkeep::Ready(ready) = &mut self.upkeep else { return };
        if !matches!(ready.step, Step::Rotating) {
            return;
        }
        ready.step = Step::Nothing;
        let now_s = io.unix_ms / 1000;
        let mut writes = Vec::new();
        match error {
            None => {
                let forgotten = ready.state.promote(now_s, io.entropy.below(u32::MAX));
                writes.extend(forgotten.into_iter().map(|id| Write::RemoveRecord(signed_key(id))));
                self.keys.rotated = ready.pending.take().map(Box::new);
            }
            Some(code) if REFUSED.contains(&code) => {
                let discarded = ready.state.discard(now_s);
                writes.extend(discarded.map(|id| Write::RemoveRecord(signed_key(id))));
                ready.pending = None;
            }
            Some(_) => ready.state.postpone(now_s),
        }
        writes.push(ready.state.write());
        commit(writes, effects);
        self.tend_keys(io, effects);
    }

    /// The server's answer to what it has of ours; `None`: an error with this number.
    pub(crate) fn on_digest(
        &mut self,
        iq: NodeRef<'_>,
        error: Option<u64>,
        io: &mut Io<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Upkeep::Ready(ready) = &mut self.upkeep else { return };
        if !matches!(ready.step, Step::Asking) {
            return;
        }
        ready.step = Step::Nothing;
        let digest = match (iq.child("digest"), error) {
            (Some(digest), None) => Digest::read(digest),
            (None, None) | (_, Some(404)) => return self.on_compared(Some("none at all"), io, effects),
            // A server that does not answer the question has said nothing of our keys.
            (_, Some(_)) => None,
        };
        let Some(digest) = digest else { return self.on_compared(None, io, effects) };
        // The answer to a rotation was lost, and it was a yes: that key is next.
        let is_pending = ready.pending.as_ref().is_some_and(|key| digest.has_signed(key));
        if let (Some(what), false) = (digest.differs(&self.keys), is_pending) {
            return self.on_compared(Some(what), io, effects);
        }
        let keys: Vec<_> =
            digest.comparable().iter().map(|id| RecordKey::new(RecordKind::PreKey, id.to_string())).collect();
        match self.receiver.load(LoadFor::Upkeep, keys) {
            Some((token, keys)) => {
                ready.step = Step::Comparing(Box::new(digest));
                effects.push(Effect::Load { token, keys });
            }
            None => self.on_compared(digest.differs_in(&[]), io, effects),
        }
    }

    /// The server has what we have, or `differs` says what it has instead: then it is given all of it anew.
    fn on_compared(&mut self, differs: Option<&'static str>, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        let Upkeep::Ready(ready) = &mut self.upkeep else { return };
        // A day from now in any case: a server that never agrees is not flooded with keys.
        ready.state.checked(io.unix_ms / 1000, io.entropy.below(u32::MAX));
        commit(vec![ready.state.write()], effects);
        if let Some(what) = differs {
            effects.push(Effect::Event(Event::KeysDiffer { what }));
            self.begin_pre_keys(0, effects);
        }
        self.tend_keys(io, effects);
    }

    /// A request of the upkeep went unanswered: the next probe asks again.
    pub(crate) fn on_upkeep_expired(&mut self) {
        if let Upkeep::Ready(ready) = &mut self.upkeep {
            ready.step = Step::Nothing;
        }
    }
}

fn signed_key(id: u32) -> RecordKey {
    RecordKey::new(RecordKind::SignedPreKey, id.to_string())
}

//! Receiving: messages wait here, in their order, for the records that they need, and are then opened.
//!
//! - `address`: who sent it, and under which names their records lie.
//! - `open`: what a message needs, and what is in it; pure.
//! - `between`: what the own devices tell each other.
//! - `failure`, `answer`, `limiter`: why there is no content, what is told to whom, and how often.
//! - `identity`: a contact was linked anew, as the server tells it.
//! - `imported`: records in the form of the program that the session came from.
//!
//! A message waits only behind older messages of its own session. What each needs is asked for when it comes, not when
//! its turn comes, so that a hundred messages of a hundred strangers wait for the store about once.

mod address;
mod answer;
mod between;
mod failure;
mod identity;
mod imported;
mod limiter;
mod open;

use std::{collections::VecDeque, time::Duration};

use runner_proto::{node::NodeRef, time::Instant};

pub(crate) use address::{address, is_lid, mapping_of, mappings, names, other_of, sender_key};
pub(crate) use answer::{write_identity, write_key, write_registration, write_signed_pre_key};
pub use failure::Failure;
pub(crate) use imported::own_form;
pub(crate) use limiter::Limiter;
pub(crate) use open::OwnKeys;

use crate::{
    inbox::Arrival,
    record::{RecordKey, RecordKind, Records},
};

/// Messages that an earlier version kept undecrypted, taken from the store at once.
pub(crate) const CIPHERTEXTS_AT_ONCE: usize = 100;

/// A message that waits for its turn.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Counts up from 1 within one connection, in the order of opening.
    pub(crate) number: u64,
    /// The whole stanza, encoded, flag byte in front.
    pub(crate) stanza: Vec<u8>,
    /// The wall clock when it came first.
    pub(crate) received_unix_ms: u64,
    /// `None`: it comes from our store, and the server has its answer.
    pub(crate) arrival: Option<Arrival>,
}

/// What an earlier version kept undecrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Past {
    /// Nothing, or no more.
    #[default]
    Over,
    /// To be asked for, after this place in the inbox.
    Due { after_seq: u64 },
    /// Asked for.
    Asked,
}

/// What a load is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LoadFor {
    /// Messages that wait.
    Messages,
    /// The pre-keys' next step.
    PreKeys,
    /// That of the upkeep of our own keys.
    Upkeep,
    /// Messages of ours.
    Sends,
}

/// A load that is under way.
#[derive(Debug)]
struct Load {
    token: u32,
    purpose: LoadFor,
    keys: Vec<RecordKey>,
    /// Of the working set when it was asked for.
    age: u32,
}

/// A load that was answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) purpose: LoadFor,
    pub(crate) keys: Vec<RecordKey>,
    /// The working set is still the one for which it was asked.
    pub(crate) is_current: bool,
}

/// The messages of one connection that were not opened yet, and the records of those in flight.
///
/// Owns no heap while none waits.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    /// Older than all that waits: they come first.
    past: Past,
    stored: VecDeque<Waiting>,
    waiting: VecDeque<Waiting>,
    /// Bytes of them.
    waiting_bytes: usize,
    last_number: u64,
    /// Up to this message, records were asked for.
    asked_through: u64,
    pub(crate) records: Records,
    loads: VecDeque<Load>,
    last_load: u32,
    /// `None`: nobody was asked for a message.
    retries: Option<Box<Retries>>,
    /// Kinds of records of which one could not be read.
    unreadable: u16,
}

/// How many retry receipts have left, and what waits for its turn.
#[derive(Debug, Default)]
struct Retries {
    limiter: Limiter,
    /// The oldest first.
    unasked: VecDeque<Unasked>,
    /// Bytes of them.
    unasked_bytes: usize,
}

/// A message that could not be read, and that its sender is still to be asked for.
#[derive(Debug)]
pub(crate) struct Unasked {
    /// The stanza without its ciphertexts, flag byte in front.
    pub(crate) stanza: Vec<u8>,
    pub(crate) failure: Failure,
    pub(crate) attempt: u32,
}

/// Messages of one connection that are still to be asked for; those beyond it are not. Half an hour's worth.
const MAX_UNASKED: usize = 2048;

/// Bytes of them, of which most are a few hundred.
const MAX_UNASKED_BYTES: usize = 1024 * 1024;

impl Receiver {
    /// The store holds messages of this session that an earlier version did not decrypt.
    pub(crate) fn begin_with_past(&mut self) {
        self.past = Past::Due { after_seq: 0 };
    }

    /// After which place the next of them are to be asked for, if they are.
    pub(crate) fn poll_past(&mut self) -> Option<u64> {
        let Past::Due { after_seq } = self.past else { return None };
        if !self.stored.is_empty() {
            return None;
        }
        self.past = Past::Asked;
        Some(after_seq)
    }

    /// The store's answer. Empty: that was all.
    pub(crate) fn on_past(&mut self, messages: impl IntoIterator<Item = (u64, Vec<u8>, u64)>) {
        self.past = Past::Over;
        for (seq, stanza, received_unix_ms) in messages {
            self.past = Past::Due { after_seq: seq };
            let number = self.next_number();
            self.stored.push_back(Waiting { number, stanza, received_unix_ms, arrival: None });
        }
    }

    /// A message came.
    pub(crate) fn push(&mut self, message: NodeRef<'_>, received_unix_ms: u64, now: Instant) {
        let encoded = message.encoded();
        let mut stanza = Vec::with_capacity(1 + encoded.len());
        stanza.push(0);
        stanza.extend_from_slice(encoded);
        let number = self.next_number();
        let arrival = Some(Arrival::new(now));
        self.waiting_bytes += stanza.len();
        self.waiting.push_back(Waiting { number, stanza, received_unix_ms, arrival });
    }

    /// The message whose turn it is; `None` while older ones are still in the store.
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        if let Some(stored) = self.stored.pop_front() {
            if self.stored.is_empty() {
                self.stored = VecDeque::new();
            }
            return Some(stored);
        }
        if self.past != Past::Over {
            return None;
        }
        let waiting = self.waiting.pop_front();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        self.waiting_bytes -= waiting.as_ref().map_or(0, |waiting| waiting.stanza.len());
        waiting
    }

    /// It is not ready: the next [`pop`](Self::pop) gives it again.
    pub(crate) fn put_back(&mut self, waiting: Waiting) {
        if waiting.arrival.is_none() {
            self.stored.push_front(waiting);
        } else {
            self.waiting_bytes += waiting.stanza.len();
            self.waiting.push_front(waiting);
        }
    }

    /// A message whose records were not asked for yet, in order; each is given once.
    pub(crate) fn pop_unasked(&mut self) -> Option<&Waiting> {
        let through = self.asked_through;
        let next = if self.stored.is_empty() { &self.waiting } else { &self.stored };
        let index = next.partition_point(|waiting| waiting.number <= through);
        let waiting = next.get(index)?;
        self.asked_through = waiting.number;
        Some(waiting)
    }

    /// Asks for records; the token of the load, if there is anything to load.
    pub(crate) fn load(&mut self, purpose: LoadFor, keys: Vec<RecordKey>) -> Option<(u32, Vec<RecordKey>)> {
        if keys.is_empty() {
            return None;
        }
        self.last_load = self.last_load.checked_add(1).unwrap_or(1);
        let load = Load { token: self.last_load, purpose, keys: keys.clone(), age: self.records.age() };
        self.loads.push_back(load);
        Some((self.last_load, keys))
    }

    /// What the load with this token was for.
    pub(crate) fn take_load(&mut self, token: u32) -> Option<Loaded> {
        let index = self.loads.iter().position(|load| load.token == token)?;
        let Load { purpose, keys, age, .. } = self.loads.remove(index)?;
        if self.loads.is_empty() {
            self.loads = VecDeque::new();
        }
        Some(Loaded { purpose, keys, is_current: age == self.records.age() })
    }

    /// What is in the records may never have happened. All that waits begins anew with what the store has.
    pub(crate) fn forget_records(&mut self) {
        self.records.clear();
        self.asked_through = 0;
    }

    /// The store cannot be read: what waits is not opened on this connection.
    pub(crate) fn give_up(&mut self) -> Vec<Arrival> {
        self.forget_records();
        self.past = Past::Over;
        self.stored = VecDeque::new();
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting).into_iter().filter_map(|waiting| waiting.arrival).collect()
    }

    /// Whether the sender may be asked again now.
    pub(crate) fn may_retry(&mut self, now: Instant) -> bool {
        self.retries.get_or_insert_default().limiter.take(now)
    }

    /// A record of this kind cannot be read; true for the first.
    pub(crate) fn note_unreadable(&mut self, kind: RecordKind) -> bool {
        let bit = 1 << kind as u16;
        let is_first = self.unreadable & bit == 0;
        self.unreadable |= bit;
        is_first
    }

    /// The sender of this one is asked later.
    pub(crate) fn ask_later(&mut self, unasked: Unasked) {
        let retries = self.retries.get_or_insert_default();
        let bytes = retries.unasked_bytes + unasked.stanza.len();
        if retries.unasked.len() < MAX_UNASKED && bytes <= MAX_UNASKED_BYTES {
            retries.unasked_bytes = bytes;
            retries.unasked.push_back(unasked);
        }
    }

    /// One whose sender may be asked now.
    pub(crate) fn pop_askable(&mut self, now: Instant) -> Option<Unasked> {
        let Retries { limiter, unasked, unasked_bytes } = self.retries.as_deref_mut()?;
        if unasked.is_empty() || !limiter.take(now) {
            return None;
        }
        let oldest = unasked.pop_front()?;
        *unasked_bytes -= oldest.stanza.len();
        Some(oldest)
    }

    /// When somebody may be asked.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let Retries { limiter, unasked, .. } = self.retries.as_deref()?;
        limiter.next_at().filter(|_| !unasked.is_empty())
    }

    /// Whether nothing waits to be opened.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.stored.is_empty()
    }

    /// Bytes of the server's messages that wait here.
    pub(crate) const fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Messages of the server that wait here.
    pub(crate) fn unanswered(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }

    /// When the oldest of them came.
    pub(crate) fn oldest(&self) -> Option<Arrival> {
        self.waiting.front().and_then(|waiting| waiting.arrival)
    }

    /// The store did not commit for `by`, until now.
    pub(crate) fn postpone(&mut self, by: Duration, now: Instant) {
        for waiting in &mut self.waiting {
            if let Some(arrival) = &mut waiting.arrival {
                arrival.postpone(by, now);
            }
        }
    }

    /// The number of the next user of records.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

/// What the client does with messages.
mod client;

//! What is durable of our own keys' life: which signed pre-key is in use, which are older, when what is due.
//!
//! The credentials never change, so a signed pre-key that takes the place of theirs is a record of its own
//! (`RecordKind::SignedPreKey`), and this says which one.

use crate::{
    StoredRecord, Write,
    record::{RecordBytes, RecordKey, RecordKind},
};

/// How long a signed pre-key is in use. docs/protocol.md, "Pre-keys": what another client does.
const ROTATE_AFTER_S: u64 = 27 * DAY_S;

/// How long after a refusal a new key is tried, and between two checks of what the server has of ours.
const DAY_S: u64 = 24 * 60 * 60;

/// How long after a device's first login what the server has of it is compared first: not in the storm that a large
/// import is.
const FIRST_CHECK_S: u64 = 60 * 60;

/// Signed pre-keys kept that are no longer in use, beside that of the credentials: messages made with them are under
/// way for as long as a peer was offline. docs/protocol.md, "Pre-keys".
const KEPT: usize = 3;

/// How far ids leap when a backup is restored: more keys than are made in a lifetime.
const RESTORED_LEAP: u32 = 0x1000;

/// In place of an id that is not there; ids have three bytes.
const NONE: u32 = u32::MAX;

/// Bumped when the form changes; another one is read as nothing.
const VERSION: u8 = 1;

/// The state of our own keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyState {
    /// The signed pre-key in use; `None`: that of the credentials.
    pub(crate) current: Option<u32>,
    /// One that is durable and of which the server may or may not have heard.
    pub(crate) pending: Option<u32>,
    /// The next id that is free.
    next: u32,
    /// When a new signed pre-key is due, Unix seconds.
    pub(crate) rotate_at_s: u64,
    /// When what the server has of ours is to be compared, Unix seconds.
    pub(crate) check_at_s: u64,
    /// Rotated keys that were in use before, newest first.
    older: Vec<u32>,
}

impl KeyState {
    pub(crate) fn key() -> RecordKey {
        RecordKey::new(RecordKind::SignedPreKeyState, "")
    }

    /// Of a device that has none yet: a new one, or one that another program has made at a time nobody knows.
    ///
    /// `spread` is a random number: a fleet that was imported in one hour does not rotate in one hour.
    pub(crate) fn new(credentials_id: u32, now_s: u64, spread: u32) -> Self {
        let next = following(credentials_id);
        Self {
            current: None,
            pending: None,
            next,
            rotate_at_s: now_s + ROTATE_AFTER_S + jitter_s(spread),
            check_at_s: now_s,
            older: Vec::new(),
        }
    }

    /// Reads the record; `None` when there is none that can be read.
    pub(crate) fn read(record: Option<StoredRecord>) -> Option<Self> {
        let record = record.filter(|record| !record.is_imported)?;
        let (&version, rest) = record.value.expose().split_first()?;
        let (numbers, rest) = rest.as_chunks::<4>();
        if version != VERSION || !rest.is_empty() {
            return None;
        }
        let mut numbers = numbers.iter().map(|bytes| u32::from_be_bytes(*bytes));
        let mut number = || numbers.next();
        let (current, pending, next) = (number()?, number()?, number()?);
        let (rotate_at_s, check_at_s) = (long(number()?, number()?), long(number()?, number()?));
        let older: Vec<_> = numbers.collect();
        let id = |id| (id != NONE).then_some(id);
        (older.len() <= KEPT).then_some(Self {
            current: id(current),
            pending: id(pending),
            next,
            rotate_at_s,
            check_at_s,
            older,
        })
    }

    pub(crate) fn write(&self) -> Write {
        let (key, value) = self.record();
        Write::PutRecord { key, value }
    }

    pub(crate) fn record(&self) -> (RecordKey, RecordBytes) {
        let id = |id: Option<u32>| id.unwrap_or(NONE).to_be_bytes();
        let mut value = vec![VERSION];
        value.extend(id(self.current));
        value.extend(id(self.pending));
        value.extend(self.next.to_be_bytes());
        value.extend(self.rotate_at_s.to_be_bytes());
        value.extend(self.check_at_s.to_be_bytes());
        self.older.iter().for_each(|older| value.extend(older.to_be_bytes()));
        (Self::key(), value.into())
    }

    /// Out of a backup: ids that were given since are given to no other key, and what the server has is compared.
    pub(crate) fn leapt(mut self) -> Self {
        self.next = self.next.saturating_add(RESTORED_LEAP);
        if self.next > runner_signal::pre_key::MAX_ID {
            self.next = 1;
        }
        self.check_at_s = 0;
        self
    }

    /// The id of a new key. It is used up, whatever becomes of the key.
    pub(crate) fn take_id(&mut self, credentials_id: u32) -> u32 {
        let mut id = self.next;
        while id == credentials_id || self.current == Some(id) || self.older.contains(&id) {
            id = following(id);
        }
        self.next = following(id);
        id
    }

    /// The server has the pending key: it is in use. Returns those that are not kept any longer.
    pub(crate) fn promote(&mut self, now_s: u64, spread: u32) -> Vec<u32> {
        let Some(pending) = self.pending.take() else { return Vec::new() };
        if let Some(before) = self.current.replace(pending) {
            self.older.insert(0, before);
        }
        self.rotate_at_s = now_s + ROTATE_AFTER_S + jitter_s(spread);
        self.older.split_off(self.older.len().min(KEPT))
    }

    /// The server does not want the pending key itself: another one is made, later. Returns the one to remove.
    pub(crate) fn discard(&mut self, now_s: u64) -> Option<u32> {
        self.postpone(now_s);
        // Whether it refused because it has other keys of ours than we think is looked at first.
        self.check_at_s = self.check_at_s.min(now_s);
        self.pending.take()
    }

    /// The server cannot take a key now: the same one again, later.
    pub(crate) fn postpone(&mut self, now_s: u64) {
        self.rotate_at_s = now_s + DAY_S;
    }

    /// When the first comparison is: at once when its time has come, else within an hour, each device at another time.
    pub(crate) fn begin_checks(&mut self, is_due: bool, now_s: u64, spread: u32) {
        self.check_at_s = if is_due { now_s } else { now_s + 1 + u64::from(spread) % FIRST_CHECK_S };
    }

    /// What the server has was compared.
    pub(crate) fn checked(&mut self, now_s: u64, spread: u32) {
        self.check_at_s = now_s + DAY_S + jitter_s(spread);
    }
}

/// Up to a day.
fn jitter_s(spread: u32) -> u64 {
    u64::from(spread) % DAY_S
}

const fn following(id: u32) -> u32 {
    if id >= runner_signal::pre_key::MAX_ID { 1 } else { id + 1 }
}

const fn long(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(state: &KeyState) -> Option<KeyState> {
        let Write::PutRecord { value, .. } = state.write() else { return None };
        KeyState::read(Some(StoredRecord { value, is_imported: false }))
    }

    #[test]
    fn the_state_is_read_as_it_was_written() {
        let mut state = KeyState::new(1, 1000, 7);
        assert_eq!(again(&state), Some(state.clone()));
        for _ in 0..9 {
            state.pending = Some(state.take_id(1));
            assert_eq!(again(&state), Some(state.clone()));
            state.promote(2000, 5);
            assert_eq!(again(&state), Some(state.clone()));
        }
    }

    #[test]
    fn what_is_no_state_is_none() {
        let read = |bytes: &[u8]| {
            KeyState::read(Some(StoredRecord { value: bytes.to_vec().into(), is_imported: false }))
        };
        let Write::PutRecord { value, .. } = KeyState::new(1, 1000, 7).write() else { panic!() };
        let whole = value.expose();
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len]), None, "{len}");
        }
        assert_eq!(read(&[whole, &[0; 16]].concat()), None, "more older keys than are kept");
        assert_eq!(read(&[&[9], &whole[1..]].concat()), None, "a version that we do not know");
    }

    #[test]
    fn three_older_keys_are_kept_and_then_the_oldest_goes() {
        let mut state = KeyState::new(1, 0, 0);
        let mut removed = Vec::new();
        for n in 2..=7 {
            let id = state.take_id(1);
            assert_eq!(id, n);
            state.pending = Some(id);
            removed.push(state.promote(0, 0));
        }
        let none = Vec::new;
        assert_eq!(removed, [none(), none(), none(), none(), vec![2], vec![3]]);
        assert_eq!((state.current, &state.older[..]), (Some(7), &[6, 5, 4][..]));
    }

    #[test]
    fn an_id_in_use_is_not_given_again_after_the_last() {
        let mut state = KeyState::new(2, 0, 0);
        state.next = runner_signal::pre_key::MAX_ID;
        state.current = Some(1);
        assert_eq!(state.take_id(2), runner_signal::pre_key::MAX_ID);
        assert_eq!(state.take_id(2), 3, "1 is in use, 2 is the credentials'");
    }

    #[test]
    fn a_refusal_waits_a_day_and_looks_first() {
        let mut state = KeyState::new(1, 0, 0);
        state.check_at_s = 5000;
        state.pending = Some(2);
        assert_eq!(state.discard(1000), Some(2));
        assert_eq!((state.pending, state.check_at_s, state.rotate_at_s), (None, 1000, 1000 + DAY_S));
    }
}

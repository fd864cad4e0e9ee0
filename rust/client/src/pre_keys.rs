//! One-time pre-keys: new ones are uploaded when the server has few left. docs/protocol.md, "Pre-keys".
//!
//! What is uploaded is durable first, with the ids that come next, so that no key reaches a peer that we could not use,
//! and no id is given twice. An upload that is not confirmed is repeated with the same keys, also after a restart.

use std::time::Duration;

use runner_proto::{
    session::{Io, Request},
    time::Instant,
};
use runner_signal::PreKey;

use crate::{
    Client, Cx, Effect, StoredRecord, Write,
    client::{Ask, io},
    receive::{self, LoadFor},
    record::{RecordBytes, RecordKey, RecordKind},
};

/// The server has few when it has fewer than this many.
const FEW: u64 = 5;

/// How many it then has. docs/protocol.md, "Pre-keys": what all clients upload first.
const WANTED: u32 = 812;

/// How long after an upload that the server took it is not given more, though it says that it has few; twice as long each
/// time that it says so again, a day at most. In that time whoever writes first does so by the signed pre-key.
const REST: Duration = Duration::from_secs(10 * 60);
const LONGEST_REST: Duration = Duration::from_secs(24 * 60 * 60);

/// Made in one turn of the driver: about a quarter of a millisecond of work.
const SLICE: usize = 12;

/// Where the ids of a device begin that has none of ours yet: in the middle of their three bytes, since an imported
/// device has used those from 1 on.
const FIRST_ID: u32 = 0x0040_0000;

/// Ids above this belong to retry receipts; the count begins anew.
const LAST_ID: u32 = 0x007f_ffff;

/// How far ids leap when a backup is restored: eighty uploads.
const RESTORED_LEAP: u32 = 0x1_0000;

/// Where the upload of one connection stands.
#[derive(Debug, Default)]
pub(crate) enum PreKeys {
    /// Nothing to do.
    #[default]
    Idle,
    /// The signed pre-key, which goes with them, is not known yet; the server has so many keys.
    Waiting { count: u64 },
    /// The ids are being loaded; the server has so many keys.
    LoadingIds { count: u32 },
    /// Keys of an upload that was not confirmed are being loaded.
    LoadingKeys { ids: Ids },
    /// New keys are made, a few at a time; these are there.
    Making { ids: Ids, keys: Vec<PreKey> },
    /// New keys become durable under this token.
    Committing { token: u64, ids: Ids, keys: Vec<PreKey> },
    /// The server was told.
    Uploading { ids: Ids },
}

/// When the server may be given pre-keys again: one that forgets what it took is not given a thousand every few minutes,
/// each of which we would have to keep.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    until: Instant,
    /// Rests since it had enough.
    times: u32,
}

impl Rest {
    const fn is_over(&self, now: Instant) -> bool {
        now.as_micros() >= self.until.as_micros()
    }

    /// The server has enough.
    fn on_enough(&mut self) {
        self.times = 0;
    }

    /// The server has taken some.
    pub(crate) fn on_uploaded(&mut self, now: Instant) {
        self.until = now + REST.saturating_mul(1 << self.times.min(16)).min(LONGEST_REST);
        self.times = self.times.saturating_add(1);
    }
}

/// The ids of one-time pre-keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    /// The first that is not known to be at the server.
    unconfirmed: u32,
    /// The next that is free.
    next: u32,
}

impl Ids {
    fn key() -> RecordKey {
        RecordKey::new(RecordKind::PreKeyIds, "")
    }

    pub(crate) fn read(record: Option<StoredRecord>) -> Self {
        let bytes = record.as_ref().map(|record| record.value.expose());
        let ids = bytes.and_then(|bytes| {
            let (unconfirmed, next) = bytes.split_first_chunk()?;
            let ids = Self {
                unconfirmed: u32::from_be_bytes(*unconfirmed),
                next: u32::from_be_bytes(next.try_into().ok()?),
            };
            let is_sound = (FIRST_ID..=ids.next).contains(&ids.unconfirmed) && ids.next <= LAST_ID;
            is_sound.then_some(ids)
        });
        ids.unwrap_or(Self { unconfirmed: FIRST_ID, next: FIRST_ID })
    }

    fn write(self) -> Write {
        let (key, value) = self.record();
        Write::PutRecord { key, value }
    }

    pub(crate) fn record(self) -> (RecordKey, RecordBytes) {
        (Self::key(), [self.unconfirmed.to_be_bytes(), self.next.to_be_bytes()].concat().into())
    }

    /// The next that is free, and the first that is not known to be at the server.
    pub(crate) const fn numbers(self) -> (u32, u32) {
        (self.next, self.unconfirmed)
    }

    /// Of a device that another program had, and that we had before: what it would give next.
    pub(crate) fn from(next: u32) -> Self {
        let next = if (FIRST_ID..=LAST_ID).contains(&next) { next } else { FIRST_ID };
        Self { unconfirmed: next, next }
    }

    /// Out of a backup: ids that were given since are given to no other key.
    pub(crate) fn leapt(self) -> Self {
        Self::from(self.next.saturating_add(RESTORED_LEAP))
    }
}

impl PreKeys {
    /// Nothing is under way.
    pub(crate) const fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// Keys are being made.
    pub(crate) const fn has_work(&self) -> bool {
        matches!(self, Self::Making { .. })
    }

    /// The store cannot be read; the next count asks again.
    pub(crate) fn give_up(&mut self) {
        *self = Self::Idle;
    }

    /// The upload was answered or was not.
    pub(crate) fn on_uploaded(&mut self, is_done: bool) -> Option<Write> {
        let Self::Uploading { ids } = std::mem::take(self) else { return None };
        is_done.then(|| Ids { unconfirmed: ids.next, ..ids }.write())
    }
}

impl Client {
    /// The server has `count` one-time pre-keys of ours.
    pub(crate) fn on_pre_key_count(&mut self, count: u64, now: Instant, effects: &mut Vec<Effect>) {
        if count >= FEW {
            self.pre_key_rest.on_enough();
        } else if self.pre_key_rest.is_over(now) {
            self.begin_pre_keys(count, effects);
        }
    }

    /// It is given more.
    pub(crate) fn begin_pre_keys(&mut self, count: u64, effects: &mut Vec<Effect>) {
        if !matches!(self.pre_keys, PreKeys::Idle) {
            return;
        }
        if !self.upkeep.is_ready() {
            self.pre_keys = PreKeys::Waiting { count };
            return self.load_upkeep(effects);
        }
        if let Some((token, keys)) = self.receiver.load(LoadFor::PreKeys, vec![Ids::key()]) {
            self.pre_keys = PreKeys::LoadingIds { count: u32::try_from(count).unwrap_or(u32::MAX) };
            effects.push(Effect::Load { token, keys });
        }
    }

    /// The signed pre-key is known: what waited for it goes on.
    pub(crate) fn resume_pre_keys(&mut self, effects: &mut Vec<Effect>) {
        if let PreKeys::Waiting { count } = self.pre_keys {
            self.pre_keys = PreKeys::Idle;
            self.begin_pre_keys(count, effects);
        }
    }

    pub(crate) fn on_pre_keys_loaded(
        &mut self,
        keys: &[RecordKey],
        mut records: Vec<Option<StoredRecord>>,
        cx: &mut Cx<'_>,
    ) {
        match std::mem::take(&mut self.pre_keys) {
            PreKeys::LoadingIds { count } => {
                let record =
                    records.pop().flatten().and_then(|record| receive::own_form(&Ids::key(), record));
                let ids = Ids::read(record.map(|value| StoredRecord { value, is_imported: false }));
                if ids.unconfirmed < ids.next {
                    let unconfirmed = ids.unconfirmed..ids.next.min(ids.unconfirmed + WANTED);
                    let keys =
                        unconfirmed.map(|id| RecordKey::new(RecordKind::PreKey, id.to_string())).collect();
                    if let Some((token, keys)) = self.receiver.load(LoadFor::PreKeys, keys) {
                        self.pre_keys = PreKeys::LoadingKeys { ids };
                        cx.effects.push(Effect::Load { token, keys });
                    }
                } else {
                    self.begin_making(ids, WANTED.saturating_sub(count));
                }
            }
            PreKeys::LoadingKeys { ids } => {
                // One that was used meanwhile was at the server after all.
                let found = keys.iter().zip(records);
                let left: Vec<_> = found
                    .filter_map(|(key, record)| receive::own_form(key, record?))
                    .filter_map(|record| PreKey::from_record(record.expose()).ok())
                    .collect();
                if left.is_empty() {
                    self.begin_making(Ids { unconfirmed: ids.next, ..ids }, WANTED);
                } else {
                    self.upload(ids, &left, &mut io(cx));
                }
            }
            other => self.pre_keys = other,
        }
    }

    fn begin_making(&mut self, ids: Ids, count: u32) {
        let first = if ids.next + count > LAST_ID { FIRST_ID } else { ids.next };
        let ids = Ids { unconfirmed: first, next: first + count };
        self.pre_keys = PreKeys::Making { ids, keys: Vec::with_capacity(count as usize) };
    }

    /// Makes some more keys, and commits them when there are enough.
    pub(crate) fn work_on_pre_keys(&mut self, cx: &mut Cx<'_>) {
        let PreKeys::Making { ids, keys } = &mut self.pre_keys else { return };
        let next = keys.last().map_or(ids.unconfirmed, |key| key.id + 1);
        let random = &mut |bytes: &mut [u8]| cx.entropy.fill(bytes);
        keys.extend((next..ids.next).take(SLICE).map(|id| PreKey::generate(id, random)));
        if keys.last().is_some_and(|key| key.id + 1 < ids.next) {
            return;
        }
        let (ids, keys) = (*ids, std::mem::take(keys));
        let mut writes: Vec<_> = keys
            .iter()
            .map(|key| Write::PutRecord {
                key: RecordKey::new(RecordKind::PreKey, key.id.to_string()),
                value: key.to_record().into_bytes().into(),
            })
            .collect();
        writes.push(ids.write());
        let token = self.inbox.next_token();
        self.pre_keys = PreKeys::Committing { token, ids, keys };
        cx.effects.push(Effect::Commit { token, writes });
    }

    /// True when the commit was one of pre-keys.
    pub(crate) fn on_pre_keys_committed(&mut self, token: u64, is_durable: bool, cx: &mut Cx<'_>) -> bool {
        match std::mem::take(&mut self.pre_keys) {
            PreKeys::Committing { token: own, ids, keys } if own == token => {
                if is_durable {
                    self.upload(ids, &keys, &mut io(cx));
                }
                true
            }
            other => {
                self.pre_keys = other;
                false
            }
        }
    }

    fn upload(&mut self, ids: Ids, keys: &[PreKey], io: &mut Io<'_>) {
        self.pre_keys = PreKeys::Uploading { ids };
        let own = &self.keys;
        let request = Request { xmlns: "encrypt", is_set: true, purpose: Ask::Upload as u8 };
        self.session.request(io, request, 5, |writer| {
            receive::write_registration(writer, &own.identity);
            receive::write_identity(writer, &own.identity);
            writer.node("list", 0, true);
            writer.children(keys.len());
            for key in keys {
                receive::write_key(writer, "key", key.id, &key.pair, None);
            }
            receive::write_signed_pre_key(writer, own.current());
        });
    }
}

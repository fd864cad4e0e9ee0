//! Signal records by name, as effects carry them, and the working set of those in use.

use std::collections::HashMap;

use zeroize::Zeroizing;

/// What a record is. The slugs are the names under which Baileys keeps the same, so that a record that was imported is
/// found under the name that its successor is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// All Signal sessions with one device, by its address.
    Session,
    /// The sender keys of one device in one group.
    SenderKey,
    /// A one-time pre-key of ours, by its id.
    PreKey,
    /// A signed pre-key of ours that is not the one of the credentials, by its id.
    SignedPreKey,
    /// The identity key of a device, by its address.
    Identity,
    /// The LID of a phone number, by its user part, and the phone number of a LID, by its user part and `_reverse`.
    LidMapping,
    /// The ids of one-time pre-keys that come next.
    PreKeyIds,
    /// Which signed pre-key is in use, and when what is due.
    SignedPreKeyState,
    /// A key of the app state, by its id in base64: an encoded `AppStateSyncKeyData`.
    AppStateKey,
    /// Where a piece of history lies, by the id of the message that told: an encoded `HistorySyncNotification`.
    HistoryNotice,
    /// The devices of an account, by its user part.
    Devices,
    /// A message of ours that somebody may ask for again, by its place.
    Sent,
    /// Which places those have, by the part of the ids; and the number of the next one.
    SentIndex,
    /// Who is in a group, by its JID.
    Group,
    /// Who has our own sender key of a group, by its JID.
    Holders,
}

impl RecordKind {
    /// The name in the store.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::SenderKey => "sender-key",
            Self::PreKey => "pre-key",
            Self::SignedPreKey => "signed-pre-key",
            Self::Identity => "identity-key",
            Self::LidMapping => "lid-mapping",
            Self::PreKeyIds => "pre-key-ids",
            Self::SignedPreKeyState => "signed-pre-key-state",
            Self::AppStateKey => "app-state-sync-key",
            Self::HistoryNotice => "history-notice",
            Self::Devices => "devices",
            Self::Sent => "sent",
            Self::SentIndex => "sent-index",
            Self::Group => "group",
            Self::Holders => "sender-key-holders",
        }
    }
}

/// The name of a record within its session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordKey {
    /// What it is.
    pub kind: RecordKind,
    /// Which one.
    pub id: String,
}

impl RecordKey {
    pub(crate) fn new(kind: RecordKind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }
}

/// The bytes of a record; wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordBytes(Zeroizing<Vec<u8>>);

impl RecordBytes {
    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, for a store that wipes them itself.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0)
    }
}

impl From<Vec<u8>> for RecordBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl std::fmt::Debug for RecordBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecordBytes({} bytes)", self.0.len())
    }
}

/// A record as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its bytes.
    pub value: RecordBytes,
    /// They are in the form of the program that the session was imported from.
    pub is_imported: bool,
}

/// The records of one connection that a message in flight reads or has changed.
///
/// What is here is newer than the store by the commits that are under way. When one of them fails, all of it is wrong
/// and is thrown away: the next message begins with what the store has. Nothing stays once nothing is in flight, so an
/// idle session owns no record and no heap; a burst of one chat loads its session once.
#[derive(Debug, Default)]
pub(crate) struct Records {
    entries: HashMap<RecordKey, Entry>,
    /// Counts how often all of it was thrown away. The answer to a load of an earlier time is not believed: a change may
    /// have been committed since it was asked for.
    age: u32,
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// The number of the last message that reads or has changed it.
    used_by: u64,
}

#[derive(Debug)]
enum State {
    Loading,
    Here(Option<RecordBytes>),
}

/// A record that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// It is here; `None`: the store has none.
    Here(Option<&'a [u8]>),
    /// It must be loaded first, or is on its way.
    Missing,
}

impl Records {
    /// Looks one up for message number `user`.
    pub(crate) fn find(&mut self, key: &RecordKey, user: u64) -> Found<'_> {
        match self.entries.get_mut(key) {
            Some(entry) => {
                entry.used_by = entry.used_by.max(user);
                match &entry.state {
                    State::Here(record) => Found::Here(record.as_ref().map(RecordBytes::expose)),
                    State::Loading => Found::Missing,
                }
            }
            None => Found::Missing,
        }
    }

    /// A record that [`find`](Self::find) has found; none otherwise.
    pub(crate) fn peek(&self, key: &RecordKey) -> Option<&[u8]> {
        match &self.entries.get(key)?.state {
            State::Here(record) => record.as_ref().map(RecordBytes::expose),
            State::Loading => None,
        }
    }

    /// Notes that message `user` wants a record; true when it is to be loaded.
    pub(crate) fn want(&mut self, key: &RecordKey, user: u64) -> bool {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.used_by = entry.used_by.max(user);
            return false;
        }
        self.entries.insert(key.clone(), Entry { state: State::Loading, used_by: user });
        true
    }

    /// The store's answer to a load. One that nobody waits for any more, or that is older than what is here, is left.
    pub(crate) fn loaded(&mut self, key: &RecordKey, record: Option<RecordBytes>) {
        if let Some(entry) = self.entries.get_mut(key)
            && matches!(entry.state, State::Loading)
        {
            entry.state = State::Here(record);
        }
    }

    /// Message `user` changes a record, or uses it up.
    pub(crate) fn set(&mut self, key: RecordKey, record: Option<RecordBytes>, user: u64) {
        self.entries.insert(key, Entry { state: State::Here(record), used_by: user });
    }

    /// A record is removed, whoever uses it; a load of it that is under way would bring what was.
    pub(crate) fn forget(&mut self, key: &RecordKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.state = State::Here(None);
        }
    }

    /// All messages up to `user` are settled.
    pub(crate) fn release(&mut self, user: u64) {
        self.entries.retain(|_, entry| entry.used_by > user);
        if self.entries.is_empty() {
            self.clear();
        }
    }

    /// None of it holds any more.
    pub(crate) fn clear(&mut self) {
        self.entries = HashMap::new();
        self.age = self.age.wrapping_add(1);
    }

    /// What a load that is asked for has to come back with.
    pub(crate) const fn age(&self) -> u32 {
        self.age
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> RecordKey {
        RecordKey::new(RecordKind::Session, id)
    }

    #[test]
    fn a_record_is_loaded_once_and_stays_while_a_message_needs_it() {
        let mut records = Records::default();
        assert_eq!(records.find(&key("a"), 1), Found::Missing);
        assert!(records.want(&key("a"), 1));
        assert!(!records.want(&key("a"), 2), "it is on its way");
        assert_eq!(records.find(&key("a"), 2), Found::Missing);
        records.loaded(&key("a"), Some(vec![1].into()));
        assert_eq!(records.find(&key("a"), 2), Found::Here(Some(&[1])));
        records.release(1);
        assert_eq!(records.peek(&key("a")), Some(&[1][..]));
        records.release(2);
        assert_eq!(
            (records.peek(&key("a")), records.capacity()),
            (None, 0),
            "no heap while nothing is in flight"
        );
    }

    #[test]
    fn an_answer_of_the_store_does_not_overtake_a_change() {
        let mut records = Records::default();
        records.want(&key("a"), 1);
        records.set(key("a"), Some(vec![2].into()), 1);
        records.loaded(&key("a"), Some(vec![1].into()));
        assert_eq!(records.peek(&key("a")), Some(&[2][..]));
        records.clear();
        records.loaded(&key("a"), Some(vec![1].into()));
        assert_eq!(records.find(&key("a"), 3), Found::Missing, "asked for before a failure");
    }
}

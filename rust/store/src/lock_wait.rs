//! What a wait for the database's write lock does not hold up: reads that nothing in front of them will change.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::queue::Read;
use crate::record::{Batch, Write};

/// What the batches that wait will change, as hashes: a collision only makes a read wait that need not.
#[derive(Default)]
pub(crate) struct Pending {
    changes: HashSet<u64>,
    hasher: RandomState,
}

/// Something that a batch changes and a read depends on.
#[derive(Hash)]
enum Thing<'a> {
    /// Anything of this session.
    Session(&'a str),
    /// What [`Read::Device`] reads.
    Device(&'a str),
    Record(&'a str, &'a str, &'a str),
}

impl Pending {
    /// This batch waits.
    pub(crate) fn note(&mut self, batch: &Batch) {
        let id = batch.session_id.as_str();
        self.insert(&Thing::Session(id));
        for write in &batch.writes {
            match write {
                Write::PutRecord { key, .. } | Write::RemoveRecord(key) => {
                    self.insert(&Thing::Record(id, key.kind, &key.id));
                }
                Write::RoutingInfo(_)
                | Write::ServerChain(_)
                | Write::ForgetServerChain
                | Write::Lid(_)
                | Write::Device(_) => self.insert(&Thing::Device(id)),
                Write::Inbox { .. } | Write::DeadLetter { .. } => {}
            }
        }
    }

    /// Whether this read finds the same before what waits as behind it.
    ///
    /// A new device brings records along, which nobody reads before the connection after it has its device.
    pub(crate) fn leaves(&self, read: &Read) -> bool {
        match read {
            Read::Device { session_id, .. } => !self.has(&Thing::Device(session_id)),
            Read::Records { session_id, keys, .. } => {
                !keys.iter().any(|key| self.has(&Thing::Record(session_id, key.kind, &key.id)))
            }
            Read::Ciphertexts { session_id, .. } => !self.has(&Thing::Session(session_id)),
        }
    }

    fn insert(&mut self, thing: &Thing<'_>) {
        self.changes.insert(self.hasher.hash_one(thing));
    }

    fn has(&self, thing: &Thing<'_>) -> bool {
        self.changes.contains(&self.hasher.hash_one(thing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordKey;

    fn key(id: &str) -> RecordKey {
        RecordKey { kind: "session", id: id.into() }
    }

    fn records(session_id: &str, ids: &[&str]) -> Read {
        let keys = ids.iter().map(|id| key(id)).collect();
        Read::Records { session_id: session_id.into(), token: 1, keys }
    }

    fn device(session_id: &str) -> Read {
        Read::Device { session_id: session_id.into(), token: 1 }
    }

    fn ciphertexts(session_id: &str) -> Read {
        Read::Ciphertexts { session_id: session_id.into(), token: 1, after_seq: 0, n: 9 }
    }

    #[test]
    fn a_read_waits_for_what_it_reads_and_for_nothing_else() {
        let mut pending = Pending::default();
        let batch = |writes| Batch { token: 1, session_id: "a".into(), writes };
        assert!(pending.leaves(&ciphertexts("a")));
        pending.note(&batch(vec![Write::RemoveRecord(key("1"))]));
        assert!(!pending.leaves(&records("a", &["2", "1"])));
        for free in [records("a", &["2"]), records("b", &["1"]), device("a"), ciphertexts("b")] {
            assert!(pending.leaves(&free));
        }
        assert!(!pending.leaves(&ciphertexts("a")), "whatever was changed");
        pending.note(&batch(vec![Write::RoutingInfo(vec![1])]));
        assert!(!pending.leaves(&device("a")));
        assert!(pending.leaves(&device("b")));
    }
}

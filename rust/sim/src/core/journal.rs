//! Two bounded logs: what happened to connections, and what the clients sent.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::{Map, Value};

use super::world::ConnectionId;

/// A log that forgets its oldest entries and numbers all of them from 1.
#[derive(Debug)]
pub(super) struct Ring<T> {
    entries: VecDeque<(u64, T)>,
    next_seq: u64,
    capacity: usize,
}

impl<T> Ring<T> {
    /// An empty ring that keeps `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), next_seq: 1, capacity }
    }

    /// Appends, forgetting the oldest entry when full.
    pub(super) fn push(&mut self, entry: T) {
        if self.capacity == 0 {
            return;
        }
        while self.entries.len() >= self.capacity {
            self.entries.pop_front();
        }
        self.entries.push_back((self.next_seq, entry));
        self.next_seq += 1;
    }

    /// Entries numbered above `seq`, oldest first.
    pub(super) fn since(&self, seq: u64) -> impl Iterator<Item = (u64, &T)> {
        let skip = self.entries.partition_point(|&(at, _)| at <= seq);
        self.entries.iter().skip(skip).map(|(at, entry)| (*at, entry))
    }

    /// Forgets all entries; numbering goes on.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Changes how many entries are kept.
    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        while self.entries.len() > capacity {
            self.entries.pop_front();
        }
    }
}

/// A text that a contact was sent.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Heard {
    /// Unix milliseconds.
    pub(super) t: u64,
    /// Which contact, from 0.
    pub(super) contact: u64,
    /// The username that it came from.
    pub(super) user: String,
    /// The group that it was written in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    /// The message's id.
    pub(super) id: String,
    /// What it says.
    pub(super) text: String,
    /// The id of the message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quoted: Option<String>,
}

/// Something that happened to a connection.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Happening {
    /// Unix milliseconds.
    pub(super) t: u64,
    /// `connect`, `login`, `ready`, `failure`, `close`, `replaced`, `logout`, `protocol-error` …
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// The connection.
    pub(super) sid: ConnectionId,
    /// The username, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// What else there is to say.
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

/// A stanza that a client sent.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sent {
    /// Unix milliseconds.
    pub(super) t: u64,
    /// The connection.
    pub(super) sid: ConnectionId,
    /// The username that it came from.
    pub(super) user: String,
    /// The tag of the stanza.
    pub(super) tag: String,
    /// Its attributes.
    pub(super) attrs: Map<String, Value>,
    /// Tag of the first child, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) child: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_forgets_the_oldest_and_keeps_numbering() {
        let mut ring = Ring::new(3);
        (0..5).for_each(|n| ring.push(n));
        assert_eq!(ring.since(0).collect::<Vec<_>>(), [(3, &2), (4, &3), (5, &4)]);
        assert_eq!(ring.since(4).collect::<Vec<_>>(), [(5, &4)]);
        assert_eq!(ring.since(5).count(), 0);
        ring.clear();
        ring.push(9);
        assert_eq!(ring.since(0).collect::<Vec<_>>(), [(6, &9)]);
    }
}

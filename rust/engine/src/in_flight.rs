//! What the store was asked for and has not answered. It answers in the order of asking, which makes this a queue.

use crate::slab::Key;
use runner_proto::time::Instant;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct InFlight {
    queue: VecDeque<Asked>,
    last_token: u64,
}

#[derive(Debug)]
struct Asked {
    token: u64,
    key: Key,
    since: Instant,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Commit {
        client_token: u64,
    },
    /// A commit that the store did not take; its client learns that in its turn.
    Failed {
        client_token: u64,
    },
    Device,
}

impl InFlight {
    /// Its tokens are no other's in this process: what the store still owes an engine that is gone must not be taken
    /// for an answer to the next one, least of all a device.
    pub(crate) fn new() -> Self {
        static ENGINES: AtomicU64 = AtomicU64::new(0);
        Self { queue: VecDeque::new(), last_token: ENGINES.fetch_add(1, Ordering::Relaxed) << 40 }
    }

    /// A client's commit goes to the store; the token for the batch.
    pub(crate) fn push_commit(&mut self, key: Key, client_token: u64, now: Instant) -> u64 {
        self.push(key, now, What::Commit { client_token })
    }

    pub(crate) fn push_device(&mut self, key: Key, now: Instant) -> u64 {
        self.push(key, now, What::Device)
    }

    fn push(&mut self, key: Key, since: Instant, what: What) -> u64 {
        self.last_token += 1;
        self.queue.push_back(Asked { token: self.last_token, key, since, what });
        self.last_token
    }

    /// The store refused to queue this commit.
    pub(crate) fn fail(&mut self, token: u64) {
        if let Some(asked) = self.find(token).and_then(|index| self.queue.get_mut(index))
            && let What::Commit { client_token } = asked.what
        {
            asked.what = What::Failed { client_token };
        }
    }

    /// The store answered for this commit: whose it is.
    pub(crate) fn take_commit(&mut self, token: u64) -> Option<(Key, u64)> {
        let index = self.find(token)?;
        match self.queue.remove(index)? {
            Asked { key, what: What::Commit { client_token } | What::Failed { client_token }, .. } => {
                Some((key, client_token))
            }
            Asked { what: What::Device, .. } => None,
        }
    }

    /// The device was loaded, or could not be asked for: whose it is.
    pub(crate) fn forget(&mut self, token: u64) -> Option<Key> {
        let index = self.find(token)?;
        Some(self.queue.remove(index)?.key)
    }

    /// The oldest commit, when it is one that the store refused.
    pub(crate) fn pop_failed(&mut self) -> Option<(Key, u64)> {
        match self.queue.front()? {
            &Asked { key, what: What::Failed { client_token }, .. } => {
                self.queue.pop_front();
                Some((key, client_token))
            }
            _ => None,
        }
    }

    /// How long the store has owed its oldest answer.
    pub(crate) fn oldest_age(&self, now: Instant) -> Duration {
        self.queue.front().map_or(Duration::ZERO, |asked| now - asked.since)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Tokens ascend, and the one that is asked for is nearly always the first.
    fn find(&self, token: u64) -> Option<usize> {
        match self.queue.front() {
            Some(first) if first.token == token => Some(0),
            _ => self.queue.binary_search_by_key(&token, |asked| asked.token).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;

    #[test]
    fn a_refused_commit_fails_after_the_older_ones_are_answered() {
        let mut slab = Slab::default();
        let key = slab.insert(());
        let now = Instant::default();
        let mut in_flight = InFlight::new();
        let first = in_flight.push_commit(key, 1, now);
        let refused = in_flight.push_commit(key, 2, now);
        in_flight.fail(refused);
        assert_eq!(in_flight.pop_failed(), None, "the first is still open");
        assert_eq!(in_flight.take_commit(first), Some((key, 1)));
        assert_eq!(in_flight.pop_failed(), Some((key, 2)));
        assert!(in_flight.is_empty());
    }

    #[test]
    fn an_answer_for_an_engine_that_is_gone_finds_nobody() {
        let mut slab = Slab::default();
        let key = slab.insert(());
        let (mut gone, mut next) = (InFlight::new(), InFlight::new());
        let asked = gone.push_device(key, Instant::default());
        next.push_device(key, Instant::default());
        assert_eq!(next.forget(asked), None);
        assert_eq!(gone.forget(asked), Some(key));
    }

    #[test]
    fn the_age_is_that_of_the_oldest_open_question() {
        let mut slab = Slab::default();
        let key = slab.insert(());
        let mut in_flight = InFlight::new();
        let device = in_flight.push_device(key, Instant::from_micros(1_000_000));
        let commit = in_flight.push_commit(key, 7, Instant::from_micros(2_000_000));
        let now = Instant::from_micros(4_000_000);
        assert_eq!(in_flight.oldest_age(now), Duration::from_secs(3));
        assert_eq!(in_flight.forget(device), Some(key));
        assert_eq!(in_flight.oldest_age(now), Duration::from_secs(2));
        assert_eq!(in_flight.take_commit(commit), Some((key, 7)));
        assert_eq!(in_flight.oldest_age(now), Duration::ZERO);
        assert_eq!(in_flight.take_commit(commit), None);
    }
}

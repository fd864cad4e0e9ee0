//! What the store was asked for and has not answered. It answers in the order of asking, but for
//! reads that pass a lock: a queue, of which nearly always the first is taken.

use crate::slab::Key;
use runner_proto::time::Instant;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct InFlight {
    queue: VecDeque<Asked>,
    last_token: u64,
    /// Commits that the store did not take and whose clients have yet to learn it, oldest first: token and client.
    refused: VecDeque<(u64, Key)>,
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
    Client(Question),
    /// The store did not take it; its client learns that in its turn.
    Refused(Question),
    Device,
}

/// What a client asked the store for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Commit { client_token: u64 },
    Records { client_token: u32 },
    Ciphertexts,
}

impl InFlight {
    /// Its tokens are no other's in this process: what the store still owes an engine that is gone must not be taken
    /// for an answer to the next one, least of all a device.
    pub(crate) fn new() -> Self {
        static ENGINES: AtomicU64 = AtomicU64::new(0);
        let last_token = ENGINES.fetch_add(1, Ordering::Relaxed) << 40;
        Self { queue: VecDeque::new(), last_token, refused: VecDeque::new() }
    }

    /// A client's question goes to the store; the token for it.
    pub(crate) fn push_question(&mut self, key: Key, question: Question, now: Instant) -> u64 {
        self.push(key, now, What::Client(question))
    }

    pub(crate) fn push_device(&mut self, key: Key, now: Instant) -> u64 {
        self.push(key, now, What::Device)
    }

    fn push(&mut self, key: Key, since: Instant, what: What) -> u64 {
        self.last_token += 1;
        self.queue.push_back(Asked { token: self.last_token, key, since, what });
        self.last_token
    }

    /// The store refused to queue this question.
    pub(crate) fn refuse(&mut self, token: u64) {
        if let Some(asked) = self.find(token).and_then(|index| self.queue.get_mut(index))
            && let What::Client(question) = asked.what
        {
            asked.what = What::Refused(question);
            let key = asked.key;
            // Nobody waits for a commit without a number, nor stands on it.
            if matches!(question, Question::Commit { client_token: 1.. }) && !self.stands_on_refused(key) {
                self.refused.push_back((token, key));
            }
        }
    }

    /// Whether a commit of this client was refused and it has yet to learn that: what it commits now was made on top of
    /// changes that do not exist, as what is queued behind a commit that fails.
    pub(crate) fn stands_on_refused(&self, key: Key) -> bool {
        self.refused.iter().any(|(_, client)| *client == key)
    }

    /// The store answered this question: whose it is.
    pub(crate) fn take_question(&mut self, token: u64) -> Option<(Key, Question)> {
        let index = self.find(token)?;
        match self.queue.remove(index)? {
            Asked { key, what: What::Client(question) | What::Refused(question), .. } => {
                Some((key, question))
            }
            Asked { what: What::Device, .. } => None,
        }
    }

    /// The device was loaded, or could not be asked for: whose it is.
    pub(crate) fn forget(&mut self, token: u64) -> Option<Key> {
        let index = self.find(token)?;
        Some(self.queue.remove(index)?.key)
    }

    /// The oldest question, when it is one that the store refused.
    pub(crate) fn pop_refused(&mut self) -> Option<(Key, Question)> {
        match self.queue.front()? {
            &Asked { token, key, what: What::Refused(question), .. } => {
                self.queue.pop_front();
                if self.refused.front().is_some_and(|(first, _)| *first == token) {
                    self.refused.pop_front();
                }
                Some((key, question))
            }
            _ => None,
        }
    }

    /// Since when the store has owed its oldest answer.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.queue.front().map(|asked| asked.since)
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

    fn commit(client_token: u64) -> Question {
        Question::Commit { client_token }
    }

    #[test]
    fn a_refused_commit_fails_after_the_older_ones_are_answered() {
        let mut slab = Slab::default();
        let key = slab.insert(());
        let now = Instant::default();
        let mut in_flight = InFlight::new();
        let first = in_flight.push_question(key, commit(1), now);
        let refused = in_flight.push_question(key, commit(2), now);
        in_flight.refuse(refused);
        assert_eq!(in_flight.pop_refused(), None, "the first is still open");
        assert_eq!(in_flight.take_question(first), Some((key, commit(1))));
        assert_eq!(in_flight.pop_refused(), Some((key, commit(2))));
        assert!(in_flight.is_empty());
    }

    #[test]
    fn what_a_client_commits_before_it_learns_of_a_refusal_stands_on_it() {
        let mut slab = Slab::default();
        let (key, other) = (slab.insert(()), slab.insert(()));
        let now = Instant::default();
        let mut in_flight = InFlight::new();
        let unnumbered = in_flight.push_question(key, commit(0), now);
        in_flight.refuse(unnumbered);
        assert!(!in_flight.stands_on_refused(key), "nobody stands on that");
        for client_token in 1..=2 {
            let refused = in_flight.push_question(key, commit(client_token), now);
            in_flight.refuse(refused);
            assert!(in_flight.stands_on_refused(key) && !in_flight.stands_on_refused(other));
        }
        assert_eq!(in_flight.pop_refused(), Some((key, commit(0))));
        assert!(in_flight.stands_on_refused(key));
        assert_eq!(in_flight.pop_refused(), Some((key, commit(1))));
        assert!(!in_flight.stands_on_refused(key), "it has learned, and began anew");
        assert_eq!(in_flight.pop_refused(), Some((key, commit(2))));
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
    fn the_oldest_is_the_oldest_that_is_open() {
        let mut slab = Slab::default();
        let key = slab.insert(());
        let mut in_flight = InFlight::new();
        let device = in_flight.push_device(key, Instant::from_micros(1_000_000));
        let committed = in_flight.push_question(key, commit(7), Instant::from_micros(2_000_000));
        assert_eq!(in_flight.oldest(), Some(Instant::from_micros(1_000_000)));
        assert_eq!(in_flight.forget(device), Some(key));
        assert_eq!(in_flight.oldest(), Some(Instant::from_micros(2_000_000)));
        assert_eq!(in_flight.take_question(committed), Some((key, commit(7))));
        assert_eq!(in_flight.oldest(), None);
        assert_eq!(in_flight.take_question(committed), None);
    }
}

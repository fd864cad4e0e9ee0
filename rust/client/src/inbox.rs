//! Inbound messages that wait to become durable before they are answered.

use std::{collections::VecDeque, time::Duration};

use runner_proto::time::Instant;

use crate::CommitFailed;

/// The messages of one connection that are owed their answer, in the order in which they came.
///
/// Owns no heap while none waits.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: VecDeque<Waiting>,
    last_token: u32,
    /// Messages whose commit failed: never answered on this connection, so that the server gives them again on the
    /// next one, which begins when the store is well again.
    lost: u32,
    oldest_lost: Option<Instant>,
    /// The same without the pauses since then.
    oldest_lost_unpaused: Option<Instant>,
}

/// What is sent once a commit is durable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The encoded stanza.
    pub(crate) stanza: Vec<u8>,
    /// It refuses the message, which is kept as a dead letter.
    pub(crate) refuses: bool,
}

#[derive(Debug)]
struct Waiting {
    token: u32,
    since: Instant,
    /// The same without the pauses since then; what a verdict counts from.
    unpaused_since: Instant,
    answer: Answer,
}

impl Inbox {
    /// A message came; its `answer` is to be sent when the commit with the returned token is durable.
    pub(crate) fn push(&mut self, answer: Answer, now: Instant) -> u64 {
        self.last_token = self.last_token.checked_add(1).unwrap_or(1);
        let token = self.last_token;
        self.waiting.push_back(Waiting { token, since: now, unpaused_since: now, answer });
        u64::from(self.last_token)
    }

    /// The commit with `token` has an outcome: the answer to send, if it is durable and waited for.
    pub(crate) fn settle(&mut self, token: u64, outcome: Result<(), CommitFailed>) -> Option<Answer> {
        // Outcomes come in order, so this is the first one unless the token is not ours.
        let index = self.waiting.iter().position(|waiting| u64::from(waiting.token) == token)?;
        let waiting = self.waiting.remove(index)?;
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        if outcome.is_err() {
            self.lost = self.lost.saturating_add(1);
            self.oldest_lost.get_or_insert(waiting.since);
            self.oldest_lost_unpaused.get_or_insert(waiting.unpaused_since);
            return None;
        }
        Some(waiting.answer)
    }

    /// How many messages are unanswered.
    pub(crate) fn unanswered(&self) -> u32 {
        self.lost.saturating_add(u32::try_from(self.waiting.len()).unwrap_or(u32::MAX))
    }

    /// How many of them this connection will not answer.
    pub(crate) const fn lost(&self) -> u32 {
        self.lost
    }

    /// Since when the oldest of them waits.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|waiting| waiting.since);
        [self.oldest_lost, waiting].into_iter().flatten().min()
    }

    /// The same, moved by the pauses since then.
    pub(crate) fn oldest_unpaused(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|waiting| waiting.unpaused_since);
        [self.oldest_lost_unpaused, waiting].into_iter().flatten().min()
    }

    /// The store stalled for `by`, until now: that much of the waiting says nothing about us.
    pub(crate) fn postpone(&mut self, by: Duration, now: Instant) {
        let moved = |since: Instant| (since + by).min(now);
        for waiting in &mut self.waiting {
            waiting.unpaused_since = moved(waiting.unpaused_since);
        }
        self.oldest_lost_unpaused = self.oldest_lost_unpaused.map(moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn ack(byte: u8) -> Answer {
        Answer { stanza: vec![byte], refuses: false }
    }

    #[test]
    fn an_answer_is_given_once_and_only_for_what_is_durable() {
        let mut inbox = Inbox::default();
        let first = inbox.push(ack(1), at(1));
        let second = inbox.push(ack(2), at(2));
        assert_eq!((inbox.unanswered(), inbox.oldest()), (2, Some(at(1))));
        assert_eq!(inbox.settle(first, Ok(())), Some(ack(1)));
        assert_eq!(inbox.settle(first, Ok(())), None);
        assert_eq!(inbox.settle(77, Ok(())), None);
        assert_eq!((inbox.unanswered(), inbox.oldest()), (1, Some(at(2))));
        assert_eq!(inbox.settle(second, Err(CommitFailed::Store)), None);
        assert_eq!((inbox.unanswered(), inbox.oldest()), (1, Some(at(2))), "it stays unanswered");
        assert_eq!(inbox.lost(), 1);
        assert_eq!(inbox.waiting.capacity(), 0, "no heap while nothing waits");
    }
}

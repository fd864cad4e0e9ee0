//! Inbound messages that wait to become durable before they are answered.

use std::{collections::VecDeque, time::Duration};

use runner_proto::time::Instant;

use crate::Failure;

/// The messages of one connection whose commit is under way, in the order in which they came.
///
/// Owns no heap while none waits.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: VecDeque<Waiting>,
    last_token: u32,
    /// Messages that could not be kept: never answered on this connection, so that the server gives them again on the
    /// next one, which begins when the store is well again.
    lost: u32,
    oldest_lost: Option<Arrival>,
}

/// When a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    since: Instant,
    /// The same without the pauses since then; what a verdict counts from.
    unpaused_since: Instant,
}

impl Arrival {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { since: now, unpaused_since: now }
    }

    pub(crate) const fn since(self) -> Instant {
        self.since
    }

    pub(crate) const fn unpaused_since(self) -> Instant {
        self.unpaused_since
    }

    /// The store did not commit for `by`, until now: that much of the waiting says nothing about us.
    pub(crate) fn postpone(&mut self, by: Duration, now: Instant) {
        self.unpaused_since = (self.unpaused_since + by).min(now);
    }
}

/// What follows once a commit is durable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Encoded stanzas, in order.
    Send { stanzas: Vec<Vec<u8>>, counted: Counted },
    /// The message has no content: how often that has happened by then decides.
    Failed {
        /// The whole message, encoded, flag byte in front.
        message: Vec<u8>,
        failure: Failure,
    },
}

/// What an answered message counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// A message that we have.
    Received,
    /// One that is kept without its content.
    Undecrypted,
    /// One that did not decode.
    Undecodable,
    /// Nothing: it was no message, and the server has its answer.
    Nothing,
}

#[derive(Debug)]
struct Waiting {
    token: u64,
    answer: Answer,
    owed: Owed,
}

/// To whom a message is owed an answer, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    /// The server waits for it since then; `None`: it has its answer from an earlier version, only the sender has none.
    pub(crate) arrival: Option<Arrival>,
    /// The message's number at the [`Receiver`](crate::receive::Receiver).
    pub(crate) number: u64,
}

/// What became of a commit that was waited for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is durable: this follows.
    Durable { answer: Answer, owed: Owed },
    /// It failed.
    Lost,
}

impl Inbox {
    /// A message is to be kept; its `answer` follows when the commit with the returned token is durable.
    pub(crate) fn push(&mut self, answer: Answer, owed: Owed) -> u64 {
        let token = self.next_token();
        self.waiting.push_back(Waiting { token, answer, owed });
        token
    }

    /// The token of a commit that somebody else waits for.
    pub(crate) fn next_token(&mut self) -> u64 {
        self.last_token = self.last_token.checked_add(1).unwrap_or(1);
        u64::from(self.last_token)
    }

    /// The commit with `token` has an outcome; `None` when it is not waited for.
    pub(crate) fn settle(&mut self, token: u64, is_durable: bool) -> Option<Settled> {
        // Outcomes come in order, so this is the first one unless the token is not ours.
        let index = self.waiting.iter().position(|waiting| waiting.token == token)?;
        let Waiting { answer, owed, .. } = self.waiting.remove(index)?;
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        if is_durable {
            return Some(Settled::Durable { answer, owed });
        }
        if let Some(arrival) = owed.arrival {
            self.lose(arrival);
        }
        Some(Settled::Lost)
    }

    /// A message cannot be kept.
    pub(crate) fn lose(&mut self, arrival: Arrival) {
        self.lost = self.lost.saturating_add(1);
        self.oldest_lost.get_or_insert(arrival);
    }

    /// Whether nothing is being committed.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many messages of the server are unanswered.
    pub(crate) fn unanswered(&self) -> u32 {
        let owed = self.waiting.iter().filter(|waiting| waiting.owed.arrival.is_some()).count();
        self.lost.saturating_add(u32::try_from(owed).unwrap_or(u32::MAX))
    }

    /// How many of them this connection will not answer.
    pub(crate) const fn lost(&self) -> u32 {
        self.lost
    }

    /// Those of which the oldest waits longest, with and without pauses.
    pub(crate) fn oldest(&self) -> impl Iterator<Item = Arrival> {
        let waiting = self.waiting.iter().find_map(|waiting| waiting.owed.arrival);
        [self.oldest_lost, waiting].into_iter().flatten()
    }

    /// The store did not commit for `by`, until now.
    pub(crate) fn postpone(&mut self, by: Duration, now: Instant) {
        let waiting = self.waiting.iter_mut().filter_map(|waiting| waiting.owed.arrival.as_mut());
        for arrival in waiting.chain(self.oldest_lost.as_mut()) {
            arrival.postpone(by, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn ack(byte: u8) -> Answer {
        Answer::Send { stanzas: vec![vec![byte]], counted: Counted::Received }
    }

    fn owed(seconds: u64) -> Owed {
        Owed { arrival: Some(Arrival::new(at(seconds))), number: seconds }
    }

    fn oldest(inbox: &Inbox) -> Option<Instant> {
        inbox.oldest().map(Arrival::since).min()
    }

    #[test]
    fn an_answer_is_given_once_and_only_for_what_is_durable() {
        let mut inbox = Inbox::default();
        let first = inbox.push(ack(1), owed(1));
        let second = inbox.push(ack(2), owed(2));
        assert_eq!((inbox.unanswered(), oldest(&inbox)), (2, Some(at(1))));
        assert_eq!(inbox.settle(first, true), Some(Settled::Durable { answer: ack(1), owed: owed(1) }));
        assert_eq!(inbox.settle(first, true), None);
        assert_eq!(inbox.settle(77, true), None);
        assert_eq!((inbox.unanswered(), oldest(&inbox)), (1, Some(at(2))));
        assert_eq!(inbox.settle(second, false), Some(Settled::Lost));
        assert_eq!((inbox.unanswered(), oldest(&inbox)), (1, Some(at(2))), "it stays unanswered");
        assert_eq!(inbox.lost(), 1);
        assert_eq!(inbox.waiting.capacity(), 0, "no heap while nothing waits");
    }

    #[test]
    fn a_message_from_our_store_is_owed_nothing_by_the_server() {
        let mut inbox = Inbox::default();
        let token = inbox.push(ack(1), Owed { arrival: None, number: 1 });
        assert_eq!((inbox.unanswered(), oldest(&inbox)), (0, None));
        assert_eq!(inbox.settle(token, false), Some(Settled::Lost));
        assert_eq!(inbox.lost(), 0, "it is still there");
    }
}

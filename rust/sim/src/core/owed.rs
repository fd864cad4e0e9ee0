//! The stanzas of one connection that still wait for the client's answer (docs/protocol.md, "Answers").

use std::collections::VecDeque;
use std::time::Duration;

use runner_proto::time::Instant;

/// Stanzas tracked per connection; a flood beyond it is delivered but not tracked.
const MAX_OWED: usize = 16_384;

/// What counts as an answer to a `<message>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum AnswerRule {
    /// A receipt answers a message, and so does an ack.
    #[default]
    #[serde(rename = "a", alias = "A")]
    Receipt,
    /// Only an ack answers a message.
    #[serde(rename = "b", alias = "B")]
    AckOnly,
}

/// A stanza of ours that expects an answer.
#[derive(Debug, Clone)]
pub(super) struct Debt {
    /// `message`, `receipt`, `notification`, `call`, `iq` or [`UNKNOWN`].
    pub(super) class: &'static str,
    /// Its id.
    pub(super) id: String,
    /// When it was sent.
    pub(super) since: Instant,
    /// The stanza as it was sent, if it must be delivered again on the next connection.
    pub(super) stanza: Option<Box<[u8]>>,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// It was owed and is not any more.
    Yes,
    /// Nothing was owed under that class and id.
    NotOwed,
    /// The stanza stays owed: under this rule it wants another answer.
    StillOwed,
}

/// The debts of one connection, oldest first.
#[derive(Debug, Default)]
pub(super) struct Owed {
    debts: VecDeque<Debt>,
}

/// The class of a stanza whose tag the protocol does not have: it is to be refused.
const UNKNOWN: &str = "unknown";

/// Tags that expect no answer.
const UNANSWERED: [&str; 10] = [
    "ack",
    "chatstate",
    "failure",
    "ib",
    "iq",
    "presence",
    "stream:error",
    "stream:features",
    "success",
    "xmlstreamend",
];

/// The class under which a stanza with this tag is owed; `None` if it expects no answer.
pub(super) fn class_of(tag: &str, kind: &str) -> Option<&'static str> {
    match tag {
        "message" => Some("message"),
        "receipt" => Some("receipt"),
        "notification" => Some("notification"),
        "call" => Some("call"),
        "iq" if kind == "get" || kind == "set" => Some("iq"),
        tag if UNANSWERED.contains(&tag) => None,
        _ => Some(UNKNOWN),
    }
}

impl Owed {
    /// Notes a stanza that was just sent; false when there are too many to track.
    pub(super) fn note(&mut self, debt: Debt) -> bool {
        let room = self.debts.len() < MAX_OWED;
        if room {
            self.debts.push_back(debt);
        }
        room
    }

    /// The client sent `<ack class id>`, `<receipt id>` or `<iq type=result|error id>`.
    pub(super) fn settle(&mut self, answer: &str, class: &str, id: &str, rule: AnswerRule) -> Settled {
        let class = if answer == "receipt" { "message" } else { class_of(class, "set").unwrap_or_default() };
        // Answers come in the order of the stanzas, so the first comparison is nearly always the last.
        let Some(at) = self.debts.iter().position(|debt| debt.class == class && debt.id == id) else {
            return Settled::NotOwed;
        };
        if answer == "receipt" && rule == AnswerRule::AckOnly {
            return Settled::StillOwed;
        }
        self.debts.remove(at);
        Settled::Yes
    }

    /// The oldest debt.
    pub(super) fn oldest(&self) -> Option<&Debt> {
        self.debts.front()
    }

    /// The oldest debt if it is at least `limit` old.
    pub(super) fn overdue(&self, now: Instant, limit: Duration) -> Option<&Debt> {
        self.oldest().filter(|debt| now.saturating_duration_since(debt.since) >= limit)
    }

    /// Number of debts.
    pub(super) fn len(&self) -> usize {
        self.debts.len()
    }

    /// All debts, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Debt> {
        self.debts.iter()
    }

    /// Takes what must be delivered again, oldest first.
    pub(super) fn into_stanzas(self) -> impl Iterator<Item = Box<[u8]>> {
        self.debts.into_iter().filter_map(|debt| debt.stanza)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(class: &'static str, id: &str) -> Owed {
        let mut owed = Owed::default();
        assert!(owed.note(Debt {
            class,
            id: id.to_owned(),
            since: Instant::from_micros(1_000_000),
            stanza: None
        }));
        owed
    }

    #[test]
    fn a_receipt_answers_a_message_under_rule_a_only() {
        let mut a = owed("message", "M1");
        assert_eq!(a.settle("receipt", "", "M1", AnswerRule::Receipt), Settled::Yes);
        assert_eq!(a.len(), 0);
        let mut b = owed("message", "M1");
        assert_eq!(b.settle("receipt", "", "M1", AnswerRule::AckOnly), Settled::StillOwed);
        assert_eq!(b.settle("ack", "message", "M1", AnswerRule::AckOnly), Settled::Yes);
        assert_eq!(b.len(), 0);
    }

    #[test]
    fn an_answer_must_match_class_and_id_and_counts_once() {
        let mut owed = owed("notification", "N1");
        assert_eq!(owed.settle("ack", "receipt", "N1", AnswerRule::Receipt), Settled::NotOwed);
        assert_eq!(owed.settle("ack", "notification", "N2", AnswerRule::Receipt), Settled::NotOwed);
        assert_eq!(owed.settle("ack", "notification", "N1", AnswerRule::Receipt), Settled::Yes);
        assert_eq!(owed.settle("ack", "notification", "N1", AnswerRule::Receipt), Settled::NotOwed);
    }

    #[test]
    fn a_debt_is_overdue_exactly_at_the_limit() {
        let owed = owed("call", "C1");
        let limit = Duration::from_secs(5);
        assert!(owed.overdue(Instant::from_micros(5_999_999), limit).is_none());
        assert!(owed.overdue(Instant::from_micros(6_000_000), limit).is_some());
    }

    #[test]
    fn only_stanzas_with_an_answer_in_the_protocol_are_owed() {
        assert_eq!(class_of("message", ""), Some("message"));
        assert_eq!(class_of("iq", "set"), Some("iq"));
        assert_eq!(class_of("sticker-storm", ""), Some(UNKNOWN));
        for tag in ["iq", "ib", "success", "ack", "presence", "chatstate"] {
            assert_eq!(class_of(tag, "result"), None, "{tag}");
        }
    }
}

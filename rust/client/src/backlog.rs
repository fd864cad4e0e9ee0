//! What the server kept while we were away: asked for in batches, ended by `<offline>`.
//!
//! The server announces it (`offline_preview`), sends a short primer and waits to be asked for more
//! (docs/protocol.md, "After login"). Like the web client we ask again [`ASK_AGAIN`] after the first stanza of
//! each batch, until the end is announced.

use std::time::Duration;

use runner_proto::time::Instant;

/// How many stanzas one batch asks for.
pub(crate) const BATCH: u64 = 100;

/// From the first stanza of a batch to the next request; also how soon to look again while our store lags.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Unanswered messages above which no further batch is asked for: what is not asked for waits at the server, where
/// it costs us no memory.
const ENOUGH: u32 = 400;

/// The backlog of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backlog {
    state: State,
    /// When the end counts as missing; every stanza of the backlog is progress and moves it.
    missing_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing was announced (yet).
    #[default]
    Quiet,
    /// A batch was asked for and none of it has come.
    Asked,
    /// Some of it has come.
    Coming { ask_at: Instant },
    /// The end was announced.
    Ended,
}

impl Backlog {
    /// The session is online.
    pub(crate) fn on_online(&mut self, now: Instant, timeout: Duration) {
        self.missing_at = Some(now + timeout);
    }

    /// `offline_preview`; true when a batch is to be asked for.
    pub(crate) fn on_preview(&mut self, count: u64) -> bool {
        let asks = count > 0 && self.state == State::Quiet;
        if asks {
            self.state = State::Asked;
        }
        asks
    }

    /// A stanza that waited at the server.
    pub(crate) fn on_stanza(&mut self, now: Instant, timeout: Duration) {
        if self.state == State::Ended {
            return;
        }
        if self.missing_at.is_some() {
            self.missing_at = Some(now + timeout);
        }
        if self.state == State::Asked {
            self.state = State::Coming { ask_at: now + ASK_AGAIN };
        }
    }

    /// `offline`: that was all. True the first time.
    pub(crate) fn on_end(&mut self) -> bool {
        self.missing_at = None;
        std::mem::replace(&mut self.state, State::Ended) != State::Ended
    }

    /// Whether the next batch is to be asked for now.
    pub(crate) fn poll_ask(&mut self, now: Instant, unanswered: u32) -> bool {
        match self.state {
            State::Coming { ask_at } if ask_at <= now && unanswered > ENOUGH => {
                self.state = State::Coming { ask_at: now + ASK_AGAIN };
                false
            }
            State::Coming { ask_at } if ask_at <= now => {
                self.state = State::Asked;
                true
            }
            _ => false,
        }
    }

    /// Whether the end has become missing; said once.
    pub(crate) fn poll_missing(&mut self, now: Instant) -> bool {
        let is_missing = self.missing_at.is_some_and(|at| at <= now);
        if is_missing {
            self.missing_at = None;
        }
        is_missing
    }

    /// Nothing was read for a while: the end has that much more time to come.
    pub(crate) fn postpone(&mut self, by: Duration) {
        self.missing_at = self.missing_at.map(|at| at + by);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let ask_at = match self.state {
            State::Coming { ask_at } => Some(ask_at),
            _ => None,
        };
        [ask_at, self.missing_at].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    #[test]
    fn batches_are_asked_for_as_long_as_stanzas_come() {
        let mut backlog = Backlog::default();
        backlog.on_online(at(0), TIMEOUT);
        assert!(backlog.on_preview(250));
        assert!(!backlog.on_preview(250), "once");
        assert!(!backlog.poll_ask(at(10_000), 0), "nothing has come");
        backlog.on_stanza(at(20), TIMEOUT);
        backlog.on_stanza(at(50), TIMEOUT);
        assert_eq!(backlog.poll_timeout(), Some(at(120)));
        assert!(!backlog.poll_ask(at(119), 0));
        assert!(backlog.poll_ask(at(120), 0));
        assert!(!backlog.poll_ask(at(120), 0));
        backlog.on_stanza(at(130), TIMEOUT);
        assert!(!backlog.poll_ask(at(230), ENOUGH + 1), "our store lags");
        assert!(backlog.poll_ask(at(330), ENOUGH));
        backlog.on_stanza(at(340), TIMEOUT);
        assert!(backlog.on_end());
        assert!(!backlog.on_end());
        assert_eq!(backlog.poll_timeout(), None);
    }

    #[test]
    fn an_empty_backlog_is_not_asked_for() {
        assert!(!Backlog::default().on_preview(0));
    }

    #[test]
    fn the_end_is_missing_a_timeout_after_the_last_progress() {
        let mut backlog = Backlog::default();
        backlog.on_online(at(0), TIMEOUT);
        backlog.on_stanza(at(1000), TIMEOUT);
        assert!(!backlog.poll_missing(at(60_999)));
        assert!(backlog.poll_missing(at(61_000)));
        assert!(!backlog.poll_missing(at(99_000)), "said once");
    }
}

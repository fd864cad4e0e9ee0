//! What is overdue, and what that says about the server or about our store.

use std::time::Duration;

use runner_proto::{close_reason::CloseReason, phase::Phase, session::Io, time::Instant};

use super::{Client, account::Ask, io};
use crate::{Cx, Probe, StoreState, inbox::Arrival, sends::Overdue};

impl Client {
    pub(super) fn check_store(&mut self, cx: &mut Cx<'_>) {
        if self.hangs_until().is_some_and(|until| until <= cx.now) {
            self.session.close(CloseReason::StoreStalled, &mut io(cx));
        }
    }

    /// When a store that hangs ends the connection.
    pub(super) fn hangs_until(&self) -> Option<Instant> {
        (self.store == StoreState::Hangs).then(|| self.store_since + self.config.store_stall)
    }

    pub(super) fn check_probe(&mut self, cx: &mut Cx<'_>) {
        if self.probe_at.is_some_and(|at| at <= cx.now) {
            let io = &mut io(cx);
            self.schedule_probe(io);
            // While it goes unanswered it is asked again by itself.
            if self.unanswered_asks & Ask::Count.bit() == 0 {
                self.ask(Ask::Count, io);
            }
        }
    }

    /// The next probe is an interval away, give or take a tenth, so that the fleet's probes spread.
    pub(super) fn schedule_probe(&mut self, io: &mut Io<'_>) {
        let interval = self.config.probe_interval;
        let spread = u32::try_from((interval / 5).as_micros()).unwrap_or(u32::MAX);
        let jitter = Duration::from_micros(u64::from(io.entropy.below(spread)));
        self.probe_at = Some(io.now + interval.saturating_sub(interval / 10) + jitter);
    }

    pub(super) fn check_backlog(&mut self, cx: &mut Cx<'_>) {
        if self.backlog.poll_ask(cx.now, self.unanswered()) {
            self.ask_batch(&mut io(cx));
        }
        if self.backlog.poll_missing(cx.now) {
            self.health.set(Probe::OfflineMissing, false, "the backlog did not end", cx.effects);
        }
    }

    pub(super) fn check_sends(&mut self, cx: &mut Cx<'_>) {
        let (ack, give_up) = (self.config.send_ack_timeout, self.config.send_timeout);
        while let Some(overdue) = self.sends.poll_overdue(cx.now, ack, give_up) {
            if overdue == Overdue::Unacknowledged {
                self.health.set(Probe::SendUnacked, false, "a send was not acknowledged", cx.effects);
            }
        }
    }

    pub(super) fn check_inbox(&mut self, cx: &mut Cx<'_>) {
        if self.stanza_deadline().is_some_and(|at| at <= cx.now) {
            let detail = if self.inbox.lost() > 0 {
                "the store could not keep a message"
            } else {
                "a stanza waits although the store commits"
            };
            self.health.set(Probe::StanzaUnanswered, false, detail, cx.effects);
        }
    }

    /// Whether what is overdue says something about the server: not while nothing is read, and not before or after
    /// being online.
    pub(super) fn is_judging(&self) -> bool {
        self.session.phase() == Phase::Online && self.store.is_reading()
    }

    /// When a waiting stanza becomes a verdict; time in which the store does not commit is not counted.
    pub(super) fn stanza_deadline(&self) -> Option<Instant> {
        if self.health.is_failing(Probe::StanzaUnanswered) || self.store != StoreState::Commits {
            return None;
        }
        let oldest = self.oldest_unanswered().map(Arrival::unpaused_since).min()?;
        Some(oldest + self.config.stanza_answer_timeout)
    }
}

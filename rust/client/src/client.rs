//! The client of one connection.

use std::{sync::Arc, time::Duration};

use runner_proto::{close_reason::Closed, counters::Counters, phase::Phase, time::Instant};

use crate::{Command, CommitFailed, Config, Cx, DeviceState, Effect, Event, TransportEnd};

/// One connection of one device, from "the transport is up" to its close reason.
///
/// The driver calls `handle_*` with what happened, carries out the effects, writes `cx.out` to the transport and
/// comes back at [`poll_timeout`](Self::poll_timeout). After [`Event::Closed`] nothing more comes out.
#[derive(Debug)]
pub struct Client {
    config: Arc<Config>,
    counters: Counters,
    phase: Phase,
    deadline: Instant,
    closed: Option<Closed>,
}

impl Client {
    /// A client whose transport has just come up.
    #[must_use]
    pub fn new(config: Arc<Config>, device: DeviceState, now: Instant) -> Self {
        let deadline = now + config.session.handshake_timeout;
        Self { config, counters: device.counters, phase: Phase::Upgrading, deadline, closed: None }
    }

    /// Begins; call once.
    pub fn handle_open(&mut self, cx: &mut Cx<'_>) {
        cx.effects.push(Effect::Event(Event::Phase(self.phase)));
    }

    /// Bytes came from the transport; they are decoded in place.
    pub fn handle_input(&mut self, input: &mut [u8], cx: &mut Cx<'_>) {
        self.counters.bytes_received += input.len() as u64;
        self.counters.last_data = Some(cx.now);
    }

    /// The transport is gone.
    pub fn handle_transport_end(&mut self, end: TransportEnd, cx: &mut Cx<'_>) {
        self.close(Closed::new(end.reason, self.phase).with_detail(end.detail), cx);
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come.
    pub fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        if cx.now >= self.deadline {
            self.close(Closed::new(runner_proto::close_reason::CloseReason::UpgradeTimeout, self.phase), cx);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.closed.is_none().then_some(self.deadline)
    }

    /// Somebody asks for something.
    pub fn handle_command(&mut self, command: Command, cx: &mut Cx<'_>) {
        if let Command::Close(reason) = command {
            self.close(Closed::new(reason, self.phase), cx);
        }
    }

    /// The commit with this token is durable, or did not happen.
    pub fn on_committed(&mut self, _token: u64, _outcome: Result<(), CommitFailed>, _cx: &mut Cx<'_>) {}

    /// The store stalls (reading pauses), or goes on.
    pub fn handle_store_stalled(&mut self, stalled: bool, cx: &mut Cx<'_>) {
        let limit = if stalled { self.config.store_stall } else { Duration::MAX };
        self.deadline = cx.now + limit;
    }

    /// What the session has counted, earlier connections included.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where the connection is.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it ended, once it has.
    #[must_use]
    pub const fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    fn close(&mut self, closed: Closed, cx: &mut Cx<'_>) {
        if self.closed.is_none() {
            self.phase = Phase::Closed;
            cx.effects.push(Effect::Event(Event::Closed(closed.clone())));
            self.closed = Some(closed);
        }
    }
}

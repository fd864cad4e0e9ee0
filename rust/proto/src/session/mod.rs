//! One connection from "the transport is up" to its close reason, sans-IO.
//!
//! The driver owns the transport (TCP and TLS) and the time; it calls, and the session never blocks, reads no clock
//! and starts nothing. Its grammar:
//!
//! - [`handle_open`](Session::handle_open) once;
//! - for bytes: [`receive`](Session::receive), then [`poll_event`](Session::poll_event) until `None`;
//! - at [`poll_timeout`](Session::poll_timeout): [`handle_timeout`](Session::handle_timeout), then
//!   [`poll_expired`](Session::poll_expired) until `None`;
//! - when the transport ends: [`handle_transport_end`](Session::handle_transport_end).
//!
//! Whatever is to be sent is appended to [`Io::out`]. Once [`closed`](Session::closed) says why, nothing more happens.
//!
//! Bytes go up through these files: `input` (what is left to read) → `opening` (upgrade, Noise handshake) →
//! `inbound` (frames, stanzas, the answers that are owed) ; `output` builds what goes down.

mod config;
mod inbound;
mod input;
mod opening;
mod output;

use std::{sync::Arc, time::Duration};

pub use config::{Config, Identity};
pub use inbound::Event;
pub use input::{Buffers, Input};
use opening::Opening;
pub use opening::Secured;
pub use output::{MAX_PLAIN, Request};

use crate::{
    close_reason::{CloseReason, Closed, Source},
    counters::Counters,
    entropy::Entropy,
    frame::FrameDecoder,
    iq::{Ids, Pending, Requests},
    keepalive::{Action, Clock},
    noise::{Pattern, Transport},
    phase::Phase,
    time::Instant,
    ws,
};

/// What a session needs of the world for the length of one call.
pub struct Io<'a> {
    /// The driver's monotonic clock.
    pub now: Instant,
    /// The wall clock, Unix milliseconds: judges certificates, nothing else.
    pub unix_ms: u64,
    /// Bytes for the transport are appended here.
    pub out: &'a mut Vec<u8>,
    /// Randomness fit for keys.
    pub entropy: &'a mut dyn Entropy,
}

/// One connection; see the [module](self).
///
/// Shape: no heap while idle and online; the handshake's state is boxed and dropped after it.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    channel: Channel,
    ws: ws::Decoder,
    frames: FrameDecoder,
    phase: Phase,
    /// The phase last given out by [`take_phase`](Self::take_phase).
    told: Phase,
    /// When the phase has taken too long.
    deadline: Option<Instant>,
    clock: Option<Clock>,
    ids: Ids,
    pings: [Option<Ping>; 2],
    requests: Requests,
    counters: Counters,
    /// Nothing is read at the moment.
    is_paused: bool,
    /// It registers a new device and never gets online.
    registers: bool,
    /// The deadline is the person's, not the server's.
    awaits_phone: bool,
    /// What a connection in `closing` closes with, however it ends.
    farewell: Option<CloseReason>,
    closed: Option<Box<Closed>>,
}

/// How bytes are to be read.
#[derive(Debug)]
enum Channel {
    Opening(Box<Opening>),
    Open { transport: Transport, pattern: Pattern },
    Gone,
}

/// A ping whose pong has not come.
#[derive(Clone, Copy, Debug)]
struct Ping {
    number: u32,
    sent: Instant,
}

impl Session {
    /// A session whose transport has just come up; `counters` go on from the connection before.
    #[must_use]
    pub fn new(config: Arc<Config>, identity: Identity, counters: Counters, now: Instant) -> Self {
        Self {
            deadline: Some(now + config.handshake_timeout),
            config,
            registers: identity.registers,
            channel: Channel::Opening(Box::new(Opening::new(identity))),
            ws: ws::Decoder::new(ws::Role::Client),
            frames: FrameDecoder::new(),
            phase: Phase::Upgrading,
            told: Phase::Securing,
            clock: None,
            ids: Ids::default(),
            pings: [None; 2],
            requests: Requests::default(),
            counters,
            is_paused: false,
            awaits_phone: false,
            farewell: None,
            closed: None,
        }
    }

    /// Begins: writes the upgrade request. Call once.
    pub fn handle_open(&mut self, io: &mut Io<'_>) {
        self.ids = Ids::new(io.entropy);
        self.begin_upgrade(io);
    }

    /// Bytes came from the transport; give the result to [`poll_event`](Self::poll_event) until that returns `None`.
    pub fn receive<'b>(&mut self, bytes: &'b mut [u8], now: Instant) -> Input<'b> {
        if !bytes.is_empty() {
            self.counters.bytes_received += bytes.len() as u64;
            self.counters.last_data = Some(now);
            if let Some(clock) = &mut self.clock {
                clock.on_receive();
            }
        }
        Input::new(bytes)
    }

    /// The transport is gone: end of file, reset, or given up by the operating system.
    pub fn handle_transport_end(&mut self, reason: CloseReason, detail: &str, io: &mut Io<'_>) {
        let closed = self.interrupted(Closed::new(reason, self.phase).with_detail(detail));
        self.finish(closed, io);
    }

    /// Closes for a reason of ours, or of whoever drives us.
    pub fn close(&mut self, reason: CloseReason, io: &mut Io<'_>) {
        self.finish(Closed::new(reason, self.phase), io);
    }

    /// The same, with more to say.
    pub fn close_with(&mut self, closed: Closed, io: &mut Io<'_>) {
        self.finish(closed, io);
    }

    /// A farewell has been sent; however and whenever the connection ends now, it is for this `reason`, and after
    /// `timeout` at the latest.
    pub fn begin_closing(&mut self, reason: CloseReason, timeout: Duration, now: Instant) {
        if self.closed.is_none() {
            self.phase = Phase::Closing;
            self.farewell = Some(reason);
            self.deadline = Some(now + timeout);
        }
    }

    /// A person has until then to link the device that registers here; then it closes as `pairing_expired`.
    pub const fn await_phone(&mut self, until: Instant) {
        if self.registers && matches!(self.phase, Phase::Authenticating) {
            self.deadline = Some(until);
            self.awaits_phone = true;
        }
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come: pings, and what is overdue.
    pub fn handle_timeout(&mut self, io: &mut Io<'_>) {
        if self.deadline().is_some_and(|deadline| deadline <= io.now) {
            let reason = match self.phase {
                Phase::Upgrading => CloseReason::UpgradeTimeout,
                Phase::Authenticating if self.awaits_phone => CloseReason::PairingExpired,
                Phase::Authenticating => CloseReason::LoginTimeout,
                Phase::Closing => self.farewell.unwrap_or(CloseReason::Stopped),
                _ => CloseReason::HandshakeTimeout,
            };
            let detail = if self.phase == Phase::Closing { "the server did not confirm" } else { "" };
            return self.finish(Closed::new(reason, self.phase).with_detail(detail), io);
        }
        while let Some(clock) = &mut self.clock
            && let Some(action) = clock.poll(&self.config.keepalive, io.now, io.entropy)
        {
            match action {
                Action::Ping | Action::SecondPing => self.send_ping(io),
                Action::Dead => return self.close(CloseReason::PongDeadline, io),
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ping = self.clock.as_ref().map(|clock| clock.poll_timeout(&self.config.keepalive));
        let request = if self.is_paused { None } else { self.requests.poll_timeout() };
        [self.deadline(), ping, request].into_iter().flatten().min()
    }

    /// The phase's deadline, while it runs: the server's time is not used up while nothing is read. A farewell waits for
    /// nobody.
    fn deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| !self.is_paused || self.phase == Phase::Closing)
    }

    /// A request that was not answered in time.
    pub fn poll_expired(&mut self, now: Instant) -> Option<Pending> {
        if self.is_paused {
            return None;
        }
        let pending = self.requests.take_expired(now)?;
        self.counters.requests_failed += 1;
        Some(pending)
    }

    /// The store lags and the driver stops reading: all clocks that judge the server stop, pings go on.
    pub const fn pause(&mut self) {
        self.is_paused = true;
        if let Some(clock) = &mut self.clock {
            clock.pause();
        }
    }

    /// The driver reads again, after not reading for `paused`: the server gets that time back.
    pub fn resume(&mut self, now: Instant, paused: Duration) {
        if !std::mem::replace(&mut self.is_paused, false) {
            return;
        }
        if self.phase != Phase::Closing {
            self.deadline = self.deadline.map(|deadline| deadline + paused);
        }
        self.requests.postpone(paused);
        if let Some(clock) = &mut self.clock {
            clock.resume(now, paused);
        }
    }

    /// Bytes of input that wait for the rest of their frame.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.frames.held_bytes()
    }

    /// Whether a second ping is out and nothing has come back.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.clock.as_ref().is_some_and(Clock::is_silent)
    }

    /// Where the connection is.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The phase, if it is another one than when this was last asked.
    pub fn take_phase(&mut self) -> Option<Phase> {
        (self.told != self.phase).then(|| {
            self.told = self.phase;
            self.phase
        })
    }

    /// Why it ended, once it has.
    #[must_use]
    pub fn closed(&self) -> Option<&Closed> {
        self.closed.as_deref()
    }

    /// What was counted, earlier connections included.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The same, for what the account logic counts.
    pub const fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// A transport that breaks off between our IK hello and its answer may only mean that the server does not resume.
    fn interrupted(&self, closed: Closed) -> Closed {
        match &self.channel {
            Channel::Opening(opening) if opening.asks_resume() => closed.renamed(CloseReason::ResumeFailed),
            _ => closed,
        }
    }

    /// The one way out. Says goodbye on a WebSocket that still stands, and lets go of everything.
    fn finish(&mut self, closed: Closed, io: &mut Io<'_>) {
        self.finish_with(closed, ws::close_code::NORMAL, io);
    }

    fn finish_with(&mut self, closed: Closed, close_code: u16, io: &mut Io<'_>) {
        if self.closed.is_some() {
            return;
        }
        let stands = !matches!(self.phase, Phase::Upgrading) && closed.reason.source() != Source::Transport;
        if stands {
            let start = io.out.len();
            ws::write_close(io.out, Some((close_code, "")), Some(output::mask(io.entropy)));
            self.counters.bytes_sent += (io.out.len() - start) as u64;
        }
        let closed = match self.farewell.take() {
            Some(farewell) if farewell != closed.reason => closed.renamed(farewell),
            _ => closed,
        };
        self.phase = Phase::Closed;
        self.channel = Channel::Gone;
        self.frames = FrameDecoder::new();
        self.deadline = None;
        self.clock = None;
        self.requests = Requests::default();
        self.pings = [None; 2];
        self.counters.end_connection();
        self.closed = Some(Box::new(closed));
    }
}

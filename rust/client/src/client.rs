//! The client of one connection: the driver's grammar, and the business of an account on top of the session.

use std::{sync::Arc, time::Duration};

use runner_proto::{
    cert::VerifiedChain,
    close_reason::{CloseReason, Closed},
    counters::Counters,
    iq::Pending,
    jid::{Jid, Server},
    node::NodeRef,
    noise::{Pattern, Transport},
    phase::Phase,
    session::{self, Identity, Io, Request, Secured, Session},
    time::Instant,
};

use crate::{
    Command, CommitFailed, Config, Cx, DeviceState, Effect, Event, Probe, TransportEnd, Write,
    backlog::Backlog,
    health::Health,
    inbox::Inbox,
    sends::{Overdue, Sends},
    stanza,
};

/// One connection of one device, from "the transport is up" to its close reason.
///
/// The driver calls `handle_*` with what happened, carries out the effects in order, writes `cx.out` to the transport
/// and comes back at [`poll_timeout`](Self::poll_timeout). [`Event::Closed`] is the last effect; what is in `out` then
/// (a farewell) may still be written. The driver reads sockets before it runs timers.
#[derive(Debug)]
pub struct Client {
    config: Arc<Config>,
    session: Session,
    device: Device,
    opened_at: Instant,
    /// How the channel was made; and the server's certificates, until the login proves them worth keeping.
    pattern: Pattern,
    chain: Option<Box<VerifiedChain>>,
    health: Health,
    backlog: Backlog,
    inbox: Inbox,
    sends: Sends,
    /// When the passive probe asks next.
    probe_at: Option<Instant>,
    /// Which of the requests of [`Ask`] that must be answered have failed once in a row.
    unanswered_asks: u8,
    /// Since when the store stalls.
    stalled_since: Option<Instant>,
    /// Until then a waiting stanza is the store's doing.
    stanza_grace: Instant,
    closed_told: bool,
}

/// Whose connection it is, as far as it is needed after the login.
#[derive(Debug)]
struct Device {
    username: u64,
    number: u32,
    lid: Option<Box<str>>,
    push_name: Option<Box<str>>,
}

/// The requests of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Ask {
    /// How many pre-keys the server has: part of the login, and the passive probe.
    Count,
    /// Begin live delivery.
    Active,
    /// Server-side settings.
    Props,
    Blocklist,
    Privacy,
    /// Unlink this device.
    Logout,
}

impl Ask {
    /// What is asked again when it goes unanswered: without an answer to these the session does not work.
    const VITAL: [Self; 2] = [Self::Count, Self::Active];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Client {
    /// A client whose transport has just come up.
    #[must_use]
    pub fn new(config: Arc<Config>, device: DeviceState, now: Instant) -> Self {
        let DeviceState {
            noise,
            username,
            device,
            lid,
            push_name,
            routing_info,
            server_key,
            version,
            counters,
        } = device;
        let own = Device {
            username,
            number: device,
            lid: lid.map(String::into_boxed_str),
            push_name: push_name.clone().map(String::into_boxed_str),
        };
        let identity = Identity { noise, username, device, push_name, routing_info, server_key, version };
        Self {
            session: Session::new(Arc::clone(&config.session), identity, counters, now),
            config,
            device: own,
            opened_at: now,
            pattern: Pattern::Xx,
            chain: None,
            health: Health::default(),
            backlog: Backlog::default(),
            inbox: Inbox::default(),
            sends: Sends::default(),
            probe_at: None,
            unanswered_asks: 0,
            stalled_since: None,
            stanza_grace: now,
            closed_told: false,
        }
    }

    /// The same with its handshake already over: fuzzing begins behind it.
    #[doc(hidden)]
    #[must_use]
    pub fn opened(mut self, transport: Transport, cx: &mut Cx<'_>) -> Self {
        self.session = self.session.opened(transport, &mut io(cx));
        self
    }

    /// Begins; call once.
    pub fn handle_open(&mut self, cx: &mut Cx<'_>) {
        self.opened_at = cx.now;
        self.session.handle_open(&mut io(cx));
        self.tell(cx);
    }

    /// Bytes came from the transport; they are decoded in place.
    pub fn handle_input(&mut self, input: &mut [u8], cx: &mut Cx<'_>) {
        let mut input = self.session.receive(input, cx.now);
        loop {
            let mut io =
                Io { now: cx.now, unix_ms: cx.unix_ms, out: &mut *cx.out, entropy: &mut *cx.entropy };
            let Some(event) = self.session.poll_event(&mut input, cx.scratch, &mut io) else { break };
            let effects = &mut *cx.effects;
            match event {
                session::Event::Handled => {}
                session::Event::Secured(Secured { pattern, chain }) => {
                    self.pattern = pattern;
                    self.chain = chain.map(Box::new);
                }
                session::Event::Success(success) => self.on_success(success, &mut io, effects),
                session::Event::Message(message) => self.on_message(message, &io, effects),
                session::Event::Stanza(stanza) => self.on_stanza(stanza, &mut io, effects),
                session::Event::Response { pending, is_error, .. } => {
                    self.on_response(pending, is_error, &mut io, effects);
                }
            }
            self.tell_phase(cx.effects);
        }
        if self.session.closed().is_none() && !self.session.is_silent() {
            self.health.set(Probe::Pong, true, "bytes from the server again", cx.effects);
        }
        self.tell(cx);
    }

    /// The transport is gone.
    pub fn handle_transport_end(&mut self, end: TransportEnd, cx: &mut Cx<'_>) {
        self.session.handle_transport_end(end.reason, &end.detail, &mut io(cx));
        self.tell(cx);
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come.
    pub fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        self.session.handle_timeout(&mut io(cx));
        if self.session.is_silent() {
            self.health.set(Probe::Pong, false, "a ping drew no byte", cx.effects);
        }
        while let Some(pending) = self.session.poll_expired(cx.now) {
            self.on_expired(pending, cx);
        }
        self.check_store(cx);
        if self.is_judging() {
            self.check_probe(cx);
            self.check_backlog(cx);
            self.check_sends(cx);
            self.check_inbox(cx);
        }
        self.tell(cx);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.session.closed().is_some() {
            return None;
        }
        let config = &self.config;
        let always =
            [self.session.poll_timeout(), self.stalled_since.map(|since| since + config.store_stall)];
        let judging = self.is_judging().then(|| {
            [
                self.probe_at,
                self.backlog.poll_timeout(),
                self.sends.poll_timeout(config.send_ack_timeout, config.send_timeout),
                self.stanza_deadline(),
            ]
        });
        always.into_iter().chain(judging.into_iter().flatten()).flatten().min()
    }

    /// Somebody asks for something. A send or a logout before the session is online is not carried out; the logout
    /// closes the connection all the same.
    pub fn handle_command(&mut self, command: Command, cx: &mut Cx<'_>) {
        let io = &mut io(cx);
        match command {
            Command::Close(reason) => self.session.close(reason, io),
            Command::Logout if self.session.phase() == Phase::Online => {
                let own = self.own_jid();
                let request = Request { xmlns: "md", is_set: true, purpose: Ask::Logout as u8 };
                self.session.request(io, request, 1, |writer| {
                    writer.node("remove-companion-device", 2, false);
                    writer.attr_jid("jid", &own);
                    writer.attr("reason", "user_initiated");
                });
                self.session.begin_closing(CloseReason::LoggedOutByRequest, LOGOUT_TIMEOUT, io.now);
            }
            Command::Logout => self.session.close_with(
                Closed::new(CloseReason::LoggedOutByRequest, self.session.phase())
                    .with_detail("not online: the server was not told"),
                io,
            ),
            Command::Send { node } if self.session.phase() == Phase::Online => {
                if let Some(id) = stanza::message_id(&node) {
                    self.sends.insert(id, io.now);
                }
                self.session.send_encoded(io, &node);
            }
            Command::Send { .. } => {}
        }
        self.tell(cx);
    }

    /// The commit with this token is durable, or did not happen.
    pub fn on_committed(&mut self, token: u64, outcome: Result<(), CommitFailed>, cx: &mut Cx<'_>) {
        let Some(ack) = self.inbox.settle(token, outcome) else { return self.count_unanswered() };
        self.session.send_encoded(&mut io(cx), &ack);
        let counters = self.session.counters_mut();
        counters.messages_received += 1;
        counters.answers_sent += 1;
        self.count_unanswered();
        if self.inbox.unanswered() == 0 {
            self.health.set(Probe::StanzaUnanswered, true, "every stanza is answered", cx.effects);
        }
        self.tell(cx);
    }

    /// The store stalls, and the driver stops reading; or it goes on.
    pub fn handle_store_stalled(&mut self, stalled: bool, cx: &mut Cx<'_>) {
        if stalled {
            self.stalled_since.get_or_insert(cx.now);
            self.session.pause();
        } else if self.stalled_since.take().is_some() {
            self.stanza_grace = cx.now;
            self.session.resume(cx.now);
        }
    }

    /// What the session has counted, earlier connections included.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        self.session.counters()
    }

    /// Where the connection is.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.session.phase()
    }

    /// Why it ended, once it has.
    #[must_use]
    pub fn closed(&self) -> Option<&Closed> {
        self.session.closed()
    }

    fn on_success(&mut self, success: NodeRef<'_>, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        self.tell_phase(effects);
        let login_ms = u64::try_from((io.now - self.opened_at).as_millis()).unwrap_or(u64::MAX);
        effects.push(Effect::Event(Event::Online { handshake: self.pattern, login_ms }));

        let server_s = success.attr("t").and_then(|t| t.parse_u64()).and_then(|t| i64::try_from(t).ok());
        let offset_ms = server_s.map_or(0, |server_s| {
            server_s.saturating_mul(1000).saturating_sub(i64::try_from(io.unix_ms).unwrap_or(i64::MAX))
        });
        if server_s.is_some() {
            effects.push(Effect::Event(Event::ClockOffset { offset_ms }));
        }

        let mut writes = Vec::new();
        if let Some(chain) = self.chain.take() {
            writes.push(Write::ServerChain(*chain));
        }
        let lid = success.attr("lid").map(|lid| lid.to_string());
        if let Some(lid) = lid.filter(|lid| self.device.lid.as_deref() != Some(lid)) {
            writes.push(Write::Lid(lid));
        }
        // Neither is needed again on this connection.
        self.device.lid = None;
        commit(writes, effects);

        self.backlog.on_online(io.now, self.config.offline_timeout);
        self.schedule_probe(io);
        self.greet(offset_ms, io);
    }

    /// What a web client says first. docs/protocol.md, "What each client sends after success".
    ///
    /// Both requests go out at once: nothing in the first one's answer changes the second.
    fn greet(&mut self, offset_ms: i64, io: &mut Io<'_>) {
        for ask in Ask::VITAL {
            self.ask(ask, io);
        }
        let id = stanza::unified_session_id(io.unix_ms, offset_ms);
        self.session.send(io, |writer| {
            writer.node("ib", 0, true);
            writer.children(1);
            writer.node("unified_session", 1, false);
            writer.attr_u64("id", id);
        });
        if let Some(name) = self.device.push_name.take() {
            // The web client drops '@', which would make it look like an address.
            let name = name.replace('@', "");
            self.session.send(io, |writer| {
                writer.node("presence", 2, false);
                writer.attr("type", "available");
                writer.attr("name", &name);
            });
        }
    }

    /// What a web client asks once the backlog is through. Nothing here reads the answers yet; a client that never
    /// asks would look like no other, and the three cost less than one login.
    fn ask_settings(&mut self, io: &mut Io<'_>) {
        for ask in [Ask::Props, Ask::Blocklist, Ask::Privacy] {
            self.ask(ask, io);
        }
    }

    fn ask(&mut self, ask: Ask, io: &mut Io<'_>) {
        let (xmlns, is_set, child) = match ask {
            Ask::Count => ("encrypt", false, Some("count")),
            Ask::Active => ("passive", true, Some("active")),
            Ask::Props => ("abt", false, Some("props")),
            Ask::Blocklist => ("blocklist", false, None),
            Ask::Privacy => ("privacy", false, Some("privacy")),
            Ask::Logout => return,
        };
        let request = Request { xmlns, is_set, purpose: ask as u8 };
        self.session.request(io, request, usize::from(child.is_some()), |writer| {
            if let Some(child) = child {
                let is_props = ask == Ask::Props;
                writer.node(child, usize::from(is_props), false);
                if is_props {
                    writer.attr("protocol", "1");
                }
            }
        });
    }

    fn on_response(&mut self, pending: Pending, is_error: bool, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        if pending.purpose == Ask::Logout as u8 {
            let detail = if is_error { "the server refused to unlink the device" } else { "" };
            let closed =
                Closed::new(CloseReason::LoggedOutByRequest, self.session.phase()).with_detail(detail);
            return self.session.close_with(closed, io);
        }
        self.unanswered_asks &= !(1 << pending.purpose);
        if self.unanswered_asks == 0 {
            self.health.set(Probe::IqUnanswered, true, "requests are answered", effects);
        }
    }

    /// A request went unanswered. The vital ones are asked again at once; the second time in a row is a verdict.
    fn on_expired(&mut self, pending: Pending, cx: &mut Cx<'_>) {
        let Some(ask) = Ask::VITAL.into_iter().find(|ask| *ask as u8 == pending.purpose) else { return };
        if self.unanswered_asks & ask.bit() != 0 {
            self.health.set(Probe::IqUnanswered, false, "a request was not answered, twice", cx.effects);
        }
        self.unanswered_asks |= ask.bit();
        self.ask(ask, &mut io(cx));
    }

    fn on_message(&mut self, message: NodeRef<'_>, io: &Io<'_>, effects: &mut Vec<Effect>) {
        self.note_backlog(message, io.now);
        let Some(row) = stanza::inbox_row(message, io.unix_ms) else { return };
        let ack = stanza::message_ack(message, &self.own_jid());
        let token = self.inbox.push(ack, io.now);
        self.count_unanswered();
        effects.push(Effect::Commit { token, writes: vec![row] });
    }

    fn on_stanza(&mut self, stanza: NodeRef<'_>, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        let tag = stanza.tag();
        if tag == "ib" {
            self.on_ib(stanza, io, effects);
        } else if tag == "ack" {
            self.on_ack(stanza, io, effects);
        } else {
            self.note_backlog(stanza, io.now);
        }
    }

    fn on_ib(&mut self, ib: NodeRef<'_>, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        for child in ib.children() {
            let tag = child.tag();
            if tag == "offline_preview" {
                let count = child.attr("count").and_then(|count| count.parse_u64()).unwrap_or(0);
                if self.backlog.on_preview(count) {
                    self.ask_batch(io);
                }
            } else if tag == "offline" {
                let is_first = self.backlog.on_end();
                self.health.set(Probe::OfflineMissing, true, "the backlog ended", effects);
                if is_first {
                    self.ask_settings(io);
                }
            } else if tag == "edge_routing"
                && let Some(info) = child.child("routing_info").and_then(|info| info.bytes())
            {
                commit(vec![Write::RoutingInfo(info.to_vec())], effects);
            }
        }
    }

    fn ask_batch(&mut self, io: &mut Io<'_>) {
        self.session.send(io, |writer| {
            writer.node("ib", 0, true);
            writer.children(1);
            writer.node("offline_batch", 1, false);
            writer.attr_u64("count", crate::backlog::BATCH);
        });
    }

    fn on_ack(&mut self, ack: NodeRef<'_>, io: &Io<'_>, effects: &mut Vec<Effect>) {
        if self.sends.is_empty() || ack.attr("class").is_none_or(|class| class != *"message") {
            return;
        }
        let Some(id) = ack.attr("id") else { return };
        let Some(took) = self.sends.acknowledge(|sent| id == *sent, io.now) else { return };
        self.session.counters_mut().responses.record(took);
        self.health.set(Probe::SendUnacked, true, "the server acknowledges sends", effects);
    }

    fn note_backlog(&mut self, stanza: NodeRef<'_>, now: Instant) {
        if stanza.attr("offline").is_some() {
            self.backlog.on_stanza(now, self.config.offline_timeout);
        }
    }

    fn check_store(&mut self, cx: &mut Cx<'_>) {
        if self.stalled_since.is_some_and(|since| since + self.config.store_stall <= cx.now) {
            self.stalled_since = None;
            self.session.close(CloseReason::StoreStalled, &mut io(cx));
        }
    }

    fn check_probe(&mut self, cx: &mut Cx<'_>) {
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
    fn schedule_probe(&mut self, io: &mut Io<'_>) {
        let interval = self.config.probe_interval;
        let spread = u32::try_from((interval / 5).as_micros()).unwrap_or(u32::MAX);
        let jitter = Duration::from_micros(u64::from(io.entropy.below(spread)));
        self.probe_at = Some(io.now + interval.saturating_sub(interval / 10) + jitter);
    }

    fn check_backlog(&mut self, cx: &mut Cx<'_>) {
        if self.backlog.poll_ask(cx.now, self.inbox.unanswered()) {
            self.ask_batch(&mut io(cx));
        }
        if self.backlog.poll_missing(cx.now) {
            self.health.set(Probe::OfflineMissing, false, "the backlog did not end", cx.effects);
        }
    }

    fn check_sends(&mut self, cx: &mut Cx<'_>) {
        let (ack, give_up) = (self.config.send_ack_timeout, self.config.send_timeout);
        while let Some(overdue) = self.sends.poll_overdue(cx.now, ack, give_up) {
            if overdue == Overdue::Unacknowledged {
                self.health.set(Probe::SendUnacked, false, "a send was not acknowledged", cx.effects);
            }
        }
    }

    fn check_inbox(&mut self, cx: &mut Cx<'_>) {
        if self.stanza_deadline().is_some_and(|at| at <= cx.now) {
            self.health.set(
                Probe::StanzaUnanswered,
                false,
                "a stanza waits although the store commits",
                cx.effects,
            );
        }
    }

    /// Whether what is overdue says something about the server: not while nothing is read, and not before or after
    /// being online.
    fn is_judging(&self) -> bool {
        self.session.phase() == Phase::Online && self.stalled_since.is_none()
    }

    /// When a waiting stanza becomes a verdict, counted from the end of the store's last stall.
    fn stanza_deadline(&self) -> Option<Instant> {
        if self.health.is_failing(Probe::StanzaUnanswered) {
            return None;
        }
        Some(self.inbox.oldest()?.max(self.stanza_grace) + self.config.stanza_answer_timeout)
    }

    fn count_unanswered(&mut self) {
        let (unanswered, oldest) = (self.inbox.unanswered(), self.inbox.oldest());
        let counters = self.session.counters_mut();
        counters.unanswered = unanswered;
        counters.oldest_unanswered = oldest;
    }

    fn own_jid(&self) -> Jid {
        let number = u16::try_from(self.device.number).unwrap_or(0);
        Jid::device(self.device.username.to_string(), number, Server::Pn)
    }

    fn tell_phase(&mut self, effects: &mut Vec<Effect>) {
        match self.session.take_phase() {
            // `Event::Closed` says it, and is the last one.
            None | Some(Phase::Closed) => {}
            Some(phase) => effects.push(Effect::Event(Event::Phase(phase))),
        }
    }

    /// What the session has become since the last call.
    fn tell(&mut self, cx: &mut Cx<'_>) {
        self.tell_phase(cx.effects);
        let Some(closed) = self.session.closed() else { return };
        if std::mem::replace(&mut self.closed_told, true) {
            return;
        }
        let closed = closed.clone();
        self.inbox = Inbox::default();
        self.sends = Sends::default();
        if closed.reason == CloseReason::ResumeFailed {
            commit(vec![Write::ForgetServerChain], cx.effects);
            cx.effects.push(Effect::Event(Event::ResumeFailed));
        }
        cx.effects.push(Effect::Event(Event::Closed(closed)));
    }
}

/// How long a logout waits for its confirmation before the connection is closed.
pub const LOGOUT_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes that nobody waits for.
fn commit(writes: Vec<Write>, effects: &mut Vec<Effect>) {
    if !writes.is_empty() {
        effects.push(Effect::Commit { token: 0, writes });
    }
}

fn io<'a>(cx: &'a mut Cx<'_>) -> Io<'a> {
    Io { now: cx.now, unix_ms: cx.unix_ms, out: &mut *cx.out, entropy: &mut *cx.entropy }
}

//! The client of one connection: the driver's grammar, and the business of an account on top of the session.

mod account;
mod linking;
mod verdicts;

use std::{sync::Arc, time::Duration};

pub(crate) use account::Ask;
pub(crate) use account::commit;
use runner_proto::{
    cert::VerifiedChain,
    close_reason::{CloseReason, Closed},
    counters::Counters,
    jid::{Jid, Server},
    noise::{Pattern, Transport},
    payload::login_payload,
    phase::Phase,
    session::{self, Identity, Io, Request, Secured, Session},
    time::Instant,
};

use runner_signal::{Identity as SignalIdentity, KeyPair as SignalKeyPair, SignedPreKey};

use crate::{
    Command, CommitFailed, Committed, Config, Cx, DeviceKeys, DeviceState, Effect, Event, Probe, StoreState,
    TransportEnd, Write,
    backlog::Backlog,
    health::Health,
    inbox::{Answer, Arrival, Inbox, Settled},
    new_device::NewDevice,
    pairing::Pairing,
    pre_keys::{PreKeys, Rest},
    receive::{OwnKeys, Receiver},
    send::{Askings, Sender},
    sends::Sends,
    stanza,
    upkeep::Upkeep,
};

/// One connection of one device, from "the transport is up" to its close reason.
///
/// The driver calls `handle_*` with what happened, carries out the effects in order, writes `cx.out` to the transport
/// and comes back at [`poll_timeout`](Self::poll_timeout). [`Event::Closed`] is the last effect; what is in `out` then
/// (a farewell) may still be written. The driver reads sockets before it runs timers.
#[derive(Debug)]
pub struct Client {
    pub(crate) config: Arc<Config>,
    pub(crate) session: Session,
    device: Device,
    pub(crate) keys: OwnKeys,
    /// Others are told that we are online.
    pub(crate) is_shown_online: bool,
    /// The attempt to link a new device, on a connection that does nothing else; then `device` is nobody's.
    pairing: Option<Box<Pairing>>,
    opened_at: Instant,
    /// How the channel was made; and the server's certificates, until the login proves them worth keeping.
    pattern: Pattern,
    chain: Option<Box<VerifiedChain>>,
    health: Health,
    backlog: Backlog,
    pub(crate) receiver: Receiver,
    pub(crate) inbox: Inbox,
    pub(crate) pre_keys: PreKeys,
    pub(crate) pre_key_rest: Rest,
    pub(crate) upkeep: Upkeep,
    /// The server has said on this connection how many pre-keys it has.
    pub(crate) is_counted: bool,
    pub(crate) sends: Sends,
    /// Messages of ours on their way; `None` while there are none.
    pub(crate) sender: Option<Box<Sender>>,
    /// Who has asked for one of them again; `None`: nobody has.
    pub(crate) askings: Option<Box<Askings>>,
    /// What the server says of groups and their devices bears this number; what bears another is not believed.
    pub(crate) epoch: u32,
    /// When the passive probe asks next.
    probe_at: Option<Instant>,
    /// Which of the requests of [`Ask`] that must be answered have failed once in a row.
    unanswered_asks: u16,
    /// How the store is, and since when.
    store: StoreState,
    store_since: Instant,
    closed_told: bool,
}

/// Whose connection it is, as far as it is needed after the login.
#[derive(Debug, Default)]
struct Device {
    username: u64,
    number: u32,
    /// Until the login says it again.
    lid: Option<Box<str>>,
    /// The user part of the own LID.
    lid_user: Option<u64>,
    push_name: Option<Box<str>>,
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
            keys,
            has_ciphertexts,
            version,
            counters,
        } = device;
        let own = Device {
            username,
            number: device,
            lid_user: lid.as_deref().and_then(lid_user),
            lid: lid.map(String::into_boxed_str),
            push_name: push_name.as_deref().map(Box::from),
        };
        let mut receiver = Receiver::default();
        if has_ciphertexts {
            receiver.begin_with_past();
        }
        let identity = Identity {
            noise,
            payload: login_payload(username, device, version, push_name.as_deref()),
            registers: false,
            routing_info,
            server_key,
        };
        Self { receiver, ..Self::begin(config, identity, own, own_keys(keys), counters, now) }
    }

    /// A client that links a new device with a phone, and whose transport has just come up.
    ///
    /// It shows QR codes ([`Event::Qr`]) until the device is linked or nobody is there any more; it never gets online.
    /// The linked device logs in on the next connection.
    #[must_use]
    pub fn linking(
        config: Arc<Config>,
        device: NewDevice,
        version: [u32; 3],
        counters: Counters,
        now: Instant,
    ) -> Self {
        let identity = Identity {
            noise: device.noise().clone(),
            payload: device.payload(version),
            registers: true,
            routing_info: None,
            server_key: None,
        };
        let keys = own_keys(device.keys());
        let pairing = Some(Box::new(Pairing::new(device, now)));
        Self { pairing, ..Self::begin(config, identity, Device::default(), keys, counters, now) }
    }

    fn begin(
        config: Arc<Config>,
        identity: Identity,
        device: Device,
        keys: OwnKeys,
        counters: Counters,
        now: Instant,
    ) -> Self {
        Self {
            session: Session::new(Arc::clone(&config.session), identity, counters, now),
            config,
            device,
            keys,
            is_shown_online: false,
            pairing: None,
            opened_at: now,
            pattern: Pattern::Xx,
            chain: None,
            health: Health::default(),
            backlog: Backlog::default(),
            receiver: Receiver::default(),
            inbox: Inbox::default(),
            pre_keys: PreKeys::default(),
            pre_key_rest: Rest::default(),
            upkeep: Upkeep::default(),
            is_counted: false,
            sends: Sends::default(),
            sender: None,
            askings: None,
            epoch: 0,
            probe_at: None,
            unanswered_asks: 0,
            store: StoreState::Commits,
            store_since: now,
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
                session::Event::Success(success) => {
                    self.on_success(success, &mut io, effects);
                    // What an earlier version left waits for no message.
                    self.open_messages(cx);
                }
                session::Event::Pairing(iq) => self.on_pairing(iq, &mut io, effects),
                // Nobody's yet: what is not answered comes again to whom it is for.
                session::Event::Message(_) | session::Event::Undecodable { .. } if self.pairing.is_some() => {
                }
                session::Event::Message(message) => {
                    self.queue_message(message, &io);
                    self.open_messages(cx);
                }
                session::Event::Undecodable { head, plain } => {
                    self.on_undecodable(head, plain, &mut io, effects);
                }
                session::Event::Stanza(stanza) => {
                    if self.on_stanza(stanza, &mut io, effects) {
                        self.open_messages(cx);
                    }
                }
                session::Event::Response { pending, iq, is_error } if self.pairing.is_some() => {
                    self.on_link_answer(pending, Some(iq), is_error, &io, effects);
                }
                session::Event::Response { pending, iq, is_error } => {
                    self.on_response(pending, iq, is_error, &mut io, effects);
                }
            }
            self.tell_phase(cx.effects);
        }
        cx.scratch.trim();
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
        // Pings go on while nothing is read, and then say nothing.
        if self.session.is_silent() && self.store.is_reading() {
            self.health.set(Probe::Pong, false, "a ping drew no byte", cx.effects);
        }
        while let Some(pending) = self.session.poll_expired(cx.now) {
            self.on_expired(pending, cx);
        }
        self.check_store(cx);
        self.check_pairing(cx);
        self.check_send_deadlines(cx);
        self.ask_unasked(cx);
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
        let always = [
            self.session.poll_timeout(),
            self.hangs_until(),
            self.pairing.as_ref().and_then(|pairing| pairing.poll_timeout()),
            self.sender.as_ref().and_then(|sender| sender.poll_timeout()),
            self.receiver.poll_timeout(),
            self.poll_askings(),
        ];
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

    /// True while there is more to compute than one turn of the driver has time for: keys are made, a code is stretched.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.session.closed().is_none()
            && (self.pre_keys.has_work()
                || self.pairing.as_ref().is_some_and(|pairing| pairing.codes.has_work()))
    }

    /// Does about a quarter of a millisecond of it. Whenever this is called: nothing of it has a deadline.
    pub fn handle_work(&mut self, cx: &mut Cx<'_>) {
        self.work_on_code(cx);
        self.work_on_pre_keys(cx);
        self.tell(cx);
    }

    /// Somebody asks for something. A send or a logout before the session is online is not carried out; the logout
    /// closes the connection all the same. Nor is a send that fits no frame: it is counted.
    pub fn handle_command(&mut self, command: Command, cx: &mut Cx<'_>) {
        let command = match command {
            Command::SendText(outgoing) => {
                self.begin_send(*outgoing, cx);
                return self.tell(cx);
            }
            command => command,
        };
        let io = &mut Io { now: cx.now, unix_ms: cx.unix_ms, out: &mut *cx.out, entropy: &mut *cx.entropy };
        match command {
            Command::LinkByCode { phone } => self.begin_code(phone, io, cx.effects),
            Command::Close(reason) => self.session.close(reason, io),
            Command::Logout if self.session.phase() == Phase::Online => {
                let own = self.own_jid();
                let request = Request { xmlns: "md", is_set: true, purpose: Ask::Logout as u8 };
                self.session.request(io, request, 1, |writer| {
                    writer.node("remove-companion-device", 2, false);
                    writer.attr_jid("jid", &own);
                    writer.attr("reason", "user_initiated");
                });
                self.session.begin_closing(CloseReason::LogoutUnconfirmed, LOGOUT_TIMEOUT, io.now);
            }
            Command::Logout => self.session.close_with(
                Closed::new(CloseReason::LogoutUnconfirmed, self.session.phase())
                    .with_detail("not online: the server was not told"),
                io,
            ),
            // Remembered, it would look like a server that does not acknowledge.
            Command::Send { node } if !Session::fits(node.len()) => {
                self.session.counters_mut().sends_refused += 1;
            }
            Command::Send { node } if self.session.phase() == Phase::Online => {
                if let Some(id) = stanza::message_id(&node) {
                    self.sends.insert(id, io.now);
                }
                self.session.send_encoded(io, &node);
            }
            Command::Send { .. } | Command::SendText(_) => {}
        }
        self.tell(cx);
    }

    /// The commit with this token is durable, or did not happen.
    pub fn on_committed(&mut self, token: u64, outcome: Result<Committed, CommitFailed>, cx: &mut Cx<'_>) {
        if self.session.closed().is_some() {
            return;
        }
        if self.pairing.is_some() {
            self.on_device_committed(outcome.map(|_| ()), cx);
            return self.tell(cx);
        }
        if outcome.is_err() {
            // What was to be forgotten may be there still.
            self.epoch = self.epoch.wrapping_add(1);
        }
        if self.on_pre_keys_committed(token, outcome.is_ok(), cx)
            || self.on_upkeep_committed(token, outcome.is_ok(), &mut io(cx))
        {
            return self.tell(cx);
        }
        if self.on_send_committed(token, outcome.is_ok(), cx) && outcome != Err(CommitFailed::UnknownSession)
        {
            if outcome.is_err() {
                self.open_messages(cx);
            }
            self.go_on(cx);
            return self.tell(cx);
        }
        match (self.inbox.settle(token, outcome.is_ok()), outcome) {
            (Some(Settled::Durable { answer, owed }), Ok(committed)) => match answer {
                Answer::Send { stanzas, counted } => self.send_answer(&stanzas, counted, owed, cx),
                Answer::Failed { message, failure } => {
                    self.answer_failed(&message, failure, owed, committed, cx);
                }
            },
            (_, Err(CommitFailed::UnknownSession)) => self.session.close_with(
                Closed::new(CloseReason::DeviceMissing, self.session.phase())
                    .with_detail("the session was deleted under its connection"),
                &mut io(cx),
            ),
            // What was opened with its outcome was opened with records that do not exist.
            (Some(Settled::Lost), _) => {
                self.receiver.forget_records();
                self.open_messages(cx);
            }
            _ => {}
        }
        self.go_on(cx);
        self.count_unanswered();
        if self.unanswered() == 0 {
            self.health.set(Probe::StanzaUnanswered, true, "every stanza is answered", cx.effects);
        }
        self.tell(cx);
    }

    /// A commit has its outcome: goes on with what that changes, and drops the working set once nobody uses it.
    fn go_on(&mut self, cx: &mut Cx<'_>) {
        self.advance_sends(cx);
        self.drop_unused_records();
    }

    /// Nothing is in flight that needs a record: none is kept.
    pub(crate) fn drop_unused_records(&mut self) {
        let is_sending = self.sender.as_ref().is_some_and(|sender| sender.oldest_number().is_some());
        if self.receiver.is_empty() && self.inbox.is_empty() && !is_sending {
            self.receiver.records.clear();
        }
    }

    /// The store commits again after commits failed. What this connection lost, the server gives again on the next one.
    ///
    /// Not before: while the store fails, the next connection would only lose it again.
    pub fn handle_store_recovered(&mut self, cx: &mut Cx<'_>) {
        let lost = self.inbox.lost();
        // One that is closing already says goodbye in its own way.
        if lost > 0 && self.session.phase() == Phase::Online {
            self.session.close_with(
                Closed::new(CloseReason::StoreStalled, Phase::Online)
                    .with_detail(format_args!("{lost} messages could not be kept and are fetched again")),
                &mut io(cx),
            );
            self.tell(cx);
        }
    }

    /// The store is in this state from now on. What it held up until now says nothing about the server, or about us.
    pub fn handle_store(&mut self, state: StoreState, cx: &mut Cx<'_>) {
        let before = std::mem::replace(&mut self.store, state);
        if before == state {
            return;
        }
        let lasted = cx.now - std::mem::replace(&mut self.store_since, cx.now);
        if !before.is_reading() {
            self.session.resume(cx.now, lasted);
            self.backlog.postpone(lasted);
            self.sends.postpone(lasted, cx.now);
        }
        if before != StoreState::Commits {
            self.inbox.postpone(lasted, cx.now);
            self.receiver.postpone(lasted, cx.now);
        }
        if !state.is_reading() {
            self.session.pause();
        }
    }

    /// Bytes of input that wait for the rest of their frame; 8 MiB at most.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.session.held_bytes()
    }

    /// Bytes of messages that wait for records to be opened with: for as long as the store takes.
    #[must_use]
    pub const fn unopened_bytes(&self) -> usize {
        self.receiver.waiting_bytes()
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

    /// Messages of the server that still wait for their answer.
    fn unanswered(&self) -> u32 {
        self.inbox.unanswered().saturating_add(self.receiver.unanswered())
    }

    /// When those came of which one waits longest.
    fn oldest_unanswered(&self) -> impl Iterator<Item = Arrival> {
        self.inbox.oldest().chain(self.receiver.oldest())
    }

    pub(crate) fn count_unanswered(&mut self) {
        let (unanswered, oldest) = (self.unanswered(), self.oldest_unanswered().map(Arrival::since).min());
        let counters = self.session.counters_mut();
        counters.unanswered = unanswered;
        counters.oldest_unanswered = oldest;
    }

    /// Whether this is an address of our own account.
    pub(crate) fn is_own(&self, jid: &Jid) -> bool {
        jid.is_same_user(&self.own_jid()) || self.own_lid().is_some_and(|lid| jid.is_same_user(&lid))
    }

    pub(crate) fn own_jid(&self) -> Jid {
        let number = u16::try_from(self.device.number).unwrap_or(0);
        Jid::device(self.device.username.to_string(), number, Server::Pn)
    }

    /// Our address that hides the phone number, once the server has said it.
    pub(crate) fn own_lid(&self) -> Option<Jid> {
        let number = u16::try_from(self.device.number).unwrap_or(0);
        self.device.lid_user.map(|user| Jid::device(user.to_string(), number, Server::Lid))
    }

    fn tell_phase(&mut self, effects: &mut Vec<Effect>) {
        match self.session.take_phase() {
            // `Event::Closed` says it, and is the last one.
            None | Some(Phase::Closed) => {}
            Some(phase) => effects.push(Effect::Event(Event::Phase(phase))),
        }
    }

    /// What the session has become since the last call.
    pub(crate) fn tell(&mut self, cx: &mut Cx<'_>) {
        self.tell_phase(cx.effects);
        let Some(closed) = self.session.closed() else { return };
        if std::mem::replace(&mut self.closed_told, true) {
            return;
        }
        let closed = closed.clone();
        self.end_sends(cx.effects);
        self.inbox = Inbox::default();
        self.receiver = Receiver::default();
        self.pre_keys = PreKeys::default();
        self.upkeep = Upkeep::default();
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

/// The number that the user part of a LID is.
pub(crate) fn lid_user(lid: &str) -> Option<u64> {
    lid.parse::<Jid>().ok()?.user.parse().ok()
}

fn own_keys(keys: DeviceKeys) -> OwnKeys {
    let pair = SignalKeyPair::from_secret;
    OwnKeys {
        identity: SignalIdentity::new(pair(*keys.identity_secret.expose()), keys.registration_id),
        signed_pre_key: SignedPreKey {
            id: keys.signed_pre_key_id,
            pair: pair(*keys.signed_pre_key_secret.expose()),
            signature: keys.signed_pre_key_signature,
        },
        rotated: None,
        account: keys.account.map(Vec::into_boxed_slice),
    }
}

/// What writes, and what is to be done, at once.
pub(crate) fn split<'a>(cx: &'a mut Cx<'_>) -> (Io<'a>, &'a mut Vec<Effect>) {
    let Cx { now, unix_ms, out, entropy, effects, .. } = cx;
    (Io { now: *now, unix_ms: *unix_ms, out, entropy: &mut **entropy }, effects)
}

pub(crate) fn io<'a>(cx: &'a mut Cx<'_>) -> Io<'a> {
    Io { now: cx.now, unix_ms: cx.unix_ms, out: &mut *cx.out, entropy: &mut *cx.entropy }
}

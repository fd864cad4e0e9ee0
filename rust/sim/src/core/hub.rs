//! All connections of one server: routes input, time and commands to the peers, and tells the driver what to do.
//!
//! Grammar: `handle_*` takes what happened, `poll_*` and `take_*` give out what follows. After anything was handled the
//! driver calls [`Hub::poll_touched`] until it returns `None`, and carries out each connection's output and verdict.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use runner_proto::time::Instant;
use serde_json::{Value, json};

use super::chatter::Talk;
use super::command::{Command, Ending, Refusal};
use super::peer::{Peer, Verdict};
use super::phone::Typing;
use super::push::PushJob;
use super::stanza;
use super::world::{ConnectionId, Cx, Order, World};

/// What to do with a connection that was just accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Keep it, under this number.
    Take(ConnectionId),
    /// Reset it.
    Reset,
}

/// What a command gives back.
#[derive(Debug)]
pub enum Reply {
    /// The answer.
    Now(Result<Value, String>),
    /// The answer will come from [`Hub::poll_finished`] under this number.
    Later(u64),
}

/// All connections, and the world they share.
#[derive(Debug)]
pub struct Hub {
    /// What all connections share.
    pub world: World,
    pub(super) peers: HashMap<ConnectionId, Peer>,
    pub(super) jobs: Vec<PushJob>,
    pub(super) next_job: u64,
    finished: VecDeque<(u64, Value)>,
    touched: VecDeque<ConnectionId>,
    timers: BinaryHeap<Reverse<(Instant, ConnectionId)>>,
    next_id: ConnectionId,
    info: Value,
    quitting: bool,
    /// The driver's clock at the last call: listening is judged by it.
    now: Instant,
    /// How contacts write by themselves.
    pub(super) talk: Option<Talk>,
    /// Codes that phones stretch.
    pub(super) typing: VecDeque<Typing>,
}

impl Hub {
    /// A hub without connections. `info` is what `GET /info` answers.
    pub fn new(world: World, info: Value) -> Self {
        Self {
            world,
            peers: HashMap::new(),
            jobs: Vec::new(),
            next_job: 1,
            finished: VecDeque::new(),
            touched: VecDeque::new(),
            timers: BinaryHeap::new(),
            next_id: 1,
            info,
            quitting: false,
            now: Instant::default(),
            talk: None,
            typing: VecDeque::new(),
        }
    }

    /// Somebody asked to stop.
    pub fn is_quitting(&self) -> bool {
        self.quitting
    }

    /// True while new connections are listened for.
    pub fn is_listening(&self) -> bool {
        self.world.refusal(self.now).is_none_or(|refusing| refusing.mode != Refusal::Unlisten)
    }

    /// A connection.
    pub fn peer(&self, id: ConnectionId) -> Option<&Peer> {
        self.peers.get(&id)
    }

    /// Connections there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// True without any connection.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    // ------------------------------------------------------------------ what happened

    /// A client has connected.
    pub fn accept(&mut self, cx: &mut Cx<'_>) -> Accept {
        self.now = cx.now;
        if self.world.refusal(cx.now).is_some_and(|refusing| refusing.mode == Refusal::Reset) {
            self.world.counters.refused += 1;
            return Accept::Reset;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.world.counters.connections += 1;
        self.world.note(cx.unix_ms, "connect", id, None, &[]);
        self.peers.insert(id, Peer::new(id, &self.world, cx));
        Accept::Take(id)
    }

    /// The client has begun TLS.
    pub fn handle_secure(&mut self, id: ConnectionId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.secure = true;
        }
    }

    /// A TLS handshake is over.
    pub fn handle_tls_finished(&mut self, resumed: bool) {
        self.world.counters.tls_handshakes += 1;
        self.world.counters.tls_resumed += u64::from(resumed);
    }

    /// Plaintext has come in.
    pub fn handle_input(&mut self, id: ConnectionId, input: &mut [u8], cx: &mut Cx<'_>) {
        self.now = cx.now;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.handle_input(input, &mut self.world, cx);
        self.touch(id, cx);
        self.obey_orders(cx);
        self.deliver(cx);
    }

    /// The client will send no more, although there may be bytes of it that were not read.
    pub fn handle_hang_up(&mut self, id: ConnectionId, _cx: &mut Cx<'_>) {
        let device = self.peers.get(&id).filter(|peer| peer.logged_in).and_then(|peer| peer.device);
        if let Some(account) = device.and_then(|device| self.world.accounts.get_mut(&device))
            && account.live == Some(id)
        {
            account.hung_up = true;
        }
    }

    /// The connection is gone.
    pub fn handle_transport_end(&mut self, id: ConnectionId, cx: &mut Cx<'_>) {
        self.now = cx.now;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.verdict = Verdict::Close;
            self.touch(id, cx);
        }
    }

    /// TLS failed: the client's fault.
    pub fn handle_broken(&mut self, id: ConnectionId, detail: &str, cx: &mut Cx<'_>) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.protocol_error(detail, &mut self.world, cx);
        }
        self.handle_transport_end(id, cx);
    }

    /// The driver holds so many bytes that the client does not take.
    pub fn handle_backlog(&mut self, id: ConnectionId, unsent: usize) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.unsent = unsent;
        }
    }

    // ------------------------------------------------------------------ time

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let job = self.jobs.iter().map(PushJob::wake_at).min();
        let listen = self.world.refusing.map(|refusing| refusing.until).filter(|until| *until > self.now);
        let chatter = self.talk.map(|talk| talk.at);
        let typing = self.typing.front().map(|_| self.now);
        timer.into_iter().chain(job).chain(listen).chain(chatter).chain(typing).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        self.now = cx.now;
        while let Some(&Reverse((at, id))) = self.timers.peek()
            && at <= cx.now
        {
            self.timers.pop();
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            if peer.scheduled == Some(at) {
                peer.scheduled = None;
            }
            peer.handle_timeout(&mut self.world, cx);
            self.touch(id, cx);
        }
        self.obey_orders(cx);
        self.go_on_typing(cx);
        self.chat(cx);
        self.deliver(cx);
        self.run_jobs(cx);
    }

    // ------------------------------------------------------------------ what follows

    /// The next connection that has output or a verdict.
    pub fn poll_touched(&mut self) -> Option<ConnectionId> {
        let id = self.touched.pop_front()?;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.touched = false;
        }
        Some(id)
    }

    /// Moves a connection's output to `out` and says what to do then. A connection that is to be closed is forgotten
    /// here, and so is one that is not known.
    pub fn take_output(&mut self, id: ConnectionId, out: &mut Vec<u8>) -> Verdict {
        let Some(peer) = self.peers.get_mut(&id) else { return Verdict::Close };
        peer.release();
        if peer.verdict != Verdict::Reset {
            out.append(&mut peer.out);
        }
        // An idle connection keeps no output buffer.
        peer.out = Vec::new();
        let verdict = peer.verdict;
        if verdict != Verdict::Open {
            self.peers.remove(&id);
        }
        verdict
    }

    /// True while this connection's socket should be read.
    pub fn is_reading(&self, id: ConnectionId) -> bool {
        self.peers.get(&id).is_some_and(Peer::is_reading)
    }

    /// The next push that is done, and what came of it.
    pub fn poll_finished(&mut self) -> Option<(u64, Value)> {
        self.finished.pop_front()
    }

    // ------------------------------------------------------------------ commands

    /// Obeys a command.
    pub fn command(&mut self, command: Command, cx: &mut Cx<'_>) -> Reply {
        self.now = cx.now;
        let reply = self.obey(command, cx);
        self.obey_orders(cx);
        self.deliver(cx);
        reply
    }

    fn obey(&mut self, command: Command, cx: &mut Cx<'_>) -> Reply {
        let answer = match command {
            Command::Info => Ok(self.info.clone()),
            Command::Stats
            | Command::Sessions
            | Command::Devices
            | Command::Pings { .. }
            | Command::Events { .. }
            | Command::Sent { .. }
            | Command::Heard { .. }
            | Command::Owed { .. } => Ok(self.report(&command, cx)),
            Command::Push(push) => return self.begin_push(push, cx),
            Command::Send { target, nodes, cut_bytes } => {
                match nodes.iter().map(stanza::from_json).collect::<Result<Vec<_>, _>>() {
                    Err(error) => Err(error),
                    Ok(nodes) => Ok(self.each(&target, cx, |peer, world, cx| {
                        nodes.iter().for_each(|node| peer.push_cut(node, cut_bytes, world, cx));
                    })),
                }
            }
            Command::StreamError { target, code, child, child_attrs, end } => {
                let node = stanza::stream_error(code, child.as_deref(), &child_attrs);
                Ok(self.each(&target, cx, |peer, world, cx| {
                    if end { peer.goodbye(&node, world, cx) } else { peer.send(&node, world) }
                }))
            }
            Command::StreamEnd { target } => {
                let node = runner_proto::node::Node::new("xmlstreamend");
                Ok(self.each(&target, cx, |peer, world, cx| peer.goodbye(&node, world, cx)))
            }
            Command::Failure { target, reason, attrs } => {
                Ok(self.each(&target, cx, |peer, world, cx| peer.fail(reason, &attrs, world, cx)))
            }
            Command::Close { target, ending } => {
                Ok(self.each(&target, cx, |peer, _, cx| peer.end(ending, cx)))
            }
            Command::Silent { target, silence } => {
                Ok(self.each(&target, cx, |peer, _, cx| peer.set_silence(silence, cx.unix_ms)))
            }
            Command::Delay { target, ms } => {
                Ok(self.each(&target, cx, |peer, _, _| peer.delay = Duration::from_millis(ms)))
            }
            Command::Malformed { target, kind } => {
                Ok(self.each(&target, cx, |peer, world, _| peer.send_malformed(kind, world)))
            }
            Command::Shape { target, shape, next } => {
                if next {
                    merge(std::sync::Arc::make_mut(&mut self.world.shape), &shape);
                }
                Ok(self
                    .each(&target, cx, |peer, _, _| merge(std::sync::Arc::make_mut(&mut peer.shape), &shape)))
            }
            Command::Unlink { target } => {
                self.set_unlinked(&target, true);
                let gone = stanza::conflict(Some(401), "device_removed");
                Ok(self.each(&target, cx, |peer, world, cx| peer.goodbye(&gone, world, cx)))
            }
            Command::Relink { target } => {
                self.set_unlinked(&target, false);
                Ok(self.each(&target, cx, |_, _, _| {}))
            }
            Command::LoginPolicy { target, fault, count } => {
                let shown = json!({ "fault": fault, "count": count });
                self.world.add_rule(target, fault, count);
                Ok(shown)
            }
            Command::Refuse { seconds, mode, status } => Ok(self.refuse(seconds, mode, status, cx)),
            Command::Config(change) => self.configure(change, cx),
            Command::Say(say) => self.say(&say, cx),
            Command::Group(new) => self.make_group(new, cx),
            Command::Chatter(chatter) => Ok(self.set_chatter(chatter, cx)),
            Command::Scan(scan) => self.scan(&scan, cx),
            Command::EnterCode(typed) => self.enter_code(&typed, cx),
            Command::Mishear(mishear) => self.mishear(&mishear, cx),
            Command::NewIdentity(new) => self.renew_contact(&new, cx),
            Command::LoseKeys { target } => Ok(self.lose_keys(&target, cx)),
            Command::Reset => {
                self.reset(cx.unix_ms);
                Ok(json!({ "targets": self.peers.len(), "t": cx.unix_ms, "doneAt": cx.unix_ms }))
            }
            Command::Quit => {
                self.quitting = true;
                Ok(json!({ "ok": true }))
            }
        };
        Reply::Now(answer)
    }

    fn refuse(&mut self, seconds: f64, mode: Refusal, status: u16, cx: &Cx<'_>) -> Value {
        let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.world.refusing = Some(super::world::Refusing { mode, status, until: cx.now + time });
        let until = cx.unix_ms + u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        json!({ "mode": mode, "until": until })
    }

    fn configure(&mut self, change: serde_json::Map<String, Value>, cx: &Cx<'_>) -> Result<Value, String> {
        let mut settings = serde_json::to_value(&self.world.settings).map_err(|error| error.to_string())?;
        if let Some(known) = settings.as_object_mut() {
            for (key, value) in change {
                if !known.contains_key(&key) {
                    return Err(format!(
                        "no setting {key:?}; there are {:?}",
                        known.keys().collect::<Vec<_>>()
                    ));
                }
                known.insert(key, value);
            }
        }
        self.world.settings = serde_json::from_value(settings.clone()).map_err(|error| error.to_string())?;
        self.world.sent.set_capacity(self.world.settings.sent_capacity);
        // The answer rule may have set a deadline on every connection.
        let ids: Vec<_> = self.peers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.touch(id, cx));
        Ok(settings)
    }

    fn set_unlinked(&mut self, target: &super::command::Target, unlinked: bool) {
        for ((username, _), account) in &mut self.world.accounts {
            if target.names(*username) {
                account.unlinked = unlinked;
            }
        }
    }

    fn reset(&mut self, unix_ms: u64) {
        self.world.counters = super::counters::Counters { since: unix_ms, ..Default::default() };
        self.world.events.clear();
        self.world.sent.clear();
        self.world.heard.clear();
        for peer in self.peers.values_mut() {
            peer.pings.clear();
            peer.pings_total = 0;
        }
    }

    /// Applies `act` to every connection of a target; the answer says how many there were.
    fn each(
        &mut self,
        target: &super::command::Target,
        cx: &mut Cx<'_>,
        mut act: impl FnMut(&mut Peer, &mut World, &Cx<'_>),
    ) -> Value {
        let mut ids: Vec<_> = self
            .peers
            .values()
            .filter(|peer| target.matches(peer.id, peer.username()))
            .map(|peer| peer.id)
            .collect();
        ids.sort_unstable();
        for &id in &ids {
            if let Some(peer) = self.peers.get_mut(&id) {
                act(peer, &mut self.world, cx);
                self.touch(id, cx);
            }
        }
        json!({ "targets": ids.len(), "t": cx.unix_ms, "doneAt": cx.unix_ms })
    }

    // ------------------------------------------------------------------ bookkeeping

    /// Keeps the books of a connection that something was done to, and puts it on the driver's list.
    pub(super) fn touch(&mut self, id: ConnectionId, cx: &Cx<'_>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.server_closed || peer.verdict != Verdict::Open {
            peer.logged_in = false;
        }
        if let Some(account) = peer.device.and_then(|device| self.world.accounts.get_mut(&device))
            && account.live == Some(id)
            && !peer.logged_in
        {
            account.live = None;
            account.ended_at = Some(cx.now);
            account.hung_up = false;
            if self.world.settings.redeliver {
                peer.hand_back(account);
            }
        }
        if peer.verdict == Verdict::Open {
            if let Some(at) = peer.poll_timeout(&self.world)
                && peer.scheduled.is_none_or(|scheduled| at < scheduled)
            {
                peer.scheduled = Some(at);
                self.timers.push(Reverse((at, id)));
            }
        } else if !peer.is_noted {
            peer.is_noted = true;
            let counters = &mut self.world.counters;
            *(if peer.server_closed {
                &mut counters.closed_by_server
            } else {
                &mut counters.closed_by_client
            }) += 1;
            let (user, note) = (peer.username(), peer.closing_note());
            self.world.note(cx.unix_ms, "close", id, user, &note);
        }
        if !peer.touched {
            peer.touched = true;
            self.touched.push_back(id);
        }
    }

    /// Does to connections what other connections asked for.
    fn obey_orders(&mut self, cx: &mut Cx<'_>) {
        while let Some((id, order)) = self.world.orders.pop_front() {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            // The device has moved on to the connection that gave the order.
            peer.logged_in = false;
            let left = (std::mem::take(&mut peer.owed), peer.device);
            if self.world.settings.redeliver
                && let Some(account) = left.1.and_then(|device| self.world.accounts.get_mut(&device))
            {
                account.offline.extend(left.0.into_stanzas());
            }
            match order {
                Order::Replaced => {
                    let node = stanza::conflict(None, "replaced");
                    peer.goodbye(&node, &mut self.world, cx);
                }
                Order::Forget => peer.end(Ending::Fin, cx),
            }
            self.touch(id, cx);
        }
    }

    pub(super) fn finish_job(&mut self, job: u64, answer: Value) {
        self.finished.push_back((job, answer));
    }
}

/// Takes over the settings that are given.
fn merge(shape: &mut super::command::Shape, change: &super::command::Shape) {
    let super::command::Shape { split_bytes, coalesce, zlib, mute, mute_acks, mute_offline, refuse_sends } =
        change.clone();
    shape.split_bytes = split_bytes.or(shape.split_bytes);
    shape.coalesce = coalesce.or(shape.coalesce);
    shape.zlib = zlib.or(shape.zlib);
    shape.mute = mute.or_else(|| shape.mute.take());
    shape.mute_acks = mute_acks.or(shape.mute_acks);
    shape.mute_offline = mute_offline.or(shape.mute_offline);
    shape.refuse_sends = refuse_sends.or(shape.refuse_sends);
}

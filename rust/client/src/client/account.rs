//! The account's business while online: what is said after the login, and what stanzas and answers lead to.

use runner_proto::{
    close_reason::{CloseReason, Closed},
    iq::Pending,
    node::NodeRef,
    session::{Io, Request},
    time::Instant,
};

use super::{Client, LOGOUT_TIMEOUT, io, lid_user};
use crate::{
    Cx, Effect, Event, Me, Probe, Write, backlog,
    inbox::{Answer, Arrival, Counted, Owed},
    stanza,
};

/// Most bytes of routing info that are kept. Each connection sends them before anything else, so one that is larger
/// than what a socket takes would shut this device out for good. Real ones have about ten.
const MAX_ROUTING_INFO: usize = 1024;

/// The longest LID that is kept, in bytes; real ones have about 25.
const MAX_LID: usize = 128;

/// The longest frame that is kept as a dead letter, in bytes; media is not sent inside messages, so real ones have
/// a few thousand.
const MAX_DEAD_LETTER: usize = 1024 * 1024;

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
    /// Here are more pre-keys.
    Upload,
    /// What the server has of our keys.
    Digest,
    /// Here is a new signed pre-key.
    Rotate,
    /// Offer a pairing code to a phone.
    LinkHello,
    /// Agree on a secret with the phone into which it was typed.
    LinkFinish,
    /// Which devices users have.
    Devices,
    /// The keys by which devices are written to first.
    Bundles,
    /// Who is in a group.
    Group,
}

impl Ask {
    /// What is asked again when it goes unanswered: without an answer to these the session does not work.
    pub(super) const VITAL: [Self; 2] = [Self::Count, Self::Active];

    /// Whether a message of ours waits for the answer.
    const fn is_of_sends(purpose: u8) -> bool {
        purpose == Self::Devices as u8 || purpose == Self::Bundles as u8 || purpose == Self::Group as u8
    }

    pub(super) const fn bit(self) -> u16 {
        1 << self as u8
    }
}

impl Client {
    pub(super) fn on_success(&mut self, success: NodeRef<'_>, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        self.tell_phase(effects);
        let login_ms = u64::try_from((io.now - self.opened_at).as_millis()).unwrap_or(u64::MAX);
        let me = Me {
            jid: self.own_jid().to_non_ad().to_string(),
            push_name: self.device.push_name.as_deref().map(str::to_owned),
        };
        effects.push(Effect::Event(Event::Online { handshake: self.pattern, login_ms, me: Box::new(me) }));

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
        let lid = success.attr("lid").map(|lid| lid.to_string()).filter(|lid| lid.len() <= MAX_LID);
        if let Some(lid) = lid.filter(|lid| self.device.lid.as_deref() != Some(lid)) {
            self.device.lid_user = lid_user(&lid);
            writes.push(Write::Lid(lid));
        }
        // Not needed again on this connection.
        self.device.lid = None;
        commit(writes, effects);

        self.epoch = io.entropy.u32();
        self.load_upkeep(effects);
        self.backlog.on_online(io.now, self.config.offline_timeout);
        self.schedule_probe(io);
        self.greet(offset_ms, io);
    }

    /// What a web client says first. docs/protocol.md, "After login".
    ///
    /// Both requests go out at once: nothing in the first one's answer changes the second.
    pub(super) fn greet(&mut self, offset_ms: i64, io: &mut Io<'_>) {
        for ask in Ask::VITAL {
            self.ask(ask, io);
        }
        self.say_unified_session(stanza::unified_session_id(io.unix_ms, offset_ms), io);
        if let Some(name) = self.device.push_name.take() {
            // The web client drops '@', which would make it look like an address.
            self.is_shown_online = true;
            let name = name.replace('@', "");
            self.session.send(io, |writer| {
                writer.node("presence", 2, false);
                writer.attr("type", "available");
                writer.attr("name", &name);
            });
        }
    }

    pub(super) fn say_unified_session(&mut self, id: u64, io: &mut Io<'_>) {
        self.session.send(io, |writer| {
            writer.node("ib", 0, true);
            writer.children(1);
            writer.node("unified_session", 1, false);
            writer.attr_u64("id", id);
        });
    }

    /// What a web client asks once the backlog is through. Nothing here reads the answers yet; a client that never
    /// asks would look like no other, and the three cost less than one login.
    pub(super) fn ask_settings(&mut self, io: &mut Io<'_>) {
        for ask in [Ask::Props, Ask::Blocklist, Ask::Privacy] {
            self.ask(ask, io);
        }
    }

    pub(crate) fn ask(&mut self, ask: Ask, io: &mut Io<'_>) {
        let (xmlns, is_set, child) = match ask {
            Ask::Count => ("encrypt", false, Some("count")),
            Ask::Digest => ("encrypt", false, Some("digest")),
            Ask::Active => ("passive", true, Some("active")),
            Ask::Props => ("abt", false, Some("props")),
            Ask::Blocklist => ("blocklist", false, None),
            Ask::Privacy => ("privacy", false, Some("privacy")),
            Ask::Logout
            | Ask::Upload
            | Ask::Rotate
            | Ask::LinkHello
            | Ask::LinkFinish
            | Ask::Devices
            | Ask::Bundles
            | Ask::Group => return,
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

    pub(super) fn on_response(
        &mut self,
        pending: Pending,
        iq: NodeRef<'_>,
        is_error: bool,
        io: &mut Io<'_>,
        effects: &mut Vec<Effect>,
    ) {
        if pending.purpose == Ask::Logout as u8 {
            let (reason, detail) = if is_error {
                (CloseReason::LogoutUnconfirmed, "the server refused to unlink the device")
            } else {
                (CloseReason::LoggedOutByRequest, "")
            };
            let closed = Closed::new(reason, self.session.phase()).with_detail(detail);
            self.session.begin_closing(reason, LOGOUT_TIMEOUT, io.now);
            return self.session.close_with(closed, io);
        }
        if Ask::is_of_sends(pending.purpose) {
            return self.on_send_answer(pending, Some(iq), is_error, io, effects);
        }
        if pending.purpose == Ask::Upload as u8 {
            commit(self.pre_keys.on_uploaded(!is_error).into_iter().collect(), effects);
            if !is_error {
                self.pre_key_rest.on_uploaded(io.now);
            }
            self.tend_keys(io, effects);
        }
        let error = is_error.then(|| {
            iq.child("error")
                .and_then(|error| error.attr("code"))
                .and_then(|code| code.parse_u64())
                .unwrap_or(0)
        });
        if pending.purpose == Ask::Rotate as u8 {
            self.on_rotated(error, io, effects);
        } else if pending.purpose == Ask::Digest as u8 {
            self.on_digest(iq, error, io, effects);
        }
        let count =
            iq.child("count").and_then(|count| count.attr("value")).and_then(|value| value.parse_u64());
        if pending.purpose == Ask::Count as u8 {
            self.is_counted = true;
            if let Some(count) = count {
                self.on_pre_key_count(count, io.now, effects);
            }
            self.tend_keys(io, effects);
        }
        self.unanswered_asks &= !(1 << pending.purpose);
        if self.unanswered_asks == 0 {
            self.health.set(Probe::IqUnanswered, true, "requests are answered", effects);
        }
    }

    /// A request went unanswered. The vital ones are asked again at once; the second time in a row is a verdict.
    pub(super) fn on_expired(&mut self, pending: Pending, cx: &mut Cx<'_>) {
        if self.pairing.is_some() {
            let Cx { now, unix_ms, out, entropy, effects, .. } = cx;
            let io = Io { now: *now, unix_ms: *unix_ms, out, entropy: &mut **entropy };
            return self.on_link_answer(pending, None, true, &io, effects);
        }
        if Ask::is_of_sends(pending.purpose) {
            let Cx { now, unix_ms, out, entropy, effects, .. } = cx;
            let mut io = Io { now: *now, unix_ms: *unix_ms, out, entropy: &mut **entropy };
            return self.on_send_answer(pending, None, false, &mut io, effects);
        }
        if pending.purpose == Ask::Upload as u8 {
            // The next count says whether the keys arrived.
            self.pre_keys.on_uploaded(false);
        } else if [Ask::Digest as u8, Ask::Rotate as u8].contains(&pending.purpose) {
            self.on_upkeep_expired();
        }
        let Some(ask) = Ask::VITAL.into_iter().find(|ask| *ask as u8 == pending.purpose) else { return };
        if self.unanswered_asks & ask.bit() != 0 {
            self.health.set(Probe::IqUnanswered, false, "a request was not answered, twice", cx.effects);
        }
        self.unanswered_asks |= ask.bit();
        self.ask(ask, &mut io(cx));
    }

    /// A message that only a later version of us may be able to read: kept, then refused.
    pub(super) fn on_undecodable(
        &mut self,
        head: NodeRef<'_>,
        plain: &[u8],
        io: &mut Io<'_>,
        effects: &mut Vec<Effect>,
    ) {
        self.note_backlog(head, io.now);
        let nack = stanza::message_nack(head);
        let row = stanza::dead_letter(head, plain, io.unix_ms).filter(|_| plain.len() <= MAX_DEAD_LETTER);
        let Some(row) = row else {
            self.session.send_encoded(io, &nack);
            let counters = self.session.counters_mut();
            counters.messages_undecodable += 1;
            counters.answers_sent += 1;
            return;
        };
        let answer = Answer::Send { stanzas: vec![nack], counted: Counted::Undecodable };
        let token = self.inbox.push(answer, Owed { arrival: Some(Arrival::new(io.now)), number: 0 });
        self.count_unanswered();
        effects.push(Effect::Commit { token, writes: vec![row] });
    }

    /// True when it waits for its turn among the messages.
    pub(super) fn on_stanza(
        &mut self,
        stanza: NodeRef<'_>,
        io: &mut Io<'_>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let tag = stanza.tag();
        if self.pairing.is_some() {
            if tag == "notification" {
                self.on_link_notification(stanza, effects);
            }
        } else if tag == "ib" {
            self.on_ib(stanza, io, effects);
        } else if tag == "ack" {
            self.on_ack(stanza, io, effects);
        } else {
            self.note_backlog(stanza, io.now);
            if tag == "receipt" && stanza.attr("type").is_some_and(|kind| kind == *"retry") {
                self.on_retry_receipt(stanza, io, effects);
            } else if tag == "notification" {
                self.on_device_notification(stanza, effects);
                if stanza.attr("type").is_some_and(|kind| kind == *"w:gp2") {
                    self.on_group_notification(stanza, io, effects);
                }
            }
            let is_about_keys =
                tag == "notification" && stanza.attr("type").is_some_and(|kind| kind == *"encrypt");
            let count =
                stanza.child("count").and_then(|count| count.attr("value")).and_then(|n| n.parse_u64());
            if let (true, Some(count)) = (is_about_keys, count) {
                self.on_pre_key_count(count, io.now, effects);
            }
            if is_about_keys && stanza.child("identity").is_some() {
                self.queue_identity_change(stanza, io);
                return true;
            }
        }
        false
    }

    pub(super) fn on_ib(&mut self, ib: NodeRef<'_>, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
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
                && info.len() <= MAX_ROUTING_INFO
            {
                commit(vec![Write::RoutingInfo(info.to_vec())], effects);
            }
        }
    }

    pub(super) fn ask_batch(&mut self, io: &mut Io<'_>) {
        self.session.send(io, |writer| {
            writer.node("ib", 0, true);
            writer.children(1);
            writer.node("offline_batch", 1, false);
            writer.attr_u64("count", backlog::BATCH);
        });
    }

    pub(super) fn on_ack(&mut self, ack: NodeRef<'_>, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        if self.sends.is_empty() || ack.attr("class").is_none_or(|class| class != *"message") {
            return;
        }
        let Some(id) = ack.attr("id") else { return };
        let Some(took) = self.sends.acknowledge(|sent| id == *sent, io.now) else { return };
        self.session.counters_mut().responses.record(took);
        self.health.set(Probe::SendUnacked, true, "the server acknowledges sends", effects);
        self.on_send_ack(ack, io, effects);
    }

    /// Somebody has other devices than before, or we have.
    fn on_device_notification(&mut self, notification: NodeRef<'_>, effects: &mut Vec<Effect>) {
        let Some(kind) = notification.attr("type") else { return };
        if kind == *"devices" {
            let jid = |key| notification.attr(key).and_then(|jid| jid.to_jid());
            self.forget_devices([jid("from"), jid("lid")].into_iter().flatten(), effects);
        } else if kind == *"account_sync" && notification.child("devices").is_some() {
            self.forget_own_devices(effects);
        }
    }

    pub(crate) fn note_backlog(&mut self, stanza: NodeRef<'_>, now: Instant) {
        if stanza.attr("offline").is_some() {
            self.backlog.on_stanza(now, self.config.offline_timeout);
        }
    }
}

/// Writes that nobody waits for.
pub(crate) fn commit(writes: Vec<Write>, effects: &mut Vec<Effect>) {
    if !writes.is_empty() {
        effects.push(Effect::Commit { token: 0, writes });
    }
}

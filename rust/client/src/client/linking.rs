//! A connection that links a new device: what the server asks, what a person sees, and the device once it is durable.

use std::time::Duration;

use runner_proto::{
    adv::AdvError,
    close_reason::{CloseReason, Closed},
    iq::Pending,
    jid::{Jid, Server},
    node::{Node, NodeRef, encode},
    payload::OS,
    session::{Io, Request},
};

use super::{Client, account::Ask, commit, io};
use crate::{
    CommitFailed, Cx, Effect, Event, NoCode, Write,
    pairing::{
        PLATFORM_ID,
        code::{self, Ready},
    },
    stanza,
};

/// How long the server may take to ask for the new connection, on which the device logs in.
const RESTART_TIMEOUT: Duration = Duration::from_secs(10);

/// How long our store may take to keep the new device, whatever time the person had left.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// The commit of the new device: the only one on such a connection.
const TOKEN: u64 = 1;

impl Client {
    /// A request of the namespace `md` to a device that is to be linked.
    pub(super) fn on_pairing(&mut self, iq: NodeRef<'_>, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        let Some(pairing) = &mut self.pairing else { return };
        if let Some(success) = iq.child("pair-success") {
            return self.on_pair_success(iq, success, io, effects);
        }
        let Some(pair_device) = iq.child("pair-device") else {
            return self.session.answer_request(iq, Some((501, "feature-not-implemented")), io);
        };
        let lasts = pairing.on_refs(pair_device, io.now);
        let until = pairing.extend(lasts, io.now);
        let wanted = pairing.wanted.take();
        self.session.answer_request(iq, None, io);
        self.session.await_phone(until);
        self.show_qr(io, effects);
        if let Some(phone) = wanted {
            self.begin_code(phone, io, effects);
        }
    }

    /// Somebody wants to type a code instead of scanning one.
    pub(super) fn begin_code(&mut self, phone: Jid, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        let Some(pairing) = &mut self.pairing else { return };
        if !pairing.is_known() {
            pairing.wanted = Some(phone);
        } else if !pairing.codes.begin(phone, io.entropy) {
            effects.push(Effect::Event(Event::NoCode(NoCode::TooMany)));
        }
    }

    /// A code is stretched a little further.
    pub(super) fn work_on_code(&mut self, cx: &mut Cx<'_>) {
        let Some(pairing) = &mut self.pairing else { return };
        if let Some(ready) = pairing.codes.poll_work(&pairing.device, cx.entropy) {
            self.ask_link(&ready, &mut io(cx));
        }
    }

    /// What is due on a connection that links a device.
    pub(super) fn check_pairing(&mut self, cx: &mut Cx<'_>) {
        let io = &mut Io { now: cx.now, unix_ms: cx.unix_ms, out: cx.out, entropy: cx.entropy };
        self.show_qr(io, cx.effects);
    }

    fn show_qr(&mut self, io: &Io<'_>, effects: &mut Vec<Effect>) {
        let Some(pairing) = &mut self.pairing else { return };
        if let Some((text, ttl, left)) = pairing.poll_qr(io.now) {
            effects.push(Effect::Event(Event::Qr { text, ttl, left }));
        }
    }

    fn ask_link(&mut self, ready: &Ready, io: &mut Io<'_>) {
        let (ask, phone) = match ready {
            Ready::Hello { phone, .. } => (Ask::LinkHello, phone),
            Ready::Finish { phone, .. } => (Ask::LinkFinish, phone),
        };
        let Some(pairing) = &self.pairing else { return };
        let (noise, identity) = (*pairing.device.noise().public(), *pairing.device.identity().public());
        let request = Request { xmlns: "md", is_set: true, purpose: ask as u8 };
        self.session.request(io, request, 1, |writer| {
            let child = |writer: &mut runner_proto::node::Writer<'_>, tag: &str, bytes: &[u8]| {
                writer.node(tag, 0, true);
                writer.bytes(bytes);
            };
            let is_hello = ask == Ask::LinkHello;
            writer.node("link_code_companion_reg", if is_hello { 3 } else { 2 }, true);
            writer.attr_jid("jid", phone);
            writer.attr("stage", if is_hello { "companion_hello" } else { "companion_finish" });
            match ready {
                Ready::Hello { wrapped, .. } => {
                    writer.attr("should_show_push_notification", "true");
                    writer.children(5);
                    child(writer, "link_code_pairing_wrapped_companion_ephemeral_pub", wrapped);
                    child(writer, "companion_server_auth_key_pub", &noise);
                    child(writer, "companion_platform_id", PLATFORM_ID.as_bytes());
                    // The server takes nothing but "Browser (System)".
                    child(writer, "companion_platform_display", format!("Chrome ({OS})").as_bytes());
                    child(writer, "link_code_pairing_nonce", &[0]);
                }
                Ready::Finish { bundle, reference, .. } => {
                    writer.children(3);
                    child(writer, "link_code_pairing_wrapped_key_bundle", &bundle[..]);
                    child(writer, "companion_identity_public", &identity);
                    child(writer, "link_code_pairing_ref", reference);
                }
            }
        });
    }

    /// The answer to a request about a code; `None`: there was none.
    pub(super) fn on_link_answer(
        &mut self,
        pending: Pending,
        answer: Option<NodeRef<'_>>,
        is_error: bool,
        io: &Io<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pairing) = &mut self.pairing else { return };
        let Some(answer) = answer.filter(|_| !is_error) else {
            let number = answer.and_then(|iq| iq.child("error")?.attr("code")?.parse_u64());
            pairing.codes.forget();
            let refused = NoCode::Refused(number.and_then(|number| u32::try_from(number).ok()));
            return effects.push(Effect::Event(Event::NoCode(refused)));
        };
        if pending.purpose == Ask::LinkHello as u8
            && let Some(text) = pairing.codes.on_hello_taken(answer)
        {
            let until = pairing.extend(code::TTL, io.now);
            self.session.await_phone(until);
            effects.push(Effect::Event(Event::Code { text, ttl: code::TTL }));
        }
    }

    /// A notification to a device that is to be linked: perhaps that somebody typed the code.
    pub(super) fn on_link_notification(&mut self, notification: NodeRef<'_>, effects: &mut Vec<Effect>) {
        let Some(pairing) = &mut self.pairing else { return };
        let Some(reg) = notification.child("link_code_companion_reg") else { return };
        if reg.attr("stage").is_some_and(|stage| stage == *"primary_hello")
            && !pairing.codes.on_primary_hello(reg)
        {
            effects.push(Effect::Event(Event::NoCode(NoCode::Spent)));
        }
    }

    fn on_pair_success(
        &mut self,
        iq: NodeRef<'_>,
        success: NodeRef<'_>,
        io: &mut Io<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pairing) = &mut self.pairing else { return };
        if pairing.answer.is_some() {
            return; // it is on its way to the store
        }
        let linked = match pairing.on_success(success, io.entropy) {
            Ok(linked) => linked,
            Err(error) => {
                let answer = match error {
                    AdvError::HmacMismatch => (401, "hmac-mismatch"),
                    AdvError::SignatureMismatch => (401, "signature-mismatch"),
                    AdvError::Unreadable => (500, "internal-error"),
                };
                self.session.answer_request(iq, Some(answer), io);
                let closed =
                    Closed::new(CloseReason::PairingInvalid, self.session.phase()).with_detail(error);
                return self.session.close_with(closed, io);
            }
        };
        let sign =
            Node::new("device-identity").attr("key-index", linked.key_index.to_string()).bytes(linked.signed);
        let answer = Node::new("iq")
            .attr_jid("to", Jid::server(Server::Pn))
            .attr("type", "result")
            .attr("id", iq.attr("id").map(|id| id.to_string()).unwrap_or_default())
            .child(Node::new("pair-device-sign").child(sign));
        let mut encoded = Vec::new();
        encode(&answer, &mut encoded);
        (pairing.answer, pairing.phone) = (Some(encoded), Some(linked.phone));
        let until = pairing.extend(COMMIT_TIMEOUT, io.now);
        self.session.await_phone(until);
        effects.push(Effect::Commit { token: TOKEN, writes: vec![Write::Device(Box::new(linked.device))] });
    }

    /// The new device is durable, or is not: only now does the server hear about it.
    pub(super) fn on_device_committed(&mut self, outcome: Result<(), CommitFailed>, cx: &mut Cx<'_>) {
        let Some(pairing) = &mut self.pairing else { return };
        let (Some(answer), phone) = (pairing.answer.take(), pairing.phone.take()) else { return };
        let io = &mut io(cx);
        let (reason, detail) = match outcome {
            Ok(()) => {
                self.session.send_encoded(io, &answer);
                let id = stanza::unified_session_id(io.unix_ms, 0);
                self.say_unified_session(id, io);
                self.session.begin_closing(CloseReason::StreamRestartRequired, RESTART_TIMEOUT, io.now);
                // Behind the device, which is alone in its batch. Lost in a crash, it is taken on first use.
                commit(phone.into_iter().collect(), cx.effects);
                return cx.effects.push(Effect::Event(Event::Linked));
            }
            Err(CommitFailed::Store) => (CloseReason::StoreStalled, "the new device could not be kept"),
            Err(CommitFailed::Refused) => {
                (CloseReason::PairingInvalid, "this device, or one of this session, is here already")
            }
            Err(CommitFailed::UnknownSession) => {
                (CloseReason::DeviceMissing, "the session was deleted while it was being linked")
            }
        };
        self.session.close_with(Closed::new(reason, self.session.phase()).with_detail(detail), io);
    }
}

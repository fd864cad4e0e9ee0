//! What comes up: WebSocket messages, frames, stanzas; and the answers that stanzas are owed at once.

use std::fmt;

use super::{Buffers, Channel, Input, Io, Secured, Session, output};
use crate::{
    answer::{self, Expects, nack},
    close_reason::{CloseReason, Closed, StreamError},
    frame::Frame,
    iq::Pending,
    jid::Jid,
    node::{self, NodeRef, Scratch, Value},
    noise::{NoiseError, Pattern},
    phase::Phase,
    ws::{self, Message},
};

/// Something for whoever does the account's business.
#[derive(Debug)]
pub enum Event<'e> {
    /// Nothing to do; there may be more.
    Handled,
    /// The channel is open and the login on its way.
    Secured(Secured),
    /// `<success>`: the session is online.
    Success(NodeRef<'e>),
    /// A message. The caller owes its answer ([`answer::write_ack`]) once it is durable.
    Message(NodeRef<'e>),
    /// A message that this decoder does not take, which says little about the message. The caller owes its refusal
    /// ([`answer::write_ack`] with [`nack::PARSING_ERROR`]) once it is kept as it came: nobody sends it again.
    Undecodable {
        /// Its tag and attributes; it has an id and a sender.
        head: NodeRef<'e>,
        /// All of it, flag byte in front.
        plain: &'e [u8],
    },
    /// A request of the namespace `md` to a device that registers. The caller owes its answer
    /// ([`Session::answer_request`], or a result of its own with the same id).
    Pairing(NodeRef<'e>),
    /// Any other stanza; the answer that it is owed has been written.
    Stanza(NodeRef<'e>),
    /// The answer to a request.
    Response {
        /// The request.
        pending: Pending,
        /// The answer.
        iq: NodeRef<'e>,
        /// It is an error.
        is_error: bool,
    },
}

impl Session {
    /// The next event in `input`, or `None` when that is used up (or the session is over).
    ///
    /// Stanzas that need nobody's attention are answered here and come out as [`Event::Handled`].
    pub fn poll_event<'e, 'b: 'e>(
        &mut self,
        input: &mut Input<'b>,
        buffers: &'e mut Buffers,
        io: &mut Io<'_>,
    ) -> Option<Event<'e>> {
        if self.closed.is_some() {
            return None;
        }
        if self.phase == Phase::Upgrading {
            if input.raw.is_empty() {
                return None;
            }
            self.poll_upgrade(input, io);
            return Some(Event::Handled);
        }
        if input.piece.is_empty() {
            match self.ws.next(&mut input.raw) {
                Ok(None) => return None,
                Ok(Some(Message::Data(piece))) => input.piece = piece,
                Ok(Some(message)) => {
                    self.on_control(&message, io);
                    return Some(Event::Handled);
                }
                Err(error) => {
                    let closed = Closed::new(CloseReason::WebsocketInvalid, self.phase).with_detail(error);
                    self.finish_with(closed, error.close_code(), io);
                    return None;
                }
            }
        }
        match self.frames.next(&mut input.piece) {
            Ok(Some(frame)) => Some(self.on_frame(frame, buffers, io)),
            Ok(None) => Some(Event::Handled),
            Err(error) => {
                self.finish(Closed::new(CloseReason::FrameInvalid, self.phase).with_detail(error), io);
                None
            }
        }
    }

    /// A WebSocket message that carries no frames.
    fn on_control(&mut self, message: &Message<'_>, io: &mut Io<'_>) {
        match message {
            Message::Ping(payload) => {
                let start = io.out.len();
                ws::write_pong(io.out, payload, Some(output::mask(io.entropy)));
                self.counters.bytes_sent += (io.out.len() - start) as u64;
                if let Some(clock) = &mut self.clock {
                    clock.on_send(io.now);
                }
            }
            Message::Close(code, reason) => {
                let closed = Closed::new(CloseReason::WebsocketClosed, self.phase)
                    .with_code(code.map(u32::from))
                    .with_detail(String::from_utf8_lossy(reason));
                let closed = self.interrupted(closed);
                self.finish_with(closed, code.unwrap_or(ws::close_code::NORMAL), io);
            }
            // No client of this protocol sends or expects text; the others ignore it too.
            Message::Data(_) | Message::Text | Message::Pong(_) => {}
        }
    }

    fn on_frame<'e>(&mut self, frame: Frame<'e>, buffers: &'e mut Buffers, io: &mut Io<'_>) -> Event<'e> {
        self.counters.frames_received += 1;
        let (transport, pattern) = match &mut self.channel {
            Channel::Opening(_) => return self.on_server_hello(&frame, io),
            Channel::Open { transport, pattern } => (transport, *pattern),
            Channel::Gone => return Event::Handled,
        };
        let Buffers { joined, scratch } = buffers;
        let opened = match frame {
            Frame::Whole(bytes) => transport.open(bytes),
            Frame::Joined(bytes) => {
                *joined = bytes;
                transport.open(joined)
            }
        };
        match opened {
            Ok(plain) => self.on_plain(plain, scratch, io),
            Err(error) => {
                let reason = match error {
                    NoiseError::NonceExhausted => CloseReason::NonceExhausted,
                    _ if self.phase == Phase::Authenticating && pattern == Pattern::Ik => {
                        CloseReason::ResumeFailed
                    }
                    _ => CloseReason::DecryptFailed,
                };
                self.finish(Closed::new(reason, self.phase).with_detail(error), io);
                Event::Handled
            }
        }
    }

    /// One decrypted frame: flag byte and node.
    fn on_plain<'e>(&mut self, plain: &'e [u8], scratch: &'e mut Scratch, io: &mut Io<'_>) -> Event<'e> {
        match node::decode(plain, scratch, &self.config.limits) {
            Ok(stanza) => {
                self.counters.stanzas_received += 1;
                self.on_stanza(stanza, io)
            }
            Err(_) => self.on_malformed(plain, io),
        }
    }

    /// The noise counter is in step, so one bad stanza is no reason to end the connection; but it is still owed its
    /// answer, when as much of it can be read as that takes.
    fn on_malformed<'e>(&mut self, plain: &'e [u8], io: &mut Io<'_>) -> Event<'e> {
        self.counters.stanzas_malformed += 1;
        let Some(head) = node::decode_head(plain, &self.config.limits) else { return Event::Handled };
        let is_message = matches!(answer::expects(head.tag()), Expects::AckWhenDurable);
        if is_message && answer::is_addressable(head) {
            return Event::Undecodable { head, plain };
        }
        self.refuse(head, nack::PARSING_ERROR, io);
        Event::Handled
    }

    fn on_stanza<'e>(&mut self, stanza: NodeRef<'e>, io: &mut Io<'_>) -> Event<'e> {
        match answer::expects(stanza.tag()) {
            Expects::IqAnswer => return self.on_iq(stanza, io),
            Expects::AckWhenDurable => return self.on_message(stanza),
            Expects::Ack => {
                self.acknowledge(stanza, None, None, io);
            }
            Expects::Nack => {
                self.acknowledge(stanza, None, Some(nack::UNRECOGNISED_STANZA), io);
            }
            Expects::Nothing => return self.on_news(stanza, io),
        }
        Event::Stanza(stanza)
    }

    /// A stanza that expects no answer; some of them end the stream.
    fn on_news<'e>(&mut self, stanza: NodeRef<'e>, io: &mut Io<'_>) -> Event<'e> {
        let tag = stanza.tag();
        let closed = if tag == "success" {
            if self.phase != Phase::Authenticating || self.registers {
                return Event::Handled;
            }
            self.phase = Phase::Online;
            self.deadline = None;
            self.counters.online_since = Some(io.now);
            return Event::Success(stanza);
        } else if tag == "failure" {
            self.failure(stanza)
        } else if tag == "stream:error" {
            self.stream_error(stanza)
        } else if tag == "xmlstreamend" {
            Closed::new(CloseReason::StreamEnded, self.phase)
        } else if tag == "ib" && stanza.child("downgrade_webclient").is_some() {
            Closed::new(CloseReason::MultideviceMismatch, self.phase).with_detail(Raw(stanza))
        } else {
            return Event::Stanza(stanza);
        };
        self.finish(closed, io);
        Event::Handled
    }

    fn failure(&self, stanza: NodeRef<'_>) -> Closed {
        let number = |key| stanza.attr(key).and_then(|value| value.parse_u64());
        let code = number("reason").and_then(|code| u32::try_from(code).ok());
        Closed {
            expire_s: number("expire"),
            ..Closed::new(CloseReason::from_failure(code), self.phase)
                .with_code(code)
                .with_detail(Raw(stanza))
        }
    }

    fn stream_error(&self, stanza: NodeRef<'_>) -> Closed {
        let code =
            stanza.attr("code").and_then(|value| value.parse_u64()).and_then(|code| u32::try_from(code).ok());
        let conflict = stanza
            .child("conflict")
            .map(|conflict| conflict.attr("type").map_or_else(String::new, |kind| kind.to_string()));
        let error = StreamError {
            code,
            conflict: conflict.as_deref(),
            has_ack: stanza.child("ack").is_some(),
            has_bad_xml: stanza.child("xml-not-well-formed").is_some(),
        };
        Closed::new(CloseReason::from_stream_error(&error), self.phase)
            .with_code(code)
            .with_detail(Raw(stanza))
    }

    fn on_message<'e>(&mut self, stanza: NodeRef<'e>) -> Event<'e> {
        if stanza.attr("id").is_some() && stanza.attr("from").is_some() {
            return Event::Message(stanza);
        }
        // Nobody could ever be told that it is durable, nor ask for it again.
        self.counters.stanzas_malformed += 1;
        Event::Handled
    }

    fn on_iq<'e>(&mut self, iq: NodeRef<'e>, io: &mut Io<'_>) -> Event<'e> {
        let kind = iq.attr("type");
        let is = |wanted: &str| kind.as_ref().is_some_and(|kind| *kind == *wanted);
        if is("result") || is("error") {
            return self.on_response(iq, is("error"), io);
        }
        if is("get") && iq.attr("xmlns").is_some_and(|xmlns| xmlns == *"urn:xmpp:ping") {
            self.answer_iq(iq, None, io);
            return Event::Handled;
        }
        if is("set") && self.registers && iq.attr("xmlns").is_some_and(|xmlns| xmlns == *"md") {
            return Event::Pairing(iq);
        }
        if is("get") || is("set") {
            self.answer_iq(iq, Some((501, "feature-not-implemented")), io);
            return Event::Stanza(iq);
        }
        self.refuse(iq, nack::PARSING_ERROR, io);
        Event::Handled
    }

    fn on_response<'e>(&mut self, iq: NodeRef<'e>, is_error: bool, io: &Io<'_>) -> Event<'e> {
        let Some(number) = iq.attr("id").and_then(|id| self.ids.number(id)) else { return Event::Handled };
        if let Some(slot) = self.pings.iter_mut().find(|slot| slot.is_some_and(|ping| ping.number == number))
        {
            if let Some(ping) = slot.take() {
                let rtt = io.now - ping.sent;
                self.counters.pongs_received += 1;
                self.counters.last_pong = Some(io.now);
                self.counters.pong_rtt = Some(rtt);
                self.counters.responses.record(rtt);
            }
            return Event::Handled;
        }
        let Some(pending) = self.requests.take(number) else { return Event::Handled };
        self.counters.responses.record(io.now - pending.sent);
        self.counters.requests_failed += u32::from(is_error);
        Event::Response { pending, iq, is_error }
    }

    /// Answers an [`Event::Pairing`]: with an empty result, or with an error.
    pub fn answer_request(&mut self, iq: NodeRef<'_>, error: Option<(u16, &str)>, io: &mut Io<'_>) {
        self.answer_iq(iq, error, io);
    }

    /// Answers a request of the server: with an empty result, or with an error.
    fn answer_iq(&mut self, iq: NodeRef<'_>, error: Option<(u16, &str)>, io: &mut Io<'_>) {
        let id = iq.attr("id");
        if id.is_none() && error.is_some() {
            return;
        }
        self.send(io, |writer| {
            writer.node("iq", 2 + usize::from(id.is_some()), error.is_some());
            match iq.attr("from") {
                Some(from) => writer.attr_value("to", from),
                None => writer.attr_jid("to", &output::SERVER),
            }
            writer.attr("type", if error.is_some() { "error" } else { "result" });
            if let Some(id) = id {
                writer.attr_value("id", id);
            }
            if let Some((code, text)) = error {
                writer.children(1);
                writer.node("error", 2, false);
                writer.attr_u64("code", u64::from(code));
                writer.attr("text", text);
            }
        });
        self.counters.answers_sent += 1;
    }

    /// Sends the `<ack>` of a stanza that can be addressed.
    fn acknowledge(&mut self, stanza: NodeRef<'_>, own: Option<&Jid>, error: Option<u16>, io: &mut Io<'_>) {
        if !answer::is_addressable(stanza) {
            self.counters.stanzas_malformed += 1;
            return;
        }
        self.send(io, |writer| answer::write_ack(writer, stanza, own, error));
        self.counters.answers_sent += 1;
    }

    /// Refuses a stanza that cannot be read, unless it is one that expects nothing.
    fn refuse(&mut self, stanza: NodeRef<'_>, error: u16, io: &mut Io<'_>) {
        let is_request = |kind: Value<'_>| kind == *"get" || kind == *"set";
        match answer::expects(stanza.tag()) {
            Expects::Nothing => {}
            Expects::IqAnswer if stanza.attr("type").is_some_and(is_request) => {
                self.answer_iq(stanza, Some((400, "bad-request")), io);
            }
            Expects::IqAnswer => {}
            Expects::Ack | Expects::AckWhenDurable | Expects::Nack => {
                self.acknowledge(stanza, None, Some(error), io)
            }
        }
    }
}

/// A stanza as a person would write it.
struct Raw<'a>(NodeRef<'a>);

impl fmt::Display for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

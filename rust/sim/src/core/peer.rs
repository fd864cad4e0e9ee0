//! One connection of a client, from its first byte to its end.
//!
//! Bytes go in at [`Peer::handle_input`] and climb the layers: HTTP upgrade, WebSocket, intro, frames, Noise, stanzas.
//! What a stanza leads to is in `login` and `receive`. Everything the peer sends goes through
//! [`Peer::send_plain`], where the scripted shape (split, coalesced, compressed) is given to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use runner_proto::frame::{self, FrameDecoder};
use runner_proto::node::{Node, Writer, encode};
use runner_proto::noise::Transport;
use runner_proto::time::Instant;
use runner_proto::ws::{self, Message, Opcode};
use serde_json::{Value, json};

use super::command::{Ending, Malformed, Shape, Silence};
use super::intro;
use super::malformed::{self, Wrong};
use super::owed::{Debt, Owed, class_of};
use super::phone::NewDevice;
use super::responder::AwaitFinish;
use super::stanza;
use super::world::{ConnectionId, Cx, DeviceId, World};

/// A client that was told why it must go has so long to read it before the socket closes.
const GRACE: Duration = Duration::from_millis(50);
/// A close frame is answered within this time, or the connection ends without.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Ping times kept per connection.
const MAX_PINGS: usize = 512;

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Reading the HTTP request, of which this much is there.
    Http(Vec<u8>),
    /// Reading what comes before the first frame.
    Intro(Vec<u8>),
    /// Waiting for the client's hello.
    Hello,
    /// Waiting for the client's finish.
    Finish(Box<AwaitFinish>),
    /// The channel is up; stanzas flow.
    Open,
    /// Saying goodbye; nothing that comes in matters.
    Ended,
}

impl Stage {
    fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Intro(_) | Self::Hello => "hello",
            Self::Finish(_) => "finish",
            Self::Open => "open",
            Self::Ended => "ended",
        }
    }
}

/// What the driver does with the socket once the output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Keep it.
    Open,
    /// Close it in order.
    Close,
    /// Reset it.
    Reset,
}

/// Something that will happen to a connection by itself.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// A stanza goes out and the connection ends.
    Goodbye(Box<Node>),
    /// The connection ends.
    End(Ending),
    /// The offline backlog goes out although the client did not ask for a batch.
    Backlog,
}

/// One connection.
#[derive(Debug)]
pub struct Peer {
    pub(super) id: ConnectionId,
    pub(super) stage: Stage,
    pub(super) device: Option<DeviceId>,
    /// What registered here instead of logging in.
    pub(super) new_device: Option<Box<NewDevice>>,
    /// The device has logged in here and the login still stands.
    pub(super) logged_in: bool,
    pub(super) secure: bool,
    pub(super) passive: bool,
    pub(super) transport: Option<Transport>,
    pub(super) shape: Arc<Shape>,
    pub(super) silence: Option<Silence>,
    pub(super) silent_since_ms: Option<u64>,
    pub(super) delay: Duration,
    pub(super) owed: Owed,
    pub(super) pings: VecDeque<u64>,
    pub(super) pings_total: u64,
    pub(super) connected_at_ms: u64,
    pub(super) logged_in_at_ms: Option<u64>,
    pub(super) first_byte_at: Option<Instant>,
    pub(super) uploaded_bundle: bool,
    pub(super) version: Option<[u32; 3]>,
    pub(super) pattern: Option<&'static str>,
    pub(super) routing_info: Option<Box<[u8]>>,
    /// The backlog that is being delivered, and how large it was.
    pub(super) backlog: VecDeque<Box<[u8]>>,
    pub(super) backlog_total: Option<usize>,
    /// The client asks for its backlog a batch at a time.
    pub(super) asks_batches: bool,
    pub(super) server_closed: bool,
    pub(super) verdict: Verdict,
    pub(super) out: Vec<u8>,
    /// Frames of this turn that will be one WebSocket message.
    held: Vec<u8>,
    /// Plaintexts that go out later, in order.
    delayed: VecDeque<(Instant, Box<[u8]>)>,
    script: Vec<(Instant, Act)>,
    ws: ws::Decoder,
    frames: FrameDecoder,
    close_code: Option<u16>,
    /// Bytes that the driver could not write yet.
    pub(super) unsent: usize,
    /// For the hub: the earliest wake-up it knows of, and whether the driver must look at this peer.
    pub(super) scheduled: Option<Instant>,
    pub(super) touched: bool,
    /// For the hub: the end of this connection has been counted.
    pub(super) is_noted: bool,
}

impl Peer {
    /// A connection that was just accepted.
    pub(super) fn new(id: ConnectionId, world: &World, cx: &Cx<'_>) -> Self {
        Self {
            id,
            stage: Stage::Http(Vec::new()),
            device: None,
            new_device: None,
            logged_in: false,
            secure: false,
            passive: false,
            transport: None,
            shape: Arc::clone(&world.shape),
            silence: None,
            silent_since_ms: None,
            delay: Duration::ZERO,
            owed: Owed::default(),
            pings: VecDeque::new(),
            pings_total: 0,
            connected_at_ms: cx.unix_ms,
            logged_in_at_ms: None,
            first_byte_at: None,
            uploaded_bundle: false,
            version: None,
            pattern: None,
            routing_info: None,
            backlog: VecDeque::new(),
            backlog_total: None,
            asks_batches: false,
            server_closed: false,
            verdict: Verdict::Open,
            out: Vec::new(),
            held: Vec::new(),
            delayed: VecDeque::new(),
            script: Vec::new(),
            ws: ws::Decoder::new(ws::Role::Server),
            frames: FrameDecoder::new(),
            close_code: None,
            unsent: 0,
            scheduled: None,
            touched: false,
            is_noted: false,
        }
    }

    /// The username, once the login has named it.
    pub fn username(&self) -> Option<u64> {
        self.device.map(|(username, _)| username)
    }

    /// True while the driver should read this socket.
    pub(super) fn is_reading(&self) -> bool {
        self.verdict == Verdict::Open && self.silence != Some(Silence::Socket)
    }

    // ------------------------------------------------------------------ bytes in

    /// Takes plaintext bytes off the transport.
    pub(super) fn handle_input(&mut self, input: &mut [u8], world: &mut World, cx: &mut Cx<'_>) {
        if input.is_empty() {
            return;
        }
        self.first_byte_at.get_or_insert(cx.now);
        world.counters.bytes_in += input.len() as u64;
        let mut rest = input;
        if matches!(self.stage, Stage::Http(_)) {
            self.read_request(&mut rest, world, cx);
        }
        if matches!(self.stage, Stage::Http(_)) || self.verdict != Verdict::Open {
            return;
        }
        self.read_messages(rest, world, cx);
    }

    fn read_messages(&mut self, mut input: &mut [u8], world: &mut World, cx: &mut Cx<'_>) {
        // The decoder lends out parts of the input while the peer works on them.
        let mut decoder = std::mem::replace(&mut self.ws, ws::Decoder::new(ws::Role::Server));
        loop {
            match decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Message::Data(piece))) => self.read_piece(piece, world, cx),
                Ok(Some(Message::Ping(payload))) => {
                    world.counters.ws_pings += 1;
                    if self.silence.is_none() && !self.server_closed {
                        ws::write_pong(&mut self.out, &payload, None);
                    }
                }
                Ok(Some(Message::Close(code, _))) => {
                    self.close_code = code.or(Some(1005));
                    if !self.server_closed && self.silence.is_none() {
                        ws::write_close(&mut self.out, code.map(|code| (code, "")), None);
                    }
                    self.verdict = Verdict::Close;
                }
                Ok(Some(Message::Text | Message::Pong(_))) => {}
                Err(error) => {
                    self.protocol_error(&error.to_string(), world, cx);
                    self.end(Ending::Clean(error.close_code()), cx);
                    self.verdict = Verdict::Close;
                }
            }
            if self.verdict != Verdict::Open {
                break;
            }
        }
        self.ws = decoder;
    }

    fn read_piece(&mut self, piece: &mut [u8], world: &mut World, cx: &mut Cx<'_>) {
        let mut intro_rest;
        let mut piece: &mut [u8] = piece;
        if let Stage::Intro(intro_bytes) = &mut self.stage {
            intro_bytes.extend_from_slice(piece);
            match intro::read(intro_bytes) {
                Ok(None) => return,
                Ok(Some(whole)) => {
                    intro_rest = intro_bytes.split_off(whole.len);
                    self.routing_info = whole.routing_info;
                    self.stage = Stage::Hello;
                    piece = &mut intro_rest[..];
                }
                Err(detail) => {
                    self.protocol_error(detail, world, cx);
                    self.end(Ending::Reset, cx);
                    return;
                }
            }
        }
        let mut frames = std::mem::take(&mut self.frames);
        while self.verdict == Verdict::Open && !matches!(self.stage, Stage::Ended) {
            match frames.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(mut frame)) => {
                    world.counters.frames_in += 1;
                    if let Err(detail) = self.handle_frame(&mut frame, world, cx) {
                        self.protocol_error(&detail, world, cx);
                        self.end(Ending::Reset, cx);
                    }
                }
                Err(error) => {
                    self.protocol_error(&error.to_string(), world, cx);
                    self.end(Ending::Reset, cx);
                }
            }
        }
        self.frames = frames;
    }

    // ------------------------------------------------------------------ bytes out

    /// Sends a node, whatever the connection has been told to keep quiet about.
    pub(super) fn send(&mut self, node: &Node, world: &mut World) {
        let mut plain = std::mem::take(&mut world.plain);
        plain.clear();
        encode(node, &mut plain);
        self.send_plain(&plain, world);
        world.plain = plain;
    }

    /// Sends an answer: nothing while silent, later while a delay is set.
    pub(super) fn answer(&mut self, world: &mut World, cx: &Cx<'_>, build: impl FnOnce(&mut Writer<'_>)) {
        if self.silence.is_some() {
            return;
        }
        let mut plain = std::mem::take(&mut world.plain);
        plain.clear();
        build(&mut Writer::new(&mut plain));
        if self.delay.is_zero() && self.delayed.is_empty() {
            self.send_plain(&plain, world);
        } else {
            self.delayed.push_back((cx.now + self.delay, plain.as_slice().into()));
        }
        world.plain = plain;
    }

    /// [`answer`](Self::answer) with a node.
    pub(super) fn answer_node(&mut self, node: &Node, world: &mut World, cx: &Cx<'_>) {
        if self.silence.is_some() {
            return;
        }
        if self.delay.is_zero() && self.delayed.is_empty() {
            return self.send(node, world);
        }
        let mut plain = Vec::new();
        encode(node, &mut plain);
        self.delayed.push_back((cx.now + self.delay, plain.into()));
    }

    /// Sends a stanza that the client must answer, and remembers that it must.
    pub(super) fn push(&mut self, node: &Node, world: &mut World, cx: &Cx<'_>) {
        self.push_cut(node, 0, world, cx);
    }

    /// The same, without its last bytes.
    pub(super) fn push_cut(&mut self, node: &Node, cut_bytes: usize, world: &mut World, cx: &Cx<'_>) {
        let mut plain = Vec::new();
        encode(node, &mut plain);
        plain.truncate(plain.len().saturating_sub(cut_bytes));
        self.note_owed(node, &plain, world, cx);
        self.send_plain(&plain, world);
    }

    pub(super) fn note_owed(&mut self, node: &Node, plain: &[u8], world: &mut World, cx: &Cx<'_>) {
        let kind = stanza::attr_text(node, "type").unwrap_or_default();
        let Some(class) = class_of(&node.tag, &kind) else { return };
        let Some(id) = stanza::attr_text(node, "id") else { return };
        let stanza = (class == "message" && world.settings.redeliver).then(|| plain.into());
        if self.owed.note(Debt { class, id, since: cx.now, stanza }) {
            world.counters.owed += 1;
        }
    }

    /// Seals and frames a plaintext (flag byte and node) in the shape of this connection.
    pub(super) fn send_plain(&mut self, plain: &[u8], world: &mut World) {
        if self.verdict != Verdict::Open || self.server_closed {
            return;
        }
        if self.shape.zlib == Some(true) && plain.first() == Some(&0) {
            let mut packed = vec![2];
            packed.extend_from_slice(&malformed::deflate(plain.get(1..).unwrap_or_default()));
            return self.send_sealed(&packed, world);
        }
        self.send_sealed(plain, world);
    }

    fn send_sealed(&mut self, plain: &[u8], world: &mut World) {
        let Some(transport) = &mut self.transport else { return };
        let len = plain.len() + Transport::OVERHEAD;
        let Some(header) = frame::header(len) else { return };
        let shaped = self.shape.split_bytes.is_some_and(|n| n > 0) || self.shape.coalesce == Some(true);
        let out = if shaped { &mut self.held } else { &mut self.out };
        if !shaped {
            ws::write_header(out, Opcode::Binary, frame::HEADER_LEN + len, None);
        }
        out.extend_from_slice(&header);
        let start = out.len();
        out.extend_from_slice(plain);
        if transport.seal(out, start).is_err() {
            // 2^32 frames on one connection: nothing that follows could be opened.
            self.verdict = Verdict::Reset;
            return;
        }
        world.counters.frames_out += 1;
        if shaped && self.shape.coalesce != Some(true) {
            self.release();
        }
    }

    /// Sends a handshake message: a frame that is not sealed.
    pub(super) fn send_handshake(&mut self, message: &[u8], world: &mut World) {
        if let Some(header) = frame::header(message.len()) {
            world.counters.frames_out += 1;
            self.held.extend_from_slice(&header);
            self.held.extend_from_slice(message);
            self.release();
        }
    }

    /// Turns the frames held back into WebSocket messages.
    pub(super) fn release(&mut self) {
        let size = self.shape.split_bytes.filter(|&size| size > 0).unwrap_or(usize::MAX);
        for piece in self.held.chunks(size) {
            ws::write_message(&mut self.out, Opcode::Binary, piece, None);
        }
        self.held = Vec::new();
    }

    /// Makes `n` frames one WebSocket message from here on, until [`release`](Self::release).
    pub(super) fn with_coalescing(&mut self, world: &mut World, send: impl FnOnce(&mut Self, &mut World)) {
        let before = Arc::clone(&self.shape);
        Arc::make_mut(&mut self.shape).coalesce = Some(true);
        send(self, world);
        self.shape = before;
        self.release();
    }

    /// Sends something that is wrong.
    pub(super) fn send_malformed(&mut self, kind: Malformed, world: &mut World) {
        match malformed::bytes(kind) {
            Wrong::Plain(plain) => self.send_sealed(&plain, world),
            Wrong::Sealed(payload) => self.send_handshake(&payload, world),
            Wrong::Framed(payload) => ws::write_message(&mut self.out, Opcode::Binary, &payload, None),
            Wrong::Raw(bytes) => self.out.extend_from_slice(&bytes),
        }
    }

    // ------------------------------------------------------------------ time and endings

    /// When this peer wants [`handle_timeout`](Self::handle_timeout) to be called.
    pub(super) fn poll_timeout(&self, world: &World) -> Option<Instant> {
        let answer = (world.settings.answer_seconds > 0.0 && !self.server_closed)
            .then(|| self.owed.oldest().map(|debt| debt.since + answer_limit(world)))
            .flatten();
        let delayed = self.delayed.front().map(|(at, _)| *at);
        self.script.iter().map(|(at, _)| *at).chain(delayed).chain(answer).min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, world: &mut World, cx: &Cx<'_>) {
        while self.delayed.front().is_some_and(|(at, _)| *at <= cx.now) {
            if let Some((_, plain)) = self.delayed.pop_front()
                && self.silence.is_none()
            {
                self.send_plain(&plain, world);
            }
        }
        if world.settings.answer_seconds > 0.0
            && !self.server_closed
            && let Some(debt) = self.owed.overdue(cx.now, answer_limit(world))
        {
            let (class, id) = (debt.class, debt.id.clone());
            world.counters.unanswered_kills += 1;
            world.note(
                cx.unix_ms,
                "unanswered",
                self.id,
                self.username(),
                &[("class", json!(class)), ("id", json!(id))],
            );
            let ack = Node::new("stream:error").child(Node::new("ack").attr("class", class).attr("id", id));
            self.goodbye(&ack, world, cx);
        }
        while let Some(at) = self.script.iter().position(|(at, _)| *at <= cx.now) {
            let (_, act) = self.script.remove(at);
            match act {
                Act::Goodbye(node) => self.goodbye(&node, world, cx),
                Act::End(ending) => self.end(ending, cx),
                Act::Backlog => {
                    world.counters.backlogs_waited += u64::from(!self.backlog.is_empty());
                    self.send_backlog(usize::MAX, world, cx);
                }
            }
        }
    }

    /// Puts something on the script.
    pub(super) fn plan(&mut self, at: Instant, act: Act) {
        self.script.push((at, act));
    }

    /// Sends a last stanza, and closes when the client has had time to read it.
    pub(super) fn goodbye(&mut self, node: &Node, world: &mut World, cx: &Cx<'_>) {
        self.send(node, world);
        self.logged_in = false;
        self.plan(cx.now + GRACE, Act::End(Ending::Clean(1000)));
    }

    /// Ends the connection from our side.
    pub(super) fn end(&mut self, ending: Ending, cx: &Cx<'_>) {
        if self.verdict != Verdict::Open {
            return;
        }
        let waits_for_close = matches!(ending, Ending::Clean(_)) && !matches!(self.stage, Stage::Http(_));
        if self.server_closed && waits_for_close {
            return;
        }
        let already = self.server_closed;
        self.server_closed = true;
        self.release();
        match ending {
            Ending::Clean(code) if waits_for_close => {
                if !already {
                    ws::write_close(&mut self.out, Some((code, "")), None);
                }
                self.stage = Stage::Ended;
                // A client that was made deaf will not be heard either.
                let wait = if self.silence == Some(Silence::Socket) { Duration::ZERO } else { CLOSE_TIMEOUT };
                self.plan(cx.now + wait, Act::End(Ending::Fin));
            }
            Ending::Clean(_) | Ending::Fin => self.verdict = Verdict::Close,
            Ending::Reset => self.verdict = Verdict::Reset,
        }
    }

    /// Counts and notes that the client broke the protocol.
    pub(super) fn protocol_error(&mut self, detail: &str, world: &mut World, cx: &Cx<'_>) {
        world.counters.protocol_errors += 1;
        world.note(cx.unix_ms, "protocol-error", self.id, self.username(), &[("error", json!(detail))]);
    }

    /// Starts or ends silence.
    pub(super) fn set_silence(&mut self, silence: Option<Silence>, unix_ms: u64) {
        self.silence = silence;
        self.silent_since_ms = silence.map(|_| unix_ms);
    }

    /// Notes a keep-alive ping.
    pub(super) fn note_ping(&mut self, unix_ms: u64) {
        if self.pings.len() >= MAX_PINGS {
            self.pings.pop_front();
        }
        self.pings.push_back(unix_ms);
        self.pings_total += 1;
    }

    /// The `close` event of a connection that is gone.
    pub(super) fn closing_note(&self) -> [(&'static str, Value); 3] {
        let by = if self.server_closed { "server" } else { "client" };
        [
            ("code", json!(self.close_code.unwrap_or(1006))),
            ("by", json!(by)),
            ("silentSince", json!(self.silent_since_ms)),
        ]
    }

    /// One row of `GET /sessions`.
    pub(super) fn row(&self) -> Value {
        json!({
            "sid": self.id,
            "user": self.device.map(|(username, _)| username.to_string()),
            "device": self.device.map(|(_, device)| device),
            "state": self.stage.name(),
            "secure": self.secure,
            "silent": self.silence,
            "passive": self.passive,
            "connectedAt": self.connected_at_ms,
            "loggedInAt": self.logged_in_at_ms,
            "pings": self.pings_total,
            "uploadedBundle": self.uploaded_bundle,
            "owed": self.owed.len(),
            "version": self.version.map(|version| version.map(|n| n.to_string()).join(".")),
            "handshake": self.pattern,
            "routingInfo": self.routing_info.is_some(),
        })
    }
}

/// How long an answer may take.
fn answer_limit(world: &World) -> Duration {
    Duration::try_from_secs_f64(world.settings.answer_seconds).unwrap_or(Duration::MAX)
}

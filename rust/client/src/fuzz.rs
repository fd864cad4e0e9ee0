//! Body of the fuzz target `session_ops`: any bytes are a sequence of operations on a logged-in client.
//!
//! It lives here so that an ordinary test can replay the corpus (`tests/fuzz_corpus.rs`). What must hold after each
//! operation: what the client sends decrypts in order and is well-formed, nothing is answered twice, the end is told
//! once and last, and no timer stays due.

mod messages;

use std::{sync::Arc, time::Duration};

pub use messages::message_ops;

use runner_proto::{
    close_reason::CloseReason,
    counters::Counters,
    entropy::Entropy,
    frame,
    node::{self, Limits},
    noise::{KeyPair, Transport},
    phase::Phase,
    session::Buffers,
    time::Instant,
    ws::{self, Message, Opcode},
};

use crate::{
    Client, Command, Config, Cx, DeviceKeys, DeviceState, Effect, Event, StoreState, TransportEnd,
    memory_store::{MemoryStore, Question},
};

/// 2026-01-01.
const START_UNIX_MS: u64 = 1_767_225_600_000;
const TO_SERVER: [u8; 32] = [1; 32];
const TO_CLIENT: [u8; 32] = [2; 32];

/// One operation, read from the front of the input.
///
/// Shape: a kind byte; its argument byte; for the kinds that carry bytes, as many of them as the argument says (times
/// eight for kind 3).
enum Op<'a> {
    /// A frame with this plaintext.
    Stanza(&'a [u8]),
    /// Bytes of the WebSocket layer.
    Raw(&'a [u8]),
    /// A frame cut in two at the first byte.
    CutStanza(&'a [u8]),
    /// Time passes, in steps of 100 ms.
    Wait(u8),
    /// Time passes until something is due.
    Due,
    /// The store answers the oldest question, or fails it and all behind it.
    Settle(bool),
    /// It answers a load that nothing in front of it concerns.
    AnswerAhead,
    Store(StoreState),
    StoreRecovered,
    Send(&'a [u8]),
    Command(Command),
    TransportEnd,
}

fn next_op<'a>(data: &mut &'a [u8]) -> Option<Op<'a>> {
    let (&kind, rest) = data.split_first()?;
    let (&argument, rest) = rest.split_first()?;
    *data = rest;
    let scale = if kind % 16 == 3 { 8 } else { 1 };
    let mut bytes = || {
        let (bytes, rest) = data.split_at(data.len().min(scale * usize::from(argument)));
        *data = rest;
        bytes
    };
    Some(match kind % 16 {
        0..=3 => Op::Stanza(bytes()),
        4 => Op::Raw(bytes()),
        5 => Op::CutStanza(bytes()),
        6 => Op::Wait(argument),
        7 => Op::Due,
        9 => Op::Settle(true),
        10 => Op::Settle(argument.is_multiple_of(2)),
        11 => Op::Store(match argument % 4 {
            0 => StoreState::Hangs,
            1 => StoreState::Commits,
            2 => StoreState::Locked,
            _ => StoreState::LockedAndFull,
        }),
        12 | 13 => Op::Send(bytes()),
        8 if argument > 230 => Op::StoreRecovered,
        8 if argument > 128 => Op::AnswerAhead,
        14 if argument > 250 => Op::TransportEnd,
        14 if argument > 245 => Op::Command(Command::Logout),
        14 if argument > 240 => Op::Command(Command::Close(CloseReason::Stopped)),
        _ => Op::Due,
    })
}

/// Any bytes: the client survives them, and keeps its promises.
pub fn session_ops(data: &[u8]) {
    let mut data = data;
    let mut run = Run::new();
    while let Some(op) = next_op(&mut data) {
        run.apply(op);
        run.check();
    }
}

struct Run {
    client: Client,
    server: Transport,
    inbound: ws::Decoder,
    stream: Vec<u8>,
    now: Instant,
    entropy: Steps,
    scratch: Buffers,
    out: Vec<u8>,
    effects: Vec<Effect>,
    store: MemoryStore,
    last_token: u64,
    is_told: bool,
}

impl Run {
    fn new() -> Self {
        let now = Instant::from_micros(1);
        let (mut entropy, mut scratch) = (Steps(0), Buffers::new());
        let (mut out, mut effects) = (Vec::new(), Vec::new());
        let client = Client::new(Arc::new(Config::default()), device(), now).opened(
            Transport::new(TO_SERVER, TO_CLIENT),
            &mut Cx {
                now,
                unix_ms: START_UNIX_MS,
                entropy: &mut entropy,
                out: &mut out,
                scratch: &mut scratch,
                effects: &mut effects,
            },
        );
        Self {
            client,
            server: Transport::new(TO_CLIENT, TO_SERVER),
            inbound: ws::Decoder::new(ws::Role::Server),
            stream: Vec::new(),
            now,
            entropy,
            scratch,
            out,
            effects,
            store: MemoryStore::default(),
            last_token: 0,
            is_told: false,
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut Client, &mut Cx<'_>)) {
        let mut cx = Cx {
            now: self.now,
            unix_ms: START_UNIX_MS + self.now.as_micros() / 1000,
            entropy: &mut self.entropy,
            out: &mut self.out,
            scratch: &mut self.scratch,
            effects: &mut self.effects,
        };
        call(&mut self.client, &mut cx);
    }

    fn apply(&mut self, op: Op<'_>) {
        match op {
            Op::Stanza(plain) => {
                let mut bytes = self.frame(plain);
                self.call(|client, cx| client.handle_input(&mut bytes, cx));
            }
            Op::CutStanza(plain) => {
                let mut bytes = self.frame(plain);
                let at = usize::from(plain.first().copied().unwrap_or(0)).min(bytes.len());
                let (left, right) = bytes.split_at_mut(at);
                self.call(|client, cx| client.handle_input(left, cx));
                self.call(|client, cx| client.handle_input(right, cx));
            }
            Op::Raw(bytes) => {
                let mut bytes = bytes.to_vec();
                self.call(|client, cx| client.handle_input(&mut bytes, cx));
            }
            Op::Wait(tenths) => {
                let until = self.now + Duration::from_millis(100 * u64::from(tenths));
                while self.client.poll_timeout().is_some_and(|due| due <= until) {
                    self.run_due();
                }
                self.now = until;
            }
            Op::Due => self.run_due(),
            Op::Settle(is_ok) => {
                let answers =
                    if is_ok { self.store.answer().into_iter().collect() } else { self.store.fail() };
                for answer in answers {
                    self.call(|client, cx| answer.tell(client, cx));
                }
            }
            Op::AnswerAhead => {
                if let Some(answer) = self.store.answer_ahead() {
                    self.call(|client, cx| answer.tell(client, cx));
                }
            }
            Op::Store(state) => self.call(|client, cx| client.handle_store(state, cx)),
            Op::StoreRecovered => self.call(|client, cx| client.handle_store_recovered(cx)),
            Op::Send(plain) => {
                // The binding refuses what does not decode.
                if node::decode(plain, &mut node::Scratch::new(), &Limits::default()).is_ok() {
                    self.call(|client, cx| client.handle_command(Command::Send { node: plain.to_vec() }, cx));
                }
            }
            Op::Command(command) => self.call(|client, cx| client.handle_command(command, cx)),
            Op::TransportEnd => {
                let end = TransportEnd { reason: CloseReason::ConnectionClosed, detail: String::new() };
                self.call(|client, cx| client.handle_transport_end(end, cx));
            }
        }
    }

    /// Moves to the next timer and runs it.
    fn run_due(&mut self) {
        let Some(due) = self.client.poll_timeout() else { return };
        self.now = self.now.max(due);
        self.call(|client, cx| client.handle_timeout(cx));
        self.call(|client, cx| client.handle_work(cx));
        assert!(self.client.poll_timeout().is_none_or(|next| next > self.now), "a timer stays due");
    }

    fn frame(&mut self, plain: &[u8]) -> Vec<u8> {
        sealed(&mut self.server, plain)
    }

    fn check(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            assert!(!self.is_told, "an effect after the end: {effect:?}");
            match effect {
                Effect::Commit { token, writes } => {
                    assert!(token == 0 || token > self.last_token);
                    self.last_token = self.last_token.max(token);
                    self.store.open.push_back(Question::Commit(token, writes));
                }
                Effect::Load { token, keys } => {
                    assert!(!keys.is_empty());
                    self.store.open.push_back(Question::Load(token, keys));
                }
                Effect::LoadCiphertexts { .. } => panic!("there are none"),
                Effect::Event(Event::Closed(_)) => self.is_told = true,
                Effect::Event(_) => {}
            }
        }
        let is_closed = self.client.phase() == Phase::Closed;
        assert_eq!((self.is_told, self.client.poll_timeout().is_none()), (is_closed, is_closed));
        let counters = *self.client.counters();
        assert!(counters.answers_sent <= counters.stanzas_received + counters.stanzas_malformed);
        self.read_output();
    }

    /// The client's bytes are a WebSocket stream of frames that open in order and hold nodes.
    fn read_output(&mut self) {
        let mut bytes = std::mem::take(&mut self.out);
        let mut input = &mut bytes[..];
        while let Some(message) = self.inbound.next(&mut input).expect("a valid websocket") {
            if let Message::Data(piece) = message {
                self.stream.extend_from_slice(piece);
            }
        }
        let mut stream = &mut self.stream[..];
        let mut decoder = frame::FrameDecoder::new();
        while let Some(mut frame) = decoder.next(&mut stream).expect("valid frames") {
            let plain = self.server.open(&mut frame).expect("opens in order");
            node::decode(plain, &mut node::Scratch::new(), &Limits::default()).expect("a node");
        }
        assert!(decoder.is_between_frames(), "a frame is never left unfinished");
        self.stream.clear();
    }
}

/// The device that is fuzzed.
fn device() -> DeviceState {
    let identity = runner_signal::Identity::new(runner_signal::KeyPair::from_secret([4; 32]), 7);
    let mut entropy = Steps(1);
    let signed = runner_signal::SignedPreKey::generate(&identity, 1, &mut |bytes| entropy.fill(bytes));
    DeviceState {
        noise: KeyPair::from_secret([3; 32]),
        username: 15_550_001_111,
        device: 3,
        lid: None,
        push_name: Some("fuzz".to_owned()),
        routing_info: None,
        server_key: None,
        keys: DeviceKeys {
            registration_id: 7,
            identity_secret: (*identity.pair().expose()).into(),
            signed_pre_key_id: signed.id,
            signed_pre_key_secret: (*signed.pair.expose()).into(),
            signed_pre_key_signature: signed.signature,
            account: None,
        },
        has_ciphertexts: false,
        version: [2, 3000, 1],
        counters: Counters::default(),
    }
}

/// A frame with this plaintext, in a WebSocket message of its own.
fn sealed(server: &mut Transport, plain: &[u8]) -> Vec<u8> {
    let mut sealed = plain.to_vec();
    server.seal(&mut sealed, 0).expect("a fresh key");
    let mut framed = Vec::new();
    frame::write(&mut framed, &sealed).expect("short");
    let mut bytes = Vec::new();
    ws::write_message(&mut bytes, Opcode::Binary, &framed, None);
    bytes
}

/// Entropy that repeats: the same input, the same run.
struct Steps(u8);

impl Entropy for Steps {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(5).wrapping_add(113);
            *byte = self.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use runner_proto::iq::Ids;

    use super::*;

    #[test]
    fn the_ids_of_a_run_are_those_that_the_tests_answer() {
        assert_eq!(Ids::new(&mut Steps(0)).text(1).as_str(), "29094.45020-1");
    }
}

//! A client and a scripted server in one thread, under a clock that the test moves.

#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod contact;
pub mod peer;
pub mod reader;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use peer::Peer;
use runner_client::{
    Client, Command, CommitFailed, Config, Cx, DeviceKeys, DeviceState, Effect, Event, Probe, RecordKey,
    RecordKind, Write,
    memory_store::{Answer, MemoryStore, Question},
};
use runner_proto::{
    cert::CachedServerKey,
    close_reason::Closed,
    counters::Counters,
    entropy::Entropy,
    node::Node,
    noise::KeyPair,
    phase::Phase,
    session::{self, Buffers},
    time::Instant,
};

/// 2026-01-01, in Unix milliseconds: where the wall clock of the tests begins.
pub const START_UNIX_MS: u64 = 1_767_225_600_000;

/// A seeded generator (splitmix64).
pub struct Seeded(pub u64);

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (mixed ^ (mixed >> 31)) as u8;
        }
    }
}

pub fn config() -> Config {
    let session = session::Config {
        host: "127.0.0.1:8080".to_owned(),
        root_key: peer::root_key(),
        ..session::Config::default()
    };
    Config { session: Arc::new(session), ..Config::default() }
}

pub fn device() -> DeviceState {
    DeviceState {
        noise: KeyPair::from_secret([3; 32]),
        username: 15_550_001_111,
        device: 3,
        lid: None,
        push_name: Some("Bob@work".to_owned()),
        routing_info: None,
        server_key: None,
        keys: device_keys(),
        has_ciphertexts: false,
        version: [2, 3000, 1_045_368_834],
        counters: Counters::default(),
    }
}

/// The keys of [`device`].
pub fn device_keys() -> DeviceKeys {
    let identity = runner_signal::KeyPair::from_secret([4; 32]);
    let signed_pre_key = runner_signal::KeyPair::from_secret([5; 32]);
    DeviceKeys {
        registration_id: 4711,
        identity_secret: (*identity.expose()).into(),
        signed_pre_key_id: 1,
        signed_pre_key_secret: (*signed_pre_key.expose()).into(),
        signed_pre_key_signature: runner_xeddsa::sign(
            identity.expose(),
            &signed_pre_key.public().to_wire(),
            &[9; 64],
        ),
        account: Some(vec![0x0a, 0x01, 0x00]),
    }
}

/// A device that remembers the peer's key.
pub fn resuming_device() -> DeviceState {
    let unix_s = START_UNIX_MS / 1000;
    let server_key = CachedServerKey {
        key: *peer::static_key().public(),
        not_before: unix_s - 10,
        not_after: unix_s + 1_000_000,
    };
    DeviceState { server_key: Some(server_key), ..device() }
}

/// Both ends, and what happened.
pub struct World {
    pub client: Client,
    pub peer: Peer,
    pub now: Instant,
    pub entropy: Seeded,
    pub scratch: Buffers,
    /// Bytes from the client that the peer has not seen.
    pub out: Vec<u8>,
    /// Everything that the client wanted, in order.
    pub effects: Vec<Effect>,
    /// What commits changed.
    pub store: MemoryStore,
    /// Settle commits as soon as they are asked for. Records are read at once in any case.
    pub commits: Option<Result<(), CommitFailed>>,
    /// Ask `store` nothing: its questions stay open until the test answers or fails them.
    pub is_manual: bool,
    /// What an earlier version has left in the store: place, stanza, time.
    pub ciphertexts: VecDeque<(u64, Vec<u8>, u64)>,
    /// How the peer's bytes are cut on their way; 0: not at all.
    pub chunk: usize,
    seen: usize,
    unsettled: VecDeque<(u64, Vec<Write>)>,
}

impl World {
    pub fn new(device: DeviceState) -> Self {
        Self::with(device, config())
    }

    pub fn with(device: DeviceState, config: Config) -> Self {
        let now = Instant::from_micros(1_000_000);
        let mut store = MemoryStore::default();
        put_key_state(&mut store, u64::MAX, u64::MAX);
        Self {
            client: Client::new(Arc::new(config), device, now),
            peer: Peer::default(),
            now,
            entropy: Seeded(42),
            scratch: Buffers::new(),
            out: Vec::new(),
            effects: Vec::new(),
            store,
            commits: Some(Ok(())),
            is_manual: false,
            ciphertexts: VecDeque::new(),
            chunk: 0,
            seen: 0,
            unsettled: VecDeque::new(),
        }
    }

    /// A world whose client is online, greeted and through its (empty) backlog.
    pub fn online() -> Self {
        let mut world = Self::new(device());
        world.open();
        assert_eq!(world.client.phase(), Phase::Online);
        world.peer.received.clear();
        world
    }

    pub fn open(&mut self) {
        self.call(|client, cx| client.handle_open(cx));
        self.exchange();
    }

    pub fn call<T>(&mut self, call: impl FnOnce(&mut Client, &mut Cx<'_>) -> T) -> T {
        let mut cx = Cx {
            now: self.now,
            unix_ms: self.unix_ms(),
            entropy: &mut self.entropy,
            out: &mut self.out,
            scratch: &mut self.scratch,
            effects: &mut self.effects,
        };
        call(&mut self.client, &mut cx)
    }

    pub fn unix_ms(&self) -> u64 {
        START_UNIX_MS + self.now.as_micros() / 1000
    }

    /// Carries bytes both ways, and settles commits, until nothing moves.
    pub fn exchange(&mut self) {
        loop {
            self.settle();
            let from_client = std::mem::take(&mut self.out);
            if !from_client.is_empty() {
                self.peer.receive(&from_client, self.unix_ms() / 1000);
            }
            let mut from_peer = std::mem::take(&mut self.peer.out);
            if from_client.is_empty() && from_peer.is_empty() {
                return;
            }
            let chunk = if self.chunk == 0 { from_peer.len().max(1) } else { self.chunk };
            for piece in from_peer.chunks_mut(chunk) {
                self.call(|client, cx| client.handle_input(piece, cx));
            }
        }
    }

    fn settle(&mut self) {
        loop {
            while self.client.has_work() {
                self.call(|client, cx| client.handle_work(cx));
            }
            let Some(effect) = self.effects.get(self.seen) else { break };
            self.seen += 1;
            match effect {
                Effect::Load { token, keys } if self.is_manual => {
                    self.store.open.push_back(Question::Load(*token, keys.clone()));
                }
                Effect::Commit { token, writes } if self.is_manual => {
                    self.store.open.push_back(Question::Commit(*token, writes.clone()));
                }
                Effect::Load { token, keys } => {
                    let (token, records) = (*token, self.store.load(keys));
                    self.call(|client, cx| client.on_loaded(token, Ok(records), cx));
                }
                Effect::LoadCiphertexts { after_seq, limit } => {
                    let (after_seq, limit) = (*after_seq, *limit);
                    let rows = self.ciphertexts.iter().filter(|(seq, ..)| *seq > after_seq).take(limit);
                    let rows = rows.cloned().collect();
                    self.call(|client, cx| client.on_ciphertexts(Ok(rows), cx));
                }
                Effect::Commit { token, writes } => self.unsettled.push_back((*token, writes.clone())),
                _ => {}
            }
            self.settle_commits();
        }
        self.settle_commits();
    }

    fn settle_commits(&mut self) {
        let Some(outcome) = self.commits else { return };
        while let Some((token, writes)) = self.unsettled.pop_front() {
            let outcome = outcome.map(|()| self.store.commit(writes));
            self.call(|client, cx| client.on_committed(token, outcome, cx));
        }
    }

    /// The peer sends a stanza; all that follows from it happens.
    pub fn push(&mut self, stanza: &Node) {
        self.peer.send(stanza);
        self.exchange();
    }

    pub fn command(&mut self, command: Command) {
        self.call(|client, cx| client.handle_command(command, cx));
        self.exchange();
    }

    /// Time passes: every timer is run when it is due.
    pub fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut turns = 0;
        while let Some(due) = self.client.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.call(|client, cx| client.handle_timeout(cx));
            self.exchange();
            turns += 1;
            assert!(turns < 1_000_000, "a timer that is always due: {due:?} at {:?}", self.now);
        }
        self.now = until;
    }

    /// The store answers its oldest question.
    pub fn answer(&mut self) -> bool {
        let answer = self.store.answer();
        self.tell(answer)
    }

    /// It answers a load that nothing in front of it concerns.
    pub fn answer_ahead(&mut self) -> bool {
        let answer = self.store.answer_ahead();
        self.tell(answer)
    }

    fn tell(&mut self, answer: Option<Answer>) -> bool {
        let is_some = answer.is_some();
        answer.into_iter().for_each(|answer| self.call(|client, cx| answer.tell(client, cx)));
        self.exchange();
        is_some
    }

    /// The store fails all its questions, or the commits among them.
    pub fn fail(&mut self, only_commits: bool) {
        let answers = if only_commits { self.store.fail_commits() } else { self.store.fail() };
        for answer in answers {
            self.call(|client, cx| answer.tell(client, cx));
        }
        // What the client has made while it was told stands on what failed, and is refused.
        self.settle();
        for answer in self.store.refuse_commits() {
            self.call(|client, cx| answer.tell(client, cx));
        }
        self.exchange();
    }

    /// What was done is not looked at again.
    pub fn forget_effects(&mut self) {
        self.effects.clear();
        self.seen = 0;
    }

    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Event(event) => Some(event),
            _ => None,
        })
    }

    pub fn writes(&self) -> impl Iterator<Item = &Write> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Commit { writes, .. } => Some(writes),
                _ => None,
            })
            .flatten()
    }

    pub fn probes(&self) -> Vec<(Probe, bool)> {
        self.events()
            .filter_map(|event| match event {
                Event::Probe { probe, healthy, .. } => Some((*probe, *healthy)),
                _ => None,
            })
            .collect()
    }

    /// The close reason, after checking that it was told exactly once and last.
    pub fn closed(&self) -> &Closed {
        let told: Vec<_> = self.events().filter(|event| matches!(event, Event::Closed(_))).collect();
        assert_eq!(told.len(), 1, "told once: {told:?}");
        let Some(Effect::Event(Event::Closed(closed))) = self.effects.last() else {
            panic!("closed is the last effect: {:?}", self.effects.last())
        };
        assert_eq!(self.client.closed(), Some(closed));
        assert_eq!(self.client.phase(), Phase::Closed);
        assert_eq!(self.client.poll_timeout(), None);
        closed
    }

    pub fn is_closed(&self) -> bool {
        self.client.closed().is_some()
    }
}

/// The state of the device's own keys: when a new signed pre-key and a comparison with the server are due.
pub fn put_key_state(store: &mut MemoryStore, rotate_at_s: u64, check_at_s: u64) {
    let none = u32::MAX.to_be_bytes();
    let ids = [none, none, 2u32.to_be_bytes()].concat();
    let value = [&[1], &ids[..], &rotate_at_s.to_be_bytes(), &check_at_s.to_be_bytes()].concat();
    let key = RecordKey { kind: RecordKind::SignedPreKeyState, id: String::new() };
    store.records.insert(key, (value.into(), false));
}

/// A message for the inbox that needs no key: a newsletter's.
pub fn message(id: &str) -> Node {
    Node::new("message")
        .attr("id", id)
        .attr_jid("from", jid("120363000000000001@newsletter"))
        .attr("type", "text")
        .attr("t", "1767225600")
        .child(Node::new("plaintext").bytes(b"\x0a\x02hi"))
}

/// A message that nobody can read.
pub fn ciphertext(id: &str) -> Node {
    Node::new("message")
        .attr("id", id)
        .attr_jid("from", jid("15550002222@s.whatsapp.net"))
        .attr("type", "text")
        .attr("t", "1767225600")
        .child(Node::new("enc").attr("v", "2").attr("type", "msg").bytes([7; 40]))
}

pub fn jid(text: &str) -> runner_proto::jid::Jid {
    text.parse().expect("a jid")
}

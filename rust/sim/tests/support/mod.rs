//! One of our clients and the simulator's core in one thread, under a clock that the test turns.

#![allow(dead_code, unreachable_pub, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use runner_client::{
    Client, Command, CommitFailed, Config, Cx as ClientCx, DeviceKeys, DeviceState, Effect, Event,
    LinkedDevice, NewDevice, RecordKey, RecordKind, TransportEnd, Write,
    memory_store::{Answer, MemoryStore, Question},
};
use runner_proto::cert::CachedServerKey;
use runner_proto::close_reason::{CloseReason, Closed};
use runner_proto::counters::Counters;
use runner_proto::entropy::Entropy;
use runner_proto::noise::KeyPair;
use runner_proto::phase::Phase;
use runner_proto::session::{self, Buffers};
use runner_proto::time::Instant;
use runner_sim::core::{self, Accept, ConnectionId, Cx, DEVICE, Fleet, Hub, Reply, Settings, Verdict, World};
use serde_json::Value;

const START_UNIX_MS: u64 = 1_790_000_000_000;
/// The seed of every simulator here.
pub const SEED: u64 = 5;

/// A seeded generator (splitmix64).
pub struct Seeded(pub u64);

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = (mixed ^ (mixed >> 29)) as u8;
        }
    }
}

/// A connection of one client to the hub.
pub struct Link {
    pub client: Client,
    pub id: ConnectionId,
    pub store: MemoryStore,
    pub effects: Vec<Effect>,
    settled: usize,
    out: Vec<u8>,
    /// The server closed or reset its side.
    cut: bool,
}

impl Link {
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Event(event) => Some(event),
            _ => None,
        })
    }

    pub fn writes(&self) -> impl Iterator<Item = &Write> {
        self.effects.iter().flat_map(|effect| match effect {
            Effect::Commit { writes, .. } => writes.as_slice(),
            _ => &[],
        })
    }

    /// What it did so far is of no interest any more.
    pub fn forget_effects(&mut self) {
        self.effects.clear();
        self.settled = 0;
    }

    pub fn closed(&self) -> &Closed {
        self.client.closed().unwrap_or_else(|| panic!("still {:?}", self.client.phase()))
    }

    pub fn reason(&self) -> &'static str {
        self.closed().reason.slug()
    }
}

/// The hub, its clients, and the clock of all.
pub struct Pair {
    pub hub: Hub,
    pub links: Vec<Link>,
    pub now: Instant,
    /// What becomes of commits; None: nothing yet.
    pub commits: Option<Result<(), CommitFailed>>,
    entropy: Seeded,
    scratch: Buffers,
}

impl Pair {
    pub fn new(sessions: u32) -> Self {
        Self::with(sessions, Settings::default())
    }

    pub fn with(sessions: u32, settings: Settings) -> Self {
        Self {
            hub: Hub::new(World::new(SEED, sessions, settings), Value::Null),
            links: Vec::new(),
            now: Instant::from_micros(1_000_000),
            commits: Some(Ok(())),
            entropy: Seeded(42),
            scratch: Buffers::default(),
        }
    }

    pub fn unix_ms(&self) -> u64 {
        START_UNIX_MS + self.now.as_micros() / 1000
    }

    pub fn device(&self, index: u32) -> DeviceState {
        DeviceState {
            noise: KeyPair::from_secret(Fleet::new(SEED, index + 1).noise_keys(index).secret),
            username: Fleet::username(index),
            device: DEVICE,
            lid: None,
            push_name: None,
            routing_info: None,
            server_key: None,
            keys: Self::keys(index),
            has_ciphertexts: false,
            version: [2, 3000, core::DEFAULT_REVISION],
            counters: Counters::default(),
        }
    }

    /// The keys that the credentials of the fleet have.
    fn keys(index: u32) -> DeviceKeys {
        let fleet = Fleet::new(SEED, index + 1);
        let (identity, signed) = (fleet.keys("identity", index), fleet.keys("signed pre-key", index));
        DeviceKeys {
            registration_id: fleet.registration_id(index),
            identity_secret: identity.secret.into(),
            signed_pre_key_id: 1,
            signed_pre_key_secret: signed.secret.into(),
            signed_pre_key_signature: runner_xeddsa::sign(
                &identity.secret,
                &[&[5], &signed.public[..]].concat(),
                &fleet.nonce("signed pre-key signature", index),
            ),
            account: None,
        }
    }

    /// The records that the credentials of the fleet come with, as they are imported.
    fn store(username: u64) -> MemoryStore {
        let index = u32::try_from(username - Fleet::username(0)).expect("a device of the fleet");
        let pair = Fleet::new(SEED, index + 1).keys("pre-key 1", index);
        let buffer = |bytes: &[u8]| {
            let data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
            serde_json::json!({ "type": "Buffer", "data": data })
        };
        let json = serde_json::json!({ "private": buffer(&pair.secret), "public": buffer(&pair.public) });
        let json = json.to_string();
        let key = RecordKey { kind: RecordKind::PreKey, id: "1".to_owned() };
        let mut store = MemoryStore::default();
        store.records.insert(key, (json.into_bytes().into(), true));
        store
    }

    /// A device that remembers the server's key.
    pub fn resuming(&self, index: u32) -> DeviceState {
        let unix_s = self.unix_ms() / 1000;
        let key = self.hub.world.keys.noise.public;
        let server_key = CachedServerKey { key, not_before: unix_s - 10, not_after: unix_s + 1_000_000 };
        DeviceState { server_key: Some(server_key), ..self.device(index) }
    }

    /// The device that a phone has linked, as it logs in.
    pub fn linked(&self, device: &LinkedDevice) -> DeviceState {
        let (username, number) = device.jid.split_once(':').expect("a device");
        let (number, _) = number.split_once('@').expect("a server");
        DeviceState {
            noise: device.noise.clone(),
            username: username.parse().expect("a number"),
            device: number.parse().expect("a number"),
            lid: device.lid.clone(),
            ..self.device(0)
        }
    }

    /// Connects a device; returns the number of its link. `None` when the server resets at accept.
    pub fn dial(&mut self, device: DeviceState) -> Option<usize> {
        let (config, now) = (self.config(), self.now);
        let store = Self::store(device.username);
        self.connect(Client::new(config, device, now), store)
    }

    /// Connects a new device, to be linked.
    pub fn dial_new(&mut self) -> usize {
        let (config, now) = (self.config(), self.now);
        let device = NewDevice::generate(&mut self.entropy);
        let version = [2, 3000, core::DEFAULT_REVISION];
        let client = Client::linking(config, device, version, Counters::default(), now);
        self.connect(client, MemoryStore::default()).expect("accepted")
    }

    fn config(&self) -> Arc<Config> {
        let session = session::Config {
            host: "127.0.0.1:8080".to_owned(),
            root_key: self.hub.world.keys.root_public(),
            ..session::Config::default()
        };
        Arc::new(Config { session: Arc::new(session), ..Config::default() })
    }

    fn connect(&mut self, client: Client, store: MemoryStore) -> Option<usize> {
        let unix_ms = self.unix_ms();
        let mut cx = Cx { now: self.now, unix_ms, entropy: &mut self.entropy };
        let Accept::Take(id) = self.hub.accept(&mut cx) else { return None };
        self.links.push(Link {
            client,
            id,
            store,
            effects: Vec::new(),
            settled: 0,
            out: Vec::new(),
            cut: false,
        });
        let link = self.links.len() - 1;
        self.with_client(link, |client, cx| client.handle_open(cx));
        self.exchange();
        Some(link)
    }

    /// Connects device 0 and expects it online.
    pub fn online(&mut self) -> usize {
        let link = self.dial(self.device(0)).expect("accepted");
        assert_eq!(self.links[link].client.phase(), Phase::Online, "{:?}", self.links[link].client.closed());
        link
    }

    pub fn with_client(&mut self, link: usize, call: impl FnOnce(&mut Client, &mut ClientCx<'_>)) {
        let unix_ms = self.unix_ms();
        let link = &mut self.links[link];
        let mut cx = ClientCx {
            now: self.now,
            unix_ms,
            entropy: &mut self.entropy,
            out: &mut link.out,
            scratch: &mut self.scratch,
            effects: &mut link.effects,
        };
        call(&mut link.client, &mut cx);
        while link.client.has_work() {
            link.client.handle_work(&mut cx);
        }
    }

    fn with_hub<T>(&mut self, call: impl FnOnce(&mut Hub, &mut Cx<'_>) -> T) -> T {
        let unix_ms = self.unix_ms();
        let mut cx = Cx { now: self.now, unix_ms, entropy: &mut self.entropy };
        call(&mut self.hub, &mut cx)
    }

    /// Carries bytes both ways, and settles commits, until nothing moves.
    pub fn exchange(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for link in 0..self.links.len() {
                moved |= self.settle(link);
                let mut bytes = std::mem::take(&mut self.links[link].out);
                let id = self.links[link].id;
                if !bytes.is_empty() && self.hub.is_reading(id) {
                    moved = true;
                    self.with_hub(|hub, cx| hub.handle_input(id, &mut bytes, cx));
                }
            }
            while let Some(id) = self.hub.poll_touched() {
                moved = true;
                let mut bytes = Vec::new();
                let verdict = self.hub.take_output(id, &mut bytes);
                let Some(link) = self.links.iter().position(|link| link.id == id) else { continue };
                if !bytes.is_empty() {
                    self.with_client(link, |client, cx| client.handle_input(&mut bytes, cx));
                }
                if verdict != Verdict::Open && !self.links[link].cut {
                    self.links[link].cut = true;
                    let reason = match verdict {
                        Verdict::Reset => CloseReason::ConnectionReset,
                        _ => CloseReason::ConnectionClosed,
                    };
                    let end = TransportEnd { reason, detail: String::new() };
                    self.with_client(link, |client, cx| client.handle_transport_end(end, cx));
                }
            }
            for link in 0..self.links.len() {
                // A client that has closed drops its socket.
                let id = self.links[link].id;
                if self.links[link].client.closed().is_some()
                    && !self.links[link].cut
                    && self.links[link].out.is_empty()
                {
                    self.links[link].cut = true;
                    moved = true;
                    self.with_hub(|hub, cx| {
                        hub.handle_hang_up(id, cx);
                        if hub.is_reading(id) {
                            hub.handle_transport_end(id, cx);
                        }
                    });
                }
            }
        }
    }

    /// Answers what the client asked its store for.
    fn settle(&mut self, link: usize) -> bool {
        let Some(outcome) = self.commits else { return false };
        let Link { effects, settled, store, .. } = &mut self.links[link];
        for effect in effects.iter().skip(std::mem::replace(settled, effects.len())) {
            match effect {
                Effect::Commit { token, writes } => {
                    store.open.push_back(Question::Commit(*token, writes.clone()));
                }
                Effect::Load { token, keys } => store.open.push_back(Question::Load(*token, keys.clone())),
                Effect::LoadCiphertexts { .. } | Effect::Event(_) => {}
            }
        }
        let mut moved = false;
        while let Some(answer) = self.links[link].store.answer() {
            moved = true;
            let answer = match (answer, outcome) {
                (Answer::Committed(token, _), Err(failed)) => Answer::Committed(token, Err(failed)),
                (answer, _) => answer,
            };
            self.with_client(link, |client, cx| answer.tell(client, cx));
        }
        moved
    }

    /// Orders something that is refused; the reason.
    pub fn refused(&mut self, path: &str, body: &Value) -> String {
        let command = core::Command::parse("POST", path, "", body.to_string().as_bytes()).expect(path);
        match self.with_hub(|hub, cx| hub.command(command, cx)) {
            Reply::Now(Err(why)) => why,
            other => panic!("{path} is not refused: {other:?}"),
        }
    }

    /// Orders something over the control port's language.
    pub fn order(&mut self, path: &str, body: &Value) -> Value {
        let command = core::Command::parse("POST", path, "", body.to_string().as_bytes()).expect(path);
        let reply = self.with_hub(|hub, cx| hub.command(command, cx));
        self.exchange();
        match reply {
            Reply::Now(answer) => answer.expect(path),
            Reply::Later(job) => {
                self.advance(Duration::from_millis(50));
                let (done, answer) = self.hub.poll_finished().expect("a push that is done");
                assert_eq!(done, job);
                answer
            }
        }
    }

    /// Reads something over the control port's language.
    pub fn read(&mut self, path: &str) -> Value {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let command = core::Command::parse("GET", path, query, b"").expect(path);
        match self.with_hub(|hub, cx| hub.command(command, cx)) {
            Reply::Now(answer) => answer.expect(path),
            Reply::Later(_) => panic!("{path} answers at once"),
        }
    }

    pub fn command(&mut self, link: usize, command: Command) {
        self.with_client(link, |client, cx| client.handle_command(command, cx));
        self.exchange();
    }

    /// Time passes: every timer on either side runs when it is due.
    pub fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut turns = 0_u32;
        loop {
            let clients = self.links.iter().filter(|link| link.client.closed().is_none());
            let due =
                clients.filter_map(|link| link.client.poll_timeout()).chain(self.hub.poll_timeout()).min();
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            for link in 0..self.links.len() {
                if self.links[link].client.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.with_client(link, |client, cx| client.handle_timeout(cx));
                }
            }
            self.with_hub(|hub, cx| hub.handle_timeout(cx));
            self.exchange();
            turns += 1;
            assert!(turns < 2_000_000, "a timer that is always due: {due:?} at {:?}", self.now);
        }
        self.now = self.now.max(until);
    }

    pub fn counters(&self) -> &core::Counters {
        &self.hub.world.counters
    }
}

//! An engine with a clock that can be turned, a store with devices, a simulator.

use runner_engine::{
    Clock, Config, Endpoint, Engine, Event, EventKind, HELD_INPUT_LIMIT, OpenRequest, Proxy, SystemClock,
};
use runner_proto::close_reason::Closed;
use runner_proto::session;
use runner_proto::time::Instant;
use runner_sim::core::Fleet;
use runner_sim::{DEFAULT_SEED, Options, Simulator};
use runner_store::{Credentials, Import, Secret32, SecretBytes, Store};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a test waits for anything, in real time; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// The system's clock plus what the test added.
#[derive(Clone, Default)]
pub(crate) struct TurnedClock {
    ahead_us: Arc<AtomicU64>,
    /// What the administrator set the wall clock ahead.
    wall_ahead_ms: Arc<AtomicU64>,
    system: Arc<SystemClock>,
}

impl Clock for TurnedClock {
    fn now(&self) -> Instant {
        self.system.now() + Duration::from_micros(self.ahead_us.load(Ordering::SeqCst))
    }

    fn unix_ms(&self) -> u64 {
        self.system.unix_ms()
            + self.ahead_us.load(Ordering::SeqCst) / 1000
            + self.wall_ahead_ms.load(Ordering::SeqCst)
    }
}

/// A directory that is removed with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("runner-engine-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An engine under test; dropped in this order.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    clock: TurnedClock,
    seen: RefCell<Vec<Event>>,
    pub(crate) folder: Folder,
}

impl Bench {
    /// An engine for `url`, with devices `s0` … of the simulator's fleet.
    pub(crate) fn start(url: &str, devices: u32, adjust: impl FnOnce(&mut Config)) -> Self {
        Self::start_with_session(url, devices, session::Config::default(), adjust)
    }

    pub(crate) fn start_with_session(
        url: &str,
        devices: u32,
        session: session::Config,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_on(runner_store::Options::default(), url, devices, session, adjust)
    }

    fn start_on(
        options: runner_store::Options,
        url: &str,
        devices: u32,
        session: session::Config,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let folder = Folder::new();
        let path = folder.path().join("store.db");
        let (store, _) = Store::open(path, options, Box::new(|| ())).expect("a store");
        for index in 0..devices {
            import(&store, index);
        }
        let endpoint = Endpoint::parse(url).expect("an endpoint");
        let session =
            session::Config { host: endpoint.host_header(), path: endpoint.path.to_string(), ..session };
        let client = runner_client::Config { session: Arc::new(session), ..runner_client::Config::default() };
        let mut config = Config {
            endpoint,
            tls_ca_pem: None,
            connect_timeout: Duration::from_secs(20),
            client: Arc::new(client),
            outbox_capacity: 1024,
            held_input_limit: HELD_INPUT_LIMIT,
        };
        adjust(&mut config);
        let clock = TurnedClock::default();
        let engine = Engine::start_with_clock(store.clone(), config, clock.clone()).expect("an engine");
        Self { engine, store, clock, seen: RefCell::default(), folder }
    }

    pub(crate) fn open(&self, session_id: &str, connection: u64) {
        self.open_through(session_id, connection, None);
    }

    pub(crate) fn open_through(&self, session_id: &str, connection: u64, proxy: Option<&str>) {
        let proxy = proxy.map(|url| Proxy::parse(url).expect("a proxy"));
        self.engine.open(request(session_id, connection, proxy, false)).expect("not open yet");
    }

    /// Opens a session that a phone may link.
    pub(crate) fn open_to_link(&self, session_id: &str, connection: u64) {
        let request = OpenRequest { pair: true, ..request(session_id, connection, None, false) };
        self.engine.open(request).expect("not open yet");
    }

    pub(crate) fn open_resuming(&self, session_id: &str, connection: u64) {
        self.engine.open(request(session_id, connection, None, true)).expect("not open yet");
    }

    /// Turns the engine's clock.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.ahead_us.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
        self.engine.poke();
    }

    /// Sets the engine's wall clock, and nothing else, ahead.
    #[allow(dead_code, reason = "only the unit tests can hold the thread still meanwhile")]
    pub(crate) fn set_wall_ahead(&self, by: Duration) {
        self.clock.wall_ahead_ms.store(by.as_millis() as u64, Ordering::SeqCst);
        self.engine.poke();
    }

    /// The first event, old or new, that `wanted` accepts; each is given once.
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let start = std::time::Instant::now();
        loop {
            {
                let mut seen = self.seen.borrow_mut();
                if let Some(index) = seen.iter().position(&wanted) {
                    return seen.remove(index);
                }
                let left = PATIENCE.saturating_sub(start.elapsed());
                assert!(!left.is_zero(), "no {what}; instead {seen:#?}");
            }
            self.collect(Duration::from_millis(200));
        }
    }

    /// Drains what there is, waiting at most `patience` for it.
    pub(crate) fn collect(&self, patience: Duration) {
        wait_readable(&self.engine, patience);
        self.seen.borrow_mut().extend(self.engine.drain(10_000));
    }

    pub(crate) fn wait_online(&self, session_id: &str, connection: u64) -> Event {
        self.wait(&format!("{session_id}/{connection} online"), |event| {
            of(event, session_id, connection) && matches!(event.kind, EventKind::Online { .. })
        })
    }

    pub(crate) fn wait_closed(&self, session_id: &str, connection: u64) -> Closed {
        let event = self.wait(&format!("{session_id}/{connection} closed"), |event| {
            of(event, session_id, connection) && matches!(event.kind, EventKind::Closed(_))
        });
        match event.kind {
            EventKind::Closed(closed) => *closed,
            _ => unreachable!("waited for it"),
        }
    }

    /// Everything drained and not waited for.
    pub(crate) fn rest(&self) -> Vec<Event> {
        self.collect(Duration::ZERO);
        self.seen.borrow_mut().drain(..).collect()
    }

    /// One session's totals.
    pub(crate) fn totals(&self, session_id: &str) -> runner_proto::counters::Counters {
        let mut found = None;
        self.engine.counters(|row| {
            if &*row.session_id == session_id {
                found = Some(row.totals);
            }
        });
        found.expect("a known session")
    }
}

fn request<'a>(session_id: &'a str, connection: u64, proxy: Option<Proxy>, resume: bool) -> OpenRequest<'a> {
    OpenRequest { session_id, connection, version: [2, 3000, 1_035_194_821], proxy, resume, pair: false }
}

pub(crate) fn of(event: &Event, session_id: &str, connection: u64) -> bool {
    &*event.session_id == session_id && event.connection == connection
}

pub(crate) fn wait_readable(engine: &Engine, patience: Duration) -> bool {
    // The descriptor lives as long as the engine.
    #[expect(unsafe_code, reason = "the engine outlives the borrow")]
    let fd = unsafe { BorrowedFd::borrow_raw(engine.fileno()) };
    let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).expect("poll") == 1
}

fn import(store: &Store, index: u32) {
    let fleet = Fleet::new(DEFAULT_SEED, index + 1);
    let credentials = Credentials {
        jid: format!("{}:{}@s.whatsapp.net", Fleet::username(index), runner_sim::core::DEVICE),
        lid: None,
        push_name: Some("runner".into()),
        platform: None,
        registration_id: 1,
        noise_secret: Secret32::from(fleet.noise_keys(index).secret),
        identity_secret: Secret32::from([2; 32]),
        signed_pre_key_id: 1,
        signed_pre_key_secret: Secret32::from([3; 32]),
        signed_pre_key_signature: [4; 64],
        adv_secret: Secret32::from([5; 32]),
        account: None,
    };
    let session_id = format!("s{index}");
    let source = SecretBytes::from(b"{}".to_vec());
    store
        .import(Import { session_id, credentials, routing_info: None, source, keys: vec![] })
        .expect("imported");
}

/// A simulator and an engine that trusts it.
pub(crate) struct World {
    pub(crate) bench: Bench,
    pub(crate) sim: Simulator,
    _folder: Folder,
}

impl World {
    pub(crate) fn plain(devices: u32) -> Self {
        Self::start(devices, false, |_| ())
    }

    pub(crate) fn secure(devices: u32) -> Self {
        Self::start(devices, true, |_| ())
    }

    pub(crate) fn start(devices: u32, tls: bool, adjust: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(runner_store::Options::default(), devices, tls, adjust)
    }

    /// The same with a store of these bounds.
    pub(crate) fn start_on(
        store: runner_store::Options,
        devices: u32,
        tls: bool,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let folder = Folder::new();
        let options = Options { sessions: devices, tls, ..Options::new(folder.path()) };
        let sim = Simulator::start(options).expect("a simulator");
        let session = session::Config { root_key: root_key(&sim), ..session::Config::default() };
        let ca = std::fs::read(sim.ca_file()).expect("a CA file");
        let bench = Bench::start_on(store, sim.url(), devices, session, |config| {
            config.tls_ca_pem = Some(ca);
            adjust(config);
        });
        Self { bench, sim, _folder: folder }
    }

    pub(crate) fn post(&self, route: &str, body: &Value) -> Value {
        self.sim.call("POST", route, body).expect("a known route")
    }

    pub(crate) fn stats(&self) -> Value {
        self.sim.call("GET", "/stats", &Value::Null).expect("a known route")
    }

    pub(crate) fn target(index: u32) -> Value {
        json!({ "user": Fleet::username(index).to_string() })
    }
}

pub(crate) fn root_key(sim: &Simulator) -> [u8; 32] {
    let hex = sim.root_key_hex();
    let byte = |at: usize| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).expect("hex");
    std::array::from_fn(byte)
}

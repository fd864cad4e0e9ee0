//! What all connections share: the devices, the settings, the scripted faults, the counters and the logs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use runner_proto::entropy::Entropy;
use runner_proto::node::Scratch;
use runner_proto::noise::KeyPair;
use runner_proto::time::Instant;
use serde_json::{Map, Value};

use super::chain::{ChainFault, ServerKeys};
use super::command::{LoginFault, Refusal, Settings, Shape, Target};
use super::contact::Contact;
use super::counters::Counters;
use super::directory::Directory;
use super::fleet::{DEVICE, Fleet};
use super::group::Groups;
use super::journal::{Happening, Heard, Ring, Sent};
use super::relay::Delivery;

/// Number of a connection, counted from 1 over the life of the server.
pub type ConnectionId = u32;

/// A username and a device number: what may have one connection at a time.
pub type DeviceId = (u64, u32);

/// Events kept.
const EVENTS: usize = 50_000;

/// Texts that contacts were sent and that are remembered.
const HEARD: usize = 10_000;
/// Devices that a server with `acceptAnybody` learns.
const MAX_STRANGERS: usize = 100_000;
/// How long a chain is used before a new one is signed, in seconds.
const CHAIN_LIFE_S: u64 = 3600;

/// The time and the randomness of one call, brought by the driver.
pub struct Cx<'a> {
    /// The driver's monotonic clock.
    pub now: Instant,
    /// The wall clock.
    pub unix_ms: u64,
    /// Randomness.
    pub entropy: &'a mut dyn Entropy,
}

impl Cx<'_> {
    /// The wall clock in seconds, as stanzas carry it.
    pub fn unix_s(&self) -> u64 {
        self.unix_ms / 1000
    }
}

impl std::fmt::Debug for Cx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cx").field("now", &self.now).field("unix_ms", &self.unix_ms).finish_non_exhaustive()
    }
}

/// A device that may log in.
#[derive(Debug)]
pub(super) struct Account {
    /// Its Noise static key; `None` accepts any (a server that takes anybody).
    pub(super) noise_public: Option<[u8; 32]>,
    /// It was unlinked: logins fail with 401.
    pub(super) unlinked: bool,
    /// Its connection, from login until either side ended it.
    pub(super) live: Option<ConnectionId>,
    /// The client has hung up on the live connection, and the server has not read that yet.
    pub(super) hung_up: bool,
    /// When its last connection ended.
    pub(super) ended_at: Option<Instant>,
    /// Stanzas that wait for it, encoded with the flag byte.
    pub(super) offline: VecDeque<Box<[u8]>>,
    /// Logins that succeeded.
    pub(super) logins: u64,
    /// What its owner calls it.
    pub(super) name: Option<String>,
}

impl Account {
    fn new(noise_public: Option<[u8; 32]>) -> Self {
        Self {
            noise_public,
            unlinked: false,
            live: None,
            hung_up: false,
            ended_at: None,
            offline: VecDeque::new(),
            logins: 0,
            name: None,
        }
    }
}

/// Something for the next logins of somebody.
#[derive(Debug, Clone)]
struct LoginRule {
    target: Target,
    fault: LoginFault,
    left: u32,
}

/// New connections are turned away for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusing {
    pub(super) mode: Refusal,
    pub(super) status: u16,
    pub(super) until: Instant,
}

/// What one connection wants done to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// A newer connection of the same device has logged in.
    Replaced,
    /// The client had hung up on it; forget it without a word.
    Forget,
}

/// What all connections share.
pub struct World {
    /// Settings that hold until they are changed.
    pub settings: Settings,
    /// Totals.
    pub counters: Counters,
    /// The server's keys.
    pub keys: ServerKeys,
    /// What new connections look like.
    pub(super) shape: Arc<Shape>,
    pub(super) noise: KeyPair,
    pub(super) fleet: Fleet,
    pub(super) accounts: HashMap<DeviceId, Account>,
    /// Numbers that phones gave to devices which have not signed for them yet.
    pub(super) promised: HashSet<DeviceId>,
    pub(super) events: Ring<Happening>,
    pub(super) sent: Ring<Sent>,
    /// What contacts were sent.
    pub(super) heard: Ring<Heard>,
    pub(super) refusing: Option<Refusing>,
    pub(super) orders: VecDeque<(ConnectionId, Order)>,
    /// Public keys of devices.
    pub(super) directory: Directory,
    /// Devices of our own that talk.
    pub(super) contacts: HashMap<DeviceId, Contact>,
    /// Groups there are.
    pub(super) groups: Groups,
    /// Stanzas from one device to another, on their way.
    pub(super) deliveries: VecDeque<Delivery>,
    /// A plaintext being built.
    pub(super) plain: Vec<u8>,
    /// What reading one takes.
    pub(super) scratch: Scratch,
    /// Number of the last stanza id made here.
    pub(super) last_stanza: u64,
    rules: Vec<LoginRule>,
    chain: Option<(u64, Option<ChainFault>, Arc<[u8]>)>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("settings", &self.settings)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl World {
    /// A world whose fleet and keys come from `seed`.
    pub fn new(seed: u64, sessions: u32, settings: Settings) -> Self {
        let keys = ServerKeys::new(seed);
        let fleet = Fleet::new(seed, sessions);
        let accounts = (0..sessions)
            .map(|index| {
                let account = Account::new(Some(fleet.noise_keys(index).public));
                ((Fleet::username(index), DEVICE), account)
            })
            .collect();
        Self {
            counters: Counters::default(),
            shape: Arc::default(),
            noise: KeyPair::from_secret(keys.noise.secret),
            keys,
            fleet,
            accounts,
            promised: HashSet::new(),
            events: Ring::new(EVENTS),
            sent: Ring::new(settings.sent_capacity),
            heard: Ring::new(HEARD),
            refusing: None,
            orders: VecDeque::new(),
            directory: Directory::default(),
            contacts: Self::contacts_of(fleet),
            groups: Groups::new(),
            deliveries: VecDeque::new(),
            plain: Vec::new(),
            scratch: Scratch::new(),
            last_stanza: 0,
            rules: Vec::new(),
            chain: None,
            settings,
        }
    }

    /// The devices that this world makes.
    pub fn fleet(&self) -> Fleet {
        self.fleet
    }

    /// Lets a device in that is not of the fleet.
    pub fn register(&mut self, device: DeviceId, noise_public: [u8; 32]) {
        self.accounts.insert(device, Account::new(Some(noise_public)));
    }

    /// A chain that is valid now, or wrong as the settings say.
    pub(super) fn chain(&mut self, unix_s: u64) -> Arc<[u8]> {
        let fault = self.settings.chain;
        match &self.chain {
            Some((made, of, chain)) if *of == fault && unix_s.abs_diff(*made) < CHAIN_LIFE_S => {
                Arc::clone(chain)
            }
            _ => {
                let chain: Arc<[u8]> = self.keys.chain(unix_s, fault).into();
                self.chain = Some((unix_s, fault, Arc::clone(&chain)));
                chain
            }
        }
    }

    /// Finds the account of a login, or why there is none.
    pub(super) fn admit(&mut self, device: DeviceId, noise_public: &[u8; 32]) -> Option<&mut Account> {
        if !self.accounts.contains_key(&device) {
            if !self.settings.accept_anybody || self.accounts.len() >= MAX_STRANGERS {
                return None;
            }
            self.accounts.insert(device, Account::new(None));
        }
        let anybody = self.settings.accept_anybody;
        let account = self.accounts.get_mut(&device)?;
        let known = account.noise_public.is_none_or(|key| key == *noise_public) || anybody;
        (known && !account.unlinked).then_some(account)
    }

    /// Adds a rule for coming logins; [`LoginFault::Success`] forgets all rules instead.
    pub(super) fn add_rule(&mut self, target: Target, fault: LoginFault, count: u32) {
        if matches!(fault, LoginFault::Success) {
            self.rules.clear();
            return;
        }
        // A newer rule for everybody takes the place of the older one, as in the reference server.
        if target.all {
            self.rules.retain(|rule| !rule.target.all);
        }
        self.rules.push(LoginRule { target, fault, left: count });
    }

    /// What happens to a login that is coming in.
    pub(super) fn take_rule(&mut self, username: u64) -> Option<LoginFault> {
        self.take_rule_where(|target| target.names(username))
    }

    /// What happens to a registration that is coming in: it has no name yet.
    pub(super) fn take_rule_for_anybody(&mut self) -> Option<LoginFault> {
        self.take_rule_where(|target| target.all)
    }

    fn take_rule_where(&mut self, is_meant: impl Fn(&Target) -> bool) -> Option<LoginFault> {
        let at = self.rules.iter().position(|rule| is_meant(&rule.target))?;
        let rule = self.rules.get_mut(at)?;
        let fault = rule.fault.clone();
        rule.left = rule.left.saturating_sub(1);
        if rule.left == 0 {
            self.rules.remove(at);
        }
        Some(fault)
    }

    /// How new connections are turned away at `now`, if they are.
    pub(super) fn refusal(&self, now: Instant) -> Option<Refusing> {
        self.refusing.filter(|refusing| now < refusing.until)
    }

    /// Notes something that happened to a connection.
    pub(super) fn note(
        &mut self,
        unix_ms: u64,
        kind: &'static str,
        sid: ConnectionId,
        user: Option<u64>,
        more: &[(&str, Value)],
    ) {
        let more: Map<String, Value> =
            more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        self.events.push(Happening { t: unix_ms, kind, sid, user: user.map(|user| user.to_string()), more });
    }

    /// Keeps a stanza for a device that is not connected; false when its queue is full.
    pub(super) fn queue_offline(&mut self, device: DeviceId, stanza: Box<[u8]>) -> bool {
        let capacity = self.settings.offline_capacity;
        let Some(account) = self.accounts.get_mut(&device) else { return false };
        if account.offline.len() >= capacity {
            self.counters.dropped_offline += 1;
            return false;
        }
        account.offline.push_back(stanza);
        self.counters.queued_offline += 1;
        true
    }

    /// A stanza id that no other stanza of this server has.
    pub(super) fn next_stanza_id(&mut self) -> String {
        self.last_stanza += 1;
        format!("3EB0{:012X}", self.last_stanza)
    }
}

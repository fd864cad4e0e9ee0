//! The poll loop: one thread, all sockets. Every turn takes what the kernel, the commands, the store and the
//! resolver have, reads a bounded amount from each readable socket, fires the timers that are due, and hands the turn's
//! events over at once.
//!
//! Sockets are edge-triggered: a socket that may have more to give stays in `ready` until a read came back short.

use crate::clock::Clock;
use crate::command::{Command, Open};
use crate::config::Config;
use crate::dial::{Dial, DialCx, Step, Target};
use crate::driver::{Bench, Connection, Stage, event_of};
use crate::engine::Shared;
use crate::event::EventKind;
use crate::in_flight::InFlight;
use crate::link::Link;
use crate::resolve::{Answer, Resolver, system_lookup};
use crate::slab::{Key, Slab};
use crate::stats::SessionCounters;
use crate::store_link::{client_device, store_write};
use crate::timers::Timers;
use crate::tls::{Connector, TlsConfigError};
use mio::{Events, Poll, Token};
use runner_client::{Client, CommitFailed};
use runner_proto::close_reason::{CloseReason, Closed};
use runner_proto::counters::Counters;
use runner_proto::phase::Phase;
use runner_proto::time::Instant;
use runner_store::{Batch, Completion, Device, DeviceError, Store};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The longest sleep: the heartbeat that shows the thread alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The longest sleep while the store works for us, so that its lag is noticed soon.
const STORE_CHECK: Duration = Duration::from_millis(100);
/// The store lags when something waits for it longer than this; reading pauses then. Fifty times a slow disk's fsync.
const STORE_LAGS_AFTER: Duration = Duration::from_secs(1);
/// Sockets read in one turn; at [`READ_BUDGET`](crate::link::READ_BUDGET) each, a turn of small stanzas stays near 20 ms
/// and timers are never later than that.
const READS_PER_TURN: usize = 64;
/// Kernel events taken at once.
const EVENTS_PER_TURN: usize = 1024;
/// How long farewells may take when the engine shuts down.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Reactor<C> {
    poll: Poll,
    shared: Arc<Shared>,
    store: Store,
    client_config: Arc<runner_client::Config>,
    connect_timeout: Duration,
    target: Target,
    clock: C,
    connections: Slab<Connection>,
    sessions: HashMap<Arc<str>, Session>,
    timers: Timers,
    resolver: Resolver,
    /// Who waits for which name.
    resolving: HashMap<Arc<str>, Vec<Key>>,
    in_flight: InFlight,
    completions: Vec<Completion>,
    /// Sockets that may have more to read.
    ready: VecDeque<Key>,
    /// Sockets to read when the store has caught up.
    held: Vec<Key>,
    store_stalled: bool,
    /// The store's last answer was a failure.
    store_failed: bool,
    bench: Bench,
    /// Set by `Shutdown`: when to stop waiting for farewells.
    shutdown_until: Option<Instant>,
    halted: bool,
}

/// What is remembered of a session over its connections.
struct Session {
    connection: u64,
    /// Its connection, while there is one.
    key: Option<Key>,
    /// Up to the end of the last connection.
    totals: Counters,
}

impl<C: Clock> Reactor<C> {
    /// The token of the waker; no connection's, see [`Key::to_token`].
    pub(crate) const WAKE: Token = Token(usize::MAX);

    pub(crate) fn new(
        poll: Poll,
        shared: Arc<Shared>,
        store: Store,
        config: Config,
        clock: C,
    ) -> Result<Self, TlsConfigError> {
        let connector = if config.endpoint.secure { Some(Connector::new(&config)?) } else { None };
        let for_resolver = Arc::clone(&shared);
        let resolver = Resolver::new(Box::new(system_lookup), Box::new(move || for_resolver.wake()));
        Ok(Self {
            poll,
            shared,
            store,
            client_config: config.client,
            connect_timeout: config.connect_timeout,
            target: Target { endpoint: config.endpoint, connector },
            clock,
            connections: Slab::default(),
            sessions: HashMap::new(),
            timers: Timers::default(),
            resolver,
            resolving: HashMap::new(),
            in_flight: InFlight::default(),
            completions: Vec::new(),
            ready: VecDeque::new(),
            held: Vec::new(),
            store_stalled: false,
            store_failed: false,
            bench: Bench::new(),
            shutdown_until: None,
            halted: false,
        })
    }

    /// Runs until halted. A panic outside a session's own code, or a poll that fails, leaves thousands of sockets
    /// without a driver; the process ends at once instead (docs/decisions/0005).
    pub(crate) fn run_or_abort(mut self) {
        struct AbortOnPanic;
        impl Drop for AbortOnPanic {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    // The hook has printed the panic.
                    std::process::abort();
                }
            }
        }
        let guard = AbortOnPanic;
        if let Err(error) = self.run() {
            panic!("the I/O thread cannot go on: {error}");
        }
        drop(guard);
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        self.read_clock();
        while !self.halted {
            match self.poll.poll(&mut events, Some(self.sleep())) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                outcome => outcome?,
            }
            self.turn(&events);
        }
        self.shared.stop();
        self.bench.events.push(event_of(&Arc::from(""), 0, self.bench.unix_ms, EventKind::Stopped));
        self.shared.outbox.append(&mut self.bench.events);
        Ok(())
    }

    /// How long the poll may sleep.
    fn sleep(&self) -> Duration {
        if !self.ready.is_empty() {
            return Duration::ZERO;
        }
        let longest = if self.in_flight.is_empty() { HEARTBEAT } else { STORE_CHECK };
        let until = |at: Instant| at.saturating_duration_since(self.clock.now());
        let timer = self.timers.next().map_or(longest, until);
        let shutdown = self.shutdown_until.map_or(longest, until);
        // Rounded up to the kernel's milliseconds by mio, so that a timer is due when the poll returns.
        longest.min(timer).min(shutdown)
    }

    fn read_clock(&mut self) {
        self.bench.now = self.clock.now();
        self.bench.unix_ms = self.clock.unix_ms();
    }

    fn turn(&mut self, events: &Events) {
        self.read_clock();
        for event in events {
            if event.token() == Self::WAKE {
                continue;
            }
            let key = Key::from_token(event.token());
            self.on_socket(key, event.is_writable(), event.is_read_closed() || event.is_error());
        }
        for command in self.shared.commands.take() {
            self.on_command(command);
        }
        self.take_completions();
        for (host, answer) in self.resolver.take_found(self.bench.now) {
            for key in self.resolving.remove(&host).unwrap_or_default() {
                self.with_dial(key, |dial, cx| dial.on_resolved(&answer, cx));
            }
        }
        self.read_ready();
        self.fire_timers();
        self.check_store();
        self.check_shutdown();
        // Before the events, so that whoever has seen one finds the numbers that go with it.
        self.publish(!events.is_empty());
        self.shared.outbox.append(&mut self.bench.events);
    }

    fn on_socket(&mut self, key: Key, is_writable: bool, is_ending: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match &mut connection.stage {
            Stage::Dial(_) => self.with_dial(key, |dial, cx| dial.handle_ready(is_ending, cx)),
            Stage::Live(live) => {
                live.link.is_ending |= is_ending;
                if is_writable {
                    connection.handle_writable(&mut self.bench);
                    self.settle(key);
                }
                self.queue(key);
            }
        }
    }

    /// Puts a live socket in line for reading.
    fn queue(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.is_queued
        {
            connection.is_queued = true;
            self.ready.push_back(key);
        }
    }

    fn read_ready(&mut self) {
        if self.store_stalled {
            self.held.extend(self.ready.drain(..));
            return;
        }
        for _ in 0..READS_PER_TURN.min(self.ready.len()) {
            let Some(key) = self.ready.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.is_queued = false;
            let more = connection.handle_readable(&mut self.bench);
            self.settle(key);
            if more {
                self.queue(key);
            }
        }
    }

    fn fire_timers(&mut self) {
        while let Some((slot, at)) = self.timers.pop_due(self.bench.now) {
            let lag = self.bench.now - at;
            self.shared.meters.loop_lag_us.store(lag.as_micros() as u64, Ordering::Relaxed);
            let Some(key) = self.connections.key_at(slot) else { continue };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            match connection.stage {
                Stage::Dial(_) => self.with_dial(key, Dial::handle_timeout),
                Stage::Live(_) => {
                    // What the peer said in time counts, although its turn to be read has not come.
                    if connection.is_queued && !self.store_stalled {
                        connection.handle_readable(&mut self.bench);
                    }
                    connection.handle_timeout(&mut self.bench);
                    self.settle(key);
                }
            }
        }
    }

    /// Carries out what a call to a connection left behind: commits, bytes, the end, the next deadline.
    fn settle(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        for (token, writes) in self.bench.commits.drain(..) {
            let batch_token = self.in_flight.push_commit(key, token, self.bench.now);
            let writes = writes.into_iter().map(store_write).collect();
            let session_id = connection.session_id.to_string();
            if self.store.submit(Batch { token: batch_token, session_id, writes }).is_err() {
                self.in_flight.fail(batch_token);
            }
        }
        connection.flush(&mut self.bench);
        if connection.closed.is_some() {
            self.remove(key);
        } else {
            self.timers.set(key.slot, connection.poll_timeout());
        }
    }

    /// Takes a closed connection out and tells; its socket closes here.
    fn remove(&mut self, key: Key) {
        self.timers.set(key.slot, None);
        let Some(mut connection) = self.connections.remove(key) else { return };
        connection.farewell(&mut self.bench);
        if let Some(session) = self.sessions.get_mut(&connection.session_id) {
            session.key = None;
            if let Some(counters) = connection.counters() {
                session.totals = *counters;
            }
        }
        let Connection { session_id, number, closed, .. } = connection;
        self.shared.on_closed(&session_id);
        if let Some(closed) = closed {
            let kind = EventKind::Closed(Box::new(closed));
            self.bench.events.push(event_of(&session_id, number, self.bench.unix_ms, kind));
        }
    }

    fn close_with(&mut self, key: Key, closed: Closed) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.closed.get_or_insert(closed);
            self.remove(key);
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Open(open) => self.on_open(*open),
            Command::Close { session_id, connection, reason } => {
                self.on_client_command(&session_id, connection, runner_client::Command::Close(reason));
            }
            Command::Logout { session_id, connection } => {
                self.on_client_command(&session_id, connection, runner_client::Command::Logout);
            }
            Command::Send { session_id, connection, node } => {
                self.on_client_command(&session_id, connection, runner_client::Command::Send { node });
            }
            Command::Counters => self.publish_counters(),
            Command::Forget { session_id } => {
                if self.sessions.get(&session_id).is_some_and(|session| session.key.is_none()) {
                    self.sessions.remove(&session_id);
                }
            }
            Command::Shutdown => self.on_shutdown(),
            Command::Halt => self.halted = true,
            #[cfg(test)]
            Command::Panic { session_id, connection } => {
                if let Some(key) = self.find(&session_id, connection)
                    && let Some(connection) = self.connections.get_mut(key)
                {
                    connection.panic_now(&mut self.bench);
                    self.settle(key);
                }
            }
        }
    }

    fn on_open(&mut self, open: Open) {
        let Open { session_id, connection: number, version, proxy, resume } = open;
        let dial = Dial::new(version, resume, proxy, self.bench.now + self.connect_timeout);
        let mut connection = Connection::new(Arc::clone(&session_id), number, self.bench.now, dial);
        connection.enter(Phase::Dialling, &mut self.bench);
        let timeout = connection.poll_timeout();
        let key = self.connections.insert(connection);
        self.timers.set(key.slot, timeout);
        let session = self.sessions.entry(Arc::clone(&session_id)).or_insert_with(|| Session {
            connection: number,
            key: None,
            totals: Counters::default(),
        });
        (session.connection, session.key) = (number, Some(key));
        self.shared.meters.dials_total.fetch_add(1, Ordering::Relaxed);
        if self.shutdown_until.is_some() {
            self.close_with(key, Closed::new(CloseReason::Shutdown, Phase::Dialling));
            return;
        }
        let token = self.in_flight.push_device(key, self.bench.now);
        if let Err(error) = self.store.request_device(&session_id, token) {
            self.in_flight.forget(token);
            self.close_with(key, Closed::new(CloseReason::StoreStalled, Phase::Dialling).with_detail(error));
        }
    }

    fn find(&self, session_id: &str, connection: u64) -> Option<Key> {
        self.sessions.get(session_id).filter(|session| session.connection == connection)?.key
    }

    fn on_client_command(&mut self, session_id: &str, number: u64, command: runner_client::Command) {
        let Some(key) = self.find(session_id, number) else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        match (&connection.stage, command) {
            (Stage::Live(_), command) => {
                connection.handle_command(command, &mut self.bench);
                self.settle(key);
            }
            (Stage::Dial(dial), runner_client::Command::Close(reason)) => {
                let closed = Closed::new(reason, dial.phase());
                self.close_with(key, closed);
            }
            (Stage::Dial(dial), runner_client::Command::Logout) => {
                let closed = Closed::new(CloseReason::Stopped, dial.phase());
                self.close_with(key, closed.with_detail("logout was asked for before the connection was up"));
            }
            // There is no channel yet; the node's sender sees no ack.
            (Stage::Dial(_), runner_client::Command::Send { .. }) => {}
        }
    }

    fn with_dial(&mut self, key: Key, step: impl FnOnce(&mut Dial, &mut DialCx<'_>) -> Step) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Stage::Dial(dial) = &mut connection.stage else { return };
        let (target, registry, token) = (&self.target, self.poll.registry(), key.to_token());
        let step = self.bench.guard(dial.phase(), |bench| {
            step(dial, &mut DialCx { now: bench.now, target, registry, token, buffers: &mut bench.buffers })
        });
        let step = step.unwrap_or_else(Step::Failed);
        self.bench.buffers.reset();
        match step {
            Step::Wait => {
                let timeout = connection.poll_timeout();
                self.timers.set(key.slot, timeout);
            }
            Step::Resolve => self.resolve(key),
            Step::Securing => {
                connection.enter(Phase::Securing, &mut self.bench);
                let timeout = connection.poll_timeout();
                self.timers.set(key.slot, timeout);
            }
            Step::Up(link, device) => self.on_up(key, *link, &device),
            Step::Failed(closed) => self.close_with(key, closed),
        }
    }

    fn resolve(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Stage::Dial(dial) = &connection.stage else { return };
        let host = dial.host(&self.target);
        let answer: Option<Answer> = self.resolver.resolve(host, self.bench.now);
        match answer {
            Some(answer) => self.with_dial(key, |dial, cx| dial.on_resolved(&answer, cx)),
            None => self.resolving.entry(Arc::from(host)).or_default().push(key),
        }
    }

    fn on_up(&mut self, key: Key, link: Link, device: &Device) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Stage::Dial(dial) = &connection.stage else { return };
        if link.tls.as_ref().is_some_and(|tls| tls.is_resumed()) {
            self.shared.meters.tls_resumed_total.fetch_add(1, Ordering::Relaxed);
        }
        let totals =
            self.sessions.get(&connection.session_id).map(|session| session.totals).unwrap_or_default();
        match client_device(device, dial.version, dial.resume, totals) {
            Ok(state) => {
                let client = Client::new(Arc::clone(&self.client_config), state, self.bench.now);
                connection.go_live(link, client, &mut self.bench);
                if self.store_stalled {
                    connection.handle_store_stalled(true, &mut self.bench);
                }
                self.settle(key);
                self.queue(key);
            }
            Err(why) => {
                self.close_with(
                    key,
                    Closed::new(CloseReason::DeviceQuarantined, Phase::Dialling).with_detail(why),
                );
            }
        }
    }

    fn take_completions(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.store.drain_completions(&mut completions);
        for completion in completions.drain(..) {
            match completion {
                Completion::Committed { token, inbox_rows } => {
                    self.on_store(true, "the store commits again");
                    self.on_commits_until(token, Ok(()));
                    if inbox_rows > 0 {
                        let kind = EventKind::Messages;
                        self.bench.events.push(event_of(&Arc::from(""), 0, self.bench.unix_ms, kind));
                    }
                }
                Completion::Failed { token, error } => {
                    self.on_store(false, &format!("{}: {error}", error.kind.slug()));
                    self.on_commits_until(token, Err(CommitFailed));
                }
                Completion::Device { token, result } => {
                    if let Some(key) = self.in_flight.forget(token) {
                        self.on_device(key, *result);
                    }
                }
            }
        }
        while let Some((key, token)) = self.in_flight.pop_failed() {
            self.on_committed(key, token, Err(CommitFailed));
        }
        self.completions = completions;
    }

    /// The store answered for `token`; those that it refused before it come first, so that each client sees its
    /// outcomes in order.
    fn on_commits_until(&mut self, token: u64, outcome: Result<(), CommitFailed>) {
        while let Some((key, client_token)) = self.in_flight.pop_failed() {
            self.on_committed(key, client_token, Err(CommitFailed));
        }
        if let Some((key, client_token)) = self.in_flight.take_commit(token) {
            self.on_committed(key, client_token, outcome);
        }
    }

    fn on_committed(&mut self, key: Key, token: u64, outcome: Result<(), CommitFailed>) {
        // 0: the client does not wait for it.
        if token != 0
            && let Some(connection) = self.connections.get_mut(key)
        {
            connection.on_committed(token, outcome, &mut self.bench);
            self.settle(key);
        }
    }

    fn on_device(&mut self, key: Key, result: Result<Device, DeviceError>) {
        let (reason, error) = match result {
            Ok(device) => return self.with_dial(key, |dial, _| dial.on_device(device)),
            Err(error @ DeviceError::Missing) => (CloseReason::DeviceMissing, error),
            Err(error @ DeviceError::Quarantined(_)) => (CloseReason::DeviceQuarantined, error),
            Err(error @ DeviceError::Store(_)) => (CloseReason::StoreStalled, error),
        };
        self.close_with(key, Closed::new(reason, Phase::Dialling).with_detail(error));
    }

    fn on_store(&mut self, healthy: bool, detail: &str) {
        if self.store_failed == healthy {
            self.store_failed = !healthy;
            self.store_event(healthy, detail);
        }
    }

    fn store_event(&mut self, healthy: bool, detail: &str) {
        let kind = EventKind::Store { healthy, detail: detail.into() };
        self.bench.events.push(event_of(&Arc::from(""), 0, self.bench.unix_ms, kind));
    }

    /// Pauses all reading while the store lags, and tells the clients.
    fn check_store(&mut self) {
        let age = self.in_flight.oldest_age(self.bench.now);
        let stalled = age >= STORE_LAGS_AFTER;
        if stalled == self.store_stalled {
            return;
        }
        self.store_stalled = stalled;
        self.shared.meters.store_stalled.store(stalled, Ordering::Relaxed);
        if stalled {
            self.store_event(
                false,
                &format!("lagging: the oldest write waits for {:.1} s", age.as_secs_f64()),
            );
        } else {
            self.store_event(true, "the store has caught up");
            self.ready.extend(self.held.drain(..));
        }
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.handle_store_stalled(stalled, &mut self.bench);
                self.settle(key);
            }
        }
    }

    fn on_shutdown(&mut self) {
        if self.shutdown_until.is_some() {
            return;
        }
        self.shutdown_until = Some(self.bench.now + SHUTDOWN_PATIENCE);
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            match &connection.stage {
                Stage::Dial(dial) => {
                    let closed = Closed::new(CloseReason::Shutdown, dial.phase());
                    self.close_with(key, closed);
                }
                Stage::Live(_) => {
                    let command = runner_client::Command::Close(CloseReason::Shutdown);
                    connection.handle_command(command, &mut self.bench);
                    self.settle(key);
                }
            }
        }
    }

    fn check_shutdown(&mut self) {
        let Some(until) = self.shutdown_until else { return };
        if self.bench.now >= until {
            let keys: Vec<Key> = self.connections.keys().collect();
            for key in keys {
                let Some(phase) = self.connections.get_mut(key).map(|connection| connection.phase()) else {
                    continue;
                };
                self.close_with(key, Closed::new(CloseReason::Shutdown, phase));
            }
        }
        self.halted = self.connections.len() == 0;
    }

    fn publish(&mut self, woken: bool) {
        let meters = &self.shared.meters;
        let (mut dialling, mut online) = (0, 0);
        // A pass over all connections is too much for every turn of a busy thread, and little ten times a second.
        let beat = self.bench.unix_ms / 100;
        let last_beat = meters.heartbeat_unix_ms.swap(self.bench.unix_ms, Ordering::Relaxed) / 100;
        if last_beat != beat || self.connections.len() < 64 {
            for connection in self.connections.iter() {
                match connection.phase() {
                    Phase::Dialling | Phase::Securing => dialling += 1,
                    Phase::Online => online += 1,
                    _ => {}
                }
            }
            meters.dialling.store(dialling, Ordering::Relaxed);
            meters.online.store(online, Ordering::Relaxed);
        }
        meters.sessions.store(self.connections.len(), Ordering::Relaxed);
        meters.panics_total.store(self.bench.panics_total, Ordering::Relaxed);
        meters.turns_total.fetch_add(1, Ordering::Relaxed);
        meters.wakeups_total.fetch_add(u64::from(woken), Ordering::Relaxed);
    }

    fn publish_counters(&mut self) {
        let Self { sessions, connections, shared, bench, .. } = self;
        shared.publish_counters(|rows| {
            rows.extend(sessions.iter().map(|(session_id, session)| {
                let connection = session.key.and_then(|key| connections.get_mut(key));
                let (phase, counters) =
                    connection.map_or((Phase::Closed, None), |c| (c.phase(), c.counters().copied()));
                SessionCounters {
                    session_id: Arc::clone(session_id),
                    connection: session.connection,
                    phase,
                    totals: counters.unwrap_or(session.totals),
                    at: bench.now,
                }
            }));
        });
    }
}

//! The poll loop: one thread, all sockets. Every turn takes what the kernel, the commands, the store and the
//! resolver have, reads a bounded amount from each readable socket, fires the timers that are due, and hands the turn's
//! events over at once.
//!
//! Sockets are edge-triggered: a socket that may have more to give stays in `ready` until a read came back short.

mod commands;
mod storing;

use crate::clock::Clock;
use crate::command::Command;
use crate::config::Config;
use crate::dial::{Dial, DialCx, Step, Target, Who};
use crate::driver::{Bench, Connection, Stage, event_of};
use crate::engine::Shared;
use crate::event::EventKind;
use crate::in_flight::InFlight;
use crate::link::Link;
use crate::resolve::{Answer, Resolver, system_lookup};
use crate::rows::{Place, Rows};
use crate::slab::{Key, Slab};
use crate::stats::LagWindow;
use crate::store_link::client_device;
use crate::store_watch::StoreWatch;
use crate::timers::Timers;
use crate::tls::{Connector, TlsConfigError};
use mio::{Events, Poll, Token};
use runner_client::Client;
use runner_proto::close_reason::{CloseReason, Closed};
use runner_proto::counters::Counters;
use runner_proto::phase::Phase;
use runner_proto::time::Instant;
use runner_store::{Completion, Store};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The longest sleep: the heartbeat that shows the thread alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The longest sleep while the store works for us, so that its lag is noticed soon.
const STORE_CHECK: Duration = Duration::from_millis(100);
/// Sockets read in one turn; at [`READ_BUDGET`](crate::link::READ_BUDGET) each, a turn of small stanzas stays near 20 ms
/// and timers are never later than that.
const READS_PER_TURN: usize = 64;
/// Kernel events taken at once.
const EVENTS_PER_TURN: usize = 1024;
/// How often all connections are counted by phase.
const PASS_EVERY_US: u64 = 100_000;

pub(crate) struct Reactor {
    poll: Poll,
    shared: Arc<Shared>,
    store: Store,
    client_config: Arc<runner_client::Config>,
    connect_timeout: Duration,
    held_input_limit: usize,
    target: Target,
    clock: Arc<dyn Clock>,
    connections: Slab<Connection>,
    sessions: HashMap<Arc<str>, Session>,
    /// Where they stand in columns of counters.
    rows: Rows,
    timers: Timers,
    resolver: Resolver,
    /// Who waits for which name.
    resolving: HashMap<Arc<str>, Vec<Key>>,
    in_flight: InFlight,
    completions: Vec<Completion>,
    /// Sockets that may have more to read.
    ready: VecDeque<Key>,
    /// Connections that have more to compute than a turn has time for.
    working: VecDeque<Key>,
    /// Sockets to read when the store has caught up.
    held: Vec<Key>,
    store_watch: StoreWatch,
    /// The store has answered something in this turn.
    store_answered: bool,
    /// A commit failed, and the store has not recovered since.
    store_failed: bool,
    /// A connection lost messages to the store, and is to close once that is well.
    has_losses: bool,
    lag: LagWindow,
    bench: Bench,
    /// Set by `Shutdown`: when to stop waiting for farewells.
    shutdown_until: Option<Instant>,
    halted: bool,
}

/// What is remembered of a session over its connections.
struct Session {
    connection: u64,
    place: Place,
    /// Its connection, while there is one.
    key: Option<Key>,
    /// Up to the end of the last connection.
    totals: Counters,
}

impl Reactor {
    /// The token of the waker; no connection's, see [`Key::to_token`].
    pub(crate) const WAKE: Token = Token(usize::MAX);

    pub(crate) fn new(
        poll: Poll,
        shared: Arc<Shared>,
        store: Store,
        config: Config,
        clock: Arc<dyn Clock>,
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
            held_input_limit: config.held_input_limit,
            target: Target { endpoint: config.endpoint, connector },
            clock,
            connections: Slab::default(),
            sessions: HashMap::new(),
            rows: Rows::default(),
            timers: Timers::default(),
            resolver,
            resolving: HashMap::new(),
            in_flight: InFlight::new(),
            completions: Vec::new(),
            ready: VecDeque::new(),
            working: VecDeque::new(),
            held: Vec::new(),
            store_watch: StoreWatch::default(),
            store_answered: false,
            store_failed: false,
            has_losses: false,
            lag: LagWindow::default(),
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
        for command in self.shared.commands.close() {
            // Too late to begin, but it was accepted: its end is told like any other.
            let unix_ms = self.bench.unix_ms;
            match command {
                Command::Open(open) => {
                    let closed = Box::new(Closed::new(CloseReason::Shutdown, Phase::Dialling));
                    let kind = EventKind::Closed(closed);
                    self.bench.events.push(event_of(&open.session_id, open.connection, unix_ms, kind));
                }
                Command::SendText { session_id, connection, outgoing } => {
                    self.bench.events.push(commands::not_sent(&session_id, connection, unix_ms, &outgoing));
                }
                _ => {}
            }
        }
        self.bench.events.push(event_of(&Arc::from(""), 0, self.bench.unix_ms, EventKind::Stopped));
        self.shared.outbox.append(&mut self.bench.events);
        Ok(())
    }

    /// How long the poll may sleep.
    fn sleep(&self) -> Duration {
        if !self.ready.is_empty() || !self.working.is_empty() {
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
        let latest = self.bench.now + HEARTBEAT;
        self.read_clock();
        // A thread that stood still while no timer was due is late too.
        self.lag.note(self.bench.now - latest);
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
        self.work();
        self.check_store();
        self.mend_losses();
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
        if !self.store_watch.state().is_reading() {
            self.held.extend(self.ready.drain(..));
            return;
        }
        for _ in 0..READS_PER_TURN.min(self.ready.len()) {
            let Some(key) = self.ready.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.is_queued = false;
            let more = connection.handle_readable(&mut self.bench);
            self.settle(key);
            self.limit_held_input();
            if more {
                self.queue(key);
            }
        }
    }

    fn fire_timers(&mut self) {
        while let Some((slot, at)) = self.timers.pop_due(self.bench.now) {
            self.lag.note(self.bench.now - at);
            let Some(key) = self.connections.key_at(slot) else { continue };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            match connection.stage {
                Stage::Dial(_) => self.with_dial(key, Dial::handle_timeout),
                Stage::Live(_) => {
                    // What the peer said in time counts, although its turn to be read has not come.
                    if connection.is_queued && self.store_watch.state().is_reading() {
                        connection.handle_readable(&mut self.bench);
                    }
                    connection.handle_timeout(&mut self.bench);
                    self.settle(key);
                    self.limit_held_input();
                }
            }
        }
    }

    /// One slice, whoever is next: fifty devices that are linked at once would otherwise make fifty of a turn, and every
    /// other session would wait for all of them.
    fn work(&mut self) {
        let Some(key) = self.working.pop_front() else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.is_working = false;
        connection.handle_work(&mut self.bench);
        self.settle(key);
    }

    /// Closes the connection that holds the most unfinished input while all together hold more than they may.
    ///
    /// Pausing them instead could wait for ever on a peer that never finishes, and would read our own pause as the death
    /// of those that do. A healthy connection is not the largest: it would have to hold more than an even share of the
    /// limit when it is reached, and it holds a stanza at most.
    fn limit_held_input(&mut self) {
        while self.bench.held_bytes > self.held_input_limit {
            let held = |(_, connection): &(Key, &Connection)| connection.held_bytes;
            let Some((key, largest)) = self.connections.entries().max_by_key(held) else { return };
            let detail = format!(
                "{} bytes of unfinished input, of {} that all connections hold and {} that they may",
                largest.held_bytes, self.bench.held_bytes, self.held_input_limit
            );
            let closed = Closed::new(CloseReason::InputUnfinished, largest.phase()).with_detail(detail);
            self.close_with(key, closed);
        }
    }

    /// Carries out what a call to a connection left behind: commits, bytes, the end, the next deadline.
    fn settle(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !self.bench.asks.is_empty() {
            let session_id = Arc::clone(&connection.session_id);
            self.ask_store(key, &session_id);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.flush(&mut self.bench);
        if connection.closed.is_some() {
            self.remove(key);
        } else {
            self.timers.set(key.slot, connection.poll_timeout());
            if !connection.is_working && connection.has_work() {
                connection.is_working = true;
                self.working.push_back(key);
            }
        }
    }

    /// Takes a closed connection out and tells; its socket closes here.
    fn remove(&mut self, key: Key) {
        self.timers.set(key.slot, None);
        let Some(mut connection) = self.connections.remove(key) else { return };
        self.bench.held_bytes -= connection.held_bytes;
        self.bench.unopened_bytes -= connection.unopened_bytes;
        connection.farewell(&mut self.bench);
        if let Some(session) = self.sessions.get_mut(&connection.session_id) {
            session.key = None;
            if let Some(counters) = connection.counters() {
                session.totals = *counters;
                // A client that panicked, or whose output stalled, has not done it itself.
                session.totals.end_connection();
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
            Step::Up(link, who) => self.on_up(key, *link, &who),
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

    fn on_up(&mut self, key: Key, link: Link, who: &Who) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Stage::Dial(dial) = &connection.stage else { return };
        if link.tls.as_ref().is_some_and(|tls| tls.is_resumed()) {
            self.shared.meters.tls_resumed_total.fetch_add(1, Ordering::Relaxed);
        }
        let totals =
            self.sessions.get(&connection.session_id).map(|session| session.totals).unwrap_or_default();
        let (version, config, now) = (dial.version, Arc::clone(&self.client_config), self.bench.now);
        let client = match who {
            Who::Device(device) => {
                let state = client_device(device, version, dial.resume, totals);
                state.map(|state| Client::new(config, state, now))
            }
            Who::New => Ok(Client::linking(config, self.bench.new_device(), version, totals, now)),
        };
        match client {
            Ok(client) => {
                connection.go_live(link, client, &mut self.bench);
                connection.handle_store(self.store_watch.state(), &mut self.bench);
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

    fn publish(&mut self, woken: bool) {
        let meters = &self.shared.meters;
        let (mut dialling, mut online) = (0, 0);
        // A pass over all connections is too much for every turn of a busy thread, and little ten times a second.
        let now_us = self.bench.now.as_micros();
        let last_us = meters.heartbeat_us.swap(now_us, Ordering::Relaxed);
        if last_us / PASS_EVERY_US != now_us / PASS_EVERY_US || self.connections.len() < 64 {
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
        let worst = self.lag.worst(self.bench.now);
        meters.loop_lag_us.store(worst.as_micros() as u64, Ordering::Relaxed);
        meters.sessions.store(self.connections.len(), Ordering::Relaxed);
        meters.held_input_bytes.store(self.bench.held_bytes, Ordering::Relaxed);
        meters.panics_total.store(self.bench.panics_total, Ordering::Relaxed);
        meters.turns_total.fetch_add(1, Ordering::Relaxed);
        meters.wakeups_total.fetch_add(u64::from(woken), Ordering::Relaxed);
    }
}

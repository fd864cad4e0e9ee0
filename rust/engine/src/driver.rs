//! One connection: first a dial, then a link with a client on it.
//!
//! The code of one connection (its client, its TLS, its proxy) runs under `Bench::guard`, which catches panics: it
//! holds no lock across calls and shares nothing but the thread's scratch buffers, and these are thrown away. After a
//! panic only the connection's own state is in doubt, and that is dropped with it (docs/decisions/0005).

use crate::dial::Dial;
use crate::entropy::{self, Pooled};
use crate::event::{Event, EventKind};
use crate::link::{Buffers, Link, ReadError, WriteError, end_of_tls};
use crate::panic_place;
use runner_client::{
    Client, Command, CommitFailed, Committed, Cx, Effect, LoadFailed, NewDevice, RecordKey, StoreState,
    StoredRecord, TransportEnd, Write,
};
use runner_proto::close_reason::{CloseReason, Closed};
use runner_proto::counters::Counters;
use runner_proto::phase::Phase;
use runner_proto::session;
use runner_proto::time::Instant;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What the thread lends to whatever runs on it: buffers, time, and the baskets for what comes out.
pub(crate) struct Bench {
    pub(crate) now: Instant,
    pub(crate) unix_ms: u64,
    pub(crate) buffers: Buffers,
    scratch: session::Buffers,
    entropy: Pooled<fn(&mut [u8])>,
    effects: Vec<Effect>,
    /// For the outbox, at the end of the turn.
    pub(crate) events: Vec<Event>,
    /// For the store, after each call.
    pub(crate) asks: Vec<Ask>,
    pub(crate) panics_total: u64,
    /// Unfinished input of all connections, bytes: the sum of their `held_bytes`.
    pub(crate) held_bytes: usize,
    /// Messages of all connections that wait for the store to be opened, bytes.
    pub(crate) unopened_bytes: usize,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            now: Instant::default(),
            unix_ms: 0,
            buffers: Buffers::default(),
            scratch: session::Buffers::default(),
            entropy: entropy::system(),
            effects: Vec::new(),
            events: Vec::new(),
            asks: Vec::new(),
            panics_total: 0,
            held_bytes: 0,
            unopened_bytes: 0,
        }
    }

    /// The keys of a device that a phone is to link.
    pub(crate) fn new_device(&mut self) -> NewDevice {
        NewDevice::generate(&mut self.entropy)
    }

    /// Runs one connection's code. When it panics, what it may have left half-done in the shared buffers is thrown
    /// away, and the connection's end is returned.
    pub(crate) fn guard<T>(&mut self, phase: Phase, step: impl FnOnce(&mut Self) -> T) -> Result<T, Closed> {
        let step = AssertUnwindSafe(|| panic_place::guarded(|| step(&mut *self)));
        catch_unwind(step).map_err(|payload| {
            self.buffers = Buffers::default();
            self.scratch = session::Buffers::default();
            self.effects.clear();
            self.panics_total += 1;
            Closed::new(CloseReason::SessionPanicked, phase).with_detail(panic_message(&*payload))
        })
    }
}

/// What a client wants of the store.
pub(crate) enum Ask {
    Commit { token: u64, writes: Vec<Write> },
    Records { token: u32, keys: Vec<RecordKey> },
    Ciphertexts { after_seq: u64, limit: usize },
}

/// What the store has for a client: as its `on_committed`, `on_loaded` and `on_ciphertexts` take it.
pub(crate) enum FromStore {
    Committed(u64, Result<Committed, CommitFailed>),
    Records(u32, Result<Vec<Option<StoredRecord>>, LoadFailed>),
    Ciphertexts(Result<Vec<(u64, Vec<u8>, u64)>, LoadFailed>),
}

pub(crate) struct Connection {
    pub(crate) session_id: Arc<str>,
    pub(crate) number: u64,
    pub(crate) opened_at: Instant,
    pub(crate) stage: Stage,
    /// It is in the reactor's queue of sockets to read.
    pub(crate) is_queued: bool,
    /// It is in the reactor's queue of those that have something to compute.
    pub(crate) is_working: bool,
    /// Unfinished input after the last read.
    pub(crate) held_bytes: usize,
    /// Messages that wait for the store to be opened, bytes, after the last call.
    pub(crate) unopened_bytes: usize,
    phase: Phase,
    /// Set when it is over; the reactor then takes it out.
    pub(crate) closed: Option<Closed>,
    /// It panics over its next input, for tests.
    #[cfg(test)]
    pub(crate) has_bug: bool,
}

pub(crate) enum Stage {
    Dial(Box<Dial>),
    Live(Box<Live>),
}

pub(crate) struct Live {
    pub(crate) link: Link,
    pub(crate) client: Client,
}

impl Connection {
    pub(crate) fn new(session_id: Arc<str>, number: u64, now: Instant, dial: Dial) -> Self {
        let stage = Stage::Dial(Box::new(dial));
        Self {
            session_id,
            number,
            opened_at: now,
            stage,
            is_queued: false,
            is_working: false,
            held_bytes: 0,
            unopened_bytes: 0,
            phase: Phase::Dialling,
            closed: None,
            #[cfg(test)]
            has_bug: false,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// What the client counted; `None` while there is none.
    pub(crate) fn counters(&self) -> Option<&Counters> {
        if let Stage::Live(live) = &self.stage { Some(live.client.counters()) } else { None }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Dial(dial) => Some(dial.poll_timeout()),
            Stage::Live(live) => live.client.poll_timeout(),
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        matches!(&self.stage, Stage::Live(live) if live.client.has_work())
    }

    pub(crate) fn handle_work(&mut self, bench: &mut Bench) {
        self.call(bench, |client, _, cx| client.handle_work(cx));
    }

    /// The transport is up: from here on the client speaks.
    pub(crate) fn go_live(&mut self, link: Link, client: Client, bench: &mut Bench) {
        self.stage = Stage::Live(Box::new(Live { link, client }));
        self.call(bench, |client, _, cx| client.handle_open(cx));
    }

    /// Reads once; true when there may be more.
    pub(crate) fn handle_readable(&mut self, bench: &mut Bench) -> bool {
        let more = self.read(bench);
        let Stage::Live(live) = &self.stage else { return more };
        let held = live.link.held_bytes() + live.client.held_bytes();
        bench.held_bytes = bench.held_bytes - self.held_bytes + held;
        self.held_bytes = held;
        more
    }

    fn read(&mut self, bench: &mut Bench) -> bool {
        let Stage::Live(live) = &mut self.stage else { return false };
        let read = match bench.guard(self.phase, |bench| live.link.read(&mut bench.buffers)) {
            Ok(read) => read,
            Err(panicked) => {
                self.closed.get_or_insert(panicked);
                return false;
            }
        };
        match read {
            Ok(taken) => {
                if !bench.buffers.plain.is_empty() {
                    #[cfg(test)]
                    let has_bug = self.has_bug;
                    self.call(bench, |client, input, cx| {
                        client.handle_input(input, cx);
                        #[cfg(test)]
                        assert!(!has_bug, "injected");
                    });
                }
                if let Some(end) = taken.end {
                    self.end(end, bench);
                }
                taken.more
            }
            Err(ReadError(error)) => {
                self.end(end_of_tls(&error), bench);
                false
            }
        }
    }

    pub(crate) fn handle_writable(&mut self, bench: &mut Bench) {
        let Stage::Live(live) = &mut self.stage else { return };
        let outcome = live.link.write_unsent();
        self.after_write(Ok(outcome), bench);
    }

    pub(crate) fn handle_timeout(&mut self, bench: &mut Bench) {
        self.call(bench, |client, _, cx| client.handle_timeout(cx));
    }

    pub(crate) fn handle_command(&mut self, command: Command, bench: &mut Bench) {
        self.call(bench, |client, _, cx| client.handle_command(command, cx));
    }

    pub(crate) fn handle_store(&mut self, state: StoreState, bench: &mut Bench) {
        self.call(bench, |client, _, cx| client.handle_store(state, cx));
    }

    pub(crate) fn handle_store_recovered(&mut self, bench: &mut Bench) {
        self.call(bench, |client, _, cx| client.handle_store_recovered(cx));
    }

    pub(crate) fn on_store(&mut self, answer: FromStore, bench: &mut Bench) {
        self.call(bench, |client, _, cx| match answer {
            FromStore::Committed(token, outcome) => client.on_committed(token, outcome, cx),
            FromStore::Records(token, outcome) => client.on_loaded(token, outcome, cx),
            FromStore::Ciphertexts(outcome) => client.on_ciphertexts(outcome, cx),
        });
    }

    /// A bug in the client, for tests.
    #[cfg(test)]
    pub(crate) fn panic_now(&mut self, bench: &mut Bench) {
        self.call(bench, |_, _, cx| {
            cx.out.extend_from_slice(b"half a stanza");
            panic!("injected");
        });
    }

    /// Sends everything that the last calls produced as one run of records and one write.
    pub(crate) fn flush(&mut self, bench: &mut Bench) {
        if bench.buffers.out.is_empty() && bench.buffers.wire.is_empty() {
            return;
        }
        if let Stage::Live(live) = &mut self.stage {
            let outcome = bench.guard(self.phase, |bench| live.link.write(&mut bench.buffers));
            self.after_write(outcome, bench);
        }
        bench.buffers.reset();
    }

    /// Says goodbye below the client, which is done; the socket is dropped with the connection.
    pub(crate) fn farewell(&mut self, bench: &mut Bench) {
        if let Stage::Live(live) = &mut self.stage {
            // A panic is counted; the connection is at its end already.
            let _ = bench.guard(self.phase, |bench| live.link.farewell(&mut bench.buffers));
        }
        bench.buffers.reset();
    }

    fn after_write(&mut self, outcome: Result<Result<(), WriteError>, Closed>, bench: &mut Bench) {
        match outcome {
            Ok(Ok(())) => {}
            Err(panicked) => {
                self.closed.get_or_insert(panicked);
            }
            Ok(Err(WriteError::Ended(end))) => self.end(end, bench),
            Ok(Err(WriteError::Stalled)) => {
                let phase = self.phase;
                self.closed.get_or_insert_with(|| Closed::new(CloseReason::OutputStalled, phase));
            }
        }
    }

    fn end(&mut self, end: TransportEnd, bench: &mut Bench) {
        let otherwise = Closed::new(end.reason, self.phase).with_detail(&end.detail);
        self.call(bench, |client, _, cx| client.handle_transport_end(end, cx));
        self.closed.get_or_insert(otherwise);
    }

    /// Calls the client and takes in its effects. Nothing is called after the end.
    fn call(&mut self, bench: &mut Bench, step: impl FnOnce(&mut Client, &mut [u8], &mut Cx<'_>)) {
        let Stage::Live(live) = &mut self.stage else { return };
        if self.closed.is_some() {
            return;
        }
        let called = bench.guard(self.phase, |bench| {
            let Bench { now, unix_ms, buffers, scratch, entropy, effects, .. } = bench;
            let Buffers { plain, out, .. } = buffers;
            let mut cx = Cx { now: *now, unix_ms: *unix_ms, entropy, out, scratch, effects };
            step(&mut live.client, plain, &mut cx);
            plain.clear();
            live.client.unopened_bytes()
        });
        match called {
            Ok(unopened_bytes) => {
                bench.unopened_bytes = bench.unopened_bytes - self.unopened_bytes + unopened_bytes;
                self.unopened_bytes = unopened_bytes;
                self.take_in_effects(bench);
            }
            Err(panicked) => self.closed = Some(panicked),
        }
    }

    fn take_in_effects(&mut self, bench: &mut Bench) {
        for effect in bench.effects.drain(..) {
            let event = match effect {
                Effect::Commit { token, writes } => {
                    bench.asks.push(Ask::Commit { token, writes });
                    continue;
                }
                Effect::Load { token, keys } => {
                    bench.asks.push(Ask::Records { token, keys });
                    continue;
                }
                Effect::LoadCiphertexts { after_seq, limit } => {
                    bench.asks.push(Ask::Ciphertexts { after_seq, limit });
                    continue;
                }
                Effect::Event(event) => event,
            };
            let kind = match event {
                runner_client::Event::Phase(phase) if phase <= self.phase => continue,
                runner_client::Event::Phase(phase) => {
                    self.phase = phase;
                    if phase == Phase::Authenticating {
                        bench.events.push(event_of(
                            &self.session_id,
                            self.number,
                            bench.unix_ms,
                            EventKind::Path,
                        ));
                    }
                    EventKind::Phase(phase)
                }
                runner_client::Event::Online { handshake, me, .. } => {
                    EventKind::Online { handshake, duration: bench.now - self.opened_at, me }
                }
                runner_client::Event::Probe { probe, healthy, detail } => {
                    EventKind::Probe { probe, healthy, detail }
                }
                runner_client::Event::ClockOffset { offset_ms } => EventKind::ClockOffset { offset_ms },
                runner_client::Event::IdentityChanged { jid } => {
                    EventKind::IdentityChanged { jid: jid.into_boxed_str() }
                }
                runner_client::Event::KeysDiffer { what } => EventKind::KeysDiffer { what },
                runner_client::Event::RecordUnreadable { kind } => EventKind::RecordUnreadable { kind },
                runner_client::Event::Sent { token, outcome } => EventKind::Sent { token, outcome },
                runner_client::Event::ResumeFailed => EventKind::ResumeFailed,
                runner_client::Event::Qr { text, ttl, left } => EventKind::Qr { text, ttl, left },
                runner_client::Event::Code { text, ttl } => EventKind::PairingCode { text, ttl },
                runner_client::Event::NoCode(why) => EventKind::NoPairingCode(why),
                runner_client::Event::Linked => EventKind::Linked,
                runner_client::Event::Closed(closed) => {
                    self.closed.get_or_insert(closed);
                    continue;
                }
            };
            bench.events.push(event_of(&self.session_id, self.number, bench.unix_ms, kind));
        }
    }

    /// The dial is in another phase.
    pub(crate) fn enter(&mut self, phase: Phase, bench: &mut Bench) {
        self.phase = phase;
        bench.events.push(event_of(&self.session_id, self.number, bench.unix_ms, EventKind::Phase(phase)));
    }
}

pub(crate) fn event_of(session_id: &Arc<str>, connection: u64, at_unix_ms: u64, kind: EventKind) -> Event {
    Event { session_id: Arc::clone(session_id), connection, at_unix_ms, kind }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = match payload.downcast_ref::<String>() {
        Some(text) => text,
        None => payload.downcast_ref::<&str>().copied().unwrap_or("a panic without words"),
    };
    let place = panic_place::take().unwrap_or_else(|| "an unknown place".into());
    format!("a bug of ours at {place}, please report it: {text}")
}

//! The handle: what other threads may ask of the I/O thread. Nothing here waits for the network.

use crate::clock::{Clock, SystemClock};
use crate::command::{Command, Commands, Open};
use crate::config::Config;
use crate::event::Event;
use crate::outbox::Outbox;
use crate::panic_place;
use crate::proxy::Proxy;
use crate::reactor::Reactor;
use crate::rows::Fleet;
use crate::stats::{Meters, SessionCounters, Stats};
use crate::tls::TlsConfigError;
use mio::Waker;
use runner_client::Outgoing;
use runner_proto::close_reason::CloseReason;
use runner_proto::time::Instant;
use runner_store::Store;
use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;

/// How long [`Engine::counters`] waits for the thread before it gives the previous copy: a turn is far shorter.
const COUNTERS_PATIENCE: Duration = Duration::from_millis(250);

/// All connections, on a thread of their own.
pub struct Engine {
    shared: Arc<Shared>,
    store: Store,
    thread: Option<JoinHandle<()>>,
}

/// What the handle and the thread share.
pub(crate) struct Shared {
    pub(crate) commands: Commands,
    pub(crate) outbox: Outbox,
    pub(crate) meters: Meters,
    pub(crate) waker: Waker,
    /// The thread's clock, for the ages of what it left here.
    clock: Arc<dyn Clock>,
    /// The open connection of each session that has one, so that a second `open` is refused at once.
    open: Mutex<HashMap<Arc<str>, u64>>,
    snapshot: Mutex<Snapshot>,
    snapshot_taken: Condvar,
    /// The thread is over.
    is_stopped: AtomicBool,
}

#[derive(Default)]
struct Snapshot {
    rows: Vec<SessionCounters>,
    fleet: Fleet,
    /// Counts the copies.
    taken: u64,
    is_wanted: bool,
}

/// Why an engine did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The operating system refused a descriptor or a thread.
    #[error("cannot start the engine: {0}")]
    Io(#[from] io::Error),
    /// The TLS settings cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
}

/// Why a call was refused: the caller's bug, or a caller that does not drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The thread is over.
    #[error("the engine was shut down")]
    Stopped,
    /// The session has a connection that is not closed.
    #[error("the session already has an open connection")]
    AlreadyOpen,
    /// Too many commands or undrained events wait.
    #[error("the queue is full")]
    Full,
}

/// What to dial for; see [`Engine::open`].
#[derive(Clone, Debug)]
pub struct OpenRequest<'a> {
    /// Whose device.
    pub session_id: &'a str,
    /// The caller's number for it; events carry it.
    pub connection: u64,
    /// The client version to claim, `2.3000.N`.
    pub version: [u32; 3],
    /// Dial through it.
    pub proxy: Option<Proxy>,
    /// Allow Noise IK when a valid server key is cached.
    pub resume: bool,
    /// Let a phone link a device when the session has none; otherwise that ends as `device_missing`.
    pub pair: bool,
}

impl Engine {
    /// Starts the I/O thread. `store` tells this engine, and no other, when its commits are done.
    pub fn start(store: Store, config: Config) -> Result<Self, StartError> {
        Self::start_with_clock(store, config, SystemClock::default())
    }

    /// The same with a clock of the caller's; see [`poke`](Self::poke).
    pub fn start_with_clock(store: Store, config: Config, clock: impl Clock) -> Result<Self, StartError> {
        panic_place::silence_guarded();
        let poll = mio::Poll::new()?;
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let shared = Arc::new(Shared {
            commands: Commands::default(),
            outbox: Outbox::new(config.outbox_capacity)?,
            meters: Meters::default(),
            waker: Waker::new(poll.registry(), Reactor::WAKE)?,
            clock: Arc::clone(&clock),
            open: Mutex::default(),
            snapshot: Mutex::default(),
            snapshot_taken: Condvar::new(),
            is_stopped: AtomicBool::new(false),
        });
        shared.meters.heartbeat_us.store(clock.now().as_micros(), Ordering::Relaxed);
        let reactor = Reactor::new(poll, Arc::clone(&shared), store.clone(), config, clock)?;
        let for_store = Arc::clone(&shared);
        store.set_notify(Box::new(move || for_store.wake()));
        let thread =
            std::thread::Builder::new().name("runner-io".into()).spawn(move || reactor.run_or_abort())?;
        Ok(Self { shared, store, thread: Some(thread) })
    }

    /// A descriptor that is readable while [`drain`](Self::drain) has something to give.
    #[must_use]
    pub fn fileno(&self) -> RawFd {
        self.shared.outbox.fd()
    }

    /// Takes the oldest events, at most `max_events`; never blocks.
    #[must_use]
    pub fn drain(&self, max_events: usize) -> Vec<Event> {
        self.shared.outbox.drain(max_events)
    }

    /// Dials. Exactly one `closed` event will follow. Never blocks.
    pub fn open(&self, request: OpenRequest<'_>) -> Result<(), Refused> {
        let OpenRequest { session_id, connection, version, proxy, resume, pair } = request;
        let session_id: Arc<str> = Arc::from(session_id);
        if self.is_stopped() {
            return Err(Refused::Stopped);
        }
        if !self.shared.outbox.admits_connection() {
            return Err(Refused::Full);
        }
        {
            let mut open = self.shared.lock_open();
            if open.contains_key(&session_id) {
                return Err(Refused::AlreadyOpen);
            }
            open.insert(Arc::clone(&session_id), connection);
        }
        self.push(Command::Open(Box::new(Open { session_id, connection, version, proxy, resume, pair })))
    }

    /// Closes a connection; one that is not there (any more) is left alone.
    pub fn close(&self, session_id: &str, connection: u64, reason: CloseReason) -> Result<(), Refused> {
        self.push(Command::Close { session_id: Arc::from(session_id), connection, reason })
    }

    /// Unlinks the device at the server, then closes.
    pub fn logout(&self, session_id: &str, connection: u64) -> Result<(), Refused> {
        self.push(Command::Logout { session_id: Arc::from(session_id), connection })
    }

    /// Offers a pairing code to the phone with this number, on a connection that links a new device. What becomes of it
    /// comes as an event.
    pub fn link_by_code(&self, session_id: &str, connection: u64, phone: u64) -> Result<(), Refused> {
        self.push(Command::LinkByCode { session_id: Arc::from(session_id), connection, phone })
    }

    /// Sends one encoded node, flag byte in front.
    pub fn send(&self, session_id: &str, connection: u64, node: Vec<u8>) -> Result<(), Refused> {
        self.push(Command::Send { session_id: Arc::from(session_id), connection, node })
    }

    /// Sends a text; what becomes of it comes as a `sent` event with its token.
    pub fn send_text(&self, session_id: &str, connection: u64, outgoing: Outgoing) -> Result<(), Refused> {
        let outgoing = Box::new(outgoing);
        self.push(Command::SendText { session_id: Arc::from(session_id), connection, outgoing })
    }

    /// Drops the totals of a session that has no connection (any more).
    pub fn forget(&self, session_id: &str) -> Result<(), Refused> {
        self.push(Command::Forget { session_id: Arc::from(session_id) })
    }

    /// Hands the counters of all sessions to `each`. Waits for the thread to copy them, a quarter of a second at
    /// most; then the previous copy is given.
    pub fn counters(&self, each: impl FnMut(&SessionCounters)) {
        self.with_counters(|rows, _| rows.iter().for_each(each));
    }

    /// The same with what concerns all rows at once.
    pub fn with_counters<R>(&self, read: impl FnOnce(&[SessionCounters], &Fleet) -> R) -> R {
        let mut snapshot = self.shared.lock_snapshot();
        let before = snapshot.taken;
        if !self.is_stopped() {
            let asked = snapshot.is_wanted || {
                snapshot.is_wanted = true;
                self.push(Command::Counters).is_ok()
            };
            if asked {
                let waiting = |snapshot: &mut Snapshot| snapshot.taken == before;
                snapshot = self
                    .shared
                    .snapshot_taken
                    .wait_timeout_while(snapshot, COUNTERS_PATIENCE, waiting)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        }
        read(&snapshot.rows, &snapshot.fleet)
    }

    /// The thread's clock now: what the age of a [`SessionCounters`] is measured by.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// A snapshot of the thread; never blocks.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            outbox_depth: self.shared.outbox.depth(),
            outbox_dropped_total: self.shared.outbox.dropped_total(),
            ..self.shared.meters.snapshot(self.now())
        }
    }

    /// Closes everything with `shutdown`, then ends the thread; `stopped` is the last event.
    pub fn shutdown(&self) -> Result<(), Refused> {
        self.push(Command::Shutdown)
    }

    /// Makes the thread take a turn now, for a clock that jumped.
    pub fn poke(&self) {
        self.shared.wake();
    }

    /// Whether the thread is over.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Acquire)
    }

    pub(crate) fn push(&self, command: Command) -> Result<(), Refused> {
        if self.is_stopped() {
            return Err(Refused::Stopped);
        }
        match self.shared.commands.push(command) {
            Ok(true) => self.shared.wake(),
            Ok(false) => {}
            Err(_) if self.is_stopped() => return Err(Refused::Stopped),
            Err(_) => return Err(Refused::Full),
        }
        Ok(())
    }
}

impl Drop for Engine {
    /// Ends the thread at once if [`shutdown`](Self::shutdown) did not. Sockets close without a word.
    fn drop(&mut self) {
        self.store.set_notify(Box::new(|| ()));
        // Refused when the thread is over, which is what we want.
        let _ = self.push(Command::Halt);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has ended the process: run_or_abort.
            let _ = thread.join();
        }
    }
}

impl Shared {
    pub(crate) fn wake(&self) {
        // Fails only when the counter of the eventfd would overflow, and then the thread is awake.
        let _ = self.waker.wake();
    }

    /// The session may be opened again.
    pub(crate) fn on_closed(&self, session_id: &str) {
        self.lock_open().remove(session_id);
    }

    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.snapshot_taken.notify_all();
    }

    /// Fills the copy of the counters, reusing its memory.
    pub(crate) fn publish_counters(&self, fleet: Fleet, fill: impl FnOnce(&mut Vec<SessionCounters>)) {
        let mut snapshot = self.lock_snapshot();
        snapshot.rows.clear();
        fill(&mut snapshot.rows);
        snapshot.fleet = fleet;
        snapshot.taken += 1;
        snapshot.is_wanted = false;
        drop(snapshot);
        self.snapshot_taken.notify_all();
    }

    fn lock_open(&self) -> MutexGuard<'_, HashMap<Arc<str>, u64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_snapshot(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

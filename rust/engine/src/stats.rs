//! What the thread knows about itself, as numbers that anybody may read at any time.

use crate::rows::Place;
use runner_proto::counters::Counters;
use runner_proto::phase::Phase;
use runner_proto::time::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A snapshot of the I/O thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that are not closed.
    pub sessions: usize,
    /// Of these, before the transport is up.
    pub dialling: usize,
    /// Of these, after `<success>`.
    pub online: usize,
    /// How late the last timer fired.
    pub loop_lag: Duration,
    /// Since the thread last finished a turn; about a second when there is nothing to do.
    pub heartbeat_age: Duration,
    /// Turns of the loop.
    pub turns_total: u64,
    /// Turns that began with news from the kernel.
    pub wakeups_total: u64,
    /// Events that wait to be drained.
    pub outbox_depth: usize,
    /// Events that did not fit.
    pub outbox_dropped_total: u64,
    /// Opens.
    pub dials_total: u64,
    /// Panics that ended a session.
    pub panics_total: u64,
    /// The store lags and reading is paused.
    pub store_stalled: bool,
    /// TLS handshakes that used a ticket.
    pub tls_resumed_total: u64,
}

/// The same as atomics; written by the I/O thread only.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) sessions: AtomicUsize,
    pub(crate) dialling: AtomicUsize,
    pub(crate) online: AtomicUsize,
    pub(crate) loop_lag_us: AtomicU64,
    /// Of the wall clock, so that a reader needs no part in the engine's clock.
    pub(crate) heartbeat_unix_ms: AtomicU64,
    pub(crate) turns_total: AtomicU64,
    pub(crate) wakeups_total: AtomicU64,
    pub(crate) dials_total: AtomicU64,
    pub(crate) panics_total: AtomicU64,
    pub(crate) store_stalled: AtomicBool,
    pub(crate) tls_resumed_total: AtomicU64,
}

impl Meters {
    pub(crate) fn snapshot(&self, unix_ms: u64) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            sessions: self.sessions.load(Ordering::Relaxed),
            dialling: self.dialling.load(Ordering::Relaxed),
            online: self.online.load(Ordering::Relaxed),
            loop_lag: Duration::from_micros(read(&self.loop_lag_us)),
            heartbeat_age: Duration::from_millis(unix_ms.saturating_sub(read(&self.heartbeat_unix_ms))),
            turns_total: read(&self.turns_total),
            wakeups_total: read(&self.wakeups_total),
            dials_total: read(&self.dials_total),
            panics_total: read(&self.panics_total),
            store_stalled: self.store_stalled.load(Ordering::Relaxed),
            tls_resumed_total: read(&self.tls_resumed_total),
            ..Stats::default()
        }
    }
}

/// What one session has counted, over all its connections.
#[derive(Clone, Debug)]
pub struct SessionCounters {
    /// Whose.
    pub session_id: Arc<str>,
    /// Where it stands in columns.
    pub place: Place,
    /// Its newest connection.
    pub connection: u64,
    /// Where that one is; `closed` when it is over.
    pub phase: Phase,
    /// The totals; instants in it are of the engine's clock.
    pub totals: Counters,
    /// When they were copied, for ages.
    pub at: Instant,
}

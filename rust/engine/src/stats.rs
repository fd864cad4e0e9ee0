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
    /// The longest that a timer, or a turn of the loop, was late: over the last 30 to 60 s, so that a look every 30 s
    /// misses nothing.
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
    /// The store has owed an answer for a second or longer.
    pub store_stalled: bool,
    /// TLS handshakes that used a ticket.
    pub tls_resumed_total: u64,
    /// Bytes of input that wait for the rest of their frame or TLS record, over all connections.
    pub held_input_bytes: usize,
}

/// The same as atomics; written by the I/O thread only.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) sessions: AtomicUsize,
    pub(crate) dialling: AtomicUsize,
    pub(crate) online: AtomicUsize,
    pub(crate) loop_lag_us: AtomicU64,
    /// The end of the last turn, on the engine's clock.
    pub(crate) heartbeat_us: AtomicU64,
    pub(crate) turns_total: AtomicU64,
    pub(crate) wakeups_total: AtomicU64,
    pub(crate) dials_total: AtomicU64,
    pub(crate) panics_total: AtomicU64,
    pub(crate) store_stalled: AtomicBool,
    pub(crate) tls_resumed_total: AtomicU64,
    pub(crate) held_input_bytes: AtomicUsize,
}

impl Meters {
    pub(crate) fn snapshot(&self, now: Instant) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            sessions: self.sessions.load(Ordering::Relaxed),
            dialling: self.dialling.load(Ordering::Relaxed),
            online: self.online.load(Ordering::Relaxed),
            loop_lag: Duration::from_micros(read(&self.loop_lag_us)),
            heartbeat_age: now - Instant::from_micros(read(&self.heartbeat_us)),
            turns_total: read(&self.turns_total),
            wakeups_total: read(&self.wakeups_total),
            dials_total: read(&self.dials_total),
            panics_total: read(&self.panics_total),
            store_stalled: self.store_stalled.load(Ordering::Relaxed),
            tls_resumed_total: read(&self.tls_resumed_total),
            held_input_bytes: self.held_input_bytes.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }
}

/// The worst lag of a while, kept by the I/O thread alone: readers come at their own times, and more than one of them.
///
/// It remembers two spans of [`LAG_SPAN`], the running one and the one before; a lag is seen for one to two of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LagWindow {
    began: Instant,
    running: Duration,
    before: Duration,
}

/// The default of `WHATSAPP_HEALTH_CHECK_INTERVAL`: whoever looks that often sees every lag.
const LAG_SPAN: Duration = Duration::from_secs(30);

impl LagWindow {
    /// Something was late by `lag`.
    pub(crate) fn note(&mut self, lag: Duration) {
        self.running = self.running.max(lag);
    }

    /// The worst lag that is remembered at `now`.
    pub(crate) fn worst(&mut self, now: Instant) -> Duration {
        let spans = (now - self.began).as_micros() / LAG_SPAN.as_micros();
        if spans > 0 {
            // What was noted since the last call is of now, however long nobody called.
            self.before = self.running;
            self.running = Duration::ZERO;
            self.began = now;
        }
        self.running.max(self.before)
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
    /// When they were copied. The copy may be an old one, so ages are counted from [`now`](crate::Engine::now).
    pub at: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_lag_is_seen_for_a_whole_span_at_least_and_two_at_most() {
        let lag = Duration::from_secs(10);
        for noted in 0..30 {
            let mut window = LagWindow::default();
            let mut seen = Vec::new();
            for now in 1..200 {
                if now == 60 + noted {
                    window.note(lag);
                }
                window.note(Duration::from_millis(1));
                if window.worst(at(now)) == lag {
                    seen.push(now);
                }
            }
            assert_eq!(seen.first(), Some(&(60 + noted)));
            assert!((30..=60).contains(&seen.len()), "noted at {noted}: {seen:?}");
            assert_eq!(seen.len() as u64, seen[seen.len() - 1] - seen[0] + 1, "without a gap");
        }
    }

    #[test]
    fn a_lag_as_long_as_the_window_is_not_lost_in_it() {
        let mut window = LagWindow::default();
        window.worst(at(1));
        window.note(Duration::from_secs(500));
        assert_eq!(window.worst(at(501)), Duration::from_secs(500));
        assert_eq!(window.worst(at(530)), Duration::from_secs(500));
        assert_eq!(window.worst(at(531)), Duration::ZERO);
    }
}

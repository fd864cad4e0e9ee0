//! Events on their way to Python: a bounded queue and an eventfd.
//!
//! The descriptor is readable exactly while the queue holds something. Both change under one lock, so a wake-up is
//! neither lost nor repeated: the first event writes to the descriptor, the drain that empties the queue reads it.
//!
//! State events (`phase`, `online`, `closed`, `store`, `stopped`) always fit: a connection makes a handful of them
//! and [`Outbox::admits_connection`] refuses a new connection long before undrained ones could fill the memory. All others
//! are dropped and counted when `capacity` of them wait. `messages` says only that there are some, so one that waits
//! stands for all.

use crate::event::{Event, EventKind};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Undrained state events at which no further connection is admitted: about 100 MB of memory, or 100,000
/// connections that opened and closed while nobody drained.
const MAX_UNDRAINED_STATE_EVENTS: usize = 1_000_000;

#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    wake: OwnedFd,
    /// Most events that are not state events; see the module.
    capacity: usize,
    dropped_total: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    /// How many of `events` are state events.
    state_events: usize,
    /// A `messages` event is among `events`.
    has_messages: bool,
}

impl Outbox {
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { queue: Mutex::default(), wake, capacity, dropped_total: AtomicU64::new(0) })
    }

    /// Moves what fits out of `turn`, which is empty afterwards; never blocks longer than a drain copies.
    pub(crate) fn append(&self, turn: &mut Vec<Event>) {
        if turn.is_empty() {
            return;
        }
        let mut queue = self.lock();
        let was_empty = queue.events.is_empty();
        let mut dropped = 0;
        for event in turn.drain(..) {
            if matches!(event.kind, EventKind::Messages) && std::mem::replace(&mut queue.has_messages, true) {
                continue;
            }
            if event.kind.is_state() {
                queue.state_events += 1;
            } else if queue.events.len() - queue.state_events >= self.capacity {
                dropped += 1;
                continue;
            }
            queue.events.push_back(event);
        }
        if dropped > 0 {
            self.dropped_total.fetch_add(dropped, Ordering::Relaxed);
        }
        if was_empty && !queue.events.is_empty() {
            // Cannot fail: the counter of the descriptor is 0 here, and one fits.
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Takes the oldest events, at most `max`; never blocks.
    pub(crate) fn drain(&self, max: usize) -> Vec<Event> {
        let mut queue = self.lock();
        let count = max.min(queue.events.len());
        if count == 0 {
            return Vec::new();
        }
        let taken: Vec<Event> = queue.events.drain(..count).collect();
        queue.state_events -= taken.iter().filter(|event| event.kind.is_state()).count();
        if taken.iter().any(|event| matches!(event.kind, EventKind::Messages)) {
            queue.has_messages = false;
        }
        if queue.events.is_empty() {
            // A burst must not hold its memory for ever.
            if queue.events.capacity() > 4096 {
                queue.events = VecDeque::new();
            }
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        taken
    }

    /// False while so many state events wait that a new connection's would not surely fit.
    pub(crate) fn admits_connection(&self) -> bool {
        self.lock().state_events < MAX_UNDRAINED_STATE_EVENTS
    }

    pub(crate) fn depth(&self) -> usize {
        self.lock().events.len()
    }

    pub(crate) fn dropped_total(&self) -> u64 {
        self.dropped_total.load(Ordering::Relaxed)
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing inside the lock can leave the queue half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_proto::phase::Phase;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::sync::Arc;

    fn event(kind: EventKind) -> Event {
        Event { session_id: Arc::from("s"), connection: 1, at_unix_ms: 0, kind }
    }

    fn is_readable(outbox: &Outbox) -> bool {
        let mut fds = [PollFd::new(&outbox.wake, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll") == 1
    }

    #[test]
    fn the_descriptor_is_readable_exactly_while_events_wait() {
        let outbox = Outbox::new(8).expect("eventfd");
        assert!(!is_readable(&outbox));
        outbox.append(&mut vec![event(EventKind::Path), event(EventKind::Path)]);
        assert!(is_readable(&outbox));
        assert_eq!(outbox.drain(1).len(), 1);
        assert!(is_readable(&outbox), "one is left");
        assert_eq!(outbox.drain(9).len(), 1);
        assert!(!is_readable(&outbox));
        assert!(outbox.drain(9).is_empty());
        outbox.append(&mut vec![event(EventKind::Path)]);
        assert!(is_readable(&outbox), "armed again");
    }

    #[test]
    fn state_events_always_fit_and_what_is_dropped_is_counted() {
        let outbox = Outbox::new(2).expect("eventfd");
        for _ in 0..5 {
            outbox.append(&mut vec![event(EventKind::Path), event(EventKind::Phase(Phase::Online))]);
        }
        assert_eq!(outbox.dropped_total(), 3);
        let taken = outbox.drain(100);
        assert_eq!(taken.iter().filter(|event| event.kind.is_state()).count(), 5);
        assert_eq!(taken.len(), 7);
        outbox.append(&mut vec![event(EventKind::Path)]);
        assert_eq!(outbox.drain(100).len(), 1, "room again after a drain");
    }

    #[test]
    fn one_messages_event_stands_for_all_that_wait() {
        let outbox = Outbox::new(2).expect("eventfd");
        for _ in 0..5 {
            outbox.append(&mut vec![event(EventKind::Messages), event(EventKind::Messages)]);
        }
        assert_eq!(outbox.drain(100).len(), 1);
        outbox.append(&mut vec![event(EventKind::Messages)]);
        assert_eq!(outbox.drain(100).len(), 1, "and the next one is told again");
        assert_eq!(outbox.dropped_total(), 0);
    }

    #[test]
    fn connections_are_refused_before_undrained_state_events_fill_the_memory() {
        let outbox = Outbox::new(2).expect("eventfd");
        outbox.lock().state_events = MAX_UNDRAINED_STATE_EVENTS - 1;
        assert!(outbox.admits_connection());
        outbox.append(&mut vec![event(EventKind::Phase(Phase::Closed))]);
        assert!(!outbox.admits_connection());
    }
}

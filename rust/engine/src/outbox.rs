//! Events on their way to Python: a bounded queue and an eventfd.
//!
//! The descriptor is readable exactly while the queue holds something. Both change under one lock, so a wake-up is
//! neither lost nor repeated: the first event writes to the descriptor, the drain that empties the queue reads it.
//!
//! State events (`phase`, `online`, `probe`, `closed`, `sent`, `store`, `stopped`) always fit: a connection makes a handful
//! of them and [`Outbox::admits_connection`] refuses a new connection long before undrained ones could fill the memory; a
//! text that was asked for has one. A
//! probe may change its verdict any number of times; the newest takes the place of one that waits. All others are
//! dropped and counted when `capacity` of them wait. `messages` says only that there are some, so one that waits stands
//! for all.

use crate::event::{Event, EventKind};
use runner_client::Probe;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// How many events were drained so far: the place of the first of `events` among all that ever were in it.
    drained: u64,
    /// The place of the verdict that waits, for each probe of each connection that has one.
    verdicts: HashMap<(Arc<str>, u64, Probe), u64>,
}

impl Queue {
    /// Puts a newer verdict of the same probe where the older one waits; false when none does.
    fn replace_verdict(&mut self, event: &Event) -> bool {
        let Some(key) = verdict_key(event) else { return false };
        let next = self.drained + self.events.len() as u64;
        let place = *self.verdicts.entry(key).or_insert(next);
        let waiting = usize::try_from(place - self.drained).ok().and_then(|at| self.events.get_mut(at));
        waiting.map(|waiting| waiting.clone_from(event)).is_some()
    }
}

/// Whose verdict an event is.
fn verdict_key(event: &Event) -> Option<(Arc<str>, u64, Probe)> {
    match event.kind {
        EventKind::Probe { probe, .. } => Some((Arc::clone(&event.session_id), event.connection, probe)),
        _ => None,
    }
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
            if queue.replace_verdict(&event) {
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
        queue.drained += count as u64;
        for event in &taken {
            if let Some(key) = verdict_key(event) {
                queue.verdicts.remove(&key);
            } else if matches!(event.kind, EventKind::Messages) {
                queue.has_messages = false;
            }
        }
        if queue.events.is_empty() {
            // A burst must not hold its memory for ever.
            if queue.events.capacity() > 4096 {
                queue.events = VecDeque::new();
                queue.verdicts = HashMap::new();
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

    fn verdict(connection: u64, probe: Probe, healthy: bool) -> Event {
        Event { connection, ..event(EventKind::Probe { probe, healthy, detail: "" }) }
    }

    fn verdicts(events: &[Event]) -> Vec<(u64, Probe, bool)> {
        let told = |event: &Event| match event.kind {
            EventKind::Probe { probe, healthy, .. } => Some((event.connection, probe, healthy)),
            _ => None,
        };
        events.iter().filter_map(told).collect()
    }

    #[test]
    fn the_newest_verdict_of_each_probe_waits_in_the_place_of_the_first_and_is_bounded() {
        let outbox = Outbox::new(1).expect("eventfd");
        outbox.append(&mut vec![event(EventKind::Path), event(EventKind::Path)]);
        for flip in 0..1001 {
            outbox.append(&mut vec![
                verdict(1, Probe::Pong, flip % 2 == 1),
                verdict(1, Probe::SendUnacked, false),
                verdict(2, Probe::Pong, flip % 2 == 0),
            ]);
        }
        outbox.append(&mut vec![event(EventKind::Phase(Phase::Closing))]);
        assert_eq!((outbox.depth(), outbox.dropped_total()), (5, 1));
        assert_eq!(outbox.drain(2).len(), 2, "the first verdict is taken");
        outbox.append(&mut vec![verdict(1, Probe::Pong, true), verdict(2, Probe::Pong, false)]);
        let taken = outbox.drain(100);
        assert_eq!(
            verdicts(&taken),
            [(1, Probe::SendUnacked, false), (2, Probe::Pong, false), (1, Probe::Pong, true)],
            "replaced while it waits, new when it was taken"
        );
        assert!(outbox.lock().verdicts.is_empty());
        assert_eq!(outbox.lock().state_events, 0);
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

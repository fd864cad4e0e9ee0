//! One deadline per session, earliest first: an indexed 4-ary heap.
//!
//! A session's deadline moves with every stanza, so moving must be cheap and must leave nothing behind: a plain
//! heap with stale entries would grow with traffic. `position` finds the entry of a slot, and moving it is a sift.
//! Memory: 16 bytes per armed slot and 4 per slot ever used.

use runner_proto::time::Instant;

/// Deadlines keyed by slot.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// Heap order by deadline; ties in any order.
    heap: Vec<Entry>,
    /// Index into `heap` of each slot, [`ABSENT`] when it has no deadline.
    position: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Instant,
    slot: u32,
}

const ABSENT: u32 = u32::MAX;
/// Children of a node; four keep the heap half as deep as two and siblings in one cache line.
const ARITY: usize = 4;

impl Timers {
    /// Sets, moves or (with `None`) removes the deadline of `slot`.
    pub(crate) fn set(&mut self, slot: u32, at: Option<Instant>) {
        let index = slot as usize;
        if self.position.len() <= index {
            if at.is_none() {
                return;
            }
            self.position.resize(index + 1, ABSENT);
        }
        match (self.position[index], at) {
            (ABSENT, None) => {}
            (ABSENT, Some(at)) => {
                self.position[index] = self.heap.len() as u32;
                self.heap.push(Entry { at, slot });
                self.sift_up(self.heap.len() - 1);
            }
            (place, None) => self.remove(place as usize),
            (place, Some(at)) => {
                let place = place as usize;
                let earlier = at < self.heap[place].at;
                self.heap[place].at = at;
                if earlier { self.sift_up(place) } else { self.sift_down(place) }
            }
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    /// Takes a slot whose deadline is at or before `now`, and its deadline.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(u32, Instant)> {
        let first = *self.heap.first()?;
        if first.at > now {
            return None;
        }
        self.remove(0);
        Some((first.slot, first.at))
    }

    fn remove(&mut self, place: usize) {
        let removed = self.heap.swap_remove(place);
        self.position[removed.slot as usize] = ABSENT;
        if let Some(moved) = self.heap.get(place) {
            self.position[moved.slot as usize] = place as u32;
            self.sift_up(place);
            self.sift_down(place);
        }
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.heap[parent].at <= self.heap[place].at {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let first = place * ARITY + 1;
            let last = (first + ARITY).min(self.heap.len());
            let Some(least) = (first..last).min_by_key(|&child| self.heap[child].at) else { return };
            if self.heap[place].at <= self.heap[least].at {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.position[self.heap[a].slot as usize] = a as u32;
        self.position[self.heap[b].slot as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        Clear(u32),
        Pop(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..40_u32, 0..100_u64).prop_map(|(slot, at)| Step::Set(slot, at)),
            1 => (0..40_u32).prop_map(Step::Clear),
            2 => (0..100_u64).prop_map(Step::Pop),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_of_deadlines(steps in steps()) {
            let (mut timers, mut model) = (Timers::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Set(slot, at) => {
                        timers.set(slot, Some(Instant::from_micros(at)));
                        model.insert(slot, at);
                    }
                    Step::Clear(slot) => {
                        timers.set(slot, None);
                        model.remove(&slot);
                    }
                    Step::Pop(now) => {
                        while let Some((slot, at)) = timers.pop_due(Instant::from_micros(now)) {
                            let earliest = model.values().min().copied();
                            prop_assert_eq!(earliest, Some(at.as_micros()));
                            prop_assert_eq!(model.remove(&slot), Some(at.as_micros()));
                        }
                        prop_assert!(model.values().all(|&at| at > now));
                    }
                }
                prop_assert_eq!(timers.next().map(Instant::as_micros), model.values().min().copied());
            }
        }
    }

    #[test]
    fn a_deadline_is_due_at_its_instant_and_not_before() {
        let mut timers = Timers::default();
        timers.set(3, Some(Instant::from_micros(10)));
        assert_eq!(timers.pop_due(Instant::from_micros(9)), None);
        assert_eq!(timers.pop_due(Instant::from_micros(10)), Some((3, Instant::from_micros(10))));
        assert_eq!(timers.pop_due(Instant::from_micros(11)), None);
    }

    #[test]
    fn moving_a_deadline_leaves_nothing_behind() {
        let mut timers = Timers::default();
        for at in 0..10_000 {
            timers.set(1, Some(Instant::from_micros(at)));
        }
        assert_eq!(timers.heap.len(), 1);
    }
}

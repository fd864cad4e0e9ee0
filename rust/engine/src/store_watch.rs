//! What the store's answers, or their absence, say of it. Pure.

use runner_client::StoreState;
use runner_proto::time::Instant;
use runner_store::Pressure;
use std::time::Duration;

/// The store lags when something waits for it longer than this. Fifty times a slow disk's fsync.
const LAGS_AFTER: Duration = Duration::from_secs(1);
/// Most bytes of messages that may wait, in all connections together, for records that a lock keeps from them.
const MOST_UNOPENED_BYTES: usize = 32 * 1024 * 1024;

/// What one turn of the loop sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) now: Instant,
    /// When the oldest question was asked that has no answer.
    pub(crate) oldest: Option<Instant>,
    /// The store has answered something in this turn.
    pub(crate) has_answered: bool,
    pub(crate) pressure: Pressure,
    pub(crate) unopened_bytes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct StoreWatch {
    state: StoreState,
    /// When another process was last seen to hold the lock.
    lock_seen_at: Option<Instant>,
    /// Up to here, the lock explains that something waits.
    explained_until: Instant,
}

impl StoreWatch {
    pub(crate) fn state(&self) -> StoreState {
        self.state
    }

    /// Takes a look; the new state, when it is another one.
    pub(crate) fn look(&mut self, look: Look) -> Option<StoreState> {
        let state = self.judge(look);
        (std::mem::replace(&mut self.state, state) != state).then_some(state)
    }

    fn judge(&mut self, look: Look) -> StoreState {
        let Look { now, oldest, has_answered, pressure, unopened_bytes } = look;
        if pressure.is_locked {
            (self.lock_seen_at, self.explained_until) = (Some(now), now);
        }
        let Some(oldest) = oldest else { return StoreState::Commits };
        // The lock has gone, and what waited for it is being worked off.
        let is_of_the_lock = self.lock_seen_at.is_some_and(|at| oldest <= at);
        if is_of_the_lock && has_answered {
            self.explained_until = now;
        }
        let is_explained = is_of_the_lock && now - self.explained_until < LAGS_AFTER;
        let is_full = pressure.is_filling || unopened_bytes >= MOST_UNOPENED_BYTES;
        if is_explained && is_full {
            StoreState::LockedAndFull
        } else if now - oldest < LAGS_AFTER {
            StoreState::Commits
        } else if is_explained {
            StoreState::Locked
        } else {
            StoreState::Hangs
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Pressure = Pressure { is_locked: false, is_filling: false };
    const HELD: Pressure = Pressure { is_locked: true, is_filling: false };

    fn at(tenths: u64) -> Instant {
        Instant::from_micros(tenths * 100_000)
    }

    fn look(now: u64, oldest: Option<u64>, pressure: Pressure) -> Look {
        Look { now: at(now), oldest: oldest.map(at), has_answered: false, pressure, unopened_bytes: 0 }
    }

    #[test]
    fn a_store_that_owes_an_answer_for_a_second_hangs() {
        let mut watch = StoreWatch::default();
        assert_eq!(watch.look(look(10, Some(10), FREE)), None);
        assert_eq!(watch.look(look(19, Some(10), FREE)), None);
        assert_eq!(watch.look(look(20, Some(10), FREE)), Some(StoreState::Hangs));
        assert_eq!(watch.look(look(30, Some(10), FREE)), None, "told once");
        assert_eq!(watch.look(look(31, Some(29), FREE)), Some(StoreState::Commits));
        assert_eq!(watch.look(look(99, None, FREE)), None);
    }

    #[test]
    fn a_lock_explains_a_wait_for_as_long_as_it_is_held_and_worked_off() {
        let mut watch = StoreWatch::default();
        assert_eq!(watch.look(look(19, Some(10), HELD)), None, "not before anybody waits");
        assert_eq!(watch.look(look(20, Some(10), HELD)), Some(StoreState::Locked));
        assert_eq!(watch.look(look(9000, Some(10), HELD)), None);
        // It has gone, and group by group what waited is committed.
        for now in [9001, 9010, 9019, 9028] {
            let answered = Look { has_answered: true, ..look(now, Some(10 + now - 9000), FREE) };
            assert_eq!(watch.look(answered), None);
        }
        assert_eq!(watch.look(look(9037, Some(38), FREE)), None);
        assert_eq!(
            watch.look(look(9038, Some(38), FREE)),
            Some(StoreState::Hangs),
            "a second without an answer"
        );
    }

    /// Else a store that falls behind for another reason would be excused for ever.
    #[test]
    fn what_was_asked_after_the_lock_has_gone_is_not_explained_by_it() {
        let mut watch = StoreWatch::default();
        watch.look(look(20, Some(10), HELD));
        let answered = Look { has_answered: true, ..look(40, Some(21), FREE) };
        assert_eq!(watch.look(answered), Some(StoreState::Hangs));
    }

    #[test]
    fn nothing_more_is_read_under_a_lock_when_memory_is_used_up() {
        let mut watch = StoreWatch::default();
        let filling = Pressure { is_locked: true, is_filling: true };
        assert_eq!(watch.look(look(11, Some(10), filling)), Some(StoreState::LockedAndFull), "at once");
        assert_eq!(watch.look(look(21, Some(10), HELD)), Some(StoreState::Locked));
        let unopened = Look { unopened_bytes: MOST_UNOPENED_BYTES, ..look(22, Some(10), HELD) };
        assert_eq!(watch.look(unopened), Some(StoreState::LockedAndFull));
        let other_cause = Look { unopened_bytes: MOST_UNOPENED_BYTES, ..look(99, Some(98), FREE) };
        assert_eq!(StoreWatch::default().look(other_cause), None, "no lock, and nothing lags");
    }
}

//! How many retry receipts one connection sends, and how many it answers: a token bucket.
//!
//! When the keys of a session are gone, everything that waited at the server fails at once. Each sender is asked
//! again in that case, in turn: what is above this at once is a storm, which asking at once feeds.

use std::time::Duration;

use runner_proto::time::Instant;

/// Retry receipts at once. A backlog of a chat or two.
const BURST: u32 = 60;

/// From one to the next after that.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limiter {
    left: u32,
    /// When the last token was added.
    filled_at: Option<Instant>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { left: BURST, filled_at: None }
    }
}

impl Limiter {
    /// When there is one more, after [`take`](Self::take) has said no.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.filled_at.map(|filled_at| filled_at + EVERY)
    }

    /// Whether one more may be sent now.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let filled_at = *self.filled_at.get_or_insert(now);
        let earned = now.saturating_duration_since(filled_at).as_secs() / EVERY.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(BURST);
            self.filled_at = Some(filled_at + EVERY.saturating_mul(earned));
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    #[test]
    fn a_burst_passes_and_then_one_a_second() {
        let mut limiter = Limiter::default();
        assert_eq!((0..100).filter(|_| limiter.take(at(0))).count(), BURST as usize);
        assert!(!limiter.take(at(999)));
        assert_eq!(limiter.next_at(), Some(at(1000)));
        assert!(limiter.take(at(1000)));
        assert!(!limiter.take(at(1999)));
        assert_eq!((0..100).filter(|n| limiter.take(at(2000 + n * 50))).count(), 5);
        assert_eq!(
            (0..100).filter(|_| limiter.take(at(1_000_000_000))).count(),
            BURST as usize,
            "no more is saved up"
        );
    }
}

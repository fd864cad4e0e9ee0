//! The driver's clock as a plain number; nothing here reads one.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A point on the driver's monotonic clock, in microseconds since a start of its choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The instant `micros` microseconds after the clock's start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the clock's start.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of the clock: a deadline that far away never comes.
    fn add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// Same as [`saturating_duration_since`](Self::saturating_duration_since).
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_and_differences_saturate() {
        let start = Instant::from_micros(5);
        assert_eq!(start + Duration::from_micros(7), Instant::from_micros(12));
        assert_eq!(start + Duration::MAX, Instant::from_micros(u64::MAX));
        assert_eq!(start - Instant::from_micros(9), Duration::ZERO);
        assert_eq!(Instant::from_micros(9) - start, Duration::from_micros(4));
    }
}

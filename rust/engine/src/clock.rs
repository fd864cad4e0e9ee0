//! The engine's clock, as an argument of the thread: tests bring one that they can advance.

use runner_proto::time::Instant;
use std::time::SystemTime;

/// Monotonic time for deadlines and wall time for dates.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since the clock was made; never goes back.
    fn now(&self) -> Instant;
    /// Unix milliseconds.
    fn unix_ms(&self) -> u64;
}

/// The operating system's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }

    fn unix_ms(&self) -> u64 {
        // 0 before 1970.
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

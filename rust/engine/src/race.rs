//! Which address to try when: IPv6 and IPv4 raced (RFC 8305), as data; the driver owns the sockets.

use runner_proto::time::Instant;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// How long one attempt runs alone before the next address joins it (RFC 8305 §5 recommends 250 ms).
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses tried at most; a name with more has enough of them.
const MAX_ADDRESSES: usize = 8;

/// The addresses of one dial that were not tried yet.
#[derive(Debug)]
pub(crate) struct Race {
    waiting: VecDeque<SocketAddr>,
    running: usize,
    /// When the next address may start although attempts are running.
    next_at: Instant,
}

impl Race {
    /// Families alternate, beginning with the family of the first address (the resolver sorted by RFC 6724).
    pub(crate) fn new(addresses: &[SocketAddr], now: Instant) -> Self {
        let begins_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
            addresses.iter().copied().partition(|address| address.is_ipv6() == begins_v6);
        let mut waiting = VecDeque::with_capacity(addresses.len().min(MAX_ADDRESSES));
        while waiting.len() < MAX_ADDRESSES {
            let Some(address) = first.pop_front() else { break };
            waiting.push_back(address);
            if !second.is_empty() {
                std::mem::swap(&mut first, &mut second);
            }
        }
        Self { waiting, running: 0, next_at: now }
    }

    /// The address to start now, if one is due. Call until `None`.
    pub(crate) fn poll_start(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.running > 0 && now < self.next_at {
            return None;
        }
        let address = self.waiting.pop_front()?;
        self.running += 1;
        self.next_at = now + ATTEMPT_DELAY;
        Some(address)
    }

    /// One running attempt failed; the next address is due at once.
    pub(crate) fn on_failed(&mut self, now: Instant) {
        self.running = self.running.saturating_sub(1);
        self.next_at = now;
    }

    /// When [`poll_start`](Self::poll_start) will have something to give.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next_at)
    }

    /// All addresses failed.
    pub(crate) fn is_lost(&self) -> bool {
        self.waiting.is_empty() && self.running == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn families_alternate_from_the_first_one() {
        let all = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"]);
        let mut race = Race::new(&all, Instant::default());
        let mut started = Vec::new();
        while let Some(address) = race.poll_start(Instant::default()) {
            started.push(address);
            race.on_failed(Instant::default());
        }
        assert_eq!(started, addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"]));
        assert!(race.is_lost());
    }

    #[test]
    fn the_next_address_joins_after_the_delay_and_not_before() {
        let start = Instant::from_micros(1_000_000);
        let mut race = Race::new(&addresses(&["[::1]:1", "1.1.1.1:1"]), start);
        assert!(race.poll_start(start).is_some());
        assert_eq!(race.poll_timeout(), Some(start + ATTEMPT_DELAY));
        assert_eq!(race.poll_start(Instant::from_micros(1_249_999)), None);
        assert!(race.poll_start(start + ATTEMPT_DELAY).is_some());
        assert_eq!(race.poll_timeout(), None);
        race.on_failed(start);
        assert!(!race.is_lost(), "one attempt still runs");
        race.on_failed(start);
        assert!(race.is_lost());
    }

    #[test]
    fn a_failure_starts_the_next_address_at_once() {
        let mut race = Race::new(&addresses(&["[::1]:1", "1.1.1.1:1"]), Instant::default());
        assert!(race.poll_start(Instant::default()).is_some());
        race.on_failed(Instant::from_micros(7));
        assert_eq!(race.poll_timeout(), Some(Instant::from_micros(7)));
        assert!(race.poll_start(Instant::from_micros(7)).is_some());
    }

    #[test]
    fn a_name_without_addresses_is_lost_from_the_start() {
        assert!(Race::new(&[], Instant::default()).is_lost());
    }
}

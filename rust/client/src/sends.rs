//! Messages sent, until the server acknowledges them.

use std::time::Duration;

use runner_proto::time::Instant;

/// The sends of one connection that the server has not acknowledged. Owns no heap while there are none.
#[derive(Debug, Default)]
pub(crate) struct Sends(Vec<Sent>);

#[derive(Debug)]
struct Sent {
    id: Box<str>,
    at: Instant,
    /// It is over its time and has been told.
    is_overdue: bool,
}

/// What time did to the sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// A send was not acknowledged in time; it is still remembered.
    Unacknowledged,
    /// A send is given up.
    GivenUp,
}

impl Sends {
    pub(crate) fn insert(&mut self, id: Box<str>, now: Instant) {
        self.0.push(Sent { id, at: now, is_overdue: false });
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The send with this id is acknowledged: how long it took.
    pub(crate) fn acknowledge(&mut self, is_id: impl Fn(&str) -> bool, now: Instant) -> Option<Duration> {
        let index = self.0.iter().position(|sent| is_id(&sent.id))?;
        Some(now - self.remove(index).at)
    }

    /// The next send that is over one of its times.
    pub(crate) fn poll_overdue(&mut self, now: Instant, ack: Duration, give_up: Duration) -> Option<Overdue> {
        if let Some(index) = self.0.iter().position(|sent| sent.at + give_up <= now) {
            let sent = self.remove(index);
            return Some(if sent.is_overdue { Overdue::GivenUp } else { Overdue::Unacknowledged });
        }
        let sent = self.0.iter_mut().find(|sent| !sent.is_overdue && sent.at + ack <= now)?;
        sent.is_overdue = true;
        Some(Overdue::Unacknowledged)
    }

    /// Nothing was read for `by`, until now: that much of the waiting does not count. What left meanwhile has waited for
    /// less.
    pub(crate) fn postpone(&mut self, by: Duration, now: Instant) {
        for sent in &mut self.0 {
            sent.at = (sent.at + by).min(now);
        }
    }

    pub(crate) fn poll_timeout(&self, ack: Duration, give_up: Duration) -> Option<Instant> {
        self.0.iter().map(|sent| sent.at + if sent.is_overdue { give_up } else { ack.min(give_up) }).min()
    }

    fn remove(&mut self, index: usize) -> Sent {
        let sent = self.0.swap_remove(index);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK: Duration = Duration::from_secs(60);
    const GIVE_UP: Duration = Duration::from_secs(75);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_send_is_overdue_at_its_time_and_given_up_later() {
        let mut sends = Sends::default();
        sends.insert("A".into(), at(0));
        assert_eq!(sends.poll_timeout(ACK, GIVE_UP), Some(at(60)));
        assert_eq!(sends.poll_overdue(at(59), ACK, GIVE_UP), None);
        assert_eq!(sends.poll_overdue(at(60), ACK, GIVE_UP), Some(Overdue::Unacknowledged));
        assert_eq!(sends.poll_overdue(at(60), ACK, GIVE_UP), None, "said once");
        assert_eq!(sends.poll_timeout(ACK, GIVE_UP), Some(at(75)));
        assert_eq!(sends.poll_overdue(at(75), ACK, GIVE_UP), Some(Overdue::GivenUp));
        assert_eq!((sends.poll_timeout(ACK, GIVE_UP), sends.0.capacity()), (None, 0));
    }

    #[test]
    fn an_acknowledged_send_is_forgotten_with_its_round_trip() {
        let mut sends = Sends::default();
        sends.insert("A".into(), at(0));
        sends.insert("B".into(), at(1));
        assert_eq!(sends.acknowledge(|id| id == "C", at(3)), None);
        assert_eq!(sends.acknowledge(|id| id == "A", at(3)), Some(Duration::from_secs(3)));
        assert_eq!(sends.acknowledge(|id| id == "A", at(3)), None);
        assert!(!sends.is_empty());
    }

    #[test]
    fn a_pause_counts_for_a_send_only_from_when_it_left() {
        let mut sends = Sends::default();
        sends.insert("before".into(), at(10));
        sends.insert("during".into(), at(40));
        // Nothing was read from 20 to 50.
        sends.postpone(Duration::from_secs(30), at(50));
        assert_eq!(sends.acknowledge(|id| id == "during", at(51)), Some(Duration::from_secs(1)));
        assert_eq!(sends.poll_timeout(ACK, GIVE_UP), Some(at(100)));
        sends.insert("during".into(), at(40));
        sends.postpone(Duration::from_secs(30), at(50));
        assert_eq!(sends.poll_overdue(at(110), ACK, GIVE_UP), Some(Overdue::Unacknowledged));
    }

    #[test]
    fn a_driver_that_comes_late_still_learns_of_the_missing_acknowledgement() {
        let mut sends = Sends::default();
        sends.insert("A".into(), at(0));
        assert_eq!(sends.poll_overdue(at(100), ACK, GIVE_UP), Some(Overdue::Unacknowledged));
        assert_eq!(sends.poll_overdue(at(100), ACK, GIVE_UP), None);
    }
}

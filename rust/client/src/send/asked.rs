//! Who has asked for a message of ours again and waits for it: a device that has lost its sessions asks for all that it
//! was sent at once, and is sent all of it, in turn, at a rate.
//!
//! It lasts as long as the connection. The server has its answer to each asking when it is here, and gives none a second
//! time; docs/protocol.md, "Sending", says what then becomes of it.

use std::collections::VecDeque;

use runner_proto::{jid::Jid, time::Instant};
use runner_signal::Bundle;

use super::{Again, fields::hash};
use crate::receive::Limiter;

/// Askings of one connection that wait; those beyond it are not answered. A quarter of an hour's worth, and about half a
/// megabyte.
const MAX_WAITING: usize = 1024;

/// Longest name of a message, or of who asks, bytes: nothing longer was ever sent, or to anybody.
pub(super) const MAX_NAME: usize = u8::MAX as usize;

/// One device that asks for one message.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) id: Box<str>,
    /// The group that the message went to.
    pub(super) group: Option<Jid>,
    pub(super) again: Again,
    /// The keys that came with it.
    pub(super) bundle: Option<Bundle>,
}

/// The askings of one connection.
#[derive(Debug, Default)]
pub(crate) struct Askings {
    /// Apart from that of our own asking, since anybody can ask: a flood does not keep us from it.
    limiter: Limiter,
    /// The oldest first; at most one for a message and device.
    waiting: VecDeque<Waiting>,
}

/// Small, and looked through for each asking.
#[derive(Debug)]
struct Waiting {
    mark: u64,
    asking: Box<Asking>,
}

impl Askings {
    /// Whether an asking of this device for this message would be kept.
    pub(super) fn fits(&self, id: &str, device: &Jid) -> bool {
        self.waiting.len() < MAX_WAITING || self.place(id, device).is_some()
    }

    /// Keeps one, if it [`fits`](Self::fits). One of the same device for the same message goes: what is newer has the
    /// keys that the device has now.
    pub(super) fn push(&mut self, asking: Asking) {
        let place = self.place(&asking.id, &asking.again.device);
        let known = place.and_then(|place| self.waiting.get_mut(place));
        if let Some(known) = known {
            *known.asking = asking;
        } else if self.waiting.len() < MAX_WAITING {
            let mark = mark(&asking.id, &asking.again.device);
            self.waiting.push_back(Waiting { mark, asking: Box::new(asking) });
        }
    }

    /// The one whose turn it is, when it may be answered now.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Asking> {
        if self.waiting.is_empty() || !self.limiter.take(now) {
            return None;
        }
        let Waiting { asking, .. } = self.waiting.pop_front()?;
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(*asking)
    }

    /// When [`pop`](Self::pop) gives the next one.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.limiter.next_at().filter(|_| !self.waiting.is_empty())
    }

    /// How many wait.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }

    fn place(&self, id: &str, device: &Jid) -> Option<usize> {
        let mark = mark(id, device);
        self.waiting.iter().position(|Waiting { mark: of, asking }| {
            *of == mark && *asking.id == *id && asking.again.device == *device
        })
    }
}

fn mark(id: &str, device: &Jid) -> u64 {
    hash(id) ^ hash(&device.user).rotate_left(17) ^ u64::from(device.device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(id: &str, device: &str, count: u64) -> Asking {
        let device = device.parse().expect("a jid");
        let again = Again { device, count, registration_id: None, is_session_lost: false };
        Asking { id: id.into(), group: None, again, bundle: None }
    }

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    #[test]
    fn one_of_a_message_and_device_waits_in_its_old_place_with_the_newest_keys() {
        let (one, two) = ("15550002222@s.whatsapp.net", "15550002222:7@s.whatsapp.net");
        let mut askings = Askings::default();
        for (id, device, count) in [("A", one, 1), ("B", one, 1), ("A", two, 1), ("A", one, 2)] {
            askings.push(asking(id, device, count));
        }
        let popped: Vec<_> = std::iter::from_fn(|| askings.pop(at(1))).collect();
        let popped: Vec<_> = popped
            .iter()
            .map(|asking| (&*asking.id, asking.again.device.device, asking.again.count))
            .collect();
        assert_eq!(popped, [("A", 0, 2), ("B", 0, 1), ("A", 7, 1)]);
        assert_eq!((askings.waiting.capacity(), askings.poll_timeout()), (0, None));
    }

    #[test]
    fn so_many_wait_and_one_that_waits_is_renewed_also_when_all_places_are_taken() {
        let device = "15550002222@s.whatsapp.net";
        let jid: Jid = device.parse().expect("a jid");
        let mut askings = Askings::default();
        for n in 0..MAX_WAITING {
            let id = format!("M{n}");
            assert!(askings.fits(&id, &jid));
            askings.push(asking(&id, device, 1));
        }
        assert!(!askings.fits("more", &jid));
        askings.push(asking("more", device, 1));
        assert!(askings.fits("M7", &jid));
        askings.push(asking("M7", device, 3));
        assert_eq!(askings.len() as usize, MAX_WAITING);
        let first: Vec<_> = std::iter::from_fn(|| askings.pop(at(1))).collect();
        assert_eq!((first.len(), first[7].again.count), (60, 3));
        assert_eq!(askings.poll_timeout(), Some(at(2)));
        assert!(askings.pop(at(2)).is_some_and(|asking| *asking.id == *"M60"));
    }
}

//! Requests: their ids, and who waits for an answer until when.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use crate::{entropy::Entropy, time::Instant};

/// The ids of one connection: `<random u16>.<random u16>-N`, as the web client writes them, N from 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids {
    prefix: [u16; 2],
    last: u32,
}

impl Ids {
    /// Ids with a random prefix, so that a late answer to another connection never matches.
    pub fn new(entropy: &mut dyn Entropy) -> Self {
        let random = entropy.u32();
        Self { prefix: [(random >> 16) as u16, random as u16], last: 0 }
    }

    /// The next number. After 2^32 requests it begins anew; no connection lives that long.
    pub const fn next_number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    /// How `number` is written.
    #[must_use]
    pub fn text(&self, number: u32) -> IdText {
        let [high, low] = self.prefix;
        let mut text = IdText::default();
        // It always fits: 5 + 1 + 5 + 1 + 10 digits and signs.
        let _ = write!(text, "{high}.{low}-{number}");
        text
    }

    /// The number in `id`, when this connection wrote it.
    #[must_use]
    pub fn number(&self, id: impl fmt::Display) -> Option<u32> {
        let mut text = IdText::default();
        write!(text, "{id}").ok()?;
        let (prefix, number) = text.as_str().split_once('-')?;
        let (high, low) = prefix.split_once('.')?;
        let ours = [high.parse::<u16>().ok()?, low.parse::<u16>().ok()?] == self.prefix;
        let number = number.parse().ok()?;
        (ours && (1..=self.last).contains(&number)).then_some(number)
    }
}

/// The text of an id, on the stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdText {
    bytes: [u8; Self::CAPACITY],
    len: u8,
}

impl IdText {
    const CAPACITY: usize = 22;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl fmt::Write for IdText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let start = usize::from(self.len);
        let slot = self.bytes.get_mut(start..start + part.len()).ok_or(fmt::Error)?;
        slot.copy_from_slice(part.as_bytes());
        self.len += part.len() as u8; // at most CAPACITY
        Ok(())
    }
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The number in its id.
    pub number: u32,
    /// What the asker calls it; nothing here looks at it.
    pub purpose: u8,
    /// When it was sent.
    pub sent: Instant,
    /// When it counts as unanswered.
    pub deadline: Instant,
}

/// The requests of one connection that wait for an answer. Owns no heap while there are none.
#[derive(Debug, Default)]
pub struct Requests(Vec<Pending>);

impl Requests {
    /// Remembers a request just sent.
    pub fn insert(&mut self, number: u32, purpose: u8, now: Instant, timeout: Duration) {
        self.0.push(Pending { number, purpose, sent: now, deadline: now + timeout });
    }

    /// Takes the request that `number` answers; `None` when it is not (or no longer) waited for.
    pub fn take(&mut self, number: u32) -> Option<Pending> {
        let index = self.0.iter().position(|pending| pending.number == number)?;
        Some(self.remove(index))
    }

    /// Takes one request whose deadline has passed.
    pub fn take_expired(&mut self, now: Instant) -> Option<Pending> {
        let index = self.0.iter().position(|pending| pending.deadline <= now)?;
        Some(self.remove(index))
    }

    /// Gives all of them more time.
    pub fn postpone(&mut self, by: Duration) {
        for pending in &mut self.0 {
            pending.deadline = pending.deadline + by;
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.0.iter().map(|pending| pending.deadline).min()
    }

    /// How many wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn remove(&mut self, index: usize) -> Pending {
        let pending = self.0.swap_remove(index);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u32);

    impl Entropy for Fixed {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.0.to_be_bytes());
        }
    }

    #[test]
    fn ids_look_like_the_web_clients_and_lead_back_to_their_number() {
        let mut ids = Ids::new(&mut Fixed(25_530 << 16 | 33_595));
        assert_eq!(ids.next_number(), 1);
        assert_eq!(ids.text(1).as_str(), "25530.33595-1");
        assert_eq!(ids.number("25530.33595-1"), Some(1));
        for foreign in ["25530.33595-2", "25530.33595-0", "25531.33595-1", "25530.33595", "x", ""] {
            assert_eq!(ids.number(foreign), None, "{foreign}");
        }
        assert_eq!(ids.number("1".repeat(1000)), None);
    }

    #[test]
    fn the_longest_id_fits() {
        let mut ids = Ids::new(&mut Fixed(u32::MAX));
        ids.last = u32::MAX - 1;
        let number = ids.next_number();
        assert_eq!(ids.text(number).as_str(), "65535.65535-4294967295");
        assert_eq!(ids.number(ids.text(number).as_str()), Some(u32::MAX));
    }

    #[test]
    fn a_request_is_answered_or_expires_but_not_both() {
        let start = Instant::from_micros(0);
        let timeout = Duration::from_secs(60);
        let mut requests = Requests::default();
        requests.insert(1, 7, start, timeout);
        requests.insert(2, 8, start + Duration::from_secs(1), timeout);
        assert_eq!(requests.poll_timeout(), Some(start + timeout));
        assert_eq!(requests.take_expired(Instant::from_micros(59_999_999)), None);
        assert_eq!(requests.take_expired(start + timeout).map(|pending| pending.purpose), Some(7));
        assert_eq!(requests.take(1), None);
        assert_eq!(requests.take(2).map(|pending| pending.purpose), Some(8));
        assert_eq!(requests.take(2), None);
        assert_eq!((requests.poll_timeout(), requests.is_empty()), (None, true));
        assert_eq!(requests.0.capacity(), 0, "no heap while nothing waits");
    }
}

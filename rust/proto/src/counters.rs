//! Plain integers about one session, and the ages of the last events. The driver copies them out.

use std::time::Duration;

use crate::time::Instant;

/// Totals of one session; they go on from connection to connection when the driver hands them over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Noise frames received, whole.
    pub frames_received: u64,
    /// Noise frames sent.
    pub frames_sent: u64,
    /// Bytes received above TLS.
    pub bytes_received: u64,
    /// Bytes sent above TLS.
    pub bytes_sent: u64,
    /// Stanzas received that decoded.
    pub stanzas_received: u64,
    /// Frames whose plaintext was not a well-formed stanza.
    pub stanzas_malformed: u64,
    /// Inbound messages read, committed and answered.
    pub messages_received: u64,
    /// Inbound messages that were committed and answered without being read: their content could not be decrypted, or
    /// there was none.
    pub messages_undecrypted: u64,
    /// Inbound messages that did not decode and were refused: kept as dead letters unless they were too long.
    pub messages_undecodable: u64,
    /// Imported Signal records that could not be read, and count as none.
    pub records_unreadable: u32,
    /// Terminal answers sent to inbound stanzas.
    pub answers_sent: u64,
    /// Keep-alive pings sent, second ones included.
    pub pings_sent: u64,
    /// Pongs that matched a ping.
    pub pongs_received: u64,
    /// Requests (iq get or set) sent, pings apart.
    pub requests_sent: u32,
    /// Requests answered with an error or not at all.
    pub requests_failed: u32,
    /// Messages sent that the server has acknowledged.
    pub messages_sent: u64,
    /// The same message sent again, to a device that could not read it.
    pub messages_resent: u32,
    /// Askings for one again that were not answered with it: it is not kept any more, or is none of the asker's; it was sent
    /// as often as it may be; too many waited, or the connection ended.
    pub messages_not_resent: u32,
    /// Messages that were to be sent and are not known to be.
    pub sends_failed: u32,
    /// Stanzas that somebody wanted to send and that fit no frame.
    pub sends_refused: u32,
    /// Inbound stanzas that still wait for their terminal answer.
    pub unanswered: u32,
    /// Since when the oldest of them waits.
    pub oldest_unanswered: Option<Instant>,
    /// The last byte from the peer.
    pub last_data: Option<Instant>,
    /// The last pong that matched a ping.
    pub last_pong: Option<Instant>,
    /// The round trip of that ping.
    pub pong_rtt: Option<Duration>,
    /// The last `<success>`.
    pub online_since: Option<Instant>,
    /// Answered round trips: ping, request, send to ack.
    pub responses: Histogram,
}

impl Counters {
    /// The connection is over, however it ended: what was true of it alone is true no more.
    pub const fn end_connection(&mut self) {
        self.unanswered = 0;
        self.oldest_unanswered = None;
        self.online_since = None;
    }

    /// Adds what `other` has counted. What is true of one connection at one moment is left alone.
    pub fn add_totals(&mut self, other: &Self) {
        self.frames_received += other.frames_received;
        self.frames_sent += other.frames_sent;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.stanzas_received += other.stanzas_received;
        self.stanzas_malformed += other.stanzas_malformed;
        self.messages_received += other.messages_received;
        self.messages_undecrypted += other.messages_undecrypted;
        self.records_unreadable = self.records_unreadable.saturating_add(other.records_unreadable);
        self.answers_sent += other.answers_sent;
        self.pings_sent += other.pings_sent;
        self.pongs_received += other.pongs_received;
        self.requests_sent = self.requests_sent.saturating_add(other.requests_sent);
        self.messages_sent += other.messages_sent;
        self.messages_resent = self.messages_resent.saturating_add(other.messages_resent);
        self.messages_not_resent = self.messages_not_resent.saturating_add(other.messages_not_resent);
        self.sends_failed = self.sends_failed.saturating_add(other.sends_failed);
        self.requests_failed = self.requests_failed.saturating_add(other.requests_failed);
        self.responses.add(&other.responses);
    }
}

/// Upper bounds of the buckets of [`Histogram`], in milliseconds; one more bucket holds what is above the last.
pub const RESPONSE_BOUNDS_MS: [u32; 23] = [
    1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000, 5000, 10_000, 20_000,
    60_000,
];

/// Response times in fixed log-linear buckets: a factor of 1.3 to 2.5 apart, which is how far a percentile read from
/// it can be too high. Inline, because the pings of an idle session fill it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u32; RESPONSE_BOUNDS_MS.len() + 1],
    sum_us: u64,
}

impl Histogram {
    /// Counts one response time.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = RESPONSE_BOUNDS_MS.partition_point(|&bound_ms| u64::from(bound_ms) * 1000 < micros);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.sum_us = self.sum_us.saturating_add(micros);
    }

    /// Adds what `other` has recorded.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(other.buckets) {
            *count = count.saturating_add(more);
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// Counts at or below each bound of [`RESPONSE_BOUNDS_MS`], not cumulative; the last is the overflow.
    #[must_use]
    pub const fn buckets(&self) -> &[u32; RESPONSE_BOUNDS_MS.len() + 1] {
        &self.buckets
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|&count| u64::from(count)).sum()
    }

    /// The sum of all of them, in microseconds.
    #[must_use]
    pub const fn sum_us(&self) -> u64 {
        self.sum_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::ZERO);
        histogram.record(Duration::from_millis(1));
        histogram.record(Duration::from_micros(1001));
        histogram.record(Duration::from_secs(60));
        histogram.record(Duration::from_micros(60_000_001));
        let buckets = histogram.buckets();
        assert_eq!((buckets[0], buckets[1], buckets[22], buckets[23]), (2, 1, 1, 1));
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.sum_us(), 1000 + 1001 + 60_000_000 + 60_000_001);
    }

    #[test]
    fn totals_are_added_and_states_are_not() {
        let mut all = Counters { frames_sent: 1, requests_failed: u32::MAX, ..Counters::default() };
        let mut one = Counters { frames_sent: 2, requests_failed: 1, unanswered: 4, ..Counters::default() };
        one.responses.record(Duration::from_millis(1));
        all.add_totals(&one);
        assert_eq!((all.frames_sent, all.requests_failed, all.unanswered), (3, u32::MAX, 0));
        assert_eq!((all.responses.count(), all.responses.sum_us()), (1, 1000));
    }

    #[test]
    fn bounds_are_in_order() {
        for pair in RESPONSE_BOUNDS_MS.windows(2) {
            assert!(pair[0] < pair[1]);
        }
    }
}

//! Keep-alive pings and the dead-socket clock, as a pure state machine.
//!
//! Rules (docs/protocol.md, "Keep-alive"):
//!
//! 1. A ping goes out every [`min`](KeepAlive::min)–[`max`](KeepAlive::max), drawn anew each time, whatever the
//!    traffic: a ping is 60 bytes, and one that is skipped because "we heard something lately" is what hides a
//!    half-open socket behind our own sends.
//! 2. The dead-socket clock starts at the *first* send after the last byte received, any send. Anchored at the
//!    last send, steady traffic would keep a dead socket alive.
//! 3. When [`second_after`](KeepAlive::second_after) passes after a ping without any byte, a second ping goes out:
//!    one lost stanza is then no verdict.
//! 4. Dead is when that clock has run for [`dead_after`](KeepAlive::dead_after) *and* a ping has gone unanswered
//!    for `second_after` at least. Acks draw no reply, so without the second half silence alone would kill.
//! 5. Each of these has its own timer; nothing waits for the next tick.
//! 6. While reading is paused (the store lags), bytes may wait unread in the socket: the clock stops, pings go on.
//!    It goes on where it stopped: one that began anew would never run out under a store that stalls often.
//!    When the driver comes [`LATE`] after a death was due (a stopped process, a suspended machine), it proves
//!    nothing about the peer either: the clock restarts.
//!
//! Any byte counts, not only pongs. A peer that pongs but does not work is found by the probes of the client.

use std::time::Duration;

use crate::{entropy::Entropy, time::Instant};

/// The settings; all are durations greater than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The least time between two pings.
    pub min: Duration,
    /// The most time between two pings; not below `min`.
    pub max: Duration,
    /// From a ping to the second one, when no byte came.
    pub second_after: Duration,
    /// From the first unanswered send to death.
    pub dead_after: Duration,
}

impl KeepAlive {
    /// Ours: a silent peer is noticed within 32 s, half of them within 21 s.
    pub const DEFAULT: Self = Self {
        min: Duration::from_secs(15),
        max: Duration::from_secs(20),
        second_after: Duration::from_secs(6),
        dead_after: Duration::from_secs(12),
    };

    /// The official web client's, as far as docs/protocol.md "Keep-alive" tells: health check every 15–30 s, dead
    /// 20 s after an unanswered send, no second ping before that.
    pub const WHATSAPP_WEB: Self = Self {
        min: Duration::from_secs(15),
        max: Duration::from_secs(30),
        second_after: Duration::from_secs(20),
        dead_after: Duration::from_secs(20),
    };
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// From here on a missed deadline of death says more about us than about the peer. The driver reads sockets
/// before it runs timers, so this much lag is far out of the ordinary.
pub const LATE: Duration = Duration::from_secs(2);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a ping; then call [`Clock::on_ping`].
    Ping,
    /// Send a second ping, because the first drew no byte; then call [`Clock::on_ping`].
    SecondPing,
    /// The socket is dead. Said once for each time it becomes due; the owner closes.
    Dead,
}

/// The clock of one connection. Keeps no settings, so that they are shared by all sessions.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    next_ping: Instant,
    /// The first send since the last byte received.
    first_send: Option<Instant>,
    /// The first ping since the last byte received.
    first_ping: Option<Instant>,
    second_sent: bool,
    paused: bool,
}

impl Clock {
    /// A clock whose first ping comes within `[min, max]`.
    pub fn new(settings: &KeepAlive, now: Instant, entropy: &mut dyn Entropy) -> Self {
        Self {
            next_ping: now + interval(settings, entropy),
            first_send: None,
            first_ping: None,
            second_sent: false,
            paused: false,
        }
    }

    /// At least one byte came from the peer.
    pub const fn on_receive(&mut self) {
        self.first_send = None;
        self.first_ping = None;
        self.second_sent = false;
    }

    /// Something was sent; pings are told by [`on_ping`](Self::on_ping) instead.
    pub const fn on_send(&mut self, now: Instant) {
        if self.first_send.is_none() {
            self.first_send = Some(now);
        }
    }

    /// A ping was sent. A further one in a pause is no second one: nobody could have heard the answer to the first.
    pub const fn on_ping(&mut self, now: Instant) {
        self.on_send(now);
        if self.first_ping.is_none() {
            self.first_ping = Some(now);
        } else if !self.paused {
            self.second_sent = true;
        }
    }

    /// Whether a ping has been sent since the last byte received.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.first_ping.is_some()
    }

    /// Whether a second ping has been sent since then, too.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.second_sent
    }

    /// Reading is paused: the dead-socket clock stops, pings go on.
    pub const fn pause(&mut self) {
        self.paused = true;
    }

    /// Reading goes on after a pause of `paused`; what is unanswered gets that time back.
    pub fn resume(&mut self, now: Instant, paused: Duration) {
        if !std::mem::replace(&mut self.paused, false) {
            return;
        }
        // What was sent in the pause has not waited yet.
        let moved = |since: Instant| (since + paused).min(now);
        self.first_send = self.first_send.map(moved);
        self.first_ping = self.first_ping.map(moved);
    }

    const fn restart(&mut self, now: Instant) {
        if self.first_send.is_some() {
            self.first_send = Some(now);
        }
        if self.first_ping.is_some() {
            self.first_ping = Some(now);
            self.second_sent = false;
        }
    }

    /// The next thing that is due at `now`, or `None`. Call until `None`.
    pub fn poll(&mut self, settings: &KeepAlive, now: Instant, entropy: &mut dyn Entropy) -> Option<Action> {
        if let Some(dead_at) = self.dead_at(settings)
            && now >= dead_at
        {
            if now - dead_at < LATE {
                return Some(Action::Dead);
            }
            self.restart(now);
        }
        if let Some(second_at) = self.second_at(settings)
            && now >= second_at
        {
            return Some(Action::SecondPing);
        }
        if now >= self.next_ping {
            self.next_ping = now + interval(settings, entropy);
            return Some(Action::Ping);
        }
        None
    }

    /// When [`poll`](Self::poll) will have something.
    #[must_use]
    pub fn poll_timeout(&self, settings: &KeepAlive) -> Instant {
        [self.dead_at(settings), self.second_at(settings)]
            .into_iter()
            .flatten()
            .fold(self.next_ping, |earliest, at| earliest.min(at))
    }

    fn dead_at(&self, settings: &KeepAlive) -> Option<Instant> {
        let (first_send, first_ping) = (self.first_send?, self.first_ping?);
        let dead_at = (first_send + settings.dead_after).max(first_ping + settings.second_after);
        (!self.paused).then_some(dead_at)
    }

    fn second_at(&self, settings: &KeepAlive) -> Option<Instant> {
        let second_at = self.first_ping? + settings.second_after;
        (!self.paused && !self.second_sent).then_some(second_at)
    }
}

/// A uniform time in `[min, max]`, to the microsecond.
fn interval(settings: &KeepAlive, entropy: &mut dyn Entropy) -> Duration {
    let spread = settings.max.saturating_sub(settings.min);
    let micros = u32::try_from(spread.as_micros()).unwrap_or(u32::MAX);
    settings.min + Duration::from_micros(u64::from(entropy.below(micros.saturating_add(1))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A small seeded generator (splitmix64); its quality is enough for uniform phases.
    struct Seeded(u64);

    impl Entropy for Seeded {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = self.0;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                *byte = (mixed ^ (mixed >> 31)) as u8;
            }
        }
    }

    const SETTINGS: KeepAlive = KeepAlive::DEFAULT;

    fn at(seconds: f64) -> Instant {
        Instant::from_micros((seconds * 1e6) as u64)
    }

    /// Everything due at `now`, pings reported as sent.
    fn run(clock: &mut Clock, now: Instant, entropy: &mut Seeded) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(action) = clock.poll(&SETTINGS, now, entropy) {
            actions.push(action);
            if action == Action::Dead {
                break;
            }
            clock.on_ping(now);
        }
        actions
    }

    /// A clock that has just sent its first ping, at the returned instant.
    fn pinged(entropy: &mut Seeded) -> (Clock, Instant) {
        let mut clock = Clock::new(&SETTINGS, at(0.0), entropy);
        let now = clock.poll_timeout(&SETTINGS);
        assert_eq!(run(&mut clock, now, entropy), [Action::Ping]);
        (clock, now)
    }

    const TICK: Duration = Duration::from_micros(1);

    fn just_before(instant: Instant) -> Instant {
        Instant::from_micros(instant.as_micros() - 1)
    }

    #[test]
    fn the_second_ping_goes_out_at_six_seconds_and_death_comes_at_twelve() {
        let entropy = &mut Seeded(1);
        let (mut clock, sent) = pinged(entropy);
        let second = sent + Duration::from_secs(6);
        assert_eq!(clock.poll_timeout(&SETTINGS), second);
        assert_eq!(run(&mut clock, just_before(second), entropy), []);
        assert_eq!(run(&mut clock, second, entropy), [Action::SecondPing]);
        assert_eq!(run(&mut clock, second + TICK, entropy), []);
        let dead = sent + Duration::from_secs(12);
        assert_eq!(clock.poll_timeout(&SETTINGS), dead);
        assert_eq!(run(&mut clock, just_before(dead), entropy), []);
        let mut late = clock;
        assert_eq!(run(&mut clock, dead, entropy), [Action::Dead]);
        assert_eq!(run(&mut late, dead + TICK, entropy), [Action::Dead]);
    }

    #[test]
    fn any_byte_just_before_death_ends_the_waiting() {
        let entropy = &mut Seeded(2);
        let (mut clock, sent) = pinged(entropy);
        assert_eq!(run(&mut clock, sent + Duration::from_secs(6), entropy), [Action::SecondPing]);
        assert!(clock.is_waiting());
        clock.on_receive();
        assert!(!clock.is_waiting());
        assert_eq!(run(&mut clock, sent + Duration::from_secs(12), entropy), []);
    }

    #[test]
    fn silence_without_a_ping_is_never_death() {
        let entropy = &mut Seeded(3);
        let mut clock = Clock::new(&SETTINGS, at(0.0), entropy);
        clock.on_receive();
        clock.on_send(at(0.0)); // an ack: nothing will answer it
        let first = clock.poll_timeout(&SETTINGS);
        assert!(first >= at(15.0), "the clock alone has no deadline");
        assert_eq!(run(&mut clock, first, entropy), [Action::Ping]);
        // The clock has run for more than 12 s by now; the ping still gets its 6 s.
        assert_eq!(clock.poll_timeout(&SETTINGS), first + Duration::from_secs(6));
        assert_eq!(run(&mut clock, first + Duration::from_secs(6), entropy), [Action::Dead]);
    }

    #[test]
    fn steady_sends_do_not_hide_a_dead_socket() {
        let entropy = &mut Seeded(4);
        let mut clock = Clock::new(&SETTINGS, at(0.0), entropy);
        let mut dead = None;
        for tenth in 0..1000 {
            let now = at(f64::from(tenth) / 10.0);
            clock.on_send(now);
            if run(&mut clock, now, entropy).contains(&Action::Dead) {
                dead = Some(now);
                break;
            }
        }
        assert!(dead.expect("dies") <= at(26.1), "{dead:?}");
    }

    #[test]
    fn a_pause_stops_the_clock_while_pings_go_on() {
        let entropy = &mut Seeded(5);
        let (mut clock, sent) = pinged(entropy);
        clock.pause();
        let mut pings = 0;
        let mut now = sent;
        while now < sent + Duration::from_secs(600) {
            now = clock.poll_timeout(&SETTINGS);
            for action in run(&mut clock, now, entropy) {
                assert_eq!(action, Action::Ping);
                pings += 1;
            }
        }
        assert!((30..=40).contains(&pings), "{pings}");
        assert!(!clock.is_silent(), "the pings of the pause prove nothing");
        clock.resume(now, now - sent);
        assert_eq!(clock.poll_timeout(&SETTINGS), now + Duration::from_secs(6));
        assert_eq!(run(&mut clock, now + Duration::from_secs(6), entropy)[0], Action::SecondPing);
    }

    #[test]
    fn a_pause_gives_back_its_own_time_and_no_more() {
        let entropy = &mut Seeded(9);
        let (mut clock, sent) = pinged(entropy);
        let (six, pause) = (Duration::from_secs(6), Duration::from_secs(3));
        assert_eq!(run(&mut clock, sent + six, entropy), [Action::SecondPing]);
        clock.pause();
        clock.resume(sent + six + pause, pause);
        assert!(clock.is_silent(), "the second ping was sent before it");
        let dead = sent + six + pause + six;
        assert_eq!(run(&mut clock, just_before(dead), entropy), []);
        assert_eq!(run(&mut clock, dead, entropy), [Action::Dead]);
    }

    #[test]
    fn what_is_sent_in_a_pause_has_its_full_time_after_it() {
        let entropy = &mut Seeded(10);
        let mut clock = Clock::new(&SETTINGS, at(0.0), entropy);
        clock.pause();
        let sent = clock.poll_timeout(&SETTINGS);
        assert_eq!(run(&mut clock, sent, entropy), [Action::Ping]);
        let until = sent + Duration::from_secs(4);
        clock.resume(until, until - at(0.0));
        assert_eq!(clock.poll_timeout(&SETTINGS), until + Duration::from_secs(6));
        assert_eq!(clock.dead_at(&SETTINGS), Some(until + Duration::from_secs(12)));
    }

    /// When a peer that is dead from the start is noticed under a store that stalls for `stalled` every `period`,
    /// and how much of the time since the first ping was not paused.
    fn detection_under_stalls(period: Duration, stalled: Duration, entropy: &mut Seeded) -> Duration {
        let (mut clock, sent) = pinged(entropy);
        let (mut begin, mut unpaused) = (sent, Duration::ZERO);
        loop {
            let pause_at = begin + (period - stalled);
            while clock.poll_timeout(&SETTINGS) < pause_at {
                let now = clock.poll_timeout(&SETTINGS);
                if run(&mut clock, now, entropy).contains(&Action::Dead) {
                    return unpaused + (now - begin);
                }
            }
            unpaused += pause_at - begin;
            clock.pause();
            begin = pause_at + stalled;
            while clock.poll_timeout(&SETTINGS) < begin {
                let now = clock.poll_timeout(&SETTINGS);
                assert_eq!(run(&mut clock, now, entropy), [Action::Ping]);
            }
            clock.resume(begin, stalled);
            assert!(begin < sent + Duration::from_secs(3600), "never noticed");
        }
    }

    #[test]
    fn a_store_that_stalls_again_and_again_hides_no_dead_peer() {
        for (period_ms, stalled_ms) in
            [(10_000, 1000), (10_000, 9000), (1500, 1000), (30_000, 10), (7000, 100)]
        {
            let (period, stalled) = (Duration::from_millis(period_ms), Duration::from_millis(stalled_ms));
            let unpaused = detection_under_stalls(period, stalled, &mut Seeded(period_ms));
            assert_eq!(unpaused, SETTINGS.dead_after, "a stall of {stalled:?} every {period:?}");
        }
    }

    #[test]
    fn a_driver_that_comes_too_late_blames_nobody() {
        let entropy = &mut Seeded(6);
        let (clock, sent) = pinged(entropy);
        let due = sent + Duration::from_secs(12);
        let (mut just_in_time, mut late) = (clock, clock);
        assert_eq!(run(&mut just_in_time, just_before(due + LATE), entropy), [Action::Dead]);
        assert!(!run(&mut late, due + LATE, entropy).contains(&Action::Dead));
        let again = due + LATE + Duration::from_secs(12);
        run(&mut late, due + LATE + Duration::from_secs(6), entropy);
        assert_eq!(run(&mut late, again, entropy), [Action::Dead], "a dead peer is still found");
    }

    /// How long after a peer falls silent at a random moment of a quiet, healthy life it is noticed.
    fn detection_s(seed: u64) -> f64 {
        let entropy = &mut Seeded(seed);
        let silent_from = Instant::from_micros(300_000_000 + u64::from(entropy.below(100_000_000)));
        let mut clock = Clock::new(&SETTINGS, at(0.0), entropy);
        loop {
            let now = clock.poll_timeout(&SETTINGS);
            for action in run(&mut clock, now, entropy) {
                if action == Action::Dead {
                    return (now - silent_from).as_secs_f64();
                }
            }
            if now < silent_from {
                clock.on_receive(); // the pong
            }
        }
    }

    #[test]
    fn a_silent_peer_is_noticed_within_22_seconds_half_the_time_and_within_32_always() {
        let mut times: Vec<f64> = (0..4000).map(|seed| detection_s(seed * 7919)).collect();
        times.sort_by(f64::total_cmp);
        let (p50, p99, max) = (times[2000], times[3960], times[3999]);
        println!("detection p50 {p50:.1} s, p99 {p99:.1} s, max {max:.1} s");
        assert!((20.0..=22.0).contains(&p50), "p50 {p50}");
        assert!(p99 <= 32.0 && max <= 32.0, "p99 {p99}, max {max}");
        assert!(times[0] >= 12.0, "never before the deadline: {}", times[0]);
    }

    #[test]
    fn the_official_clients_preset_is_dead_twenty_seconds_after_a_ping() {
        let entropy = &mut Seeded(8);
        let web = KeepAlive::WHATSAPP_WEB;
        let mut clock = Clock::new(&web, at(0.0), entropy);
        let sent = clock.poll_timeout(&web);
        assert!(at(15.0) <= sent && sent <= at(30.0));
        assert_eq!(clock.poll(&web, sent, entropy), Some(Action::Ping));
        clock.on_ping(sent);
        let dead = sent + Duration::from_secs(20);
        let next = clock.next_ping;
        if next < dead {
            assert_eq!(clock.poll(&web, next, entropy), Some(Action::Ping));
            clock.on_ping(next);
        }
        assert_eq!(clock.poll(&web, dead, entropy), Some(Action::Dead));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Wait(u32),
        Receive,
        Send,
        Pause,
        Resume,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            4 => (0..30_000u32).prop_map(Op::Wait),
            2 => Just(Op::Receive),
            2 => Just(Op::Send),
            1 => Just(Op::Pause),
            1 => Just(Op::Resume),
        ];
        prop::collection::vec(op, 0..60)
    }

    proptest! {
        /// Against a model that remembers everything: death only with an old enough unanswered send and ping,
        /// never while paused, and a ping at least every `max`.
        #[test]
        fn death_has_its_causes_and_pings_never_stop(ops in ops(), seed: u64) {
            let entropy = &mut Seeded(seed);
            let mut clock = Clock::new(&SETTINGS, at(0.0), entropy);
            let mut now = at(0.0);
            let (mut first_send, mut first_ping): (Option<Instant>, Option<Instant>) = (None, None);
            let mut paused: Option<Instant> = None;
            let mut last_ping = now;
            'life: for op in ops {
                match op {
                    Op::Receive => { clock.on_receive(); first_send = None; first_ping = None; }
                    Op::Send => { clock.on_send(now); first_send.get_or_insert(now); }
                    Op::Pause => { clock.pause(); paused.get_or_insert(now); }
                    Op::Resume => {
                        let since = paused.take();
                        clock.resume(now, since.map_or(Duration::ZERO, |since| now - since));
                        if let Some(since) = since {
                            let moved = |at: Instant| (at + (now - since)).min(now);
                            first_send = first_send.map(moved);
                            first_ping = first_ping.map(moved);
                        }
                    }
                    Op::Wait(millis) => {
                        let until = now + Duration::from_millis(u64::from(millis));
                        while clock.poll_timeout(&SETTINGS) <= until {
                            now = now.max(clock.poll_timeout(&SETTINGS));
                            let Some(action) = clock.poll(&SETTINGS, now, entropy) else {
                                prop_assert!(false, "a timeout without an action");
                                break;
                            };
                            if action == Action::Dead {
                                prop_assert!(paused.is_none());
                                prop_assert!(now - first_send.expect("a send") >= SETTINGS.dead_after);
                                prop_assert!(now - first_ping.expect("a ping") >= SETTINGS.second_after);
                                break 'life;
                            }
                            prop_assert!(now - last_ping <= SETTINGS.max);
                            last_ping = now;
                            clock.on_ping(now);
                            first_send.get_or_insert(now);
                            first_ping.get_or_insert(now);
                        }
                        now = until;
                        if let (Some(send), Some(ping), false) = (first_send, first_ping, paused.is_some()) {
                            let due = (send + SETTINGS.dead_after).max(ping + SETTINGS.second_after);
                            prop_assert!(now < due, "alive after its death was due");
                        }
                    }
                }
            }
        }
    }
}

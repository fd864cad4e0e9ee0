//! Each way of being deaf or dead is noticed for its own cause and for no other; quiet is healthy.

mod support;

use std::time::Duration;

use runner_client::{Command, CommitFailed, Probe, StoreState};
use runner_proto::{
    node::{self, Node},
    phase::Phase,
    session::MAX_PLAIN,
    time::Instant,
};
use support::{
    World, device, jid, message,
    peer::{attr, ib},
};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_micros(1);

fn send(world: &mut World, id: &str) {
    let mut plain = Vec::new();
    let message = Node::new("message").attr("id", id).attr_jid("to", jid("15550002222@s.whatsapp.net"));
    node::encode(&message, &mut plain);
    world.command(Command::Send { node: plain });
}

#[test]
fn twenty_four_quiet_hours_are_no_reason_for_anything() {
    let mut world = World::online();
    world.effects.clear();
    world.advance(24 * 3600 * SECOND);
    assert!(world.effects.is_empty(), "{:?}", world.effects);
    assert_eq!(world.client.phase(), Phase::Online);
    let counters = world.client.counters();
    // Every 15 to 20 s; and the passive probe every 5 minutes.
    assert!((4320..=5760).contains(&counters.pings_sent), "{}", counters.pings_sent);
    assert_eq!(counters.pongs_received, counters.pings_sent);
    let probes = world.peer.received.iter().filter(|stanza| attr(stanza, "xmlns") == "encrypt").count();
    assert!((260..=320).contains(&probes), "{probes}");
    assert_eq!(world.peer.received.len(), probes, "nothing else is said");
    assert_eq!(counters.requests_failed, 0);
}

#[test]
fn a_silent_peer_is_noticed_within_thirty_two_seconds_whenever_it_falls_silent() {
    for start in 0..40 {
        let mut world = World::online();
        world.advance(Duration::from_millis(500 * start));
        world.peer.is_dead = true;
        let silent_from = world.now;
        while !world.is_closed() {
            world.now = world.client.poll_timeout().expect("a timer");
            world.call(|client, cx| client.handle_timeout(cx));
            world.exchange();
        }
        let noticed = world.now - silent_from;
        assert!((12 * SECOND..=32 * SECOND).contains(&noticed), "{noticed:?}");
        assert_eq!(world.closed().reason.slug(), "pong_deadline");
        assert_eq!(world.probes(), [(Probe::Pong, false)], "degraded before it is dead");
    }
}

#[test]
fn a_second_ping_that_is_answered_heals_the_pong_probe() {
    let mut world = World::online();
    world.peer.is_dead = true;
    while world.probes().is_empty() {
        world.now = world.client.poll_timeout().expect("a timer");
        world.call(|client, cx| client.handle_timeout(cx));
        world.out.clear();
    }
    world.peer.is_dead = false;
    // The frames that were lost would leave the ciphers out of step, so only the WebSocket speaks.
    runner_proto::ws::write_control(&mut world.peer.out, runner_proto::ws::Opcode::Pong, b"", None);
    let mut bytes = std::mem::take(&mut world.peer.out);
    world.call(|client, cx| client.handle_input(&mut bytes, cx));
    assert_eq!(world.probes(), [(Probe::Pong, false), (Probe::Pong, true)]);
}

#[test]
fn requests_that_go_unanswered_twice_are_deafness_although_pings_are_answered() {
    let mut world = World::online();
    world.peer.script.answers_requests = false;
    world.advance(330 * SECOND);
    world.advance(59 * SECOND);
    assert_eq!(world.probes(), [], "once is no verdict");
    world.advance(61 * SECOND);
    assert_eq!(world.probes(), [(Probe::IqUnanswered, false)]);
    assert_eq!(world.client.phase(), Phase::Online, "a fact, not an action");
    world.peer.script.answers_requests = true;
    world.advance(61 * SECOND);
    assert_eq!(world.probes(), [(Probe::IqUnanswered, false), (Probe::IqUnanswered, true)]);
}

#[test]
fn an_answer_between_two_unanswered_requests_is_health() {
    let mut world = World::online();
    for round in 1..=5 {
        world.peer.script.answers_requests = false;
        world.peer.received.clear();
        while world.peer.received.is_empty() {
            world.advance(SECOND);
        }
        // This one is lost; the one that is asked in its place is not.
        world.peer.script.answers_requests = true;
        world.advance(61 * SECOND);
        assert_eq!(world.client.counters().requests_failed, round);
    }
    assert_eq!(world.probes(), []);
}

#[test]
fn a_backlog_that_does_not_end_is_missing_after_a_minute_and_heals() {
    let mut world = World::new(device());
    world.peer.script.ends_backlog = false;
    world.open();
    world.advance(60 * SECOND - TICK);
    assert_eq!(world.probes(), []);
    world.advance(TICK);
    assert_eq!(world.probes(), [(Probe::OfflineMissing, false)]);
    world.push(&ib(Node::new("offline").attr("count", "0")));
    assert_eq!(world.probes(), [(Probe::OfflineMissing, false), (Probe::OfflineMissing, true)]);
}

#[test]
fn a_backlog_that_keeps_coming_is_not_missing() {
    let mut world = World::new(device());
    world.peer.script.ends_backlog = false;
    world.open();
    for id in 0..20 {
        world.advance(50 * SECOND);
        world.push(&message(&format!("M{id}")).attr("offline", "1"));
    }
    assert_eq!(world.probes(), []);
}

#[test]
fn a_send_without_an_acknowledgement_is_deafness_after_a_minute_and_heals_with_the_next() {
    let mut world = World::online();
    world.peer.script.acknowledges_messages = false;
    send(&mut world, "A");
    world.advance(60 * SECOND - TICK);
    assert_eq!(world.probes(), []);
    world.advance(TICK);
    assert_eq!(world.probes(), [(Probe::SendUnacked, false)]);
    world.advance(60 * SECOND);
    world.peer.script.acknowledges_messages = true;
    send(&mut world, "B");
    assert_eq!(world.probes(), [(Probe::SendUnacked, false), (Probe::SendUnacked, true)]);
}

#[test]
fn a_send_that_fits_no_frame_is_counted_and_no_server_is_blamed() {
    let mut world = World::online();
    let encoded = |body: usize| {
        let mut plain = Vec::new();
        node::encode(&Node::new("message").attr("id", "A").bytes(vec![7; body]), &mut plain);
        plain
    };
    let head = encoded(1 << 20).len() - (1 << 20);
    let longest = encoded(MAX_PLAIN - head);
    assert_eq!(longest.len(), MAX_PLAIN);
    world.peer.script.acknowledges_messages = false;
    world.command(Command::Send { node: encoded(MAX_PLAIN - head + 1) });
    world.advance(120 * SECOND);
    assert_eq!((world.probes(), world.peer.received_with("message").len()), (vec![], 0));
    assert_eq!(world.client.counters().sends_refused, 1);
    world.peer.script.acknowledges_messages = true;
    world.command(Command::Send { node: longest });
    assert_eq!(world.client.counters().sends_refused, 1);
    assert_eq!(world.peer.received_with("message").len(), 1, "at the limit it is sent");
}

#[test]
fn an_acknowledgement_of_something_else_is_none() {
    let mut world = World::online();
    world.peer.script.acknowledges_messages = false;
    send(&mut world, "A");
    world.push(&Node::new("ack").attr("class", "receipt").attr("id", "A"));
    world.push(&Node::new("ack").attr("class", "message").attr("id", "B"));
    world.advance(60 * SECOND);
    assert_eq!(world.probes(), [(Probe::SendUnacked, false)]);
}

#[test]
fn a_stanza_that_waits_while_the_store_commits_is_deafness_after_thirty_seconds() {
    let mut world = World::online();
    world.commits = None;
    world.push(&message("A"));
    world.advance(30 * SECOND - TICK);
    assert_eq!(world.probes(), []);
    world.advance(TICK);
    assert_eq!(world.probes(), [(Probe::StanzaUnanswered, false)]);
    world.commits = Some(Ok(()));
    world.exchange();
    assert_eq!(world.probes(), [(Probe::StanzaUnanswered, false), (Probe::StanzaUnanswered, true)]);
}

#[test]
fn a_failed_commit_leaves_its_stanza_unanswered_on_this_connection() {
    let mut world = World::online();
    world.commits = Some(Err(CommitFailed::Store));
    world.push(&message("A"));
    world.commits = Some(Ok(()));
    world.push(&message("B"));
    world.advance(30 * SECOND);
    assert_eq!(world.probes(), [(Probe::StanzaUnanswered, false)]);
    world.push(&message("C"));
    assert_eq!(world.probes().len(), 1, "a later answer does not heal it");
}

#[test]
fn the_stalls_of_the_store_make_no_stanza_deaf_but_they_do_not_hide_one_that_is() {
    let mut world = World::online();
    world.commits = None;
    world.push(&message("A"));
    for _ in 0..2 {
        world.advance(11 * SECOND);
        stall(&mut world, 19 * SECOND);
    }
    world.advance(8 * SECOND - TICK);
    assert_eq!(world.probes(), [], "the store's doing");
    world.advance(TICK);
    assert_eq!(
        world.probes(),
        [(Probe::StanzaUnanswered, false)],
        "30 s in which the store committed others"
    );
    assert_eq!(world.client.phase(), Phase::Online);
}

#[test]
fn a_stanza_that_came_late_in_the_stall_of_another_has_its_own_time() {
    let mut world = World::online();
    world.commits = None;
    world.call(|client, cx| client.handle_store(StoreState::Hangs, cx));
    world.advance(10 * SECOND);
    world.push(&message("A")); // read before the pause was noticed
    world.call(|client, cx| client.handle_store(StoreState::Commits, cx));
    world.advance(30 * SECOND - TICK);
    assert_eq!(world.probes(), []);
    world.advance(TICK);
    assert_eq!(world.probes(), [(Probe::StanzaUnanswered, false)]);
}

/// A disk that stalls for a second, nine seconds apart: what comes in the stall is read after it. Ends with the
/// connection, or after `duration`; gives the time in which reading was not paused.
fn stalling_disk(world: &mut World, duration: Duration) -> Duration {
    let (until, mut unpaused) = (world.now + duration, Duration::ZERO);
    while world.now < until {
        let begin = world.now;
        while !world.is_closed()
            && let Some(due) = world.client.poll_timeout().filter(|due| *due <= begin + 9 * SECOND)
        {
            world.now = world.now.max(due);
            world.call(|client, cx| client.handle_timeout(cx));
            world.exchange();
        }
        if world.is_closed() {
            return unpaused + (world.now - begin);
        }
        world.now = begin + 9 * SECOND;
        unpaused += 9 * SECOND;
        world.call(|client, cx| client.handle_store(StoreState::Hangs, cx));
        without_reading(world, SECOND);
        world.call(|client, cx| client.handle_store(StoreState::Commits, cx));
        world.exchange();
    }
    unpaused
}

#[test]
fn a_disk_that_stalls_again_and_again_hides_no_dead_peer() {
    for start in 0..20 {
        let mut world = World::online();
        world.advance(Duration::from_millis(1000 * start));
        world.peer.is_dead = true;
        let unpaused = stalling_disk(&mut world, 3600 * SECOND);
        assert!(world.is_closed(), "never noticed");
        assert_eq!(world.closed().reason.slug(), "pong_deadline");
        assert!((12 * SECOND..=32 * SECOND).contains(&unpaused), "{unpaused:?}");
    }
}

#[test]
fn a_disk_that_stalls_again_and_again_kills_no_live_peer() {
    let mut world = World::online();
    stalling_disk(&mut world, 3600 * SECOND);
    assert_eq!((world.is_closed(), world.probes()), (false, vec![]));
}

#[test]
fn an_acknowledgement_that_nobody_could_read_is_not_missing() {
    let mut world = World::online();
    world.peer.script.acknowledges_messages = false;
    send(&mut world, "A");
    world.advance(50 * SECOND);
    world.call(|client, cx| client.handle_store(StoreState::Hangs, cx));
    world.advance(15 * SECOND);
    world.call(|client, cx| client.handle_store(StoreState::Commits, cx));
    world.push(&Node::new("ack").attr("class", "message").attr("id", "A"));
    world.advance(60 * SECOND);
    assert_eq!(world.probes(), []);
}

#[test]
fn a_lock_on_the_store_makes_no_stanza_deaf_and_hides_no_dead_peer() {
    let mut world = World::online();
    world.commits = None;
    world.push(&message("A"));
    world.advance(10 * SECOND);
    world.call(|client, cx| client.handle_store(StoreState::Locked, cx));
    let pings = world.peer.pings;
    world.advance(3600 * SECOND);
    assert_eq!((world.is_closed(), world.probes()), (false, vec![]));
    assert!(world.peer.pings - pings >= 180, "and its answers are read");
    world.call(|client, cx| client.handle_store(StoreState::Commits, cx));
    world.advance(20 * SECOND - TICK);
    assert_eq!(world.probes(), [], "the lock's doing");
    world.advance(TICK);
    assert_eq!(world.probes(), [(Probe::StanzaUnanswered, false)], "this is not");
    world.call(|client, cx| client.handle_store(StoreState::Locked, cx));
    world.peer.is_dead = true;
    world.advance(32 * SECOND);
    assert_eq!(world.closed().reason.slug(), "pong_deadline");
}

#[test]
fn a_lock_under_which_nothing_more_is_read_ends_no_connection() {
    let mut world = World::online();
    world.commits = None;
    world.push(&message("A"));
    for _ in 0..2 {
        world.call(|client, cx| client.handle_store(StoreState::Locked, cx));
        world.exchange();
        world.advance(60 * SECOND);
        world.call(|client, cx| client.handle_store(StoreState::LockedAndFull, cx));
        without_reading(&mut world, 3600 * SECOND);
        assert_eq!((world.is_closed(), world.probes()), (false, vec![]));
    }
    // The lock has gone, and still nothing commits: the hang has its own time from here on.
    world.call(|client, cx| client.handle_store(StoreState::Hangs, cx));
    without_reading(&mut world, 20 * SECOND - TICK);
    assert!(!world.is_closed());
    without_reading(&mut world, TICK);
    assert_eq!(world.closed().reason.slug(), "store_stalled");
}

/// Time passes in which the peer's answers stay unread in the socket.
fn without_reading(world: &mut World, duration: Duration) {
    let until = world.now + duration;
    while let Some(due) = world.client.poll_timeout().filter(|due| *due <= until) {
        world.now = world.now.max(due);
        world.call(|client, cx| client.handle_timeout(cx));
        let bytes = std::mem::take(&mut world.out);
        world.peer.receive(&bytes, 0);
    }
    world.now = until;
}

/// Nothing is read for a while, by our own doing.
fn stall(world: &mut World, duration: Duration) {
    world.call(|client, cx| client.handle_store(StoreState::Hangs, cx));
    world.advance(duration);
    world.call(|client, cx| client.handle_store(StoreState::Commits, cx));
}

#[test]
fn no_phase_times_out_while_nothing_is_read_and_each_gets_its_time_back() {
    let timeout = support::config().session.handshake_timeout;
    let mut world = World::new(device());
    world.call(|client, cx| client.handle_open(cx));
    world.out.clear(); // the server does not answer
    world.advance(timeout - SECOND);
    stall(&mut world, 15 * SECOND);
    assert!(!world.is_closed(), "{:?}", world.client.closed());
    world.advance(SECOND - Duration::from_micros(1));
    assert!(!world.is_closed());
    world.advance(Duration::from_micros(1));
    assert_eq!(world.closed().reason.slug(), "upgrade_timeout");
}

#[test]
fn a_request_does_not_expire_while_its_answer_may_lie_unread() {
    let mut config = support::config();
    config.store_stall = 3600 * SECOND;
    let mut world = World::with(device(), config);
    world.peer.script.answers_requests = false;
    world.open();
    world.advance(50 * SECOND);
    let before = world.client.counters().requests_failed;
    stall(&mut world, 300 * SECOND);
    assert_eq!(world.client.counters().requests_failed, before);
    assert!(!world.probes().contains(&(Probe::IqUnanswered, false)), "{:?}", world.probes());
}

#[test]
fn a_ping_that_nobody_could_hear_answered_is_not_silence() {
    let mut config = support::config();
    config.store_stall = 3600 * SECOND;
    let mut world = World::with(device(), config);
    world.open();
    world.peer.is_dead = true; // its answers lie in the socket
    stall(&mut world, 120 * SECOND);
    assert_eq!(world.probes(), []);
}

#[test]
fn pings_go_out_while_the_store_stalls_and_nobody_dies_of_it() {
    let mut config = support::config();
    config.store_stall = 3600 * SECOND;
    let mut world = World::with(device(), config);
    world.open();
    world.call(|client, cx| client.handle_store(StoreState::Hangs, cx));
    let pings = world.peer.pings;
    without_reading(&mut world, 600 * SECOND);
    assert!((30..=40).contains(&(world.peer.pings - pings)), "{}", world.peer.pings - pings);
    assert!(!world.is_closed());
    world.call(|client, cx| client.handle_store(StoreState::Commits, cx));
    world.exchange();
    world.advance(600 * SECOND);
    assert!(!world.is_closed());
}

#[test]
fn a_machine_that_slept_comes_back_to_a_live_session() {
    let mut world = World::online();
    // A ping is out when the machine stops.
    world.now = world.client.poll_timeout().expect("a timer");
    world.call(|client, cx| client.handle_timeout(cx));
    world.now = world.now + 3600 * SECOND;
    world.call(|client, cx| client.handle_timeout(cx));
    world.exchange();
    world.advance(60 * SECOND);
    assert!(!world.is_closed());
}

#[test]
fn the_wall_clock_may_jump() {
    let mut world = World::online();
    world.effects.clear();
    for jump_ms in [3_600_000, 0, 7_200_000] {
        for _ in 0..20 {
            world.now = world.client.poll_timeout().expect("a timer");
            let unix_ms = world.unix_ms() + jump_ms;
            world.call(|client, cx| {
                cx.unix_ms = unix_ms;
                client.handle_timeout(cx);
            });
            world.exchange();
        }
    }
    assert!(world.effects.is_empty(), "{:?}", world.effects);
}

#[test]
fn a_timeout_that_is_not_due_does_nothing() {
    let mut world = World::online();
    let due = world.client.poll_timeout().expect("a timer");
    world.now = Instant::from_micros(due.as_micros() - 1);
    let effects = world.effects.len();
    world.call(|client, cx| client.handle_timeout(cx));
    assert!(world.out.is_empty());
    assert_eq!(world.effects.len(), effects);
    assert_eq!(world.client.poll_timeout(), Some(due));
}

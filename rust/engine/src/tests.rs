//! A panic in one session's code and a thread that stands still, which only a test can cause.

#[path = "../tests/it/support.rs"]
#[allow(dead_code, reason = "the integration tests use all of it")]
mod support;

use self::support::World;
use crate::command::Command;
use runner_proto::close_reason::CloseReason;
use runner_proto::phase::Phase;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// A bug in a session's code.
fn panic_in(world: &World, session_id: &str, over_input: bool) {
    let command = Command::Panic { session_id: Arc::from(session_id), connection: 1, over_input };
    world.bench.engine.push(command).expect("running");
}

/// Pain 20.
#[test]
fn a_panic_ends_its_session_and_no_other() {
    let world = World::plain(3);
    for session_id in ["s0", "s1", "s2"] {
        world.bench.open(session_id, 1);
        world.bench.wait_online(session_id, 1);
    }
    panic_in(&world, "s1", false);
    let closed = world.bench.wait_closed("s1", 1);
    assert_eq!((closed.reason, closed.phase), (CloseReason::SessionPanicked, Phase::Online));
    let place = closed.detail.strip_prefix("a bug of ours at rust/engine/src/driver.rs:").expect("the place");
    assert!(place.ends_with(", please report it: injected"), "{place}");
    let stats = world.bench.engine.stats();
    assert_eq!((stats.panics_total, stats.online), (1, 2));
    let totals = world.bench.totals("s1");
    assert_eq!((totals.online_since, totals.unanswered), (None, 0), "nothing of a connection that is gone");
    // The thread and its shared buffers serve on, for the same device too.
    world.bench.open("s1", 2);
    world.bench.wait_online("s1", 2);
    let before = world.bench.totals("s0").stanzas_received;
    world.post("/push", &serde_json::json!({ "all": true, "template": "receipt", "n": 10 }));
    while world.bench.totals("s0").stanzas_received < before + 10 {
        assert!(!world.bench.engine.is_stopped());
    }
}

/// Pain 20.
#[test]
fn a_panic_over_a_message_loses_nothing_and_doubles_nothing() {
    let world = World::plain(3);
    for session_id in ["s0", "s1", "s2"] {
        world.bench.open(session_id, 1);
        world.bench.wait_online(session_id, 1);
    }
    let push = |index| {
        let mut push = World::target(index);
        push["template"] = serde_json::json!("message");
        world.post("/push", &push);
    };
    let kept = || {
        let rows = world.bench.store.take(0, 100).expect("readable").into_iter();
        rows.map(|row| row.session_id).collect::<Vec<_>>()
    };
    panic_in(&world, "s1", true);
    world.bench.totals("s1"); // a turn later
    push(1);
    assert_eq!(world.bench.wait_closed("s1", 1).reason, CloseReason::SessionPanicked);
    push(0);
    push(2);
    world.bench.open("s1", 2);
    world.bench.wait_online("s1", 2);
    let start = std::time::Instant::now();
    while world.bench.totals("s1").answers_sent == 0 || kept().len() < 3 {
        assert!(start.elapsed() < Duration::from_secs(20), "it comes again: {:?}", kept());
    }
    let mut kept = kept();
    kept.sort();
    assert_eq!(kept, ["s0", "s1", "s2"], "each once");
    assert_eq!((world.bench.engine.stats().panics_total, world.bench.engine.stats().online), (1, 3));
}

/// The I/O thread stands still until the result is dropped.
fn stall(world: &World) -> mpsc::Sender<()> {
    let (until, stalled) = mpsc::channel();
    world.bench.engine.push(Command::Stall(stalled)).expect("running");
    until
}

#[test]
fn a_stall_between_two_looks_is_seen_by_both_readers_for_half_a_minute() {
    let world = World::plain(1);
    world.bench.open("s0", 1);
    world.bench.wait_online("s0", 1);
    let until = stall(&world);
    world.bench.advance(Duration::from_secs(31));
    drop(until);
    world.bench.totals("s0"); // it runs again
    for _ in 0..210 {
        world.bench.advance(Duration::from_millis(100)); // and the next ping is on time
        world.bench.totals("s0");
    }
    for _ in 0..2 {
        let lag = world.bench.engine.stats().loop_lag;
        assert!(lag >= Duration::from_secs(10), "{lag:?}");
    }
}

#[test]
fn a_thread_that_stands_still_is_seen_whatever_the_wall_clock_says() {
    let world = World::plain(0);
    for wall_ahead in [Duration::ZERO, Duration::from_secs(7200), Duration::from_secs(3600)] {
        world.bench.set_wall_ahead(wall_ahead);
        for _ in 0..2 {
            world.bench.engine.counters(|_| ()); // the second one is of a turn after a whole one by that clock
        }
        let age = world.bench.engine.stats().heartbeat_age;
        assert!(age < Duration::from_secs(30), "{age:?} after the wall clock was set");
        let until = stall(&world);
        world.bench.advance(Duration::from_secs(60));
        world.bench.set_wall_ahead(wall_ahead.saturating_sub(Duration::from_secs(1800)));
        let age = world.bench.engine.stats().heartbeat_age;
        assert!(age >= Duration::from_secs(60), "{age:?} while it stands still");
        drop(until);
    }
}

#[test]
fn an_old_copy_of_the_counters_says_how_old_it_is() {
    let world = World::plain(1);
    world.bench.open("s0", 1);
    world.bench.wait_online("s0", 1);
    let ages = || {
        let mut ages = Vec::new();
        let engine = &world.bench.engine;
        engine.counters(|row| ages.push((engine.now() - row.at, row.totals.last_data)));
        ages[0]
    };
    let (age, last_data) = ages();
    assert!(age < Duration::from_secs(30), "{age:?}");
    let until = stall(&world);
    world.bench.advance(Duration::from_secs(60));
    let (age, same) = ages();
    assert!(age >= Duration::from_secs(60), "{age:?}");
    assert_eq!(same, last_data);
    drop(until);
}

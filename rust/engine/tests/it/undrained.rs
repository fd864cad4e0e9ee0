//! Pain #14: Python blocks. Nothing in the engine waits for it.

use crate::support::{World, wait_readable};
use runner_engine::{Event, EventKind};
use runner_proto::close_reason::CloseReason;
use serde_json::json;
use std::time::Duration;

/// Waits, without draining, until `done`.
fn until(world: &World, what: &str, done: impl Fn(&World) -> bool) {
    let start = std::time::Instant::now();
    while !done(world) {
        if start.elapsed() > Duration::from_secs(20) {
            panic!("{what}: {:?} {:#?}", world.bench.engine.stats(), world.bench.rest());
        }
        std::thread::yield_now();
    }
}

fn is_answered(world: &World) -> bool {
    let mut waiting = 0;
    world.bench.engine.counters(|row| {
        let asked = row.totals.pings_sent + u64::from(row.totals.requests_sent);
        waiting += asked - row.totals.responses.count();
    });
    waiting == 0
}

#[test]
fn pings_are_answered_and_sessions_stay_while_nobody_drains() {
    let world = World::start(20, false, |config| config.outbox_capacity = 4);
    for index in 0..20 {
        world.bench.open(&format!("s{index}"), 1);
    }
    until(&world, "all online", |world| world.bench.engine.stats().online == 20);
    until(&world, "all is answered", is_answered);
    // The store lives in real time: a jump of the engine's clock while it works would look like a lag of that length.
    assert!(world.bench.store.flush(Duration::from_secs(20)));
    // Two minutes, in steps that let the server answer what was asked.
    for step in 1..=24_u64 {
        until(&world, "all is answered", is_answered);
        world.bench.advance(Duration::from_secs(5));
        assert_eq!(world.bench.engine.stats().online, 20, "after {} s", step * 5);
    }
    assert!(world.bench.totals("s0").pongs_received >= 5);
    assert!(world.bench.engine.stats().outbox_dropped_total > 0, "the outbox was full");
    assert!(wait_readable(&world.bench.engine, Duration::ZERO));
    let events = world.bench.rest();
    let online = events.iter().filter(|event| matches!(event.kind, EventKind::Online { .. })).count();
    assert_eq!(online, 20, "state events always fit");
}

/// A session that is deaf, or is no more, is state.
#[test]
fn every_verdict_is_there_when_draining_goes_on() {
    let world = World::start(8, false, |config| config.outbox_capacity = 1);
    for index in 0..8 {
        world.bench.open(&format!("s{index}"), 1);
    }
    until(&world, "all online", |world| world.bench.engine.stats().online == 8);
    until(&world, "all is answered", is_answered);
    assert!(world.bench.store.flush(Duration::from_secs(20)));
    world.post("/shape", &json!({ "all": true, "mute": ["encrypt"] }));
    // Three passive probes' time: the request is repeated once, and then it is a verdict.
    for _ in 0..100 {
        until(&world, "pings are answered", |world| {
            let mut waiting = 0;
            world.bench.engine.counters(|row| waiting += row.totals.pings_sent - row.totals.pongs_received);
            waiting == 0
        });
        world.bench.advance(Duration::from_secs(5));
    }
    world.bench.totals("s0"); // a turn later
    assert!(world.bench.engine.stats().outbox_dropped_total > 0, "the outbox was full");
    let deaf = |events: &[Event], verdict: bool| {
        let is_it =
            |event: &&Event| matches!(event.kind, EventKind::Probe { healthy, .. } if healthy == verdict);
        events.iter().filter(is_it).count()
    };
    let events = world.bench.rest();
    assert_eq!((deaf(&events, false), deaf(&events, true)), (8, 0), "{:?}", world.bench.engine.stats());
}

#[test]
fn every_close_is_there_when_draining_goes_on() {
    let world = World::start(20, false, |config| config.outbox_capacity = 1);
    for round in 1..=3 {
        for index in 0..20 {
            world.bench.open(&format!("s{index}"), round);
        }
        until(&world, "all online", |world| world.bench.engine.stats().online == 20);
        for index in 0..20 {
            world.bench.engine.close(&format!("s{index}"), round, CloseReason::Forced).expect("running");
        }
        until(&world, "all closed", |world| world.bench.engine.stats().sessions == 0);
    }
    let events = world.bench.rest();
    let closed = events.iter().filter(|event| matches!(event.kind, EventKind::Closed(_))).count();
    assert_eq!(closed, 60);
}

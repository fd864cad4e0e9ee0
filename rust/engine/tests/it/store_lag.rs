//! The store hangs: reading pauses for all, pings go on, and after a while the connections end as our fault.

use crate::store_fails::{BREAK, MEND, tell_the_store};
use crate::support::{World, of};
use runner_engine::{Event, EventKind};
use runner_proto::close_reason::CloseReason;
use serde_json::json;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// Holds the writer thread up behind its next answer, as a disk does that never comes back, until the first is dropped.
/// The second says when it is held.
pub(crate) fn hang_the_store(world: &World) -> (mpsc::Sender<()>, mpsc::Receiver<()>) {
    let ((until, released), (tell, is_held)) = (mpsc::channel(), mpsc::channel());
    let ends = Mutex::new((released, tell));
    world.bench.store.set_notify(Box::new(move || {
        if thread::current().name() == Some("runner-store") {
            let ends = ends.lock().expect("nobody panicked");
            let _ = ends.1.send(());
            let _ = ends.0.recv();
        }
    }));
    (until, is_held)
}

pub(crate) fn push_message(world: &World, index: u32) {
    let mut push = World::target(index);
    push["template"] = json!("message");
    world.post("/push", &push);
}

pub(crate) fn wait_store(world: &World, is_healthy: bool) {
    world.bench.wait(
        "a store event",
        |event| matches!(&event.kind, EventKind::Store { healthy, .. } if *healthy == is_healthy),
    );
}

/// Both online, one message waiting for a store that hangs, and the engine aware of it.
fn lagging(world: &World) -> mpsc::Sender<()> {
    for session_id in ["s0", "s1"] {
        world.bench.open(session_id, 1);
        world.bench.wait_online(session_id, 1);
    }
    assert!(world.bench.store.flush(Duration::from_secs(10)));
    let (hang, is_held) = hang_the_store(world);
    push_message(world, 0);
    is_held.recv_timeout(Duration::from_secs(20)).expect("something is answered");
    push_message(world, 0);
    until("a message waits", || world.bench.store.health().queued > 0);
    world.bench.advance(Duration::from_millis(1500));
    wait_store(world, false);
    assert!(world.bench.engine.stats().store_stalled);
    hang
}

#[test]
fn reading_pauses_for_all_while_the_store_hangs_and_goes_on_after() {
    let world = World::plain(2);
    let hang = lagging(&world);
    let before = world.bench.totals("s1").stanzas_received;
    let mut push = World::target(1);
    push["template"] = json!("receipt");
    push["n"] = json!(5);
    world.post("/push", &push);
    world.bench.advance(Duration::from_secs(5));
    assert_eq!(world.bench.totals("s1").stanzas_received, before, "nothing is read");
    drop(hang);
    wait_store(&world, true);
    until("what waited is read", || world.bench.totals("s1").stanzas_received >= before + 5);
    assert_eq!(world.bench.store.take(0, 10).expect("readable").len(), 2);
}

#[test]
fn a_store_that_hangs_ends_the_connections_as_store_stalled_and_nothing_else() {
    let world = World::plain(2);
    let _hang = lagging(&world);
    world.bench.advance(Duration::from_secs(15));
    assert_eq!(world.bench.engine.stats().online, 2, "the dead-socket clock stands still");
    world.bench.advance(Duration::from_secs(6));
    for session_id in ["s0", "s1"] {
        assert_eq!(world.bench.wait_closed(session_id, 1).reason, CloseReason::StoreStalled);
    }
}

#[test]
fn a_dial_that_waits_for_the_store_is_not_a_failure_of_the_path() {
    let world = World::plain(2);
    let _hang = lagging(&world);
    world.bench.engine.close("s1", 1, CloseReason::Stopped).expect("running");
    world.bench.wait_closed("s1", 1);
    world.bench.open("s1", 2);
    world.bench.wait("dialling", |event| of(event, "s1", 2));
    world.bench.advance(Duration::from_secs(20));
    assert_eq!(world.bench.wait_closed("s1", 2).reason, CloseReason::StoreStalled);
}

/// The verdicts of all store events so far.
fn verdicts(world: &World) -> Vec<bool> {
    let events = world.bench.rest();
    let verdict = |event: &Event| {
        if let EventKind::Store { healthy, .. } = event.kind { Some(healthy) } else { None }
    };
    events.iter().filter_map(verdict).collect()
}

#[test]
fn the_end_of_a_lag_is_not_told_as_health_while_commits_fail() {
    let world = World::plain(2);
    let hang = lagging(&world);
    // The lag ends with a commit that fails.
    tell_the_store(&world, BREAK);
    drop(hang);
    until("the lag ends", || !world.bench.engine.stats().store_stalled);
    world.bench.totals("s0"); // a turn later
    assert!(!verdicts(&world).contains(&true), "it still fails");
    tell_the_store(&world, MEND);
    wait_store(&world, true);
    assert_eq!(world.bench.wait_closed("s0", 1).reason, CloseReason::StoreStalled, "it lost a message");
}

#[test]
fn a_message_of_a_session_that_was_deleted_is_no_failure_of_the_store() {
    let world = World::plain(2);
    for session_id in ["s0", "s1"] {
        world.bench.open(session_id, 1);
        world.bench.wait_online(session_id, 1);
    }
    world.bench.store.delete("s0").expect("there");
    push_message(&world, 0);
    until("the store refused", || world.bench.store.health().failed_total > 0);
    // The store answers in order: the refusal comes before this.
    push_message(&world, 1);
    world.bench.wait("messages", |event| matches!(event.kind, EventKind::Messages));
    assert_eq!(world.bench.wait_closed("s0", 1).reason, CloseReason::DeviceMissing);
    assert!(verdicts(&world).is_empty(), "nobody else is concerned");
    assert_eq!(world.bench.engine.stats().online, 1);
}

pub(crate) fn until(what: &str, reached: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        thread::yield_now();
    }
}

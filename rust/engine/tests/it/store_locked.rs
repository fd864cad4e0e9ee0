//! Another process holds the database's lock: what needs a commit waits for that, and nobody notices anything else.

use crate::store_lag::{push_message, until, wait_store};
use crate::support::World;
use runner_engine::EventKind;
use runner_proto::close_reason::CloseReason;
use runner_store::Options;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::time::Duration;

/// Takes the database's write lock, as a backup tool that misbehaves would.
fn lock_the_store(world: &World) -> Connection {
    let other = Connection::open(world.bench.folder.path().join("store.db")).expect("the same file");
    other.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    other
}

/// `s0` is online with a message that waits for the lock, `s1` is online, and the engine knows of the lock.
fn locked(world: &World) -> Connection {
    for session_id in ["s0", "s1"] {
        world.bench.open(session_id, 1);
        world.bench.wait_online(session_id, 1);
    }
    assert!(world.bench.store.flush(Duration::from_secs(10)));
    let lock = lock_the_store(world);
    push_message(world, 0);
    until("the lock is seen", || world.bench.store.pressure().is_locked);
    pass(world, 3);
    wait_store(world, false);
    lock
}

/// Seconds pass, in steps that let the server answer what it was asked.
fn pass(world: &World, seconds: u64) {
    for _ in 0..seconds {
        until("pings are answered", || {
            let mut waiting = 0;
            world.bench.engine.counters(|row| waiting += row.totals.pings_sent - row.totals.pongs_received);
            waiting == 0
        });
        world.bench.advance(Duration::from_secs(1));
    }
}

fn push(world: &World, index: u32, template: &str, n: u32) -> Value {
    let mut push = World::target(index);
    push["template"] = json!(template);
    push["n"] = json!(n);
    world.post("/push", &push)
}

fn ends(world: &World) -> usize {
    let rest = world.bench.rest();
    rest.iter().filter(|event| matches!(event.kind, EventKind::Closed(_) | EventKind::Probe { .. })).count()
}

#[test]
fn under_a_lock_sessions_are_read_and_answered_and_nobody_is_closed() {
    let world = World::plain(3);
    let lock = locked(&world);
    let (before, pings) = (world.bench.totals("s1"), world.bench.totals("s0").pongs_received);
    push(&world, 1, "receipt", 5);
    until("receipts are acknowledged", || world.bench.totals("s1").answers_sent >= before.answers_sent + 5);
    for _ in 0..3 {
        push_message(&world, 0);
        push_message(&world, 1);
        pass(&world, 60);
    }
    assert!(world.bench.totals("s0").pongs_received >= pings + 8, "for whom a message waits, too");
    // A login needs no commit.
    world.bench.open("s2", 1);
    world.bench.wait_online("s2", 1);
    assert_eq!(world.bench.engine.stats().online, 3);
    assert_eq!(ends(&world), 0, "three minutes, and nobody was closed or judged");
    assert_eq!(world.bench.totals("s0").unanswered, 4);

    lock.execute_batch("COMMIT").expect("the lock is given back");
    wait_store(&world, true);
    until("all is answered", || {
        world.bench.totals("s0").unanswered + world.bench.totals("s1").unanswered == 0
    });
    assert_eq!(world.bench.store.take(0, 10).expect("readable").len(), 7);
    assert_eq!(world.bench.store.health().failed_total, 0);
    pass(&world, 60);
    assert_eq!(ends(&world), 0);
}

/// Who is connected anew under a lock gets its message again, and has it once in the end.
#[test]
fn a_connection_that_is_lost_under_a_lock_comes_back_and_doubles_nothing() {
    let world = World::plain(2);
    let lock = locked(&world);
    world.bench.engine.close("s0", 1, CloseReason::Stopped).expect("running");
    world.bench.wait_closed("s0", 1);
    world.bench.open("s0", 2);
    world.bench.wait_online("s0", 2);
    until("it is given again", || world.bench.totals("s0").unanswered == 1);
    pass(&world, 60);
    lock.execute_batch("COMMIT").expect("the lock is given back");
    until("it is answered", || world.bench.totals("s0").unanswered == 0);
    assert_eq!(world.bench.store.take(0, 10).expect("readable").len(), 1);
}

#[test]
fn when_what_waits_fills_its_memory_reading_pauses_and_still_nobody_is_closed() {
    let world =
        World::start_on(Options { max_queued_bytes: 64 * 1024, ..Options::default() }, 2, false, |_| ());
    let lock = locked(&world);
    while !world.bench.store.pressure().is_filling {
        let before = world.bench.totals("s0").stanzas_received;
        push_message(&world, 0);
        until("it is read", || world.bench.totals("s0").stanzas_received > before);
    }
    world.bench.totals("s0"); // a turn later
    let before = world.bench.totals("s1").stanzas_received;
    push(&world, 1, "receipt", 5);
    for _ in 0..60 {
        world.bench.advance(Duration::from_secs(5));
        world.bench.totals("s0");
    }
    assert_eq!(world.bench.totals("s1").stanzas_received, before, "nothing is read");
    assert_eq!((ends(&world), world.bench.engine.stats().online), (0, 2));
    lock.execute_batch("COMMIT").expect("the lock is given back");
    until("all is read and answered", || {
        world.bench.totals("s1").stanzas_received >= before + 5 && world.bench.totals("s0").unanswered == 0
    });
    let told = world.bench.totals("s0").messages_received;
    assert_eq!(world.bench.store.take(0, 1000).expect("readable").len() as u64, told);
    assert_eq!(world.bench.store.health().failed_total, 0, "no message was lost on the way");
    assert_eq!(ends(&world), 0);
}

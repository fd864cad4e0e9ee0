//! What peers that begin and do not finish can make the engine hold.

use crate::store_lag::until;
use crate::support::World;
use runner_engine::EventKind;
use runner_proto::close_reason::CloseReason;
use serde_json::json;

const MIB: usize = 1024 * 1024;

/// The first MiB of a frame of 4 MiB, or the next one.
fn begin_a_frame(world: &World, index: u32) {
    let mut order = World::target(index);
    order["kind"] = json!("unfinished");
    world.post("/malformed", &order);
}

fn held(world: &World) -> usize {
    world.bench.engine.stats().held_input_bytes
}

fn assert_bounded(tls: bool) {
    let world = World::start(4, tls, |config| config.held_input_limit = 5 * MIB / 2);
    for session_id in ["s0", "s1", "s2", "s3"] {
        world.bench.open(session_id, 1);
        world.bench.wait_online(session_id, 1);
    }
    until("nothing is held", || held(&world) == 0);
    begin_a_frame(&world, 0);
    until("it is held", || held(&world) == MIB);
    begin_a_frame(&world, 0);
    until("the second one is taken for its rest", || (2 * MIB..2 * MIB + 8).contains(&held(&world)));
    begin_a_frame(&world, 1);
    let closed = world.bench.wait_closed("s0", 1);
    assert_eq!(closed.reason, CloseReason::InputUnfinished, "it held the most");
    assert!(closed.detail.contains("that they may"), "{}", closed.detail);
    until("the other one is held on", || held(&world) == MIB);
    // Larger than what is left, in many pieces, and finished: it is nobody's fault.
    let mut push = World::target(2);
    push["node"] = json!({ "tag": "message", "attrs": { "id": "$ID", "from": "15550009999@s.whatsapp.net", "type": "text" },
        "content": "x".repeat(MIB) });
    world.post("/push", &push);
    until("it is kept", || world.bench.store.take(0, 10).is_ok_and(|rows| rows.len() == 1));
    until("and no longer held", || held(&world) == MIB);
    world.bench.engine.close("s1", 1, CloseReason::Stopped).expect("running");
    world.bench.wait_closed("s1", 1);
    until("nothing is left", || held(&world) == 0);
    let ends = world.bench.rest().iter().filter(|event| matches!(event.kind, EventKind::Closed(_))).count();
    assert_eq!((ends, world.bench.engine.stats().online), (0, 2));
}

#[test]
fn unfinished_input_is_bounded_over_all_connections_and_costs_the_one_that_holds_the_most() {
    assert_bounded(false);
}

#[test]
fn the_same_under_tls() {
    assert_bounded(true);
}

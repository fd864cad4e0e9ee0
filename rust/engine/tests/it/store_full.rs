//! The store's queue is full: what it refuses is lost, and so is what was made on top of that before its client knew.

use crate::store_lag::{hang_the_store, until};
use crate::support::World;
use runner_proto::close_reason::CloseReason;
use runner_store::Options;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// A newsletter's message with so much in it (base64) reaches the client.
fn push(world: &World, id: &str, length: usize) {
    let before = world.bench.totals("s0").unanswered;
    let text = "A".repeat(length);
    let plaintext = json!({ "tag": "plaintext", "attrs": {}, "content_b64": text });
    let mut push = World::target(0);
    push["node"] = json!({
        "tag": "message",
        "attrs": { "id": id, "from": "120363000000000001@newsletter", "type": "text", "t": "1767225600" },
        "content": [plaintext],
    });
    world.post("/push", &push);
    until("it came", || world.bench.totals("s0").unanswered > before);
}

fn kept(world: &World) -> BTreeSet<String> {
    let rows = world.bench.store.take(0, 100).expect("readable");
    rows.into_iter().map(|row| row.message_id).collect()
}

fn ids(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|&id| id.to_owned()).collect()
}

#[test]
fn what_stands_on_a_message_that_found_no_room_is_not_kept_before_it() {
    let options = Options { max_queued_bytes: 40_000, ..Options::default() };
    let world = World::start_on(options, 1, false, |_| ());
    world.bench.open("s0", 1);
    world.bench.wait_online("s0", 1);
    assert!(world.bench.store.flush(Duration::from_secs(10)));
    let (hang, is_held) = hang_the_store(&world);
    // A question of nobody's, whose answer the writer is held behind.
    world.bench.store.request_device("s0", u64::MAX).expect("there is room");
    is_held.recv_timeout(Duration::from_secs(10)).expect("it is answered");
    push(&world, "waits", 32_000);
    push(&world, "no-room", 32_000);
    push(&world, "small", 40);
    drop(hang);
    let closed = world.bench.wait_closed("s0", 1);
    assert_eq!(closed.reason, CloseReason::StoreStalled);
    assert_eq!(closed.detail, "2 messages could not be kept and are fetched again");
    assert_eq!(kept(&world), ids(&["waits"]));
    world.bench.open("s0", 2);
    world.bench.wait_online("s0", 2);
    until("all is kept", || kept(&world) == ids(&["waits", "no-room", "small"]));
}
